"""Collections hold every kind of vector, and each number is stored as it was made."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from qdrant_client import grpc, models
from qdrant_client.conversions.conversion import RestToGrpc

from fastembed_stream import SettingError, SparseEmbedding
from operators import Collection, DeadLetterFile, Point, QdrantSink, Server, VectorSpace, Writing
from operators.qdrant import prepare
from operators.qdrant.collection import IndexType
from operators.qdrant.requests import AS_JSON, AS_PROTOBUF, fence, requests_of
from operators.qdrant.wire import _message, _struct, plain
from tests.operators.qdrant_things import (
    DIM,
    HYBRID,
    LATE,
    SPACE,
    SPARSE,
    collection,
    point_with,
    put,
    stored,
    storing,
    words,
)
from tests.operators.things import EntryPoint
from tests.servers import RunningQdrant

DENSE_4 = np.array([1, 2, 3, 4], np.float32)
LATE_2 = np.array([[1, 0, 0, 0], [0, 0, 2, 0]], np.float32)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else adopts a collection of a test."""
    monkeypatch.setattr("operators.qdrant.collection._SETTLE_S", 0)


def params_of(server: Server, where: Collection) -> models.CollectionParams:
    return server.client().get_collection(where.name).config.params


def test_a_collection_is_made_of_every_kind_of_vector(store_at: Server) -> None:
    where = collection(**HYBRID)
    prepare(store_at, where)
    params = params_of(store_at, where)
    assert isinstance(params.vectors, dict)
    assert params.vectors.keys() == {"dense", "late"}
    assert params.vectors["dense"].multivector_config is None
    late = params.vectors["late"]
    assert late.multivector_config is not None
    assert late.multivector_config.comparator == models.MultiVectorComparator.MAX_SIM
    assert late.size == DIM
    assert (params.sparse_vectors or {})["words"].modifier == models.Modifier.IDF
    made_by = (store_at.client().get_collection(where.name).config.metadata or {})["_stream"]
    assert {name: made_by[name]["model"] for name in HYBRID} == {
        "dense": "m",
        "words": "s",
        "late": "c",
    }
    prepare(store_at, where)  # and what is there already is what is wanted


def test_a_collection_of_sparse_vectors_alone_is_made(store_at: Server) -> None:
    where = collection(words=replace(SPARSE, needs_idf=False, on_disk=True))
    prepare(store_at, where)
    sparse = (params_of(store_at, where).sparse_vectors or {})["words"]
    assert sparse.modifier in {None, models.Modifier.NONE}
    put(store_at, where, [(point_with(1, words=words(w3=0.5)),)])
    assert stored(store_at, where)[1].vector == {
        "words": models.SparseVector(indices=[3], values=[0.5])
    }


def test_what_tunes_a_search_is_asked_of_the_server(remote: Server) -> None:
    where = collection(
        late=replace(LATE, on_disk=True),
        small=replace(SPACE, quantization="scalar"),
        tiny=replace(SPACE, quantization="binary", indexed=False),
        words=replace(SPARSE, on_disk=True),
    )
    prepare(remote, where)
    params = params_of(remote, where)
    assert isinstance(params.vectors, dict)
    graphs = {name: one.hnsw_config and one.hnsw_config.m for name, one in params.vectors.items()}
    assert graphs == {"late": 0, "small": None, "tiny": 0}
    small = params.vectors["small"].quantization_config
    assert isinstance(small, models.ScalarQuantization)
    assert (small.scalar.type, small.scalar.always_ram) == (models.ScalarType.INT8, True)
    tiny = params.vectors["tiny"].quantization_config
    assert isinstance(tiny, models.BinaryQuantization)
    assert tiny.binary.always_ram
    assert params.vectors["late"].on_disk
    assert params.vectors["small"].on_disk is None
    index = (params.sparse_vectors or {})["words"].index
    assert index is not None
    assert index.on_disk
    # A later run may tune otherwise: the server's owner has the last word.
    prepare(remote, replace(where, vectors={**where.vectors, "small": SPACE}))


