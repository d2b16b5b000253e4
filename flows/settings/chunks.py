"""How long texts are split."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, model_validator
from typing_extensions import Self

from flows.settings.engine import Engine
from flows.settings.process import PREFIX
from operators import ChunkStage

__all__ = ["Chunks"]


class Chunks(Engine):
    """A point for each part of a text, where that is asked for."""

    chunk_tokens: int | None = Field(
        None, description="split texts into parts of so many tokens, a point each; else not at all"
    )
    chunk_overlap: int = Field(0, description="tokens that a part repeats of the one before")
    chunk_bytes: int = Field(
        16 << 20,
        description="bytes of payload that a text's parts have together; to keep it, each part "
        "leaves out the largest fields and says so in `_stream.omitted`",
        ge=1,
    )

    @model_validator(mode="after")
    def _counted(self) -> Self:
        if self.chunk_tokens is None and self.chunk_overlap:
            msg = f"{PREFIX}CHUNK_OVERLAP says nothing without {PREFIX}CHUNK_TOKENS"
            raise ValueError(msg)
        if self.chunk_tokens is not None and self.chunk_model is None:
            msg = f"{PREFIX}CHUNK_TOKENS needs a model that counts tokens; name one that embeds"
            raise ValueError(msg)
        return self

    @property
    def chunk_model(self) -> str | None:
        """Name the model whose tokenizer counts."""
        raise NotImplementedError

    @property
    def chunk_folder(self) -> Path | None:
        """Tell where that model's files are, if not where they are fetched."""
        raise NotImplementedError

    def chunking(self, stored_as: str) -> tuple[ChunkStage, ...]:
        """
        Give the stage that splits, or none.

        stored_as  field of the payload that has the text
        """
        if self.chunk_tokens is None or self.chunk_model is None:
            return ()
        stage = ChunkStage(
            model=self.chunk_model,
            folder=self.chunk_folder,
            stored_as=stored_as,
            max_tokens=self.chunk_tokens,
            overlap=self.chunk_overlap,
            max_bytes=self.chunk_bytes,
            fetching=self.fetching,
        )
        stage.open()
        return (stage,)
