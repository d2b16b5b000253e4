"""Peak memory against fastembed, and resident memory over time: of the engine, of a flow."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import bytewax.operators as op
import psutil
from bytewax.dataflow import Dataflow
from bytewax.testing import cluster_main
from rich.table import Table

from fastembed_stream import catalog, locate
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
from tests.benchmarks.material import MODEL, TEST_MODELS

__all__ = ["dense", "flow", "soak", "splade"]

_ROOT = Path(__file__).parents[2]
_N_RECORDS = 200_000
_TOPIC = "texts"
_MIB = 1 << 20

_PEAK = """
import itertools, resource, sys
import {package}
from tests.benchmarks.material import corpus
texts = corpus(1024).texts
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
model = {package}.{cls}({model!r}, specific_model_path={folder!r})
for _ in model.embed(itertools.islice(texts, {n_texts}), batch_size={batch_size}):
    pass
print(before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""

_SOAK = """
import itertools, json, psutil
from fastembed_stream import {cls}
from tests.benchmarks.material import corpus
texts = itertools.cycle(corpus(2_000).texts)
model = {cls}({model!r}, specific_model_path={folder!r})
mib, process = [], psutil.Process()
for n_done, _ in enumerate(model.embed(itertools.islice(texts, {n_texts}))):
    if n_done % ({n_texts} // 10) == 0:
        mib.append(process.memory_info().rss >> 20)
mib.append(process.memory_info().rss >> 20)
print(json.dumps(mib))
"""
_N_SOAKED = 20_000


@dataclass(frozen=True, kw_only=True)
class _Case:
    """
    What memory is measured of, under the name that both libraries know.

    batch_size  fastembed's default, or the largest that it can be asked for
    """

    title: str
    cls: str
    model: str
    folder: Path
    n_texts: int
    batch_size: int = 256


def dense() -> Table:
    """Peak resident memory of dense text, each library in a process of its own."""
    model = "sentence-transformers/all-MiniLM-L6-v2"
    return _peaks(
        _Case(
            title="Dense text",
            cls="TextEmbedding",
            model=model,
            folder=locate(catalog.find(MODEL)),
            n_texts=1024,
        )
    )


def splade() -> Table:
    """Peak resident memory of SPLADE, each library in a process of its own."""
    return _peaks(
        _Case(
            title="SPLADE",
            cls="SparseTextEmbedding",
            model="prithivida/Splade_PP_en_v1",
            folder=TEST_MODELS / "splade-tiny",
            n_texts=256,
            batch_size=16,  # 256 asks for one tensor of 10 GB
        )
    )


def soak() -> Table:
    """Resident memory while 20,000 texts are embedded in one loop."""
    table = Table("", "MiB, every tenth of the way", "growth after the second tenth, MiB")
    table.title = f"{_N_SOAKED:,} texts in a loop"
    minilm = locate(catalog.find(MODEL))
    for cls, model, folder in (
        ("TextEmbedding", "sentence-transformers/all-MiniLM-L6-v2", minilm),
        ("SparseTextEmbedding", "prithivida/Splade_PP_en_v1", TEST_MODELS / "splade-tiny"),
    ):
        program = _SOAK.format(cls=cls, model=model, folder=str(folder), n_texts=_N_SOAKED)
        mib = json.loads(_run(program).stdout)
        table.add_row(cls, " ".join(map(str, mib)), str(max(mib[2:]) - mib[2]))
    return table


def _peaks(case: _Case) -> Table:
    title = f"{case.title}: {case.n_texts} texts, batches of {case.batch_size}"
    table = Table("", "peak MiB", "above imports", title=title)
    for package in ("fastembed_stream", "fastembed"):
        done = _run(_PEAK.format(package=package, **{**vars(case), "folder": str(case.folder)}))
        if done.returncode:
            table.add_row(package, "not measured", done.stderr.strip().splitlines()[-1])
            continue
        before, peak = map(int, done.stdout.split()[-2:])
        table.add_row(package, f"{peak / 1024:.0f}", f"{(peak - before) / 1024:.0f}")
    return table


def _run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=_ROOT, check=False
    )


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
