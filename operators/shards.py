"""
Keys that keep an item on the worker that read it.

Bytewax routes a keyed item by a hash of its key. A worker that knows its own number can choose a
key that hashes to itself, so batches are neither pickled nor sent to another thread, and state
stays recoverable. Keys are few and fixed: recovery keeps a row for every key for ever.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import bytewax.operators as op
from bytewax.inputs import DynamicSource, StatelessSourcePartition
from typing_extensions import override

if TYPE_CHECKING:
    from bytewax.dataflow import Stream

__all__ = [
    "MOST_WORKERS",
    "Shard",
    "announce",
    "key_for_worker",
    "local_shard",
    "shard_of",
    "shard_parts",
]

MOST_WORKERS = 64
"""Workers of one cluster. Fixed, since a sink's partitions may never shrink between runs."""

_MASK = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Shard:
    """
    A worker's own place.

    worker     its number in the cluster, from 0
    n_workers  how many there are in this run
    key        a key that Bytewax routes to it
    """

    worker: int
    n_workers: int
    key: str


# By thread number, not threading.local: Bytewax's worker threads lose their locals between
# callbacks as soon as there is more than one worker.
_BY_THREAD: dict[int, Shard] = {}
_ALONE = Shard(0, 1, "00-0")


class _Beacon(DynamicSource[None]):
    """A source without items: the one place where Bytewax tells a worker's number."""

    @override
    def build(self, step_id: str, worker_index: int, worker_count: int) -> _Ended:
        del step_id
        key = key_for_worker(worker_index, worker_count)
        _BY_THREAD[threading.get_ident()] = Shard(worker_index, worker_count, key)
        return _Ended()


class _Ended(StatelessSourcePartition[None]):
    @override
    def next_batch(self) -> list[None]:
        raise StopIteration


def announce(step_id: str, up: Stream[object]) -> None:
    """Have every worker learn its shard before the first item; call it inside an operator."""
    # The flow as the operator sees it: what the `operator` decorator does for a Dataflow argument.
    flow = up.flow()._with_scope(up._scope)  # noqa: SLF001
    op.input(step_id, flow, _Beacon())


def local_shard() -> Shard:
    """Give the shard of the worker that runs this thread; without one announced, the first."""
    return _BY_THREAD.get(threading.get_ident(), _ALONE)


def shard_of(key: str) -> int:
    """Give the number of the worker that made a key, or a number made of a foreign key."""
    number, dash, _ = key.partition("-")
    if dash and len(number) == 2 and number.isdigit():  # noqa: PLR2004
        return int(number)
    return _siphash(key.encode()) % MOST_WORKERS


def shard_parts() -> list[str]:
    """
    List a sink's partitions that belong to this worker.

    The total is fixed, since partitions of a recovery store may never shrink; names sort by number.
    """
    shard = local_shard()
    return [f"{n:02d}" for n in range(MOST_WORKERS) if n % shard.n_workers == shard.worker]


@lru_cache
def key_for_worker(worker: int, n_workers: int) -> str:
    """
    Find a key that Bytewax routes to that worker.

    >>> key_for_worker(1, 2).startswith("01-")
    True
    """
    if n_workers > MOST_WORKERS:
        msg = f"At most {MOST_WORKERS} workers can share a flow; got {n_workers}."
        raise ValueError(msg)
    salt = 0
    while _siphash(f"{worker:02d}-{salt}".encode()) % n_workers != worker:
        salt += 1
    return f"{worker:02d}-{salt}"


def _rotated(value: int, bits: int) -> int:
    return ((value << bits) | (value >> (64 - bits))) & _MASK


def _siphash(text: bytes) -> int:
    """
    Hash as Rust's DefaultHasher does a str: SipHash-1-3 with a zero key over the bytes and 0xFF.

    Source: Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012.
    """
    data = text + b"\xff"
    state = [0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573]
    whole = len(data) - len(data) % 8
    words = [int.from_bytes(data[at : at + 8], "little") for at in range(0, whole, 8)]
    words.append(int.from_bytes(data[whole:], "little") | (len(data) & 0xFF) << 56)
    for word in words:
        state[3] ^= word
        _sip_round(state)
        state[0] ^= word
    state[2] ^= 0xFF
    for _ in range(3):
        _sip_round(state)
    return state[0] ^ state[1] ^ state[2] ^ state[3]


def _sip_round(state: list[int]) -> None:
    a, b, c, d = state
    a = (a + b) & _MASK
    b = _rotated(b, 13) ^ a
    a = _rotated(a, 32)
    c = (c + d) & _MASK
    d = _rotated(d, 16) ^ c
    a = (a + d) & _MASK
    d = _rotated(d, 21) ^ a
    c = (c + b) & _MASK
    b = _rotated(b, 17) ^ c
    c = _rotated(c, 32)
    state[:] = a, b, c, d
