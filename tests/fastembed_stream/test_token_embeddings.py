"""Every real token of a text has its vector, and a vector is no part of its neighbours'."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fastembed_stream import LATE_TEXT, OpenModel, catalog, open_model
from fastembed_stream.errors import SettingError
from fastembed_stream.families.dense_text import DenseText
from fastembed_stream.families.token_embeddings import TokenEmbeddings, token_vectors
from fastembed_stream.runtime import Runtime
from fastembed_stream.values import Floats
from tests.fastembed_stream.examples import MIXED_LENGTHS
from tests.fastembed_stream.tiny_models import DIM, Toy, row, write

ON_CPU = Runtime(device="cpu", threads=1, token_budget=64)


def tokens_of(folder: Path, recipe: TokenEmbeddings | None = None) -> OpenModel[str, str, Floats]:
    return open_model(row(folder, recipe or TokenEmbeddings()), LATE_TEXT, runtime=ON_CPU)


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_text_has_a_vector_for_each_token_special_ones_too(tmp_path: Path, side: str) -> None:
    embed = tokens_of(write(tmp_path, config={"padding_side": side}))
    answers = embed(["", "a stream, of", *MIXED_LENGTHS])
    assert [len(vectors) for vectors in answers[:2]] == [2, 6]
    assert sum(map(len, answers)) == embed.counts.tokens
    assert {vectors.shape[1] for vectors in answers} == {DIM}
    assert {vectors.dtype for vectors in answers} == {np.dtype(np.float32)}


def test_vectors_leave_with_length_one_where_the_recipe_says_so(tmp_path: Path) -> None:
    folder = write(tmp_path)
    raw, unit = (
        tokens_of(folder, TokenEmbeddings(normalize=normalize))(["a stream"])[0]
        for normalize in (False, True)
    )
    length = np.linalg.norm(raw, axis=1, keepdims=True)
    assert not np.allclose(length, 1)
    np.testing.assert_allclose(unit, raw / length, atol=1e-6)


def test_a_text_without_tokens_has_no_vectors(tmp_path: Path) -> None:
    empty, one = tokens_of(write(tmp_path, specials=False))(["", "a"])
    assert empty.shape == (0, DIM)
    assert one.shape == (1, DIM)


def test_the_mean_of_the_vectors_is_the_dense_models_vector(tmp_path: Path) -> None:
    folder = write(tmp_path)
    dense = open_model(row(folder, DenseText(pooling="mean", normalize=False)), runtime=ON_CPU)
    means = [vectors.mean(axis=0) for vectors in tokens_of(folder)(MIXED_LENGTHS)]
    np.testing.assert_allclose(means, dense(MIXED_LENGTHS), atol=1e-6)


def test_half_precision_leaves_as_float32(tmp_path: Path) -> None:
    [vectors] = tokens_of(write(tmp_path, Toy(half=True)))(["a stream"])
    assert vectors.dtype == np.float32


def test_an_output_without_tokens_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path, Toy(pooled=(("pooled", "first"),)))
    with pytest.raises(SettingError, match=r"expects the graph to give shape \(batch, seq, dim\)"):
        tokens_of(folder, TokenEmbeddings(output="pooled"))(["a"])


def test_the_answer_of_one_row_keeps_no_other_row_alive() -> None:
    hidden = np.ones((3, 4, 2), dtype=np.float32)
    kept = np.array([[True] * 4, [False] * 4, [True, False, True, False]])
    for normalize in (True, False):
        answers = token_vectors(hidden, kept, normalize=normalize)
        assert [vectors.shape for vectors in answers] == [(4, 2), (0, 2), (2, 2)]
        assert all(vectors.base is None for vectors in answers)


def test_the_jina_model_of_tokens_ships() -> None:
    model = catalog.find("jinaai/jina-embeddings-v2-small-en-tokens", LATE_TEXT)
    assert (model.dim, model.recipe) == (512, TokenEmbeddings())
