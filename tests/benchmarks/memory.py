"""Peak memory of dense text against fastembed, and resident memory of a flow that is held back."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

import bytewax.operators as op
import psutil
from bytewax.dataflow import Dataflow
from bytewax.testing import cluster_main
from rich.table import Table

from flows.local_broker import create_topic, produce, running_broker
from operators import (
    Batch,
    Cluster,
    Identity,
    KafkaSource,
    Reading,
    Schema,
    decode,
    run_stages,
    to_points,
    window,
)
from tests.benchmarks.counting import CountingSink, messages

__all__ = ["dense", "flow"]

_ROOT = Path(__file__).parents[2]
_N_RECORDS = 200_000
_TOPIC = "texts"
_MIB = 1 << 20

_OURS = "from fastembed_stream import TextEmbedding; model = TextEmbedding(MODEL)"
_THEIRS = (
    "from fastembed import TextEmbedding; model = TextEmbedding("
    "'sentence-transformers/all-MiniLM-L6-v2', specific_model_path=FOLDER)"
)
_PROGRAM = """
import resource
from tests.benchmarks.material import MODEL, corpus
from fastembed_stream import catalog, locate
FOLDER = str(locate(catalog.find(MODEL)))
texts = corpus(1024).texts
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
{make}
list(model.embed(texts))
print(before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def dense() -> Table:
    """Peak resident memory of embedding 1,024 mixed texts, each library in a process of its own."""
    table = Table("", "peak MiB", "above imports", title="Dense text: peak resident memory")
    for name, make in (("fastembed_stream", _OURS), ("fastembed 0.9.1", _THEIRS)):
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM.format(make=make)],
            capture_output=True,
            text=True,
            cwd=_ROOT,
            check=False,
        )
        if done.returncode:
            table.add_row(name, "not measured", done.stderr.strip().splitlines()[-1])
            continue
        before, peak = map(int, done.stdout.split()[-2:])
        table.add_row(name, f"{peak / 1024:.0f}", f"{(peak - before) / 1024:.0f}")
    return table


def flow() -> Table:
    """Resident memory while a slow stage works through 200,000 records, on one and two workers."""
    table = Table("workers", "records", "seconds", "MiB, every tenth of the way", "growth MiB")
    table.title = f"A slow stage behind {_N_RECORDS:,} records"
    with running_broker() as brokers:
        create_topic(brokers, _TOPIC, 4)
        produce(brokers, _TOPIC, ((m.key or b"", m.value or b"") for m in messages(_N_RECORDS)))
        for n_workers in (1, 2):
            done = subprocess.run(
                [sys.executable, "-m", "tests.benchmarks.memory", brokers, str(n_workers)],
                capture_output=True,
                text=True,
                cwd=_ROOT,
                check=True,
            )
            seen = json.loads(done.stdout.splitlines()[-1])
            tenths = seen["mib"]
            table.add_row(
                str(n_workers),
                f"{seen['records']:,}",
                f"{seen['seconds']:.0f}",
                " ".join(map(str, tenths)),
                str(max(tenths[1:]) - tenths[1]),
            )
    return table


def _held_back(brokers: str, n_workers: int) -> None:
    """Run the flow in this process, with a stage of twenty milliseconds, and print what it took."""
    sink = CountingSink()
    held = Dataflow("held_back")
    source = KafkaSource(Cluster(brokers=brokers), [_TOPIC], Reading(tail=False))
    records = decode("decode", op.input("kafka", held, source), schema=Schema())
    staged = run_stages("stages", window("window", records.oks), stages=(_slow,))
    points = to_points("points", staged.oks, identity=Identity(collection="benchmark"))
    op.output("count", points.oks, sink)

    mib: list[int] = []
    process = psutil.Process()

    def sample() -> None:
        while len(mib) <= 10:
            if sink.n_points >= len(mib) * _N_RECORDS // 10:
                mib.append(process.memory_info().rss // _MIB)
            time.sleep(0.01)

    threading.Thread(target=sample, daemon=True).start()
    started = time.perf_counter()
    cluster_main(  # type: ignore[no-untyped-call]  # Bytewax leaves it bare
        held, [], 0, worker_count_per_proc=n_workers, epoch_interval=timedelta(seconds=1)
    )
    seconds = time.perf_counter() - started
    print(json.dumps({"records": sink.n_points, "seconds": seconds, "mib": mib}))  # noqa: T201


def _slow(batch: Batch) -> Batch:
    time.sleep(0.02)
    return batch


if __name__ == "__main__":
    _held_back(sys.argv[1], int(sys.argv[2]))
