"""What `text_to_qdrant` is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pydantic import Field
from typing_extensions import override

from flows.settings.chunks import Chunks
from flows.settings.incoming import Documents
from flows.settings.store import DeadLetters, Store
from operators import DenseStage, VectorSpace
from operators.spaces import Distance

__all__ = ["TextSettings"]


class TextSettings(Store, Chunks, Documents, DeadLetters):
    """One model over one field of text."""

    model: str = Field("BAAI/bge-small-en-v1.5", description="a name of `fastembed-stream models`")
    model_folder: Path | None = Field(None, description="take the model's files from here")
    model_prompt: bool = Field(default=False, description="put the passage prompt before texts")
    max_tokens: int | None = Field(None, description="another limit than the tokenizer's own")
    vector: str = Field("dense", description="name of the vector in the collection")
    distance: Distance = Field("cosine", description="how vectors compare")

    @property
    @override
    def chunk_model(self) -> str:
        return self.model

    @property
    @override
    def chunk_folder(self) -> Path | None:
        return self.model_folder

    @property
    def stage(self) -> DenseStage:
        """What embeds."""
        return DenseStage(
            model=self.model,
            vector=self.vector,
            prompted=self.model_prompt,
            folder=self.model_folder,
            fetching=self.fetching,
            runtime=self.runtime,
            max_tokens=self.max_tokens,
        )

    def spaces(self, stage: DenseStage) -> dict[str, VectorSpace]:
        """Tell what the collection has to hold; opens the model."""
        return {stage.vector: replace(stage.space(), distance=self.distance)}
