"""A flow goes on when the clock of its machine is set back, or forth, by an hour."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
from qdrant_client import QdrantClient

from flows.local_broker import free_port, produce
from tests.chaos.deployment import COLLECTION, TOPIC, committed, deployed, documents
from tests.servers import running_qdrant

HOUR_S = 3_600
N_EACH = 20


@pytest.fixture(scope="module")
def moving_clock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a library that moves the wall clock of the process that loads it first."""
    compiler = shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("needs a C compiler and Linux, to move the clock of a process")
    library = tmp_path_factory.mktemp("clock") / "clock.so"
    source = Path(__file__).with_name("clock.c")
    command = [compiler, "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True)
    return library


def move(clock: Path, seconds: int) -> None:
    """Set a clock, at one stroke: half a file would be another time."""
    new = clock.with_suffix(".new")
    new.write_text(str(seconds))
    new.replace(clock)


@pytest.mark.parametrize(
    ("n_processes", "hours"),
    [(1, (0, -1, 0, 1, -2, -2)), (2, (0, -1))],
    ids=["one process", "two processes"],
)
def test_records_arrive_within_seconds_whatever_the_clock_says(
    tmp_path: Path, brokers: str, moving_clock: Path, n_processes: int, hours: tuple[int, ...]
) -> None:
    addresses = [f"127.0.0.1:{free_port()}" for _ in range(n_processes if n_processes > 1 else 0)]
    moved = tmp_path / "moved"
    move(moved, 0)
    messages = documents(len(hours) * N_EACH)
    with running_qdrant(tmp_path / "server") as server:
        environment = {
            "LD_PRELOAD": str(moving_clock),
            "CLOCK_MOVED": str(moved),
            "STREAM_QDRANT_URL": server.url,
        }
        client = QdrantClient(url=server.url, check_compatibility=False)
        with deployed(tmp_path / "flow", brokers, **environment) as flow:
            flow.start(addresses=addresses)
            for number, hour in enumerate(hours):
                move(moved, hour * HOUR_S)
                n_wanted = (number + 1) * N_EACH
                produce(brokers, TOPIC, messages[number * N_EACH : n_wanted])
                flow.wait_for(
                    lambda n=n_wanted: (  # type: ignore[misc]  # a default binds it
                        client.collection_exists(COLLECTION)
                        and client.count(COLLECTION).count == n
                        and committed(brokers) == n
                    ),
                    within_s=60,
                )
            assert flow.stop() == [0] * n_processes
            log = flow.log()
        for before, after in pairwise(hours):
            said = f"The clock was set back by {(before - after) * HOUR_S:,} s"
            assert log.count(said) == (n_processes if after < before else 0)
        assert not (flow.folder / "dead_letters.jsonl").read_text()


def test_a_flow_that_is_told_to_end_does_so_in_its_time_when_the_clock_is_set_back_then(
    tmp_path: Path, brokers: str, moving_clock: Path
) -> None:
    moved = tmp_path / "moved"
    move(moved, 0)
    messages = documents(N_EACH)
    with running_qdrant(tmp_path / "server") as server:
        environment = {
            "LD_PRELOAD": str(moving_clock),
            "CLOCK_MOVED": str(moved),
            "STREAM_QDRANT_URL": server.url,
            "STREAM_DRAIN_S": "3",
            # It waits for the end of the log when it is told to end.
            "STREAM_KAFKA_OPTIONS": '{"fetch.wait.max.ms": 900}',
        }
        client = QdrantClient(url=server.url, check_compatibility=False)
        with deployed(tmp_path / "flow", brokers, **environment) as flow:
            for number, hours in enumerate((-1, 0)):
                move(moved, 0)
                flow.start()
                produce(brokers, TOPIC, messages[number * 10 : (number + 1) * 10])
                flow.wait_for(
                    lambda n=10 * (number + 1): (  # type: ignore[misc]  # a default binds it
                        client.collection_exists(COLLECTION) and client.count(COLLECTION).count == n
                    )
                )
                flow.ask_to_end()
                time.sleep(0.05)
                move(moved, hours * HOUR_S)
                assert flow.ended(within_s=20) in ([0], [1])
