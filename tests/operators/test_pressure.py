"""A source gives nothing while a step of its own worker is full."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from operators import Batch, Cluster, KafkaSource, StageLimits, pressure
from operators.stages import StageLogic
from tests.operators.kafka_things import fill, new_topic, values
from tests.operators.things import batch, wait_until


class Step:
    full = True


@pytest.fixture(autouse=True)
def _no_steps_of_other_tests() -> Iterator[None]:
    pressure.reset()
    yield
    pressure.reset()


def test_a_full_step_is_seen_by_its_own_worker_alone() -> None:
    step = Step()
    pressure.watch(step)
    seen = [pressure.saturated()]
    other = threading.Thread(target=lambda: seen.append(pressure.saturated()))
    other.start()
    other.join()
    step.full = False
    assert [*seen, pressure.saturated()] == [True, False, False]


def test_a_step_that_is_gone_or_forgotten_holds_nobody_back() -> None:
    gone = Step()
    pressure.watch(gone)
    del gone
    gc.collect()
    assert not pressure.saturated()
    old = Step()
    pressure.watch(old)
    pressure.reset()
    assert not pressure.saturated()


def test_a_source_waits_for_room_in_the_stages(brokers: str) -> None:
    topic = new_topic(brokers)
    fill(brokers, topic, range(5))
    part = KafkaSource(Cluster(brokers=brokers), [topic]).build_part("in", f"{topic}/0", None)
    first: Future[Batch] = Future()
    logic = StageLogic(lambda _: first, StageLimits(in_flight=1))
    logic.on_batch([batch(0)])
    assert [part.next_batch() for _ in range(20)] == [[]] * 20
    first.set_result(batch(0))
    logic.on_notify()
    found: list[int] = []

    def all_read() -> bool:
        found.extend(values(part.next_batch()))
        return len(found) == 5

    wait_until(all_read)
    assert found == list(range(5))
    part.close()
