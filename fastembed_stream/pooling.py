"""Token vectors to one vector for each row. All in float32; each reduces before it transforms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from fastembed_stream.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from fastembed_stream.values import Floats, Ints

__all__ = [
    "POOLS",
    "Pooling",
    "already_pooled",
    "check_pooling",
    "first",
    "last_token",
    "mean",
    "normalized",
]

Pooling: TypeAlias = Literal["cls", "mean", "last_token", "none"]
"""How token vectors become one: the first, the average, the last real one, or already done."""

_SMALLEST_NORM = np.float32(1e-12)


def first(hidden: Floats, mask: Ints) -> Floats:
    """
    Take the first position of each row, where BERT-like models put [CLS].

    hidden   float32[batch, seq, dim], or float32[batch, dim] when the graph pools by itself
    mask     int64[batch, seq], unused
    returns  float32[batch, dim]
    """
    del mask
    return hidden[:, 0] if hidden.ndim == 3 else hidden  # noqa: PLR2004


def mean(hidden: Floats, mask: Ints) -> Floats:
    """
    Average the real tokens of each row.

    hidden   float32[batch, seq, dim]
    mask     int64[batch, seq], 1 on real tokens
    returns  float32[batch, dim]
    raises   SettingError for any other shape

    >>> mean(np.float32([[[2, 0], [4, 0], [9, 9]]]), np.int64([[1, 1, 0]]))
    array([[3., 0.]], dtype=float32)
    """
    _check_tokens("mean", hidden)
    weight = mask.astype(hidden.dtype)
    # A matrix product for each row: no [batch, seq, dim] temporary, and the padding weighs zero.
    with np.errstate(invalid="ignore"):  # not a number is looked for below, not complained of
        summed: Floats = np.matmul(weight[:, None, :], hidden)[:, 0]
    if not np.isfinite(summed).all():
        # 0 * NaN is NaN: padding that a graph leaves undefined must not reach a row.
        summed = np.where(mask[..., None] > 0, hidden, 0).sum(axis=1, dtype=hidden.dtype)
    averaged: Floats = summed / np.maximum(weight.sum(axis=1, keepdims=True), 1)
    return averaged


def last_token(hidden: Floats, mask: Ints) -> Floats:
    """
    Take the last real token of each row, whichever side is padded.

    hidden   float32[batch, seq, dim]
    mask     int64[batch, seq], 1 on real tokens
    returns  float32[batch, dim]
    raises   SettingError for any other shape

    >>> last_token(np.float32([[[1], [2], [3]]]), np.int64([[1, 1, 0]]))
    array([[2.]], dtype=float32)
    """
    _check_tokens("last_token", hidden)
    last = mask.shape[1] - 1 - np.argmax(mask[:, ::-1], axis=1)
    vectors: Floats = hidden[np.arange(hidden.shape[0]), last]
    return vectors


def already_pooled(hidden: Floats, mask: Ints) -> Floats:
    """
    Check that the graph pooled by itself.

    hidden   float32[batch, dim]
    mask     int64[batch, seq], unused
    returns  float32[batch, dim], the same array
    raises   SettingError for any other shape
    """
    del mask
    if hidden.ndim != 2:  # noqa: PLR2004
        msg = (
            f"Pooling 'none' expects the graph to give vectors of shape (batch, dim); got "
            f"{hidden.shape}. Choose 'cls', 'mean' or 'last_token', or name a pooled `output`."
        )
        raise SettingError(msg)
    return hidden


def _check_tokens(pooling: Pooling, hidden: Floats) -> None:
    if hidden.ndim != 3:  # noqa: PLR2004
        msg = (
            f"Pooling {pooling!r} expects the graph to give token vectors of shape (batch, seq, "
            f"dim); got {hidden.shape}. Choose 'none', or name another `output`."
        )
        raise SettingError(msg)


POOLS: Mapping[Pooling, Callable[[Floats, Ints], Floats]] = {
    "cls": first,
    "mean": mean,
    "last_token": last_token,
    "none": already_pooled,
}


def check_pooling(pooling: str, names: Sequence[str]) -> None:
    """Raise SettingError for a pooling that is not one of some names, with what was meant."""
    if pooling not in names:
        meant = {"avg": "mean", "average": "mean", "last": "last_token", "first": "cls"}
        meant |= {"disabled": "none", "none": "none"}
        wanted = str(getattr(pooling, "value", pooling)).lower()
        near = meant.get(wanted, wanted)
        hint = f" Did you mean {near!r}?" if near in names else ""
        msg = f"No pooling {pooling!r}; there are {', '.join(map(repr, names))}.{hint}"
        raise SettingError(msg)


def normalized(vectors: Floats) -> Floats:
    """
    Scale each row to length one; a zero row stays zero.

    vectors  float32[batch, dim]
    returns  float32[batch, dim]

    >>> normalized(np.float32([[3, 4], [0, 0]]))
    array([[0.6, 0.8],
           [0. , 0. ]], dtype=float32)
    """
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Floats = vectors / np.maximum(norm, _SMALLEST_NORM)
    return unit
