"""The stages that turn fields of records into vectors, and an operator for each."""

from __future__ import annotations

import hashlib
import io
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from bytewax.dataflow import operator

from fastembed_stream import (
    DENSE_TEXT,
    IMAGE,
    LATE_MULTIMODAL,
    LATE_TEXT,
    SPARSE_TEXT,
    Fetching,
    Kind,
    Model,
    OpenModel,
    Runtime,
    catalog,
    fingerprint,
    locate,
    open_model,
)
from fastembed_stream.errors import SettingError
from operators.metrics import FAILURES, TRUNCATED_TEXTS, TRUNCATED_TOKENS
from operators.numbers import count_not_finite
from operators.records import Batch, Batches, Failure, Record, Split
from operators.spaces import Shape, VectorSpace
from operators.stages import StageLimits, run_stages

__all__ = [
    "DenseStage",
    "EmbedStage",
    "ImageStage",
    "LateStage",
    "MultimodalStage",
    "SparseStage",
    "embed_dense",
    "embed_image",
    "embed_late",
    "embed_multimodal",
    "embed_sparse",
]

_SHAPES: dict[str, Shape] = {
    DENSE_TEXT.name: "dense",
    SPARSE_TEXT.name: "sparse",
    LATE_TEXT.name: "multi",
    IMAGE.name: "dense",
    LATE_MULTIMODAL.name: "multi",
}


class _Opened:
    """A model opened once for each process, whichever thread comes first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._model: OpenModel[Any, Any, Any] | None = None
        self.fingerprint = ""
        self.limit: int | None = None

    def model(self, stage: EmbedStage) -> OpenModel[Any, Any, Any]:
        with self._lock:
            if self._model is None:
                files = locate(stage.row, folder=stage.folder, fetching=stage.fetching)
                model = open_model(
                    stage.row,
                    stage.kind,
                    folder=files,
                    runtime=stage.runtime,
                    max_tokens=stage.max_tokens,
                )
                _check_dim(stage, files, model)
                self.fingerprint = _fingerprint(stage, files)
                self.limit = model.max_tokens
                self._model = model
            return self._model


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedStage:
    """
    One named vector for each record, from a field.

    model       a catalog name, or a row of your own
    vector      name of the vector it writes
    reads       name of the field it reads
    prompted    whether the model's passage prompt (or its query prompt) goes before a text
    as_query    whether records are questions rather than documents
    folder      take the model's files from here
    max_tokens  another limit than the model's tokenizer_config.json states

    Describing it checks the name; the model is opened once for each process, at first use or by
    `open`.
    """

    kind: ClassVar[Kind[Any, Any, Any]]
    row_type: ClassVar[type]

    model: Model | str
    vector: str
    reads: str
    prompted: bool = False
    as_query: bool = False
    folder: Path | None = None
    fetching: Fetching = Fetching()  # noqa: RUF009  frozen
    runtime: Runtime = Runtime()  # noqa: RUF009  frozen
    max_tokens: int | None = None
    _opened: _Opened = field(default_factory=_Opened, init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.vector or not self.reads:
            msg = f"A stage needs a field and a vector; got {self.reads!r}, {self.vector!r}."
            raise SettingError(msg)
        _ = self.row  # an unknown name fails here, while the flow is built

    @property
    def name(self) -> str:
        """Name the stage in failures and metrics."""
        return f"embed {self.vector}"

    @property
    def row(self) -> Model:
        """Give the model's row."""
        return catalog.find(self.model, self.kind) if isinstance(self.model, str) else self.model

    @property
    def limit(self) -> int | None:
        """Give the most tokens of one text; None where there is none, and before it is opened."""
        return self._opened.limit

    def open(self) -> str:
        """
        Open the model and measure its token budget now; give the model's fingerprint.

        raises  SettingError where its vectors have another length than its row says
        """
        self._opened.model(self).warm_up()
        return self._opened.fingerprint

    def space(self) -> VectorSpace:
        """Tell what the collection has to hold for its vectors; opens the model."""
        self._opened.model(self)
        return VectorSpace(
            model=self.row.name,
            fingerprint=self._opened.fingerprint,
            shape=_SHAPES[self.kind.name],
            dim=self.row.dim,
            needs_idf=getattr(self.row.recipe, "needs_idf", False),
        )

    def __call__(self, batch: Batch) -> Batch:
        """Embed all records of a batch; a vector that is not finite fails its record alone."""
        model = self._opened.model(self)
        embed = model.queries if self.as_query else model.documents
        vectors = embed([self._row(record) for record in batch.records])
        TRUNCATED_TEXTS.labels(self.name).set(embed.counts.truncated_rows)
        TRUNCATED_TOKENS.labels(self.name).set(embed.counts.truncated_tokens)
        records, failures = [], []
        for record, vector in zip(batch.records, vectors, strict=True):
            n_bad, n = count_not_finite(vector)
            if n_bad == 0:
                written = record.with_vector(self.vector, vector, model=self._opened.fingerprint)
                records.append(written)
            else:
                failures.append(self._not_finite(record, n_bad, n))
        return Batch(records=tuple(records), failures=tuple(failures))

    def _row(self, record: Record) -> str | bytes:
        value = record.fields.get(self.reads)
        wanted = str if self.as_query else self.row_type
        if value is None or not isinstance(value, wanted):
            found = ", ".join(record.fields) or "none"
            what = "text" if wanted is str else "image"
            msg = f"Field {self.reads!r} of record {record.key!r} is no {what}; it has {found}."
            raise TypeError(msg)
        return self._prompt + value if self.prompted and isinstance(value, str) else value

    @property
    def _prompt(self) -> str:
        return self.row.query_prompt if self.as_query else self.row.passage_prompt

    def _not_finite(self, record: Record, n_bad: int, n: int) -> Failure:
        msg = f"{self.row.name} gave {n_bad} of {n} numbers that are NaN or infinite."
        FAILURES.labels(self.name).inc()
        return Failure.of(record.origin, self.name, FloatingPointError(msg))


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseStage(EmbedStage):
    """One dense vector for each text."""

    kind: ClassVar = DENSE_TEXT
    row_type: ClassVar = str

    vector: str = "dense"
    reads: str = "text"


