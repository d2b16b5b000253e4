"""Partitions that only the recovery store has keep their place, and end no flow."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import pytest
from bytewax.recovery import RecoveryConfig

from flows.recovery import recovery_folder
from operators import Cluster, KafkaSource, Message, Reading
from operators.kafka import OnGap
from operators.kafka.remembered import remembered_parts
from tests.operators.kafka_things import fill, new_topic, reading, values
from tests.operators.test_kafka import made_again
from tests.operators.things import NO_TIME, on_workers


def run(
    brokers: str,
    topic: str,
    recovery_config: RecoveryConfig,
    store: Path,
    on_gap: OnGap = "fail",
    *,
    n_workers: int = 0,
) -> list[Message]:
    """Run a flow over a topic whose source knows where the recovery store is."""
    with pytest.MonkeyPatch.context() as patch:

        def told(cluster: Cluster, topics: list[str], how: Reading) -> KafkaSource:
            return KafkaSource(cluster, topics, how, store=store)

        patch.setattr("tests.operators.kafka_things.KafkaSource", told)
        flow, kept = reading(brokers, [topic], Reading(tail=False, on_gap=on_gap))
    on_workers(n_workers)(flow, epoch_interval=NO_TIME, recovery_config=recovery_config)
    return kept.items


@pytest.mark.parametrize("n_workers", [0, 1, 2])
def test_a_topic_made_again_with_fewer_partitions_is_told_and_read_where_asked(
    brokers: str,
    recovery_config: RecoveryConfig,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    n_workers: int,
) -> None:
    topic, store = new_topic(brokers, 4), tmp_path / "recovery"
    for partition in range(4):
        fill(brokers, topic, range(5), partition)
    assert len(run(brokers, topic, recovery_config, store)) == 20
    made_again(brokers, topic, 2)
    for partition in range(2):
        fill(brokers, topic, range(8), partition)
    with pytest.raises(RuntimeError) as failed:  # Bytewax', with the source's as its cause
        run(brokers, topic, recovery_config, store)
    assert "cannot resume at offset 5; the " in str(failed.value.__cause__)
    with caplog.at_level(logging.WARNING, "operators.kafka"):
        found = run(brokers, topic, recovery_config, store, "continue", n_workers=n_workers)
    assert [values(found, partition) for partition in range(4)] == [*[list(range(8))] * 2, [], []]
    assert sum("; going on" in line for line in caplog.messages) == 4
    assert run(brokers, topic, recovery_config, store) == []  # it was told once
    made_again(brokers, topic, 5)
    for partition in range(5):
        fill(brokers, topic, range(3), partition)
    found = run(brokers, topic, recovery_config, store, "continue", n_workers=n_workers)
    assert [values(found, partition) for partition in range(5)] == [[0, 1, 2]] * 5


def test_a_store_tells_the_partitions_of_the_topics_that_are_asked_for(
    brokers: str, recovery_config: RecoveryConfig, tmp_path: Path
) -> None:
    topic, store = new_topic(brokers, 3), tmp_path / "recovery"
    assert remembered_parts(store, [topic]) == set()
    run(brokers, topic, recovery_config, store)
    assert remembered_parts(store, [topic, "other"]) == {f"{topic}/{n}" for n in range(3)}
    assert remembered_parts(store, ["other"]) == set()
    assert remembered_parts(tmp_path / "absent", [topic]) == set()


def test_a_store_that_cannot_be_read_is_for_bytewax_to_tell_of(tmp_path: Path) -> None:
    (tmp_path / "part-0.sqlite3").write_bytes(b"this is no database" * 100)
    (tmp_path / "part-1.sqlite3").mkdir()
    assert remembered_parts(tmp_path, ["docs"]) == set()


@pytest.mark.parametrize(
    ("words", "environment", "folder"),
    [
        (["flows.x:flow", "-w", "1", "-r", "store", "-s", "1", "-b", "0"], {}, "store"),
        (["flows.x:flow", "-rstore"], {}, "store"),
        (["flows.x:flow", "--recovery-directory=store", "-s", "1"], {}, "store"),
        (["-i", "0", "-a", "a:1;b:2", "--recovery-directory", "store"], {}, "store"),
        (["flows.x:flow"], {"BYTEWAX_RECOVERY_DIRECTORY": "store"}, "store"),
        (["flows.x:flow", "-r", "x"], {"BYTEWAX_RECOVERY_DIRECTORY": "store"}, "x"),
        (["flows.x:flow", "-w", "2"], {}, None),
        (["flows.x:flow", "-r"], {}, None),
    ],
)
def test_the_folder_of_the_store_is_found_as_bytewax_reads_it(
    words: list[str],
    environment: Mapping[str, str],
    folder: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.argv", ["bytewax.run", *words])
    monkeypatch.delenv("BYTEWAX_RECOVERY_DIRECTORY", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert recovery_folder() == (Path(folder) if folder else None)
