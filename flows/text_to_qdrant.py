"""
Text from Kafka, embedded in windows, searchable in Qdrant.

    python -m bytewax.run flows.text_to_qdrant:flow -w 1 -r recovery -s 1 -b 0

Settings come from the environment; see `flows.settings`. Step ids are part of the recovery store:
renaming one drops its state.
"""

from __future__ import annotations

import logging
from functools import partial

import bytewax.operators as op
from bytewax.dataflow import Dataflow

from fastembed_stream.errors import FastembedStreamError
from flows.settings import Settings
from operators import decode, drain_on_signals, embed_dense, metrics, to_points, window
from operators.shutdown import STOP
from operators.window import estimated_tokens

__all__ = ["build", "flow"]


def flow() -> Dataflow:
    """Build the flow from the environment, ready to run: signals, logs and metrics set up."""
    drain_on_signals()
    STOP.ends_process = True
    try:
        return _configured(Settings.from_environment())
    except FastembedStreamError as error:
        # Whoever reads the log at night needs the sentence, not our stack.
        msg = f"error: {error}"
        raise SystemExit(msg) from error


def _configured(settings: Settings) -> Dataflow:
    logging.basicConfig(
        level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs each request
    STOP.drain_s = settings.drain_s
    if settings.metrics_port is not None:
        metrics.serve(settings.metrics_port)
    return build(settings)


def build(settings: Settings) -> Dataflow:
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
    op.output("qdrant", points.oks, settings.sink(stage, dead_letters))

    failures = op.merge("failures", records.errs, embedded.errs, points.errs)
    op.output("dead_letters", failures, dead_letters)
    return text_to_qdrant
