"""The command line: `fastembed-stream --help`."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import Annotated, Optional

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from fastembed_stream import (
    FastembedStreamError,
    Fetching,
    Model,
    SettingError,
    catalog,
    locate,
)
from fastembed_stream.recipes import KINDS

__all__ = ["app"]

app = typer.Typer(
    help="Streams of text and images, embedded where they flow and searchable within seconds.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

_MOST_HITS = 100
_CROSS_ENCODER = "Xenova/ms-marco-MiniLM-L-6-v2"


@app.callback()
def _logging(*, verbose: Annotated[bool, typer.Option(help="Show what happens.")] = False) -> None:
    logging.basicConfig(level=logging.INFO if verbose else logging.ERROR)


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
    table = Table("name", "family", "recipe", "dim", "tokens", "GB", "licence")
    for row in rows:
        sizes = (row.dim or "", row.max_tokens or "", row.size_gb, row.license)
        recipe = type(row.recipe).__name__
        table.add_row(row.name, row.kind.name, recipe, *map(str, sizes))
    Console().print(table)


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
        for row in rows:
            with _fetch_progress(console) as watch:
                folder = locate(row, fetching=Fetching(cache_dir=cache_dir, watch=watch))
            console.print(f"{row.name} ({row.kind.name}): {folder}", soft_wrap=True)

    _guarded(fetch_all)


@contextmanager
def _fetch_progress(console: Console) -> Iterator[Callable[[str, int, Optional[int]], None]]:  # noqa: UP045
    """Show a bar for each file that is on its way."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
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
        Console(stderr=True).print(f"[red]error:[/red] {error}", highlight=False)
        raise typer.Exit(1) from error


if __name__ == "__main__":
    app()
