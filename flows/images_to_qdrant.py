"""
Images from Kafka or from a folder, embedded in windows, searchable in Qdrant.

    python -m bytewax.run flows.images_to_qdrant:flow -w 1 -r recovery -s 1 -b 0

Settings come from the environment; see `flows.settings`. Step ids are part of the recovery store:
renaming one drops its state.
"""

from __future__ import annotations

from bytewax.dataflow import Dataflow

from flows.searchable import searchable
from flows.settings import ImageSettings
from flows.starting import started

__all__ = ["build", "flow"]


def flow() -> Dataflow:
    """Build the flow from the environment."""
    return started(ImageSettings, build)


def build(settings: ImageSettings) -> Dataflow:
    """Connect the steps; models are opened here, so that a wrong one fails before any message."""
    embedding = settings.stages()
    for stage in embedding:
        stage.open()
    stages = (settings.fetch, *embedding)
    spaces = settings.spaces(embedding)
    # A window counts images: base64 would weigh as text of thousands of tokens, each image alone.
    return searchable("images_to_qdrant", settings, stages, spaces, longest=1)
