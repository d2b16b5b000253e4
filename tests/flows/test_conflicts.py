"""Settings that are wrong together are refused before anything is read, in one sentence."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from fastembed_stream import SettingError
from flows.settings import HybridSettings, ImageSettings, Process, QuerySettings, TextSettings

FLOWS: dict[str, type[Process]] = {
    "text": TextSettings,
    "hybrid": HybridSettings,
    "images": ImageSettings,
    "rerank": QuerySettings,
}


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Give what a flow's settings are refused with; '' where they are taken."""

    def read(flow: str = "text", **values: object) -> str:
        for name, value in values.items():
            monkeypatch.setenv(f"STREAM_{name}".upper(), str(value))
        return said_of(flow)

    return read


def said_of(flow: str) -> str:
    try:
        FLOWS[flow].from_environment()
    except SettingError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("topics", ["docs", "more,docs", " docs , more"])
def test_dead_letters_never_go_to_a_topic_that_is_read(
    told: Callable[..., str], flow: str, topics: str
) -> None:
    more = {"results_topic": "answers"} if flow == "rerank" else {}
    said = told(flow, kafka_topics=topics, dead_letter_topic="docs", **more)
    assert "STREAM_DEAD_LETTER_TOPIC and STREAM_KAFKA_TOPICS both name 'docs'" in said
    assert "\n" not in said


def test_answers_go_neither_to_the_questions_nor_to_the_dead_letters(
    told: Callable[..., str],
) -> None:
    said = told("rerank", kafka_topics="q", results_topic="q", dead_letter_topic="q")
    assert "STREAM_RESULTS_TOPIC and STREAM_KAFKA_TOPICS both name 'q'" in said
    assert "STREAM_DEAD_LETTER_TOPIC and STREAM_RESULTS_TOPIC both name 'q'" in said


def test_topics_of_their_own_are_taken(told: Callable[..., str]) -> None:
    assert told("rerank", kafka_topics="q,r", results_topic="a", dead_letter_topic="d") == ""


@pytest.mark.parametrize(
    "topics", ["^docs.*", "docs more", "docs;more", "docs\tmore", "größe", "..", "x" * 250, "a/b"]
)
def test_what_cannot_be_a_topic_is_refused(told: Callable[..., str], topics: str) -> None:
    said = told(kafka_topics=topics)
    assert f"STREAM_KAFKA_TOPICS: {topics[:100]!r}"[:-1] in said
    assert "cannot be a topic" in said
    assert "patterns are not read; several have commas" in said


@pytest.mark.parametrize("topic", ["dead letters", "dead,more", "docs ", "^dead"])
def test_what_cannot_be_a_topic_of_dead_letters_is_refused(
    told: Callable[..., str], topic: str
) -> None:
    said = told(kafka_topics="docs", dead_letter_topic=topic)
    assert f"STREAM_DEAD_LETTER_TOPIC: {topic!r} cannot be a topic" in said


def test_a_topic_that_is_named_twice_is_told(told: Callable[..., str]) -> None:
    assert "names 'docs' twice" in told(kafka_topics="docs,more,docs")


def as_it_is(path: Path) -> Path:
    return path


def around(path: Path) -> Path:
    return path.parent / "x" / ".." / path.name


def symbolic(path: Path) -> Path:
    link = path.parent / "link.jsonl"
    link.symlink_to(path)
    return link


def hard(path: Path) -> Path:
    link = path.parent / "hard.jsonl"
    path.touch()
    os.link(path, link)
    return link


def through_a_folder(path: Path) -> Path:
    link = path.parent.parent / "folder"
    link.symlink_to(path.parent)
    return link / path.name


def relative(path: Path) -> Path:
    return Path(os.path.relpath(path))


NAMES = [as_it_is, around, symbolic, hard, through_a_folder, relative]


@pytest.mark.parametrize("other_name", NAMES)
@pytest.mark.parametrize(
    ("flow", "names"),
    [
        ("text", ("input_file", "output_file")),
        ("text", ("input_file", "dead_letter_file")),
        ("hybrid", ("output_file", "dead_letter_file")),
        ("rerank", ("input_file", "results_file")),
        ("rerank", ("results_file", "dead_letter_file")),
        ("text", ("qdrant_path", "dead_letter_file")),
    ],
)
def test_two_names_of_one_file_are_refused_by_whatever_links(
    told: Callable[..., str],
    tmp_path: Path,
    flow: str,
    names: tuple[str, str],
    other_name: Callable[[Path], Path],
) -> None:
    one, other = names
    folder = tmp_path / "data"
    (folder / "x").mkdir(parents=True)
    path = folder / "lines.jsonl"
    if one == "input_file":
        path.touch()
    values: dict[str, object] = {one: path, other: other_name(path)}
    if "input_file" not in values:
        values["kafka_topics"] = "docs"
    if flow == "rerank" and "results_file" not in values:
        values["results_topic"] = "answers"
    said = told(flow, **values)
    assert f"STREAM_{one.upper()} and STREAM_{other.upper()} are one place" in said


