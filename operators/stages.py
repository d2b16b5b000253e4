"""
Stages over batches, off the worker's thread, in order.

A stage is a callable `Batch -> Batch`; several compose into a tuple. ONNX Runtime, tokenizers and
network calls release the GIL, so a batch in its stages costs the worker nothing, and the lanes of
the engine see the next batch before the last one is done.
"""

from __future__ import annotations

import logging
import threading
import time
import typing
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, wait
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TypeAlias

import bytewax.operators as op
from bytewax.dataflow import operator
from bytewax.operators import StatefulBatchLogic
from tenacity import (
    RetryCallState,
    Retrying,
    before_sleep_log,
    retry_if_exception,
    wait_random_exponential,
)
from typing_extensions import override

from fastembed_stream.errors import DeviceError, FastembedStreamError, RowError, SettingError
from fastembed_stream.threads import Threads
from operators.clocks import wall
from operators.decoding import split
from operators.metrics import BATCH_SECONDS, FAILURES, IN_FLIGHT, RETRIES
from operators.outages import BrokenFlowError, is_os_outage
from operators.pressure import watch
from operators.records import Batch, Batches, Failure, Split, one_for_each_message
from operators.shutdown import STOP
from operators.under_way import UNDER_WAY, Suspect, UnfinishedError

__all__ = ["Stage", "StageLimits", "StageLogic", "apply", "is_outage", "run_stages"]

_LOG = logging.getLogger(__name__)

Stage: TypeAlias = Callable[[Batch], Batch]
"""
One step over a batch: records in the same order with more on them, failures for those that fail.

It may raise for the whole batch; the runner then finds the guilty record. One that waits out
outages by itself says so by an attribute `waits_out_outages = True`: no record is to blame for how
long that takes.
"""

# typing's own name: on CPython 3.10 one of collections.abc reads as a class, where Bytewax trips.
Stages: TypeAlias = typing.Sequence[Stage]
"""Stages that run one after another over each batch."""

_POLL = timedelta(milliseconds=2)
_SLICE_S = 0.05
"""A wait looks so often for a request to stop."""

_LEAST_RECORD_ATTEMPTS = 2

