"""Late interaction over text gives fastembed's vectors, as documents and as queries."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastembed_stream
from fastembed_stream import Runtime
from tests.fastembed_stream.examples import MIXED_LENGTHS, ODD_TEXTS, real_model, texts
from tests.fastembed_stream.late_models import write_late
from tests.fastembed_stream.tiny_models import Toy
from tests.parity.oracle import fastembed

COLBERT = "colbert-ir/colbertv2.0"
JINA = "jinaai/jina-colbert-v2"
TOKENS = "jinaai/jina-embeddings-v2-small-en-tokens"
TEXTS = (
    *ODD_TEXTS,
    *MIXED_LENGTHS,
    "!?.,;:",
    "text with [MASK] and [PAD] and <mask> in it, twice: [MASK] [PAD] <mask>",
    "a query of exactly as many words as are filled " * 3,
)
_BIG = Toy(types=False, external=True)
_TOYS: dict[str, tuple[str, dict[str, Any]]] = {
    "colbert": (COLBERT, {}),
    "colbert, mask not in the vocabulary file": (COLBERT, {"model_config": {"pad_token_id": 4}}),
    "answerai": ("answerdotai/answerai-colbert-small-v1", {"model_file": "vespa_colbert.onnx"}),
    "jina": (JINA, {"model_file": "onnx/model.onnx", "toy": _BIG, "mask_token": "<mask>"}),
    "lateon": ("lightonai/LateOn", {}),
    "lateon, pad is mask": ("lightonai/LateOn", {"model_config": {"pad_token_id": 4}}),
    "mlateon": ("lightonai/mLateOn", {"mask_token": "<mask>"}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Both:
    """One model folder, opened by both libraries."""

    theirs: Any
    ours: fastembed_stream.LateInteractionTextEmbedding

    def agree(self, several: Iterable[str], *, within: float = 1e-6, batch_size: int = 256) -> None:
        """Check that documents and queries have the same vectors in the same order."""
        rows = list(several)
        ours, theirs = self.ours, self.theirs
        embedded = ours.embed(rows, batch_size), theirs.embed(rows, batch_size)
        close(*embedded, within=within)
        close(ours.query_embed(rows), theirs.query_embed(rows), within=within)


def close(got: Iterable[Any], expected: Iterable[Any], *, within: float = 1e-6) -> None:
    """Compare ragged vectors, in order."""
    ours, theirs = list(got), list(expected)
    assert [vectors.shape for vectors in ours] == [vectors.shape for vectors in theirs]
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, atol=within, rtol=0)


def both(name: str, folder: Path) -> Both:
    return Both(theirs=theirs_of(name, folder), ours=ours_of(name, folder))


def ours_of(name: str, folder: Path) -> fastembed_stream.LateInteractionTextEmbedding:
    return fastembed_stream.LateInteractionTextEmbedding(
        name,
        specific_model_path=str(folder),
        runtime=Runtime(device="cpu", threads=2, token_budget=256),
    )


def theirs_of(name: str, folder: Path) -> Any:
    make: Callable[..., Any] = fastembed().LateInteractionTextEmbedding
    if name == TOKENS:
        from fastembed.late_interaction.token_embeddings import TokenEmbeddingsModel

        make = TokenEmbeddingsModel
    return make(name, specific_model_path=str(folder), cuda=False, threads=2)


@pytest.fixture(scope="module")
def standin() -> Both:
    return both(COLBERT, real_model("late-standin-tiny"))


def test_texts_of_mixed_lengths_agree(standin: Both) -> None:
    standin.agree(TEXTS, within=1e-5)
    standin.agree(TEXTS, within=1e-5, batch_size=3)


@pytest.mark.parametrize("text", TEXTS)
def test_every_oddity_agrees(standin: Both, text: str) -> None:
    standin.agree([text], within=1e-5)


@settings(max_examples=15)
@given(st.lists(texts, min_size=1, max_size=5))
def test_any_texts_agree(standin: Both, several: list[str]) -> None:
    standin.agree(several, within=1e-5)


@pytest.mark.parametrize(
    "text",
    [
        "over the limit of five hundred and twelve tokens, " * 80,
        "a hundred kilobytes of words, " * 3_500,
        "长" * 3_000,
        "?!" * 2_000,
    ],
    ids=["too long", "very long", "no spaces", "punctuation"],
)
def test_texts_that_are_cut_agree(standin: Both, text: str) -> None:
    standin.agree([text, "short"], within=1e-5)


@pytest.mark.parametrize("case", _TOYS)
def test_every_kin_of_colbert_agrees(tmp_path: Path, case: str) -> None:
    name, folder = _TOYS[case]
    models = both(name, write_late(tmp_path, **folder))
    models.agree(TEXTS)
    models.agree(TEXTS, batch_size=3)


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_tokens_of_a_dense_model_agree(tmp_path: Path, side: str) -> None:
    folder = write_late(
        tmp_path, toy=Toy(), model_file="onnx/model.onnx", config={"padding_side": side}
    )
    models = both(TOKENS, folder)
    models.agree(TEXTS)
    assert models.ours.token_count(TEXTS) == models.theirs.token_count(TEXTS)


@pytest.mark.parametrize("case", _TOYS)
@pytest.mark.parametrize("is_doc", [True, False])
@pytest.mark.parametrize("include_extension", [True, False])
def test_counts_of_tokens_agree(
    tmp_path: Path, case: str, is_doc: Any, include_extension: Any
) -> None:
    name, folder = _TOYS[case]
    models = both(name, write_late(tmp_path, **folder))
    how: dict[str, Any] = {"is_doc": is_doc, "include_extension": include_extension}
    counted: tuple[str | tuple[str, ...], ...] = (TEXTS, "a single text", TEXTS[:1], ())
    for several in counted:
        ours = models.ours.token_count(several, **how)
        assert ours == models.theirs.token_count(several, **how)
    assert models.ours.token_count(iter(TEXTS), 4, **how) == models.theirs.token_count(TEXTS, **how)


def test_one_text_generators_and_passages_agree(standin: Both) -> None:
    ours, theirs = standin.ours, standin.theirs
    close(ours.embed("one text"), theirs.embed("one text"), within=1e-5)
    close(ours.query_embed("one text"), theirs.query_embed("one text"), within=1e-5)
    several = TEXTS[:4]
    close(ours.embed(iter(several)), theirs.embed(iter(several)), within=1e-5)
    close(ours.passage_embed(several), theirs.passage_embed(several), within=1e-5)
    assert list(ours.embed([])) == list(theirs.embed([])) == []


def test_sizes_agree(standin: Both) -> None:
    names = [m["model"] for m in type(standin.theirs).list_supported_models()]
    ours, theirs = type(standin.ours), type(standin.theirs)
    assert standin.ours.embedding_size == standin.theirs.embedding_size == 128
    assert [ours.get_embedding_size(n) for n in names] == [
        theirs.get_embedding_size(n) for n in names
    ]
