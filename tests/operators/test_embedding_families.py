"""Every family of models has its stage, and a stage writes what the engine gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import bytewax.operators as op
import numpy as np
import pytest
from bytewax.dataflow import Dataflow

from fastembed_stream import (
    Colbert,
    CrossEncoder,
    DenseText,
    Model,
    Runtime,
    SparseEmbedding,
    open_model,
)
from operators import (
    Batch,
    DenseStage,
    EmbedStage,
    Failures,
    Hit,
    ImageStage,
    LateStage,
    MultimodalStage,
    Record,
    SparseStage,
    Split,
    embed_image,
    embed_late,
    embed_multimodal,
    embed_sparse,
    run_stages,
)
from operators.records import Vector
from operators.retrieval import RerankStage
from operators.spaces import Shape
from operators.stages import apply
from tests.fastembed_stream.late_models import write_cross_encoder, write_late
from tests.fastembed_stream.tiny_images import (
    colpali_row,
    image_row,
    picture,
    saved,
    write_colpali,
    write_image_model,
)
from tests.fastembed_stream.tiny_models import DIM, row, write
from tests.fastembed_stream.tiny_sparse import bm25, write_splade
from tests.operators.things import EntryPoint, Kept, Lists, message, record

ON_CPU = Runtime(device="cpu", threads=1, token_budget=300)
TEXTS = ("the stream of text", "kafka is broken", "a vector", "point")
PAGES = tuple(saved(picture(40 + 9 * n, 64, seed=n), "PNG") for n in range(3))


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A stage over a small model, its operator, and what it reads."""

    stage: type[Any]
    embed: Callable[..., Split]
    model: Callable[[Path], Model]
    rows: tuple[str | bytes, ...]
    shape: Shape
    needs_idf: bool = False


def _late(folder: Path) -> Model:
    return row(write_late(folder), Colbert(query_marker=1, document_marker=2))


FAMILIES = {
    "bm25": Family(
        stage=SparseStage,
        embed=embed_sparse,
        model=lambda _: bm25(),
        rows=TEXTS,
        shape="sparse",
        needs_idf=True,
    ),
    "splade": Family(
        stage=SparseStage, embed=embed_sparse, model=write_splade, rows=TEXTS, shape="sparse"
    ),
    "late": Family(stage=LateStage, embed=embed_late, model=_late, rows=TEXTS, shape="multi"),
    "image": Family(
        stage=ImageStage,
        embed=embed_image,
        model=lambda folder: image_row(write_image_model(folder)),
        rows=PAGES,
        shape="dense",
    ),
    "multimodal": Family(
        stage=MultimodalStage,
        embed=embed_multimodal,
        model=lambda folder: colpali_row(write_colpali(folder)),
        rows=PAGES,
        shape="multi",
    ),
}


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Family:
    return FAMILIES[request.param]


@pytest.fixture(scope="module")
def model(family: Family, tmp_path_factory: pytest.TempPathFactory) -> Model:
    return family.model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def stage(family: Family, model: Model) -> EmbedStage:
    made: EmbedStage = family.stage(model=model, runtime=ON_CPU)
    return made


def read(stage: EmbedStage, *values: str | bytes) -> Batch:
    return Batch(
        records=tuple(
            Record(key=n, fields={stage.reads: value}, payload={}, origin=message(offset=n))
            for n, value in enumerate(values)
        )
    )


def same(got: Vector, expected: Vector) -> None:
    if isinstance(got, SparseEmbedding):
        assert isinstance(expected, SparseEmbedding)
        np.testing.assert_array_equal(np.sort(got.indices), np.sort(expected.indices))
        assert got.as_dict() == pytest.approx(expected.as_dict(), abs=1e-5)
    else:
        np.testing.assert_allclose(got, np.asarray(expected), atol=1e-5)


def test_vectors_are_those_of_the_engine(
    entry_point: EntryPoint, family: Family, model: Model, stage: EmbedStage
) -> None:
    oks: Kept[Batch] = Kept()
    errs: Kept[Failures] = Kept()
    whole = read(stage, *family.rows)
    batches = [Batch(records=whole.records[:2]), Batch(records=whole.records[2:])]
    flow = Dataflow("embedding")
    source = op.input("in", flow, Lists({"all": [("k", one) for one in batches]}))
    split = family.embed("embed", source, stage=stage)
    op.output("oks", split.oks, oks)
    op.output("errs", split.errs, errs)
    entry_point(flow)

    found = [one for some in oks.items for one in some.records]
    expected = open_model(model, stage.kind, runtime=ON_CPU)(family.rows)
    assert errs.items == []
    assert [one.key for one in found] == list(range(len(family.rows)))
    for one, vector in zip(found, expected, strict=True):
        same(one.vectors[stage.vector], vector)


