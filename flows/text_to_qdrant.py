"""
Text from Kafka, embedded in windows, searchable in Qdrant.

    python -m bytewax.run flows.text_to_qdrant:flow -w 1 -r recovery -s 1 -b 0

Settings come from the environment; see `flows.settings`. Step ids are part of the recovery store:
renaming one drops its state.
"""

from __future__ import annotations

from bytewax.dataflow import Dataflow

from flows.searchable import searchable
from flows.settings import TextSettings
from flows.starting import started
from operators import Stage

__all__ = ["build", "flow"]


def flow() -> Dataflow:
    """Build the flow from the environment."""
    return started(TextSettings, build)


def build(settings: TextSettings) -> Dataflow:
    """Connect the steps; the model is opened here, so that a wrong one fails before any message."""
    stage = settings.stage
    stage.open()
    stages: tuple[Stage, ...] = (*settings.chunking(settings.text_field), stage)
    longest = None if settings.chunk_tokens else stage.limit
    spaces = settings.spaces(stage)
    return searchable("text_to_qdrant", settings, stages, spaces, longest=longest)
