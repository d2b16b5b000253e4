"""A newcomer's first minutes: each flow is shown, what it made is kept, and can be asked."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest
from rich.console import Console
from typer.testing import CliRunner

from fastembed_stream import catalog
from fastembed_stream.kinds import KINDS, Kind
from flows import cli, demo, text_to_qdrant
from flows.cli import app
from flows.demo import FLOWS, MODES, docstrings
from flows.demo.place import opened
from flows.settings import TextSettings
from operators import BrokenFlowError
from tests.fastembed_stream.examples import real_model
from tests.servers.hub_server import HubServer

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


@pytest.fixture(scope="module")
def hybrid(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Keep a small hybrid demonstration; give its folder and what it printed."""
    folder = tmp_path_factory.mktemp("hybrid")
    answer = command(folder, "demo", "--flow", "hybrid", "--documents", "60", "--keep", str(folder))
    assert answer.returncode == 0, answer.stderr
    assert answer.stderr == ""
    return folder, answer.stdout


def test_the_hybrid_demonstration_shows_what_each_mode_finds_side_by_side(
    hybrid: tuple[Path, str],
) -> None:
    _, printed = hybrid
    assert "60 points in collection 'standard_library_hybrid'" in printed
    [*headings] = [line for line in printed.splitlines() if "muvera" in line]
    assert len(headings) == 4
    words = headings[0].replace("┃", " ").split()
    assert words == ["dense", "sparse", "late", "muvera", "hybrid"]


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "image"])
def test_a_kept_hybrid_collection_is_asked_in_every_mode_of_text(
    mode: str, hybrid: tuple[Path, str]
) -> None:
    folder, _ = hybrid
    answer = command(folder, "search", "run a program", "--mode", mode, "--dir", str(folder))
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.count("score") == 1
    assert "│" in answer.stdout


def test_a_cross_encoder_gives_hits_its_own_scores(hybrid: tuple[Path, str]) -> None:
    folder, _ = hybrid
    model = real_model("cross-standin")
    words = ("search", "run a program", "--dir", str(folder), "--limit", "3")
    plain = command(folder, *words)
    ranked = command(folder, *words, "--rerank", "--rerank-folder", str(model))
    assert ranked.returncode == 0, ranked.stderr
    assert scores(ranked.stdout) == sorted(scores(ranked.stdout), reverse=True)
    assert scores(ranked.stdout) != scores(plain.stdout)


def scores(table: str) -> list[float]:
    cells = [line.split("│")[1].strip() for line in table.splitlines() if line.startswith("│")]
    return [float(cell) for cell in cells if cell]


def test_a_mode_that_was_not_kept_is_refused_with_those_that_were(
    home: Path, shown: subprocess.CompletedProcess[str]
) -> None:
    assert shown.returncode == 0, shown.stderr
    answer = command(home, "search", "anything", "--mode", "sparse")
    told = " ".join(answer.stderr.split())
    assert answer.returncode == 1
    assert "no mode 'sparse'; it has dense." in told
    assert "demo --flow hybrid --keep" in told


def test_questions_are_answered_unranked_without_a_cross_encoder_and_that_is_said() -> None:
    printed = in_this_process("rerank", 40)
    assert "40 answers in topic 'answers'" in printed
    assert "no cross-encoder comes as a package" in printed
    assert printed.count("score") == 4


def test_questions_are_answered_in_the_order_of_a_cross_encoder_that_is_given() -> None:
    model = real_model("cross-standin")
    printed = in_this_process("rerank", 12, rerank_folder=model)
    assert "put the answers in order" in printed
    for table in printed.split("score")[1:]:
        assert scores(table) == sorted(scores(table), reverse=True)
        assert len(scores(table)) == 3


def in_this_process(flow: str, n_documents: int, *, rerank_folder: Path | None = None) -> str:
    console = Console(file=io.StringIO(), width=200)
    demo.run(console, flow=flow, n_documents=n_documents, rerank_folder=rerank_folder)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_demonstration_ends_what_it_started_and_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = set(psutil.Process().children())
    in_this_process("text", 20)
    assert set(psutil.Process().children()) == before
    assert list(tmp_path.iterdir()) == []


def test_what_a_shell_has_set_for_a_cluster_does_not_reach_a_demonstration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("STREAM_QDRANT_URL", "http://qdrant:6333")
    monkeypatch.setenv("STREAM_OUTPUT_FILE", "/out.jsonl")
    assert "20 points in collection" in in_this_process("text", 20)


def test_a_document_that_fails_ends_the_demonstration_and_is_counted(tmp_path: Path) -> None:
    with ExitStack() as stack:
        place = opened(stack, Console(file=io.StringIO()), tmp_path, None)
        good = [document.message() for document in docstrings(5)]
        n_sent = place.send("mixed", "documents", [*good, (b"bad", b"no JSON")])
        settings = TextSettings(
            kafka_brokers=place.brokers,
            kafka_topics=("mixed",),
            model=demo.MODEL,
            qdrant_path=place.store,
            dead_letter_file=place.dead_letters,
        )
        flow = text_to_qdrant.build(settings)
        with pytest.raises(BrokenFlowError, match="after 5 of 6; 1 failed"):
            place.fill(flow, "documents", "documents", n_sent)
    assert "no JSON" in place.dead_letters.read_text()


def test_the_command_line_offers_every_flow_and_every_mode() -> None:
    assert {flow.value for flow in cli._Flow} == set(FLOWS)
    assert {mode.value for mode in cli._Mode} == set(MODES)


@pytest.mark.parametrize(
    "words",
    [
        ("demo", "--flow", "text", "--rerank-folder", "here"),
        ("search", "anything", "--rerank-folder", "here"),
    ],
    ids=" ".join,
)
def test_a_folder_of_a_cross_encoder_that_nothing_would_use_is_refused(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    answer = command(tmp_path, *words)
    assert answer.returncode == 1
    assert "--rerank" in answer.stderr


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
