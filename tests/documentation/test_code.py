"""The Python of the pages runs, alone and offline."""

from __future__ import annotations

import ast
import importlib
import re
import runpy
from pathlib import Path

import pytest

from fastembed_stream import catalog
from operators import Server
from tests.documentation.pages import CONTRIBUTING, PAGES, all_blocks, blocks


def named(place: tuple[str, str]) -> str:
    page, code = place
    return f"{page}: {code.strip().splitlines()[0]}"


@pytest.mark.parametrize("place", all_blocks("python"), ids=named)
def test_each_python_block_runs_alone_and_offline(
    place: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("FASTEMBED_CACHE_PATH", str(tmp_path / "cache"))
    monkeypatch.setattr(catalog, "_ROWS", dict(catalog._ROWS))  # a row of one block is its own
    script = tmp_path / "block.py"
    script.write_text(place[1], encoding="utf-8")
    try:
        runpy.run_path(str(script))
    finally:
        Server(memory=True).close()


@pytest.mark.parametrize("place", all_blocks("py"), ids=named)
def test_each_python_block_that_needs_a_hub_uses_what_there_is(place: tuple[str, str]) -> None:
    _, code = place
    tree = ast.parse(code)
    [imported] = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    module = importlib.import_module(imported.module or "")
    [name] = [alias.name for alias in imported.names]
    known = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert all(hasattr(getattr(module, name), attribute) for attribute in known)
    [opened, *_] = re.findall(rf'{name}\("([^"]+)"\)', code)
    assert catalog.named(opened)


def test_the_python_of_contributing_builds_a_row() -> None:
    found = blocks("python", CONTRIBUTING)
    assert found
    for code in found:
        exec(compile(code, "CONTRIBUTING.md", "exec"), {})  # noqa: S102  our own file


def test_python_stands_in_blocks_that_a_test_runs_or_reads() -> None:
    """Another word for the language, or words after it, would hide a block from the tests above."""
    fences = re.findall(r"^ *(```+|~~~+)([^\n`]*)$", "\n".join(PAGES.values()), re.MULTILINE)
    assert {info for _, info in fences} <= {"", "python", "py", "sh", "text"}


def test_pages_of_every_kind_have_code() -> None:
    assert {page for page, _ in all_blocks("python")} >= {
        "README.md",
        "docs/library.md",
        "docs/collections.md",
        "docs/search.md",
    }
