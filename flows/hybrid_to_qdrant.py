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
    stages = settings.stages()
    spaces = settings.spaces(stages)
    for stage in stages:
        stage.open()
    longest = max((stage.limit or 0 for stage in stages), default=0) or None
    return searchable("hybrid_to_qdrant", settings, stages, spaces, longest=longest)
