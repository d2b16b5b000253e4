"""What the tests of operators share: messages, records, a source that can crash, a keeping sink."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import cluster_main, run_main
from numpy.typing import NDArray
from typing_extensions import override

from operators import Batch, Failure, Message, Record

X = TypeVar("X")

NO_TIME = timedelta(0)
"""An epoch for each batch."""


class EntryPoint(Protocol):
    """One of Bytewax' ways to run a flow in this process."""

    def __call__(
        self,
        flow: Dataflow,
        *,
        epoch_interval: timedelta | None = None,
        recovery_config: RecoveryConfig | None = None,
    ) -> None: ...


def on_workers(n_workers: int) -> EntryPoint:
    """Run flows on so many threads of this process; 0 is this thread alone."""

    def run(
        flow: Dataflow,
        *,
        epoch_interval: timedelta | None = None,
        recovery_config: RecoveryConfig | None = None,
    ) -> None:
        how = {"epoch_interval": epoch_interval, "recovery_config": recovery_config}
        if n_workers == 0:
            run_main(flow, **how)  # type: ignore[no-untyped-call]  # Bytewax has no types here
        else:
            cluster_main(flow, [], 0, worker_count_per_proc=n_workers, **how)  # type: ignore[no-untyped-call]  # Bytewax has no types here

    return run


def store(folder: Path) -> RecoveryConfig:
    """Make a recovery store of two partitions."""
    folder.mkdir()
    init_db_dir(folder, 2)  # type: ignore[no-untyped-call]  # Bytewax has no types here
    return RecoveryConfig(str(folder), timedelta(0))  # type: ignore[no-untyped-call]  # Bytewax has no types here


def message(value: bytes | None = b"{}", **told: Any) -> Message:
    """Make a message; what is not told is the same for all."""
    where = {"topic": "docs", "partition": 0, "offset": 0, "key": b"k"}
    return Message(**{**where, "value": value, **told})


def document(number: int, **fields: object) -> Message:
    """Make a message of a good document."""
    content = {"text": f"text {number}", "n": number, **fields}
    return message(json.dumps(content).encode(), key=f"k{number}".encode(), offset=number)


def record(number: int, text: str | None = None) -> Record:
    """Make a record whose offset is its number."""
    return Record(
        key=f"k{number}",
        fields={"text": f"text {number}" if text is None else text},
        payload={"n": number},
        origin=message(offset=number, key=f"k{number}".encode()),
    )


def batch(*numbers: int) -> Batch:
    """Make a batch of such records."""
    return Batch(records=tuple(map(record, numbers)))


def failure(number: int) -> Failure:
    """Make a failure whose offset is its number."""
    origin = message(b"bad", offset=number, timestamp_ms=1_700_000_000_000, headers=(("h", b"v"),))
    return Failure(
        origin=origin, stage="decode", error_type="x.BadError", reason="bad", traceback="at x"
    )


def numbers(batches: Iterable[Batch]) -> list[int]:
    """Give the offsets of all records, in order."""
    return [record.origin.offset for batch in batches for record in batch.records]


def failed(failures: Iterable[Sequence[Failure]]) -> list[int]:
    """Give the offsets of all failures, in order."""
    return [failure.origin.offset for some in failures for failure in some]


def wait_until(truth: Callable[[], object], within_s: float = 10.0) -> None:
    """Wait for a condition; a test that waits in vain fails here."""
    until = time.monotonic() + within_s
    while not truth():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.01)


class CrashError(RuntimeError):
    """What a source raises in the middle of a run."""


class Crash:
    """Among a source's items: the run ends here with an error, once."""

    def __init__(self, when: Callable[[], object] = lambda: True) -> None:
        self.when = when
        self.happened = False


class Lists(FixedPartitionedSource[X, int]):
    """Some lists, a source partition each, one item a poll; the place in each is kept."""

    def __init__(self, lists: Mapping[str, Sequence[X | Crash]]) -> None:
        self._lists = lists

    @override
    def list_parts(self) -> list[str]:
        return list(self._lists)

    @override
    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> _List[X]:
        return _List(self._lists[for_part], resume_state or 0)


class _List(StatefulSourcePartition[X, int]):
    def __init__(self, items: Sequence[X | Crash], start: int) -> None:
        self._items = items
        self._at = start

    @override
    def next_batch(self) -> list[X]:
        if self._at == len(self._items):
            raise StopIteration
        item = self._items[self._at]
        if isinstance(item, Crash):
            if item.happened:
                self._at += 1
            elif item.when():
                item.happened = True
                raise CrashError
            return []
        self._at += 1
        return [item]

    @override
    def snapshot(self) -> int:
        return self._at


class Kept(FixedPartitionedSink[X, None], Generic[X]):
    """Keeps what it is given: what one `items` has is safe, since Bytewax counts fixed sinks."""

    def __init__(self) -> None:
        self.items: list[X] = []

    @override
    def list_parts(self) -> list[str]:
        return ["kept"]

    @override
    def build_part(self, step_id: str, for_part: str, resume_state: None) -> _Keeping[X]:
        return _Keeping(self.items)


class _Keeping(StatefulSinkPartition[X, None]):
    def __init__(self, items: list[X]) -> None:
        self._items = items

    @override
    def write_batch(self, values: list[X]) -> None:
        self._items += values

    @override
    def snapshot(self) -> None:
        pass


def floats(one: Record, name: str) -> NDArray[np.float32]:
    """Give a record's vector of that name, which is no sparse one."""
    vector = one.vectors[name]
    assert isinstance(vector, np.ndarray)
    return vector
