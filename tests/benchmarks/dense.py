"""
Dense text: `TextEmbedding` with its defaults, against fastembed and against the floor.

The floor is bare `session.run` over token ids that are already packed, at the best packing and
lanes of those tried: no tokenizer, no pooling, nothing put back in order.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Group
from rich.table import Table

from fastembed_stream import Runtime, TextEmbedding, catalog, locate
from fastembed_stream.plan import pack
from fastembed_stream.shared_sessions import open_session
from fastembed_stream.tokens import Tokens
from tests.benchmarks.material import MODEL, TEST_MODELS, Corpus, corpus, in_turn

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fastembed_stream.values import Feeds

__all__ = ["run"]

_N_TEXTS = 512  # whole batches of fastembed's 256
_ROUNDS = 3
_BUDGETS = (256, 512)
_LANES = ((1, 2), (2, 2))
"""Lanes, and the threads that they share."""


_ORACLE = "sentence-transformers/all-MiniLM-L6-v2"


def run() -> Group:
    """Measure the installed model, and the test models' MiniLM where it is; print ratios."""
    texts = corpus(_N_TEXTS)
    folders = {"the installed package's MiniLM": locate(catalog.find(MODEL))}
    if (TEST_MODELS / "minilm").is_dir():
        folders["the test models' MiniLM"] = TEST_MODELS / "minilm"
    return Group(*(_measured(name, folder, texts) for name, folder in folders.items()))


def _measured(name: str, folder: Path, texts: Corpus) -> Table:
    ours = TextEmbedding(_ORACLE, specific_model_path=str(folder))
    floors = _floors(folder, texts)
    best_floor = _quickest(floors)
    competitors: dict[str, Callable[[], object]] = {
        "fastembed_stream, defaults": lambda: list(ours.embed(texts.texts)),
        f"floor: session.run, {best_floor}": floors[best_floor],
    }
    try:
        from fastembed import TextEmbedding as Theirs
    except ImportError:
        pass
    else:
        theirs = Theirs(_ORACLE, specific_model_path=str(folder))
        competitors["fastembed 0.9.1, defaults"] = lambda: list(theirs.embed(texts.texts))

    timings = in_turn(competitors, rounds=_ROUNDS)
    us = timings["fastembed_stream, defaults"].median
    title = f"Dense text, {name}: {texts.describe()}"
    table = Table("", "docs/s", "rounds", "ours is", title=title)
    for competitor, timing in timings.items():
        rate = f"{len(texts.texts) / timing.median:.0f}"
        table.add_row(competitor, rate, timing.spread(), f"{timing.median / us:.2f} times it")
    return table


def _floors(folder: Path, texts: Corpus) -> dict[str, Callable[[], object]]:
    """Give bare runs at several packings and lanes."""
    model = catalog.find(_ORACLE)
    reading = Tokens.open(folder, model).read(texts.texts)
    floors: dict[str, Callable[[], object]] = {}
    for lanes, threads in _LANES:
        runtime = Runtime(device="cpu", lanes=lanes, threads=threads)
        session = open_session(folder / model.model_file, runtime)
        pool = ThreadPoolExecutor(lanes)
        for budget in _BUDGETS:
            feeds = [
                _padded([reading.ids[row] for row in rows])
                for rows in pack(reading.lengths, budget)
            ]

            def all_groups(
                pool: ThreadPoolExecutor = pool,
                feeds: list[Feeds] = feeds,
                outputs: tuple[str, ...] = session.outputs[:1],
                run: Callable[..., object] = session.run,
            ) -> None:
                list(pool.map(lambda feed: run(outputs, feed), feeds))

            floors[f"{lanes} lanes, {budget} tokens"] = all_groups
    return floors


def _quickest(floors: dict[str, Callable[[], object]]) -> str:
    timings = in_turn(floors, rounds=1)
    return min(timings, key=lambda name: timings[name].median)


def _padded(rows: list[np.ndarray]) -> Feeds:
    width = max(map(len, rows))
    ids = np.zeros((len(rows), width), dtype=np.int64)
    mask = np.zeros_like(ids)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = row
        mask[number, : len(row)] = 1
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
