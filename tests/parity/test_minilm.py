"""A real model gives fastembed's numbers, whatever the text and the batch."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastembed_stream.errors import SettingError
from tests.fastembed_stream.examples import MIXED_LENGTHS, ODD_TEXTS, real_model, texts
from tests.parity.oracle import Both, both, close

NAME = "sentence-transformers/all-MiniLM-L6-v2"
WITHIN = 1e-5


@pytest.fixture(scope="module")
def minilm() -> Both:
    return both(NAME, real_model("minilm"))


def test_texts_of_mixed_lengths_agree(minilm: Both) -> None:
    minilm.agree(MIXED_LENGTHS, within=WITHIN)


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_every_script_and_every_oddity_agrees(minilm: Both, text: str) -> None:
    minilm.agree([text], within=WITHIN)
    assert minilm.ours.token_count([text]) == minilm.theirs.token_count([text])


@settings(max_examples=15)
@given(st.lists(texts, min_size=1, max_size=5))
def test_any_texts_agree(minilm: Both, several: list[str]) -> None:
    minilm.agree(several, within=WITHIN)
    assert minilm.ours.token_count(several) == minilm.theirs.token_count(several)


@pytest.mark.parametrize("batch_size", [1, 2, 7, 1000])
def test_whatever_the_batch_size_the_vectors_agree(minilm: Both, batch_size: int) -> None:
    minilm.agree(ODD_TEXTS, within=WITHIN, batch_size=batch_size)


@pytest.mark.parametrize(
    "text",
    [
        "over the limit of two hundred and fifty-six tokens " * 40,
        "a megabyte of words, " * 50_000,
        "zqxjkv" * 175_000,
        "长" * 5_000,
        "\n".join(["a line"] * 5_000),
    ],
    ids=["too long", "a megabyte", "one word of a megabyte", "no spaces", "lines"],
)
def test_texts_that_are_cut_agree(minilm: Both, text: str) -> None:
    minilm.agree([text, "short"], within=WITHIN)
    assert minilm.ours.token_count([text]) == minilm.theirs.token_count([text])


def test_one_text_generators_and_tuples_agree(minilm: Both) -> None:
    ours, theirs = minilm.ours, minilm.theirs
    close(ours.embed("one text"), theirs.embed("one text"), within=WITHIN)
    several = ODD_TEXTS[:4]
    close(ours.embed(iter(several)), theirs.embed(iter(several)), within=WITHIN)
    assert ours.token_count("one text") == theirs.token_count("one text") == 4
    assert ours.token_count(iter(several), batch_size=2) == theirs.token_count(iter(several))


def test_queries_and_passages_agree(minilm: Both) -> None:
    ours, theirs, several = minilm.ours, minilm.theirs, list(ODD_TEXTS[:4])
    close(ours.query_embed("a query"), theirs.query_embed("a query"), within=WITHIN)
    close(ours.query_embed(several), theirs.query_embed(several), within=WITHIN)
    close(ours.passage_embed(several), theirs.passage_embed(several), within=WITHIN)


def test_no_texts_have_no_vectors_in_both(minilm: Both) -> None:
    assert list(minilm.ours.embed([])) == list(minilm.theirs.embed([])) == []
    assert minilm.ours.token_count([]) == minilm.theirs.token_count([]) == 0


def test_a_batch_size_below_one_is_a_value_error_in_both(minilm: Both) -> None:
    with pytest.raises(ValueError, match="batch_size"):
        list(minilm.theirs.embed(["a"], batch_size=0))
    with pytest.raises(SettingError, match="batch_size must be at least 1; got 0"):
        minilm.ours.embed(["a"], batch_size=0)


def test_names_and_sizes_agree(minilm: Both) -> None:
    ours, theirs = minilm.ours, minilm.theirs
    assert ours.embedding_size == theirs.embedding_size == 384
    assert ours.model_name == theirs.model_name == NAME
