"""What `rerank_queries` answers is what the engine and brute force give, question by question."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import QdrantClient

from fastembed_stream import (
    LateInteractionTextEmbedding,
    SparseTextEmbedding,
    TextCrossEncoder,
    TextEmbedding,
)
from flows.local_broker import create_topic
from operators import RetrieveStage
from operators.records import Batch
from tests.chaos.test_every_flow import answers
from tests.fastembed_stream.examples import real_model
from tests.flows.things import (
    DENSE,
    LATE,
    WAYS,
    WORDS,
    Way,
    lines_of,
    read_lines,
    reasons,
    refused,
    run,
    topic_of,
)
from tests.servers import RunningQdrant

MODELS = {"dense_model": DENSE, "sparse_model": WORDS, "late_model": LATE, "lanes": "1"}
CROSS_ENCODER = "Xenova/ms-marco-MiniLM-L-6-v2"
DOCUMENTS = (
    "A broker keeps its log in order.",
    "The window closes when its oldest record has waited long enough.",
    "Offsets of two partitions mean nothing to each other.",
    "An outage is waited out; a bad record is set aside.",
    "Whoever takes this over reads the tests first.",
    "Vectors of tokens are many.",
)
QUESTIONS = ("who keeps a log", "when does a window close", "what becomes of bad records")
N_MORE = 9


def questions() -> list[tuple[bytes, bytes]]:
    """Make messages of all questions, and so many more that both workers have some."""
    texts = [*QUESTIONS, *(f"{QUESTIONS[at % 3]} number {at}" for at in range(N_MORE))]
    return [
        (f"question-{at}".encode(), json.dumps({"text": text}).encode())
        for at, text in enumerate(texts)
    ]


@pytest.fixture
def filled(tmp_path: Path, server: RunningQdrant) -> dict[str, str]:
    """Fill a collection; give the settings that ask it."""
    documents = [{"text": text, "n": number} for number, text in enumerate(DOCUMENTS)]
    place = {**MODELS, "qdrant_url": server.url}
    fill = tmp_path / "fill"
    fill.mkdir()
    run("one worker", "hybrid_to_qdrant", fill, {**place, **lines_of(fill, documents)})
    return {**place, "rerank_model": "none", "limit": str(len(DOCUMENTS))}


def cosine(one: Any, other: Any) -> Any:
    one, other = (np.asarray(of, np.float64) for of in (one, other))
    return (
        (one @ other.T) / np.linalg.norm(one, axis=-1)[..., None] / np.linalg.norm(other, axis=-1)
    )


def brute_force(mode: str, question: str) -> list[float]:
    """Give the score of each document."""
    if mode == "dense":
        [asked] = TextEmbedding(DENSE).query_embed([question])
        return list(cosine(asked[None], np.stack(list(TextEmbedding(DENSE).embed(DOCUMENTS))))[0])
    model = LateInteractionTextEmbedding(LATE)
    [asked] = model.query_embed([question])
    return [float(cosine(asked, one).max(axis=1).sum()) for one in model.embed(DOCUMENTS)]


def check(answer: dict[str, Any], scores: list[float]) -> None:
    """Check that the hits are all documents, by these scores."""
    hits = answer["hits"]
    order = [hit["payload"]["n"] for hit in hits]
    np.testing.assert_allclose(
        [hit["score"] for hit in hits], [scores[at] for at in order], rtol=1e-4, atol=1e-5
    )
    assert sorted(order) == list(range(len(DOCUMENTS)))
    assert [hit["score"] for hit in hits] == sorted((hit["score"] for hit in hits), reverse=True)
    assert all(hit["payload"]["text"] == DOCUMENTS[hit["payload"]["n"]] for hit in hits)


@pytest.mark.parametrize(
    ("way", "mode"),
    [
        ("one worker", "dense"),
        ("two workers", "late"),
        ("two workers", "muvera"),
        ("two processes", "muvera"),
    ],
)
def test_hits_are_scored_as_brute_force_scores_them(
    way: Way, mode: str, tmp_path: Path, brokers: str, filled: dict[str, str]
) -> None:
    told = {**filled, **topic_of(brokers, questions()), "search": mode}
    told["results_file"] = str(tmp_path / "answers.jsonl")
    run(way, "rerank_queries", tmp_path, told)
    lines = {line["id"]: line for line in read_lines(tmp_path / "answers.jsonl")}
    assert lines.keys() == {key.decode() for key, _ in questions()}
    for at, question in enumerate(QUESTIONS):
        check(lines[f"question-{at}"], brute_force(mode, question))
    assert reasons(tmp_path) == {}


def test_an_answer_that_its_topic_refuses_is_a_dead_letter_and_the_others_are_written(
    tmp_path: Path, brokers: str, filled: dict[str, str]
) -> None:
    asked = [*questions(), (b"k" * 20_000, json.dumps({"text": QUESTIONS[0]}).encode())]
    told = {**filled, **topic_of(brokers, asked), "search": "sparse"}
    told["kafka_options"] = json.dumps({"message.max.bytes": "10000"})
    told["results_topic"] = f"{told['kafka_topics']}-answers"
    create_topic(brokers, told["results_topic"], 1)
    run("two workers", "rerank_queries", tmp_path, told)
    found = answers(brokers, told["results_topic"])
    assert sorted(key for key, _ in found) == sorted(key for key, _ in questions())
    [(key, reason)] = reasons(tmp_path).items()
    assert key == "k" * 20_000
    assert f"Kafka topic {told['results_topic']} refuses the message" in reason


def test_words_are_found_where_they_are_and_nothing_by_none(
    tmp_path: Path, filled: dict[str, str]
) -> None:
    asked = [{"text": "broker offsets"}, {"text": "the of"}]
    told = {**filled, **lines_of(tmp_path, asked), "search": "sparse"}
    run("one worker", "rerank_queries", tmp_path, {**told, "results_file": str(tmp_path / "a")})
    found = {line["id"]: line["hits"] for line in read_lines(tmp_path / "a")}
    assert {hit["payload"]["n"] for hit in found["0"]} == {0, 2}
    assert found["1"] == []
    [query] = SparseTextEmbedding(WORDS).query_embed(["the of"])
    assert query.values.size == 0


def test_hybrid_hits_are_those_of_both_vectors_fused(
    tmp_path: Path, filled: dict[str, str]
) -> None:
    told = {**filled, **lines_of(tmp_path, [{"text": "broker offsets"}]), "search": "hybrid"}
    run("one worker", "rerank_queries", tmp_path, {**told, "results_file": str(tmp_path / "a")})
    [line] = read_lines(tmp_path / "a")
    order = [hit["payload"]["n"] for hit in line["hits"]]
    assert sorted(order) == list(range(len(DOCUMENTS)))
    assert set(order[:2]) == {0, 2}


@pytest.mark.parametrize("way", WAYS)
def test_hits_come_in_the_order_of_the_cross_encoder(
    way: Way, tmp_path: Path, brokers: str, filled: dict[str, str]
) -> None:
    folder = real_model("cross-standin")
    results = f"answers-{way.replace(' ', '-')}"
    create_topic(brokers, results, 1)
    told = {**filled, **topic_of(brokers, questions()), "search": "dense", "results_topic": results}
    told |= {"rerank_model": CROSS_ENCODER, "rerank_folder": str(folder)}
    run(way, "rerank_queries", tmp_path, told)
    given = dict(answers(brokers, results))
    assert given.keys() == {key for key, _ in questions()}
    encoder = TextCrossEncoder(CROSS_ENCODER, specific_model_path=str(folder))
    for at, question in enumerate(QUESTIONS):
        check(given[f"question-{at}".encode()], list(encoder.rerank(question, DOCUMENTS)))


@pytest.mark.parametrize("reranked", [False, True])
def test_a_question_gets_as_many_hits_as_it_asks_for(
    tmp_path: Path, filled: dict[str, str], *, reranked: bool
) -> None:
    asked = [{"text": "log", "limit": limit} for limit in (1, 5, 6)] + [{"text": "log"}]
    told = {**filled, **lines_of(tmp_path, asked), "search": "dense", "limit": "2"}
    if reranked:
        told |= {"rerank_model": CROSS_ENCODER, "rerank_candidates": "6"}
        told["rerank_folder"] = str(real_model("cross-standin"))
    run("one worker", "rerank_queries", tmp_path, {**told, "results_file": str(tmp_path / "a")})
    found = {line["id"]: line["hits"] for line in read_lines(tmp_path / "a")}
    assert [len(found[str(at)]) for at in range(4)] == [1, 5, 6, 2]
    assert [hit["id"] for hit in found["0"]] == [hit["id"] for hit in found["2"][:1]]


BAD = {
    "not JSON": (b"when?", "not JSON"),
    "no text": (b'{"q": "a"}', "Field 'text' is missing"),
    "no such limit": (b'{"text": "a", "limit": 0}', "'limit' is 0; expected an integer from 1"),
    "no filter": (b'{"text": "a", "filter": {"must": 7}}', "'filter' is no filter of Qdrant"),
    "too long": (json.dumps({"text": "a" * 2_000}).encode(), "more than max_text_bytes"),
}


@pytest.mark.parametrize("way", ["one worker", "two workers"])
def test_the_good_are_answered_and_each_bad_one_is_kept_with_its_reason(
    way: Way, tmp_path: Path, brokers: str, filled: dict[str, str]
) -> None:
    good = questions()[: len(BAD)]
    mixed = [(b"", b'{"text": "without an id"}')]
    for (key, value), (name, (bad, _)) in zip(good, BAD.items(), strict=True):
        mixed += [(key, value), (name.encode(), bad)]
    told = {**filled, **topic_of(brokers, mixed), "search": "hybrid", "max_text_bytes": "1000"}
    told |= {"rerank_model": CROSS_ENCODER, "rerank_folder": str(real_model("cross-standin"))}
    run(way, "rerank_queries", tmp_path, {**told, "results_file": str(tmp_path / "a")})
    assert {line["id"] for line in read_lines(tmp_path / "a")} == {key.decode() for key, _ in good}
    found = reasons(tmp_path)
    wanted = {name: reason for name, (_, reason) in BAD.items()} | {"": "key is empty"}
    assert found.keys() == wanted.keys()
    assert {name: found[name] for name, part in wanted.items() if part not in found[name]} == {}


def test_a_line_without_the_key_that_it_should_have_is_kept(
    tmp_path: Path, filled: dict[str, str]
) -> None:
    asked: list[dict[str, object]] = [
        {"text": "a"},
        {"id": "b", "text": "b"},
        {"id": [], "text": "c"},
    ]
    told = {**filled, **lines_of(tmp_path, asked), "search": "dense", "key_field": "id"}
    run("one worker", "rerank_queries", tmp_path, {**told, "results_file": str(tmp_path / "a")})
    assert [line["id"] for line in read_lines(tmp_path / "a")] == ["b"]
    found = reasons(tmp_path)
    assert "'id' is missing" in found["0"]
    assert "Key field 'id' is []" in found["2"]


def test_hits_whose_text_is_lost_before_they_are_read_come_last_and_none_is_lost(
    tmp_path: Path, filled: dict[str, str], server: RunningQdrant, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = {1, 4}
    retrieved = RetrieveStage.__call__

    def and_lose(stage: RetrieveStage, batch: Batch) -> Batch:
        client = QdrantClient(url=server.url, check_compatibility=False)
        points, _ = client.scroll("documents", limit=100)
        gone = [point.id for point in points if (point.payload or {})["n"] in lost]
        client.delete_payload("documents", ["text"], points=gone)
        client.close()
        return retrieved(stage, batch)

    monkeypatch.setattr(RetrieveStage, "__call__", and_lose)
    told = {**filled, **lines_of(tmp_path, [{"text": "log"}, {"text": "window"}])}
    told |= {"rerank_model": CROSS_ENCODER, "rerank_folder": str(real_model("cross-standin"))}
    told |= {"search": "dense", "results_file": str(tmp_path / "a")}
    run("one worker", "rerank_queries", tmp_path, told)
    for line in read_lines(tmp_path / "a"):
        order = [hit["payload"]["n"] for hit in line["hits"]]
        assert sorted(order) == list(range(len(DOCUMENTS)))
        assert set(order[-len(lost) :]) == lost
    assert reasons(tmp_path) == {}


def test_points_that_vanish_between_search_and_reranking_are_ranked_by_what_was_found(
    tmp_path: Path, filled: dict[str, str], server: RunningQdrant, monkeypatch: pytest.MonkeyPatch
) -> None:
    retrieved = RetrieveStage.__call__

    def and_empty(stage: RetrieveStage, batch: Batch) -> Batch:
        found = retrieved(stage, batch)
        client = QdrantClient(url=server.url, check_compatibility=False)
        points, _ = client.scroll("documents", limit=100)
        client.delete("documents", [point.id for point in points])
        assert client.count("documents").count == 0
        client.close()
        return found

    monkeypatch.setattr(RetrieveStage, "__call__", and_empty)
    told = {**filled, **lines_of(tmp_path, [{"text": "log"}])}
    told |= {"rerank_model": CROSS_ENCODER, "rerank_folder": str(real_model("cross-standin"))}
    told |= {"search": "dense", "results_file": str(tmp_path / "a")}
    run("one worker", "rerank_queries", tmp_path, told)
    [line] = read_lines(tmp_path / "a")
    scores = [hit["score"] for hit in line["hits"]]
    assert scores == sorted(scores, reverse=True)
    assert sorted(hit["payload"]["n"] for hit in line["hits"]) == list(range(len(DOCUMENTS)))
    assert reasons(tmp_path) == {}


def test_a_collection_that_cannot_answer_is_refused_with_the_reason(
    tmp_path: Path, filled: dict[str, str]
) -> None:
    told = {**filled, **lines_of(tmp_path, [{"text": "a"}]), "results_file": str(tmp_path / "a")}
    said = refused("rerank_queries", {**told, "collection": "no-such-one"})
    assert "Collection 'no-such-one' cannot be read" in said
    other = "prithivida/Splade_PP_en_v1"
    folder = str(real_model("splade-tiny"))
    said = refused("rerank_queries", {**told, "sparse_model": other, "sparse_folder": folder})
    assert "'sparse' was made by Qdrant/bm25" in said
    assert not (tmp_path / "a").exists()


def test_a_collection_without_the_vector_that_is_asked_is_refused(tmp_path: Path) -> None:
    place = {**MODELS, "qdrant_path": str(tmp_path / "points")}
    file = lines_of(tmp_path, [{"text": "a"}])
    run("one worker", "hybrid_to_qdrant", tmp_path, {**place, **file, "late_model": "none"})
    told = {**place, **file, "results_file": str(tmp_path / "a"), "search": "late"}
    said = refused("rerank_queries", {**told, "rerank_model": "none"})
    assert "no vector 'late', it has 'dense', 'sparse'" in said
