"""What `import fastembed_stream` costs, each time in a fresh process."""

from __future__ import annotations

import statistics
import subprocess
import sys
from pathlib import Path

from rich.table import Table

__all__ = ["run"]

_ROOT = Path(__file__).parents[2]
_ROUNDS = 7
_PROGRAM = """
import sys, time
started = time.perf_counter()
import {package}
print(time.perf_counter() - started, "onnxruntime" in sys.modules)
"""


def run() -> Table:
    """Time the import of each library, and tell whether it brings ONNX Runtime with it."""
    table = Table("", "seconds, median", "imports ONNX Runtime", title="Import")
    for package in ("fastembed_stream", "fastembed"):
        seconds, with_runtime = [], ""
        for _ in range(_ROUNDS):
            done = subprocess.run(
                [sys.executable, "-c", _PROGRAM.format(package=package)],
                capture_output=True,
                text=True,
                cwd=_ROOT,
                check=False,
            )
            if done.returncode:
                break
            taken, with_runtime = done.stdout.split()
            seconds.append(float(taken))
        median = f"{statistics.median(seconds):.3f}" if seconds else "not installed"
        table.add_row(package, median, with_runtime)
    return table
