"""fastembed, asked for the same thing as this project; tests skip where it is not installed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastembed_stream
from fastembed_stream.values import Floats

_WHY = "fastembed, the oracle, is not installed: pip install --no-deps fastembed==0.9.1"


def fastembed() -> Any:
    """Give the module of fastembed, or skip."""
    return pytest.importorskip("fastembed", reason=_WHY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Both:
    """One model folder, opened by both libraries."""

    theirs: Any
    ours: fastembed_stream.TextEmbedding

    def agree(self, texts: Sequence[str], *, within: float = 1e-6, batch_size: int = 256) -> None:
        """Check that `embed` gives the same vectors in the same order."""
        close(
            self.ours.embed(texts, batch_size=batch_size),
            self.theirs.embed(texts, batch_size=batch_size),
            within=within,
        )


def both(name: str, folder: Path, **ours: Any) -> Both:
    """Open a folder under a model's name in both libraries, on the CPU."""
    path = str(folder)
    return Both(
        theirs=fastembed().TextEmbedding(name, specific_model_path=path, cuda=False, threads=2),
        ours=fastembed_stream.TextEmbedding(
            name,
            specific_model_path=path,
            runtime=fastembed_stream.Runtime(device="cpu", threads=2, token_budget=256),
            **ours,
        ),
    )


def both_static(name: str, folder: Path) -> Both:
    """Open a static model in both libraries; it knows no threads and no devices."""
    path = str(folder)
    return Both(
        theirs=fastembed().TextEmbedding(name, specific_model_path=path),
        ours=fastembed_stream.TextEmbedding(name, specific_model_path=path),
    )


def close(got: Iterable[Floats], expected: Iterable[Any], *, within: float = 1e-6) -> None:
    """Compare vectors, in order."""
    np.testing.assert_allclose(np.stack(list(got)), np.stack(list(expected)), atol=within, rtol=0)
