"""The command line: `fastembed-stream --help`."""

from __future__ import annotations

if __name__ == "__main__":  # before the imports that take a second, in which Ctrl-C may come
    from flows.main import main

    main()

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from enum import Enum
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Optional

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TransferSpeedColumn,
)
from rich.table import Column, Table
from rich.text import Text

from fastembed_stream import (
    FastembedStreamError,
    Fetching,
    Model,
    ModelFilesError,
    SettingError,
    catalog,
    locate,
)
from fastembed_stream.files.fetching import is_offline
from fastembed_stream.files.reach import check_reach
from fastembed_stream.kinds import KINDS
from flows.telling import log_to_stderr

__all__ = ["app"]

app = typer.Typer(
    help="Streams of text and images, embedded where they flow and searchable within seconds.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

_MOST_HITS = 100
_WIDE = 1_000
_CROSS_ENCODER = "Xenova/ms-marco-MiniLM-L-6-v2"


def _tell_version(asked: bool) -> None:  # noqa: FBT001  typer's own form
    if asked:
        typer.echo(f"fastembed-stream {version('fastembed-stream')}")
        raise typer.Exit


@app.callback()
def _settle(
    *,
    verbose: Annotated[bool, typer.Option(help="Show what happens.")] = False,
    tell_version: Annotated[  # noqa: ARG001  its callback does it
        bool,
        typer.Option("--version", help="Show the version.", is_eager=True, callback=_tell_version),
    ] = False,
) -> None:
    log_to_stderr(logging.INFO if verbose else logging.ERROR, logging.BASIC_FORMAT)


class _Flow(Enum):
    """The flows; written out, since importing them is dear."""

    TEXT = "text"
    HYBRID = "hybrid"
    IMAGES = "images"
    RERANK = "rerank"


class _Mode(Enum):
    """The modes of search."""

    DENSE = "dense"
    SPARSE = "sparse"
    HYBRID = "hybrid"
    LATE = "late"
    MUVERA = "muvera"
    IMAGE = "image"


@app.command()
def demo(
    *,
    flow: Annotated[_Flow, typer.Option(help="Which of the flows.")] = _Flow.TEXT,
    documents: Annotated[
        Optional[int],  # noqa: UP045  typer reads it on 3.10
        typer.Option(min=1, help="How many docstrings, or pictures; else what suits the flow."),
    ] = None,
    keep: Annotated[Optional[Path], typer.Option(help="Leave the collection here.")] = None,  # noqa: UP045
    rerank_folder: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Files of a cross-encoder, for the flow rerank."),
    ] = None,
) -> None:
    """Run a flow here: broker, models, collection, questions; nothing is fetched."""
    from flows import demo as job

    def show() -> None:
        if rerank_folder is not None and flow is not _Flow.RERANK:
            msg = f"--rerank-folder is for --flow rerank; {flow.value} puts nothing in order."
            raise SettingError(msg)
        job.run(
            Console(),
            flow=flow.value,
            n_documents=documents,
            keep=keep,
            rerank_folder=rerank_folder,
        )

    _guarded(show)


@app.command()
def search(
    question: Annotated[str, typer.Argument(help="A text; of mode image, a picture's path.")],
    *,
    mode: Annotated[Optional[_Mode], typer.Option(help="Else hybrid, dense or image.")] = None,  # noqa: UP045
    rerank: Annotated[
        bool, typer.Option("--rerank", help=f"Put hits in order by {_CROSS_ENCODER}.")
    ] = False,
    rerank_folder: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Its files; else they are fetched."),
    ] = None,
    folder: Annotated[Optional[Path], typer.Option("--dir", help="A kept collection.")] = None,  # noqa: UP045
    limit: Annotated[int, typer.Option(min=1, max=_MOST_HITS)] = 5,
) -> None:
    """Ask the collection that `demo --keep` left."""
    from flows import demo as job

    def ask() -> None:
        if rerank_folder is not None and not rerank:
            msg = "--rerank-folder says where a cross-encoder is; add --rerank to use it."
            raise SettingError(msg)
        found = job.search(
            question,
            mode=mode.value if mode else None,
            folder=folder,
            limit=limit,
            rerank_model=_CROSS_ENCODER if rerank else None,
            rerank_folder=rerank_folder,
        )
        Console().print(found)

    _guarded(ask)


