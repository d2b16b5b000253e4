"""A newcomer's first minute: the demonstration runs, keeps what it made, and can be asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from fastembed_stream import catalog
from fastembed_stream.recipes import KINDS, Kind
from flows.cli import app
from flows.demo import docstrings
from tests.servers.hub_server import HubServer

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
    rows = json.loads(command(tmp_path, "models", "--json").stdout)
    assert {row["name"] for row in rows} == set(catalog.names())


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_the_models_of_one_family_are_listed_alone(kind: Kind[Any, Any, Any]) -> None:
    names = [row.name for row in catalog.models(kind)]
    table = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["models", "--family", kind.name])
    data = CliRunner().invoke(app, ["models", "--family", kind.name, "--json"])
    assert [row["name"] for row in json.loads(data.stdout)] == names
    assert all(name in table.stdout for name in names)
    assert table.stdout.count(kind.name) == len(names)


def test_a_family_that_there_is_not_is_refused_with_those_there_are(tmp_path: Path) -> None:
    answer = command(tmp_path, "models", "--family", "dense")
    assert answer.returncode == 2
    assert "dense-text" in answer.stderr
    assert "cross-encoder" in answer.stderr


def test_fetching_shows_how_far_it_is_and_where_the_files_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"model.onnx": b"x" * 3_000_000, "tokenizer.json": b"{}"}
    repo = "Qdrant/bge-small-en"
    with HubServer(repo, files | {"model_optimized.onnx": b"x" * 3_000_000}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        cache = str(tmp_path / "cache")
        answer = command(tmp_path, "fetch", "BAAI/bge-small-en", "--cache-dir", cache)
    assert answer.returncode == 0, answer.stderr
    assert "model_optimized.onnx" in answer.stdout
    assert "3.0/3.0 MB" in answer.stdout
    assert f"BAAI/bge-small-en (dense-text): {cache}" in answer.stdout


def test_fetching_an_unknown_model_names_the_nearest(tmp_path: Path) -> None:
    answer = command(tmp_path, "fetch", "BAAI/bge-smal-en")
    assert answer.returncode == 1
    assert "BAAI/bge-small-en" in answer.stderr
