"""The stages that turn fields of records into vectors, and an operator for each."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from bytewax.dataflow import operator

from fastembed_stream import Fetching, Model, Runtime, catalog, fingerprint, locate, open_model
from fastembed_stream.errors import SettingError
from operators.metrics import FAILURES, TRUNCATED_TEXTS, TRUNCATED_TOKENS
from operators.records import Batch, Batches, Failure, Record, Split
from operators.stages import StageLimits, run_stages

if TYPE_CHECKING:
    from fastembed_stream import OpenModel
    from fastembed_stream.values import Floats

__all__ = ["DenseStage", "embed_dense"]


class _Opened:
    """A model opened once for each process, whichever thread comes first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._embedder: OpenModel[str, str, Floats] | None = None
        self.fingerprint = ""
        self.limit: int | None = None

    def embedder(self, stage: DenseStage) -> OpenModel[str, str, Floats]:
        with self._lock:
            if self._embedder is None:
                files = locate(stage.row, folder=stage.folder, fetching=stage.fetching)
                embedder = open_model(
                    stage.row, folder=files, runtime=stage.runtime, max_tokens=stage.max_tokens
                )
                _check_dim(stage, files, embedder)
                self.fingerprint = _fingerprint(stage, files)
                self.limit = embedder.max_tokens
                self._embedder = embedder
            return self._embedder


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseStage:
    """
    One dense vector for each record, from a text field.

    model       a catalog name, or a row of your own
    vector      name of the vector it writes
    text_field  name of the field it reads
    prompted    whether the model's passage prompt goes before the text
    folder      take the model's files from here
    max_tokens  another limit than the model's tokenizer_config.json states

    Describing it checks the name; the model is opened once for each process, at first use or by
    `open`.
    """

    model: Model | str
    vector: str = "dense"
    text_field: str = "text"
    prompted: bool = False
    folder: Path | None = None
    fetching: Fetching = Fetching()  # noqa: RUF009  frozen
    runtime: Runtime = Runtime()  # noqa: RUF009  frozen
    max_tokens: int | None = None
    _opened: _Opened = field(default_factory=_Opened, init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.vector or not self.text_field:
            msg = f"A stage needs a field and a vector; got {self.text_field!r}, {self.vector!r}."
            raise SettingError(msg)
        _ = self.row  # an unknown name fails here, while the flow is built

    @property
    def name(self) -> str:
        """Name the stage in failures and metrics."""
        return f"embed {self.vector}"

    @property
    def row(self) -> Model:
        """Give the model's row."""
        return catalog.find(self.model) if isinstance(self.model, str) else self.model

    @property
    def limit(self) -> int | None:
        """Give the most tokens of one text; None for a static model, and before it is opened."""
        return self._opened.limit

    def open(self) -> str:
        """
        Open the model and measure its token budget now; give the model's fingerprint.

        raises  SettingError where its vectors have another length than its row says
        """
        self._opened.embedder(self).warm_up()
        return self._opened.fingerprint

    def __call__(self, batch: Batch) -> Batch:
        """Embed all records of a batch; a vector that is not finite fails its record alone."""
        embedder = self._opened.embedder(self)
        prompt = self.row.passage_prompt if self.prompted else ""
        vectors = embedder([prompt + self._text(record) for record in batch.records])
        TRUNCATED_TEXTS.set(embedder.counts.truncated_rows)
        TRUNCATED_TOKENS.set(embedder.counts.truncated_tokens)
        finite = [bool(np.isfinite(vector).all()) for vector in vectors]
        records, failures = [], []
        for record, vector, good in zip(batch.records, vectors, finite, strict=True):
            if good:
                written = record.with_vector(self.vector, vector, model=self._opened.fingerprint)
                records.append(written)
            else:
                failures.append(self._not_finite(record, vector))
        return Batch(records=tuple(records), failures=tuple(failures))

    def _text(self, record: Record) -> str:
        text = record.fields.get(self.text_field)
        if not isinstance(text, str):
            found = ", ".join(record.fields) or "none"
            msg = f"Field {self.text_field!r} of record {record.key!r} is no text; it has {found}."
            raise TypeError(msg)
        return text

    def _not_finite(self, record: Record, vector: np.ndarray) -> Failure:
        n_bad = int((~np.isfinite(vector)).sum())
        msg = f"{self.row.name} gave {n_bad} of {vector.size} numbers that are NaN or infinite."
        FAILURES.labels(self.name).inc()
        return Failure.of(record.origin, self.name, FloatingPointError(msg))


def _fingerprint(stage: DenseStage, files: Path) -> str:
    """Tell models apart, and the same model with another limit or with prompts too."""
    made = fingerprint(stage.row, files)
    prompt = stage.row.passage_prompt if stage.prompted else ""
    if stage.max_tokens is None and not prompt:
        return made
    told = f"{made} {stage.max_tokens} {prompt}".encode()
    return hashlib.blake2b(told, digest_size=8).hexdigest()


def _check_dim(stage: DenseStage, files: Path, embedder: OpenModel[str, str, Floats]) -> None:
    [vector] = embedder(["text"])
    if vector.size != stage.row.dim:
        msg = (
            f"The model in {files} gives vectors of {vector.size} numbers, but {stage.row.name} "
            f"has {stage.row.dim}: the folder holds another model. Name that one, or its folder."
        )
        raise SettingError(msg)


@operator
def embed_dense(
    step_id: str,
    up: Batches,
    *,
    stage: DenseStage,
    limits: StageLimits = StageLimits(),  # noqa: B008  frozen
) -> Split:
    """
    Write one dense vector on each record.

    Delivery: that of `run_stages`.
    """
    return run_stages("run", up, stages=(stage,), limits=limits)
