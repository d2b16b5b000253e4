"""A newcomer's first minute: the demonstration runs, keeps what it made, and can be asked."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from flows.demo import docstrings

if TYPE_CHECKING:
    from pathlib import Path

N_DOCUMENTS = 200


def command(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user does, whose state is in `home`."""
    return subprocess.run(
        [sys.executable, "-m", "flows.cli", *words],
        capture_output=True,
        text=True,
        timeout=180,
        env={**os.environ, "XDG_STATE_HOME": str(home), "COLUMNS": "200"},
        check=False,
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def shown(home: Path) -> subprocess.CompletedProcess[str]:
    return command(home, "demo", "--documents", str(N_DOCUMENTS), "--keep", str(home / "kept"))


def test_the_demonstration_makes_every_document_a_point_and_answers(
    shown: subprocess.CompletedProcess[str],
) -> None:
    assert shown.returncode == 0, shown.stderr
    assert f"{N_DOCUMENTS} points in collection" in shown.stdout
    assert "documents a second" in shown.stdout
    assert shown.stdout.count("score") == 4
    assert shown.stderr == ""


def test_what_was_kept_can_be_asked_without_saying_where_it_is(
    home: Path, shown: subprocess.CompletedProcess[str]
) -> None:
    assert shown.returncode == 0, shown.stderr
    answer = command(home, "search", "parse command line arguments", "--limit", "2")
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.count("│ 0.") == 2


def test_asking_where_nothing_was_kept_says_what_to_do(tmp_path: Path) -> None:
    answer = command(tmp_path, "search", "anything")
    assert answer.returncode == 1
    assert "fastembed-stream demo --keep" in answer.stderr


def test_the_documents_are_many_unlike_and_the_same_each_time() -> None:
    documents = docstrings(1_000)
    assert len(documents) == 1_000
    assert len({document.name for document in documents}) == 1_000
    assert documents == docstrings(1_000)


def test_models_are_listed_as_a_table_and_as_data(tmp_path: Path) -> None:
    assert "BAAI/bge-small-en-v1.5" in command(tmp_path, "models").stdout
    assert '"model": "BAAI/bge-small-en-v1.5"' in command(tmp_path, "models", "--json").stdout


def test_fetching_an_unknown_model_names_the_nearest(tmp_path: Path) -> None:
    answer = command(tmp_path, "fetch", "BAAI/bge-smal-en")
    assert answer.returncode == 1
    assert "BAAI/bge-small-en" in answer.stderr
