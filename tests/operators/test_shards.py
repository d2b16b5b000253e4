"""A worker's key is routed by Bytewax to that worker, so nothing moves between threads."""

from __future__ import annotations

import threading
from collections import Counter

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.operators import StatefulBatchLogic
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import override

from operators import Batch, Schema, decode, shards
from operators.shards import (
    MOST_WORKERS,
    Shard,
    announce,
    key_for_worker,
    local_shard,
    shard_of,
    shard_parts,
)
from tests.operators.things import Kept, Lists, document, numbers, on_workers

ODD_KEYS = ["", "a", "Straße", "日本語", "x" * 1000, "7 bytes", "8 bytes.", "\x00", "🦀"]


class _Where(StatefulBatchLogic[str, tuple[str, int], None]):
    """Says on which worker each key has arrived."""

    @override
    def on_batch(self, values: list[str]) -> tuple[list[tuple[str, int]], bool]:
        return [(value, local_shard().worker) for value in values], False

    @override
    def snapshot(self) -> None:
        pass


def routed(keys: list[str], n_workers: int) -> dict[str, int]:
    """Ask Bytewax itself: the worker that each key goes to."""
    flow = Dataflow("routing")
    source = op.input("keys", flow, Lists({"all": [(key, key) for key in keys]}))
    announce("workers", source)
    placed = op.stateful_batch("place", source, lambda _: _Where())
    kept: Kept[tuple[str, int]] = Kept()
    op.output("out", placed, kept)
    on_workers(n_workers)(flow)
    return dict(kept.items)


@pytest.mark.parametrize("n_workers", [2, 3])
def test_the_hash_is_the_one_that_bytewax_routes_by(n_workers: int) -> None:
    keys = ODD_KEYS + [f"key-{number}" for number in range(60)]
    expected = {key: shards._siphash(key.encode()) % n_workers for key in keys}
    assert routed(keys, n_workers) == expected


@pytest.mark.parametrize("n_workers", [2, 3, 5])
def test_a_workers_key_goes_to_that_worker(n_workers: int) -> None:
    keys = [key_for_worker(worker, n_workers) for worker in range(n_workers)]
    assert routed(keys, n_workers) == {key: worker for worker, key in enumerate(keys)}


@given(st.integers(1, MOST_WORKERS))
def test_each_worker_has_a_key_of_its_own_that_names_it(n_workers: int) -> None:
    keys = [key_for_worker(worker, n_workers) for worker in range(n_workers)]
    assert len(set(keys)) == n_workers
    assert [shard_of(key) for key in keys] == list(range(n_workers))


def test_more_workers_than_a_sink_has_partitions_are_refused() -> None:
    with pytest.raises(ValueError, match="At most 64 workers can share a flow; got 65"):
        key_for_worker(0, MOST_WORKERS + 1)


@given(st.text())
def test_any_foreign_key_has_a_partition(key: str) -> None:
    assert 0 <= shard_of(key) < 100
    assert shard_of(key) == shard_of(key)


@pytest.mark.parametrize("n_workers", [1, 2, 3, 7, 63, 64])
def test_the_workers_share_all_partitions_and_each_belongs_to_one(
    monkeypatch: pytest.MonkeyPatch, n_workers: int
) -> None:
    listed: Counter[str] = Counter()
    for worker in range(n_workers):
        shard = Shard(worker, n_workers, key_for_worker(worker, n_workers))
        monkeypatch.setitem(shards._BY_THREAD, threading.get_ident(), shard)
        listed.update(shard_parts())
        own = sorted(listed)[shard_of(shard.key)] if n_workers == 1 else f"{worker:02d}"
        assert own in shard_parts()
    assert listed == Counter(f"{number:02d}" for number in range(MOST_WORKERS))


def test_records_stay_on_the_worker_that_read_them() -> None:
    read: dict[int, int] = {}
    kept: Kept[tuple[Batch, int]] = Kept()

    def see(message_: object) -> object:
        read[getattr(message_, "offset", -1)] = threading.get_ident()
        return message_

    class Place(StatefulBatchLogic[Batch, tuple[Batch, int], None]):
        @override
        def on_batch(self, values: list[Batch]) -> tuple[list[tuple[Batch, int]], bool]:
            return [(value, threading.get_ident()) for value in values], False

        @override
        def snapshot(self) -> None:
            pass

    flow = Dataflow("stay")
    lists = {f"p{part}": [document(10 * part + n) for n in range(5)] for part in range(4)}
    messages = op.map("see", op.input("in", flow, Lists(lists)), see)
    records = decode("decode", messages, schema=Schema())  # type: ignore[arg-type]  # see() is the identity
    op.output("out", op.stateful_batch("place", records.oks, lambda _: Place()), kept)
    on_workers(2)(flow)
    assert len(set(read.values())) == 2
    placed = {number: thread for batch, thread in kept.items for number in numbers([batch])}
    assert placed == read
