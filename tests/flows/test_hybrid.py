"""What `hybrid_to_qdrant` stores is what the engine gives, and what it cannot store is kept."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from fastembed_stream import (
    LateInteractionTextEmbedding,
    Muvera,
    SparseTextEmbedding,
    TextEmbedding,
)
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
    same_vector,
    stored_in,
    topic_of,
)
from tests.servers import RunningQdrant

MODELS = {"dense_model": DENSE, "sparse_model": WORDS, "late_model": LATE, "token_budget": "512"}
TEXTS = (
    "A broker keeps its log.",
    "größer, 日本語 and 🦀",
    "A window closes in time, or when it is full of records that have waited long enough.",
    "Offsets of two partitions mean nothing to each other.",
    "the",
    "Kafka, Kafka, Kafka!",
    "Whoever takes this over reads the tests first.",
    "Vectors of tokens are many; MUVERA makes one of them.",
)
LONG = " ".join(f"Sentence {number} is about shelf {number * 7}." for number in range(12))


def expected(texts: tuple[str, ...] = TEXTS) -> dict[str, dict[str, Any]]:
    """Give the engine's vectors of each text."""
    muvera = Muvera(384, k_sim=5, dim_proj=16, r_reps=20, random_seed=42)
    late = list(LateInteractionTextEmbedding(LATE).embed(texts))
    found = {
        "dense": TextEmbedding(DENSE).embed(texts),
        "sparse": SparseTextEmbedding(WORDS).embed(texts),
        "late": late,
        "muvera": [muvera.process_document(one) for one in late],
    }
    columns = {name: list(column) for name, column in found.items()}
    return {
        text: {name: column[at] for name, column in columns.items()}
        for at, text in enumerate(texts)
    }


def messages() -> list[tuple[bytes, bytes]]:
    return [
        (f"key-{at}".encode(), json.dumps({"text": text, "at": at}).encode())
        for at, text in enumerate(TEXTS)
    ]


def check(found: dict[str, Any], wanted: dict[str, Any], *, stored: bool) -> None:
    if stored and not wanted["sparse"].values.size:  # a text of stop words alone
        wanted = {name: vector for name, vector in wanted.items() if name != "sparse"}
    assert found.keys() == wanted.keys()
    for name, vector in wanted.items():
        same_vector(found[name], vector, cosine=stored and name in {"dense", "late"})


@pytest.mark.parametrize(
    ("way", "place"),
    [
        ("one worker", "path"),
        ("two workers", "path"),
        ("two workers", "rest"),
        ("two processes", "grpc"),
    ],
)
def test_each_stored_vector_is_what_the_engine_gives_for_its_text(
    way: Way, place: str, tmp_path: Path, brokers: str, server: RunningQdrant
) -> None:
    told = {**MODELS, **topic_of(brokers, messages())}
    if place == "path":
        told["qdrant_path"] = str(tmp_path / "points")
    else:
        told |= {"qdrant_url": server.url, "qdrant_grpc": str(place == "grpc")}
        told["qdrant_grpc_port"] = str(server.grpc_port)
    run(way, "hybrid_to_qdrant", tmp_path, told)
    points = stored_in(tmp_path / "points" if place == "path" else server.url)
    wanted = expected()
    payloads = [point.payload or {} for point in points]
    assert sorted(payload["at"] for payload in payloads) == list(range(len(TEXTS)))
    for point, payload in zip(points, payloads, strict=True):
        assert isinstance(point.vector, dict)
        check(point.vector, wanted[payload["text"]], stored=True)
    assert reasons(tmp_path) == {}


@pytest.mark.parametrize("way", WAYS)
def test_each_line_of_the_output_has_the_vectors_that_the_engine_gives(
    way: Way, tmp_path: Path
) -> None:
    told = {**MODELS, **lines_of(tmp_path, [{"text": text} for text in TEXTS])}
    run(way, "hybrid_to_qdrant", tmp_path, {**told, "output_file": str(tmp_path / "out.jsonl")})
    lines = read_lines(tmp_path / "out.jsonl")
    assert sorted(line["key"] for line in lines) == [str(at) for at in range(len(TEXTS))]
    wanted = expected()
    for line in lines:
        text = line["fields"]["text"]
        assert text == TEXTS[int(line["key"])]
        check(line["vectors"], wanted[text], stored=False)


