"""A tokenizer is read from a model's folder, and the limit is the one that the model states."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from fastembed_stream.errors import ModelFilesError, SettingError
from fastembed_stream.tokens import Tokens
from tests.fastembed_stream.examples import texts
from tests.fastembed_stream.tiny_models import VOCABULARY, row, write_tokenizer

LONG = "stream of text " * 30


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def tokens(folder: Path) -> Tokens:
    return opened(folder)


def opened(folder: Path, **changes: Any) -> Tokens:
    max_tokens = changes.pop("max_tokens", None)
    return Tokens.open(folder, row(folder, **changes), max_tokens=max_tokens)


def ids_of(tokens: Tokens, text: str) -> list[int]:
    [ids] = tokens.read([text]).ids
    return list(ids.tolist())


def test_a_text_becomes_the_ids_of_its_words_between_the_special_tokens(tokens: Tokens) -> None:
    words = ["[CLS]", "the", "stream", "of", "x", "##y", "[SEP]"]
    assert ids_of(tokens, "The stream of XY") == [VOCABULARY[word] for word in words]


@given(st.lists(texts, max_size=8))
def test_a_row_is_read_the_same_alone_and_among_others(tokens: Tokens, several: list[str]) -> None:
    reading = tokens.read(several)
    assert reading.n_rows == len(several)
    assert reading.lengths.tolist() == [len(ids) for ids in reading.ids]
    for text, ids in zip(several, reading.ids, strict=True):
        assert ids.tolist() == ids_of(tokens, text)
        assert ids.dtype == np.int64
        assert len(ids) <= tokens.limit


@pytest.mark.parametrize(
    ("config", "limit"),
    [
        ({"model_max_length": 40}, 40),
        ({"model_max_length": 40, "max_length": 20}, 20),
        ({"model_max_length": 20, "max_length": 40}, 20),
        ({"model_max_length": 1e30, "max_length": 24}, 24),
        ({"model_max_length": 10**30, "max_length": 24}, 24),
        ({"model_max_length": None, "max_length": 24}, 24),
        ({"model_max_length": 0, "max_length": 24}, 24),
        ({"model_max_length": True, "max_length": 24}, 24),
        ({"model_max_length": "512", "max_length": 24}, 24),
    ],
)
def test_the_limit_is_the_smaller_one_that_means_something(
    tmp_path: Path, config: dict[str, Any], limit: int
) -> None:
    tokens = opened(write_tokenizer(tmp_path, config=config))
    assert tokens.limit == limit
    assert len(ids_of(tokens, LONG)) == limit


def test_where_the_tokenizer_states_no_limit_the_one_of_the_row_holds(tmp_path: Path) -> None:
    folder = write_tokenizer(tmp_path, config={"model_max_length": 1e30})
    assert Tokens.open(folder, row(folder, max_tokens=33)).limit == 33


def test_no_limit_anywhere_is_an_error_that_says_what_to_pass(tmp_path: Path) -> None:
    folder = write_tokenizer(tmp_path, config={"model_max_length": 1e30})
    with pytest.raises(ModelFilesError, match=r"no usable model_max_length .* Pass max_tokens="):
        opened(folder)


def test_a_limit_that_differs_from_the_card_is_told_with_the_cure(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "fastembed_stream"):
        Tokens.open(folder, row(folder, max_tokens=64))
    assert "texts are cut at 48 tokens" in caplog.text
    assert "Pass max_tokens=64" in caplog.text


def test_max_tokens_raises_the_limit_up_to_the_positions_of_the_model(folder: Path) -> None:
    assert opened(folder, max_tokens=512).limit == 512
    assert len(ids_of(opened(folder, max_tokens=60), LONG)) == 60
    assert len(ids_of(opened(folder, max_tokens=10), LONG)) == 10


@pytest.mark.parametrize("max_tokens", [513, 0, -3])
def test_max_tokens_out_of_range_is_refused_with_the_range(folder: Path, max_tokens: int) -> None:
    with pytest.raises(SettingError, match=rf"max_tokens={max_tokens} .* expected 1 to 512"):
        opened(folder, max_tokens=max_tokens)


@pytest.mark.parametrize("max_tokens", [1, 2])
def test_a_limit_without_room_for_text_is_refused(folder: Path, max_tokens: int) -> None:
    with pytest.raises(SettingError, match=r"2 special tokens\. Pass max_tokens= of 3 or more"):
        opened(folder, max_tokens=max_tokens)


def test_a_model_that_states_no_positions_takes_any_limit(tmp_path: Path) -> None:
    folder = write_tokenizer(tmp_path, model_config={"max_position_embeddings": None})
    assert opened(folder, max_tokens=100_000).limit == 100_000


def test_padding_and_truncation_that_the_tokenizer_file_ships_are_ignored(tmp_path: Path) -> None:
    shipped = {
        "truncation": {
            "direction": "Right",
            "max_length": 12,
            "strategy": "LongestFirst",
            "stride": 0,
        },
        "padding": {
            "strategy": {"Fixed": 128},
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": 0,
            "pad_type_id": 0,
            "pad_token": "[PAD]",
        },
    }
    tokens = opened(write_tokenizer(tmp_path, shipped=shipped))
    assert len(ids_of(tokens, "stream")) == 3
    assert len(ids_of(tokens, LONG)) == 48


@pytest.mark.parametrize("where", ["tokenizer_config.json", "tokenizer.json"])
def test_a_model_that_cuts_on_the_left_keeps_the_end_of_a_text(tmp_path: Path, where: str) -> None:
    left = {"max_length": 9, "strategy": "LongestFirst", "stride": 0, "direction": "Left"}
    folder = (
        write_tokenizer(tmp_path, shipped={"truncation": left})
        if where == "tokenizer.json"
        else write_tokenizer(tmp_path, config={"truncation_side": "left"})
    )
    ids = ids_of(opened(folder, max_tokens=5), "the " * 4000 + "stream of text")
    assert ids[1:-1] == [VOCABULARY[word] for word in ("stream", "of", "text")]


def test_what_the_limit_cuts_off_is_counted(folder: Path) -> None:
    reading = opened(folder, max_tokens=6).read(["the stream", "the " * 10, "of " * 4, "a " * 5])
    assert (reading.truncated_rows, reading.truncated_tokens) == (2, 6 + 1)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_a_missing_file_is_an_error_that_names_it_and_what_is_there(
    tmp_path: Path, name: str
) -> None:
    folder = write_tokenizer(tmp_path)
    (folder / name).unlink()
    with pytest.raises(ModelFilesError, match=rf"No {name} in .*it has: config\.json, ") as error:
        opened(folder)
    assert str(folder) in str(error.value)
    assert "needs tokenizer.json and tokenizer_config.json" in str(error.value)


@pytest.mark.parametrize("name", ["config.json", "special_tokens_map.json"])
def test_files_that_say_little_may_be_absent(tmp_path: Path, name: str) -> None:
    folder = write_tokenizer(tmp_path)
    (folder / name).unlink()
    assert opened(folder).pad_id == VOCABULARY["[PAD]"]


@pytest.mark.parametrize(
    "name",
    ["tokenizer.json", "tokenizer_config.json", "config.json", "special_tokens_map.json"],
)
@pytest.mark.parametrize("content", [b'{"cut": ', b"", b"\xff\xfe\x00", b"[1, 2]"])
def test_a_damaged_file_is_an_error_that_names_it(
    tmp_path: Path, name: str, content: bytes
) -> None:
    folder = write_tokenizer(tmp_path)
    (folder / name).write_bytes(content)
    with pytest.raises(ModelFilesError) as error:
        opened(folder)
    assert str(folder / name) in str(error.value)


def test_without_a_pad_token_the_error_says_where_to_set_one(tmp_path: Path) -> None:
    folder = write_tokenizer(
        tmp_path, config={"pad_token": None}, model_config={"pad_token_id": None}
    )
    with pytest.raises(ModelFilesError, match=r"set pad_token in tokenizer_config\.json"):
        opened(folder)


def test_the_pad_id_is_the_shipped_one_then_the_models_then_the_vocabularys(tmp_path: Path) -> None:
    padding = {
        "strategy": "BatchLongest",
        "direction": "Left",
        "pad_to_multiple_of": None,
        "pad_id": 7,
        "pad_type_id": 0,
        "pad_token": "[PAD]",
    }
    shipped = opened(write_tokenizer(tmp_path / "1", shipped={"padding": padding}))
    stated = opened(write_tokenizer(tmp_path / "2", model_config={"pad_token_id": 5}))
    looked_up = opened(
        write_tokenizer(
            tmp_path / "3",
            config={"pad_token": {"content": "[MASK]"}},
            model_config={"pad_token_id": None},
        )
    )
    assert (shipped.pad_id, stated.pad_id, looked_up.pad_id) == (7, 5, VOCABULARY["[MASK]"])


def test_the_side_to_pad_is_the_configured_one_then_the_shipped_one(tmp_path: Path) -> None:
    padding = {
        "strategy": "BatchLongest",
        "direction": "Left",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "[PAD]",
    }
    shipped = {"padding": padding}
    right = {"padding_side": "right"}
    assert opened(write_tokenizer(tmp_path / "1", shipped=shipped)).pad_left
    assert not opened(write_tokenizer(tmp_path / "2", shipped=shipped, config=right)).pad_left
    assert not opened(write_tokenizer(tmp_path / "3")).pad_left
    assert opened(write_tokenizer(tmp_path / "4", config={"padding_side": "left"})).pad_left


def test_special_tokens_of_the_map_are_one_token_each(tmp_path: Path) -> None:
    folder = write_tokenizer(tmp_path)
    declared = {
        "additional_special_tokens": ["<query>", {"content": "<passage>", "lstrip": False}],
        "pad_token": "[PAD]",
        "bos_token": None,
    }
    (folder / "special_tokens_map.json").write_text(json.dumps(declared), encoding="utf-8")
    known = len(VOCABULARY)
    assert ids_of(opened(folder), "<query> the<passage>")[1:-1] == [
        known,
        VOCABULARY["the"],
        known + 1,
    ]


def test_the_name_of_a_special_token_in_a_text_is_that_token(tokens: Tokens) -> None:
    assert ids_of(tokens, "a [PAD] [MASK]")[1:-1] == [
        VOCABULARY[word] for word in ("a", "[PAD]", "[MASK]")
    ]


def test_reading_changes_nothing_of_the_tokenizer(folder: Path) -> None:
    tokens = opened(folder)
    tokenizer: Tokenizer = tokens._tokenizer
    before = tokenizer.to_str()
    tokens.read(["a", LONG, "the " * 5000])
    assert tokenizer.to_str() == before


def test_many_texts_are_read_a_part_at_a_time_so_that_the_end_of_a_program_is_heard(
    tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = ["stream of text", "a", LONG, ""] * 200
    expected = [ids_of(tokens, text) for text in many[:4]] * 200
    n_parts = 0

    @contextmanager
    def noted() -> Iterator[None]:
        nonlocal n_parts
        n_parts += 1
        yield

    monkeypatch.setattr("fastembed_stream.tokens.native_call", noted)
    assert [ids.tolist() for ids in tokens.read(many).ids] == expected
    assert n_parts == 4
