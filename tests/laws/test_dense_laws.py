"""A text's vector is a matter of the text alone: not of its neighbours, the order or the speed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastembed_stream import OpenModel
from fastembed_stream.onnx_embedder import OnnxEmbedder
from fastembed_stream.values import Floats
from tests.fastembed_stream.examples import MIXED_LENGTHS, ODD_TEXTS, texts
from tests.fastembed_stream.tiny_models import Toy, row, write
from tests.laws.kinds import KINDS, Kind

TEXTS = (*ODD_TEXTS, *MIXED_LENGTHS)
_ONNX = [name for name in KINDS if name != "static"]


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture(scope="module")
def folder(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Path:
    del kind  # one folder for each
    return tmp_path_factory.mktemp("model")


@pytest.fixture(scope="module")
def embed(kind: Kind, folder: Path) -> Iterator[OpenModel[str, str, Floats]]:
    embedder = kind.open(folder)
    yield embedder
    embedder.close()


@pytest.fixture(scope="module")
def alone(embed: OpenModel[str, str, Floats]) -> Floats:
    """Embed each text in a call of its own, float32[n_texts, dim]."""
    return np.stack([embed([text])[0] for text in TEXTS])


def close(kind: Kind, got: object, expected: object) -> None:
    np.testing.assert_allclose(np.asarray(got), np.asarray(expected), atol=kind.tolerance, rtol=0)


def test_a_vector_is_float32_and_has_the_dimension_of_the_row(
    kind: Kind, folder: Path, alone: Floats
) -> None:
    assert alone.dtype == np.float32
    assert alone.shape == (len(TEXTS), kind.make(folder).dim)
    assert np.isfinite(alone).all()


def test_different_texts_have_different_vectors(alone: Floats) -> None:
    different = alone[len(ODD_TEXTS) :]
    gaps = np.abs(different[:, None] - different[None]).max(axis=-1)
    assert gaps[~np.eye(len(different), dtype=bool)].min() > 1e-4


def test_a_text_alone_equals_the_text_in_a_batch(
    kind: Kind, embed: OpenModel[str, str, Floats], alone: Floats
) -> None:
    close(kind, embed(TEXTS), alone)


@settings(max_examples=4)
@given(st.permutations(range(len(TEXTS))))
def test_order_in_is_order_out(
    kind: Kind, embed: OpenModel[str, str, Floats], alone: Floats, order: list[int]
) -> None:
    close(kind, embed([TEXTS[n] for n in order]), alone[order])


@settings(max_examples=5)
@given(st.lists(texts, min_size=1, max_size=6))
def test_any_texts_alone_equal_themselves_in_a_batch(
    kind: Kind, embed: OpenModel[str, str, Floats], several: list[str]
) -> None:
    close(kind, embed(several), [embed([text])[0] for text in several])


def test_equal_texts_have_equal_vectors_wherever_they_stand(
    kind: Kind, embed: OpenModel[str, str, Floats]
) -> None:
    twice = embed([*TEXTS, *reversed(TEXTS)])
    close(kind, twice[: len(TEXTS)], twice[: len(TEXTS) - 1 : -1])


@pytest.mark.parametrize("window", [1, 2, 5, 1000])
def test_a_stream_gives_the_same_whatever_the_window(
    kind: Kind, embed: OpenModel[str, str, Floats], alone: Floats, window: int
) -> None:
    close(kind, list(embed.stream(iter(TEXTS), window=window)), alone)


@pytest.mark.parametrize("budget", [1, 512, 100_000])
def test_the_budget_changes_no_vector(kind: Kind, folder: Path, alone: Floats, budget: int) -> None:
    embedder = kind.open(folder, token_budget=budget)
    close(kind, embedder(TEXTS), alone)
    embedder.close()


@pytest.mark.parametrize("lanes", [1, 3])
def test_the_lanes_change_no_vector(kind: Kind, folder: Path, alone: Floats, lanes: int) -> None:
    embedder = kind.open(folder, lanes=lanes)
    close(kind, embedder(TEXTS), alone)
    embedder.close()


def test_two_sessions_give_what_one_gives(kind: Kind, folder: Path, alone: Floats) -> None:
    embedder = kind.open(folder, device_ids=(0, 1))
    assert not isinstance(embedder, OnnxEmbedder) or len(set(embedder.sessions)) == 2
    close(kind, embedder(TEXTS), alone)
    embedder.close()


def test_threads_that_call_at_once_get_their_own_answers(
    kind: Kind, embed: OpenModel[str, str, Floats], alone: Floats
) -> None:
    parts = [range(n, len(TEXTS), 3) for n in range(3)]
    with ThreadPoolExecutor(3) as callers:
        answers = list(callers.map(lambda part: embed([TEXTS[n] for n in part]), parts))
    for part, answer in zip(parts, answers, strict=True):
        close(kind, answer, alone[list(part)])


def test_a_stream_answers_while_its_source_never_ends(
    kind: Kind, embed: OpenModel[str, str, Floats], alone: Floats
) -> None:
    stream = embed.stream(itertools.cycle(TEXTS), window=4)
    close(kind, list(itertools.islice(stream, len(TEXTS))), alone)
    stream.close()  # type: ignore[attr-defined]  # a generator
    close(kind, embed(TEXTS[:1]), alone[:1])


@pytest.mark.parametrize("padded", ["mean", "last token"])
def test_the_side_that_is_padded_changes_no_vector(tmp_path: Path, padded: str) -> None:
    right, left = KINDS[padded], KINDS[f"{padded}, padded left"]
    close(
        right,
        left.open(tmp_path / "left", token_budget=100_000)(TEXTS),
        right.open(tmp_path / "right", token_budget=100_000)(TEXTS),
    )


def test_one_text_that_gives_no_numbers_leaves_its_neighbours_alone(tmp_path: Path) -> None:
    for pooling in ("cls", "mean", "last token"):
        kind = KINDS[pooling]
        recipe = kind.make(tmp_path / pooling).recipe
        toy = Toy(nan_word="broken")
        broken = Kind(make=lambda folder, r=recipe, t=toy: row(write(folder, t), r))  # type: ignore[misc]
        embed = broken.open(tmp_path / f"{pooling} broken", token_budget=100_000)
        answers = embed([*TEXTS, "broken"])
        close(kind, answers[:-1], kind.open(tmp_path / pooling)(TEXTS))
        assert np.isnan(answers[-1]).any() or pooling != "mean"
