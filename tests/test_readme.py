"""What README.md says is true: its code runs, its commands exist, its tables are the code's."""

from __future__ import annotations

import importlib.util
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
from flows.settings import PREFIX, TextSettings
from operators import Server, dead_letter, metrics
from operators.records import Failure, Message

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")

SETTINGS = re.compile(r"<!-- settings -->\n(.*?)<!-- /settings -->", re.DOTALL)


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def commands() -> list[list[str]]:
    """Give every command of the shell blocks as words, without comments."""
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    lines = [part for line in lines for part in line.split(" && ")]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def settings_table() -> str:
    rows = ["| variable | default | meaning |", "| --- | --- | --- |"]
    for name, field in TextSettings.model_fields.items():
        variable = f"`{PREFIX}{name}`".upper()
        rows.append(f"| {variable} | {default_of(field)} | {meaning_of(field)} |")
    return "\n".join(rows) + "\n"


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


def test_the_python_of_contributing_builds_a_row() -> None:
    for code in blocks("python", CONTRIBUTING):
        exec(compile(code, "CONTRIBUTING.md", "exec"), {})  # noqa: S102  our own file


def test_the_table_of_settings_is_that_of_the_code() -> None:
    found = SETTINGS.search(README)
    assert found is not None, "README.md has lost its <!-- settings --> marks"
    wanted = settings_table()
    assert found[1] == wanted, f"Put this between the settings marks of README.md:\n\n{wanted}"


def test_every_setting_says_what_it_means_and_no_secret_has_a_default() -> None:
    for name, field in TextSettings.model_fields.items():
        assert field.description, name
        if SecretStr in get_args(field.annotation):
            assert field.default is None, name


def test_every_variable_that_the_readme_names_is_a_setting() -> None:
    known = {f"{PREFIX}{name}".upper() for name in TextSettings.model_fields}
    assert set(re.findall(r"\bSTREAM_[A-Z_]+[A-Z]\b", README)) <= known


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
    origin = Message(topic="t", partition=0, offset=0, key=b"k", value=b"too long")
    failure = Failure.of(origin, "decode", ValueError("no"))
    written = dead_letter.as_message(failure, "dead", "step", max_value_bytes=1)
    assert named == {name.removeprefix(prefix) for name, _ in written.headers}


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
