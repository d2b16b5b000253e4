"""A collection as a flow needs it: made when absent, compared when present."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from qdrant_client import QdrantClient, models

from fastembed_stream.errors import SettingError
from operators.decoding import RESERVED
from operators.outages import waited_out
from operators.qdrant.errors import is_transient
from operators.qdrant.server import Server

__all__ = ["Collection", "Distance", "VectorSpace", "prepare"]

_LOG = logging.getLogger(__name__)

Distance: TypeAlias = Literal["cosine", "dot", "euclid", "manhattan"]

_DISTANCES: Mapping[Distance, models.Distance] = {
    "cosine": models.Distance.COSINE,
    "dot": models.Distance.DOT,
    "euclid": models.Distance.EUCLID,
    "manhattan": models.Distance.MANHATTAN,
}
_OLDEST_SERVER = (1, 16)
"""The first version whose upsert takes a filter: the fence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorSpace:
    """
    One named vector of a collection.

    dim          its length
    distance     how two are compared
    model        name of the model that makes it
    fingerprint  of that model: files, pooling, limits
    on_disk      whether the server keeps it on disk
    """

    dim: int
    model: str
    fingerprint: str
    distance: Distance = "cosine"
    on_disk: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """
    A collection as this flow needs it: made when absent, compared when present.

    vectors  its named vectors
    """

    name: str
    vectors: Mapping[str, VectorSpace]

    def __post_init__(self) -> None:
        if not self.name or not self.vectors:
            msg = f"A collection needs a name and at least one vector; got {self}."
            raise SettingError(msg)


def prepare(server: Server, wanted: Collection) -> None:
    """
    Make the collection, or compare the one that is there; waits for a server that is away.

    raises  SettingError that says all that differs
    """
    waited_out(f"Qdrant {server.url or ''}", lambda: _prepared(server, wanted), is_transient)


def _prepared(server: Server, wanted: Collection) -> None:
    client = server.client()
    if not server.local:
        _check_version(client)
    if not client.collection_exists(wanted.name):
        try:
            _create(client, wanted, local=server.local)
        except Exception as error:
            # Another process may have made it between the question and the answer.
            if is_transient(error) or not client.collection_exists(wanted.name):
                raise
    differences = _differences(client.get_collection(wanted.name), wanted)
    if differences:
        msg = (
            f"Collection {wanted.name!r} is not what this flow writes: {'; '.join(differences)}. "
            "Choose another collection, or the model and distance that it was made with."
        )
        raise SettingError(msg)


def _check_version(client: QdrantClient) -> None:
    version = client.info().version
    numbers = tuple(int(part) for part in version.split("-")[0].split(".")[:2])
    if numbers < _OLDEST_SERVER:
        msg = (
            f"Qdrant {version} cannot fence writes by version; expected "
            f"{'.'.join(map(str, _OLDEST_SERVER))} or newer. Upgrade the server."
        )
        raise SettingError(msg)


def _create(client: QdrantClient, wanted: Collection, *, local: bool) -> None:
    client.create_collection(
        wanted.name,
        vectors_config={
            name: models.VectorParams(
                size=space.dim,
                distance=_DISTANCES[space.distance],
                on_disk=space.on_disk or None,
            )
            for name, space in wanted.vectors.items()
        },
        metadata={RESERVED: {name: _made_by(space) for name, space in wanted.vectors.items()}},
    )
    _LOG.info("Made collection %r: %s", wanted.name, ", ".join(wanted.vectors))
    if local:
        return  # the engine in this process has no payload indexes
    kinds = {"source": models.PayloadSchemaType.KEYWORD, "offset": models.PayloadSchemaType.INTEGER}
    for name, kind in kinds.items():
        client.create_payload_index(wanted.name, f"{RESERVED}.{name}", kind, wait=True)


def _made_by(space: VectorSpace) -> dict[str, str]:
    return {"model": space.model, "fingerprint": space.fingerprint}


def _differences(found: models.CollectionInfo, wanted: Collection) -> list[str]:
    vectors = found.config.params.vectors
    present = vectors if isinstance(vectors, dict) else {"": vectors} if vectors else {}
    made_by = (found.config.metadata or {}).get(RESERVED, {})
    differences: list[str] = []
    for name, space in wanted.vectors.items():
        params = present.get(name)
        if params is None:
            differences.append(
                f"no vector {name!r}, it has {', '.join(map(repr, sorted(present)))}"
            )
            continue
        if params.size != space.dim:
            differences.append(f"{name!r} has {params.size} dimensions, {space.model} {space.dim}")
        if params.distance != _DISTANCES[space.distance]:
            differences.append(
                f"{name!r} compares by {params.distance.value}, this flow by {space.distance}"
            )
        maker = made_by.get(name)
        if maker is not None and maker != _made_by(space):
            differences.append(
                f"{name!r} was made by {maker['model']} ({maker['fingerprint']}), "
                f"this flow has {space.model} ({space.fingerprint})"
            )
    return differences