@pytest.mark.parametrize(
    ("name", "wanted", "said"),
    [
        ("words", SPACE, "'words' is sparse, what m makes is dense"),
        ("words", replace(SPARSE, needs_idf=False), "'words' has the modifier idf, which s must"),
        ("late", SPACE, "'late' is multi, what m makes is dense"),
        ("late", replace(LATE, dim=7), "'late' has 4 dimensions, c 7"),
        ("late", replace(LATE, distance="cosine"), "'late' compares by Dot, this flow by cosine"),
        ("dense", LATE, "'dense' is dense, what c makes is multi"),
        ("dense", SPARSE, "'dense' is dense, what s makes is sparse"),
        ("words", replace(SPARSE, model="t"), r"'words' was made by s \(f2\), this flow has t"),
        ("other", SPARSE, "no vector 'other', it has 'dense', 'late', 'words'"),
    ],
)
def test_another_kind_of_vector_is_refused(
    store_at: Server, name: str, wanted: VectorSpace, said: str
) -> None:
    where = collection(**HYBRID)
    prepare(store_at, where)
    with pytest.raises(SettingError, match=said):
        prepare(store_at, replace(where, vectors={**HYBRID, name: wanted}))


def test_a_sparse_vector_without_the_idf_that_its_model_needs_is_refused(store_at: Server) -> None:
    where = collection(words=replace(SPARSE, needs_idf=False))
    prepare(store_at, where)
    with pytest.raises(SettingError, match="'words' lacks the modifier idf, which s needs"):
        prepare(store_at, replace(where, vectors={"words": SPARSE}))


def test_all_differences_of_all_vectors_are_said_at_once(store_at: Server) -> None:
    where = collection(**HYBRID)
    prepare(store_at, where)
    wanted = {"dense": replace(SPACE, dim=5), "words": replace(SPARSE, fingerprint="f9")}
    with pytest.raises(SettingError) as refused:
        prepare(store_at, replace(where, vectors=wanted))
    for said in (
        "'dense' has 4 dimensions",
        "'words' was made by s (f2)",
        "it has 'late' too, which a point loses",
        "Choose another collection",
    ):
        assert said in str(refused.value)


def test_wanted_payload_indexes_are_made_beside_our_own(remote: Server) -> None:
    indexes: dict[str, IndexType] = {
        "kind": "keyword",
        "place.year": "integer",
        "price": "float",
        "new": "bool",
        "at": "datetime",
        "where": "geo",
        "title": "text",
        "ref": "uuid",
    }
    where = replace(collection(), indexes=indexes)
    prepare(remote, replace(where, indexes={}))
    prepare(remote, where)  # also in a collection that has been there before
    prepare(remote, where)
    made = remote.client().get_collection(where.name).payload_schema
    assert {name: one.data_type.value for name, one in made.items() if name in indexes} == indexes


def test_an_index_of_another_type_is_refused(remote: Server) -> None:
    where = replace(collection(), indexes={"year": "keyword"})
    prepare(remote, where)
    with pytest.raises(SettingError, match="index of 'year' is keyword, this flow wants integer"):
        prepare(remote, replace(where, indexes={"year": "integer"}))


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("year", "number", "Index of 'year' has type 'number'; expected one of keyword, integer"),
        ("_stream.offset", "integer", "'_stream' is this project's own"),
        ("", "keyword", "Name a payload field"),
    ],
)
def test_an_index_that_cannot_be_is_refused(name: str, kind: Any, said: str) -> None:
    with pytest.raises(SettingError, match=said):
        Collection(name="c", vectors={"dense": SPACE}, indexes={name: kind})


def test_every_kind_of_vector_is_stored(store_at: Server, entry_point: EntryPoint) -> None:
    where = collection(**HYBRID)
    batch = tuple(
        point_with(n, dense=DENSE_4 + n, words=words(w7=0.5, w3=2.0), late=LATE_2[: 1 + n % 2])
        for n in range(6)
    )
    entry_point(storing(QdrantSink(store_at, where, Writing(max_points=2)), [batch]))
    found = stored(store_at, where)
    assert sorted(found) == list(range(6))
    assert isinstance(found[5].vector, dict)
    assert found[5].vector["dense"] == [6, 7, 8, 9]
    assert found[5].vector["late"] == LATE_2.tolist()
    sparse = found[5].vector["words"]
    assert isinstance(sparse, models.SparseVector)
    assert dict(zip(sparse.indices, sparse.values, strict=True)) == {7: 0.5, 3: 2.0}


