"""The whole flow, from a broker's topic into Qdrant in memory, against the engine alone."""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.testing import run_main
from rich.table import Table

from fastembed_stream import open_model
from flows.local_broker import create_topic, produce, running_broker
from operators import (
    Cluster,
    Collection,
    DeadLetterFile,
    DenseStage,
    Identity,
    KafkaSource,
    QdrantSink,
    Reading,
    Schema,
    Server,
    VectorSpace,
    WindowLimits,
    decode,
    run_stages,
    to_points,
    window,
)
from operators.stages import Stages
from tests.benchmarks.material import MODEL, corpus, in_turn

__all__ = ["run", "run_whole", "send"]

_N_TEXTS = 1_024
_WINDOW = 256
_ROUNDS = 5
_TOPIC = "texts"


def run() -> Table:
    """Measure, and print the ratio of medians."""
    texts = corpus(_N_TEXTS)
    embedder = open_model(MODEL)
    stage = DenseStage(model=MODEL)
    fingerprint = stage.open()
    embedder.warm_up()
    numbers = itertools.count()
    with running_broker() as brokers, tempfile.TemporaryDirectory() as folder:
        send(brokers, texts.texts)

        def whole_flow() -> None:
            space = VectorSpace(dim=384, model=MODEL, fingerprint=fingerprint)
            collection = Collection(name=f"round-{next(numbers)}", vectors={"dense": space})
            dead = Path(folder) / "dead_letters.jsonl"
            stored = run_whole(brokers, (stage,), collection, dead)
            assert stored == len(texts.texts), stored

        timings = in_turn(
            {
                "Kafka -> Qdrant in memory": whole_flow,
                "engine alone, same windows": lambda: list(
                    embedder.stream(texts.texts, window=_WINDOW)
                ),
            },
            rounds=_ROUNDS,
        )
    alone = timings["engine alone, same windows"].median
    table = Table("", "docs/s", "rounds", "of engine", title=f"Whole flow: {texts.describe()}")
    for name, timing in timings.items():
        rate = len(texts.texts) / timing.median
        table.add_row(name, f"{rate:.0f}", timing.spread(), f"{alone / timing.median:.2f}")
    return table


def send(brokers: str, texts: Sequence[str]) -> None:
    """Put texts into the topic that `run_whole` reads."""
    create_topic(brokers, _TOPIC, 1)
    messages = (
        (str(number).encode(), json.dumps({"text": text}).encode())
        for number, text in enumerate(texts)
    )
    produce(brokers, _TOPIC, messages)


def run_whole(brokers: str, stages: Stages, collection: Collection, dead: Path) -> int:
    """Run the whole flow, Kafka to Qdrant in memory; give the points that are stored then."""
    flow = _flow(brokers, stages, collection, dead)
    run_main(flow, epoch_interval=timedelta(seconds=1))  # type: ignore[no-untyped-call]  # Bytewax leaves it bare
    return Server(memory=True).client().count(collection.name).count


def _flow(brokers: str, stages: Stages, collection: Collection, dead: Path) -> Dataflow:
    flow = Dataflow("benchmark")
    source = KafkaSource(Cluster(brokers=brokers), [_TOPIC], Reading(tail=False, max_batch=_WINDOW))
    records = decode("decode", op.input("kafka", flow, source), schema=Schema())
    windows = window("window", records.oks, limits=WindowLimits(max_records=_WINDOW))
    embedded = run_stages("embed", windows, stages=stages)
    points = to_points("points", embedded.oks, identity=Identity(collection=collection.name))
    op.output("qdrant", points.oks, QdrantSink(Server(memory=True), collection))
    failures = op.merge("failures", records.errs, embedded.errs, points.errs)
    op.output("dead_letters", failures, DeadLetterFile(dead))
    return flow
