"""A flow in which much fails says so, and ends where it was asked to; what it read is kept."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from flows.local_broker import create_topic, free_port, produce
from operators import Outgoing
from tests.chaos.deployment import TOPIC, Deployment, committed, deployed
from tests.operators import kafka_things

N_BAD = 6_000


def letters(flow: Deployment) -> Counter[tuple[int, int]]:
    """Count how often each message is among the dead letters."""
    path = flow.folder / "dead_letters.jsonl"
    lines = path.read_bytes().splitlines() if path.exists() else []
    told = [json.loads(line) for line in lines]
    return Counter((one["partition"], one["offset"]) for one in told)


def bad(n: int) -> list[tuple[bytes, bytes]]:
    return [(b"k%d" % number, b'{"text": %d}' % number) for number in range(n)]


def good(n: int) -> list[tuple[bytes, bytes]]:
    return [(b"g%d" % number, b'{"text": "good %d"}' % number) for number in range(n)]


def last_line(flow: Deployment) -> str:
    """Give what the flow said at its end of how far it came."""
    return next(line for line in reversed(flow.log().splitlines()) if "Since the start" in line)


@pytest.mark.parametrize("n_workers", [1, 2])
def test_too_many_failures_end_the_flow_with_1_and_a_restart_goes_on_behind_them(
    tmp_path: Path, brokers: str, n_workers: int
) -> None:
    produce(brokers, TOPIC, bad(N_BAD))
    told = {
        "STREAM_OUTPUT_FILE": str(tmp_path / "out.jsonl"),
        "STREAM_MAX_FAILURE_SHARE": "0.5",
    }
    with deployed(tmp_path / "flow", brokers, **told) as flow:
        before = 0
        for _ in range(2):
            flow.start(n_workers)
            assert flow.ended() == [1]
            n_letters = sum(letters(flow).values())
            assert before < n_letters, "a restart goes on behind the last end"
            assert "Traceback" not in flow.log()
            assert f"{n_letters - before:,} refused" in last_line(flow)
            before = n_letters
        found = letters(flow)
        assert set(found.values()) == {1}, "nothing is repeated"
        for partition in {partition for partition, _ in found}:
            offsets = {offset for number, offset in found if number == partition}
            assert offsets == set(range(len(offsets))), "nothing is left out"
        said = [line for line in flow.log().splitlines() if line.startswith("error: ")]
        assert len(said) == 2
        assert all("records failed, more than the share of 0.5" in line for line in said)
        assert all("STREAM_MAX_FAILURE_SHARE" in line for line in said)


def test_too_many_failures_of_one_process_end_the_whole_cluster_and_are_not_repeated(
    tmp_path: Path, brokers: str
) -> None:
    partition_of_one_process = 0
    kafka_things.write(
        brokers,
        [
            Outgoing(topic=TOPIC, partition=partition_of_one_process, key=key, value=value)
            for key, value in bad(N_BAD)
        ],
    )
    told = {
        "STREAM_OUTPUT_FILE": str(tmp_path / "out.jsonl"),
        "STREAM_MAX_FAILURE_SHARE": "0.5",
        "STREAM_DRAIN_S": "1",
    }
    with deployed(tmp_path / "flow", brokers, **told) as flow:
        flow.start(addresses=[f"127.0.0.1:{free_port()}" for _ in range(2)])
        assert flow.ended() == [1, 1]
        before = sum(letters(flow).values())
        assert before > 0
        flow.start()
        assert flow.ended() == [1]
        found = letters(flow)
        assert set(found.values()) == {1}, "nothing is repeated"
        assert set(found) == {(partition_of_one_process, at) for at in range(len(found))}
        assert len(found) > before


def test_half_that_fails_ends_nothing_and_is_told_at_the_end(tmp_path: Path, brokers: str) -> None:
    mixed = [one for pair in zip(bad(300), good(300), strict=True) for one in pair]
    lines = b"".join(value + b"\n" for _, value in mixed)
    (tmp_path / "in.jsonl").write_bytes(lines)
    told = {
        "STREAM_KAFKA_TOPICS": "",
        "STREAM_INPUT_FILE": str(tmp_path / "in.jsonl"),
        "STREAM_OUTPUT_FILE": str(tmp_path / "out.jsonl"),
        "STREAM_MAX_FAILURE_SHARE": "0.51",
    }
    with deployed(tmp_path / "flow", brokers, **told) as flow:
        flow.start()
        assert flow.ended() == [0]
        assert last_line(flow).partition("Since the start: ")[2] == (
            "600 read, 300 written, 300 refused. First of each kind: "
            "300 times decode: Field 'text' is int; expected a string."
        )


def test_a_short_file_of_which_too_much_fails_is_written_whole_and_ends_with_1(
    tmp_path: Path, brokers: str
) -> None:
    lines = b"".join(value + b"\n" for _, value in [*good(3), *bad(4)])
    (tmp_path / "in.jsonl").write_bytes(lines)
    told = {
        "STREAM_KAFKA_TOPICS": "",
        "STREAM_INPUT_FILE": str(tmp_path / "in.jsonl"),
        "STREAM_OUTPUT_FILE": str(tmp_path / "out.jsonl"),
        "STREAM_MAX_FAILURE_SHARE": "0.5",
    }
    with deployed(tmp_path / "flow", brokers, **told) as flow:
        flow.start()
        assert flow.ended() == [1]
        assert len((tmp_path / "out.jsonl").read_bytes().splitlines()) == 3
        assert set(letters(flow).values()) == {1}
        assert "7 read, 3 written, 4 refused" in last_line(flow)
        assert "error: 4 of the last 7 records failed" in flow.log()


def test_dead_letters_stand_in_the_log_of_a_container_where_asked(
    tmp_path: Path, brokers: str
) -> None:
    (tmp_path / "in.jsonl").write_bytes(b"".join(value + b"\n" for _, value in bad(3)))
    told = {
        "STREAM_KAFKA_TOPICS": "",
        "STREAM_INPUT_FILE": str(tmp_path / "in.jsonl"),
        "STREAM_OUTPUT_FILE": str(tmp_path / "out.jsonl"),
        "STREAM_DEAD_LETTER_FILE": "/dev/stdout",
    }
    with deployed(tmp_path / "flow", brokers, **told) as flow:
        flow.start(2)
        assert flow.ended() == [0]
        found = [json.loads(line) for line in flow.log().splitlines() if line.startswith("{")]
        assert [one["offset"] for one in found] == [0, 1, 2]


def test_a_flow_that_is_stopped_tells_how_far_it_came(tmp_path: Path, brokers: str) -> None:
    produce(brokers, TOPIC, [*good(20), *bad(3)])
    told = {"STREAM_OUTPUT_FILE": str(tmp_path / "out.jsonl")}
    with deployed(tmp_path / "flow", brokers, **told) as flow:
        flow.start(2)
        flow.wait_for(lambda: committed(brokers) == 23)
        assert flow.stop() == [0]
        assert "23 read, 20 written, 3 refused. First of" in last_line(flow)
        assert flow.log().count("Since the start") == 1, "one line, whatever the workers"


def test_a_letter_that_the_topic_refuses_shrinks_or_goes_to_the_file_and_the_flow_goes_on(
    tmp_path: Path, brokers: str
) -> None:
    create_topic(brokers, "dead", 1)
    large = (b"large", b'{"text": 1, "x": "%s"}' % (b"x" * 5_000))
    # What it is refused for is told with the names of its fields: too long for any letter.
    fields = b", ".join(b'"%d%s": 1' % (n, b"n" * 150) for n in range(9))
    longest = (b"longest", b"{%s}" % fields)
    produce(brokers, TOPIC, [*bad(2), large, longest, *good(2)])
    told = {
        "STREAM_OUTPUT_FILE": str(tmp_path / "out.jsonl"),
        "STREAM_DEAD_LETTER_TOPIC": "dead",
        "STREAM_KAFKA_OPTIONS": json.dumps({"message.max.bytes": "1500"}),
    }
    with deployed(tmp_path / "flow", brokers, **told) as flow:
        flow.start()
        flow.wait_for(lambda: committed(brokers) == 6)
        assert flow.stop() == [0]
        letters_there = {one.key: one for one in kafka_things.stored(brokers, "dead", 3)}
        assert letters_there.keys() == {b"k0", b"k1", b"large"}
        assert letters_there[b"k1"].value == b'{"text": 1}'
        shrunk = dict(letters_there[b"large"].headers)
        assert shrunk["__connect.errors.value.omitted.bytes"] == b"%d" % len(large[1])
        assert sum(letters(flow).values()) == 1
        [said] = [line for line in flow.log().splitlines() if " ERROR " in line]
        assert "Kafka topic dead refuses the dead letter of documents/" in said
        assert "dead_letters.jsonl" in said
        assert "6 read, 2 written, 4 refused" in last_line(flow)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"STREAM_DEAD_LETTER_TOPIC": TOPIC}, "both name 'documents'"),
        ({"STREAM_METRICS_HOST": "no.host.invalid", "STREAM_METRICS_PORT": "1"}, "Metrics port 1"),
        ({"STREAM_KAFKA_OPTIONS": "[" * 100_000}, "STREAM_KAFKA_OPTIONS: "),
        ({"STREAM_OUTPUT_FILE": "/dev/null"}, "a resume cannot cut"),
    ],
)
def test_settings_that_cannot_be_are_one_sentence_and_exit_code_1(
    tmp_path: Path, brokers: str, told: dict[str, str], said: str
) -> None:
    produce(brokers, TOPIC, bad(2))
    with deployed(tmp_path / "flow", brokers, **told) as flow:
        flow.start()
        assert flow.ended() == [1]
        [line] = flow.log().splitlines()
        assert line.startswith("error: ")
        assert said in line
