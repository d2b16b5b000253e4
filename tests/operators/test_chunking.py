"""A long text becomes parts that a model reads whole, and nothing of it is lost."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from fastembed_stream import ModelFilesError, SettingError, UnknownModelError
from operators import Batch, ChunkStage, Failures, Part, Record, chunk
from operators.chunking import _Splitter
from operators.stages import apply
from tests.fastembed_stream.tiny_models import row, write
from tests.operators.things import EntryPoint, Kept, Lists, batch, failed, numbers, record

LIMIT = 16
PROSE = "The stream is a point. A vector of text, the kafka.\n\n" * 40


def staged(folder: Path, **settings: Any) -> ChunkStage:
    write(folder)
    return ChunkStage(**{"model": row(folder), "max_tokens": LIMIT, **settings})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tokenizer")


@pytest.fixture(scope="module")
def stage(folder: Path) -> ChunkStage:
    return staged(folder)


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    write(folder)
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def parts(stage: ChunkStage, text: str) -> list[tuple[str, Part]]:
    done = stage(Batch(records=(record(0, text),)))
    assert done.failures == ()
    return [(str(one.fields["text"]), part_of(one)) for one in done.records]


def part_of(one: Record) -> Part:
    assert one.part is not None
    return one.part


texts = st.text(st.sampled_from("abc de.fz\n\r\t 日本éß!?\u0301👩\u200d🚀İ\x1c\u2028")) | st.text(
    max_size=200
).map(lambda text: text * 9)


@settings(max_examples=300, deadline=None)
@given(texts, st.sampled_from([0, 3, 9]))
def test_parts_are_cut_from_the_text_cover_it_and_keep_the_limit(
    stage: ChunkStage, tokenizer: Tokenizer, text: str, overlap: int
) -> None:
    found = parts(replace(stage, overlap=overlap), text)
    covered = set()
    for number, (own, part) in enumerate(found):
        assert text[part.start : part.end] == own
        assert (part.number, part.count) == (number, len(found))
        assert len(tokenizer.encode(own).ids) <= LIMIT
        covered |= set(range(part.start, part.end))
    assert not "".join(char for at, char in enumerate(text) if at not in covered).strip()
    starts = [part.start for _, part in found]
    assert starts == sorted(set(starts))


@given(st.text(st.sampled_from("stream of text. \n"), min_size=1, max_size=3_000))
@settings(max_examples=60, deadline=None)
def test_a_part_repeats_no_more_of_the_one_before_than_was_asked(
    stage: ChunkStage, tokenizer: Tokenizer, text: str
) -> None:
    for asked in (0, 5):
        found = [part for _, part in parts(replace(stage, overlap=asked), text)]
        for one, other in pairwise(found):
            repeated = text[other.start : max(one.end, other.start)]
            assert len(tokenizer.encode(repeated, add_special_tokens=False).ids) <= asked


def test_an_overlap_is_there_also_where_windows_of_a_long_text_meet(stage: ChunkStage) -> None:
    text = " ".join(["stream"] * 2_000)
    found = [part for _, part in parts(replace(stage, overlap=4), text)]
    assert {one.end - other.start for one, other in pairwise(found)} == {4 * 7 - 1}
    assert {part.end - part.start for part in found[:-1]} == {14 * 7 - 1}


def test_a_text_within_the_limit_stays_one_part_as_it_is(stage: ChunkStage) -> None:
    for text in ("", "a", "  the stream \n", " \t", "a " * 14):
        assert parts(stage, text) == [(text, Part(number=0, count=1, start=0, end=len(text)))]


def test_one_token_more_than_the_limit_makes_two_parts(stage: ChunkStage) -> None:
    assert len(parts(stage, "a " * 15)) == 2


def test_white_space_alone_is_one_empty_part_however_long(stage: ChunkStage) -> None:
    assert parts(stage, "\n" * 10_000) == [("", Part(number=0, count=1, start=0, end=0))]


def test_sentences_and_paragraphs_are_kept_whole_where_they_fit(stage: ChunkStage) -> None:
    assert {own for own, _ in parts(stage, PROSE)} == {
        "The stream is a point. A vector of text, the kafka."
    }


def test_a_part_keeps_key_origin_and_payload_of_its_document(stage: ChunkStage) -> None:
    text = PROSE[:120]
    whole = record(7, text)
    whole = replace(whole, payload={"n": 7, "text": text, "deep": {"text": text, "m": 1}})
    done = stage(Batch(records=(whole,)))
    assert len(done.records) > 1
    for one in done.records:
        assert (one.key, one.origin) == (whole.key, whole.origin)
        assert one.payload == {**whole.payload, "text": one.fields["text"]}
    deep = replace(stage, stored_as="deep.text")(Batch(records=(whole,)))
    assert [one.payload["deep"] for one in deep.records] == [
        {"text": one.fields["text"], "m": 1} for one in deep.records
    ]
    assert whole.payload["deep"] == {"text": text, "m": 1}
    assert replace(stage, stored_as=None)(Batch(records=(whole,))).records[0].payload is (
        whole.payload
    )


def test_a_large_payload_does_not_come_with_each_part(stage: ChunkStage) -> None:
    whole = replace(record(1, PROSE), payload={"text": PROSE, "html": "x" * 100_000, "n": 1})
    done = replace(stage, max_bytes=200_000)(Batch(records=(whole,)))
    sizes = [len(json.dumps(one.payload)) for one in done.records]
    assert len(sizes) == 40
    assert sum(sizes) <= 200_000
    assert {str(one.payload["_stream"]) for one in done.records} == {
        "{'omitted': {'html': 100012}}"
    }
    assert done.records[0].payload["text"] == done.records[0].fields["text"]


def test_a_document_whose_parts_have_too_many_bytes_even_so_fails_alone(
    stage: ChunkStage,
) -> None:
    long = replace(record(1, PROSE), payload={"text": PROSE})
    done = apply(replace(stage, max_bytes=900), Batch(records=(record(0), long)))
    assert (numbers([done]), failed([done.failures])) == ([0], [1])
    assert "at most 900 are allowed" in done.failures[0].reason


def test_a_payload_field_that_holds_something_else_stays(stage: ChunkStage) -> None:
    other = replace(record(1, PROSE), payload={"text": "a title"})
    assert {str(one.payload) for one in stage(Batch(records=(other,))).records} == {
        "{'text': 'a title'}"
    }


def test_the_prompt_of_the_embedding_stage_counts(folder: Path) -> None:
    prompted = replace(
        staged(folder), model=row(folder, passage_prompt="the text: "), prompted=True
    )
    assert [part.end - part.start for _, part in parts(prompted, "a " * 22)] == [21, 21]


class Guilty:
    """A splitter that fails for some texts."""

    limit = LIMIT

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def spans(self, text: str, most: int) -> list[tuple[int, int]]:
        del most
        if text == "bad":
            raise self._error
        return [(0, len(text))]


class PanicException(BaseException):
    """No Exception, as those of Rust's bindings."""


