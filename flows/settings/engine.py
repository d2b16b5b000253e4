"""How models run, whichever they are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from fastembed_stream import Fetching, Runtime
from flows.settings.process import Process, listed

__all__ = ["Engine", "Numbers"]

Numbers = Annotated[tuple[int, ...], NoDecode]


class Engine(Process):
    """Where models are kept, and what they run on."""

    cache_dir: Path | None = Field(None, description="where fetched models are kept")
    offline: bool = Field(default=False, description="never fetch a model")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="cuda fails without a GPU")
    device_ids: Numbers = Field((), description="GPUs to use, with commas")
    threads: int | None = Field(None, description="CPU threads; else all cores of the process")
    lanes: int | None = Field(None, description="concurrent inference calls; else measured")
    token_budget: int | None = Field(None, description="tokens of one call; else measured")

    _split_ids = field_validator("device_ids", mode="before")(listed)

    @property
    def fetching(self) -> Fetching:
        """How model files are looked up."""
        return Fetching(cache_dir=self.cache_dir, offline=self.offline)

    @property
    def runtime(self) -> Runtime:
        """How graphs run."""
        return Runtime(
            device=self.device,
            device_ids=self.device_ids,
            threads=self.threads,
            lanes=self.lanes,
            token_budget=self.token_budget,
        )
