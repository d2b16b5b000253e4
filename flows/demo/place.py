"""What every demonstration stands on: a broker, a folder, and a flow that runs until it is done."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

from bytewax.dataflow import Dataflow
from bytewax.testing import run_main
from prometheus_client import REGISTRY
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)

from flows.demo.kept import store_in
from flows.ending import at_the_end
from flows.local_broker import create_topic, produce, running_broker
from flows.starting import leave_cores_to_the_lanes
from operators import STOP, BrokenFlowError, Server

__all__ = ["Place", "opened"]

_PARTITIONS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """
    A broker that runs, and a folder to write to.

    rerank_folder  where a cross-encoder's files are; None where there are none
    """

    console: Console
    folder: Path
    brokers: str
    rerank_folder: Path | None = None

    @property
    def store(self) -> Path:
        """Where collections are."""
        return store_in(self.folder)

    @property
    def dead_letters(self) -> Path:
        """Where failures go."""
        return self.folder / "dead_letters.jsonl"

    def send(self, topic: str, what: str, messages: Iterable[tuple[bytes, bytes]]) -> int:
        """Make a topic and fill it; give how many messages it has."""
        create_topic(self.brokers, topic, _PARTITIONS)
        n_sent = produce(self.brokers, topic, messages)
        line = f"{n_sent} {what} are in topic {topic!r} of a broker on {self.brokers}"
        self.console.print(line, markup=False)
        return n_sent

    def run(self, flow: Dataflow, what: str, done: Callable[[], float], n_expected: int) -> float:
        """
        Run a flow on this thread until so many are done, or have failed; give the seconds it took.

        done    counts what has come out of the flow; called by another thread
        raises  BrokenFlowError where it ended, or was ended, before that
        """
        STOP.reset()
        failed = _counted("stream_dead_letters_total")
        started = time.perf_counter()
        progress = _Watch(self.console, what, done, failed, n_expected)
        watcher = threading.Thread(target=progress.watch, daemon=True)
        watcher.start()
        try:
            run_main(flow, epoch_interval=timedelta(seconds=1))  # type: ignore[no-untyped-call]  # Bytewax leaves it bare
        finally:
            STOP.request()
            watcher.join()
        seconds = time.perf_counter() - started
        if (n_done := int(done())) < n_expected:
            msg = f"Stopped after {n_done} of {n_expected}; {int(failed())} failed."
            raise BrokenFlowError(msg)
        return seconds

    def fill(self, flow: Dataflow, collection: str, what: str, n_sent: int) -> None:
        """Run a flow until all that was sent is searchable, and say how fast that went."""
        written = _counted("stream_points_written_total")
        seconds = self.run(flow, "embedding", written, n_sent)
        self.console.print(
            f"{n_sent} points in collection {collection!r} in {seconds:.1f} s: "
            f"{n_sent / seconds:.0f} {what} a second, from the topic to the collection",
            markup=False,
        )


def opened(
    stack: ExitStack, console: Console, keep: Path | None, rerank_folder: Path | None
) -> Place:
    """
    Start the broker; it ends with the stack, and so does a folder that is not kept.

    raises  SettingError where the package that carries the broker is not installed
    """
    leave_cores_to_the_lanes()
    folder = keep or _passing_folder(stack)
    folder.mkdir(parents=True, exist_ok=True)
    stack.callback(Server(path=store_in(folder)).close)
    brokers = stack.enter_context(running_broker())
    return Place(console=console, folder=folder, brokers=brokers, rerank_folder=rerank_folder)


def _passing_folder(stack: ExitStack) -> Path:
    folder = tempfile.mkdtemp(prefix="fastembed-stream-demo-")
    stack.enter_context(at_the_end(partial(shutil.rmtree, folder, ignore_errors=True)))
    return Path(folder)


@dataclass(frozen=True, slots=True)
class _Watch:
    """A bar that moves, and the end of the flow once it is full."""

    console: Console
    what: str
    done: Callable[[], float]
    failed: Callable[[], float]
    n_expected: int

    def watch(self) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:.0f}/s"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self.console) as progress:
            task = progress.add_task(self.what, total=self.n_expected, rate=0.0)
            started = time.perf_counter()
            while not STOP.requested:
                n_done = self.done()
                rate = n_done / max(time.perf_counter() - started, 1e-9)
                progress.update(task, completed=n_done, rate=rate)
                if n_done + self.failed() >= self.n_expected:
                    STOP.request()
                STOP.wait(0.1)


def _counted(metric: str) -> Callable[[], float]:
    """Give what tells how much a counter has grown since now."""

    def value() -> float:
        return REGISTRY.get_sample_value(metric) or 0.0

    before = value()
    return lambda: value() - before