HARD_NUMBERS = np.array(
    [[1 / 3, -0.1, 1e-45, 3.4028235e38], [1.1754944e-38, 16777217, -0.0, np.pi]], np.float32
)


def test_numbers_are_stored_to_the_last_bit(store_at: Server) -> None:
    where = collection(**HYBRID)
    random = np.random.default_rng(7).standard_normal((300, DIM)).astype(np.float32)
    late = np.concatenate([HARD_NUMBERS, random])
    sparse = SparseEmbedding(values=random[:50, 0], indices=np.arange(50) * 83_000_000)
    put(store_at, where, [(point_with(1, dense=HARD_NUMBERS[0], words=sparse, late=late),)])
    found: Any = stored(store_at, where)[1].vector
    assert np.array(found["dense"], np.float32).tobytes() == HARD_NUMBERS[0].tobytes()
    assert np.array(found["late"], np.float32).tobytes() == late.tobytes()
    assert np.array(found["words"].values, np.float32).tobytes() == sparse.values.tobytes()
    assert found["words"].indices == sparse.indices.tolist()


EMPTY: dict[str, Any] = {
    "words": SparseEmbedding(values=np.array([], np.float32), indices=np.array([], np.int64)),
    "late": np.empty((0, DIM), np.float32),
}


@pytest.mark.parametrize("name", EMPTY)
def test_a_vector_without_numbers_is_left_out_and_its_record_stored(
    store_at: Server, name: str
) -> None:
    where = collection(**HYBRID)
    put(store_at, where, [(point_with(1, dense=DENSE_4, **{name: EMPTY[name]}),)])
    found = stored(store_at, where)[1].vector
    assert isinstance(found, dict)
    assert found == {"dense": [1, 2, 3, 4]}


def test_a_point_without_any_vector_is_its_payload_alone(store_at: Server) -> None:
    where = collection(**HYBRID)
    bare = point_with(1, 3, **EMPTY)
    put(store_at, where, [(bare, point_with(2))])
    found = stored(store_at, where)
    assert sorted(found) == [1, 2]
    assert not found[1].vector
    assert found[1].payload == bare.payload


def test_a_text_that_lost_its_words_loses_its_old_sparse_vector(store_at: Server) -> None:
    where = collection(**HYBRID)
    put(store_at, where, [(point_with(1, 1, dense=DENSE_4, words=words(w3=1.0)),)])
    put(store_at, where, [(point_with(1, 2, dense=DENSE_4, words=EMPTY["words"]),)])
    assert stored(store_at, where)[1].vector == {"dense": [1, 2, 3, 4]}


BAD: dict[str, dict[str, Any]] = {
    "a multivector in a dense space": {"dense": LATE_2},
    "a wrong length of rows": {"late": np.ones((2, 5), np.float32)},
    "a sparse one in a dense space": {"dense": words(w1=1.0)},
    "a name that nobody knows": {"nobody": DENSE_4},
    "a dense one of no numbers": {"dense": np.array([], np.float32)},
}


@pytest.mark.parametrize("bad", BAD)
def test_a_vector_that_does_not_fit_is_set_aside_alone(
    store_at: Server, tmp_path: Path, bad: str
) -> None:
    where = collection(**HYBRID)
    batch = (
        point_with(1, 1, late=LATE_2),
        point_with(2, 2, **BAD[bad]),
        point_with(3, 3, dense=DENSE_4),
    )
    put(store_at, where, [batch], refused=DeadLetterFile(tmp_path / "dead.jsonl"))
    assert sorted(stored(store_at, where)) == [1, 3]
    [letter] = map(json.loads, (tmp_path / "dead.jsonl").read_text().splitlines())
    assert (letter["offset"], letter["stage"]) == (2, "qdrant")


