"""
What the local engine forgets about a collection and a server reports: its settings, its indexes.

A sink that compares the collection it finds with the one it wants must find what it created.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter
from qdrant_client.http import models

if TYPE_CHECKING:
    from pathlib import Path

Json = dict[str, Any]
SCHEMA: TypeAdapter[Any] = TypeAdapter(models.PayloadFieldSchema)

# The parts of a create or update request that an answer keeps one level down.
PARAMS = (
    "shard_number",
    "sharding_method",
    "replication_factor",
    "write_consistency_factor",
    "read_fan_out_factor",
    "on_disk_payload",
)
DEFAULT_PARAMS: Json = {
    "shard_number": 1,
    "replication_factor": 1,
    "write_consistency_factor": 1,
    "on_disk_payload": True,
}
# As a request names a section of the settings, and as the answer does.
SECTIONS = {
    "hnsw_config": "hnsw_config",
    "optimizers_config": "optimizer_config",
    "wal_config": "wal_config",
    "quantization_config": "quantization_config",
    "strict_mode_config": "strict_mode_config",
}


class Ledger:
    """Settings and payload indexes by collection, in one file beside the data (or in memory)."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._rows: dict[str, Json] = {}
        if path is not None and path.exists():
            self._rows = json.loads(path.read_text())

    def create(self, name: str, request: models.CreateCollection) -> None:
        sent = request.model_dump(mode="json", exclude_none=True)
        sent.pop("vectors", None)  # The engine keeps these two whole.
        sent.pop("sparse_vectors", None)
        self._rows[name] = {"settings": sent, "indexes": {}}
        self._save()

    def update(self, name: str, request: models.UpdateCollection) -> None:
        sent = request.model_dump(mode="json", exclude_none=True)
        sent.pop("sparse_vectors", None)
        sent.update(sent.pop("params", {}))
        merge(self._row(name)["settings"], sent)
        self._save()

    def drop(self, name: str) -> None:
        self._rows.pop(name, None)
        self._save()

    def add_index(self, name: str, field: str, schema: models.PayloadFieldSchema) -> None:
        self._row(name)["indexes"][field] = SCHEMA.dump_python(schema, mode="json")
        self._save()

    def remove_index(self, name: str, field: str) -> None:
        self._row(name)["indexes"].pop(field, None)
        self._save()

    def indexes(self, name: str) -> dict[str, models.PayloadFieldSchema]:
        """Return the schema of each indexed field, as it was asked for."""
        rows = self._row(name)["indexes"]
        return {field: SCHEMA.validate_python(row) for field, row in rows.items()}

    def complete(self, name: str, info: models.CollectionInfo) -> models.CollectionInfo:
        """Lay the settings that were asked for over those that the local engine reports."""
        settings = self._row(name)["settings"]
        answer: Json = info.model_dump(mode="json", exclude_none=True)
        config = answer["config"]
        asked = {key: settings[key] for key in PARAMS if key in settings}
        config["params"] = {**DEFAULT_PARAMS, **config["params"], **asked}
        for sent_as, told_as in SECTIONS.items():
            if sent_as in settings:
                merge(config.setdefault(told_as, {}), settings[sent_as])
        self._lay_vectors(config["params"], settings.get("vectors", {}))
        return models.CollectionInfo.model_validate(answer)

    @staticmethod
    def _lay_vectors(params: Json, changes: dict[str, Json]) -> None:
        for vector, change in changes.items():
            # An update names the unnamed vector "".
            merge(params["vectors"][vector] if vector else params["vectors"], change)

    def _row(self, name: str) -> Json:
        # A folder that the local engine wrote without a server has collections and no ledger.
        return self._rows.setdefault(name, {"settings": {}, "indexes": {}})

    def _save(self) -> None:
        if self._path is None:
            return
        # Replaced whole: the process may be killed at any line.
        draft = self._path.with_suffix(".tmp")
        draft.write_text(json.dumps(self._rows))
        draft.replace(self._path)


def merge(into: Json, change: Json) -> None:
    """Write a partial change over nested settings, in place."""
    for key, value in change.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = value
