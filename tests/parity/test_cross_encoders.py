"""Rerankers give fastembed's scores."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastembed_stream import Runtime, TextCrossEncoder
from fastembed_stream.values import Pair
from tests.fastembed_stream.examples import MIXED_LENGTHS, ODD_TEXTS, real_model, texts
from tests.fastembed_stream.late_models import write_cross_encoder
from tests.fastembed_stream.tiny_models import Toy
from tests.parity.oracle import fastembed

MINILM = "Xenova/ms-marco-MiniLM-L-6-v2"
DOCUMENTS = (*ODD_TEXTS, *MIXED_LENGTHS)
QUERIES = ("what is a stream of text", "", "a query longer than the limit " * 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class Both:
    """One model folder, opened by both libraries."""

    theirs: Any
    ours: TextCrossEncoder

    def agree(self, pairs: list[Pair], *, within: float = 1e-6) -> None:
        """Check scores and counts of pairs."""
        close(self.ours.rerank_pairs(pairs), self.theirs.rerank_pairs(pairs), within=within)
        assert self.ours.token_count(pairs) == self.theirs.token_count(pairs)


def close(got: Any, expected: Any, *, within: float = 1e-6) -> None:
    np.testing.assert_allclose(list(got), list(expected), atol=within, rtol=0)


def both(folder: Path, name: str = MINILM) -> Both:
    fastembed()
    from fastembed.rerank.cross_encoder import TextCrossEncoder as Theirs

    path = str(folder)
    return Both(
        theirs=Theirs(name, specific_model_path=path, cuda=False, threads=2),
        ours=TextCrossEncoder(
            name,
            specific_model_path=path,
            runtime=Runtime(device="cpu", threads=2, token_budget=256),
        ),
    )


@pytest.fixture(scope="module")
def standin() -> Both:
    return both(real_model("cross-standin"))


@pytest.mark.parametrize("query", QUERIES, ids=["a question", "nothing", "too long"])
def test_documents_of_one_query_agree(standin: Both, query: str) -> None:
    documents = list(DOCUMENTS)
    close(
        standin.ours.rerank(query, documents), standin.theirs.rerank(query, documents), within=1e-4
    )
    close(
        standin.ours.rerank(query, iter(documents), batch_size=3),
        standin.theirs.rerank(query, documents, batch_size=3),
        within=1e-4,
    )


@settings(max_examples=15)
@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=5))
def test_any_pairs_agree(standin: Both, several: list[Pair]) -> None:
    standin.agree(several, within=1e-4)


def test_pairs_that_are_cut_agree(standin: Both) -> None:
    long = "a page of words, " * 300
    standin.agree([("short", long), (long, "short"), (long, long[:4000])], within=1e-4)


def test_one_pair_and_no_pairs_agree(standin: Both) -> None:
    ours, theirs = standin.ours, standin.theirs
    close(ours.rerank_pairs(("a", "of")), theirs.rerank_pairs(("a", "of")), within=1e-4)
    assert list(ours.rerank("a", [])) == list(theirs.rerank("a", [])) == []
    assert ours.token_count([]) == theirs.token_count([]) == 0


@pytest.mark.parametrize(
    ("name", "model_file", "toy", "tokenizer"),
    [
        (MINILM, "onnx/model.onnx", Toy(pooled=(("logits", "first"),)), {}),
        (MINILM, "onnx/model.onnx", Toy(pooled=(("logits", "first"),)), {"specials": False}),
        (
            MINILM,
            "onnx/model.onnx",
            Toy(pooled=(("logits", "first"),)),
            {"config": {"truncation_side": "left"}},
        ),
        (
            "BAAI/bge-reranker-v2-m3",
            "onnx/model.onnx",
            Toy(types=False, external=True, pooled=(("logits", "first"),)),
            {},
        ),
        (
            "BAAI/bge-reranker-v2-m3-int8",
            "onnx/model_int8.onnx",
            Toy(types=False, pooled=(("logits", "first"),)),
            {"config": {"model_max_length": 31}},
        ),
    ],
    ids=["bert", "no special tokens", "cut at the left", "no types", "odd limit"],
)
def test_other_graphs_and_tokenizers_agree(
    tmp_path: Path, name: str, model_file: str, toy: Toy, tokenizer: dict[str, Any]
) -> None:
    folder = write_cross_encoder(tmp_path, toy=toy, model_file=model_file, **tokenizer)
    models = both(folder, name)
    pairs = [(query, document) for query in QUERIES for document in DOCUMENTS]
    models.agree(pairs)
