"""The tables of the pages are those of the code."""

from __future__ import annotations

import re
from typing import get_args

import pytest
from prometheus_client import REGISTRY
from pydantic import SecretStr

from flows.settings import Process
from operators import dead_letter, metrics
from operators.records import Failure, Message
from tests.documentation.pages import PAGES, ROOT
from tests.documentation.reference import FLOWS, MARKED, SHARED, current

WRITE = "python -m tests.documentation.reference"

MADE = [
    (page, found["what"], found["name"], found["content"])
    for page, text in PAGES.items()
    for found in MARKED.finditer(text)
]


@pytest.mark.parametrize(("page", "what", "name", "content"), MADE)
def test_each_part_that_is_made_from_the_code_is_current(
    page: str, what: str, name: str | None, content: str
) -> None:
    wanted = current(what, name)
    assert content == wanted, f"{page}: run `{WRITE}`, or put this between the marks:\n\n{wanted}"


def test_no_part_that_is_made_from_the_code_has_lost_its_marks() -> None:
    examples = [("example", path.name) for path in (ROOT / "examples").glob("own_*.py")]
    settings = [("settings", name) for name in (SHARED, *FLOWS)]
    marked = [(what, name) for _, what, name, _ in MADE]
    assert sorted(marked, key=str) == sorted([*settings, *examples, ("commands", None)], key=str)


@pytest.mark.parametrize("settings", FLOWS.values(), ids=FLOWS)
def test_every_setting_says_what_it_means_and_no_secret_has_a_default(
    settings: type[Process],
) -> None:
    for name, field in settings.model_fields.items():
        assert field.description, name
        if SecretStr in get_args(field.annotation):
            assert field.default is None, name


def test_the_table_of_metrics_has_each_one_and_no_other() -> None:
    page = PAGES["docs/metrics.md"]
    named = set(re.findall(r"^\| `(stream_[a-z_]+)", page, re.MULTILINE))
    assert metrics.RECORDS_READ in REGISTRY._collector_to_names
    kept = {
        name
        for family in REGISTRY.collect()
        if family.name.startswith("stream_")
        for name in [family.name + ("_total" if family.type == "counter" else "")]
    }
    assert named == kept


def test_the_table_of_dead_letter_headers_has_each_one_and_no_other() -> None:
    page = PAGES["docs/dead-letters.md"]
    cells = re.findall(r"^\| (`__connect[^|]+) \|", page, re.MULTILINE)
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
