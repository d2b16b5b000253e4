"""
Text from Kafka, embedded in windows, searchable in Qdrant.

    python -m bytewax.run flows.text_to_qdrant:flow -w 1 -r recovery -s 1 -b 0

Settings come from the environment; see `flows.settings`. Step ids are part of the recovery store:
renaming one drops its state.
"""

from __future__ import annotations

from functools import partial

import bytewax.operators as op
from bytewax.dataflow import Dataflow

from flows.settings import TextSettings
from flows.starting import started
from operators import decode, embed_dense, to_points, window
from operators.window import estimated_tokens

__all__ = ["build", "flow"]


def flow() -> Dataflow:
    """Build the flow from the environment."""
    return started(TextSettings, build)


def build(settings: TextSettings) -> Dataflow:
    """Connect the steps; the model is opened here, so that a wrong one fails before any message."""
    stage = settings.stage
    stage.open()
    dead_letters = settings.dead_letters

    text_to_qdrant = Dataflow("text_to_qdrant")
    messages = op.input("kafka", text_to_qdrant, settings.source)
    records = decode("decode", messages, schema=settings.schema_)
    weigh = partial(estimated_tokens, most=stage.limit)
    windows = window("window", records.oks, limits=settings.window, weigh=weigh)
    embedded = embed_dense("embed", windows, stage=stage, limits=settings.stage_limits)
    points = to_points("points", embedded.oks, identity=settings.identity)
    op.output("qdrant", points.oks, settings.sink(settings.spaces(stage), dead_letters))

    failures = op.merge("failures", records.errs, embedded.errs, points.errs)
    op.output("dead_letters", failures, dead_letters)
    return text_to_qdrant