_MOST_WAITING = 8
"""Batches that may wait for each that runs, before the whole worker waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageLimits:
    """
    How batches run.

    in_flight        batches that run at once in a process; more than one keeps the lanes full
    batch_timeout_s  seconds after which a batch counts as hung and the flow fails
    attempts         tries in an outage before the flow fails, to be restarted from its commit
    record_attempts  ends of the flow in a row with the same record in a stage, before that record
                     fails; it is alone there at all of them but the first, so at least 2. Needs
                     `UNDER_WAY`
    """

    in_flight: int = 3
    batch_timeout_s: float = 600.0
    attempts: int = 5
    record_attempts: int = 5

    def __post_init__(self) -> None:
        for name in ("in_flight", "batch_timeout_s", "attempts", "record_attempts"):
            if getattr(self, name) <= 0:
                msg = f"StageLimits({name}={getattr(self, name)}): expected more than 0."
                raise SettingError(msg)
        if self.record_attempts < _LEAST_RECORD_ATTEMPTS:
            msg = (
                f"StageLimits(record_attempts={self.record_attempts}): expected at least "
                f"{_LEAST_RECORD_ATTEMPTS}: at the first end others were under way too."
            )
            raise SettingError(msg)


@operator
def run_stages(
    step_id: str,
    up: Batches,
    *,
    stages: Stages,
    limits: StageLimits = StageLimits(),
) -> Split:
    """
    Run a tuple of stages over each batch, several batches at once, results in order.

    Delivery: the inputs in flight are this step's state. A crash runs them again and loses none;
    a repeat gives the same vectors. A record that fails leaves on `errs` while its neighbours go
    on; an outage is tried again and then fails the flow, which resumes from its last commit. A
    record that hangs, or ends the process, runs alone after the next start, and leaves on `errs`
    once it has done so several times in a row; see `UNDER_WAY`.
    """
    workshop = _Workshop(tuple(stages), limits, step_id)
    pieces = partial(UNDER_WAY.pieces, step_id)

    def build(unfinished: tuple[Batch, ...] | None) -> StageLogic:
        return StageLogic(workshop.submit, limits, unfinished or (), pieces)

    return split("split", op.stateful_batch("run", up, build))


def is_outage(error: BaseException) -> bool:
    """
    Tell what is wrong with the world rather than with a record: tried again, never dead-lettered.

    Of the operating system's errors only those are that no record can cause: a file that is not
    there or is no image is the fault of the record that names it.
    """
    match error:
        case DeviceError() | MemoryError() | ConnectionError() | TimeoutError():
            return True
        case FutureTimeoutError():  # on Python 3.10 not yet the same as the one above
            return True
        case OSError():
            return is_os_outage(error)
        case _:
            return False


def apply(stage: Stage, batch: Batch) -> Batch:
    """
    Run one stage; where it raises, halve the batch until the guilty record stands alone.

    raises  outages, and errors that this project raises on purpose, such as a model that cannot
            be opened: no record's fault
    """
    if not batch.records:
        return batch
    try:
        done = stage(Batch(records=batch.records))
    except Exception as error:  # the border that turns an error into a Failure
        if is_outage(error) or _is_no_records_fault(error):
            raise
        if len(batch.records) > 1:
            half = len(batch.records) // 2
            first = apply(stage, Batch(records=batch.records[:half]))
            second = apply(stage, Batch(records=batch.records[half:]))
            done = Batch(
                records=first.records + second.records, failures=first.failures + second.failures
            )
        else:
            name = _name(stage)
            _LOG.debug("stage %s refused a record", name, exc_info=error)
            FAILURES.labels(name).inc()
            done = Batch(records=(), failures=(Failure.of(batch.records[0].origin, name, error),))
    return Batch(records=done.records, failures=batch.failures + done.failures)


def _is_no_records_fault(error: Exception) -> bool:
    """Tell a model that cannot be opened, or a wrong setting, from what a record brought along."""
    return isinstance(error, FastembedStreamError) and not isinstance(error, RowError)


def _name(stage: Stage) -> str:
    return str(getattr(stage, "name", None) or getattr(stage, "__name__", type(stage).__name__))


class _Workshop:
    """The threads of one step, shared by the workers of a process and started at first use."""

    def __init__(self, stages: tuple[Stage, ...], limits: StageLimits, step: str = "") -> None:
        self._stages = stages
        self._limits = limits
        self._step = step
        self._lock = threading.Lock()
        self._threads: Threads | None = None
        self._retrying = Retrying(
            retry=retry_if_exception(is_outage),
            wait=wait_random_exponential(multiplier=0.5, max=30),
            stop=self._enough,
            sleep=_nap,
            before_sleep=before_sleep_log(_LOG, logging.WARNING),
            after=lambda _: RETRIES.labels("stages").inc(),
            reraise=True,
        )

    def _enough(self, state: RetryCallState) -> bool:
        return STOP.overdue or state.attempt_number >= self._limits.attempts

    def submit(self, batch: Batch) -> Future[Batch]:
        with self._lock:
            if self._threads is None:
                self._threads = Threads(self._limits.in_flight, "stages")
            suspect = UNDER_WAY.suspect(self._step, batch)
            if suspect is not None and suspect.n_ends >= self._limits.record_attempts:
                return self._threads.submit(partial(_unfinished_so_often, suspect), batch)
            number = UNDER_WAY.place_in_line(alone=suspect is not None)
            return self._threads.submit(partial(self._run, suspect, number), batch)

    def _run(self, suspect: Suspect | None, number: int, batch: Batch) -> Batch:
        if suspect is not None:
            _LOG.warning("%s; it runs alone now", _told(batch, suspect))
        with UNDER_WAY.turn(number):
            done = self._through_stages(batch)
        if suspect is not None:
            UNDER_WAY.cleared(self._step, batch)
        return Batch(records=done.records, failures=one_for_each_message(done.failures))

    def _through_stages(self, batch: Batch) -> Batch:
        with BATCH_SECONDS.time(), IN_FLIGHT.track_inprogress():
            for stage in self._stages:
                batch = self._retrying(self._apply, stage, batch)
        return batch

    def _apply(self, stage: Stage, batch: Batch) -> Batch:
        # Not while it waits out an outage: that the flow ends then is nobody's fault.
        if getattr(stage, "waits_out_outages", False):
            return apply(stage, batch)
        with UNDER_WAY.entered(self._step, _name(stage), batch.records):
            return apply(stage, batch)


class StageLogic(StatefulBatchLogic[Batch, Batch, tuple[Batch, ...]]):
    """
    The batches of one worker that are under way, first in, first out.

    submit  starts a batch elsewhere
    pieces  parts a batch into what must not run together
    """

    def __init__(
        self,
        submit: Callable[[Batch], Future[Batch]],
        limits: StageLimits,
        unfinished: tuple[Batch, ...] = (),
        pieces: Callable[[Batch], list[Batch]] = lambda batch: [batch],
    ) -> None:
        self._submit = submit
        self._pieces = pieces
        self._limits = limits
        self._flying: deque[tuple[Batch, Future[Batch]]] = deque()
        self._first_since = time.monotonic()
        STOP.started = True
        watch(self)
        for batch in unfinished:
            self._start(batch)

    @property
    def full(self) -> bool:
        """Tell the source that as many batches are under way as may run at once."""
        return len(self._flying) >= self._limits.in_flight

    @override
    def on_batch(self, values: list[Batch]) -> tuple[list[Batch], bool]:
        done: list[Batch] = []
        for batch in values:
            # A source that heeds `full` never gets here; any other is held back by waiting.
            while len(self._flying) >= _MOST_WAITING * self._limits.in_flight:
                done.append(self._land())
            self._start(batch)
        return done + self._landed(), not self._flying

    @override
    def on_notify(self) -> tuple[list[Batch], bool]:
        return self._landed(), not self._flying

    @override
    def on_eof(self) -> tuple[list[Batch], bool]:
        return [self._land() for _ in range(len(self._flying))], True

    @override
    def notify_at(self) -> datetime | None:
        return wall() + _POLL if self._flying else None

    @override
    def snapshot(self) -> tuple[Batch, ...]:
        return tuple(batch for batch, _ in self._flying)

    def _start(self, batch: Batch) -> None:
        if not self._flying:
            self._first_since = time.monotonic()
        self._flying += [(piece, self._submit(piece)) for piece in self._pieces(batch)]

    def _landed(self) -> list[Batch]:
        """Give the batches that are done, up to the first that is not."""
        done: list[Batch] = []
        while self._flying and self._flying[0][1].done():
            done.append(self._land())
        # A full step is asked only here: its source gives nothing, so no batch comes to wait for.
        if self._flying and time.monotonic() - self._first_since > self._limits.batch_timeout_s:
            raise self._hung(self._flying[0][0])
        return done

    def _land(self) -> Batch:
        """Wait for the oldest batch; its error, if any, is the flow's."""
        batch, future = self._flying.popleft()
        until = time.monotonic() + self._limits.batch_timeout_s
        while not wait((future,), _SLICE_S).done:
            if STOP.overdue:
                raise _unfinished(batch)
            if time.monotonic() > until:
                raise self._hung(batch)
        self._first_since = time.monotonic()
        return future.result()

    def _hung(self, batch: Batch) -> DeviceError:
        UNDER_WAY.keep()
        return DeviceError(
            f"A batch of {len(batch.records)} records is not done after "
            f"{self._limits.batch_timeout_s:.0f} s: a device or a server hangs. The flow "
            "fails, to be restarted from its last commit."
        )


def _unfinished(batch: Batch) -> BrokenFlowError:
    return BrokenFlowError(
        f"A batch of {len(batch.records)} records is not done, and the time to drain is over. "
        "They are repeated on resume."
    )


def _unfinished_so_often(suspect: Suspect, batch: Batch) -> Batch:
    """Give up a record that ends the flow whenever it runs."""
    FAILURES.labels(suspect.stage).inc(len(batch.records))
    error = UnfinishedError(
        f"{_told(batch, suspect)}: it hangs, or it ends the process. It is not tried again."
    )
    _LOG.error("%s", error)
    failures = tuple(Failure.of(one.origin, suspect.stage, error) for one in batch.records)
    return Batch(records=(), failures=batch.failures + one_for_each_message(failures))


def _told(batch: Batch, suspect: Suspect) -> str:
    origin = batch.records[0].origin
    return (
        f"The record at offset {origin.offset} of {origin.topic}/{origin.partition} was in stage "
        f"{suspect.stage!r} at the last {suspect.n_ends} ends of the flow"
    )


def _nap(seconds: float) -> None:
    STOP.nap(seconds)
