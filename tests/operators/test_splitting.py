"""Cutting a text takes work that its length bounds, whatever it is made of, for any overlap."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from semantic_text_splitter import TextSplitter
from tokenizers import Tokenizer

from operators import splitting
from operators.chunking import _Splitter
from operators.splitting import BoundedSplitter
from tests.fastembed_stream.tiny_models import write

LIMIT = 48
ROOM = LIMIT - 2
OVERLAPS = (0, 8, ROOM // 2, ROOM - 1)
MOST_READ = 3 * (splitting._MOST_WORK + 80)
"""Times that a character may be counted: each window so often, and a text three times."""

NO_TOKENS = ("\u2028\u200d", "\ufe0f", "\x01", "\u200b\u2028\u00ad", "\u2029\u0301")
HOSTILE = (
    *NO_TOKENS,
    *(f"{chars} word" for chars in NO_TOKENS),
    "the \u2028\x01\x01\x01\x01\x01\x01\x01\x01",
    "日本語",
    "a\n",
    "a\n\n\n\n",
    "a ",
    "x" * 150 + " ",
    "a  \r\n",
    "e\u0301\u0301\u0301",
    "👩\u200d🚀",
    ". ",
)
PROSE = (
    "The stream is a point. A vector of text, the kafka keeps its log in order.\n",
    "Whoever takes this over next year: reads the tests first; an outage is waited out?\n\n",
    "- 3.14 of (it)\n- \"text\", 'broken'!\n",
    "# The vector\n\nof text.   A point - is the stream. ",
    "日本語の文。中文文本。 ",
    "kafka-stream_of.text@point/vector ",
    "\tif the == text:\n\t\ta()\n",
)


class Counting:
    """A tokenizer that counts the characters that it is given, and its calls."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.chars = 0

    def encode(self, text: str, **told: Any) -> Any:
        self.chars += len(text) + splitting._CALL_CHARS
        return self._tokenizer.encode(text, **told)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = write(tmp_path_factory.mktemp("tokenizer"))
    found = Tokenizer.from_file(str(folder / "tokenizer.json"))
    found.no_truncation()
    found.no_padding()
    return found


def splitter(tokenizer: Any, overlap: int) -> _Splitter:
    return _Splitter(tokenizer, BoundedSplitter(tokenizer, ROOM, overlap), LIMIT, "")


def work(tokenizer: Tokenizer, text: str, overlap: int) -> int:
    counting = Counting(tokenizer)
    splitter(counting, overlap).spans(text, 1_000_000)
    return counting.chars


@pytest.mark.parametrize("overlap", OVERLAPS)
@pytest.mark.parametrize("unit", HOSTILE, ids=ascii)
def test_work_grows_with_the_length_of_a_text_alone(
    tokenizer: Tokenizer, unit: str, overlap: int
) -> None:
    short, long = (work(tokenizer, (unit * n)[:n], overlap) for n in (6_000, 12_000))
    print(f"overlap {overlap} of {ROOM}: {long / 12_000:.0f} characters counted for each")  # noqa: T201  the figure that `pytest -s` shows
    assert long <= 3.2 * short, "twice the text, and not four times the work"
    assert long <= MOST_READ * 12_000


@given(
    st.lists(
        st.tuples(st.sampled_from(HOSTILE + PROSE), st.sampled_from([1, 7, 90, 900])), max_size=6
    ),
    st.sampled_from(OVERLAPS),
)
@settings(max_examples=40, deadline=None)
def test_no_mixture_of_texts_takes_more(
    tokenizer: Tokenizer, units: list[tuple[str, int]], overlap: int
) -> None:
    text = "".join(unit * n for unit, n in units)[:20_000]
    assert work(tokenizer, text, overlap) <= MOST_READ * (len(text) + 16 * LIMIT)


@given(
    st.lists(st.sampled_from(PROSE), min_size=1, max_size=120).map("".join),
    st.sampled_from([0, 3, ROOM // 4, ROOM // 2]),
)
@settings(max_examples=150, deadline=None)
def test_a_normal_text_is_cut_where_its_sentences_end(
    tokenizer: Tokenizer, text: str, overlap: int
) -> None:
    without_bounds = TextSplitter.from_huggingface_tokenizer(tokenizer, ROOM, overlap)
    reference = _Splitter(tokenizer, without_bounds, LIMIT, "")  # type: ignore[arg-type]  # what it bounds
    most = 1_000_000
    assert splitter(tokenizer, overlap).spans(text, most) == reference.spans(text, most)


@given(
    st.lists(st.sampled_from(HOSTILE + PROSE), max_size=60).map("".join) | st.text(max_size=300),
    st.sampled_from(OVERLAPS),
)
@settings(max_examples=150, deadline=None)
def test_a_text_that_is_cut_by_tokens_keeps_the_limits_and_loses_nothing(
    tokenizer: Tokenizer, text: str, overlap: int
) -> None:
    def n_tokens(part: str) -> int:
        return len(tokenizer.encode(part, add_special_tokens=False).ids)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(splitting, "_MOST_WORK", 0)
        found = BoundedSplitter(tokenizer, ROOM, overlap).chunk_indices(text)
    spans = [(start, start + len(part)) for start, part in found]
    assert [text[start:end] for start, end in spans] == [part for _, part in found]
    assert all(n_tokens(part) <= ROOM and part.strip() == part for _, part in found)
    covered = {at for start, end in spans for at in range(start, end)}
    assert not "".join(char for at, char in enumerate(text) if at not in covered).strip()
    for (start, end), (later, _) in pairwise(spans):
        assert start < later
        assert n_tokens(text[later:end]) <= min(overlap, ROOM // 2)


def test_a_text_that_is_cut_by_tokens_is_cut_between_words(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(splitting, "_MOST_WORK", 0)
    found = BoundedSplitter(tokenizer, ROOM, 10).chunk_indices("broken stream of words " * 100)
    assert {part.split()[-1] for _, part in found} <= {"broken", "stream", "of", "words"}
