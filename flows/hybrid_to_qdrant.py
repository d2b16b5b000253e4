"""
Text from Kafka, embedded by several models in one window, searchable in Qdrant by any of them.

    python -m bytewax.run flows.hybrid_to_qdrant:flow -w 1 -r recovery -s 1 -b 0

Dense vectors find meaning, sparse ones find words, MUVERA finds what late interaction rescores.
Settings come from the environment; see `flows.settings`. Step ids are part of the recovery store:
renaming one drops its state.
"""

from __future__ import annotations

from bytewax.dataflow import Dataflow

from flows.searchable import searchable
from flows.settings import HybridSettings
from flows.starting import started

__all__ = ["build", "flow"]


def flow() -> Dataflow:
    """Build the flow from the environment."""
    return started(HybridSettings, build)


def build(settings: HybridSettings) -> Dataflow:
    """Connect the steps; models are opened here, so that a wrong one fails before any message."""
    embedding = settings.stages()
    for stage in embedding:
        stage.open()
    stages = (*settings.chunking(settings.text_field), *embedding)
    limits = [stage.limit for stage in embedding if stage.limit is not None]
    longest = None if settings.chunk_tokens else max(limits, default=None)
    spaces = settings.spaces(embedding)
    return searchable("hybrid_to_qdrant", settings, stages, spaces, longest=longest)
