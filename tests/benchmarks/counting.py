"""A sink that only counts, and messages that cost nothing to make."""

from __future__ import annotations

import json

from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition
from typing_extensions import override

from operators import Message, Points
from operators.shards import shard_of, shard_parts

__all__ = ["CountingSink", "messages"]


class CountingSink(FixedPartitionedSink[Points, None]):
    """Counts points."""

    def __init__(self) -> None:
        self.n_points = 0

    @override
    def list_parts(self) -> list[str]:
        return shard_parts()

    @override
    def build_part(self, step_id: str, for_part: str, resume_state: None) -> _Counting:
        return _Counting(self)

    @override
    def part_fn(self, item_key: str) -> int:
        return shard_of(item_key)


class _Counting(StatefulSinkPartition[Points, None]):
    def __init__(self, sink: CountingSink) -> None:
        self._sink = sink

    @override
    def write_batch(self, values: list[Points]) -> None:
        self._sink.n_points += sum(map(len, values))

    @override
    def snapshot(self) -> None:
        return


def messages(n: int) -> list[Message]:
    """Make small JSON documents."""
    return [
        Message(
            topic="texts",
            partition=0,
            offset=number,
            key=f"key-{number}".encode(),
            value=json.dumps(
                {
                    "text": f"Document {number} says what an ordinary short document says.",
                    "lang": "en",
                    "year": 2026,
                }
            ).encode(),
            timestamp_ms=1_700_000_000_000 + number,
        )
        for number in range(n)
    ]
