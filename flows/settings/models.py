"""Which models embed texts, of documents as of questions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, TypeAlias

from pydantic import BeforeValidator, Field, model_validator
from typing_extensions import Self

from flows.settings.engine import Engine
from flows.settings.process import PREFIX
from operators import DenseStage, LateStage, MuveraStage, SparseStage, VectorSpace

__all__ = ["Models", "OptionalName", "TextStage"]

TextStage: TypeAlias = DenseStage | SparseStage | LateStage | MuveraStage

NONE = "none"


def _or_none(value: object) -> object:
    """Take the word for a part that is left out; an empty variable means the default."""
    return None if value == NONE else value


OptionalName: TypeAlias = Annotated[str | None, BeforeValidator(_or_none)]


class Models(Engine):
    """Several models over one field of text."""

    dense_model: OptionalName = Field(
        "BAAI/bge-small-en-v1.5", description=f"of the vector `dense`; {NONE} leaves it out"
    )
    dense_folder: Path | None = Field(None, description="take its files from here")
    sparse_model: OptionalName = Field(
        "Qdrant/bm25", description=f"of the vector `sparse`; {NONE} leaves it out"
    )
    sparse_folder: Path | None = Field(None, description="take its files from here")
    late_model: OptionalName = Field(
        "answerdotai/answerai-colbert-small-v1",
        description=f"of the multivector `late`; {NONE} leaves it out",
    )
    late_folder: Path | None = Field(None, description="take its files from here")
    muvera: bool = Field(
        default=True, description="write the vector `muvera`, which finds what `late` rescores"
    )
    store_late: bool = Field(
        default=True, description="store the multivectors too, to rescore by; they are large"
    )

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.dense_model is self.sparse_model is self.late_model is None:
            names = ", ".join(f"{PREFIX}{part}_MODEL" for part in ("DENSE", "SPARSE", "LATE"))
            msg = f"{names} are all {NONE}; at least one has to write a vector"
            raise ValueError(msg)
        if not (self.store_late or self.muvera or self.late_model is None):
            msg = f"{PREFIX}STORE_LATE and {PREFIX}MUVERA are both off: {self.late_model} is idle"
            raise ValueError(msg)
        return self

    def stages(self, *, as_query: bool = False) -> tuple[TextStage, ...]:
        """
        Give what embeds, in the order in which a batch meets it.

        as_query  whether questions are embedded rather than documents
        """
        stages: list[TextStage] = []
        if self.dense_model is not None:
            dense = DenseStage(
                model=self.dense_model,
                folder=self.dense_folder,
                fetching=self.fetching,
                runtime=self.runtime,
                as_query=as_query,
            )
            stages.append(dense)
        if self.sparse_model is not None:
            sparse = SparseStage(
                model=self.sparse_model,
                folder=self.sparse_folder,
                fetching=self.fetching,
                runtime=self.runtime,
                as_query=as_query,
            )
            stages.append(sparse)
        if self.late_model is not None:
            late = LateStage(
                model=self.late_model,
                folder=self.late_folder,
                fetching=self.fetching,
                runtime=self.runtime,
                as_query=as_query,
            )
            stages.append(late)
            if self.muvera:
                stages.append(MuveraStage(of=late, keep=self.store_late))
        return tuple(stages)

    def spaces(self, stages: tuple[TextStage, ...]) -> dict[str, VectorSpace]:
        """Tell what the collection has to hold; opens the models."""
        spaces = {stage.vector: stage.space() for stage in stages}
        if not self.store_late:
            spaces.pop("late", None)
        # A multivector only rescores what another vector found: a graph over it would be idle.
        return {
            name: replace(space, indexed=space.shape != "multi") for name, space in spaces.items()
        }
