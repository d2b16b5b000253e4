"""Results as lines of JSON in a file."""

from __future__ import annotations

import json
import logging
import math
import typing
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Generic, TypeAlias, TypeVar

from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition
from typing_extensions import override

from fastembed_stream.errors import SettingError
from fastembed_stream.values import SparseEmbedding
from operators.files.appending import LineFile
from operators.files.places import Place
from operators.metrics import RESULTS_WRITTEN
from operators.records import Batch, Record, Vector
from operators.shutdown import STOP

__all__ = ["JsonLinesSink", "described"]

_LOG = logging.getLogger(__name__)

X = TypeVar("X")

Describe: TypeAlias = typing.Callable[[X], typing.Iterable[Mapping[str, object]]]
"""The objects that are written for one item, a line each."""


class JsonLinesSink(FixedPartitionedSink[X, int], Generic[X]):
    """
    Results to a JSONL file, all workers' lines in one file, written by one of them.

    describe  what is written for an item: `described` for batches of records

    Delivery: a crash repeats nothing. The file's length is this sink's state: a resume cuts off
    what was written after the last commit, before that is written again. A flow that starts
    without state writes the file anew, since its source starts anew too: a file that is there is
    replaced with the first line. A full disk is waited out and holds the flow back. The file must
    not be moved or changed between crash and resume: one that is shorter fails the flow. What
    cannot be cut, such as a pipe or a device, is refused at the start.
    """

    def __init__(self, path: Path, describe: Describe[X]) -> None:
        self._path = path
        self._describe = describe
        self._check()

    @override
    def list_parts(self) -> list[str]:
        # Called while the workers start: a bad path fails before the first message is read.
        self._check()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.open("ab").close()
        except OSError as error:
            raise self._unwritable(str(error)) from error
        return ["lines"]

    @override
    def build_part(
        self, step_id: str, for_part: str, resume_state: int | None
    ) -> StatefulSinkPartition[X, int]:
        STOP.started = True
        file = LineFile(self._path, what="results", step_id=step_id)
        file.cut(resume_state or 0)
        return _Partition(file, self._describe, resume_state or 0)

    @override
    def part_fn(self, item_key: str) -> int:
        return 0

    def _check(self) -> None:
        try:
            place = Place.of(self._path)
        except OSError as error:
            raise self._unwritable(str(error)) from error
        if not place.is_file:
            why = f"it is {place.kind}, which a resume cannot cut"
            raise self._unwritable(why)

    def _unwritable(self, why: str) -> SettingError:
        msg = f"Results cannot be written to {self._path}: {why}. Choose another."
        return SettingError(msg)


class _Partition(StatefulSinkPartition[X, int], Generic[X]):
    def __init__(self, file: LineFile, describe: Describe[X], size: int) -> None:
        self._file = file
        self._describe = describe
        self._size = size

    @override
    def write_batch(self, values: list[X]) -> None:
        lines = [_line(one) for value in values for one in self._describe(value)]
        if lines:
            self._size = self._file.append(b"".join(lines))
            RESULTS_WRITTEN.inc(len(lines))

    @override
    def snapshot(self) -> int:
        return self._size


def described(batch: Batch) -> Iterator[dict[str, object]]:
    """Describe a batch's records: all but images, which only say how many bytes they have."""
    return map(_described, batch.records)


def _described(record: Record) -> dict[str, object]:
    origin = record.origin
    line: dict[str, object] = {
        "key": record.key,
        "topic": origin.topic,
        "partition": origin.partition,
        "offset": origin.offset,
        "fields": {name: _field(value) for name, value in record.fields.items()},
        "payload": record.payload,
        "vectors": {name: _plain(vector) for name, vector in record.vectors.items()},
    }
    if record.part is not None:
        line["part"] = asdict(record.part)
    if record.hits:
        line["hits"] = [asdict(hit) for hit in record.hits]
    return line


def _field(value: str | bytes) -> object:
    return value if isinstance(value, str) else {"size_bytes": len(value)}


def _plain(vector: Vector) -> object:
    if isinstance(vector, SparseEmbedding):
        return {"indices": vector.indices.tolist(), "values": vector.values.tolist()}
    return vector.tolist()


def _line(value: Mapping[str, object]) -> bytes:
    # What JSON does not know stands as text: one odd value must not stop the flow for ever.
    try:
        line = json.dumps(value, default=str, allow_nan=False)
    except ValueError:
        _LOG.warning("A number that JSON has not (NaN, Infinity) is written as text")
        line = json.dumps(_finite(value), default=str, allow_nan=False)
    return line.encode() + b"\n"


def _finite(value: object) -> object:
    """Put text where a number is none that JSON has; whoever reads the file could not read it."""
    match value:
        case float() if not math.isfinite(value):
            return str(value)
        case Mapping():
            return {str(name): _finite(one) for name, one in value.items()}
        case list() | tuple():
            return [_finite(one) for one in value]
        case _:
            return value
