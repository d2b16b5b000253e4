"""
The main job on any machine: real text, a real broker, a real model, a real collection.

The documents are the docstrings of the installed Python's standard library.
"""

from __future__ import annotations

import ast
import json
import sysconfig
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeAlias

from bytewax.testing import run_main
from platformdirs import user_state_path
from prometheus_client import REGISTRY
from qdrant_client.models import ScoredPoint
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from fastembed_stream import open_model
from fastembed_stream.errors import SettingError
from flows import text_to_qdrant
from flows.local_broker import create_topic, produce, running_broker
from flows.settings import TextSettings
from operators import STOP, BrokenFlowError, DenseStage, Server, drain_on_signals

__all__ = ["MODEL", "Document", "docstrings", "run", "search"]

MODEL = "fastembed-stream/all-MiniLM-L6-v2-int8"
COLLECTION = "standard_library"

_TOPIC = "docstrings"
_PARTITIONS = 4
_QUESTIONS = (
    "read a file line by line",
    "run a function in another process",
    "parse command line arguments",
    "wait until several coroutines are done",
)
_PACKAGES = (
    "asyncio",
    "concurrent",
    "email",
    "http",
    "json",
    "logging",
    "multiprocessing",
    "urllib",
)
_FEWEST_CHARS = 40
_HITS = 3

Documented: TypeAlias = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A docstring and whose it is, such as 'json.dumps'."""

    name: str
    text: str

    def message(self) -> tuple[bytes, bytes]:
        """Give it as a Kafka message."""
        return self.name.encode(), json.dumps({"name": self.name, "text": self.text}).encode()


def docstrings(n_documents: int) -> list[Document]:
    """Take that many of the standard library's public docstrings, spread evenly over it."""
    found = [document for path in _modules() for document in _documents_of(path)]
    step = max(len(found) / n_documents, 1.0)
    return [found[int(number * step)] for number in range(min(n_documents, len(found)))]


def _modules() -> list[Path]:
    library = Path(sysconfig.get_path("stdlib"))
    packages = [library / name for name in _PACKAGES]
    return sorted(path for folder in (library, *packages) for path in folder.glob("[a-z]*.py"))


def _documents_of(path: Path) -> Iterator[Document]:
    try:
        module = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError):
        return
    package = "" if path.parent.name not in _PACKAGES else f"{path.parent.name}."
    seen: set[str] = set()
    for name, node in _named(module, package + path.stem):
        text = ast.get_docstring(node)
        if text and len(text) >= _FEWEST_CHARS and name not in seen:
            seen.add(name)
            yield Document(name=name, text=text)


def _named(node: Documented, name: str) -> Iterator[tuple[str, Documented]]:
    """Give a module's public classes and functions, however deep, by their dotted names."""
    yield name, node
    for child in ast.iter_child_nodes(node):
        if isinstance(
            child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        ) and not child.name.startswith("_"):
            yield from _named(child, f"{name}.{child.name}")


def run(console: Console, *, n_documents: int, keep: Path | None) -> None:
    """
    Start the broker, run the flow over it until all is searchable, ask some questions, stop all.

    keep  folder to leave the collection in, for `search`
    """
    drain_on_signals()
    STOP.reset()
    with ExitStack() as stack:
        folder = keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        brokers = stack.enter_context(running_broker())
        create_topic(brokers, _TOPIC, _PARTITIONS)
        documents = docstrings(n_documents)
        n_sent = produce(brokers, _TOPIC, (document.message() for document in documents))
        console.print(f"{n_sent} docstrings are in topic {_TOPIC!r} of a broker on {brokers}")

        settings = TextSettings(
            kafka_brokers=brokers,
            kafka_topics=(_TOPIC,),
            model=MODEL,
            qdrant_path=folder / "qdrant",
            collection=COLLECTION,
            dead_letter_file=folder / "dead_letters.jsonl",
        )
        stack.callback(settings.server.close)
        seconds = _embed_all(console, settings, n_sent)
        console.print(
            f"{n_sent} points in collection {COLLECTION!r} in {seconds:.1f} s: "
            f"{n_sent / seconds:.0f} documents a second, from the topic to the collection"
        )
        for question in _QUESTIONS:
            console.print(_answered(settings.server, settings.stage, question))
    if keep is not None:
        _remember(keep)
        console.print(f'Kept in {keep}: fastembed-stream search "..." asks it')


def search(question: str, *, folder: Path | None, limit: int = _HITS) -> Table:
    """
    Ask a kept collection.

    folder  None takes the one that was kept last
    """
    kept = folder or _remembered()
    if not (kept / "qdrant").is_dir():
        msg = f"No collection in {kept}. Make one: fastembed-stream demo --keep {kept}"
        raise SettingError(msg)
    server = Server(path=kept / "qdrant")
    try:
        return _answered(server, DenseStage(model=MODEL), question, limit)
    finally:
        server.close()


def _embed_all(console: Console, settings: TextSettings, n_expected: int) -> float:
    """Run the flow on this thread until all points are written; give the seconds it took."""
    flow = text_to_qdrant.build(settings)
    before = _written()
    started = time.perf_counter()
    watcher = threading.Thread(target=_watch, args=(console, before, n_expected), daemon=True)
    watcher.start()
    run_main(flow, epoch_interval=timedelta(seconds=1))  # type: ignore[no-untyped-call]  # Bytewax leaves it bare
    seconds = time.perf_counter() - started
    watcher.join()
    done = int(_written() - before)
    if done < n_expected:
        msg = f"Stopped after {done} of {n_expected} documents."
        raise BrokenFlowError(msg)
    return seconds


def _watch(console: Console, before: float, n_expected: int) -> None:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:.0f}/s"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("embedding", total=n_expected, rate=0.0)
        started = time.perf_counter()
        while not STOP.requested:
            done = _written() - before
            rate = done / max(time.perf_counter() - started, 1e-9)
            progress.update(task, completed=done, rate=rate)
            if done >= n_expected:
                STOP.request()
            STOP.wait(0.1)


def _written() -> float:
    return REGISTRY.get_sample_value("stream_points_written_total") or 0.0


def _answered(server: Server, stage: DenseStage, question: str, limit: int = _HITS) -> Table:
    embedder = open_model(stage.row, fetching=stage.fetching)
    [vector] = embedder([question])
    hits = server.client().query_points(
        COLLECTION, query=vector.tolist(), using=stage.vector, limit=limit
    )
    return _table(question, hits.points)


def _table(question: str, hits: list[ScoredPoint]) -> Table:
    table = Table("score", "name", "text", title=question, title_justify="left", expand=True)
    for hit in hits:
        payload = hit.payload or {}
        first_line = str(payload.get("text", "")).strip().partition("\n")[0]
        table.add_row(f"{hit.score:.2f}", str(payload.get("name", "")), first_line)
    return table


def _pointer() -> Path:
    return user_state_path("fastembed_stream") / "kept"


def _remember(folder: Path) -> None:
    _pointer().parent.mkdir(parents=True, exist_ok=True)
    _pointer().write_text(str(folder.resolve()), encoding="utf-8")


def _remembered() -> Path:
    try:
        return Path(_pointer().read_text(encoding="utf-8"))
    except OSError as error:
        msg = "Nothing was kept yet. Make a collection: fastembed-stream demo --keep DIR"
        raise SettingError(msg) from error
