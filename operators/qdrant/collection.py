"""A collection as a flow needs it: made when absent, compared when present."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from qdrant_client import QdrantClient, models

from fastembed_stream.errors import SettingError
from operators.decoding import RESERVED
from operators.qdrant.errors import is_transient
from operators.qdrant.refusals import asked
from operators.qdrant.server import Server
from operators.shutdown import STOP
from operators.spaces import Distance, Quantization, Shape, VectorSpace

__all__ = ["Collection", "IndexType", "check", "check_name", "prepare"]

_LOG = logging.getLogger(__name__)

_DISTANCES: Mapping[Distance, models.Distance] = {
    "cosine": models.Distance.COSINE,
    "dot": models.Distance.DOT,
    "euclid": models.Distance.EUCLID,
    "manhattan": models.Distance.MANHATTAN,
}
_QUANTIZATIONS: Mapping[Quantization, models.QuantizationConfig | None] = {
    "none": None,
    "scalar": models.ScalarQuantization(
        scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8, always_ram=True)
    ),
    "binary": models.BinaryQuantization(binary=models.BinaryQuantizationConfig(always_ram=True)),
}
IndexType: TypeAlias = Literal[
    "keyword", "integer", "float", "bool", "datetime", "geo", "text", "uuid"
]
_INDEXES: Mapping[str, IndexType] = {
    f"{RESERVED}.source": "keyword",
    f"{RESERVED}.offset": "integer",
    f"{RESERVED}.document": "keyword",
    f"{RESERVED}.chunk": "integer",
}
"""What the fence looks up, and what finds the stale parts of a document."""
_ID = "id"
"""Beside the makers of the vectors in the collection's metadata: which collection this is."""
_SETTLE_S = 1.0
"""Several processes may adopt a collection at once; after this long all read the last one's id."""
_LONGEST_NAME_BYTES = 255
_NOT_IN_NAMES = frozenset('<>:"/\\|?*')
"""A server refuses to make a collection of such a name, which is a folder's name too."""
_LONGEST_QUOTE = 60
_OLDEST_SERVER = (1, 16)
"""
The first version whose upsert takes a filter: the fence.

Collections have metadata since the same version, so any server that is taken can keep the stamp.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """
    A collection as this flow needs it: made when absent, compared when present.

    vectors  its named vectors, all of them: writing a point drops any other that it has
    indexes  types of the payload fields that searches filter by, by the field's name; dots go into
             nested objects
    """

    name: str
    vectors: Mapping[str, VectorSpace]
    indexes: Mapping[str, IndexType] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, kind in self.indexes.items():
            _check_index(name, kind)
        if not self.name or not self.vectors:
            msg = f"A collection needs a name and at least one vector; got {self}."
            raise SettingError(msg)
        check_name(self.name)
        if _ID in self.vectors:
            msg = f"A vector cannot be named {_ID!r}: the collection's metadata has an {_ID} there."
            raise SettingError(msg)


def check_name(name: str) -> None:
    """
    Check that a server, or a folder, can have a collection of this name.

    raises  SettingError that says what is wrong with it
    """
    wrong = _wrong_with(name)
    if wrong is None:
        return
    shown = repr(name if len(name) <= _LONGEST_QUOTE else f"{name[:_LONGEST_QUOTE]}...")
    msg = (
        f"A collection cannot be named {shown}: {wrong}. Choose a plain name, such as 'documents'."
    )
    raise SettingError(msg)


def _wrong_with(name: str) -> str | None:
    if not name.strip():
        return "it is empty"
    if name in {".", ".."}:
        return "that is a folder's own name"
    odd = next((one for one in name if one in _NOT_IN_NAMES or not one.isprintable()), None)
    if odd is not None:
        return f"it has {odd!r}, which no name can have"
    size = len(name.encode())
    if size > _LONGEST_NAME_BYTES:
        return f"it has {size:,} bytes, and at most {_LONGEST_NAME_BYTES} fit"
    return None


def _check_index(name: str, kind: str) -> None:
    known = [one.value for one in models.PayloadSchemaType]
    if kind not in known:
        msg = f"Index of {name!r} has type {kind!r}; expected one of {', '.join(known)}."
        raise SettingError(msg)
    if not name or name.split(".", maxsplit=1)[0] == RESERVED:
        msg = f"An index of {name!r}: {RESERVED!r} is this project's own. Name a payload field."
        raise SettingError(msg)


def prepare(server: Server, wanted: Collection) -> None:
    """
    Make the collection, or compare the one that is there; waits for a server that is away.

    What a later run may not change are its vectors: model, shape, dimensions, distance, idf. What
    only tunes a search (graph, quantization, disk) is asked for when the collection is made, and
    left as it is found. Missing payload indexes are made at each start.

    A collection that something else made is adopted where it fits: its metadata then say which
    collection it is and what makes its vectors.

    raises  SettingError that says all that differs
    """
    asked(server, lambda: _prepared(server, wanted))


def check(server: Server, wanted: Collection) -> str:
    """
    Compare the collection as it is now, and leave it so.

    returns  its identity: the name, and an id that one of the same name made later does not have
    raises   SettingError that says all that differs, or that there is none
    """
    client = server.client()
    if not client.collection_exists(wanted.name):
        msg = f"Collection {wanted.name!r} is gone. Start the flow again to make it anew."
        raise SettingError(msg)
    return f"{wanted.name} {_stamp(_fitting(client, wanted)).get(_ID)}"


def _prepared(server: Server, wanted: Collection) -> None:
    client = server.client()
    if not server.local:
        _check_version(client)
    if not client.collection_exists(wanted.name):
        try:
            _create(client, wanted)
        except Exception as error:
            # Another process may have made it between the question and the answer.
            if is_transient(error) or not client.collection_exists(wanted.name):
                raise
    found = _fitting(client, wanted)
    if {_ID, *wanted.vectors} - _stamp(found).keys():
        _adopt(client, found, wanted)
        if not server.local:
            STOP.wait(_SETTLE_S)
    if not server.local:  # the engine in this process has no payload indexes
        _index(client, found, wanted)


def _index(client: QdrantClient, found: models.CollectionInfo, wanted: Collection) -> None:
    for name, kind in {**_INDEXES, **wanted.indexes}.items():
        if name not in found.payload_schema:
            client.create_payload_index(
                wanted.name, name, models.PayloadSchemaType(kind), wait=True
            )


def _fitting(client: QdrantClient, wanted: Collection) -> models.CollectionInfo:
    found = client.get_collection(wanted.name)
    differences = _differences(found, wanted)
    if differences:
        msg = (
            f"Collection {wanted.name!r} is not what this flow writes: {'; '.join(differences)}. "
            "Choose another collection, or the model and distance that it was made with."
        )
        raise SettingError(msg)
    return found


def _check_version(client: QdrantClient) -> None:
    version = client.info().version
    numbers = tuple(int(part) for part in version.split("-")[0].split(".")[:2])
    if numbers < _OLDEST_SERVER:
        msg = (
            f"Qdrant {version} cannot fence writes by version; expected "
            f"{'.'.join(map(str, _OLDEST_SERVER))} or newer. Upgrade the server."
        )
        raise SettingError(msg)


def _create(client: QdrantClient, wanted: Collection) -> None:
    sparse = {
        name: _sparse_params(space)
        for name, space in wanted.vectors.items()
        if space.shape == "sparse"
    }
    client.create_collection(
        wanted.name,
        vectors_config={
            name: _dense_params(space)
            for name, space in wanted.vectors.items()
            if space.shape != "sparse"
        },
        sparse_vectors_config=sparse or None,
        metadata={RESERVED: _new_stamp(wanted)},
    )
    _LOG.info("Made collection %r: %s", wanted.name, ", ".join(wanted.vectors))


def _dense_params(space: VectorSpace) -> models.VectorParams:
    return models.VectorParams(
        size=space.dim,
        distance=_DISTANCES[space.distance],
        hnsw_config=None if space.indexed else models.HnswConfigDiff(m=0),
        quantization_config=_QUANTIZATIONS[space.quantization],
        on_disk=space.on_disk or None,
        multivector_config=_max_sim() if space.shape == "multi" else None,
    )


def _max_sim() -> models.MultiVectorConfig:
    return models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)


def _sparse_params(space: VectorSpace) -> models.SparseVectorParams:
    return models.SparseVectorParams(
        index=models.SparseIndexParams(on_disk=True) if space.on_disk else None,
        modifier=models.Modifier.IDF if space.needs_idf else None,
    )


def _adopt(client: QdrantClient, found: models.CollectionInfo, wanted: Collection) -> None:
    stamp = _stamp(found)
    if not stamp and found.points_count:
        _LOG.warning(
            "Collection %r has %d points that this project did not write; taking its vectors for "
            "those of %s",
            wanted.name,
            found.points_count,
            ", ".join(sorted({space.model for space in wanted.vectors.values()})),
        )
    metadata = {**(found.config.metadata or {}), RESERVED: {**_new_stamp(wanted), **stamp}}
    client.update_collection(wanted.name, metadata=metadata)


def _new_stamp(wanted: Collection) -> dict[str, object]:
    makers = {name: _made_by(space) for name, space in wanted.vectors.items()}
    return {_ID: uuid.uuid4().hex, **makers}


def _stamp(found: models.CollectionInfo) -> dict[str, Any]:
    return dict((found.config.metadata or {}).get(RESERVED) or {})


def _made_by(space: VectorSpace) -> dict[str, str]:
    return {"model": space.model, "fingerprint": space.fingerprint}


_Params: TypeAlias = models.VectorParams | models.SparseVectorParams


def _differences(found: models.CollectionInfo, wanted: Collection) -> list[str]:
    present = _present(found)
    made_by = _stamp(found)
    differences: list[str] = []
    for name, space in wanted.vectors.items():
        params = present.get(name)
        if params is None:
            has = ", ".join(map(repr, sorted(present))) or "none"
            differences.append(f"no vector {name!r}, it has {has}")
            continue
        differences += _vector_differences(name, params, space)
        maker = made_by.get(name)
        if maker is not None and maker != _made_by(space):
            differences.append(
                f"{name!r} was made by {maker['model']} ({maker['fingerprint']}), "
                f"this flow has {space.model} ({space.fingerprint})"
            )
    unknown = present.keys() - wanted.vectors.keys()
    if unknown:
        names = ", ".join(map(repr, sorted(unknown)))
        differences.append(f"it has {names} too, which a point loses when this flow writes it")
    return differences + _index_differences(found, wanted)


def _present(found: models.CollectionInfo) -> dict[str, _Params]:
    vectors = found.config.params.vectors
    dense = vectors if isinstance(vectors, dict) else {"": vectors} if vectors else {}
    return {**dense, **(found.config.params.sparse_vectors or {})}


def _shape(params: _Params) -> Shape:
    """Tell the shape; several vectors compare by max_sim, the only way that there is."""
    if isinstance(params, models.SparseVectorParams):
        return "sparse"
    return "dense" if params.multivector_config is None else "multi"


def _vector_differences(name: str, params: _Params, space: VectorSpace) -> list[str]:
    differences: list[str] = []
    shape = _shape(params)
    if shape != space.shape:
        differences.append(f"{name!r} is {shape}, what {space.model} makes is {space.shape}")
    elif isinstance(params, models.SparseVectorParams):
        has_idf = params.modifier == models.Modifier.IDF
        if has_idf != space.needs_idf:
            there = "has" if has_idf else "lacks"
            needs = "needs" if space.needs_idf else "must not have"
            differences.append(f"{name!r} {there} the modifier idf, which {space.model} {needs}")
    else:
        if params.size != space.dim:
            differences.append(f"{name!r} has {params.size} dimensions, {space.model} {space.dim}")
        if params.distance != _DISTANCES[space.distance]:
            differences.append(
                f"{name!r} compares by {params.distance.value}, this flow by {space.distance}"
            )
    return differences


def _index_differences(found: models.CollectionInfo, wanted: Collection) -> list[str]:
    there = {name: one.data_type.value for name, one in found.payload_schema.items()}
    return [
        f"the index of {name!r} is {there[name]}, this flow wants {kind} (drop that index first)"
        for name, kind in {**_INDEXES, **wanted.indexes}.items()
        if there.get(name, kind) != kind
    ]
