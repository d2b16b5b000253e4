"""
Ways to search, and the requests that they become.

A search names vectors; the same names are those of the query's vectors and of the collection's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from qdrant_client import models
from typing_extensions import assert_never

from fastembed_stream.errors import SettingError
from fastembed_stream.values import SparseEmbedding
from operators.qdrant.wire import plain
from operators.records import Vector

__all__ = ["Fused", "Nearest", "Rescored", "Search", "Terms", "request_of"]

Fusion: TypeAlias = Literal["rrf", "dbsf"]

_FEWEST_FUSED = 2
_WEIGHTS_SINCE = (1, 17)


@dataclass(frozen=True, slots=True, kw_only=True)
class Nearest:
    """
    The points whose vector is nearest to the query's.

    vector  dense by distance, sparse by dot product, multivectors by MaxSim

    Scores are those of the distance; of 'euclid' and 'manhattan' they are negative, so that a
    higher one is better there too.
    """

    vector: str = "dense"

    def __post_init__(self) -> None:
        if not self.vector:
            msg = "Nearest() needs the name of a vector; got an empty one."
            raise SettingError(msg)

    @property
    def vectors(self) -> tuple[str, ...]:
        """Name what is searched by."""
        return (self.vector,)

    @property
    def oldest_server(self) -> tuple[int, int] | None:
        """Any server can do this."""
        return None

    @property
    def scored_by(self) -> str | None:
        """Name the vector whose distance is the score."""
        return self.vector


@dataclass(frozen=True, slots=True, kw_only=True)
class Fused:
    """
    One list from several: the points that are near by any of some vectors.

    vectors     at least two, each once
    fusion      'rrf' adds up weight / rank, 'dbsf' scores that were put on one scale
    candidates  points that each vector brings; at least as many as are asked for
    k           of 'rrf', at least 1: the larger, the less the first ranks weigh; None leaves it to
                the server, whose own is 2
    weights     of 'rrf', one for each vector; none weighs all alike. Qdrant 1.17 or newer

    A sparse query without a word brings nothing; the others count as they would.
    """

    vectors: tuple[str, ...] = ("dense", "sparse")
    fusion: Fusion = "rrf"
    candidates: int = 100
    k: int | None = None
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for told in self._wrong():
            msg = f"Fused({told}."
            raise SettingError(msg)

    @property
    def oldest_server(self) -> tuple[int, int] | None:
        """Give the version that can do this, where not every one can."""
        return _WEIGHTS_SINCE if self.weights else None

    @property
    def scored_by(self) -> str | None:
        """No vector's distance is the score."""
        return None

    def _wrong(self) -> list[str]:
        n, weights = len(self.vectors), self.weights
        told = {
            f"vectors={self.vectors}): expected at least two names, each once": (
                n < _FEWEST_FUSED or len(set(self.vectors)) < n or not all(self.vectors)
            ),
            f"fusion={self.fusion!r}): expected 'rrf' or 'dbsf'": (
                self.fusion not in {"rrf", "dbsf"}
            ),
            f"fusion={self.fusion!r}) has neither k nor weights; leave them out": (
                self.fusion != "rrf" and (self.k is not None or bool(weights))
            ),
            f"k={self.k}): expected at least 1": self.k is not None and self.k < 1,
            f"weights={weights}): expected none, or {n} positive numbers": (
                bool(weights)
                and (len(weights) != n or not all(0 < weight < np.inf for weight in weights))
            ),
            f"candidates={self.candidates}): expected at least 1": self.candidates < 1,
        }
        return [what for what, wrong in told.items() if wrong]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescored:
    """
    What another search finds, put in order by a vector that is better and dearer.

    first       brings the candidates: MUVERA's or a dense vector, or several fused
    by          the vector that decides, as a rule a multivector, by MaxSim
    candidates  points that `first` brings; at least as many as are asked for

    A candidate that has no such vector is not found, nor is anything by a sparse query without a
    word.
    """

    first: Nearest | Fused = Nearest(vector="muvera")
    by: str = "late"
    candidates: int = 100

    def __post_init__(self) -> None:
        if not self.by:
            msg = "Rescored(by=''): expected the name of a vector."
            raise SettingError(msg)
        if self.candidates < 1:
            msg = f"Rescored(candidates={self.candidates}): expected at least 1."
            raise SettingError(msg)

    @property
    def vectors(self) -> tuple[str, ...]:
        """Name what is searched by."""
        return tuple(dict.fromkeys((*self.first.vectors, self.by)))

    @property
    def oldest_server(self) -> tuple[int, int] | None:
        """Give the version that can do this, where not every one can."""
        return self.first.oldest_server

    @property
    def scored_by(self) -> str | None:
        """Name the vector whose distance is the score."""
        return self.by


Search: TypeAlias = Nearest | Fused | Rescored


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """
    What else a request says.

    limit    points to give
    payload  what of each point's payload to give
    filter   which points may be found
    params   how the index is searched
    """

    limit: int
    payload: models.WithPayloadInterface
    filter: models.Filter | None = None
    params: models.SearchParams | None = None


def request_of(
    search: Search, vectors: Mapping[str, Vector], terms: Terms
) -> models.QueryRequest | None:
    """
    Say a query in Qdrant's terms.

    vectors  the query's, by name
    returns  None where it has no word to search by: it would find nothing
    """
    part = _part(search, vectors, terms, terms.limit)
    if part is None:
        return None
    return models.QueryRequest(
        prefetch=part.prefetch,
        query=part.query,
        using=part.using,
        filter=part.filter,
        params=part.params,
        limit=terms.limit,
        with_payload=terms.payload,
    )


def _part(
    search: Search, vectors: Mapping[str, Vector], terms: Terms, limit: int
) -> models.Prefetch | None:
    """Say a search as a part of a larger one; its filter stands where points are looked up."""
    match search:
        case Nearest():
            vector = vectors[search.vector]
            if _has_no_word(vector):
                return None
            return models.Prefetch(
                query=models.NearestQuery(nearest=plain(vector)),
                using=search.vector,
                filter=terms.filter,
                params=terms.params,
                limit=limit,
            )
        case Fused():
            return _fused(search, vectors, terms, limit)
        case Rescored():
            candidates = max(search.candidates, limit)
            first = _part(search.first, vectors, terms, candidates)
            vector = vectors[search.by]
            if first is None or _has_no_word(vector):
                return None
            return models.Prefetch(
                prefetch=[first],
                query=models.NearestQuery(nearest=plain(vector)),
                using=search.by,
                limit=limit,
            )
        case never:
            assert_never(never)


def _fused(
    search: Fused, vectors: Mapping[str, Vector], terms: Terms, limit: int
) -> models.Prefetch | None:
    weights = search.weights or (1.0,) * len(search.vectors)
    candidates = max(search.candidates, limit)
    parts: list[models.Prefetch] = []
    weighed: list[float] = []
    for name, weight in zip(search.vectors, weights, strict=True):
        part = _part(Nearest(vector=name), vectors, terms, candidates)
        if part is not None:
            parts.append(part)
            weighed.append(weight)
    if not parts:
        return None
    query: models.Query
    if search.k is None and not search.weights:
        query = models.FusionQuery(fusion=models.Fusion(search.fusion))
    else:
        rrf = models.Rrf(k=search.k, weights=weighed if search.weights else None)
        query = models.RrfQuery(rrf=rrf)
    return models.Prefetch(prefetch=parts, query=query, limit=limit)


def _has_no_word(vector: Vector) -> bool:
    return isinstance(vector, SparseEmbedding) and vector.values.size == 0
