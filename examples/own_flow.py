"""
A flow of your own: lines of a file, embedded, in a collection of Qdrant.

    python -m bytewax.run examples/own_flow.py:flow -r recovery -s 1 -b 0
"""

import json
from pathlib import Path

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.testing import run_main

from fastembed_stream import open_model
from operators import (
    Collection,
    DeadLetterFile,
    DenseStage,
    Identity,
    JsonLinesSource,
    QdrantSink,
    Schema,
    Server,
    VectorSpace,
    WindowLimits,
    decode,
    drain_on_signals,
    embed_dense,
    to_points,
    window,
)

NOTES = Path("notes.jsonl")

stage = DenseStage(model="fastembed-stream/all-MiniLM-L6-v2-int8")
server = Server(path=Path("qdrant"))  # or Server(url="http://localhost:6333")


def flow() -> Dataflow:
    """Connect the steps. Their names are those of their state in the recovery store: keep them."""
    drain_on_signals()  # SIGTERM ends the sources, and all that was read is written
    space = VectorSpace(dim=stage.row.dim, model=stage.row.name, fingerprint=stage.open())
    collection = Collection(name="notes", vectors={"dense": space})

    flow = Dataflow("notes")
    lines = op.input("lines", flow, JsonLinesSource(NOTES))  # or a KafkaSource
    records = decode("decode", lines, schema=Schema(key="id"))
    windows = window("window", records.oks, limits=WindowLimits(max_records=64, max_age_s=0.1))
    embedded = embed_dense("embed", windows, stage=stage)
    points = to_points("points", embedded.oks, identity=Identity(collection="notes"))
    op.output("qdrant", points.oks, QdrantSink(server, collection))
    failures = op.merge("failures", records.errs, embedded.errs, points.errs)
    op.output("dead_letters", failures, DeadLetterFile(Path("dead_letters.jsonl")))
    return flow


if __name__ == "__main__":
    notes = ["Bread is baked in the morning.", "The train leaves at noon.", "Rain is on its way."]
    lines = [json.dumps({"id": f"note-{n}", "text": text}) for n, text in enumerate(notes)]
    NOTES.write_text("\n".join(lines) + "\n", encoding="utf-8")
    run_main(flow())

    [question] = open_model(stage.row)(["when does my train go?"])
    found = server.client().query_points("notes", query=question.tolist(), using="dense", limit=1)
    payload = found.points[0].payload or {}
    print(payload["text"])  # The train leaves at noon.
