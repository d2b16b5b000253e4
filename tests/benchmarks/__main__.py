"""Run benchmarks by name, all without one."""

from __future__ import annotations

import logging
import sys

from rich.console import Console

from tests.benchmarks import (
    dense,
    flow,
    hybrid,
    images,
    importing,
    late,
    memory,
    muvera,
    plumbing,
    quality,
    rerank,
    reranking_stream,
    sharing,
    sparse,
)

BENCHMARKS = {
    "dense": dense.run,
    "splade": sparse.splade,
    "bm25": sparse.bm25,
    "late": late.run,
    "rerank": rerank.run,
    "images": images.run,
    "sharing": sharing.run,
    "muvera": muvera.run,
    "import": importing.run,
    "dense-memory": memory.dense,
    "splade-memory": memory.splade,
    "soak": memory.soak,
    "flow": flow.run,
    "hybrid": hybrid.run,
    "quality": quality.run,
    "reranking-stream": reranking_stream.run,
    "flow-memory": memory.flow,
    "plumbing": plumbing.run,
}


def main(names: list[str]) -> int:
    """Run what is named and print its table."""
    unknown = sorted(set(names) - set(BENCHMARKS))
    if unknown:
        sys.stderr.write(f"No benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}.\n")
        return 2
    logging.basicConfig(level=logging.ERROR)
    console = Console(width=110)
    for name in names or BENCHMARKS:
        console.print(BENCHMARKS[name]())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
