"""One vector stands for a multivector, and is the same however it is computed."""

from __future__ import annotations

import dataclasses
import importlib
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastembed_stream import muvera as muvera_module
from fastembed_stream.errors import SettingError
from fastembed_stream.muvera import Muvera, nearest_occupied
from fastembed_stream.values import Array

SMALL = Muvera(dim=8, k_sim=3, dim_proj=4, r_reps=5)


def multivector(n_tokens: int, dim: int = 8, seed: int = 0) -> Array:
    vectors = np.random.default_rng(seed).normal(size=(n_tokens, dim)).astype(np.float32)
    unit: Array = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


SEVERAL = [multivector(n, seed=n) for n in (1, 2, 3, 7, 40, 1, 600)]


@pytest.mark.parametrize("ask", ["document", "query"])
def test_alone_equals_in_a_batch(ask: str) -> None:
    alone = getattr(SMALL, f"process_{ask}")
    together = {"document": SMALL.process_documents, "query": SMALL.process_queries}[ask]
    np.testing.assert_allclose(together(SEVERAL), [alone(each) for each in SEVERAL], atol=1e-6)


@pytest.mark.parametrize("tokens_at_once", [1, 5, 100_000])
def test_how_many_tokens_are_projected_at_once_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, tokens_at_once: int
) -> None:
    expected = SMALL.process_documents(SEVERAL)
    monkeypatch.setattr(muvera_module, "_TOKENS_AT_ONCE", tokens_at_once)
    np.testing.assert_allclose(SMALL.process_documents(SEVERAL), expected, atol=1e-6)


@settings(max_examples=10)
@given(st.permutations(range(len(SEVERAL))))
def test_order_in_is_order_out(order: list[int]) -> None:
    expected = SMALL.process_documents(SEVERAL)[order]
    got = SMALL.process_documents([SEVERAL[n] for n in order])
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_an_encoding_is_float32_of_the_size_that_is_told() -> None:
    for encoded in (SMALL.process_document(SEVERAL[3]), SMALL.process_query(SEVERAL[3])):
        assert encoded.dtype == np.float32
        assert encoded.shape == (SMALL.embedding_size,) == (5 * 8 * 4,)
    assert SMALL.process_documents([]).shape == (0, SMALL.embedding_size)
    assert SMALL.process_queries(SEVERAL).shape == (7, SMALL.embedding_size)


def test_an_encoding_is_float64_where_its_vectors_are() -> None:
    doubles = [vectors.astype(np.float64) for vectors in SEVERAL]
    for ask in (SMALL.process_documents, SMALL.process_queries):
        encoded = ask(doubles)
        assert encoded.dtype == ask([SEVERAL[1], doubles[3]]).dtype == np.float64
        np.testing.assert_allclose(encoded, ask(SEVERAL), atol=1e-5)
    assert SMALL.process_document(doubles[3]).dtype == np.float64
    assert SMALL.process_query(SEVERAL[3].astype(np.float16)).dtype == np.float32


def test_a_query_adds_up_and_a_document_averages() -> None:
    one = multivector(1)
    twice = np.concatenate((one, one))
    query, document = SMALL.process_query(one), SMALL.process_document(one)
    np.testing.assert_allclose(SMALL.process_query(twice), 2 * query, atol=1e-6)
    np.testing.assert_allclose(SMALL.process_document(twice), document, atol=1e-6)


def test_empty_clusters_are_zero_in_a_query_and_filled_in_a_document() -> None:
    one = multivector(1)
    filled = SMALL.process_document(one).reshape(5, 8, 4)
    assert (filled == filled[:, :1]).all()
    assert (np.abs(SMALL.process_query(one).reshape(5, 8, 4)).sum(-1) > 0).sum() == 5


def test_filling_and_averaging_are_chosen_apart() -> None:
    tokens = multivector(3)
    neither = SMALL.process(tokens, fill_empty_clusters=False, normalize_by_count=False)
    np.testing.assert_array_equal(neither, SMALL.process_query(tokens))
    np.testing.assert_array_equal(SMALL.process(tokens), SMALL.process_document(tokens))
    sums = SMALL.process(tokens, fill_empty_clusters=True, normalize_by_count=False)
    means = SMALL.process(tokens, fill_empty_clusters=False, normalize_by_count=True)
    occupied = neither != 0
    np.testing.assert_array_equal(sums[occupied], neither[occupied])
    assert (means[~occupied] == 0).all()
    assert (sums[~occupied] != 0).all()


def test_dot_products_come_near_to_those_of_late_interaction() -> None:
    wide = Muvera(dim=32, k_sim=3, dim_proj=32, r_reps=80)
    documents = [multivector(20, 32, seed) for seed in range(30)]
    query = np.concatenate([document[:1] for document in documents[:5]])
    exact = [(query @ document.T).max(axis=1).sum() for document in documents]
    encoded = wide.process_documents(documents) @ wide.process_query(query)
    assert np.corrcoef(exact, encoded)[0, 1] > 0.7


