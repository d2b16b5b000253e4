"""Lines go to a file that can be synced and cut, or to an output that a process has anyway."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fastembed_stream import SettingError
from operators import Batch, BrokenFlowError, DeadLetterFile, JsonLinesSink, described
from tests.operators.things import failure

WRITING = """
import sys
from pathlib import Path
from operators import DeadLetterFile
from tests.operators.things import failure

print("before", flush=True)
sink = DeadLetterFile(Path(sys.argv[1]))
sink.list_parts()
part = sink.build_part("out", "00", None)
part.write_batch([(failure(1), failure(2))])
part.snapshot()
print("after", flush=True)
"""
LEFT = ["before", "1", "2", "after"]


def written_to(stdout: int, path: str = "/dev/stdout") -> None:
    command = [sys.executable, "-c", WRITING, path]
    subprocess.run(command, check=True, stdout=stdout, timeout=60)


def left(text: bytes) -> list[str]:
    """Give the words and the offsets of the lines, in order."""
    lines = text.decode().splitlines()
    return [str(json.loads(line)["offset"]) if line[0] == "{" else line for line in lines]


def a_fifo(path: Path) -> None:
    os.mkfifo(path)


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))


NO_PLACES: dict[str, Callable[[Path], None]] = {
    "pipe": a_fifo,
    "socket": a_socket,
    "directory": Path.mkdir,
}


def test_lines_go_to_stdout_where_that_is_a_pipe() -> None:
    reading, writing = os.pipe()
    written_to(writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        assert left(pipe.read()) == LEFT


def test_lines_go_to_stdout_where_that_is_a_socket() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        written_to(theirs.fileno())
        theirs.shutdown(socket.SHUT_WR)
        assert left(b"".join(iter(lambda: ours.recv(65_536), b""))) == LEFT


@pytest.mark.parametrize("name", ["/dev/stdout", "/proc/self/fd/1", "by its name"])
def test_lines_go_to_stdout_where_that_is_a_file_and_nothing_is_overwritten(
    tmp_path: Path, name: str
) -> None:
    path = tmp_path / "log"
    with path.open("wb") as file:  # as a shell's > opens it: not for appending
        written_to(file.fileno(), str(path) if name == "by its name" else name)
    assert left(path.read_bytes()) == LEFT
    assert not Path("/dev/stdout.lock").exists()


def test_lines_to_dev_null_are_gone_as_asked() -> None:
    sink = DeadLetterFile(Path("/dev/null"))
    sink.list_parts()
    part = sink.build_part("out", "00", None)
    part.write_batch([(failure(1),)])
    part.snapshot()
    assert not Path("/dev/null.lock").exists()


@pytest.mark.parametrize("kind", NO_PLACES)
@pytest.mark.parametrize("through_a_link", [False, True])
def test_neither_letters_nor_results_go_to_what_cannot_take_lines(
    tmp_path: Path, kind: str, *, through_a_link: bool
) -> None:
    path = tmp_path / "place"
    NO_PLACES[kind](path)
    if through_a_link:
        link = tmp_path / "link"
        link.symlink_to(path)
        path = link
    with pytest.raises(SettingError, match=f"Dead letters cannot.* it is a {kind}. Choose"):
        DeadLetterFile(path)
    with pytest.raises(SettingError, match=f"Results cannot.* it is a {kind}, which a resume"):
        JsonLinesSink[Batch](path, described)


def test_results_go_to_no_device_which_no_resume_could_cut() -> None:
    with pytest.raises(SettingError, match="it is a device, which a resume cannot cut"):
        JsonLinesSink[Batch](Path("/dev/null"), described)


def test_results_do_not_go_to_the_output_of_the_process() -> None:
    program = (
        "from pathlib import Path\n"
        "from operators import JsonLinesSink, described\n"
        "JsonLinesSink(Path('/dev/stdout'), described)"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert "it is the output of this process, which a resume cannot cut" in done.stderr


@pytest.mark.parametrize("kind", NO_PLACES)
def test_a_file_that_becomes_something_else_ends_the_flow_and_hangs_on_nothing(
    tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "dead.jsonl"
    part = DeadLetterFile(path).build_part("flow.out", "00", None)
    NO_PLACES[kind](path)
    with pytest.raises(BrokenFlowError, match=rf"Step flow\.out: dead letters.*it is a {kind}"):
        part.write_batch([(failure(1),)])


def test_two_names_of_one_file_have_one_lock(tmp_path: Path) -> None:
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "dead.jsonl")
    for name in ("dead.jsonl", "link.jsonl"):
        part = DeadLetterFile(tmp_path / name).build_part("out", "00", None)
        part.write_batch([(failure(1),)])
    assert {path.name for path in tmp_path.iterdir()} <= {
        "dead.jsonl",
        "dead.jsonl.lock",
        "link.jsonl",
    }
    assert len((tmp_path / "dead.jsonl").read_bytes().splitlines()) == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_refused_at_the_start(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(SettingError, match="permission denied"):
        DeadLetterFile(tmp_path / "dead.jsonl").check()
