"""What README.md says is true: its code runs, its commands exist, its tables are the code's."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import runpy
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import pytest
from bytewax import run as bytewax_run
from prometheus_client import REGISTRY
from pydantic import SecretStr
from typer.main import get_command

from fastembed_stream import catalog
from flows.cli import app
from flows.settings import (
    PREFIX,
    HybridSettings,
    ImageSettings,
    Process,
    QuerySettings,
    TextSettings,
)
from operators import Server, dead_letter, metrics
from operators.records import Failure, Message

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")

SETTINGS = re.compile(r"<!-- settings: (\w+) -->\n(.*?)<!-- /settings -->", re.DOTALL)
SHARED = "shared"
FLOWS: dict[str, type[Process]] = {
    "text_to_qdrant": TextSettings,
    "hybrid_to_qdrant": HybridSettings,
    "images_to_qdrant": ImageSettings,
    "rerank_queries": QuerySettings,
}


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def commands() -> list[list[str]]:
    """Give every command of the shell blocks as words, without comments."""
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    lines = [part for line in lines for part in line.split(" && ")]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def environments() -> list[list[list[str]]]:
    """Give the blocks that set variables and then run a flow, line by line in words."""
    found = [[shlex.split(line) for line in block.splitlines()] for block in blocks("sh")]
    return [lines for lines in found if lines[0][0] == "export" and lines[-1][0] == "python"]


def settings_tables() -> dict[str, str]:
    """Give the table of what all flows share, and one of what each is told besides."""
    rows = {flow: rows_of(settings) for flow, settings in FLOWS.items()}
    first, *others = rows.values()
    shared = [row for row in first if all(row in more for more in others)]
    tables = {SHARED: shared} | {
        flow: [row for row in more if row not in shared] for flow, more in rows.items()
    }
    head = ["| variable | default | meaning |", "| --- | --- | --- |"]
    return {name: "\n".join([*head, *table]) + "\n" for name, table in tables.items()}


def rows_of(settings: type[Process]) -> list[str]:
    return [
        f"| `{PREFIX}{name.upper()}` | {default_of(field)} | {meaning_of(field)} |"
        for name, field in settings.model_fields.items()
    ]


def default_of(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    match field.default:
        case None | () | "":
            return ""
        case bool() as value:
            return f"`{str(value).lower()}`"
        case dict() as value:
            return f"`{value}`"
        case value:
            return f"`{value}`"


def meaning_of(field: FieldInfo) -> str:
    choices = [choice for choice in get_args(field.annotation) if isinstance(choice, str)]
    named = f"{', '.join(f'`{choice}`' for choice in choices)}: " if choices else ""
    return (named + (field.description or "")).replace("|", "\\|")


@pytest.mark.parametrize("code", blocks("python"), ids=lambda code: code.strip().splitlines()[0])
def test_each_python_block_of_the_readme_runs_alone_and_offline(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("FASTEMBED_CACHE_PATH", str(tmp_path / "cache"))
    monkeypatch.setattr(catalog, "_ROWS", dict(catalog._ROWS))  # a row of one block is its own
    script = tmp_path / "block.py"
    script.write_text(code, encoding="utf-8")
    try:
        runpy.run_path(str(script))
    finally:
        Server(memory=True).close()


@pytest.mark.parametrize("code", blocks("py"), ids=lambda code: code.strip().splitlines()[0])
def test_each_python_block_that_needs_a_hub_uses_what_there_is(code: str) -> None:
    tree = ast.parse(code)
    [imported] = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    module = importlib.import_module(imported.module or "")
    [name] = [alias.name for alias in imported.names]
    known = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert all(hasattr(getattr(module, name), attribute) for attribute in known)
    [opened, *_] = re.findall(rf'{name}\("([^"]+)"\)', code)
    assert catalog.named(opened)


def test_the_python_of_contributing_builds_a_row() -> None:
    for code in blocks("python", CONTRIBUTING):
        exec(compile(code, "CONTRIBUTING.md", "exec"), {})  # noqa: S102  our own file


@pytest.mark.parametrize("name", [SHARED, *FLOWS])
def test_each_table_of_settings_is_that_of_the_code(name: str) -> None:
    found = dict(SETTINGS.findall(README))
    assert name in found, f"README.md has lost its <!-- settings: {name} --> marks"
    wanted = settings_tables()[name]
    assert found[name] == wanted, f"Put this between the marks of {name}:\n\n{wanted}"


@pytest.mark.parametrize("settings", FLOWS.values(), ids=FLOWS)
def test_every_setting_says_what_it_means_and_no_secret_has_a_default(
    settings: type[Process],
) -> None:
    for name, field in settings.model_fields.items():
        assert field.description, name
        if SecretStr in get_args(field.annotation):
            assert field.default is None, name


def test_every_variable_that_the_readme_names_is_a_setting() -> None:
    known = {
        f"{PREFIX}{name}".upper() for settings in FLOWS.values() for name in settings.model_fields
    }
    assert set(re.findall(r"\bSTREAM_[A-Z_]+[A-Z]\b", README)) <= known


def test_every_flow_there_is_has_a_section() -> None:
    factories = {
        path.stem for path in (ROOT / "flows").glob("*.py") if "def flow()" in path.read_text()
    }
    assert factories == set(FLOWS)
    for flow in factories:
        assert f"\n### {flow}\n" in README


@pytest.mark.parametrize("lines", environments(), ids=lambda lines: " ".join(lines[-1][3:4]))
def test_each_flow_accepts_the_environment_that_is_shown_with_it(
    lines: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)
    for words in lines[:-1]:
        assert words[0] == "export"
        for pair in words[1:]:
            monkeypatch.setenv(*pair.split("=", 1))
    flow = lines[-1][3].removeprefix("flows.").partition(":")[0]
    FLOWS[flow].from_environment()


def test_every_command_of_the_project_that_the_readme_names_exists() -> None:
    known = set(get_command(app).commands)  # type: ignore[attr-defined]  # a group, typed as one command
    named = {words[1] for words in commands() if words[0] == "fastembed-stream"}
    assert named <= known
    assert known <= named, "a command that the README leaves out"


@pytest.mark.parametrize(
    "words",
    [words for words in commands() if words[0] == "fastembed-stream"],
    ids=shlex.join,
)
def test_each_command_line_of_the_readme_parses(words: list[str]) -> None:
    with get_command(app).make_context(
        "fastembed-stream", words[1:], resilient_parsing=False
    ) as up:
        group: Any = up.command
        name, command, rest = group.resolve_command(up, words[1:])
        with command.make_context(name, rest, parent=up):
            pass


def test_every_module_that_the_readme_runs_is_there() -> None:
    modules = {words[2] for words in commands() if words[:2] == ["python", "-m"]}
    assert modules == {"bytewax.recovery", "bytewax.run", "tests.benchmarks"}
    for module in modules:
        spec = importlib.util.find_spec(module)
        assert spec is not None, module
        if spec.submodule_search_locations is not None:  # a package runs by its __main__
            assert importlib.util.find_spec(f"{module}.__main__") is not None, module


def test_every_flow_that_the_readme_runs_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [words for words in commands() if words[:3] == ["python", "-m", "bytewax.run"]]
    assert lines
    for words in lines:
        monkeypatch.setattr(sys, "argv", words[2:])
        arguments = bytewax_run._parse_args()  # type: ignore[no-untyped-call]  # Bytewax leaves it bare
        module, _, factory = arguments.import_str.partition(":")
        assert callable(getattr(importlib.import_module(module), factory))


def test_every_extra_that_the_readme_installs_is_declared() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    extras = set(re.findall(r"\.\[([a-z,]+)\]", README + CONTRIBUTING))
    assert extras
    for extra in extras:
        assert re.search(rf"^{extra} = \[", project, re.MULTILINE), extra


def test_the_table_of_metrics_has_each_one_and_no_other() -> None:
    section = README.partition("## Metrics")[2].partition("\n## ")[0]
    named = set(re.findall(r"^\| `(stream_[a-z_]+)", section, re.MULTILINE))
    assert metrics.RECORDS_READ in REGISTRY._collector_to_names
    kept = {
        name
        for family in REGISTRY.collect()
        if family.name.startswith("stream_")
        for name in [family.name + ("_total" if family.type == "counter" else "")]
    }
    assert named == kept


def test_the_table_of_dead_letter_headers_has_each_one_and_no_other() -> None:
    section = README.partition("## Dead letters")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`__connect[^|]+) \|", section, re.MULTILINE)
    prefix = "__connect.errors."
    named = {
        name.removeprefix(prefix).lstrip(".") for cell in cells for name in cell[1:-1].split("`, `")
    }
    origin = Message(
        topic="t",
        partition=0,
        offset=0,
        key=b"long" * 100,
        value=b"too long",
        timestamp_ms=1,
        headers=(("h", b"v"),),
    )
    failure = Failure.of(origin, "decode", ValueError("no" * 100))
    written = {
        name.removeprefix(prefix)
        for max_bytes in (1, 10_000)
        for name, _ in dead_letter.as_message(failure, "dead", "step", max_bytes).headers
        if name.startswith(prefix)
    }
    assert named == written


def test_every_link_of_the_documents_leads_somewhere() -> None:
    headings = {
        re.sub(r"[^a-z0-9 -]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in README.splitlines()
        if line.startswith("#")
    }
    for text in (README, CONTRIBUTING):
        for target in re.findall(r"\]\(([^)]+)\)", text):
            if target.startswith("#"):
                assert target[1:] in headings, target
            elif not target.startswith("http"):
                assert (ROOT / target).exists(), target


def test_every_folder_that_contributing_names_is_there() -> None:
    for folder in re.findall(r"^\| `([a-z_/]+/)` \|", CONTRIBUTING, re.MULTILINE):
        assert (ROOT / folder).is_dir(), folder
