"""Files in the place of Kafka: each line once, in and out, whatever crashes between."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import bytewax.operators as op
import numpy as np
import pytest
from bytewax.dataflow import Dataflow
from bytewax.outputs import StatefulSinkPartition
from bytewax.recovery import RecoveryConfig
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typing_extensions import override

from fastembed_stream import SettingError, SparseEmbedding
from operators import (
    STOP,
    Batch,
    BrokenFlowError,
    Failures,
    Hit,
    ImageFolderSource,
    JsonLinesSink,
    JsonLinesSource,
    Message,
    Pages,
    Part,
    Schema,
    decode,
    described,
)
from operators.files import lines
from operators.files.lines import _Lines
from operators.pressure import watch
from tests.operators.things import (
    NO_TIME,
    CrashError,
    EntryPoint,
    Kept,
    Lists,
    batch,
    failed,
    numbers,
    record,
)

FEW = Pages(max_batch=3)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody writes to these files, and no test waits for that."""
    monkeypatch.setattr(lines, "_SETTLED_S", 0.0)


def lines_of(path: Path, pages: Pages = FEW, place: tuple[int, int] | None = None) -> _Lines:
    return JsonLinesSource(path, pages).build_part("flow.in", path.name, place)


def rest(part: Any) -> list[Message]:
    found: list[Message] = []
    while True:
        try:
            found += part.next_batch()
        except StopIteration:
            return found


def values(path: Path) -> list[tuple[int, bytes | None]]:
    return [(one.offset, one.value) for one in rest(lines_of(path))]


def written(folder: Path, content: bytes) -> Path:
    path = folder / "docs.jsonl"
    path.write_bytes(content)
    return path


def test_lines_are_messages_as_kafkas(tmp_path: Path) -> None:
    [one] = rest(lines_of(written(tmp_path, b'{"a": 1}\n')))
    assert (one.topic, one.partition, one.offset) == ("docs.jsonl", 0, 0)
    assert (one.key, one.value) == (b"0", b'{"a": 1}')


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", []),
        (b"a\nb\n", [(0, b"a"), (1, b"b")]),
        (b"a\r\nb\r\n", [(0, b"a"), (1, b"b")]),
        (b"a\nb", [(0, b"a"), (1, b"b")]),
        (b"\n\na\n \r\n\nb\n\n", [(2, b"a"), (5, b"b")]),
        (b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n", [(0, b"a"), (1, b"\xef\xbb\xbfb")]),
        (b"a\rb\x0bc\n\xff\n", [(0, b"a\rb\x0bc"), (1, b"\xff")]),
    ],
    ids=["empty", "plain", "windows", "no end", "empty lines", "byte order mark", "odd bytes"],
)
def test_whatever_ends_its_lines_a_file_gives_each_with_its_number(
    tmp_path: Path, content: bytes, expected: list[tuple[int, bytes]]
) -> None:
    assert values(written(tmp_path, content)) == expected


def test_a_line_of_ten_megabytes_comes_whole_and_alone(tmp_path: Path) -> None:
    long = b"x" * 10_000_000
    part = lines_of(written(tmp_path, b"a\n" + long + b"\nb\nc\n"))
    assert [one.value for one in part.next_batch()] == [b"a", long]
    assert [one.value for one in part.next_batch()] == [b"b", b"c"]


@given(st.lists(st.sampled_from([b"a\n", b"\n", b"bb\r\n", b"\r\n"])), st.integers(0, 20))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_resume_at_any_place_goes_on_with_the_next_line(
    tmp_path: Path, content: list[bytes], after: int
) -> None:
    path = written(tmp_path, b"".join(content) + b"end")
    one_by_one = Pages(max_batch=1)
    part = lines_of(path, one_by_one)
    first: list[Message] = []
    for _ in range(after):
        try:
            first += part.next_batch()
        except StopIteration:
            break
    again = lines_of(path, one_by_one, part.snapshot())
    assert first + rest(again) == rest(lines_of(path))


