"""What the tests of retrieval share: a collection of every kind of vector, queries, brute force."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qdrant_client import models

from fastembed_stream import SparseEmbedding
from operators import Batch, Collection, Record, RetrieveStage, Search, Server, VectorSpace
from operators.records import Vector
from tests.operators.things import message

DIM = 3
FINGERPRINT = "f1"
DENSE, FAR, WORDS, RARE, LATE = "dense", "far", "words", "rare", "late"
"""By cosine; by Euclid; sparse; sparse with IDF; a multivector."""

MEMORY = Server(memory=True)

SPACES: Mapping[str, VectorSpace] = {
    DENSE: VectorSpace(model="d", fingerprint=FINGERPRINT, dim=DIM),
    FAR: VectorSpace(model="d", fingerprint=FINGERPRINT, dim=DIM, distance="euclid"),
    WORDS: VectorSpace(model="w", fingerprint=FINGERPRINT, shape="sparse"),
    RARE: VectorSpace(model="w", fingerprint=FINGERPRINT, shape="sparse", needs_idf=True),
    LATE: VectorSpace(model="l", fingerprint=FINGERPRINT, shape="multi", dim=DIM),
}


@dataclass(frozen=True, kw_only=True)
class Thing:
    """
    What a point, or a query, is made of.

    dense  float32[DIM]
    words  weights by word
    late   float32[n_tokens, DIM]
    """

    dense: NDArray[np.float32]
    words: Mapping[int, float]
    late: NDArray[np.float32]

    def vectors(self) -> dict[str, Vector]:
        words = SparseEmbedding.from_dict(self.words)
        return {DENSE: self.dense, FAR: self.dense, WORDS: words, RARE: words, LATE: self.late}


def thing(x: float = 1.0, *words: int) -> Thing:
    """Make one whose direction tells `x`, of some words."""
    dense = np.array([x, 1, 0], np.float32)
    return Thing(dense=dense, words=dict.fromkeys(words, 1.0), late=dense[None])


FEW = [thing(1, 1), thing(3, 1, 2), thing(9, 2)]


def collection(**spaces: VectorSpace) -> Collection:
    return Collection(name=f"r{uuid.uuid4().hex[:12]}", vectors=spaces or SPACES)


def fill(
    server: Server,
    where: Collection,
    things: Iterable[Thing],
    *,
    made_by: str | None = FINGERPRINT,
    **payload: Any,
) -> Collection:
    """Store things under 1, 2, 3 ..., with their number in the payload, in a collection of all."""
    client = server.client()
    late = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)
    cosine, euclid = models.Distance.COSINE, models.Distance.EUCLID
    stamp = {name: {"model": "m", "fingerprint": made_by} for name in SPACES} if made_by else {}
    client.create_collection(
        where.name,
        vectors_config={
            DENSE: models.VectorParams(size=DIM, distance=cosine),
            FAR: models.VectorParams(size=DIM, distance=euclid),
            LATE: models.VectorParams(size=DIM, distance=cosine, multivector_config=late),
        },
        sparse_vectors_config={
            WORDS: models.SparseVectorParams(),
            RARE: models.SparseVectorParams(modifier=models.Modifier.IDF),
        },
        metadata={"_stream": stamp},
    )
    points = [
        models.PointStruct(
            id=number,
            vector={name: plain(vector) for name, vector in one.vectors().items()},
            payload={"number": number, "_stream": {"offset": number}, **payload},
        )
        for number, one in enumerate(things, 1)
    ]
    client.upsert(where.name, points)
    return where


def plain(vector: Vector) -> Any:
    if isinstance(vector, SparseEmbedding):
        return models.SparseVector(indices=vector.indices.tolist(), values=vector.values.tolist())
    return vector.tolist()


def query(one: Thing, number: int = 0, **payload: object) -> Record:
    """Make a query that has all vectors."""
    vectors = one.vectors()
    return Record(
        key=f"q{number}",
        fields={"text": f"query {number}"},
        payload=payload,
        origin=message(
            json.dumps(payload, default=str).encode(),
            offset=number,
            key=f"q{number}".encode(),
            headers=(("correlation-id", b"%d" % number),),
        ),
        vectors=vectors,
        models=dict.fromkeys(vectors, FINGERPRINT),
    )


def expected(name: str, one: Thing, stored: list[Thing]) -> dict[int, float]:
    """Compute the score of every point that can be found by a vector, by its number."""
    match name:
        case "dense":
            scores = {n: _cosine(one.dense, other.dense) for n, other in enumerate(stored, 1)}
        case "far":
            scores = {
                n: -float(np.linalg.norm(one.dense - other.dense))
                for n, other in enumerate(stored, 1)
            }
        case "late":
            scores = {
                n: sum(max(_cosine(mine, its) for its in other.late) for mine in one.late)
                for n, other in enumerate(stored, 1)
            }
        case _:
            scores = {
                n: sum(
                    weight * other.words[word] * (_idf(word, stored) if name == RARE else 1.0)
                    for word, weight in one.words.items()
                    if word in other.words
                )
                for n, other in enumerate(stored, 1)
                if other.words.keys() & one.words.keys()
            }
    return scores


def _cosine(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    a, b = one.astype(np.float64), other.astype(np.float64)
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def _idf(word: int, stored: list[Thing]) -> float:
    """Weigh a word as Qdrant does, which is BM25's way."""
    having = sum(word in one.words for one in stored)
    return float(np.log((len(stored) - having + 0.5) / (having + 0.5) + 1))


def stage_of(
    where: Collection, search: Search, server: Server = MEMORY, **how: Any
) -> RetrieveStage:
    return RetrieveStage(server=server, collection=where, search=search, **how)


def asked(stage: RetrieveStage, *queries: Record) -> Batch:
    return stage(Batch(records=queries))


def found(batch: Batch) -> list[list[Any]]:
    return [[hit.id for hit in record.hits] for record in batch.records]