@given(st.integers(0, 5).flatmap(lambda bits: st.sets(st.integers(0, 2**bits - 1), min_size=1)))
def test_the_nearest_cluster_differs_in_the_fewest_bits_and_is_the_lowest(taken: set[int]) -> None:
    n_clusters = 1 << max(taken).bit_length()
    occupied = np.isin(np.arange(n_clusters), list(taken))
    expected = [
        min(taken, key=lambda other, here=here: ((here ^ other).bit_count(), other))  # type: ignore[misc]
        for here in range(n_clusters)
    ]
    assert nearest_occupied(occupied[None]).tolist() == [expected]


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1.0, 1e12])
def test_a_token_lies_on_the_side_of_a_plane_that_float64_says(scale: float) -> None:
    wide = Muvera(dim=64, r_reps=40)
    tokens = np.random.default_rng(3).normal(size=(2000, 64))
    # Tokens as near to a plane as float32 cannot tell.
    plane = wide._planes[:, 7]
    tokens -= np.outer(tokens @ plane / (plane @ plane), plane)
    tokens = (tokens * scale).astype(np.float32)
    sides = (tokens.astype(np.float64) @ wide._planes > 0).reshape(2000, 40, 5)
    rounded = (tokens @ wide._planes_float32 > 0).reshape(2000, 40, 5)
    assert (rounded != sides).any()
    np.testing.assert_array_equal(wide._clusters(tokens), sides @ (1 << np.arange(5)))


def test_vectors_of_float64_are_sorted_by_their_own_signs() -> None:
    tokens = multivector(50).astype(np.float64) * 1e-60
    assert (SMALL._clusters(tokens) == SMALL._clusters(tokens * 1e60)).all()


@pytest.mark.parametrize("kind", [np.float16, np.float64, np.int64])
def test_vectors_may_be_of_any_real_type(kind: Any) -> None:
    tokens = (multivector(9) * 100).astype(kind)
    expected = SMALL.process_document(tokens.astype(np.float32))
    np.testing.assert_allclose(SMALL.process_document(tokens), expected, rtol=1e-5, atol=1e-4)


def test_without_a_shorter_length_vectors_are_left_as_they_are() -> None:
    plain = Muvera(dim=8, k_sim=0, dim_proj=8, r_reps=2)
    tokens = multivector(4)
    expected = np.tile(tokens.mean(axis=0), 2)
    np.testing.assert_allclose(plain.process_document(tokens), expected, atol=1e-6)


def test_a_model_tells_the_length_of_its_vectors() -> None:
    @dataclasses.dataclass
    class Late:
        embedding_size: int = 8

    made = Muvera.from_multivector_model(Late(), k_sim=3, dim_proj=4, r_reps=5)
    assert made == SMALL
    assert hash(made) == hash(SMALL)


def test_it_is_frozen_and_travels_between_processes_as_its_settings() -> None:
    packed = pickle.dumps(SMALL)
    assert len(packed) < 200
    again = pickle.loads(packed)  # noqa: S301  our own
    assert again == SMALL
    for one, other in zip(again.process_documents(SEVERAL), SMALL.process_documents(SEVERAL)):  # noqa: B905
        np.testing.assert_array_equal(one, other)
    with pytest.raises(dataclasses.FrozenInstanceError):
        again.dim = 3


def test_another_seed_gives_another_encoding() -> None:
    other = dataclasses.replace(SMALL, random_seed=7)
    assert not np.allclose(other.process_query(SEVERAL[4]), SMALL.process_query(SEVERAL[4]))


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (np.zeros((3, 9)), r"expected shape \(n_tokens, 8\); got \(3, 9\)"),
        (np.zeros(8), r"expected shape \(n_tokens, 8\); got \(8,\)"),
        (np.zeros((0, 8)), "is empty"),
        (np.full((2, 8), np.nan), "not a finite number"),
        (np.full((2, 8), np.inf), "not a finite number"),
    ],
)
def test_what_cannot_be_encoded_is_refused_by_its_number(broken: Array, said: str) -> None:
    with pytest.raises(SettingError, match=f"Multivector 0.*{said}"):
        SMALL.process_document(broken)
    with pytest.raises(SettingError, match=f"Multivector 2.*{said}"):
        SMALL.process_queries([*SEVERAL[:2], broken])


@pytest.mark.parametrize(
    ("settings_", "said"),
    [
        ({"dim": 8}, r"dim_proj=16\) cannot be more than dim=8"),
        ({"dim": 0}, r"dim=0\): expected at least 1"),
        ({"dim": 99, "k_sim": -1}, r"k_sim=-1\): expected at least 0"),
        ({"dim": 99, "dim_proj": 0}, r"dim_proj=0\): expected at least 1"),
        ({"dim": 99, "r_reps": 0}, r"r_reps=0\): expected at least 1"),
    ],
)
def test_numbers_that_cannot_be_are_refused(settings_: dict[str, int], said: str) -> None:
    with pytest.raises(SettingError, match=said):
        Muvera(**settings_)


def test_fastembeds_path_leads_to_the_same_class() -> None:
    assert importlib.import_module("fastembed_stream.postprocess").Muvera is Muvera
