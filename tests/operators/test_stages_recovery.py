"""A crash repeats the batches in flight and loses none; a hung one does not keep a process."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig
from bytewax.testing import TestingSource

from operators import Batch, StageLimits, run_stages
from tests.operators.things import NO_TIME, Crash, Kept, Lists, batch, numbers, on_workers

Item = tuple[str, Batch]

HANGING = """
import threading
import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.testing import run_main
from operators import StageLimits, run_stages
from tests.operators.things import Kept, Lists, batch

flow = Dataflow("hanging")
source = op.input("in", flow, Lists({"all": [("k", batch(0))]}))
hang = lambda _: threading.Event().wait()
split = run_stages("run", source, stages=[hang], limits=StageLimits(batch_timeout_s=0.1))
op.output("oks", split.oks, Kept())
run_main(flow)
"""


def held(
    source: Lists[Item] | TestingSource[Item], go: threading.Event, seen: list[int]
) -> tuple[Dataflow, Kept[Batch], list[int]]:
    """Build a flow whose batches stay in flight until `go`; what was started is told."""
    started: list[int] = []

    def hold(one: Batch) -> Batch:
        started.extend(numbers([one]))
        go.wait(5)
        return one

    def see(item: Item) -> Item:
        seen.extend(numbers([item[1]]))
        return item

    kept: Kept[Batch] = Kept()
    flow = Dataflow("held")
    batches = op.map("see", op.input("in", flow, source), see)
    split = run_stages("run", batches, stages=[hold], limits=StageLimits(in_flight=4))
    op.output("oks", split.oks, kept)
    return flow, kept, started


def test_batches_in_flight_survive_an_abort(recovery_config: RecoveryConfig) -> None:
    items: list[Any] = [("k", batch(0)), ("k", batch(1)), TestingSource.ABORT(), ("k", batch(2))]
    go = threading.Event()
    flow, first, _ = held(TestingSource(items), go, [])
    on_workers(0)(flow, epoch_interval=NO_TIME, recovery_config=recovery_config)
    go.set()
    flow, second, _ = held(TestingSource(items), go, [])
    on_workers(0)(flow, epoch_interval=NO_TIME, recovery_config=recovery_config)
    assert first.items == []
    assert numbers(second.items)[-1] == 2
    assert set(numbers(second.items)) == {0, 1, 2}


def test_batches_in_flight_survive_crashes_and_other_numbers_of_workers(
    recovery_config: RecoveryConfig,
) -> None:
    items: dict[str, list[Item | Crash]] = {
        "a": [("k0", batch(0)), ("k0", batch(1)), Crash(), ("k0", batch(2)), Crash()],
        "b": [("k1", batch(10)), ("k1", batch(11))],
    }
    left: list[int] = []
    seen: list[list[int]] = []
    for n_workers in (1, 2, 1):
        seen.append([])
        go = threading.Event()
        if len(seen) == 3:
            go.set()
        flow, kept, started = held(Lists(items), go, seen[-1])
        try:
            on_workers(n_workers)(flow, epoch_interval=NO_TIME, recovery_config=recovery_config)
        except RuntimeError:
            assert len(seen) < 3
        finally:
            go.set()
        left += numbers(kept.items)
        assert set(numbers(kept.items)) <= set(started)
    assert set(left) == {0, 1, 2, 10, 11}
    assert 0 in seen[0]
    assert 0 not in seen[1] + seen[2], "the source has gone on: the step itself has kept it"


def test_a_process_whose_batch_hangs_fails_and_ends() -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", HANGING]
    ended = subprocess.run(
        command, cwd=root, capture_output=True, text=True, timeout=30, check=False
    )
    assert ended.returncode == 1
    assert "is not done after" in ended.stderr
