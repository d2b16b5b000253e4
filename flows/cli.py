"""The command line: `fastembed-stream --help`."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Optional

import typer
from rich.console import Console
from rich.table import Table

from fastembed_stream import FastembedStreamError, Fetching, catalog, locate
from fastembed_stream.fastembed_api import TextEmbedding

__all__ = ["app"]

app = typer.Typer(
    help="Streams of text, embedded where they flow and searchable within seconds.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

_MOST_HITS = 100


@app.callback()
def _logging(*, verbose: Annotated[bool, typer.Option(help="Show what happens.")] = False) -> None:
    logging.basicConfig(level=logging.INFO if verbose else logging.ERROR)


@app.command()
def demo(
    documents: Annotated[int, typer.Option(min=1, help="How many docstrings.")] = 1_500,
    keep: Annotated[Optional[Path], typer.Option(help="Leave the collection here.")] = None,  # noqa: UP045  typer reads it on 3.10
) -> None:
    """Run the main job here: broker, flow, model, collection, questions."""
    from flows import demo as job

    _guarded(lambda: job.run(Console(), n_documents=documents, keep=keep))


@app.command()
def search(
    question: str,
    folder: Annotated[Optional[Path], typer.Option("--dir", help="A kept collection.")] = None,  # noqa: UP045
    limit: Annotated[int, typer.Option(min=1, max=_MOST_HITS)] = 5,
) -> None:
    """Ask the collection that `demo --keep` left."""
    from flows import demo as job

    _guarded(lambda: Console().print(job.search(question, folder=folder, limit=limit)))


@app.command()
def models(*, as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
    """List the models that are known by name."""
    if as_json:
        typer.echo(json.dumps(TextEmbedding.list_supported_models(), indent=1))
        return
    table = Table("name", "dim", "tokens", "GB", "licence", "pooling")
    for model in catalog.models():
        pooling = str(asdict(model.recipe).get("pooling", "static"))
        row = (model.dim, model.max_tokens or "", model.size_gb, model.license, pooling)
        table.add_row(model.name, *map(str, row))
    Console().print(table)


@app.command()
def fetch(
    names: list[str],
    cache_dir: Annotated[Optional[Path], typer.Option(help="Keep the files here.")] = None,  # noqa: UP045
) -> None:
    """Fetch models ahead, for machines that work without network."""
    console = Console()

    def fetch_all() -> None:
        for name in names:
            with console.status(f"fetching {name}"):
                folder = locate(catalog.find(name), fetching=Fetching(cache_dir=cache_dir))
            console.print(f"{name}: {folder}")

    _guarded(fetch_all)


def _guarded(work: Callable[[], None]) -> None:
    """Show an error of our own as one line, not as a traceback."""
    try:
        work()
    except FastembedStreamError as error:
        Console(stderr=True).print(f"[red]error:[/red] {error}", highlight=False)
        raise typer.Exit(1) from error


if __name__ == "__main__":
    app()
