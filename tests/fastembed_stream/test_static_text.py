"""A static model is a table: known tokens are added up, and a damaged table says so."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastembed_stream import OpenModel, open_model
from fastembed_stream.errors import ModelFilesError, SettingError
from fastembed_stream.families.static_text import StaticText
from fastembed_stream.values import Floats
from tests.fastembed_stream.tiny_models import DIM, VOCABULARY, row, safetensors, write_static

TABLE = np.random.default_rng(2).normal(size=(len(VOCABULARY), DIM)).astype(np.float32)


def opened(
    folder: Path, tensors: dict[str, Any] | None = None, *, max_tokens: int | None = None
) -> OpenModel[str, str, Floats]:
    write_static(folder, tensors or {"embeddings": TABLE})
    model = row(folder, StaticText(), model_file="model.safetensors")
    return open_model(model, max_tokens=max_tokens)


def of(*words: str) -> Any:
    total = sum(TABLE[VOCABULARY[word]] for word in words)
    return total / np.linalg.norm(total)


def test_a_vector_has_the_direction_of_its_tokens_sum_and_length_one(tmp_path: Path) -> None:
    [vector] = opened(tmp_path)(["the stream the"])
    np.testing.assert_allclose(vector, of("the", "stream", "the"), atol=1e-6)


def test_unknown_tokens_carry_no_meaning(tmp_path: Path) -> None:
    known, mixed = opened(tmp_path)(["the stream", "✓ the ✗ stream ☂"])
    np.testing.assert_array_equal(mixed, known)


@pytest.mark.parametrize("text", ["", "  ", "✓ ☂"])
def test_a_text_without_known_tokens_is_the_zero_vector(tmp_path: Path, text: str) -> None:
    [zero, other] = opened(tmp_path)([text, "the"])
    assert not zero.any()
    assert other.any()


def test_weights_say_how_much_a_token_counts(tmp_path: Path) -> None:
    weights = np.zeros(len(VOCABULARY))
    weights[VOCABULARY["stream"]] = 2
    [vector] = opened(tmp_path, {"embeddings": TABLE, "weights": weights})(["the stream"])
    np.testing.assert_allclose(vector, of("stream"), atol=1e-6)


def test_a_mapping_says_which_row_a_token_has(tmp_path: Path) -> None:
    mapping = np.full(len(VOCABULARY), VOCABULARY["kafka"])
    [vector] = opened(tmp_path, {"embeddings": TABLE, "mapping": mapping})(["the"])
    np.testing.assert_allclose(vector, of("kafka"), atol=1e-6)


def test_a_text_is_cut_at_the_limit_and_counted(tmp_path: Path) -> None:
    embed = opened(tmp_path, max_tokens=2)
    [cut] = embed(["the stream of text"])
    np.testing.assert_allclose(cut, of("the", "stream"), atol=1e-6)
    counts = embed.counts
    assert (counts.rows, counts.tokens) == (1, 2)
    assert (counts.truncated_rows, counts.truncated_tokens) == (1, 2)


def test_the_limit_is_512_tokens_unless_told(tmp_path: Path) -> None:
    embed = opened(tmp_path)
    embed(["the " * 600])
    assert embed.counts.tokens == 512


def test_a_stream_is_lazy_and_in_order(tmp_path: Path) -> None:
    embed = opened(tmp_path)
    stream = embed.stream(itertools.cycle(["the", "stream"]), window=3)
    for word in ("the", "stream", "the", "stream"):
        np.testing.assert_allclose(next(stream), of(word), atol=1e-6)


def test_a_window_below_one_is_refused_and_no_rows_are_no_answers(tmp_path: Path) -> None:
    embed = opened(tmp_path)
    with pytest.raises(SettingError, match="at least 1 row; got 0"):
        next(embed.stream(["a"], window=0))
    assert embed([]) == []


def test_there_is_nothing_to_warm_up_or_to_close(tmp_path: Path) -> None:
    embed = opened(tmp_path)
    assert embed.warm_up() == 0
    embed.close()
    assert len(embed(["the"])) == 1


def test_the_unknown_token_of_a_unigram_tokenizer_is_left_out(tmp_path: Path) -> None:
    write_static(tmp_path, {"embeddings": TABLE})
    path = tmp_path / "tokenizer.json"
    described = json.loads(path.read_text(encoding="utf-8"))
    described["model"] = {
        "type": "Unigram",
        "unk_id": 0,
        "vocab": [["<unk>", -9.0], ["the", -1.0], ["stream", -1.0]],
    }
    described["added_tokens"] = []
    described["post_processor"] = None
    path.write_text(json.dumps(described), encoding="utf-8")
    embed = open_model(row(tmp_path, StaticText(), model_file="model.safetensors"))
    known, mixed = embed(["the", "the ✓✓"])
    np.testing.assert_array_equal(mixed, known)


_WHOLE = safetensors({"embeddings": TABLE})


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 64,
        _WHOLE[:40],
        _WHOLE[:-100],
        safetensors({"embeddings": TABLE}, {"embeddings": "F8_E4M3"}),
        (2).to_bytes(8, "little") + b"[]",
        (18).to_bytes(8, "little") + b'{"embeddings": {}}',
    ],
    ids=["empty", "no header", "cut header", "cut data", "unread type", "no object", "no entry"],
)
def test_a_damaged_table_is_an_error_that_names_the_file(tmp_path: Path, content: bytes) -> None:
    write_static(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelFilesError, match="is not a whole safetensors file") as error:
        open_model(row(tmp_path, StaticText(), model_file=path.name))
    assert str(path) in str(error.value)


def test_a_table_of_another_name_is_an_error_that_lists_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(ModelFilesError, match=r"no tensor 'embeddings'; it has \['vectors'\]"):
        opened(tmp_path, {"vectors": TABLE})


@pytest.mark.parametrize(
    ("content", "said"), [(None, "No tokenizer.json"), (b'{"cut', "Cannot read")]
)
def test_a_missing_or_damaged_tokenizer_is_an_error_that_names_it(
    tmp_path: Path, content: bytes | None, said: str
) -> None:
    path = write_static(tmp_path) / "tokenizer.json"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelFilesError, match=said) as error:
        open_model(row(tmp_path, StaticText(), model_file="model.safetensors"))
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize("limit", [0, -1, "5", 2.5])
def test_a_limit_that_is_no_count_is_refused(tmp_path: Path, limit: Any) -> None:
    model = row(write_static(tmp_path), StaticText(), model_file="model.safetensors")
    with pytest.raises(SettingError, match="expected 1 or more"):
        open_model(model, max_tokens=limit)
