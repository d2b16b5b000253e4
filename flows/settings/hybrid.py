"""What `hybrid_to_qdrant` is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pydantic import Field
from typing_extensions import override

from flows.settings.chunks import Chunks
from flows.settings.incoming import Documents
from flows.settings.models import Models, TextStage
from flows.settings.store import DeadLetters, Store
from operators import VectorSpace
from operators.spaces import Quantization

__all__ = ["HybridSettings"]


class HybridSettings(Store, Models, Chunks, Documents, DeadLetters):
    """Several models over one field of text, in one window."""

    quantization: Quantization = Field(
        "none", description="a smaller copy of `dense` and `muvera` to search in"
    )
    on_disk: bool = Field(default=False, description="keep vectors on the server's disk")

    @property
    @override
    def chunk_model(self) -> str | None:
        return self.dense_model or self.late_model

    @property
    @override
    def chunk_folder(self) -> Path | None:
        return self.dense_folder if self.dense_model is not None else self.late_folder

    @override
    def spaces(self, stages: tuple[TextStage, ...]) -> dict[str, VectorSpace]:
        spaces = super().spaces(stages)
        for name, space in spaces.items():
            quantization = self.quantization if space.shape == "dense" else "none"
            spaces[name] = replace(space, on_disk=self.on_disk, quantization=quantization)
        return spaces