def test_what_is_appended_to_a_file_that_was_read_comes_on_resume(tmp_path: Path) -> None:
    path = written(tmp_path, b"a\n")
    part = lines_of(path)
    before = rest(part)
    path.write_bytes(b"a\nb\n")
    after = rest(lines_of(path, place=part.snapshot()))
    assert [(one.offset, one.value) for one in after] == [(1, b"b")]
    assert after[0].source != before[0].source, "line numbers of two versions are not compared"


def test_a_file_that_became_shorter_fails_the_flow_and_says_so(tmp_path: Path) -> None:
    path = written(tmp_path, b"a\n")
    with pytest.raises(BrokenFlowError, match=r"Step flow\.in: .* has 2 bytes, but 9 were read"):
        lines_of(path, place=(9, 3))


def test_an_epoch_reads_no_more_than_its_budget(tmp_path: Path) -> None:
    path = written(tmp_path, b"aaaa\n" * 20)
    for pages in (Pages(max_epoch_records=5), Pages(max_epoch_bytes=20)):
        part = lines_of(path, pages)
        assert len(part.next_batch()) == 5
        assert part.next_batch() == []
        assert part.next_awake() is not None
        part.snapshot()
        assert len(part.next_batch()) == 5


def test_a_source_waits_while_a_stage_is_full_and_ends_when_asked(tmp_path: Path) -> None:
    class Stage:
        full = True

    stage = Stage()
    part = lines_of(written(tmp_path, b"a\nb\nc\nd\n"))
    watch(stage)
    assert part.next_batch() == []
    stage.full = False
    assert len(part.next_batch()) == 3
    STOP.request()
    with pytest.raises(StopIteration):
        part.next_batch()


def test_a_file_or_folder_that_is_not_there_is_refused_while_the_flow_is_built(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").touch()
    makes: list[Callable[[], object]] = [
        lambda: JsonLinesSource(tmp_path / "none"),
        lambda: JsonLinesSource(tmp_path),
        lambda: ImageFolderSource(tmp_path / "none"),
        lambda: ImageFolderSource(tmp_path / "file"),
        lambda: ImageFolderSource(tmp_path, max_bytes=0),
        lambda: Pages(max_batch=0),
        JsonLinesSink[Batch](tmp_path / "file" / "out.jsonl", described).list_parts,
    ]
    for make in makes:
        with pytest.raises(SettingError, match=r"expected|Expected|cannot be written"):
            make()


def test_a_broken_line_is_the_decoders_failure(tmp_path: Path, entry_point: EntryPoint) -> None:
    path = written(tmp_path, b'{"text": "a"}\n{"text": \n\n\xff\n{"text": "b"}')
    oks: Kept[Batch] = Kept()
    errs: Kept[Failures] = Kept()
    flow = Dataflow("reading")
    records = decode("decode", op.input("in", flow, JsonLinesSource(path)), schema=Schema())
    op.output("oks", records.oks, oks)
    op.output("errs", records.errs, errs)
    entry_point(flow)
    assert numbers(oks.items) == [0, 4]
    assert failed(errs.items) == [1, 3]


def pictures(folder: Path) -> Path:
    for name in ("b.JPG", "a/2.png", "a/10.png", "a/notes.txt", "ä ö.webp", "empty.gif"):
        path = folder / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"" if name == "empty.gif" else name.encode())
    (folder / "pictures" / "folder.png").mkdir()
    return folder / "pictures"


def test_images_of_a_folder_are_messages_in_the_order_of_their_paths(tmp_path: Path) -> None:
    part = ImageFolderSource(pictures(tmp_path), FEW).build_part("in", "pictures", None)
    found = rest(part)
    names = ["a/10.png", "a/2.png", "b.JPG", "empty.gif", "ä ö.webp"]
    assert [(one.key or b"").decode() for one in found] == names
    assert [one.offset for one in found] == [0, 1, 2, 3, 4]
    assert {one.topic for one in found} == {"pictures"}
    assert [one.value for one in found] == [
        b"a/10.png",
        b"a/2.png",
        b"b.JPG",
        b"",
        names[4].encode(),
    ]


