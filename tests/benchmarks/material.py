"""What is measured on: real text of mixed length, and how rounds are timed."""

from __future__ import annotations

import os
import random
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.table import Table

from fastembed_stream import catalog, locate
from fastembed_stream.tokens import Tokens
from flows.demo import MODEL, docstrings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fastembed_stream.values import Ints

__all__ = ["MODEL", "TEST_MODELS", "Corpus", "Timing", "compared", "corpus", "in_turn"]

TEST_MODELS = Path(
    os.environ.get("FASTEMBED_STREAM_TEST_MODELS", Path(__file__).parents[2] / "../shared/models")
)

_SHORTEST_CHARS = 90
_TOKENS_OF_MODEL = 256


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Texts, and their lengths in tokens, int64[n_texts]."""

    texts: list[str]
    lengths: Ints

    def describe(self) -> str:
        """Tell how long they are."""
        return (
            f"{len(self.texts)} docstrings of the standard library, tokens: median "
            f"{np.median(self.lengths):.0f}, mean {self.lengths.mean():.0f}, "
            f"max {self.lengths.max()}"
        )


def corpus(n: int, *, seed: int = 1) -> Corpus:
    """Sample docstrings so that the median is about 60 tokens and the longest 256."""
    found = [d.text for d in docstrings(10_000) if len(d.text) >= _SHORTEST_CHARS]
    texts = random.Random(seed).sample(found, min(n, len(found)))  # noqa: S311  no secret
    model = catalog.find(MODEL)
    tokens = Tokens.open(locate(model), model)
    return Corpus(texts=texts, lengths=tokens.read(texts).lengths)


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds of several rounds."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.seconds)

    def spread(self) -> str:
        """Fastest to slowest."""
        return f"{min(self.seconds):.2f} to {max(self.seconds):.2f} s"


def in_turn(competitors: Mapping[str, Callable[[], object]], *, rounds: int) -> dict[str, Timing]:
    """Time all competitors in each round, after one round that counts for nothing."""
    seconds: dict[str, list[float]] = {name: [] for name in competitors}
    for number in range(rounds + 1):
        for name, compete in competitors.items():
            started = time.perf_counter()
            compete()
            if number > 0:
                seconds[name].append(time.perf_counter() - started)
    return {name: Timing(seconds=tuple(times)) for name, times in seconds.items()}


def compared(
    title: str,
    competitors: Mapping[str, Callable[[], object]],
    *,
    unit: str,
    n: int,
    rounds: int,
) -> Table:
    """Time all competitors on the same `n` rows; tell rates, and how much faster the first is."""
    timings = in_turn(competitors, rounds=rounds)
    ours = next(iter(timings.values())).median
    table = Table("", f"{unit}/s", "rounds", "the first is", title=title)
    for name, timing in timings.items():
        rate = f"{n / timing.median:.0f}"
        table.add_row(name, rate, timing.spread(), f"{timing.median / ours:.2f} times it")
    return table
