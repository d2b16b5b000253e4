"""MUVERA's encodings are fastembed's, so both may stand in one collection."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastembed_stream.muvera import Muvera
from fastembed_stream.values import Array
from tests.parity.oracle import fastembed

WITHIN = 1e-5


def both(**settings_: Any) -> tuple[Muvera, Any]:
    fastembed()
    from fastembed.postprocess import Muvera as Theirs

    return Muvera(**settings_), Theirs(**settings_)


def multivector(n_tokens: int, dim: int, seed: int, kind: Any = np.float32) -> Array:
    vectors = np.random.default_rng(seed).normal(size=(n_tokens, dim)).astype(kind)
    unit: Array = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


@pytest.mark.parametrize(
    "settings_",
    [
        {"dim": 128},
        {"dim": 96, "random_seed": 7},
        {"dim": 128, "k_sim": 3, "dim_proj": 8, "r_reps": 4},
        {"dim": 16, "k_sim": 7, "dim_proj": 5, "r_reps": 3},
        {"dim": 16, "k_sim": 1, "r_reps": 1},
        {"dim": 20, "k_sim": 4, "dim_proj": 20, "r_reps": 3},
        {"dim": 20, "k_sim": 0, "r_reps": 2},
    ],
    ids=str,
)
def test_documents_and_queries_agree(settings_: dict[str, int]) -> None:
    ours, theirs = both(**settings_)
    assert ours.embedding_size == theirs.embedding_size
    several = [multivector(n, settings_["dim"], n) for n in (1, 2, 5, 32, 150)]
    documents = np.stack([theirs.process_document(each) for each in several])
    queries = np.stack([theirs.process_query(each) for each in several])
    scale = np.abs(queries).max()
    np.testing.assert_allclose(ours.process_documents(several), documents, atol=WITHIN, rtol=0)
    np.testing.assert_allclose(ours.process_queries(several), queries, atol=WITHIN * scale, rtol=0)


@settings(max_examples=30)
@given(st.integers(1, 60), st.integers(0, 10_000), st.booleans(), st.booleans())
def test_any_multivector_agrees_whatever_is_filled_or_averaged(
    n_tokens: int, seed: int, fill: Any, normalize: Any
) -> None:
    ours, theirs = both(dim=12, k_sim=4, dim_proj=6, r_reps=3)
    vectors = multivector(n_tokens, 12, seed)
    np.testing.assert_allclose(
        ours.process(vectors, fill, normalize),
        theirs.process(vectors, fill, normalize),
        atol=WITHIN,
        rtol=0,
    )


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_whatever_the_type_of_the_vectors_they_agree(kind: Any) -> None:
    ours, theirs = both(dim=64)
    vectors = multivector(80, 64, 5, kind)
    np.testing.assert_allclose(
        ours.process_document(vectors), theirs.process_document(vectors), atol=WITHIN, rtol=0
    )


def test_zero_vectors_agree() -> None:
    ours, theirs = both(dim=16, dim_proj=4)
    vectors = multivector(6, 16, 1)
    vectors[2:4] = 0
    np.testing.assert_allclose(
        ours.process_document(vectors), theirs.process_document(vectors), atol=WITHIN, rtol=0
    )


def test_what_fastembed_refuses_is_refused_here() -> None:
    for one in both(dim=16):
        with pytest.raises((ValueError, AssertionError)):
            one.process_document(np.zeros((0, 16)))
        with pytest.raises((ValueError, AssertionError)):
            one.process_query(np.zeros((3, 15)))
    with pytest.raises(ValueError, match="dim_proj"):
        both(dim=8)


@pytest.mark.parametrize("dim_proj", [16, 64])
def test_in_double_precision_they_agree_to_its_last_digits(dim_proj: int) -> None:
    ours, theirs = both(dim=64, dim_proj=dim_proj)
    several = [multivector(n, 64, n, np.float64) for n in (1, 7, 90)]
    for ask in ("process_document", "process_query"):
        for vectors in several:
            expected, got = getattr(theirs, ask)(vectors), getattr(ours, ask)(vectors)
            assert got.dtype == expected.dtype == np.float64
            np.testing.assert_allclose(got, expected, atol=1e-12, rtol=0)
