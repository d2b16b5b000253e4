"""A very long text is read in part, and nobody can tell."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fastembed_stream import tokens as tokens_module
from fastembed_stream.tokens import Tokens
from tests.fastembed_stream.examples import packaged_model
from tests.fastembed_stream.tiny_models import row, write_tokenizer

_LETTERS = st.sampled_from(["x", "qz", "stream", "é", "中", "e\u0301", "ש", "🙂", "\u200b", "7"])
_GAPS = st.sampled_from([" ", "  ", "\n", "\t", "\u3000", " " * 300, ".", "-", ""])


@st.composite
def long_texts(draw: st.DrawFn) -> str:
    """Draw words, some of them hundreds of letters long, with all kinds of gaps or none."""
    words = st.tuples(_LETTERS, st.integers(1, 400), _GAPS)
    return "".join(word * n + gap for word, n, gap in draw(st.lists(words, max_size=12)))


@pytest.fixture(scope="module")
def by_limit(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Tokens]:
    folder = write_tokenizer(tmp_path_factory.mktemp("tokenizer"))
    return {n: Tokens.open(folder, row(folder), max_tokens=n) for n in (4, 16, 48)}


def equals_the_whole(tokens: Tokens, text: str) -> None:
    [ids] = tokens.read([text]).ids
    assert ids.tolist() == tokens._tokenizer.encode(text).ids


@given(long_texts(), st.sampled_from([4, 16, 48]))
@example("x" * 170 + "." + "qz" * 2000, 16)  # a word that only its end makes too long to know
@example("x" * 5000, 4)
@example(" " * 5000 + "stream", 4)
@example("stream " + "x" * 5000 + " of", 4)
@example("中" * 3000, 16)
def test_a_very_long_text_gives_the_ids_of_the_whole(
    by_limit: dict[int, Tokens], text: str, limit: int
) -> None:
    equals_the_whole(by_limit[limit], text)


@given(st.lists(long_texts(), max_size=4))
def test_long_and_short_texts_keep_their_places(
    by_limit: dict[int, Tokens], several: list[str]
) -> None:
    tokens = by_limit[4]
    mixed = [part for text in several for part in (text, text[:9])]
    assert [ids.tolist() for ids in tokens.read(mixed).ids] == [
        tokens._tokenizer.encode(text).ids for text in mixed
    ]


@given(long_texts())
def test_a_text_is_counted_as_cut_if_and_only_if_it_is(
    by_limit: dict[int, Tokens], text: str
) -> None:
    tokens = by_limit[16]
    reading = tokens.read([text])
    lost = sum(len(part.ids) - 2 for part in tokens._tokenizer.encode(text).overflowing)
    assert reading.truncated_rows == int(lost > 0)
    assert min(lost, tokens.limit) <= reading.truncated_tokens <= lost


def test_a_megabyte_costs_no_more_than_pages(
    by_limit: dict[int, Tokens], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = by_limit[48]
    n_chars: list[int] = []
    encode = tokens._tokenizer.encode_batch_fast

    class Counting:
        def encode_batch_fast(self, texts: list[str], **options: bool) -> object:
            n_chars.extend(map(len, texts))
            return encode(texts, **options)

    monkeypatch.setattr(tokens, "_tokenizer", Counting())
    tokens.read(["the stream of text " * 50_000])
    assert 0 < sum(n_chars) < 10_000


def test_parts_end_before_white_space_and_the_last_is_the_whole() -> None:
    text = "stream of text\nand more " * 9
    parts = list(tokens_module._growing_parts(text, 20))
    assert parts[-1] == text
    for part in parts[:-1]:
        assert text.startswith(part)
        assert text[len(part)] in " \n"


@pytest.mark.parametrize(
    "text",
    [
        "The quick brown fox, again. " * 40_000,
        "zqxjkv" * 100_000,
        "中文" * 20_000,
        "word " * 3 + "\n" * 50_000 + "end",
    ],
    ids=["words", "one word", "no spaces", "many line ends"],
)
def test_a_real_tokenizer_reads_a_very_long_text_as_the_whole(text: str) -> None:
    folder = packaged_model()
    equals_the_whole(Tokens.open(folder, row(folder)), text)
