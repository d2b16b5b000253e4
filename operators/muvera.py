"""The stage that turns a multivector into one vector that a plain index can find."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from bytewax.dataflow import operator

from fastembed_stream import Muvera
from fastembed_stream.errors import SettingError
from operators.embedding import LateStage, MultimodalStage
from operators.records import Batch, Batches, Record, Split
from operators.spaces import VectorSpace
from operators.stages import StageLimits, run_stages

__all__ = ["MuveraStage", "muvera"]


@dataclass(frozen=True, kw_only=True)  # no slots: the encoder is made once and kept
class MuveraStage:
    """
    One dense vector for each record, whose dot products approximate MaxSim.

    of           the stage before it, whose multivectors it encodes
    vector       name of the vector it writes
    k_sim        hyperplanes of a repetition: they make 2**k_sim clusters
    dim_proj     length of a cluster's vector
    r_reps       repetitions; the vector has r_reps * 2**k_sim * dim_proj numbers
    random_seed  of hyperplanes and projections
    keep         whether the multivector stays on the record, to be stored and rescored by

    Source: MUVERA, arXiv 2405.19504.
    """

    of: LateStage | MultimodalStage
    vector: str = "muvera"
    k_sim: int = 5
    dim_proj: int = 16
    r_reps: int = 20
    random_seed: int = 42
    keep: bool = True

    def __post_init__(self) -> None:
        if not self.vector or self.vector == self.of.vector:
            msg = (
                f"MUVERA needs a vector of its own beside {self.of.vector!r}; got {self.vector!r}."
            )
            raise SettingError(msg)
        _ = self.encoder  # numbers that cannot be fail here, while the flow is built

    @property
    def name(self) -> str:
        """Name the stage in failures and metrics."""
        return f"embed {self.vector}"

    @cached_property
    def encoder(self) -> Muvera:
        """Draw hyperplanes and projections."""
        return Muvera(
            self.of.row.dim,
            k_sim=self.k_sim,
            dim_proj=self.dim_proj,
            r_reps=self.r_reps,
            random_seed=self.random_seed,
        )

    @property
    def limit(self) -> int | None:
        """Give the most tokens of one text; None where there is none, and before it is opened."""
        return self.of.limit

    def open(self) -> str:
        """Open the model of the multivectors; give the fingerprint of what is made of them."""
        return self.fingerprint

    @cached_property
    def fingerprint(self) -> str:
        """Tell encodings apart: by the multivectors' model, and by the numbers above."""
        how = (self.k_sim, self.dim_proj, self.r_reps, self.random_seed)
        told = f"muvera {self.of.open()} {how}".encode()
        return hashlib.blake2b(told, digest_size=8).hexdigest()

    def space(self) -> VectorSpace:
        """Tell what the collection has to hold for its vectors; opens the model."""
        return VectorSpace(
            model=f"MUVERA of {self.of.row.name}",
            fingerprint=self.fingerprint,
            dim=self.encoder.embedding_size,
            distance="dot",
        )

    def __call__(self, batch: Batch) -> Batch:
        """Encode the multivectors of a batch."""
        encode = (
            self.encoder.process_queries if self.of.as_query else self.encoder.process_documents
        )
        vectors = encode([self._multivector(record) for record in batch.records])
        return Batch(records=tuple(map(self._with, batch.records, vectors)))

    def _multivector(self, record: Record) -> np.ndarray:
        vector = record.vectors.get(self.of.vector)
        if not isinstance(vector, np.ndarray):
            found = ", ".join(record.vectors) or "none"
            msg = (
                f"Record {record.key!r} has no multivector {self.of.vector!r}; it has {found}. "
                "Run the stage that writes it before this one."
            )
            raise TypeError(msg)
        return vector

    def _with(self, record: Record, vector: np.ndarray) -> Record:
        written = record.with_vector(self.vector, vector, model=self.fingerprint)
        if self.keep:
            return written
        name = self.of.vector
        return replace(
            written,
            vectors={key: value for key, value in written.vectors.items() if key != name},
            models={key: value for key, value in written.models.items() if key != name},
        )


@operator
def muvera(
    step_id: str,
    up: Batches,
    *,
    stage: MuveraStage,
    limits: StageLimits = StageLimits(),  # noqa: B008  frozen
) -> Split:
    """
    Write a vector for each token on each record, and one for all of them together.

    Delivery: that of `run_stages`.
    """
    return run_stages("run", up, stages=(stage.of, stage), limits=limits)
