"""A line is a record when it is whole; packed files are read as what they are."""

from __future__ import annotations

import gzip
import json
import logging
import os
import random
import sys
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from backports import zstd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastembed_stream import SettingError
from operators import BrokenFlowError, JsonLinesSource, Message, Pages, Schema
from operators.decoding import BadRecordError, parse
from operators.files import lines
from operators.files.content import being_written, open_content
from operators.files.lines import _Lines
from operators.files.sink import _line


def _zstd(content: bytes) -> bytes:
    return bytes(zstd.compress(content, options={zstd.CompressionParameter.checksum_flag: 1}))


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "zstd": _zstd,
    "gzip in members": lambda content: b"".join(map(gzip.compress, _pieces(content))),
    "zstd in frames": lambda content: (
        b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc" + b"".join(map(_zstd, _pieces(content)))
    ),
}
every_packer = pytest.mark.parametrize("pack", PACKERS.values(), ids=PACKERS)


class Clock:
    """A time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def _pieces(content: bytes) -> list[bytes]:
    return [content[:5], content[5:6], content[6:]]


def opened(
    path: Path,
    place: tuple[int, int] | None = None,
    *,
    clock: Callable[[], float] | None = None,
    max_line_bytes: int = 1 << 20,
    pages: Pages = Pages(max_batch=3),  # noqa: B008  frozen
) -> _Lines:
    if clock is None:
        source = JsonLinesSource(path, pages, max_line_bytes=max_line_bytes)
        return source.build_part("flow.in", path.name, place)
    return _Lines(path, "flow.in", pages, place, max_line_bytes=max_line_bytes, clock=clock)


def rest(part: Any) -> list[Message]:
    found: list[Message] = []
    while True:
        try:
            found += part.next_batch()
        except StopIteration:
            return found


def told(messages: Sequence[Message]) -> list[tuple[int, bytes | None]]:
    return [(one.offset, one.value) for one in messages]


@pytest.fixture(name="at_once")
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "_SETTLED_S", 0.0)


def test_a_line_without_its_end_waits_while_somebody_has_the_file_open(tmp_path: Path) -> None:
    path, clock = tmp_path / "docs.jsonl", Clock()
    with path.open("wb", buffering=0) as writer:
        writer.write(b'{"a": 1}\n{"b"')
        part = opened(path, clock=clock)
        assert told(part.next_batch()) == [(0, b'{"a": 1}')]
        for _ in range(5):
            assert part.next_batch() == []
            clock.now += 3_600
        assert part.snapshot() == (9, 1)
        assert part.next_awake() is not None
        writer.write(b': 2}\n{"c": 3}')
        assert told(part.next_batch()) == [(1, b'{"b": 2}')]
        assert part.next_batch() == []
    clock.now += 1
    assert told(rest(part)) == [(2, b'{"c": 3}')]
    part.close()


def test_a_line_without_its_end_waits_while_the_file_grows(tmp_path: Path) -> None:
    path, clock = tmp_path / "docs.jsonl", Clock()
    path.write_bytes(b"a")
    part = opened(path, clock=clock)
    for _ in range(5):  # by somebody who opens it for each write
        assert part.next_batch() == []
        clock.now += 0.4
        with path.open("ab") as writer:
            writer.write(b"a")
    assert part.next_batch() == []
    clock.now += 0.6
    assert told(rest(part)) == [(0, b"aaaaaa")]


def test_an_old_file_that_ended_without_an_end_of_line_is_read_at_once(tmp_path: Path) -> None:
    path = tmp_path / "docs.jsonl"
    path.write_bytes(b"a\nb")
    old = path.stat().st_mtime - 10
    os.utime(path, (old, old))
    part = opened(path, clock=Clock())
    assert told(part.next_batch()) == [(0, b"a"), (1, b"b")]


@pytest.mark.usefixtures("at_once")
@every_packer
def test_a_line_that_is_completed_after_the_run_is_read_again_whole(
    pack: Callable[[bytes], bytes], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "docs.jsonl"
    path.write_bytes(pack(b'{"a": 1}\n{"b"'))
    part = opened(path)
    before = rest(part)
    assert told(before) == [(0, b'{"a": 1}'), (1, b'{"b"')]
    place = part.snapshot()
    assert told(rest(opened(path, place))) == []

    path.write_bytes(pack(b'{"a": 1}\n{"b": 2}\n{"c": 3}\n'))
    with caplog.at_level(logging.WARNING, "operators.files"):
        again = rest(opened(path, place))
    assert told(again) == [(1, b'{"b": 2}'), (2, b'{"c": 3}')]
    assert again[0].key == before[1].key
    assert again[0].source != before[1].source
    assert any("line 1 was read before it was whole" in line for line in caplog.messages)


@pytest.mark.usefixtures("at_once")
@every_packer
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_line_that_gets_only_its_end_after_the_run_is_not_read_again(
    pack: Callable[[bytes], bytes], end: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "docs.jsonl"
    path.write_bytes(pack(b"a\nbb"))
    part = opened(path)
    rest(part)
    path.write_bytes(pack(b"a\nbb" + end + b"c\n"))
    assert told(rest(opened(path, part.snapshot()))) == [(2, b"c")]


@given(
    st.lists(st.sampled_from([b"a\n", b"\n", b"bb\r\n", b"ccc\n"])),
    st.sampled_from(sorted(PACKERS)),
    st.integers(0, 20),
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_packed_file_gives_what_the_plain_one_gives_also_after_a_resume(
    tmp_path: Path, content: list[bytes], packer: str, after: int
) -> None:
    plain, packed = tmp_path / "docs.jsonl", tmp_path / "docs.packed"
    plain.write_bytes(b"".join(content))
    packed.write_bytes(PACKERS[packer](b"".join(content)))
    one_by_one = Pages(max_batch=1)
    part = opened(packed, pages=one_by_one)
    first: list[Message] = []
    for _ in range(after):
        try:
            first += part.next_batch()
        except StopIteration:
            break
    again = opened(packed, part.snapshot(), pages=one_by_one)
    assert told(first + rest(again)) == told(rest(opened(plain)))


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
@pytest.mark.parametrize("left_out", [1, 9, 300])
def test_a_packed_file_that_is_cut_off_fails_and_is_named(
    kind: str, left_out: int, tmp_path: Path
) -> None:
    content = b"".join(b"%d\n" % random.Random(n).getrandbits(300) for n in range(100))  # noqa: S311
    path = tmp_path / "docs.jsonl.packed"
    path.write_bytes(PACKERS[kind](content)[:-left_out])
    part = opened(path, max_line_bytes=1_000)
    with pytest.raises(BrokenFlowError, match=r"docs\.jsonl\.packed ends in the middle, after"):
        rest(part)


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_a_packed_file_that_is_damaged_fails_and_is_named(kind: str, tmp_path: Path) -> None:
    whole = bytearray(PACKERS[kind](b"a line that is long enough\n" * 10))
    whole[-10] ^= 0xFF
    path = tmp_path / "docs.gz"
    path.write_bytes(whole)
    with pytest.raises(BrokenFlowError, match=r"docs\.gz (is damaged|ends in the middle)"):
        rest(opened(path))


def test_without_its_package_a_zstd_file_is_told_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "docs.jsonl.zst"
    path.write_bytes(bytes.fromhex("28b52ffd040019000068690a"))
    monkeypatch.setitem(sys.modules, "backports", None)
    with pytest.raises(SettingError, match=r'pip install "fastembed-stream\[zstd\]"'):
        JsonLinesSource(path, objects=True)


@every_packer
def test_a_line_that_is_too_long_is_a_failure_and_its_neighbours_are_read(
    pack: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    path = tmp_path / "docs.jsonl"
    path.write_bytes(pack(b'{"text": "a"}\n' + b"x" * 5_000_000 + b'\n{"text": "b"}\n'))
    first, long, last = rest(opened(path, max_line_bytes=20))
    assert [first.offset, long.offset, last.offset] == [0, 1, 2]
    assert last.value == b'{"text": "b"}'
    assert len(long.value or b"") <= 1_000
    with pytest.raises(BadRecordError, match=r"line 1 has 5,000,001 bytes.*max_line_bytes=20"):
        parse(Schema(), long)


def test_a_bomb_costs_no_more_memory_than_a_line_may(tmp_path: Path) -> None:
    path = tmp_path / "docs.jsonl.gz"
    path.write_bytes(gzip.compress(b"0" * 50_000_000) + gzip.compress(b'\n{"text": "b"}\n'))
    tracemalloc.start()
    found = rest(opened(path, max_line_bytes=100_000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found[-1].value == b'{"text": "b"}'
    assert peak < 10_000_000


ARRAYS = [
    b'[{"text": "a"}, {"text": "b"}]',
    b'[{"text": "a"}]\n',
    b'\xef\xbb\xbf\n [\n  {"text": "a"},\n  {"text": "b"}\n]\n',
    b'[\n{"text": "a"}\n]',
    b'[{"text": "a"},\n{"text": "b"}]\n',
    b'[{"text": "a"}\n,{"text": "b"}\n]\n',
    b'[{\n  "text": "a"\n}]',
    b"[" + b'{"text": "a"},' * 200_000 + b'{"text": "b"}]',
]


@pytest.mark.parametrize("content", ARRAYS, ids=range(len(ARRAYS)))
@every_packer
def test_a_file_that_is_one_json_array_is_told_so(
    pack: Callable[[bytes], bytes], content: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "docs.json"
    path.write_bytes(pack(content))
    with pytest.raises(SettingError, match=r"docs\.json is one JSON array; expected .* each line"):
        JsonLinesSource(path, objects=True)
    JsonLinesSource(path)  # lines of text may start as they like


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n\n",
        b'{"text": "a"}\n',
        b'[broken\n{"text": "a"}\n',
        b'["broken"\n{"text": "a"}\n["b"]\n',
        b"[1, 2]\n[3, 4]\n",
        b"[1, 2]\n{}\n",
        b"[broken",
        b'[broken\nbroken too\n{"text": "a"}\n',
    ],
)
def test_a_bad_line_makes_no_array_of_a_file(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "docs.jsonl"
    path.write_bytes(content)
    JsonLinesSource(path, objects=True)


def test_whether_somebody_writes_to_a_file_is_asked_without_harm(tmp_path: Path) -> None:
    path = tmp_path / "docs.jsonl"
    path.write_bytes(b"a\n")
    with open_content(path) as file:
        assert not being_written(file)
        with path.open("ab"):
            assert being_written(file)
        assert not being_written(file)
        with path.open("rb"):
            assert not being_written(file)


def test_a_file_of_results_has_no_number_that_json_has_not() -> None:
    odd = {"payload": {"a": [1e400, {"b": float("nan")}], "c": 1.5}, "k": (float("-inf"), "x")}

    def refused(name: str) -> None:
        raise AssertionError(name)

    assert json.loads(_line(odd), parse_constant=refused) == {
        "payload": {"a": ["inf", {"b": "nan"}], "c": 1.5},
        "k": ["-inf", "x"],
    }
