"""The way of a record, whatever embeds it: from its source to the collection, or a dead letter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import bytewax.operators as op
from bytewax.dataflow import Dataflow

from flows.settings.hybrid import HybridSettings
from flows.settings.images import ImageSettings
from flows.settings.text import TextSettings
from operators import (
    JsonLinesSink,
    Stage,
    VectorSpace,
    decode,
    described,
    run_stages,
    to_points,
    window,
)
from operators.window import estimated_tokens

__all__ = ["searchable"]


def searchable(
    name: str,
    settings: TextSettings | HybridSettings | ImageSettings,
    stages: Sequence[Stage],
    spaces: Mapping[str, VectorSpace],
    *,
    longest: int | None = None,
) -> Dataflow:
    """
    Connect the steps.

    name     of the flow, in the recovery store
    stages   what splits, fetches and embeds, in the order in which a batch meets it
    spaces   the vectors that they write, by name
    longest  most tokens that are read of one text, for the weight of a window
    """
    dead_letters = settings.dead_letters

    flow = Dataflow(name)
    messages = op.input("kafka", flow, settings.source)
    records = decode("decode", messages, schema=settings.schema_)
    weigh = partial(estimated_tokens, most=longest)
    windows = window("window", records.oks, limits=settings.window, weigh=weigh)
    embedded = run_stages("embed", windows, stages=stages, limits=settings.stage_limits)
    failed = [records.errs, embedded.errs]
    if settings.output_file is not None:
        op.output("file", embedded.oks, JsonLinesSink(settings.output_file, described))
    else:
        points = to_points("points", embedded.oks, identity=settings.identity)
        op.output("qdrant", points.oks, settings.sink(spaces, dead_letters))
        failed.append(points.errs)

    op.output("dead_letters", op.merge("failures", *failed), dead_letters)
    return flow