def test_a_folder_resumes_after_the_last_path_though_files_were_added(tmp_path: Path) -> None:
    folder = pictures(tmp_path)
    source = ImageFolderSource(folder, Pages(max_batch=2))
    part = source.build_part("in", "pictures", None)
    part.next_batch()
    (folder / "a" / "0.png").write_bytes(b"new")
    (folder / "c.png").write_bytes(b"new")
    found = rest(source.build_part("in", "pictures", part.snapshot()))
    keys = [(one.offset, (one.key or b"").decode()) for one in found]
    assert keys == [(2, "b.JPG"), (3, "c.png"), (4, "empty.gif"), (5, "ä ö.webp")]


def test_of_a_file_that_is_too_large_a_byte_too_much_is_read(tmp_path: Path) -> None:
    source = ImageFolderSource(pictures(tmp_path), max_bytes=4)
    assert rest(source.build_part("in", "pictures", None))[0].value == b"a/10."


def test_an_image_that_cannot_be_read_is_an_empty_value_and_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = pictures(tmp_path)
    part = ImageFolderSource(folder).build_part("in", "pictures", None)
    (folder / "a" / "2.png").unlink()
    assert [one.value for one in rest(part)][:3] == [b"a/10.png", b"", b"b.JPG"]
    assert "2.png cannot be read: [Errno 2]" in caplog.text


def test_a_folder_of_images_runs_through_a_flow(tmp_path: Path, entry_point: EntryPoint) -> None:
    oks: Kept[Batch] = Kept()
    errs: Kept[Failures] = Kept()
    flow = Dataflow("images")
    messages = op.input("in", flow, ImageFolderSource(pictures(tmp_path)))
    records = decode("decode", messages, schema=Schema(format="bytes"))
    op.output("oks", records.oks, oks)
    op.output("errs", records.errs, errs)
    entry_point(flow)
    found = [one for batch in oks.items for one in batch.records]
    assert found[0].fields == {"image": b"a/10.png"}
    assert found[0].payload == {"key": "a/10.png"}
    assert failed(errs.items) == [3], "the empty one"


class CrashingSink(JsonLinesSink[Batch]):
    """Crashes at a write, before its commit; `offered` keeps what came to be written."""

    def __init__(self, path: Path, crash_at: int, offered: list[int]) -> None:
        super().__init__(path, described)
        self._left = iter(range(1, crash_at))
        self._offered = offered

    @override
    def build_part(
        self, step_id: str, for_part: str, resume_state: int | None
    ) -> StatefulSinkPartition[Batch, int]:
        part = super().build_part(step_id, for_part, resume_state)
        return _Crashing(part, self._left, self._offered)


class _Crashing(StatefulSinkPartition[Batch, int]):
    def __init__(
        self, part: StatefulSinkPartition[Batch, int], left: Iterator[int], offered: list[int]
    ) -> None:
        self._part = part
        self._left = left
        self._offered = offered

    @override
    def write_batch(self, values: list[Batch]) -> None:
        self._part.write_batch(values)
        self._offered += numbers(values)
        if next(self._left, None) is None:
            raise CrashError

    @override
    def snapshot(self) -> int:
        return self._part.snapshot()


def results(path: Path) -> list[int]:
    return [json.loads(line)["offset"] for line in path.read_bytes().splitlines()]


@pytest.mark.parametrize("crashes", [(1,), (1, 1, 2), (5, 3, 4, 1), (14,)])
def test_after_crashes_each_line_is_there_exactly_once(
    tmp_path: Path,
    entry_point: EntryPoint,
    recovery_config: RecoveryConfig,
    crashes: Sequence[int],
) -> None:
    n_lines, never = 40, 1_000
    path = written(tmp_path, b'{"text": "a"}\n' * n_lines)
    out = tmp_path / "out.jsonl"
    offered: list[int] = []
    for crash_at in (*crashes, never):
        flow = Dataflow("copying")
        messages = op.input("in", flow, JsonLinesSource(path, FEW))
        records = decode("decode", messages, schema=Schema())
        sink = CrashingSink(out, crash_at, offered)
        op.output("out", records.oks, sink)
        op.output("errs", records.errs, Kept[Failures]())
        try:
            entry_point(flow, epoch_interval=NO_TIME, recovery_config=recovery_config)
        except (RuntimeError, CrashError):
            assert crash_at != never
    assert results(out) == list(range(n_lines))
    assert len(offered) > n_lines, "some lines were written twice, and one of them cut off"


