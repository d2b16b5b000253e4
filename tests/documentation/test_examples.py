"""The files of `examples/` run, and what they show is true of them."""

from __future__ import annotations

import os
import runpy
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import QdrantClient

from fastembed_stream import catalog
from operators import Batch, Message, Record
from tests.documentation.pages import ROOT

EXAMPLES = ROOT / "examples"
SHOWN = {
    "library.py": "(384,)",
    "own_flow.py": "The train leaves at noon.",
    "own_model.py": "(384,) True",
    "own_sink.py": "note-1 1536",
    "own_stage.py": "page-0 Bread It is baked in the morning. ['dense']",
}


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(catalog, "_ROWS", dict(catalog._ROWS))


def names(example: str) -> dict[str, Any]:
    """Return what an example defines, without running it."""
    return runpy.run_path(str(EXAMPLES / example))


def run(*arguments: str) -> str:
    """Run Python as a user does, and return what it prints."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def record(key: str, *, offset: int = 0, text: str = "text", partition: int = 0) -> Record:
    origin = Message(topic="t", partition=partition, offset=offset, key=key.encode(), value=b"")
    return Record(key=key, fields={"text": text}, payload={}, origin=origin)


def dense(one: Record, number: float) -> Batch:
    vector = np.full(3, number, dtype=np.float32)
    return Batch(records=(one.with_vector("dense", vector, model="m"),))


def stored(path: Path) -> dict[str, tuple[int, float]]:
    """Return offset and first number of each row that another process would see."""
    with sqlite3.connect(path) as table:
        rows = table.execute('SELECT key, "offset", vector FROM vectors').fetchall()
    return {key: (offset, float(np.frombuffer(blob, np.float32)[0])) for key, offset, blob in rows}


@pytest.mark.parametrize("example", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_each_example_runs_and_shows_what_it_promises(example: str) -> None:
    assert SHOWN[example] in run(str(EXAMPLES / example))


def test_the_flow_of_ones_own_goes_on_where_it_stopped(tmp_path: Path) -> None:
    notes = tmp_path / "notes.jsonl"
    notes.write_text('{"id": "a", "text": "one"}\n')
    (tmp_path / "recovery").mkdir()
    run("-m", "bytewax.recovery", "recovery", "1")
    flow = ("-m", "bytewax.run", f"{EXAMPLES / 'own_flow.py'}:flow", "-r", "recovery")
    run(*flow, "-s", "1", "-b", "0")
    with notes.open("a") as file:
        file.write('{"id": "b", "text": "two"}\n{"id": "c"}\n')
    run(*flow, "-s", "1", "-b", "0")
    client = QdrantClient(path=str(tmp_path / "qdrant"))
    assert client.count("notes").count == 2
    client.close()
    [letter] = (tmp_path / "dead_letters.jsonl").read_text().splitlines()
    assert '"offset": 2' in letter


class TestOwnStage:
    def test_html_becomes_its_text_in_order(self) -> None:
        stage = names("own_stage.py")["PlainText"]()
        pages = ["<p>one</p>", "<script>x()</script><b>two</b> &amp; three", "four"]
        done = stage(Batch(records=tuple(record(page, text=page) for page in pages)))
        texts = [one.fields["text"] for one in done.records]
        assert texts == ["one", "two & three", "four"]
        assert [one.key for one in done.records] == pages
        assert not done.failures

    def test_a_page_without_text_fails_alone(self) -> None:
        stage = names("own_stage.py")["PlainText"]()
        good, bad = record("good", text="<p>one</p>"), record("bad", text="<br>", offset=7)
        done = stage(Batch(records=(good, bad, good)))
        assert [one.key for one in done.records] == ["good", "good"]
        [failure] = done.failures
        assert (failure.stage, failure.origin.offset) == ("plain text", 7)

    def test_what_comes_in_is_not_changed(self) -> None:
        stage = names("own_stage.py")["PlainText"]()
        page = record("page", text="<p>one</p>")
        stage(Batch(records=(page,)))
        assert page.fields["text"] == "<p>one</p>"


class TestOwnSink:
    def part(self, path: Path) -> Any:
        sink = names("own_sink.py")["SqliteSink"](path)
        [part] = sink.list_parts()
        return sink.build_part("step", part, None)

    def test_a_batch_is_on_disk_when_the_snapshot_returns_and_not_before(
        self, tmp_path: Path
    ) -> None:
        path = tmp_path / "v.sqlite"
        part = self.part(path)
        part.write_batch([dense(record("a"), 1.0)])
        assert stored(path) == {}
        part.snapshot()
        assert stored(path) == {"a": (0, 1.0)}
        part.close()

    def test_what_was_not_acknowledged_is_gone_with_the_process_and_a_repeat_brings_it(
        self, tmp_path: Path
    ) -> None:
        path = tmp_path / "v.sqlite"
        part = self.part(path)
        part.write_batch([dense(record("a"), 1.0)])
        part.close()
        assert stored(path) == {}
        part = self.part(path)
        for _ in range(2):
            part.write_batch([dense(record("a"), 1.0), dense(record("b", offset=1), 2.0)])
            part.snapshot()
        assert stored(path) == {"a": (0, 1.0), "b": (1, 2.0)}
        part.close()

    def test_an_older_version_never_replaces_a_newer_one_of_its_partition(
        self, tmp_path: Path
    ) -> None:
        path = tmp_path / "v.sqlite"
        part = self.part(path)
        part.write_batch([dense(record("a", offset=5), 5.0)])
        part.write_batch([dense(record("a", offset=4), 4.0)])
        part.snapshot()
        assert stored(path) == {"a": (5, 5.0)}
        other = replace(record("a", offset=1, partition=1))
        part.write_batch([dense(other, 1.0)])
        part.snapshot()
        assert stored(path) == {"a": (1, 1.0)}
        part.close()

    def test_a_path_that_cannot_be_written_fails_before_the_first_message(
        self, tmp_path: Path
    ) -> None:
        sink = names("own_sink.py")["SqliteSink"](tmp_path / "absent" / "v.sqlite")
        with pytest.raises(sqlite3.OperationalError):
            sink.list_parts()