@pytest.mark.parametrize("error", [ValueError("no"), PanicException("index out of bounds")])
def test_a_splitting_error_fails_its_document_alone(
    stage: ChunkStage, error: BaseException
) -> None:
    broken = replace(stage)
    guilty: Any = Guilty(error)
    broken._opened._splitter = guilty
    done = apply(broken, Batch(records=(record(0), record(1, "bad"), record(2))))
    assert (numbers([done]), failed([done.failures])) == ([0, 2], [1])
    assert done.failures[0].stage == "chunk text"


def test_an_outage_while_splitting_fails_no_document(stage: ChunkStage) -> None:
    broken = replace(stage)
    guilty: Any = Guilty(MemoryError())
    broken._opened._splitter = guilty
    with pytest.raises(MemoryError):
        apply(broken, Batch(records=(record(1, "bad"),)))


def test_a_record_without_text_fails_alone_and_says_what_it_has(stage: ChunkStage) -> None:
    image = replace(record(1), fields={"image": b"..."})
    done = apply(stage, Batch(records=(record(0), image)))
    assert numbers([done]) == [0]
    assert "Field 'text' of record 'k1' is no text; it has image" in done.failures[0].reason


def test_a_document_of_too_many_parts_fails_alone(stage: ChunkStage) -> None:
    done = apply(replace(stage, max_parts=2), Batch(records=(record(0), record(1, PROSE))))
    assert numbers([done]) == [0]
    assert "has more than max_parts=2 parts of 16 tokens" in done.failures[0].reason