def test_a_crash_leaves_uncommitted_lines_that_the_resume_cuts_off(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    sink = JsonLinesSink[Batch](path, described)
    part = sink.build_part("out", "lines", None)
    part.write_batch([batch(0, 1)])
    committed = part.snapshot()
    part.write_batch([batch(2)])
    assert results(path) == [0, 1, 2]
    again = sink.build_part("out", "lines", committed)
    assert results(path) == [0, 1]
    again.write_batch([batch(2), batch(3)])
    assert results(path) == [0, 1, 2, 3]
    assert again.snapshot() == path.stat().st_size


def test_a_flow_without_state_writes_the_file_anew(tmp_path: Path) -> None:
    path = tmp_path / "new" / "out.jsonl"
    for _ in range(2):
        sink = JsonLinesSink[Batch](path, described)
        sink.list_parts()
        part = sink.build_part("out", "lines", None)
        part.write_batch([batch(1)])
    assert results(path) == [1]


def test_results_that_were_cut_by_someone_else_fail_the_flow(tmp_path: Path) -> None:
    sink = JsonLinesSink[Batch](tmp_path / "out.jsonl", described)
    with pytest.raises(BrokenFlowError, match="has 0 bytes, but 10 were written before"):
        sink.build_part("out", "lines", 10)


def test_workers_write_one_file_whole_lines_each(tmp_path: Path, entry_point: EntryPoint) -> None:
    path = tmp_path / "out.jsonl"
    flow = Dataflow("writing")
    lists = {f"p{n}": [(f"0{n % 2}-0", batch(10 * n, 10 * n + 1))] for n in range(5)}
    op.output("out", op.input("in", flow, Lists(lists)), JsonLinesSink(path, described))
    entry_point(flow)
    assert sorted(results(path)) == [0, 1, 10, 11, 20, 21, 30, 31, 40, 41]


def test_a_line_tells_all_of_a_record_but_its_image() -> None:
    one = replace(
        record(3),
        fields={"text": "a\u2028b", "image": b"1234"},
        vectors={
            "dense": np.array([0.5, 2], np.float32),
            "sparse": SparseEmbedding(indices=np.array([7]), values=np.array([0.25], np.float32)),
        },
        part=Part(number=0, count=2, start=0, end=3),
        hits=(Hit(id=1, score=0.5, payload={"x": 1}),),
    )
    [line] = described(Batch(records=(one,)))
    assert json.loads(json.dumps(line)) == {
        "key": "k3",
        "topic": "docs",
        "partition": 0,
        "offset": 3,
        "fields": {"text": "a\u2028b", "image": {"size_bytes": 4}},
        "payload": {"n": 3},
        "vectors": {"dense": [0.5, 2.0], "sparse": {"indices": [7], "values": [0.25]}},
        "part": {"number": 0, "count": 2, "start": 0, "end": 3},
        "hits": [{"id": 1, "score": 0.5, "payload": {"x": 1}}],
    }


def test_a_value_that_json_does_not_know_stands_as_text(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    sink: JsonLinesSink[int] = JsonLinesSink(
        path, lambda n: [{"n": n, "path": Path("a"), "b": b"x"}]
    )
    sink.build_part("out", "lines", None).write_batch([1])
    assert json.loads(path.read_bytes()) == {"n": 1, "path": "a", "b": "b'x'"}


def test_a_path_that_is_not_utf8_is_kept_as_it_is(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff.png")
    try:
        (tmp_path / name).write_bytes(b"x")
    except (OSError, UnicodeError):
        pytest.skip("this file system has UTF-8 names only")
    [one] = rest(ImageFolderSource(tmp_path).build_part("in", tmp_path.name, None))
    assert one.key == b"\xff.png"