@dataclass(frozen=True, slots=True, kw_only=True)
class SparseStage(EmbedStage):
    """One sparse vector for each text."""

    kind: ClassVar = SPARSE_TEXT
    row_type: ClassVar = str

    vector: str = "sparse"
    reads: str = "text"


@dataclass(frozen=True, slots=True, kw_only=True)
class LateStage(EmbedStage):
    """A vector for each token of a text."""

    kind: ClassVar = LATE_TEXT
    row_type: ClassVar = str

    vector: str = "late"
    reads: str = "text"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageStage(EmbedStage):
    """One dense vector for each image, which is the bytes of a file."""

    kind: ClassVar = IMAGE
    row_type: ClassVar = bytes

    vector: str = "image"
    reads: str = "image"


@dataclass(frozen=True, slots=True, kw_only=True)
class MultimodalStage(EmbedStage):
    """A vector for each patch of an image; of a question, which is text, for each token."""

    kind: ClassVar = LATE_MULTIMODAL
    row_type: ClassVar = bytes

    vector: str = "multimodal"
    reads: str = "image"


def _fingerprint(stage: EmbedStage, files: Path) -> str:
    """Tell models apart, and the same model with another limit or with prompts too."""
    made = fingerprint(stage.row, files)
    prompt = stage.row.passage_prompt if stage.prompted else ""
    if stage.max_tokens is None and not prompt:
        return made
    told = f"{made} {stage.max_tokens} {prompt}".encode()
    return hashlib.blake2b(told, digest_size=8).hexdigest()


def _check_dim(stage: EmbedStage, files: Path, model: OpenModel[Any, Any, Any]) -> None:
    if stage.row.dim == 0:
        return
    [vector] = model(["text" if stage.row_type is str else _white_square()])
    if vector.shape[-1] != stage.row.dim:
        msg = (
            f"The model in {files} gives vectors of {vector.shape[-1]} numbers, but "
            f"{stage.row.name} has {stage.row.dim}: the folder holds another model. Name that one, "
            "or its folder."
        )
        raise SettingError(msg)


def _white_square() -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (64, 64), "white").save(file, "PNG")
    return file.getvalue()


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


@operator
def embed_sparse(
    step_id: str,
    up: Batches,
    *,
    stage: SparseStage,
    limits: StageLimits = StageLimits(),  # noqa: B008  frozen
) -> Split:
    """
    Write one sparse vector on each record.

    Delivery: that of `run_stages`.
    """
    return run_stages("run", up, stages=(stage,), limits=limits)


@operator
def embed_late(
    step_id: str,
    up: Batches,
    *,
    stage: LateStage,
    limits: StageLimits = StageLimits(),  # noqa: B008  frozen
) -> Split:
    """
    Write a vector for each token on each record.

    Delivery: that of `run_stages`.
    """
    return run_stages("run", up, stages=(stage,), limits=limits)


@operator
def embed_image(
    step_id: str,
    up: Batches,
    *,
    stage: ImageStage,
    limits: StageLimits = StageLimits(),  # noqa: B008  frozen
) -> Split:
    """
    Write one dense vector of its image on each record.

    Delivery: that of `run_stages`.
    """
    return run_stages("run", up, stages=(stage,), limits=limits)


@operator
def embed_multimodal(
    step_id: str,
    up: Batches,
    *,
    stage: MultimodalStage,
    limits: StageLimits = StageLimits(),  # noqa: B008  frozen
) -> Split:
    """
    Write a vector for each patch of its image on each record.

    Delivery: that of `run_stages`.
    """
    return run_stages("run", up, stages=(stage,), limits=limits)