def test_multivectors_that_are_not_stored_leave_muvera_as_it_is(tmp_path: Path) -> None:
    told = {**MODELS, **lines_of(tmp_path, [{"text": text} for text in TEXTS])}
    told |= {"store_late": "off", "qdrant_path": str(tmp_path / "points")}
    run("one worker", "hybrid_to_qdrant", tmp_path, told)
    wanted = expected()
    for point in stored_in(tmp_path / "points"):
        assert isinstance(point.vector, dict)
        without = dict(wanted[(point.payload or {})["text"]])
        del without["late"]
        check(point.vector, without, stored=True)


def test_a_text_longer_than_any_window_becomes_parts_that_are_embedded_each(
    tmp_path: Path,
) -> None:
    documents = [{"text": "short"}, {"text": LONG, "title": "long"}, {"text": "brief"}]
    told = {**MODELS, **lines_of(tmp_path, documents), "qdrant_path": str(tmp_path / "points")}
    told |= {"chunk_tokens": "20", "chunk_overlap": "4", "window_tokens": "8"}
    run("two workers", "hybrid_to_qdrant", tmp_path, told)
    points = stored_in(tmp_path / "points")
    payloads = [point.payload or {} for point in points]
    parts = [payload for payload in payloads if payload.get("title") == "long"]
    assert len(parts) > 4
    assert len(points) == len(parts) + 2
    for part in parts:
        stamp = part["_stream"]
        assert part["text"] == LONG[stamp["start"] : stamp["end"]]
        assert stamp["chunks"] == len(parts)
    covered = sorted((part["_stream"]["start"], part["_stream"]["end"]) for part in parts)
    assert covered[0][0] == 0
    assert covered[-1][1] == len(LONG)
    assert all(not LONG[end:start].strip() for (_, end), (start, _) in pairwise(covered))
    wanted = expected(tuple(payload["text"] for payload in payloads))
    for point, payload in zip(points, payloads, strict=True):
        assert isinstance(point.vector, dict)
        check(point.vector, wanted[payload["text"]], stored=True)


BAD = {
    "no JSON": (b"plainly not JSON", "not JSON"),
    "no text": (b'{"title": "a"}', "Field 'text' is missing"),
    "empty": (b'{"text": " "}', "is empty"),
    "large": (json.dumps({"text": "x" * 300_000}).encode(), "bytes, more than max_text_bytes"),
    "too many parts": (json.dumps({"text": "a b " * 50_000}).encode(), "more than max_parts"),
}


@pytest.mark.parametrize("way", ["one worker", "two workers"])
def test_the_good_are_stored_and_each_bad_one_is_kept_with_its_reason(
    way: Way, tmp_path: Path, brokers: str
) -> None:
    good = messages()
    mixed = [
        message
        for at, (name, (value, _)) in enumerate(BAD.items())
        for message in (good[at], (name.encode(), value))
    ]
    told = {**MODELS, **topic_of(brokers, mixed), "late_model": "none", "chunk_tokens": "10"}
    told["max_text_bytes"] = "250000"
    run(way, "hybrid_to_qdrant", tmp_path, {**told, "qdrant_path": str(tmp_path / "points")})
    found = reasons(tmp_path)
    assert found.keys() == BAD.keys()
    wrong = {name: found[name] for name, (_, part) in BAD.items() if part not in found[name]}
    assert wrong == {}
    texts = {(point.payload or {})["at"] for point in stored_in(tmp_path / "points")}
    assert texts == set(range(len(BAD)))


def test_a_collection_that_another_model_made_is_refused_with_the_reason(tmp_path: Path) -> None:
    told = {**MODELS, **lines_of(tmp_path, [{"text": "a"}]), "sparse_model": "none"}
    told |= {"qdrant_path": str(tmp_path / "points"), "late_model": "none"}
    run("one worker", "hybrid_to_qdrant", tmp_path, told)
    said = refused("hybrid_to_qdrant", {**told, "max_text_bytes": "9", "sparse_model": WORDS})
    assert "no vector 'sparse', it has 'dense'" in said
    said = refused(
        "hybrid_to_qdrant",
        {**told, "dense_model": "none", "late_model": LATE, "muvera": "off"},
    )
    assert "no vector 'late', it has 'dense'" in said
    assert len(stored_in(tmp_path / "points")) == 1
