"""A flow of dense, BM25 and MUVERA against the dense flow alone: stages of batches overlap."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.table import Table

from flows.local_broker import running_broker
from flows.starting import leave_cores_to_the_lanes
from operators import Collection, DenseStage, LateStage, MuveraStage, SparseStage
from tests.benchmarks.flow import run_whole, send
from tests.benchmarks.material import MODEL, TEST_MODELS, corpus, in_turn

__all__ = ["run"]

_N_TEXTS = 1_024
_ROUNDS = 7
_LATE = TEST_MODELS / "late-standin-tiny"


def run() -> Table:
    """Measure, and print the ratio of medians."""
    leave_cores_to_the_lanes()
    texts = corpus(_N_TEXTS)
    dense = DenseStage(model=MODEL)
    late = LateStage(model="colbert-ir/colbertv2.0", folder=_LATE)
    muvera = MuveraStage(of=late, keep=False)
    sparse = SparseStage(model="Qdrant/bm25")
    for stage in (dense, sparse, late):
        stage.open()
    stored = (dense, sparse, muvera)
    numbers = itertools.count()
    with running_broker() as brokers, tempfile.TemporaryDirectory() as folder:
        send(brokers, texts.texts)

        def flow(
            stages: Sequence[DenseStage | SparseStage | LateStage | MuveraStage],
            kept: Sequence[DenseStage | SparseStage | MuveraStage],
        ) -> Callable[[], None]:
            def whole() -> None:
                vectors = {stage.vector: stage.space() for stage in kept}
                collection = Collection(name=f"hybrid-{next(numbers)}", vectors=vectors)
                done = run_whole(brokers, stages, collection, Path(folder) / "dead_letters.jsonl")
                assert done == len(texts.texts), done

            return whole

        timings = in_turn(
            {
                "dense, BM25 and MUVERA": flow((dense, sparse, late, muvera), stored),
                "dense alone": flow((dense,), (dense,)),
            },
            rounds=_ROUNDS,
        )
    alone = timings["dense alone"].median
    title = f"Kafka -> Qdrant in memory, a tiny late interaction model: {texts.describe()}"
    table = Table("", "docs/s", "rounds", "of dense alone", title=title)
    for name, timing in timings.items():
        rate = len(texts.texts) / timing.median
        table.add_row(name, f"{rate:.0f}", timing.spread(), f"{alone / timing.median:.2f}")
    return table
