"""Commands, variables, modules and extras that the pages name are there."""

from __future__ import annotations

import importlib
import importlib.util
import re
import runpy
import shlex
import sys
from typing import Any

import pytest
from bytewax import run as bytewax_run
from typer.main import get_command

from flows.cli import app
from flows.settings import PREFIX
from tests.documentation.pages import CONTRIBUTING, GUIDE, PAGES, ROOT, commands, environments
from tests.documentation.reference import FLOWS

ALL = "\n".join([*GUIDE.values(), CONTRIBUTING])


def test_every_variable_that_is_named_is_a_setting() -> None:
    known = {
        f"{PREFIX}{name}".upper() for settings in FLOWS.values() for name in settings.model_fields
    }
    assert set(re.findall(r"\bSTREAM_[A-Z_]+[A-Z]\b", ALL)) <= known


def test_every_flow_there_is_has_a_page() -> None:
    factories = {
        path.stem for path in (ROOT / "flows").glob("*.py") if "def flow()" in path.read_text()
    }
    assert factories == set(FLOWS)
    for flow in factories:
        assert PAGES[f"docs/flows/{flow}.md"].startswith(f"# {flow}\n")


@pytest.mark.parametrize("flow", FLOWS)
def test_the_page_of_a_flow_shows_how_it_is_run(flow: str) -> None:
    assert flow in [
        lines[-1][3].removeprefix("flows.").partition(":")[0]
        for page, lines in environments()
        if page == f"docs/flows/{flow}.md"
    ]


@pytest.mark.parametrize(
    "place", environments(), ids=lambda place: f"{place[0]}: {place[1][-1][3]}"
)
def test_each_flow_accepts_the_environment_that_is_shown_with_it(
    place: tuple[str, list[list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, lines = place
    for words in lines[:-1]:
        assert words[0] == "export"
        for pair in words[1:]:
            monkeypatch.setenv(*pair.split("=", 1))
    flow = lines[-1][3].removeprefix("flows.").partition(":")[0]
    FLOWS[flow].from_environment()


def test_every_command_of_the_project_that_is_named_exists() -> None:
    known = set(get_command(app).commands)  # type: ignore[attr-defined]  # a group, typed as one command
    named = {words[1] for words in commands() if words[0] == "fastembed-stream"}
    assert named <= known
    assert known <= named, "a command that the pages leave out"


@pytest.mark.parametrize(
    "words",
    [words for words in commands() if words[0] == "fastembed-stream"],
    ids=shlex.join,
)
def test_each_command_line_parses(words: list[str]) -> None:
    with get_command(app).make_context(
        "fastembed-stream", words[1:], resilient_parsing=False
    ) as up:
        group: Any = up.command
        name, command, rest = group.resolve_command(up, words[1:])
        with command.make_context(name, rest, parent=up):
            pass


def test_every_module_that_is_run_is_there() -> None:
    modules = {words[2] for words in commands() if words[:2] == ["python", "-m"]}
    assert modules == {"bytewax.recovery", "bytewax.run", "tests.benchmarks"}
    for module in modules | set(re.findall(r"`python -m ([\w.]+)", ALL)):
        spec = importlib.util.find_spec(module)
        assert spec is not None, module
        if spec.submodule_search_locations is not None:  # a package runs by its __main__
            assert importlib.util.find_spec(f"{module}.__main__") is not None, module


def test_every_flow_that_is_run_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [words for words in commands() if words[:3] == ["python", "-m", "bytewax.run"]]
    assert lines
    for words in lines:
        monkeypatch.setattr(sys, "argv", words[2:])
        arguments = bytewax_run._parse_args()  # type: ignore[no-untyped-call]  # Bytewax leaves it bare
        module, _, factory = arguments.import_str.partition(":")
        assert callable(_names_of(module)[factory])


def _names_of(module: str) -> dict[str, Any]:
    if module.endswith(".py"):
        return runpy.run_path(str(ROOT / module))
    return vars(importlib.import_module(module))


def test_every_example_is_shown_how_to_run_and_no_other() -> None:
    there = {f"examples/{path.name}" for path in (ROOT / "examples").glob("*.py")}
    assert set(re.findall(r"\bpython (examples/\w+\.py)\b", ALL)) == there


def test_every_extra_that_is_installed_is_declared() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    extras = {one for some in re.findall(r"\.\[([a-z,]+)\]", ALL) for one in some.split(",")}
    assert extras
    for extra in extras:
        assert re.search(rf"^{extra} = \[", project, re.MULTILINE), extra


def test_the_readme_is_short_and_has_what_a_newcomer_looks_for() -> None:
    readme = GUIDE["README.md"]
    assert len(readme.encode()) < 10_000, "longer texts go to a page"
    assert 'pip install -e ".[demo]" && fastembed-stream demo' in readme
    assert 'pip install -e ".[test]" && pytest' in readme
    for heading in ("Try it", "As a library", "A flow", "What is where", "Speed", "Limits"):
        assert f"\n## {heading}\n" in readme


def test_each_figure_of_the_readme_is_one_of_the_benchmarks() -> None:
    figures = re.compile(r"<!-- speed -->\n(.*?)<!-- /speed -->", re.DOTALL)
    [short], [full] = (figures.findall(GUIDE[page]) for page in ("README.md", "docs/benchmarks.md"))
    assert short.splitlines()
    assert set(short.splitlines()) <= set(full.splitlines())