def test_a_text_that_no_cut_brings_below_the_limit_fails_and_says_where(folder: Path) -> None:
    stage = staged(folder)
    splitter = stage._opened.splitter(stage)

    class Uncut:
        def chunk_indices(self, text: str) -> list[tuple[int, str]]:
            return [(0, text)]

    uncut: Any = Uncut()
    broken = replace(stage)
    broken._opened._splitter = _Splitter(splitter.tokenizer, uncut, LIMIT, "")
    done = broken(Batch(records=(record(1, "a " * 20),)))
    assert "The text at character 0 cannot be split into parts of 16" in done.failures[0].reason


def chunked(
    entry_point: EntryPoint, batches: Sequence[Batch], stage: ChunkStage
) -> tuple[list[Batch], list[Failures]]:
    oks: Kept[Batch] = Kept()
    errs: Kept[Failures] = Kept()
    flow = Dataflow("chunking")
    source = op.input("in", flow, Lists({"all": [("k", one) for one in batches]}))
    split = chunk("chunk", source, stage=stage)
    op.output("oks", split.oks, oks)
    op.output("errs", split.errs, errs)
    entry_point(flow)
    return oks.items, errs.items


def test_the_parts_of_a_document_stay_together_in_order(
    entry_point: EntryPoint, stage: ChunkStage
) -> None:
    long = Batch(records=(record(1), record(2, PROSE), record(3)))
    oks, errs = chunked(entry_point, [batch(0), long], stage)
    assert errs == []
    assert [numbers([one]) for one in oks] == [[0], [1, *[2] * 40, 3]]
    assert [part_of(one).number for one in oks[1].records] == [0, *range(40), 0]


def test_time_grows_with_the_length_of_a_text_alone(stage: ChunkStage) -> None:
    def seconds(text: str) -> float:
        started = time.perf_counter()
        parts(stage, text)
        return time.perf_counter() - started

    # Without windows the second takes 64 times as long as the first.
    assert seconds("日本" * 8_000) < 30 * min(seconds("日本" * 1_000) for _ in range(3))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"reads": ""}, "expected the name of a field"),
        ({"overlap": -1}, "overlap=-1"),
        ({"overlap": LIMIT}, "less than max_tokens=16"),
        ({"max_parts": 0}, "max_parts=0"),
        ({"max_bytes": 0}, "max_bytes=0"),
    ],
)
def test_settings_that_cannot_be_right_are_refused_at_birth(
    folder: Path, wrong: dict[str, object], said: str
) -> None:
    with pytest.raises(SettingError, match=said):
        staged(folder, **wrong)


def test_an_unknown_model_is_refused_at_birth_and_a_limit_without_room_when_opened(
    folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(UnknownModelError):
        ChunkStage(model="no/such-model")
    with pytest.raises(SettingError, match="leaves 3 for text"):
        staged(folder, max_tokens=5).open()
    with pytest.raises(SettingError, match="more than overlap=14"):
        staged(folder, overlap=14).open()
    (tmp_path / "model.onnx").touch()
    with pytest.raises(ModelFilesError, match=r"No tokenizer\.json"):
        ChunkStage(model=row(tmp_path)).open()


def test_without_a_limit_of_its_own_it_takes_the_models(folder: Path) -> None:
    assert staged(folder, max_tokens=None).open() == 48
