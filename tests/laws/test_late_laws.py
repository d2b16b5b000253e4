"""The vectors of a text's tokens are a matter of the text alone, as documents and as queries."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastembed_stream import LATE_TEXT, OpenModel, Runtime, catalog, open_model
from fastembed_stream.embedder import Embedder
from fastembed_stream.families.colbert import Colbert
from fastembed_stream.families.token_embeddings import TokenEmbeddings
from fastembed_stream.model import Model
from fastembed_stream.recipe import Recipe
from fastembed_stream.values import Floats
from tests.fastembed_stream.examples import MIXED_LENGTHS, ODD_TEXTS, real_model, texts
from tests.fastembed_stream.late_models import write_late
from tests.fastembed_stream.tiny_models import row

TEXTS = (*ODD_TEXTS, *MIXED_LENGTHS)
_MARKERS: dict[str, Any] = {"query_marker": 50_368, "document_marker": 50_369}
_LEFT = {"padding_side": "left"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """
    A model to try the laws on.

    make       writes the folder and describes it
    tolerance  by how much two answers for one text may differ, absolute
    """

    make: Callable[[Path], Model]
    tolerance: float = 1e-6

    def open(self, folder: Path, **runtime: Any) -> OpenModel[str, str, Floats]:
        """Open the model, with two threads unless told."""
        how: dict[str, Any] = {"device": "cpu", "threads": 2, "token_budget": 64}
        return open_model(self.make(folder), LATE_TEXT, runtime=Runtime(**(how | runtime)))


def _toy(recipe: Recipe, **tokenizer: Any) -> Kind:
    def make(folder: Path) -> Model:
        is_here = (folder / "model.onnx").is_file()
        return row(folder if is_here else write_late(folder, **tokenizer), recipe)

    return Kind(make=make)


def _real(folder: Path) -> Model:
    del folder
    return row(
        real_model("late-standin-tiny"),
        catalog.find("colbert-ir/colbertv2.0", LATE_TEXT).recipe,
        dim=128,
    )


KINDS: dict[str, Kind] = {
    "colbert": _toy(Colbert(**_MARKERS, query_length=12)),
    "attends to its fill": _toy(Colbert(**_MARKERS, query_length=20, attend_to_expansion=True)),
    "no fill": _toy(
        Colbert(
            **_MARKERS,
            query_length=None,
            marker_is_counted=False,
            skip_pad_tokens=False,
            normalize_queries=True,
        )
    ),
    "punctuation kept": _toy(Colbert(**_MARKERS, skip_punctuation=False)),
    "padded left": _toy(Colbert(**_MARKERS), config=_LEFT),
    "no special tokens": _toy(Colbert(**_MARKERS), specials=False),
    "pad is mask": _toy(
        Colbert(**_MARKERS, query_length=None, skip_pad_tokens=False),
        model_config={"pad_token_id": 4},
    ),
    "all tokens": _toy(TokenEmbeddings()),
    "all tokens, padded left": _toy(TokenEmbeddings(), config=_LEFT),
    "stand-in": Kind(make=_real, tolerance=1e-5),
}
Asked = tuple[Kind, Path, str]


@pytest.fixture(scope="module", params=[(k, s) for k in KINDS for s in ("documents", "queries")])
def asked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Asked:
    """Give a kind, its folder, and what its texts are: documents or queries."""
    name, side = request.param
    return KINDS[name], tmp_path_factory.mktemp("model"), side


@pytest.fixture(scope="module")
def embed(asked: Asked) -> Iterator[Embedder[str, Floats]]:
    kind, folder, side = asked
    model = kind.open(folder)
    yield getattr(model, side)
    model.close()


@pytest.fixture(scope="module")
def alone(embed: Embedder[str, Floats]) -> list[Floats]:
    """Embed each text in a call of its own, float32[n_tokens, dim] each."""
    return [embed([text])[0] for text in TEXTS]


def close(asked: Asked, got: Sequence[Floats], expected: Sequence[Floats]) -> None:
    assert [vectors.shape for vectors in got] == [vectors.shape for vectors in expected]
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=asked[0].tolerance, rtol=0)


def test_vectors_are_float32_and_different_where_texts_are(alone: list[Floats]) -> None:
    assert {vectors.dtype for vectors in alone} == {np.dtype(np.float32)}
    assert all(np.isfinite(vectors).all() for vectors in alone)
    firsts = np.stack([vectors[0] for vectors in alone[len(ODD_TEXTS) :]])
    gaps = np.abs(firsts[:, None] - firsts[None]).max(axis=-1)
    assert gaps[~np.eye(len(firsts), dtype=bool)].min() > 1e-4


def test_a_text_alone_equals_the_text_in_a_batch(
    asked: Asked, embed: Embedder[str, Floats], alone: list[Floats]
) -> None:
    close(asked, embed(TEXTS), alone)


@settings(max_examples=4)
@given(st.permutations(range(len(TEXTS))))
def test_order_in_is_order_out(
    asked: Asked, embed: Embedder[str, Floats], alone: list[Floats], order: list[int]
) -> None:
    close(asked, embed([TEXTS[n] for n in order]), [alone[n] for n in order])


@settings(max_examples=5)
@given(st.lists(texts, min_size=1, max_size=6))
def test_any_texts_alone_equal_themselves_in_a_batch(
    asked: Asked, embed: Embedder[str, Floats], several: list[str]
) -> None:
    close(asked, embed(several), [embed([text])[0] for text in several])


@pytest.mark.parametrize("window", [1, 2, 5, 1000])
def test_a_stream_gives_the_same_whatever_the_window(
    asked: Asked, embed: Embedder[str, Floats], alone: list[Floats], window: int
) -> None:
    close(asked, list(embed.stream(iter(TEXTS), window=window)), alone)


@pytest.mark.parametrize(
    "runtime",
    [
        {"token_budget": 1},
        {"token_budget": 100_000},
        {"lanes": 1},
        {"lanes": 3},
        {"device_ids": (0, 1)},
    ],
    ids=str,
)
def test_budgets_lanes_and_sessions_change_no_vector(
    asked: Asked, alone: list[Floats], runtime: dict[str, Any]
) -> None:
    kind, folder, side = asked
    model = kind.open(folder, **runtime)
    close(asked, getattr(model, side)(TEXTS), alone)
    model.close()


def test_threads_that_call_at_once_get_their_own_answers(
    asked: Asked, embed: Embedder[str, Floats], alone: list[Floats]
) -> None:
    parts = [range(n, len(TEXTS), 3) for n in range(3)]
    with ThreadPoolExecutor(3) as callers:
        answers = list(callers.map(lambda part: embed([TEXTS[n] for n in part]), parts))
    for part, answer in zip(parts, answers, strict=True):
        close(asked, answer, [alone[n] for n in part])


def test_documents_have_a_vector_for_each_token_that_is_counted_or_fewer(
    asked: Asked, embed: Embedder[str, Floats], alone: list[Floats]
) -> None:
    if asked[2] == "documents":
        for text, vectors in zip(TEXTS, alone, strict=True):
            assert 0 <= len(vectors) <= embed.count_tokens([text])