def test_files_of_their_own_are_taken(told: Callable[..., str], tmp_path: Path) -> None:
    names = {"input_file": "in", "output_file": "out", "dead_letter_file": "dead"}
    values = {name: tmp_path / f"{file}.jsonl" for name, file in names.items()}
    for path in values.values():
        path.touch()
    assert told(**values) == ""


def test_the_default_file_of_dead_letters_is_not_read_either(
    told: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = told(input_file=tmp_path / "dead_letters.jsonl")
    assert "STREAM_INPUT_FILE and STREAM_DEAD_LETTER_FILE are one place" in said


def test_what_is_written_does_not_lie_in_the_folder_that_is_read(
    told: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path)
    assert told("images", input_folder=tmp_path) == ""
    said = told("images", output_file=tmp_path / "link" / "deep" / "out.jsonl")
    assert "STREAM_OUTPUT_FILE" in said
    assert "is inside STREAM_INPUT_FOLDER" in said


def test_no_output_is_a_file_of_a_recovery_store(told: Callable[..., str]) -> None:
    said = told(kafka_topics="docs", output_file="/recovery/part-0.sqlite3")
    assert "is of a recovery store" in said


def no_regular_files(folder: Path) -> dict[str, Path]:
    os.mkfifo(folder / "fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "s"))
    (folder / "folder").mkdir()
    return {"a pipe": folder / "fifo", "a socket": folder / "s", "a directory": folder / "folder"}


def test_a_place_that_cannot_take_lines_is_refused_while_the_flow_is_built(
    tmp_path: Path,
) -> None:
    for kind, path in no_regular_files(tmp_path).items():
        settings = TextSettings(kafka_topics=("docs",), dead_letter_file=path)
        with pytest.raises(SettingError, match=f"Dead letters cannot.*it is {kind}"):
            _ = settings.dead_letters


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("value", ["[" * 100_000, '{"a":' * 20_000, "9" * 5_000, "NaN", "null"])
def test_whatever_a_setting_is_told_the_answer_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, flow: str, value: str
) -> None:
    for name in FLOWS[flow].model_fields:
        with monkeypatch.context() as environment:
            environment.setenv(f"STREAM_{name}".upper(), value)
            said = said_of(flow)
        assert len(said) < 1_000, name
        assert said.isprintable(), name


@pytest.mark.parametrize("value", ["[" * 100_000, '{"a": ' * 50_000, '{"a":' * 20_000 + "1"])
def test_json_that_nests_without_end_is_a_sentence(told: Callable[..., str], value: str) -> None:
    said = told(kafka_topics="docs", kafka_options=value)
    assert said.startswith("Settings: STREAM_KAFKA_OPTIONS: ")
    assert "nests too deep" in said
    assert len(said) < 300


@pytest.mark.parametrize("depth", [10, 500, 900, 1_100])
def test_json_of_a_wrong_shape_is_a_sentence_at_any_depth(
    told: Callable[..., str], depth: int
) -> None:
    for value in ("[" * depth + "]" * depth, '{"a": ' * depth + "1" + "}" * depth):
        said = told(kafka_topics="docs", kafka_options=value)
        assert said.startswith("Settings: STREAM_KAFKA_OPTIONS: ")
        assert len(said) < 300


@pytest.mark.parametrize(
    ("flow", "source"),
    [("text", "input_file"), ("hybrid", "input_file"), ("images", "input_folder")],
)
def test_keys_of_bytes_are_none_of_a_files(
    told: Callable[..., str], flow: str, source: str, tmp_path: Path
) -> None:
    said = told(flow, **{source: tmp_path / "here"}, key_format="long", output_file=tmp_path / "o")
    assert (
        f"STREAM_KEY_FORMAT=long reads keys of Kafka's messages, and STREAM_{source}".upper()
        in (said.upper())
    )
    assert told(flow, key_format="none") == ""
