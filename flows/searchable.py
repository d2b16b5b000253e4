"""The way of a record, whatever embeds it: from its source to the collection, or a dead letter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import bytewax.operators as op
from bytewax.dataflow import Dataflow

from flows.settings.store import SearchableSettings
from operators import Stage, VectorSpace, decode, run_stages, to_points, window
from operators.window import estimated_tokens

__all__ = ["searchable"]


def searchable(
    name: str,
    settings: SearchableSettings,
    stages: Sequence[Stage],
    spaces: Mapping[str, VectorSpace],
    *,
    longest: int | None = None,
) -> Dataflow:
    """
    Connect the steps.

    name     of the flow, in the recovery store
    stages   what embeds, in the order in which a batch meets it
    spaces   the vectors that they write, by name
    longest  most tokens that a model reads of one text, for the weight of a window
    """
    dead_letters = settings.dead_letters

    flow = Dataflow(name)
    messages = op.input("kafka", flow, settings.source)
    records = decode("decode", messages, schema=settings.schema_)
    weigh = partial(estimated_tokens, most=longest)
    windows = window("window", records.oks, limits=settings.window, weigh=weigh)
    embedded = run_stages("embed", windows, stages=stages, limits=settings.stage_limits)
    points = to_points("points", embedded.oks, identity=settings.identity)
    op.output("qdrant", points.oks, settings.sink(spaces, dead_letters))

    failures = op.merge("failures", records.errs, embedded.errs, points.errs)
    op.output("dead_letters", failures, dead_letters)
    return flow
