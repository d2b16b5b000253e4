"""Documents that every machine has: the docstrings of the installed Python's standard library."""

from __future__ import annotations

import ast
import json
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

__all__ = ["QUESTIONS", "Document", "docstrings"]

QUESTIONS = (
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