NUMBERS = st.floats(width=32, allow_nan=False, allow_infinity=False)
DENSE: st.SearchStrategy[NDArray[np.float32]] = arrays(
    np.float32, st.integers(1, 300), elements=NUMBERS
)
MULTI: st.SearchStrategy[NDArray[np.float32]] = arrays(
    np.float32, array_shapes(min_dims=2, max_dims=2, max_side=40), elements=NUMBERS
)
WORDS = st.dictionaries(st.integers(0, 2**32 - 1), NUMBERS, min_size=1, max_size=9)


@given(DENSE, MULTI, WORDS.map(SparseEmbedding.from_dict), st.sampled_from([7, "k"]))
def test_a_message_says_what_the_clients_own_conversion_says(
    dense: NDArray[np.float32], late: NDArray[np.float32], sparse: SparseEmbedding, key: str | int
) -> None:
    one = point_with(key, 3, dense=dense, late=late, words=sparse)
    checked = models.PointStruct.model_validate(_struct(one, plain).model_dump())
    points = [RestToGrpc.convert_point_struct(checked)]
    expected = grpc.UpsertPoints(
        collection_name="c",
        wait=True,
        points=points,
        update_filter=RestToGrpc.convert_filter(fence((one,))),
    )
    assert _message("c", (one,), fence((one,))) == expected


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_view_of_an_array_is_sent_as_it_reads(order: Any) -> None:
    whole = np.asarray(np.arange(24, dtype=np.float32).reshape(4, 6), order=order)
    one, copy = (point_with(1, late=view) for view in (whole[::2, ::2], whole[::2, ::2].copy()))
    assert _message("c", (one,), fence((one,))) == _message("c", (copy,), fence((copy,)))


def many(n_points: int) -> tuple[Point, ...]:
    rng = np.random.default_rng(1)
    return tuple(
        point_with(
            n,
            dense=rng.standard_normal(384).astype(np.float32),
            late=rng.standard_normal((300, 128)).astype(np.float32),
            words=SparseEmbedding(
                values=rng.standard_normal(99).astype(np.float32),
                indices=rng.integers(1 << 31, 1 << 32, 99),
            ),
        )
        for n in range(n_points)
    )


def test_a_request_weighs_no_more_than_was_estimated_and_not_much_less() -> None:
    batch = many(3)
    [estimate] = [weight(batch, AS_JSON)]
    as_json = len(
        models.PointsList(points=[_struct(one, plain) for one in batch]).model_dump_json()
    )
    assert 0.85 * estimate < as_json <= estimate
    as_message = _message("c", batch, models.Filter()).ByteSize()
    assert 0.95 * weight(batch, AS_PROTOBUF) < as_message <= 1.05 * weight(batch, AS_PROTOBUF)


def weight(batch: tuple[Point, ...], bytes_per_number: int) -> int:
    """Find the smallest limit under which a batch is one request."""
    low, high = 1, 1 << 30
    while low < high:
        middle = (low + high) // 2
        how = Writing(max_bytes=middle)
        n_requests = len(list(requests_of(batch, how, bytes_per_number=bytes_per_number)))
        low, high = (low, middle) if n_requests == 1 else (middle + 1, high)
    return low


def test_large_multivectors_go_in_several_requests(qdrant: RunningQdrant, remote: Server) -> None:
    where = collection(
        dense=replace(SPACE, dim=384),
        late=replace(LATE, dim=128),
        words=SPARSE,
    )
    limit = 1 << 20
    put(remote, where, [many(7)], Writing(max_bytes=limit))
    assert len(stored(remote, where)) == 7
    assert qdrant.stats()["largest_body_bytes"] <= limit * 1.05
    assert len(qdrant.stats()["points_per_upsert"]) == (2 if remote.grpc else 7)


def test_a_message_is_made_without_an_object_for_each_number() -> None:
    batch = many(4)
    tracemalloc.start()
    _message("c", batch, models.Filter())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    n_bytes_of_one = 300 * 128 * 4
    assert peak < 3 * n_bytes_of_one  # 38,400 floats of Python are eight times as much
