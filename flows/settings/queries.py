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
from operators import Asking, Collection, RerankStage, RetrieveStage, VectorSpace
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


def search_of(
    mode: Mode, *, fusion: Literal["rrf", "dbsf"], candidates: int, rescore: bool = True
) -> Search:
    """
    Say a mode as a search: `muvera` is rescored by `late`, `hybrid` fuses dense and sparse.

    rescore  whether the collection has the multivectors that `muvera` needs for that
    """
    match mode:
        case "muvera" if not rescore:
            return Nearest(vector=mode)
        case "muvera":
            return Rescored(first=Nearest(vector="muvera"), by="late", candidates=candidates)
        case "hybrid":
            return Fused(vectors=("dense", "sparse"), fusion=fusion, candidates=candidates)
        case _:
            return Nearest(vector=mode)


class QuerySettings(Models, Qdrant, Documents, DeadLetters):
    """Questions to a collection that `hybrid_to_qdrant` made, and their answers."""

    # A cross-encoder reads 50 hits of each: 800 pairs, which a CPU reads in seconds.
    window_records: int = Field(16, description="questions of one window")
    search: Mode = Field("hybrid", description="what finds the candidates")
    fusion: Literal["rrf", "dbsf"] = Field("rrf", description="how `hybrid` makes one list of two")
    limit: int = Field(10, description="hits of a query that asks for no other number", ge=1)
    candidates: int = Field(100, description="points that each vector brings before the last step")
    rerank_model: OptionalName = Field(
        "Xenova/ms-marco-MiniLM-L-6-v2",
        description=f"cross-encoder that puts hits in order; {NONE} leaves them as found",
    )
    rerank_folder: Path | None = Field(None, description="take its files from here")
    rerank_field: str = Field("text", description="what of a hit's payload it reads")
    rerank_candidates: int = Field(
        50, description="hits that it reads of each query, the most that one can ask for", ge=1
    )
    results_topic: str | None = Field(None, description="Kafka topic for the answers")
    results_file: Path | None = Field(None, description="file for them (JSONL) instead")

    @model_validator(mode="after")
    def _one_way_out(self) -> Self:
        names = f"{PREFIX}RESULTS_TOPIC or {PREFIX}RESULTS_FILE"
        if (self.results_topic is None) == (self.results_file is None):
            msg = f"{names}: exactly one has to say where answers go"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _searchable(self) -> Self:
        models = {"dense": self.dense_model, "sparse": self.sparse_model, "late": self.late_model}
        lacking = [name for name in _VECTORS[self.search] if models.get(name, "") is None]
        if lacking:
            names = " and ".join(f"{PREFIX}{name}_MODEL".upper() for name in lacking)
            msg = f"{PREFIX}SEARCH={self.search} needs {names}, told to be {NONE}"
            raise ValueError(msg)
        if self.search == "muvera" and not self.muvera:
            msg = f"{PREFIX}SEARCH=muvera needs {PREFIX}MUVERA, told to be off"
            raise ValueError(msg)
        if self.search == "late" and not self.store_late:
            msg = f"{PREFIX}SEARCH=late needs {PREFIX}STORE_LATE, told to be off"
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
        # What is read by a cross-encoder is more than what is asked for: it keeps the limits.
        ranked = self.rerank_model is not None
        search = search_of(
            self.search,
            fusion=self.fusion,
            candidates=self.candidates,
            rescore=self.store_late,
        )
        return RetrieveStage(
            server=self.server,
            collection=Collection(name=self.collection, vectors=wanted or spaces),
            search=search,
            limit=self._most_ranked if ranked else self.limit,
            limit_field=None if ranked else "limit",
            asking=Asking(attempts=self.request_attempts),
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
            limit_field="limit",
            most=self._most_ranked,
            folder=self.rerank_folder,
            fetching=self.fetching,
            runtime=self.runtime,
        )
        return (stage,)

    @property
    def _most_ranked(self) -> int:
        return max(self.rerank_candidates, self.limit)
