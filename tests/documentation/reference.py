"""
What stands in the pages and is made from the code: settings, command line, examples.

    python -m tests.documentation.reference

writes it between its marks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from typer.main import get_command

from flows.cli import app
from flows.settings import (
    PREFIX,
    HybridSettings,
    ImageSettings,
    Process,
    QuerySettings,
    TextSettings,
)
from tests.documentation.pages import DOCS, ROOT

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

SHARED = "shared"
FLOWS: dict[str, type[Process]] = {
    "text_to_qdrant": TextSettings,
    "hybrid_to_qdrant": HybridSettings,
    "images_to_qdrant": ImageSettings,
    "rerank_queries": QuerySettings,
}

MARKED = re.compile(
    r"(?P<start><!-- (?P<what>settings|commands|example)(: (?P<name>[\w.]+))? -->\n)"
    r"(?P<content>.*?)(?P<end><!-- /(?P=what) -->)",
    re.DOTALL,
)
"""A part of a page that is made from the code."""


def current(what: str, name: str | None) -> str:
    """Return what has to stand between the marks."""
    match what:
        case "settings":
            return settings_tables()[name or ""]
        case "commands":
            return command_reference()
        case _:
            code = (ROOT / "examples" / (name or "")).read_text(encoding="utf-8")
            return f"```python\n{code}```\n"


def settings_tables() -> dict[str, str]:
    """Return the table of what all flows share, and one of what each has besides."""
    rows = {flow: rows_of(settings) for flow, settings in FLOWS.items()}
    first, *others = rows.values()
    shared = [row for row in first if all(row in more for more in others)]
    tables = {SHARED: shared} | {
        flow: [row for row in more if row not in shared] for flow, more in rows.items()
    }
    return {name: table("variable", rows) for name, rows in tables.items()}


def table(first: str, rows: list[str]) -> str:
    """Return a table of names with their defaults and meanings."""
    return "\n".join([f"| {first} | default | meaning |", "| --- | --- | --- |", *rows]) + "\n"


def rows_of(settings: type[Process]) -> list[str]:
    """Return a row for each setting."""
    return [
        f"| `{PREFIX}{name.upper()}` | {default_of(field)} | {meaning_of(field)} |"
        for name, field in settings.model_fields.items()
    ]


def default_of(field: FieldInfo) -> str:
    """Return the default of a setting as its variable has it."""
    if field.is_required():
        return "required"
    match field.default:
        case None | () | "":
            return ""
        case bool() as value:
            return f"`{str(value).lower()}`"
        case value:
            return f"`{value}`"


def meaning_of(field: FieldInfo) -> str:
    """Return the choices of a setting and its description."""
    choices = [choice for choice in get_args(field.annotation) if isinstance(choice, str)]
    return _cell(choices, field.description)


def command_reference() -> str:
    """Return all commands with their arguments and options."""
    group: Any = get_command(app)
    known = [(one.name, one.callback) for one in app.registered_commands if one.callback]
    functions = {name or function.__name__: function for name, function in known}
    parts = [f"{group.help}\n\n{_options(group, {})}"]
    for name, command in group.commands.items():
        usage = " ".join(["fastembed-stream", name, "[OPTIONS]", *_arguments(command)])
        hints = get_type_hints(functions[name])
        parts.append(f"## {name}\n\n{command.help}\n\n```text\n{usage}\n```\n")
        parts.append(_options(command, hints))
    return "\n".join(parts)


def _arguments(command: Any) -> Iterator[str]:
    for one in command.params:
        if one.param_type_name == "argument":
            yield f"{one.name.upper()}{'...' if one.nargs < 0 else ''}"


def _options(command: Any, hints: dict[str, object]) -> str:
    rows = []
    for one in command.params:
        if one.name.endswith("_completion"):  # of the shell, and the same in every program
            continue
        is_argument = one.param_type_name == "argument"
        names = [one.name.upper()] if is_argument else [*one.opts, *one.secondary_opts]
        meaning = _cell(_choices(hints.get(one.name)), one.help)
        rows.append(f"| {_code(names)} | {_default(one)} | {meaning} |")
    return table("argument or option", rows)


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    value = parameter.default
    if value is None or isinstance(value, bool):
        return ""
    return f"`{value.value if isinstance(value, Enum) else value}`"


def _choices(hint: object) -> list[str]:
    kinds = [hint, *get_args(hint)]
    return [one.value for kind in kinds if _is_enum(kind) for one in kind]


def _is_enum(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Enum)


def _code(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _cell(choices: list[str], meaning: str | None) -> str:
    named = f"{_code(choices)}: " if choices else ""
    return (named + (meaning or "")).replace("|", "\\|")


def updated(text: str) -> str:
    """Return a page with all its marked parts as the code is now."""
    return MARKED.sub(
        lambda found: found["start"] + current(found["what"], found["name"]) + found["end"], text
    )


def main() -> None:
    """Write all pages anew."""
    for path in sorted(DOCS.rglob("*.md")):
        text = path.read_text(encoding="utf-8")
        path.write_text(updated(text), encoding="utf-8")


if __name__ == "__main__":
    main()
