"""What `rerank_queries` is told."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from flows.settings.incoming import Documents
from flows.settings.models import NONE, Models, OptionalName, TextStage
from flows.settings.process import PREFIX
from flows.settings.store import DeadLetters, Qdrant
from operators import Collection, RerankStage, RetrieveStage, VectorSpace
from operators.retrieval import Fused, Nearest, Rescored, Search

__all__ = ["Mode", "QuerySettings", "search_of"]

Mode = Literal["dense", "sparse", "late", "muvera", "hybrid"]

_VECTORS: dict[Mode, tuple[str, ...]] = {
    "dense": ("dense",),
    "sparse": ("sparse",),
    "late": ("late",),
    "muvera": ("muvera", "late"),
    "hybrid": ("dense", "sparse"),
}


def search_of(mode: Mode, *, fusion: Literal["rrf", "dbsf"], candidates: int) -> Search:
    """Say a mode as a search: `muvera` is rescored by `late`, `hybrid` fuses dense and sparse."""
    match mode:
        case "muvera":
            return Rescored(first=Nearest(vector="muvera"), by="late", candidates=candidates)
        case "hybrid":
            return Fused(vectors=("dense", "sparse"), fusion=fusion, candidates=candidates)
        case _:
            return Nearest(vector=mode)


class QuerySettings(Models, Qdrant, Documents, DeadLetters):
    """Questions to a collection that `hybrid_to_qdrant` made, and their answers."""

    search: Mode = Field("hybrid", description="what finds the candidates")
    fusion: Literal["rrf", "dbsf"] = Field("rrf", description="how `hybrid` makes one list of two")
    limit: int = Field(10, description="hits of a query that asks for no other number")
    candidates: int = Field(100, description="points that each vector brings before the last step")
    rerank_model: OptionalName = Field(
        "Xenova/ms-marco-MiniLM-L-6-v2",
        description=f"cross-encoder that puts hits in order; {NONE} leaves them as found",
    )
    rerank_folder: Path | None = Field(None, description="take its files from here")
    rerank_field: str = Field("text", description="what of a hit's payload it reads")
    rerank_candidates: int = Field(50, description="hits that it reads of each query")
    results_topic: str | None = Field(None, description="Kafka topic for the answers")
    results_file: Path | None = Field(None, description="file for them (JSONL) instead")

    @model_validator(mode="after")
    def _one_way_out(self) -> Self:
        names = f"{PREFIX}RESULTS_TOPIC or {PREFIX}RESULTS_FILE"
        if (self.results_topic is None) == (self.results_file is None):
            msg = f"{names}: exactly one has to say where answers go"
            raise ValueError(msg)
        return self

    @property
    def embedding(self) -> tuple[TextStage, ...]:
        """Give what embeds questions, and nothing that the search does not need."""
        wanted = _VECTORS[self.search]
        return tuple(stage for stage in self.stages(as_query=True) if stage.vector in wanted)

    def retrieve(self, spaces: dict[str, VectorSpace]) -> RetrieveStage:
        """Give what finds; `spaces` are those of the stages that embed questions."""
        wanted = {name: spaces[name] for name in _VECTORS[self.search] if name in spaces}
        limit = self.limit if self.rerank_model is None else self.rerank_candidates
        return RetrieveStage(
            server=self.server,
            collection=Collection(name=self.collection, vectors=wanted or spaces),
            search=search_of(self.search, fusion=self.fusion, candidates=self.candidates),
            limit=max(limit, self.limit),
        )

    @property
    def rerank(self) -> tuple[RerankStage, ...]:
        """Give what puts hits in order, or none."""
        if self.rerank_model is None:
            return ()
        stage = RerankStage(
            model=self.rerank_model,
            document_field=self.rerank_field,
            limit=self.limit,
            folder=self.rerank_folder,
            fetching=self.fetching,
            runtime=self.runtime,
        )
        return (stage,)
