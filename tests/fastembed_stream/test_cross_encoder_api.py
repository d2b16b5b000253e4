"""`from fastembed.rerank.cross_encoder import TextCrossEncoder` may change its first word alone."""

from __future__ import annotations

import importlib
import inspect
import io
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastembed_stream import CROSS_ENCODER, ModelSource, Runtime, TextCrossEncoder, catalog
from fastembed_stream.errors import RowError, SettingError, UnknownModelError
from tests.fastembed_stream.examples import MIXED_LENGTHS
from tests.fastembed_stream.late_models import write_cross_encoder

ON_CPU = Runtime(device="cpu", threads=1, token_budget=64)
NAME = "tests/cross"
CUSTOM: dict[str, Any] = {"sources": ModelSource(hf="tests/own"), "model_file": "model.onnx"}


@pytest.fixture(autouse=True)
def own_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test a catalog of its own."""
    monkeypatch.setattr(catalog, "_ROWS", dict(catalog._ROWS))


@pytest.fixture
def cross(tmp_path: Path) -> TextCrossEncoder:
    TextCrossEncoder.add_custom_model(NAME, **CUSTOM)
    folder = str(write_cross_encoder(tmp_path))
    return TextCrossEncoder(NAME, specific_model_path=folder, runtime=ON_CPU)


@pytest.fixture
def windows(cross: TextCrossEncoder, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note how many rows are planned together."""
    noted: list[int] = []
    documents = cross._opened().documents
    ordinary = documents.stream

    def stream(rows: Any, *, window: int) -> Iterator[float]:
        noted.append(window)
        return ordinary(rows, window=window)

    monkeypatch.setattr(documents, "stream", stream)
    return noted


def _parameters(callable_: Callable[..., Any]) -> list[tuple[str, Any]]:
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [
        (name, getattr(parameter.default, "value", parameter.default))
        for name, parameter in inspect.signature(callable_).parameters.items()
        if parameter.kind not in kinds
    ]


@pytest.mark.parametrize("method", ["rerank", "rerank_pairs", "token_count", "add_custom_model"])
def test_parameters_have_fastembeds_names_order_and_defaults(method: str) -> None:
    pytest.importorskip("fastembed", reason="fastembed, the oracle, is not installed")
    from fastembed.rerank.cross_encoder import TextCrossEncoder as Theirs

    theirs = _parameters(getattr(Theirs, method))
    assert _parameters(getattr(TextCrossEncoder, method))[: len(theirs)] == theirs


def test_a_model_is_described_by_fastembeds_keys() -> None:
    pytest.importorskip("fastembed", reason="fastembed, the oracle, is not installed")
    from fastembed.rerank.cross_encoder import TextCrossEncoder as Theirs

    ours = {model["model"]: model for model in TextCrossEncoder.list_supported_models()}
    for model in Theirs.list_supported_models():
        mine = ours[model["model"]]
        assert model.keys() <= mine.keys()
        same = ("model_file", "license", "size_in_GB", "additional_files")
        assert {key: model[key] for key in same} == {key: mine[key] for key in same}
        assert mine["sources"]["hf"] == model["sources"]["hf"]


def test_fastembeds_path_leads_to_the_same_class() -> None:
    as_fastembed_has_it = importlib.import_module("fastembed_stream.rerank.cross_encoder")
    assert as_fastembed_has_it.TextCrossEncoder is TextCrossEncoder


def test_scores_come_in_order_from_any_iterable(cross: TextCrossEncoder) -> None:
    expected = [next(cross.rerank("a point", [text])) for text in MIXED_LENGTHS]
    for documents in (list(MIXED_LENGTHS), MIXED_LENGTHS, iter(MIXED_LENGTHS)):
        got = list(cross.rerank("a point", documents, batch_size=2))
        np.testing.assert_allclose(got, expected, atol=1e-6)
        assert {type(score) for score in got} == {float}
    pairs = [("a point", text) for text in MIXED_LENGTHS]
    np.testing.assert_allclose(list(cross.rerank_pairs(pairs, 3, 2)), expected, atol=1e-6)
    np.testing.assert_allclose(list(cross.rerank_pairs(iter(pairs))), expected, atol=1e-6)


def test_documents_are_read_lazily(cross: TextCrossEncoder) -> None:
    endless = cross.rerank("a point", itertools.cycle(MIXED_LENGTHS), batch_size=2)
    assert len(list(itertools.islice(endless, 10))) == 10


@pytest.mark.parametrize(
    ("documents", "told"),
    [
        (None, r"^Rows: got None; expected a list"),
        (5, r"^Rows: got 5 of type int"),
        (b"text", r"^Rows: got one row alone, the bytes b'text'"),
        (io.BytesIO(b"text"), r"^Rows: got one row alone, of type BytesIO"),
    ],
)
def test_documents_that_are_no_rows_are_an_error_that_says_so(
    cross: TextCrossEncoder, documents: Any, told: str
) -> None:
    with pytest.raises(RowError, match=told):
        list(cross.rerank("a point", documents))


def test_one_pair_or_one_document_is_a_list_of_one(cross: TextCrossEncoder) -> None:
    [score] = cross.rerank_pairs(("a", "stream"))
    assert list(cross.rerank("a", "stream")) == [score]
    two = (("a", "stream"), ("a", "point"))
    assert next(cross.rerank_pairs(two)) == pytest.approx(score)
    assert cross.token_count(("a", "stream")) == 5
    assert cross.token_count(two) == 10


def test_a_list_is_planned_in_larger_parts_than_a_stream(
    cross: TextCrossEncoder, windows: list[int]
) -> None:
    list(cross.rerank("a", list(MIXED_LENGTHS), batch_size=2))
    list(cross.rerank_pairs([("a", "of")] * 3))
    list(cross.rerank("a", iter(MIXED_LENGTHS), batch_size=2))
    list(cross.rerank("a", ["of"], batch_size=5000))
    assert windows == [1024, 1024, 2, 5000]


@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_batch_size_below_one_is_refused(cross: TextCrossEncoder, batch_size: int) -> None:
    said = f"batch_size must be at least 1; got {batch_size}"
    with pytest.raises(SettingError, match=said):
        cross.rerank("a", ["of"], batch_size)
    with pytest.raises(SettingError, match=said):
        cross.rerank_pairs([("a", "of")], batch_size)
    with pytest.raises(SettingError, match=said):
        cross.token_count([("a", "of")], batch_size)


def test_nothing_to_score_has_no_scores(cross: TextCrossEncoder) -> None:
    assert list(cross.rerank("a", [])) == list(cross.rerank_pairs([])) == []
    assert cross.token_count([]) == 0


def test_a_score_has_no_length(cross: TextCrossEncoder) -> None:
    assert cross.embedding_size == 0


def test_a_model_has_to_be_named() -> None:
    with pytest.raises(UnknownModelError):
        TextCrossEncoder()


@pytest.mark.parametrize("name", ["tests/OWN", "Xenova/ms-marco-MiniLM-L-6-v2"])
def test_a_name_that_is_taken_is_refused(name: str) -> None:
    TextCrossEncoder.add_custom_model("tests/own", **CUSTOM)
    assert catalog.find("tests/own", CROSS_ENCODER).model_file == "model.onnx"
    with pytest.raises(SettingError, match=f"Model {name} is already registered"):
        TextCrossEncoder.add_custom_model(name, **(CUSTOM | {"model_file": "other.onnx"}))
