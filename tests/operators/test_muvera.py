"""A multivector becomes one vector beside it, made as the engine makes it."""

from __future__ import annotations

from typing import Any

import bytewax.operators as op
import numpy as np
import pytest
from bytewax.dataflow import Dataflow

from fastembed_stream import LATE_TEXT, Colbert, Model, Muvera, Runtime, open_model
from fastembed_stream.errors import SettingError
from operators import Batch, Failures, LateStage, MuveraStage, muvera
from operators.stages import apply
from tests.fastembed_stream.late_models import write_late
from tests.fastembed_stream.tiny_models import DIM, row
from tests.operators.things import EntryPoint, Kept, Lists, batch, floats, record

ON_CPU = Runtime(device="cpu", threads=1, token_budget=64)
SMALL: dict[str, Any] = {"k_sim": 2, "dim_proj": 4, "r_reps": 3}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = write_late(tmp_path_factory.mktemp("late"))
    return row(folder, Colbert(query_marker=1, document_marker=2), name="tests/late")


def stage_of(model: Model, *, as_query: bool = False, keep: bool = True) -> MuveraStage:
    late = LateStage(model=model, runtime=ON_CPU, as_query=as_query)
    return MuveraStage(of=late, keep=keep, **SMALL)


@pytest.mark.parametrize("as_query", [False, True])
def test_the_vector_is_that_of_the_engine(
    entry_point: EntryPoint,
    model: Model,
    as_query: bool,  # noqa: FBT001  a parameter of the test
) -> None:
    stage = stage_of(model, as_query=as_query)
    oks: Kept[Batch] = Kept()
    errs: Kept[Failures] = Kept()
    flow = Dataflow("muvera")
    source = op.input("in", flow, Lists({"all": [("k", batch(0, 1)), ("k", batch(2))]}))
    split = muvera("muvera", source, stage=stage)
    op.output("oks", split.oks, oks)
    op.output("errs", split.errs, errs)
    entry_point(flow)

    opened = open_model(model, LATE_TEXT, runtime=ON_CPU)
    encoder = Muvera(DIM, **SMALL)
    records = [one for some in oks.items for one in some.records]
    assert len(records) == 3
    assert errs.items == []
    for one in records:
        text = str(one.fields["text"])
        [late] = (opened.queries if as_query else opened.documents)([text])
        encode = encoder.process_query if as_query else encoder.process_document
        np.testing.assert_allclose(floats(one, "late"), late, atol=1e-5)
        np.testing.assert_allclose(floats(one, "muvera"), encode(late), atol=1e-4)


def test_a_multivector_that_is_not_kept_leaves_its_place_to_the_one_vector(model: Model) -> None:
    stage = stage_of(model, keep=False)
    [one] = apply(stage, apply(stage.of, batch(0))).records
    assert list(one.vectors) == list(one.models) == ["muvera"]


def test_the_space_says_what_it_is_made_of(model: Model) -> None:
    stage = stage_of(model)
    space = stage.space()
    assert (space.shape, space.dim, space.distance) == ("dense", 3 * 2**2 * 4, "dot")
    assert space.model == "MUVERA of tests/late"
    assert space.fingerprint == stage.open() != stage.of.open()
    assert MuveraStage(of=stage.of, **SMALL, random_seed=7).open() != stage.open()


def test_a_record_without_a_multivector_fails_with_what_to_do(model: Model) -> None:
    done = apply(stage_of(model), Batch(records=(record(1),)))
    assert done.records == ()
    [failure] = done.failures
    assert "no multivector 'late'; it has none. Run the stage that writes it" in failure.reason


def test_numbers_that_cannot_be_fail_while_the_flow_is_built(model: Model) -> None:
    late = LateStage(model=model)
    with pytest.raises(SettingError):
        MuveraStage(of=late, dim_proj=DIM + 1)
    with pytest.raises(SettingError, match="a vector of its own beside 'late'"):
        MuveraStage(of=late, vector="late")
