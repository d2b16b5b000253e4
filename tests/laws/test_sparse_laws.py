"""A text's sparse vector is a matter of the text alone: not of neighbours, order or speed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastembed_stream import SPARSE_TEXT, OpenModel, Runtime, SparseEmbedding, open_model
from tests.fastembed_stream.examples import MIXED_LENGTHS, ODD_TEXTS, texts
from tests.fastembed_stream.tiny_sparse import same
from tests.laws.sparse_kinds import BROKEN, SPARSE_KINDS, SparseKind

TEXTS = (*ODD_TEXTS, *MIXED_LENGTHS)
Opened = OpenModel[str, str, SparseEmbedding]


@pytest.fixture(scope="module", params=SPARSE_KINDS)
def kind(request: pytest.FixtureRequest) -> SparseKind:
    return SPARSE_KINDS[request.param]


@pytest.fixture(scope="module")
def folder(kind: SparseKind, tmp_path_factory: pytest.TempPathFactory) -> Path:
    del kind  # one folder for each
    return tmp_path_factory.mktemp("model")


@pytest.fixture(scope="module")
def embed(kind: SparseKind, folder: Path) -> Iterator[Opened]:
    embedder = kind.open(folder)
    yield embedder
    embedder.close()


@pytest.fixture(scope="module")
def alone(embed: Opened) -> list[SparseEmbedding]:
    """Embed each text in a call of its own."""
    return [embed([text])[0] for text in TEXTS]


def close(
    kind: SparseKind, got: Sequence[SparseEmbedding], expected: Sequence[SparseEmbedding]
) -> None:
    same(got, expected, within=1e-5, unless_zero=not kind.is_lexical)


def test_texts_with_words_have_vectors_and_those_without_have_none(
    embed: Opened, alone: list[SparseEmbedding]
) -> None:
    for vector in alone:
        assert np.isfinite(vector.values).all()
        assert vector.indices.min(initial=0) >= 0
    assert all(len(vector.values) > 0 for vector in alone[len(ODD_TEXTS) :])
    [empty] = embed.queries([""])
    assert len(empty.values) == len(empty.indices)


def test_a_text_alone_equals_the_text_in_a_batch(
    kind: SparseKind, embed: Opened, alone: list[SparseEmbedding]
) -> None:
    close(kind, embed(TEXTS), alone)


def test_a_query_alone_equals_the_query_in_a_batch(kind: SparseKind, embed: Opened) -> None:
    close(kind, embed.queries(TEXTS), [embed.queries([text])[0] for text in TEXTS])


@settings(max_examples=4)
@given(st.permutations(range(len(TEXTS))))
def test_order_in_is_order_out(
    kind: SparseKind, embed: Opened, alone: list[SparseEmbedding], order: list[int]
) -> None:
    close(kind, embed([TEXTS[n] for n in order]), [alone[n] for n in order])


@settings(max_examples=5)
@given(st.lists(texts, min_size=1, max_size=6))
def test_any_texts_alone_equal_themselves_in_a_batch(
    kind: SparseKind, embed: Opened, several: list[str]
) -> None:
    close(kind, embed(several), [embed([text])[0] for text in several])
    close(kind, embed.queries(several), [embed.queries([text])[0] for text in several])


@pytest.mark.parametrize("window", [1, 2, 5, 1000])
def test_a_stream_gives_the_same_whatever_the_window(
    kind: SparseKind, embed: Opened, alone: list[SparseEmbedding], window: int
) -> None:
    close(kind, list(embed.stream(iter(TEXTS), window=window)), alone)


@pytest.mark.parametrize(
    "runtime",
    [{"token_budget": 1}, {"token_budget": 100_000}, {"lanes": 1}, {"lanes": 3}],
    ids=str,
)
def test_budget_and_lanes_change_no_vector(
    kind: SparseKind, folder: Path, alone: list[SparseEmbedding], runtime: dict[str, int]
) -> None:
    embedder = kind.open(folder, **runtime)
    close(kind, embedder(TEXTS), alone)
    embedder.close()


def test_threads_that_call_at_once_get_their_own_answers(
    kind: SparseKind, embed: Opened, alone: list[SparseEmbedding]
) -> None:
    parts = [range(n, len(TEXTS), 3) for n in range(3)]
    with ThreadPoolExecutor(3) as callers:
        answers = list(callers.map(lambda part: embed([TEXTS[n] for n in part]), parts))
    for part, answer in zip(parts, answers, strict=True):
        close(kind, answer, [alone[n] for n in part])


def test_a_stream_answers_while_its_source_never_ends(
    kind: SparseKind, embed: Opened, alone: list[SparseEmbedding]
) -> None:
    stream = embed.stream(itertools.cycle(TEXTS), window=4)
    close(kind, list(itertools.islice(stream, len(TEXTS))), alone)


def test_tokens_are_counted_as_they_are_read(embed: Opened) -> None:
    assert embed.count_tokens(TEXTS) == sum(embed.count_tokens([text]) for text in TEXTS) > 0


@pytest.mark.parametrize("padded", ["SPLADE", "BM42", "MiniCOIL"])
def test_the_side_that_is_padded_changes_no_vector(tmp_path: Path, padded: str) -> None:
    right, left = SPARSE_KINDS[padded], SPARSE_KINDS[f"{padded}, padded left"]
    vectors = [
        each.open(tmp_path / side, token_budget=100_000)(TEXTS)
        for side, each in (("right", right), ("left", left))
    ]
    close(right, *vectors)


@pytest.mark.parametrize("name", BROKEN)
def test_one_text_that_gives_no_numbers_leaves_its_neighbours_alone(
    tmp_path: Path, name: str
) -> None:
    word = "kafka" if name == "MiniCOIL" else "broken"
    others = [text for text in TEXTS if word not in text]
    runtime = Runtime(device="cpu", threads=1, token_budget=100_000)
    broken = open_model(BROKEN[name](tmp_path / "broken"), SPARSE_TEXT, runtime=runtime)
    answers = broken([*others, f"a {word} vector"])
    sound = SPARSE_KINDS[name]
    close(sound, answers[:-1], sound.open(tmp_path / "sound", token_budget=100_000)(others))
    assert np.isnan(answers[-1].values).any()