def test_what_it_asks_of_a_collection_follows_from_the_model(
    family: Family, model: Model, stage: EmbedStage
) -> None:
    space = stage.space()
    assert (space.shape, space.dim, space.needs_idf) == (
        family.shape,
        model.dim,
        family.needs_idf,
    )
    assert (space.model, space.fingerprint) == (model.name, stage.open())


def test_a_record_without_what_it_reads_fails_alone(family: Family, stage: EmbedStage) -> None:
    other = Record(key="x", fields={"other": "text"}, payload={}, origin=message(offset=9))
    batch = read(stage, *family.rows[:2])
    done = apply(stage, Batch(records=(*batch.records, other)))
    assert [one.key for one in done.records] == [0, 1]
    [failure] = done.failures
    assert failure.origin.offset == 9
    assert f"Field {stage.reads!r} of record 'x' is no" in failure.reason


def test_questions_are_embedded_as_such(tmp_path: Path) -> None:
    for name in ("bm25", "late", "multimodal"):
        family = FAMILIES[name]
        model = family.model(tmp_path / name)
        stage = family.stage(model=model, runtime=ON_CPU, as_query=True, reads="text")
        [one] = stage(Batch(records=(record(1, TEXTS[0]),))).records
        [expected] = open_model(model, stage.kind, runtime=ON_CPU).queries([TEXTS[0]])
        same(one.vectors[stage.vector], expected)


@pytest.mark.parametrize("bad", [b"", b"no image", PAGES[0][:60]], ids=["empty", "text", "cut"])
@pytest.mark.parametrize("name", ["image", "multimodal"])
def test_a_broken_image_fails_alone(tmp_path: Path, name: str, bad: bytes) -> None:
    family = FAMILIES[name]
    stage = family.stage(model=family.model(tmp_path), runtime=ON_CPU)
    done = apply(stage, read(stage, PAGES[0], bad, PAGES[1]))
    assert [one.key for one in done.records] == [0, 2]
    [failure] = done.failures
    assert failure.origin.offset == 1
    for one, vector in zip(
        done.records, open_model(stage.row, stage.kind, runtime=ON_CPU)(PAGES[:2]), strict=True
    ):
        same(one.vectors[stage.vector], vector)


def test_several_stages_write_side_by_side_in_one_window(
    entry_point: EntryPoint, tmp_path: Path
) -> None:
    stages = (
        LateStage(model=_late(tmp_path / "late"), runtime=ON_CPU),
        SparseStage(model=write_splade(tmp_path / "splade"), runtime=ON_CPU, vector="splade"),
        SparseStage(model=bm25(), vector="bm25"),
    )
    oks: Kept[Batch] = Kept()
    flow = Dataflow("hybrid")
    whole = read(stages[0], *TEXTS)
    source = op.input("in", flow, Lists({"all": [("k", whole)]}))
    split = run_stages("run", source, stages=stages)
    op.output("oks", split.oks, oks)
    entry_point(flow)
    for one in (one for some in oks.items for one in some.records):
        assert list(one.vectors) == ["late", "splade", "bm25"]
        assert list(one.models) == ["late", "splade", "bm25"]
    assert stages[0].space().dim == DIM


TEXT_STAGES: dict[str, Callable[[Path], Any]] = {
    "dense": lambda folder: DenseStage(
        model=row(write(folder), DenseText(pooling="mean", normalize=True)), runtime=ON_CPU
    ),
    "bm25": lambda _: SparseStage(model=bm25(), runtime=ON_CPU),
    "splade": lambda folder: SparseStage(model=write_splade(folder), runtime=ON_CPU),
    "late": lambda folder: LateStage(model=_late(folder), runtime=ON_CPU),
    "rerank": lambda folder: RerankStage(
        model=row(write_cross_encoder(folder), CrossEncoder(), dim=0), runtime=ON_CPU
    ),
}


@pytest.mark.parametrize("make", TEXT_STAGES.values(), ids=TEXT_STAGES)
def test_half_a_surrogate_pair_fails_its_record_alone(
    make: Callable[[Path], Any], tmp_path: Path
) -> None:
    stage = make(tmp_path)
    hits = tuple(Hit(id=n, score=1.0, payload={"text": text}) for n, text in enumerate(TEXTS))
    # As it comes out of JSON that was cut in the middle of an emoji.
    texts = [*TEXTS, "cut \ud83d", *TEXTS]
    records = tuple(replace(record(n, text), hits=hits) for n, text in enumerate(texts))
    done = apply(stage, Batch(records=records))
    assert [one.origin.offset for one in done.records] == [0, 1, 2, 3, 5, 6, 7, 8]
    [failed] = done.failures
    assert failed.origin.offset == 4
    assert failed.error_type == "fastembed_stream.errors.RowError"
    assert "half a surrogate pair, '\\ud83d', at character 4" in failed.reason
