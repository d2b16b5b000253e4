"""
Questions from Kafka, answered from a collection, the best hits first, on a topic of results.

    python -m bytewax.run flows.rerank_queries:flow -w 1 -r recovery -s 1 -b 0

A question is a message with a key and a text; its answer has the same key and headers. Settings
come from the environment; see `flows.settings`. Step ids are part of the recovery store: renaming
one drops its state.
"""

from __future__ import annotations

import bytewax.operators as op
from bytewax.dataflow import Dataflow

from flows.settings import QuerySettings
from flows.starting import started
from operators import JsonLinesSink, KafkaSink, as_lines, decode, run_stages, to_answers, window

__all__ = ["build", "flow"]


def flow() -> Dataflow:
    """Build the flow from the environment."""
    return started(QuerySettings, build)


def build(settings: QuerySettings) -> Dataflow:
    """Connect the steps; models are opened here, so that a wrong one fails before any message."""
    embedding = settings.embedding
    retrieve = settings.retrieve(settings.spaces(embedding))
    rerank = settings.rerank
    for stage in (*embedding, retrieve, *rerank):
        stage.open()
    dead_letters = settings.dead_letters

    flow = Dataflow("rerank_queries")
    messages = op.input("kafka", flow, settings.source)
    queries = decode("decode", messages, schema=settings.schema_)
    windows = window("window", queries.oks, limits=settings.window)
    stages = (*embedding, retrieve, *rerank)
    found = run_stages("find", windows, stages=stages, limits=settings.stage_limits)
    answers = to_answers("answers", found.oks, topic=settings.results_topic or "results")
    if settings.results_file is not None:
        op.output("file", answers.oks, JsonLinesSink(settings.results_file, as_lines))
    else:
        topics = [settings.results_topic or "results"]
        sink = KafkaSink(settings.cluster, topics, refused=dead_letters)
        op.output("results", answers.oks, sink)

    failures = op.merge("failures", queries.errs, found.errs, answers.errs)
    op.output("dead_letters", failures, dead_letters)
    return flow
