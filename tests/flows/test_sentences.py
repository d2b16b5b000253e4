"""What a flow cannot start with is one sentence and exit code 1; no secret stands in it."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fastembed_stream import SettingError
from flows.local_broker import create_topic, free_port
from operators import Server, VectorSpace
from operators.qdrant import Collection, prepare
from tests.servers import running_qdrant

ROOT = Path(__file__).parents[2]
MODEL = "fastembed-stream/all-MiniLM-L6-v2-int8"
SECRET = "hunter2hunter2"  # noqa: S105  it is the example


def environment(folder: Path, **told: str) -> dict[str, str]:
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("STREAM_")},
        "STREAM_MODEL": MODEL,
        "STREAM_LANES": "1",
        "STREAM_TOKEN_BUDGET": "256",
        "STREAM_DEAD_LETTER_FILE": str(folder / "dead.jsonl"),
        **{f"STREAM_{name}".upper(): value for name, value in told.items()},
    }


def run(folder: Path, **told: str) -> subprocess.CompletedProcess[str]:
    """Run a flow as it is deployed, until it ends."""
    return subprocess.run(
        [sys.executable, "-m", "bytewax.run", "flows.text_to_qdrant:flow"],
        cwd=ROOT,
        env=environment(folder, **told),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def sentence(folder: Path, **told: str) -> str:
    """Give the one sentence that a flow ends with."""
    ended = run(folder, **told)
    assert ended.returncode == 1, ended.stderr
    log = (" INFO ", " WARNING ")
    lines = [line for line in ended.stderr.splitlines() if not any(word in line for word in log)]
    assert len(lines) == 1, ended.stderr
    assert lines[0].startswith("error: ")
    return lines[0]


@pytest.fixture
def lines(tmp_path: Path) -> str:
    path = tmp_path / "docs.jsonl"
    path.write_text('{"text": "a broker keeps its log"}\n')
    return str(path)


def test_an_unknown_topic_is_one_sentence(tmp_path: Path, brokers: str) -> None:
    said = sentence(
        tmp_path, kafka_brokers=brokers, kafka_topics="nope", qdrant_path=str(tmp_path / "q")
    )
    assert "No topic 'nope' at the brokers" in said


def test_an_unknown_topic_of_dead_letters_is_one_sentence(
    tmp_path: Path, brokers: str, lines: str
) -> None:
    said = sentence(
        tmp_path,
        kafka_brokers=brokers,
        input_file=lines,
        dead_letter_topic="nope",
        qdrant_path=str(tmp_path / "q"),
    )
    assert "No topic 'nope' at the brokers" in said


def test_a_wrong_option_of_kafka_is_one_sentence_without_its_secrets(
    tmp_path: Path, brokers: str
) -> None:
    create_topic(brokers, "sentences", 1)
    options = {"sasl.password": SECRET, "security.protocol": SECRET}
    said = sentence(
        tmp_path,
        kafka_brokers=brokers,
        kafka_topics="sentences",
        kafka_options=json.dumps(options),
        qdrant_path=str(tmp_path / "q"),
    )
    assert "Kafka option refused" in said
    assert SECRET not in said


def test_a_url_that_is_none_is_one_sentence_without_its_password(
    tmp_path: Path, lines: str
) -> None:
    said = sentence(tmp_path, input_file=lines, qdrant_url=f"ftp://me:{SECRET}@q.example.org")
    assert "'ftp://q.example.org' is not the URL of a Qdrant server" in said


@pytest.mark.parametrize("grpc", ["no", "yes"])
def test_a_wrong_api_key_is_one_sentence_without_the_key(
    grpc: str, tmp_path: Path, lines: str
) -> None:
    with running_qdrant(api_key="right-key-of-all") as server:
        said = sentence(
            tmp_path,
            input_file=lines,
            qdrant_url=server.url,
            qdrant_api_key=SECRET,
            qdrant_grpc=grpc,
            qdrant_grpc_port=str(server.grpc_port),
        )
    assert "the API key is missing or wrong" in said
    assert SECRET not in said


def test_a_file_that_is_cut_off_is_one_sentence_also_while_the_flow_runs(tmp_path: Path) -> None:
    path = tmp_path / "docs.jsonl.gz"
    whole = gzip.compress(b"".join(b'{"text": "sentence %d"}\n' % n for n in range(500)))
    path.write_bytes(whole[:-20])
    ended = run(tmp_path, input_file=str(path), output_file=str(tmp_path / "out.jsonl"))
    assert ended.returncode == 1
    [said] = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert f"{path} ends in the middle" in said
    assert "Traceback (most recent call last)" not in ended.stderr


def test_a_line_that_is_being_written_is_one_record_when_it_is_whole(tmp_path: Path) -> None:
    path, out = tmp_path / "docs.jsonl", tmp_path / "out.jsonl"
    with path.open("wb", buffering=0) as writer:
        writer.write(b'{"text": "first"}\n{"text": "sec')
        flow = subprocess.Popen(
            [sys.executable, "-m", "bytewax.run", "flows.text_to_qdrant:flow"],
            cwd=ROOT,
            env=environment(tmp_path, input_file=str(path), output_file=str(out)),
        )
        until = time.monotonic() + 60
        while not out.exists() or not out.read_bytes():
            assert time.monotonic() < until
            assert flow.poll() is None
            time.sleep(0.05)
        writer.write(b'ond"}\n{"text": "last"}')
    assert flow.wait(timeout=60) == 0
    texts = [json.loads(line)["fields"]["text"] for line in out.read_text().splitlines()]
    assert texts == ["first", "second", "last"]
    assert not (tmp_path / "dead.jsonl").read_bytes()


def wanted() -> Collection:
    return Collection(
        name="c", vectors={"dense": VectorSpace(shape="dense", dim=2, model="m", fingerprint="f")}
    )


def test_what_is_no_qdrant_is_told() -> None:
    with running_qdrant() as server:
        away = Server(url=f"{server.url}/not/qdrant")
        with pytest.raises(SettingError, match="no address of a Qdrant server"):
            prepare(away, wanted())
        away.close()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://q.example.org", "https://q.example.org:6333"),
        ("http://q.example.org:80/prefix/", "http://q.example.org:80/prefix"),
        (f"https://me:{SECRET}@q.example.org", "https://q.example.org:6333"),
        ("localhost:7000", "http://localhost:7000"),
        ("q.example.org", "http://q.example.org:6333"),
    ],
)
def test_a_server_is_named_with_the_port_that_is_tried(url: str, shown: str) -> None:
    assert Server(url=url).shown == shown
    assert SECRET not in repr(Server(url=url, api_key=SECRET))


@pytest.mark.parametrize("url", ["q:6333", "ftp://q", "http://", "http://q:port", "http://[::1"])
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(SettingError, match="Expected one like"):
        Server(url=url).client()


def test_a_server_that_is_away_is_named_with_its_port(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(_: float) -> None:
        raise TimeoutError

    monkeypatch.setattr("operators.outages._sleep_unless_stopped", stop)
    server = Server(url=f"http://me:{SECRET}@127.0.0.1:{free_port()}")
    with pytest.raises(TimeoutError):
        prepare(server, wanted())
    server.close()
    assert f"Qdrant {server.shown}: not there yet" in caplog.text
    assert SECRET not in caplog.text
