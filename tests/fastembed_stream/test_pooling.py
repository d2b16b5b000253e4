"""Token vectors become one vector for each row, and the padding has no say in it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastembed_stream.errors import SettingError
from fastembed_stream.pooling import POOLS, already_pooled, first, last_token, mean, normalized
from fastembed_stream.values import Floats, Ints

seeds = st.integers(0, 2**16)
JUNK = st.sampled_from([0.0, 1e30, np.nan, np.inf, -np.inf])


def ragged(seed: int, *, left: bool = False) -> tuple[Floats, Ints]:
    """Make hidden states float32[4, 7, 3] and their mask; each row has a real token."""
    random = np.random.default_rng(seed)
    mask = np.zeros((4, 7), dtype=np.int64)
    for row, length in zip(mask, random.integers(1, 8, 4), strict=True):
        row[:length] = 1
    mask = mask[:, ::-1] if left else mask
    return random.normal(size=(4, 7, 3)).astype(np.float32), mask


@given(seeds, st.booleans())
def test_mean_is_the_average_of_the_real_tokens(seed: int, left: bool) -> None:  # noqa: FBT001
    hidden, mask = ragged(seed, left=left)
    expected = [h[m > 0].astype(np.float64).mean(axis=0) for h, m in zip(hidden, mask, strict=True)]
    np.testing.assert_allclose(mean(hidden, mask), expected, atol=1e-6)


@given(seeds, JUNK, st.sampled_from(["mean", "last_token"]), st.booleans())
def test_what_stands_in_the_padding_reaches_no_vector(
    seed: int,
    junk: float,
    pooling: str,
    left: bool,  # noqa: FBT001
) -> None:
    pool = {"mean": mean, "last_token": last_token}[pooling]
    hidden, mask = ragged(seed, left=left)
    filled = np.where(mask[..., None] > 0, hidden, np.float32(junk))
    np.testing.assert_allclose(pool(filled, mask), pool(hidden * mask[..., None], mask), atol=1e-6)


@given(seeds)
def test_last_token_is_the_same_whichever_side_is_padded(seed: int) -> None:
    hidden, right = ragged(seed)
    rolled, left = np.zeros_like(hidden), right[:, ::-1]
    for row, n_tokens in enumerate(right.sum(axis=1)):
        rolled[row, 7 - n_tokens :] = hidden[row, :n_tokens]
    np.testing.assert_array_equal(last_token(rolled, left), last_token(hidden, right))


@pytest.mark.parametrize("pooling", ["cls", "mean", "last_token"])
def test_one_row_that_is_not_a_number_leaves_its_neighbours_alone(pooling: str) -> None:
    hidden, mask = ragged(3)
    broken = hidden.copy()
    broken[1] = np.nan
    pool = {"cls": first, "mean": mean, "last_token": last_token}[pooling]
    clean, dirty = pool(hidden, mask), pool(broken, mask)
    assert np.isnan(dirty[1]).all()
    np.testing.assert_allclose(np.delete(dirty, 1, axis=0), np.delete(clean, 1, axis=0), atol=1e-6)


def test_cls_is_the_first_position() -> None:
    hidden, mask = ragged(0)
    np.testing.assert_array_equal(first(hidden, mask), hidden[:, 0])


def test_cls_takes_vectors_that_the_graph_pooled_as_they_are() -> None:
    hidden, mask = ragged(0)
    np.testing.assert_array_equal(first(hidden[:, 0], mask), hidden[:, 0])


def test_a_row_without_a_real_token_has_the_zero_vector_as_its_mean() -> None:
    hidden, mask = ragged(0)
    assert not mean(hidden, np.zeros_like(mask)).any()


def test_no_pooling_refuses_token_vectors_and_says_what_to_choose() -> None:
    hidden, mask = ragged(0)
    with pytest.raises(SettingError, match=r"got \(4, 7, 3\)\. Choose 'cls', 'mean'"):
        already_pooled(hidden, mask)


@pytest.mark.parametrize("pool", [mean, last_token])
def test_pooling_over_tokens_refuses_vectors_that_are_pooled_already(pool: object) -> None:
    hidden, mask = ragged(0)
    assert callable(pool)
    with pytest.raises(SettingError, match=r"token vectors .* got \(4, 3\)\. Choose 'none'"):
        pool(hidden[:, 0], mask)


def test_every_way_to_pool_stays_in_float32() -> None:
    hidden, mask = ragged(0)
    for name, pool in POOLS.items():
        pooled = pool(hidden[:, 0] if name == "none" else hidden, mask)
        assert pooled.dtype == np.float32
        assert pooled.shape == (4, 3)


@given(seeds, st.floats(1e-3, 1e6))
def test_a_normalized_vector_has_length_one_and_the_same_direction(seed: int, scale: float) -> None:
    vectors = ragged(seed)[0][:, 0] * np.float32(scale)
    unit = normalized(vectors)
    assert unit.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(unit * np.linalg.norm(vectors, axis=1)[:, None], vectors, rtol=1e-4)


def test_the_zero_vector_stays_zero() -> None:
    assert not normalized(np.zeros((2, 3), dtype=np.float32)).any()
