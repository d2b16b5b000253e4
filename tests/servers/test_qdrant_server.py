"""The test server answers as a real one does."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import grpc
import httpx
import numpy as np
import pytest
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from tests.servers import RunningQdrant, running_qdrant
from tests.servers.things import (
    COMMON,
    DENSE,
    DIM,
    MULTI,
    NAME,
    SPARSE,
    connected,
    create,
    numbers,
    point,
    stored,
)

if TYPE_CHECKING:
    from pathlib import Path


def test_what_goes_in_comes_out_over_either_door(client: QdrantClient) -> None:
    create(client)
    assert client.upsert(NAME, [point(1), point(2)]).status == models.UpdateStatus.COMPLETED

    record = stored(client, 2)
    assert record.payload == {"version": 1, "text": "number 2"}
    assert isinstance(record.vector, dict)
    unit = np.array([2.0, 1.0, 0.0, 0.0]) / np.sqrt(5.0)
    np.testing.assert_allclose(record.vector[DENSE], unit, rtol=1e-6)  # type: ignore[arg-type]  # dense by name
    assert record.vector[MULTI] == [[2.0, 0.0, 0.0, 1.0], [0.0, 1.0, 0.0, 0.0]]
    assert record.vector[SPARSE] == models.SparseVector(indices=[2, COMMON], values=[1.0, 0.5])


def test_a_collection_reports_what_was_asked_of_it(client: QdrantClient) -> None:
    create(client)
    client.create_payload_index(NAME, "version", models.PayloadSchemaType.INTEGER)
    client.create_payload_index(
        NAME, "text", models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD)
    )
    client.upsert(NAME, [point(1)])
    client.update_collection(
        NAME, hnsw_config=models.HnswConfigDiff(ef_construct=64), metadata={"made": "b"}
    )

    info = client.get_collection(NAME)
    assert isinstance(info.config.params.vectors, dict)
    assert info.config.params.vectors[DENSE].size == DIM
    assert info.config.params.vectors[MULTI].multivector_config is not None
    assert info.config.params.sparse_vectors is not None
    assert info.config.params.sparse_vectors[SPARSE].modifier == models.Modifier.IDF
    assert (info.config.hnsw_config.m, info.config.hnsw_config.ef_construct) == (8, 64)
    assert info.config.metadata == {"model": "a", "made": "b"}
    assert info.points_count == 1
    assert info.payload_schema["version"].data_type == models.PayloadSchemaType.INTEGER
    assert info.payload_schema["text"].points == 1


def test_a_collection_exists_from_its_creation_to_its_end(client: QdrantClient) -> None:
    assert not client.collection_exists(NAME)
    create(client)
    assert client.collection_exists(NAME)
    assert [found.name for found in client.get_collections().collections] == [NAME]
    assert client.delete_collection(NAME)
    assert not client.collection_exists(NAME)
    assert not client.delete_collection(NAME)


def test_points_change_in_each_of_the_ways_there_are(client: QdrantClient) -> None:
    create(client)
    client.upsert(NAME, [point(number) for number in range(1, 7)])
    client.set_payload(NAME, {"seen": True}, points=[1])
    client.update_vectors(NAME, [models.PointVectors(id=1, vector={DENSE: [0.0, 0.0, 3.0, 0.0]})])
    client.delete(NAME, [2])
    client.delete(NAME, models.Filter(must=[models.HasIdCondition(has_id=[3])]))
    client.batch_update_points(
        NAME,
        [
            models.UpsertOperation(upsert=models.PointsList(points=[point(7)])),
            models.DeleteOperation(delete=models.PointIdsList(points=[6])),
        ],
    )

    one = stored(client, 1)
    assert one.payload == {"version": 1, "text": "number 1", "seen": True}
    assert isinstance(one.vector, dict)
    assert one.vector[DENSE] == [0.0, 0.0, 1.0, 0.0]
    assert one.vector[MULTI] == [[1.0, 0.0, 0.0, 1.0], [0.0, 1.0, 0.0, 0.0]]
    assert numbers(client) == [1, 4, 5, 7]
    seen = models.FieldCondition(key="seen", match=models.MatchValue(value=True))
    assert client.count(NAME, count_filter=models.Filter(must=[seen])).count == 1


def test_pages_follow_each_other_without_a_gap(client: QdrantClient) -> None:
    create(client)
    client.upsert(NAME, [point(number) for number in range(1, 6)])
    first, offset = client.scroll(NAME, limit=3)
    rest, end = client.scroll(NAME, limit=3, offset=offset)
    assert [record.id for record in first + rest] == [1, 2, 3, 4, 5]
    assert end is None


def test_the_nearest_are_found_by_each_kind_of_vector(client: QdrantClient) -> None:
    create(client)
    client.upsert(NAME, [point(number) for number in range(1, 6)])
    words = models.SparseVector(indices=[4], values=[1.0])
    found = [
        client.query_points(NAME, [5.0, 1.0, 0.0, 0.0], using=DENSE, limit=1),
        client.query_points(NAME, words, using=SPARSE, limit=1),
        client.query_points(NAME, [[1.0, 0.0, 0.0, 0.0]], using=MULTI, limit=1),
        client.query_points(
            NAME,
            models.FusionQuery(fusion=models.Fusion.RRF),
            prefetch=[
                models.Prefetch(query=[5.0, 1.0, 0.0, 0.0], using=DENSE, limit=2),
                models.Prefetch(query=[[1.0, 0.0, 0.0, 0.0]], using=MULTI, limit=2),
            ],
            limit=1,
        ),
    ]
    assert [[hit.id for hit in answer.points] for answer in found] == [[5], [4], [5], [5]]


def test_several_queries_are_answered_in_one_request(
    server: RunningQdrant, client: QdrantClient
) -> None:
    create(client)
    client.upsert(NAME, [point(number) for number in range(1, 6)])
    server.forget()
    even = models.Filter(must=[models.HasIdCondition(has_id=[2, 4])])
    near = models.NearestQuery(nearest=[5.0, 1.0, 0.0, 0.0])
    words = models.SparseVector(indices=[], values=[])
    parts = [models.Prefetch(query=near, using=DENSE), models.Prefetch(query=words, using=SPARSE)]
    rrf = models.RrfQuery(rrf=models.Rrf(k=10, weights=[2.0, 1.0]))
    asked = [
        models.QueryRequest(query=near, using=DENSE, limit=1, with_payload=["version"]),
        models.QueryRequest(query=near, using=DENSE, filter=even, limit=1),
        models.QueryRequest(query=words, using=SPARSE),
        models.QueryRequest(query=rrf, prefetch=parts, limit=2),
    ]
    found = client.query_batch_points(NAME, asked)
    assert [[hit.id for hit in answer.points] for answer in found] == [[5], [4], [], [5, 4]]
    assert found[0].points[0].payload == {"version": 1}
    assert found[3].points[0].score == pytest.approx(1 / (1 / 2 + 9))
    assert server.stats()["requests"] == {"query_batch": 1}


def test_a_fence_lets_a_new_point_in_and_keeps_a_newer_one(client: QdrantClient) -> None:
    create(client)
    client.upsert(NAME, [point(1, version=5), point(2, version=2)])
    older = models.FieldCondition(key="version", range=models.Range(lt=3))
    fence = models.Filter(must=[older])
    client.upsert(NAME, [point(n, version=3) for n in (1, 2, 3)], update_filter=fence)
    versions = {n: (stored(client, n).payload or {})["version"] for n in (1, 2, 3)}
    assert versions == {1: 5, 2: 3, 3: 3}


def test_insert_only_leaves_what_is_there(client: QdrantClient) -> None:
    create(client)
    client.upsert(NAME, [point(1, version=1)])
    only = models.UpdateMode.INSERT_ONLY
    client.upsert(NAME, [point(1, version=2), point(2, version=2)], update_mode=only)
    versions = [(stored(client, n).payload or {})["version"] for n in (1, 2)]
    assert versions == [1, 2]


def test_a_batch_of_columns_is_an_upsert_too(rest: QdrantClient) -> None:
    rest.upsert(
        NAME,
        models.Batch(ids=[1, 2], vectors={DENSE: [[1.0] * DIM] * 2}, payloads=[{"a": 1}, {"a": 2}]),
    )
    assert stored(rest, 2).payload == {"a": 2}


def test_an_unnamed_vector_needs_no_name(client: QdrantClient) -> None:
    euclid = models.VectorParams(size=DIM, distance=models.Distance.EUCLID)
    client.create_collection("plain", vectors_config=euclid)
    key = "0a1b2c3d-0000-4000-8000-000000000001"
    client.upsert("plain", [models.PointStruct(id=key, vector=[1.0, 2.0, 3.0, 4.0])])
    [record] = client.retrieve("plain", [key], with_vectors=True)
    assert (record.id, record.vector) == (key, [1.0, 2.0, 3.0, 4.0])


BAD_VECTORS = {
    "Vector dimension error: expected dim: 4, got 3": {DENSE: [1.0, 2.0, 3.0]},
    "Vector dimension error: expected dim: 4, got 2": {MULTI: [[1.0, 2.0]]},
    "Not existing vector name error: other": {"other": [1.0] * DIM},
    "Conversion between sparse and regular": {
        DENSE: models.SparseVector(indices=[1], values=[1.0])
    },
}


@pytest.mark.parametrize("message", BAD_VECTORS)
def test_a_bad_vector_refuses_its_whole_request(rest: QdrantClient, message: str) -> None:
    bad = models.PointStruct(id=9, vector=BAD_VECTORS[message])
    with pytest.raises(UnexpectedResponse) as refused:
        rest.upsert(NAME, [point(1), bad])
    assert refused.value.status_code == 400
    assert refused.value.structured()["status"]["error"].startswith(f"Wrong input: {message}")
    assert numbers(rest) == []


def test_a_bad_vector_is_an_invalid_argument(over_grpc: QdrantClient) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        over_grpc.upsert(NAME, [models.PointStruct(id=1, vector={DENSE: [1.0]})])
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert refused.value.details() == "Wrong input: Vector dimension error: expected dim: 4, got 1"


def test_each_wrong_request_has_its_status(server: RunningQdrant, rest: QdrantClient) -> None:
    with pytest.raises(UnexpectedResponse) as unknown:
        rest.upsert("nowhere", [point(1)])
    with pytest.raises(UnexpectedResponse) as twice:
        create(rest)
    with pytest.raises(UnexpectedResponse) as absent:
        rest.set_payload(NAME, {"a": 1}, points=[5])
    assert [e.value.status_code for e in (unknown, twice, absent)] == [404, 409, 404]
    points = f"{server.url}/collections/{NAME}/points"
    assert httpx.put(points, content=b"{").status_code == 400
    assert httpx.put(points, json={"points": [{"id": 1}]}).status_code == 400
    assert httpx.post(f"{points}/scroll", json={"limit": 0}).status_code == 422
    assert httpx.post(f"{points}/dance", json={}).status_code == 404


def test_an_unknown_collection_is_not_found(over_grpc: QdrantClient) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        over_grpc.upsert("nowhere", [point(1)])
    assert refused.value.code() == grpc.StatusCode.NOT_FOUND


def test_what_was_acknowledged_outlives_a_kill(tmp_path: Path) -> None:
    with running_qdrant(tmp_path / "data") as server:
        first = server.pid
        with connected(server) as client:
            create(client)
            client.create_payload_index(NAME, "version", models.PayloadSchemaType.INTEGER)
            client.upsert(NAME, [point(number) for number in range(1, 40)])
            client.delete(NAME, [3])
            client.set_payload(NAME, {"seen": True}, points=[1])
            before = [stored(client, number) for number in (1, 2)]
            server.kill()
            with pytest.raises(ResponseHandlingException):
                client.count(NAME)
            server.start()
            assert server.pid != first
            assert client.count(NAME).count == 38
            for old, new in zip(before, [stored(client, 1), stored(client, 2)], strict=True):
                assert new.payload == old.payload
                assert_same_vectors(new.vector, old.vector)
            assert client.get_collection(NAME).config.hnsw_config.m == 8
            assert "version" in client.get_collection(NAME).payload_schema
        with connected(server, prefer_grpc=True) as client:
            client.upsert(NAME, [point(3)])
            assert client.count(NAME).count == 39


def test_requests_need_the_key_and_a_greeting_does_not() -> None:
    with running_qdrant(api_key="open sesame", server_version="1.17.0") as server:
        assert httpx.get(server.url).json()["version"] == "1.17.0"
        with connected(server) as stranger, pytest.raises(UnexpectedResponse) as refused:
            stranger.get_collections()
        assert refused.value.status_code == 401
        with connected(server, prefer_grpc=True) as stranger, pytest.raises(grpc.RpcError) as e:
            stranger.get_collections()
        assert e.value.code() == grpc.StatusCode.UNAUTHENTICATED
        for prefer_grpc in (False, True):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # The key goes in the clear, as far as here.
                key = {"api_key": "open sesame", "https": False}
                with connected(server, prefer_grpc=prefer_grpc, **key) as friend:
                    assert friend.get_collections().collections == []
                    assert friend.info().version == "1.17.0"


def test_a_body_over_the_limit_is_too_large() -> None:
    with running_qdrant(max_body_bytes=20_000) as server, connected(server) as client:
        create(client)
        client.upsert(NAME, [point(number) for number in range(10)])
        with pytest.raises(UnexpectedResponse) as refused:
            client.upsert(NAME, [point(number) for number in range(1000)])
        assert refused.value.status_code == 413
        assert refused.value.structured()["status"]["error"] == "Payload too large"
        assert client.count(NAME).count == 10


def assert_same_vectors(left: Any, right: Any) -> None:
    assert left.keys() == right.keys()
    assert left[SPARSE] == right[SPARSE]
    for name in (DENSE, MULTI):
        np.testing.assert_allclose(left[name], right[name], rtol=1e-6)
