"""MUVERA, against fastembed's; multivectors are random, since its work does not depend on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from rich.console import Group

from fastembed_stream import Muvera
from tests.benchmarks.material import compared

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.table import Table

    from fastembed_stream.values import Floats

__all__ = ["run"]

_DIM = 128
_N = 100
_ROUNDS = 5


def run() -> Group:
    """Measure documents of 100 to 200 tokens and queries of 32; print ratios."""
    lengths = np.random.default_rng(1).integers(100, 200, _N)
    return Group(
        _measured("document", [_multivector(int(n), seed=k) for k, n in enumerate(lengths)]),
        _measured("query", [_multivector(32, seed=k) for k in range(_N)]),
    )


def _measured(what: str, multivectors: list[Floats]) -> Table:
    ours = Muvera(_DIM)
    together = {"document": ours.process_documents, "query": ours.process_queries}[what]
    one_by_one: Callable[[Floats], Floats] = getattr(ours, f"process_{what}")
    competitors: dict[str, Callable[[], object]] = {
        "fastembed_stream, together": lambda: together(multivectors),
        "fastembed_stream, one by one": lambda: [one_by_one(each) for each in multivectors],
    }
    try:
        from fastembed.postprocess import Muvera as Theirs
    except ImportError:
        pass
    else:
        their_own = getattr(Theirs(_DIM), f"process_{what}")
        competitors["fastembed 0.9.1"] = lambda: [their_own(each) for each in multivectors]
    tokens = np.mean([len(each) for each in multivectors])
    return compared(
        f"MUVERA, each {what}: {tokens:.0f} tokens x {_DIM} on average",
        competitors,
        unit="rows",
        n=len(multivectors),
        rounds=_ROUNDS,
    )


def _multivector(n_tokens: int, *, seed: int) -> Floats:
    vectors = np.random.default_rng(seed).normal(size=(n_tokens, _DIM)).astype(np.float32)
    unit: Floats = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit
