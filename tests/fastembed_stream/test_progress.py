"""Long work can be watched: rows and tokens a second, beside answers that stay as they are."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from fastembed_stream import Runtime, TextEmbedding, catalog, open_model, watched
from fastembed_stream.progress import _speed
from tests.fastembed_stream.tiny_models import row, write

TEXTS = ["the stream of text", "kafka", "a vector"] * 4
ON_CPU = Runtime(device="cpu", threads=1)


def test_answers_come_as_ever_and_both_speeds_are_shown(tmp_path: Path) -> None:
    embed = open_model(row(write(tmp_path)), runtime=ON_CPU)
    expected = embed(TEXTS)
    told = io.StringIO()
    console = Console(file=told, force_terminal=True, width=120)
    answers = watched(embed.stream(TEXTS, window=5), embed, total=len(TEXTS), console=console)
    np.testing.assert_allclose(list(answers), expected, atol=1e-6)
    assert "12 rows" in told.getvalue()
    assert "rows/s" in told.getvalue()
    assert "tokens/s" in told.getvalue()


def test_one_of_fastembeds_classes_counts_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "_ROWS", dict(catalog._ROWS))
    catalog.add(row(write(tmp_path), name="own/watched"))
    model = TextEmbedding("own/watched", runtime=ON_CPU, lazy_load=True)
    assert model.counts.tokens == 0
    console = Console(file=io.StringIO())
    assert len(list(watched(model.embed(iter(TEXTS)), model, console=console))) == len(TEXTS)
    assert model.counts.rows == len(TEXTS)
    assert model.counts.tokens == model.token_count(TEXTS)


def test_whoever_stops_early_stops_the_work(tmp_path: Path) -> None:
    embed = open_model(row(write(tmp_path)), runtime=ON_CPU)
    answers = watched(embed.stream(iter(TEXTS * 100), window=3), embed, console=Console(quiet=True))
    next(answers)
    answers.close()  # type: ignore[attr-defined]  # a generator
    assert embed.counts.rows <= 9


def test_no_time_has_no_speed() -> None:
    assert _speed(1, 1, 0.0) == ""
