"""
Every flow on any machine: a real broker, real models, a real collection; nothing is fetched.

`run` shows one of the four flows, `search` asks what was kept of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from flows.demo import hybrid, images, rerank, text
from flows.demo.asking import MODEL
from flows.demo.documents import Document, docstrings
from flows.demo.kept import remember
from flows.demo.place import Place, opened
from flows.demo.searching import MODES, search
from operators import STOP

__all__ = ["FLOWS", "MODEL", "MODES", "Document", "docstrings", "run", "search"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Flow:
    """
    One demonstration.

    show         what it does
    n_documents  how many fit well within three minutes on two cores
    """

    show: Callable[[Place, int], None]
    n_documents: int


FLOWS: Mapping[str, _Flow] = {
    "text": _Flow(show=text.show, n_documents=1_500),
    "hybrid": _Flow(show=hybrid.show, n_documents=600),
    "images": _Flow(show=images.show, n_documents=400),
    "rerank": _Flow(show=rerank.show, n_documents=600),
}


def run(
    console: Console,
    *,
    flow: str = "text",
    n_documents: int | None = None,
    keep: Path | None = None,
    rerank_folder: Path | None = None,
) -> None:
    """
    Start the broker, run a flow over it until all is done, ask some questions, stop all.

    flow           a name of `FLOWS`
    n_documents    docstrings, or pictures; None takes what suits the flow
    keep           folder to leave the collection in, for `search`
    rerank_folder  where a cross-encoder's files are, for the flow that can use one
    """
    STOP.reset()
    wanted = FLOWS[flow]
    with ExitStack() as stack:
        place = opened(stack, console, keep, rerank_folder)
        wanted.show(place, n_documents or wanted.n_documents)
    if keep is not None:
        remember(keep)
        console.print(f'Kept in {keep}: fastembed-stream search "..." asks it', markup=False)
