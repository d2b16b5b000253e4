"""Decode, window, stage runner and points without a model, into a sink that only counts."""

from __future__ import annotations

from datetime import timedelta

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSource, run_main
from rich.table import Table

from operators import Batch, Identity, Schema, decode, run_stages, to_points, window
from tests.benchmarks.counting import CountingSink, messages
from tests.benchmarks.material import in_turn

__all__ = ["run"]

_N_RECORDS = 50_000
_ROUNDS = 5


def run() -> Table:
    """Measure records a second on one worker."""
    all_messages = messages(_N_RECORDS)

    def whole() -> None:
        sink = CountingSink()
        flow = Dataflow("plumbing")
        source = op.input("source", flow, TestingSource(all_messages, batch_size=256))
        records = decode("decode", source, schema=Schema())
        staged = run_stages("stages", window("window", records.oks), stages=(_untouched,))
        points = to_points("points", staged.oks, identity=Identity(collection="benchmark"))
        op.output("count", points.oks, sink)
        run_main(flow, epoch_interval=timedelta(seconds=1))  # type: ignore[no-untyped-call]  # Bytewax leaves it bare
        assert sink.n_points == _N_RECORDS, sink.n_points

    timing = in_turn({"plumbing": whole}, rounds=_ROUNDS)["plumbing"]
    table = Table("", "records/s", "rounds", title="Everything but the model, one worker")
    rate = f"{_N_RECORDS / timing.median:,.0f}"
    table.add_row("decode, window, stages, points", rate, timing.spread())
    return table


def _untouched(batch: Batch) -> Batch:
    return batch
