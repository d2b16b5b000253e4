"""Two texts make the row that the tokenizer would make of them, for the price of one reading."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Encoding, Tokenizer

from fastembed_stream.errors import SettingError
from fastembed_stream.pairs import Pairs, shares
from fastembed_stream.tokens import Tokens
from fastembed_stream.values import Pair
from tests.fastembed_stream.examples import ODD_TEXTS, texts
from tests.fastembed_stream.tiny_models import row, write_tokenizer

_ROBERTA = {
    "type": "RobertaProcessing",
    "sep": ["[SEP]", 3],
    "cls": ["[CLS]", 2],
    "trim_offsets": True,
    "add_prefix_space": False,
}
_BERT = {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}
_FRAMES: dict[str, dict[str, Any]] = {
    "template": {},
    "roberta": {"shipped": {"post_processor": _ROBERTA}},
    "bert": {"shipped": {"post_processor": _BERT}},
    "none": {"specials": False},
    "cut at the left": {"config": {"truncation_side": "left"}},
}
_LIMITS = (7, 12, 48)


@pytest.fixture(scope="module", params=[(f, n) for f in _FRAMES for n in _LIMITS], ids=str)
def both(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Pairs, Tokenizer]:
    """Give our reader and the tokenizer's own, cut to the same limit."""
    name, limit = request.param
    folder = write_tokenizer(tmp_path_factory.mktemp("pairs"), **_FRAMES[name])
    theirs = Tokenizer.from_file(str(folder / "tokenizer.json"))
    theirs.enable_truncation(limit, direction="left" if "left" in name else "right")
    return pairs_of(folder, max_tokens=limit), theirs


def pairs_of(folder: Path, *, max_tokens: int | None = None) -> Pairs:
    model = row(folder)
    return Pairs.of(Tokens.open(folder, model, max_tokens=max_tokens), model_name=model.name)


def expected(theirs: Tokenizer, pair: Pair) -> Encoding:
    return theirs.encode(*pair)


@settings(max_examples=40)
@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=4))
def test_a_row_is_what_the_tokenizer_makes_of_the_pair(
    both: tuple[Pairs, Tokenizer], several: list[Pair]
) -> None:
    ours, theirs = both
    reading = ours.read(several)
    for pair, ids, types in zip(several, reading.ids, reading.types, strict=True):
        assert ids.tolist() == expected(theirs, pair).ids
        assert types.tolist() == expected(theirs, pair).type_ids
    assert reading.lengths.tolist() == [len(ids) for ids in reading.ids]


@pytest.mark.parametrize(
    "pair",
    [
        ("short", "stream of text " * 20_000),
        ("stream of text " * 20_000, "short"),
        ("the point " * 4_000, "stream of text " * 20_000),
        ("", "stream\n" * 20_000),
        ("中" * 3_000, "x" * 3_000),
    ],
    ids=["long document", "long query", "both", "empty query", "no spaces"],
)
def test_a_very_long_text_makes_the_same_row(both: tuple[Pairs, Tokenizer], pair: Pair) -> None:
    ours, theirs = both
    reading = ours.read([pair])
    cut = Tokenizer.from_str(theirs.to_str())
    truncation = theirs.truncation or {}
    limit, direction = truncation["max_length"], truncation["direction"]
    cut.no_truncation()
    # The tokenizer's own cut makes each combination of what is cut off, which is slow here.
    whole = [cut.encode(text, add_special_tokens=False).ids for text in pair]
    room = limit - cut.num_special_tokens_to_add(is_pair=True)
    kept = shares(len(whole[0]), len(whole[1]), room)
    parts = [w[:n] if direction == "right" else w[len(w) - n :] for w, n in zip(whole, kept)]  # noqa: B905
    framed = expected(theirs, ("a", "a"))
    row_ids: list[int] = []
    text = None
    for number, of_text in zip(framed.ids, framed.sequence_ids, strict=True):
        if of_text is None:
            row_ids.append(number)
        elif of_text != text:
            row_ids += parts[of_text]
        text = of_text
    assert reading.ids[0].tolist() == row_ids


def test_a_query_is_tokenized_once_for_all_its_documents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = pairs_of(write_tokenizer(tmp_path))
    asked: list[list[str]] = []
    ordinary = Tokens.pieces

    def noted(self: Tokens, several: list[str]) -> Any:
        asked.append(list(several))
        return ordinary(self, several)

    monkeypatch.setattr(Tokens, "pieces", noted)
    pairs.read([("the query", document) for document in ("a", "of", "a", "the query")])
    assert asked == [["the query", "a", "of"]]


def test_only_as_much_of_a_long_document_is_read_as_the_limit_can_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = Tokens.open(write_tokenizer(tmp_path), row(tmp_path), max_tokens=16)
    read = [0]
    tokenizer = tokens._tokenizer

    class Noting:
        def __getattr__(self, name: str) -> Any:
            return getattr(tokenizer, name)

        def encode_batch_fast(self, several: list[str], **how: Any) -> Any:
            read[0] += sum(map(len, several))
            return tokenizer.encode_batch_fast(several, **how)

    monkeypatch.setattr(tokens, "_tokenizer", Noting())
    megabyte = "stream of text " * 70_000
    Pairs.of(tokens, model_name="tests/tiny").read([("short", megabyte), (megabyte, "short")])
    assert 0 < read[0] < 20_000


def test_what_is_cut_off_is_counted(tmp_path: Path) -> None:
    reading = pairs_of(write_tokenizer(tmp_path), max_tokens=8).read(
        [("a the", "of of of of of of"), ("a", "the"), ("a a a a", "of of of of")]
    )
    assert [row_.tolist() for row_ in reading.ids] == [
        [2, 11, 10, 3, 6, 6, 6, 3],
        [2, 11, 3, 10, 3],
        [2, 11, 11, 3, 6, 6, 6, 3],
    ]
    assert reading.lengths.tolist() == [8, 5, 8]
    assert reading.n_rows == 3
    assert (reading.truncated_rows, reading.truncated_tokens) == (2, 6)


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 20))
def test_shares_fill_the_room_and_cut_the_longer_text_first(
    first: int, second: int, room: int
) -> None:
    here, there = shares(first, second, room)
    assert here + there == min(first + second, room)
    assert here <= first
    assert there <= second
    if first + second > room:
        assert min(here, there) == min(first, second) or abs(here - there) <= 1


@pytest.mark.parametrize("limit", [3, 4])
def test_a_limit_without_room_for_a_pair_is_refused(tmp_path: Path, limit: int) -> None:
    with pytest.raises(SettingError, match=r"3 special tokens\. Pass max_tokens= of 5 or more"):
        pairs_of(write_tokenizer(tmp_path), max_tokens=limit)


def test_the_least_limit_keeps_a_token_of_each_text(tmp_path: Path) -> None:
    pairs = pairs_of(write_tokenizer(tmp_path), max_tokens=5)
    for pair in zip(ODD_TEXTS, reversed(ODD_TEXTS), strict=True):
        assert len(pairs.read([pair]).ids[0]) <= 5
    np.testing.assert_array_equal(pairs.read([("a a", "of of")]).ids[0], [2, 11, 3, 6, 3])
