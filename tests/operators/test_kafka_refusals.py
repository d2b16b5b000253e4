"""What a broker says to a message: an outage is waited out, a refusal is that message's alone."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError

from operators import STOP, BrokenFlowError, DeadLetterFile, Outgoing
from operators.kafka import sink
from operators.kafka.refusals import Verdict, judge
from operators.kafka.sink import KafkaSink, SinkPartition, _AnsweringPartition, _Outbox
from operators.metrics import RESULTS_WRITTEN
from tests.operators.things import message

TOO_LARGE = KafkaError.MSG_SIZE_TOO_LARGE
NO_RIGHT = KafkaError.TOPIC_AUTHORIZATION_FAILED
DELETED = KafkaError.UNKNOWN_TOPIC_OR_PART

Answer = Callable[[Sequence[bytes]], int | None]
"""What a broker says to a batch: the code of an error, or nothing."""


class Broker:
    """Keeps what it takes, and answers when a producer is flushed."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.taken: list[bytes] = []
        self.batches: list[list[bytes]] = []

    def producer(self, *, alone: bool = False) -> Any:
        return Producing(self, alone=alone)


class Producing:
    def __init__(self, broker: Broker, *, alone: bool) -> None:
        self._broker = broker
        self._alone = alone
        self._waiting: list[tuple[bytes, Callable[[KafkaError | None, Any], None]]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def produce(self, topic: str, *, value: bytes, on_delivery: Any, **_: object) -> None:
        del topic
        self._waiting.append((value, on_delivery))

    def poll(self, _: float) -> int:
        return 0

    def flush(self, timeout: float) -> int:
        assert timeout > 0
        waiting, self._waiting = self._waiting, []
        batches = [[one] for one in waiting] if self._alone else [waiting]
        for batch in filter(None, batches):
            values = [value for value, _ in batch]
            self._broker.batches.append(values)
            code = self._broker.answer(values)
            if code is None:
                self._broker.taken += values
            for _, heard in batch:
                heard(None if code is None else KafkaError(code), None)
        return 0


def partition(broker: Broker, instead: Any = None) -> SinkPartition:
    return SinkPartition(outbox(broker), "flow.out", instead)


def outbox(broker: Broker) -> _Outbox:
    return _Outbox(broker.producer(), lambda: broker.producer(alone=True))


def messages(*values: bytes) -> tuple[Outgoing, ...]:
    return tuple(
        Outgoing(topic="out", key=None, value=value, origin=message(b"q" + value))
        for value in values
    )


def larger_than(limit: int) -> Answer:
    return lambda batch: TOO_LARGE if sum(map(len, batch)) > limit else None


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    slept: list[float] = []
    monkeypatch.setattr(sink, "_nap", slept.append)
    return slept


def test_a_batch_that_is_refused_is_sent_one_by_one_before_anyone_is_blamed() -> None:
    broker = Broker(larger_than(5))
    part = partition(broker)
    part.write_batch([messages(b"aaa", b"bbb", b"ccc")])
    part.snapshot()
    assert broker.taken == [b"aaa", b"bbb", b"ccc"]


def test_what_is_refused_alone_is_asked_about_and_what_is_given_instead_is_sent() -> None:
    broker = Broker(larger_than(5))
    asked: list[bytes | None] = []

    def shorter(refused: Outgoing, error: KafkaError) -> Outgoing:
        assert error.code() == TOO_LARGE
        asked.append(refused.value)
        [one] = messages((refused.value or b"")[:-2])
        return one

    part = partition(broker, shorter)
    part.write_batch([messages(b"a", b"b" * 9, b"c")])
    part.snapshot()
    assert asked == [b"b" * 9, b"b" * 7]
    assert sorted(broker.taken) == [b"a", b"bbbbb", b"c"]


def test_a_message_that_is_refused_alone_ends_a_flow_that_has_no_place_for_it() -> None:
    part = partition(Broker(larger_than(5)))
    part.write_batch([messages(b"a", b"b" * 9)])
    with pytest.raises(BrokenFlowError, match=r"first: out: .*TOO_L"):
        part.snapshot()


def test_an_answer_that_is_refused_is_a_failure_of_its_question(tmp_path: Path) -> None:
    broker, file = Broker(larger_than(5)), tmp_path / "dead.jsonl"
    letters = DeadLetterFile(file).build_part("out", "00", None)
    part = _AnsweringPartition(outbox(broker), "flow.out", letters)
    before = RESULTS_WRITTEN._value.get()
    part.write_batch([messages(b"a", b"b" * 9, b"c")])
    part.snapshot()
    part.close()
    assert sorted(broker.taken) == [b"a", b"c"]
    assert RESULTS_WRITTEN._value.get() - before == 2
    [line] = [json.loads(line) for line in file.read_bytes().splitlines()]
    assert (line["value"], line["stage"]) == ("q" + "b" * 9, "kafka")
    assert "Kafka topic out refuses the message" in line["reason"]


def test_rights_that_are_missing_are_waited_for_and_nothing_is_asked(
    naps: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    refusals = iter([NO_RIGHT] * 5)
    broker = Broker(lambda _: next(refusals, None))
    part = partition(broker, lambda *_: pytest.fail("an outage is nobody's fault"))
    part.write_batch([messages(b"a", b"b")])
    with caplog.at_level(logging.WARNING, "operators.kafka.sink"):
        part.snapshot()
    assert sorted(broker.taken) == [b"a", b"b"]
    assert naps == sorted(naps)
    assert all("Kafka did not take" in line for line in caplog.messages)


def test_a_refusal_after_an_outage_is_still_told_apart(naps: list[float]) -> None:
    outage = iter([NO_RIGHT])
    broker = Broker(lambda batch: next(outage, None) or larger_than(5)(batch))
    settled: list[bytes | None] = []
    part = partition(broker, lambda refused, _: settled.append(refused.value))
    part.write_batch([messages(b"a", b"b" * 9)])
    part.snapshot()
    assert (broker.taken, settled, len(naps)) == ([b"a"], [b"b" * 9], 1)


def test_an_outage_that_outlasts_the_time_to_drain_ends_the_flow(
    naps: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    part = partition(Broker(lambda _: NO_RIGHT))
    part.write_batch([messages(b"a")])
    monkeypatch.setattr(STOP, "drain_s", 0.0)
    STOP.request()
    with pytest.raises(BrokenFlowError, match=r"has not taken 1 messages.*time to drain"):
        part.snapshot()
    assert naps == []


def test_a_topic_that_is_gone_ends_the_flow_and_settles_nothing() -> None:
    part = partition(Broker(lambda _: DELETED), lambda *_: pytest.fail("not the message's fault"))
    part.write_batch([messages(b"a", b"b")])
    with pytest.raises(BrokenFlowError, match="Kafka refused 2 messages, the first: out: "):
        part.snapshot()


def test_an_error_of_the_producer_itself_is_no_refusal_whatever_its_code() -> None:
    assert judge(KafkaError(TOO_LARGE, "no", fatal=True)) is Verdict.BROKEN


@pytest.mark.parametrize(
    ("verdict", "names"),
    [
        (
            Verdict.REFUSED,
            (
                "MSG_SIZE_TOO_LARGE RECORD_LIST_TOO_LARGE INVALID_RECORD INVALID_TIMESTAMP "
                "POLICY_VIOLATION INVALID_MSG INVALID_MSG_SIZE UNSUPPORTED_FOR_MESSAGE_FORMAT "
                "_INVALID_DIFFERENT_RECORD"
            ),
        ),
        (
            Verdict.PASSES,
            (
                "NOT_ENOUGH_REPLICAS NOT_ENOUGH_REPLICAS_AFTER_APPEND LEADER_NOT_AVAILABLE "
                "NOT_LEADER_FOR_PARTITION REQUEST_TIMED_OUT _TRANSPORT _ALL_BROKERS_DOWN "
                "TOPIC_AUTHORIZATION_FAILED CLUSTER_AUTHORIZATION_FAILED _AUTHENTICATION "
                "SASL_AUTHENTICATION_FAILED KAFKA_STORAGE_ERROR NETWORK_EXCEPTION "
                "THROTTLING_QUOTA_EXCEEDED"
            ),
        ),
        (Verdict.BROKEN, "UNKNOWN UNKNOWN_TOPIC_OR_PART _UNKNOWN_PARTITION _FATAL _PURGE_QUEUE"),
    ],
)
def test_each_code_is_judged(verdict: Verdict, names: str) -> None:
    found = {name: judge(KafkaError(getattr(KafkaError, name))) for name in names.split()}
    assert set(found.values()) == {verdict}, found


def test_one_by_one_is_not_undone_by_an_option_of_the_user(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from operators import Cluster

    options = {"batch.num.messages": "500", "linger.ms": "100", "compression.type": "lz4"}
    made: list[dict[str, object]] = []
    monkeypatch.setattr(Cluster, "producer", lambda self, own: made.append({**own, **self.options}))
    sink._one_by_one(Cluster(brokers="a:1", options=options))
    [config] = made
    assert (config["batch.num.messages"], config["compression.type"]) == (1, "lz4")
    assert isinstance(KafkaSink(Cluster(brokers="a:1"), ["t"]), KafkaSink)