_Family = Enum("_Family", {kind.name: kind.name for kind in KINDS})  # type: ignore[misc]  # from data


@app.command()
def models(
    *,
    family: Annotated[Optional[_Family], typer.Option(help="Only this one.")] = None,  # noqa: UP045
    as_json: Annotated[bool, typer.Option("--json", help="As data, not as a table.")] = False,
) -> None:
    """List the models that are known by name."""
    rows = [row for row in catalog.models() if family is None or row.kind.name == family.value]
    if as_json:
        typer.echo(json.dumps([_facts(row) for row in rows], indent=1, default=str))
        return
    # Names are copied from here, and cut by programs: never shortened, however narrow it is.
    names = Column("name", overflow="fold")
    table = Table(names, "family", "recipe", "dim", "tokens", "GB", "licence")
    for row in rows:
        sizes = (row.dim or "", row.max_tokens or "", row.size_gb, row.license)
        recipe = type(row.recipe).__name__
        table.add_row(*map(escape, (row.name, row.kind.name, recipe, *map(str, sizes))))
    console = Console()
    if not console.is_terminal:
        console = Console(width=max(console.width, Console(width=_WIDE).measure(table).maximum))
    console.print(table)


def _facts(row: Model) -> dict[str, object]:
    return {
        **asdict(row),
        "family": row.kind.name,
        "recipe": {"name": type(row.recipe).__name__, **asdict(row.recipe)},
    }


@app.command()
def fetch(
    names: list[str],
    cache_dir: Annotated[Optional[Path], typer.Option(help="Keep the files here.")] = None,  # noqa: UP045
) -> None:
    """Fetch models ahead, for machines that work without network."""
    console = Console()

    def fetch_all() -> None:
        rows = [row for name in names for row in catalog.named(name)]
        failed = [row.name for row in rows if not _fetched(console, row, cache_dir)]
        if failed:
            msg = f"{len(failed)} of {len(rows)} models were not fetched: {', '.join(failed)}."
            raise ModelFilesError(msg)

    _guarded(fetch_all)


def _fetched(console: Console, row: Model, cache_dir: Path | None) -> bool:
    """Fetch one model, and say where it is, or why it is not there."""
    try:
        folder = _located(console, row, cache_dir)
    except FastembedStreamError as error:
        _show_error(error)
        return False
    console.print(f"{row.name} ({row.kind.name}): {folder}", soft_wrap=True, markup=False)
    return True


def _located(console: Console, row: Model, cache_dir: Path | None) -> Path:
    try:
        return locate(row, fetching=Fetching(cache_dir=cache_dir, offline=True))
    except ModelFilesError:
        if not is_offline(Fetching()):
            check_reach(row)
    with _fetch_progress(console) as watch:
        return locate(row, fetching=Fetching(cache_dir=cache_dir, watch=watch))


@contextmanager
def _fetch_progress(console: Console) -> Iterator[Callable[[str, int, Optional[int]], None]]:  # noqa: UP045
    """Show a bar for each file that is on its way."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn())
    with Progress(*columns, TransferSpeedColumn(), console=console) as progress:
        bars: dict[str, TaskID] = {}

        def watch(name: str, n_here: int, n_total: int | None) -> None:
            if name not in bars:
                bars[name] = progress.add_task(name)
            progress.update(bars[name], completed=n_here, total=n_total)

        yield watch


def _guarded(work: Callable[[], None]) -> None:
    """Show an error of our own as one line, not as a traceback."""
    try:
        work()
    except FastembedStreamError as error:
        _show_error(error)
        raise typer.Exit(1) from error


def _show_error(error: FastembedStreamError) -> None:
    # Not as markup: it may name [demo], or a file whose name has brackets.
    line = Text.assemble(("error:", "red"), f" {error}")
    Console(stderr=True).print(line, soft_wrap=True)
