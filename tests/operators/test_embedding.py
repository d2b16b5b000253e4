"""A record's text becomes its vector; one that gets none fails alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import bytewax.operators as op
import numpy as np
import pytest
from bytewax.dataflow import Dataflow
from prometheus_client import REGISTRY

from fastembed_stream import (
    ModelFilesError,
    OpenModel,
    SettingError,
    UnknownModelError,
    catalog,
    fingerprint,
    locate,
    open_model,
)
from fastembed_stream.embedder import Counts
from operators import Batch, DenseStage, Failures, StageLimits, embed_dense
from operators.records import Vector
from operators.stages import apply
from tests.operators.things import EntryPoint, Kept, Lists, batch, failed, floats, numbers, record

MODEL = "fastembed-stream/all-MiniLM-L6-v2-int8"
_STAGE = {"stage": "embed dense"}


class Fake:
    """An embedder whose vectors are [number of letters, 1], NaN for a text that says so."""

    counts = Counts(rows=9, truncated_rows=2, truncated_tokens=7)

    def __init__(self) -> None:
        self.texts: list[str] = []

    def __call__(self, texts: Sequence[str]) -> list[Vector]:
        self.texts += texts
        return [np.array([np.nan if "nan" in text else len(text), 1], np.float32) for text in texts]


def faked(stage: DenseStage) -> Fake:
    """Put a fake embedder where a stage keeps its own."""
    fake = Fake()
    embeds: Any = fake  # as much of one as the stage asks for
    stage._opened._model = OpenModel(documents=embeds, queries=embeds)
    stage._opened.fingerprint = "f1"
    return fake


@pytest.fixture(scope="module")
def stage() -> DenseStage:
    return DenseStage(model=MODEL)


def embedded(
    entry_point: EntryPoint, batches: Sequence[Batch], stage: DenseStage
) -> tuple[list[Batch], list[Failures]]:
    oks: Kept[Batch] = Kept()
    errs: Kept[Failures] = Kept()
    flow = Dataflow("embedding")
    source = op.input("in", flow, Lists({"all": [("k", one) for one in batches]}))
    split = embed_dense("embed", source, stage=stage, limits=StageLimits(in_flight=2))
    op.output("oks", split.oks, oks)
    op.output("errs", split.errs, errs)
    entry_point(flow)
    return oks.items, errs.items


def test_truncated_texts_are_a_metric() -> None:
    stage = DenseStage(model=MODEL)
    faked(stage)
    stage(batch(1))
    assert REGISTRY.get_sample_value("stream_truncated_texts", _STAGE) == 2
    assert REGISTRY.get_sample_value("stream_truncated_tokens", _STAGE) == 7


def test_vectors_are_those_of_the_opened_model(entry_point: EntryPoint, stage: DenseStage) -> None:
    texts = ["a", "A longer text about streams", "ein Text", "x " * 300]
    records = tuple(record(n, text) for n, text in enumerate(texts))
    oks, errs = embedded(
        entry_point, [Batch(records=records[:3]), Batch(records=records[3:])], stage
    )
    assert (numbers(oks), errs) == ([0, 1, 2, 3], [])
    found = [floats(one, "dense") for some in oks for one in some.records]
    for vector, alone in zip(found, open_model(MODEL)(texts), strict=True):
        assert vector.dtype == np.float32
        np.testing.assert_allclose(vector, alone, atol=1e-5)


def test_each_vector_names_the_model_that_made_it(stage: DenseStage) -> None:
    row = catalog.find(MODEL)
    known = fingerprint(row, locate(row))
    assert stage.open() == known
    [one] = stage(batch(0)).records
    assert one.models == {"dense": known}


def test_a_model_with_another_limit_or_with_prompts_has_another_fingerprint(
    stage: DenseStage,
) -> None:
    model = replace(catalog.find(MODEL), name="own/prompts", passage_prompt="passage: ")
    stages = [
        stage,
        DenseStage(model=MODEL, max_tokens=64),
        DenseStage(model=MODEL, max_tokens=32),
        DenseStage(model=model, prompted=True),
        DenseStage(model=MODEL, prompted=True),  # without a prompt in its row nothing changes
    ]
    prints = [one.open() for one in stages]
    assert len(set(prints)) == 4
    assert prints[4] == prints[0]


def test_a_vector_that_is_not_finite_fails_its_record_alone(entry_point: EntryPoint) -> None:
    stage = DenseStage(model=MODEL)
    faked(stage)
    texts = ["a", "nan", "abc"]
    given = Batch(records=tuple(record(n, text) for n, text in enumerate(texts)))
    oks, errs = embedded(entry_point, [given], stage)
    assert numbers(oks) == [0, 2]
    assert [floats(one, "dense")[0] for one in oks[0].records] == [1, 3]
    [[one]] = errs
    assert one.origin.offset == 1
    assert one.error_type == "builtins.FloatingPointError"
    assert one.reason == f"{MODEL} gave 1 of 2 numbers that are NaN or infinite."


def test_a_record_without_the_field_fails_alone_and_says_what_it_has(
    entry_point: EntryPoint,
) -> None:
    stage = DenseStage(model=MODEL, reads="title")
    faked(stage)
    good = replace(record(0), fields={"title": "T"})
    image = replace(record(1), fields={"title": b"\x89PNG"})
    oks, errs = embedded(entry_point, [Batch(records=(good, record(2), image))], stage)
    assert numbers(oks) == [0]
    assert failed(errs) == [2, 1]
    [[missing, _]] = errs
    assert missing.reason == "Field 'title' of record 'k2' is no text; it has text."


def test_the_models_prompt_goes_before_the_text_where_asked() -> None:
    model = replace(catalog.find(MODEL), name="own/prompted", passage_prompt="passage: ")
    for prompted, expected in ((True, "passage: text 0"), (False, "text 0")):
        stage = DenseStage(model=model, prompted=prompted)
        fake = faked(stage)
        apply(stage, batch(0))
        assert fake.texts == [expected]


def test_an_unknown_name_fails_while_the_flow_is_built_and_suggests_another() -> None:
    with pytest.raises(UnknownModelError, match=r"Did you mean '.*all-MiniLM-L6-v2-int8'"):
        DenseStage(model="fastembed-stream/all-MiniLM-L6-v2-int")


@pytest.mark.parametrize("name", ["vector", "reads"])
def test_a_stage_without_a_field_or_a_vector_is_refused(name: str) -> None:
    with pytest.raises(SettingError, match="needs a field and a vector"):
        DenseStage(model=MODEL, **{name: ""})  # type: ignore[arg-type]  # wrong on purpose


def test_a_folder_without_a_tokenizer_fails_when_it_is_opened(tmp_path: Path) -> None:
    row = catalog.find(MODEL)
    whole = locate(row)
    graph = tmp_path / row.model_file
    graph.parent.mkdir(parents=True, exist_ok=True)
    graph.symlink_to(whole / row.model_file)
    stage = DenseStage(model=MODEL, folder=tmp_path)
    with pytest.raises(ModelFilesError, match="tokenizer"):
        stage.open()


def test_a_folder_that_holds_another_model_is_refused_when_it_is_opened() -> None:
    row = catalog.find(MODEL)
    stage = DenseStage(model=replace(row, name="own/large", dim=768), folder=locate(row))
    with pytest.raises(SettingError, match=r"vectors of 384 numbers, but own/large has 768"):
        stage.open()
    with pytest.raises(SettingError, match="holds another model"):
        apply(stage, batch(0))  # nor is it a record's fault where nobody has opened it before


def test_the_limit_of_an_opened_model_is_known() -> None:
    stage = DenseStage(model=MODEL, max_tokens=48)
    limits = [stage.limit]
    stage.open()
    assert [*limits, stage.limit] == [None, 48]


def test_stages_over_one_model_write_vectors_of_their_own_names(stage: DenseStage) -> None:
    other = DenseStage(model=MODEL, vector="second")
    other._opened._model = stage._opened.model(stage)
    [one] = other(stage(batch(0))).records
    assert sorted(one.vectors) == ["dense", "second"]
    assert (stage.name, other.name) == ("embed dense", "embed second")
