"""
The checks of vectors that a server makes before it writes, in the server's words.

The local engine makes some of them, more in newer versions, none with exactly these messages; a
sink that tells a bad record from an outage reads the status and the message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from qdrant_client.http import models

from tests.servers.faults import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

BAD_INPUT = 400


def refuse_input(message: str) -> NoReturn:
    """Refuse a request that no retry will mend."""
    prefix = "" if message.startswith("Wrong input: ") else "Wrong input: "
    raise Refusal(BAD_INPUT, prefix + message)


def check_vectors(config: models.CreateCollection, vectors: Iterable[object]) -> None:
    """
    Refuse vectors that the collection cannot hold, before any of them is written.

    vectors  the vector or the named vectors of each point, as a point carries them
    raises   Refusal (400) on an unknown name, another kind or another dimension
    """
    given = config.vectors
    dense = {"": given} if isinstance(given, models.VectorParams) else dict(given or {})
    sparse = frozenset(config.sparse_vectors or {})
    for vector in vectors:
        named = vector if isinstance(vector, dict) else {"": vector}
        for name, value in named.items():
            check_vector(dense, sparse, name, value)


def check_vector(
    dense: Mapping[str, models.VectorParams], sparse: frozenset[str], name: str, value: object
) -> None:
    """Refuse one vector of the wrong name, kind or dimension."""
    if name not in dense and name not in sparse:
        refuse_input(f"Not existing vector name error: {name}")
    if isinstance(value, models.SparseVector) != (name in sparse):
        expected = "Sparse" if name in sparse else "Dense"
        refuse_input(f"Conversion between sparse and regular vectors failed: {expected} {name!r}")
    if isinstance(value, models.SparseVector):
        return
    if not isinstance(value, list):
        refuse_input("InferenceService is not initialized")
    check_rows(dense[name], rows_of(value), is_multi=bool(value) and isinstance(value[0], list))


def rows_of(value: list[Any]) -> list[list[float]]:
    """View a dense vector as a multivector of one row."""
    return value if value and isinstance(value[0], list) else [value]


def check_rows(params: models.VectorParams, rows: list[list[float]], *, is_multi: bool) -> None:
    """Refuse a multivector where one vector belongs, and rows of another dimension."""
    if is_multi and params.multivector_config is None:
        refuse_input("Conversion between multi and regular vectors failed")
    for row in rows:
        if len(row) != params.size:
            refuse_input(f"Vector dimension error: expected dim: {params.size}, got {len(row)}")
