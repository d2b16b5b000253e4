"""Links lead somewhere, pages are found, and files that are named are there. All offline."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.documentation.pages import DOCS, DOCUMENTS, PAGES, ROOT, anchors, links

SITE: dict[str, Any] = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
DECISIONS = sorted((DOCS / "decisions").glob("[0-9]*.md"))
WALKS = ("The walk of a record", "The walk of a question", "The walk of a model's name")


@pytest.mark.parametrize("page", DOCUMENTS)
def test_every_link_of_a_document_leads_somewhere(page: str) -> None:
    for target in links(DOCUMENTS[page]):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        path = (ROOT / page).parent / name if name else ROOT / page
        assert path.exists(), target
        if anchor:
            assert anchor in anchors(path.read_text(encoding="utf-8")), target


@pytest.mark.parametrize("page", PAGES)
def test_a_page_of_the_site_links_to_pages_of_the_site(page: str) -> None:
    """What lies outside docs/ is not there once the site is built."""
    for target in links(PAGES[page]):
        if not target.startswith(("http://", "https://", "#")):
            path = ((ROOT / page).parent / target.partition("#")[0]).resolve()
            assert path.is_relative_to(DOCS), target
            assert path.suffix == ".md", f"{target}: a link names the page, not its folder"


def test_every_page_is_in_the_navigation_once() -> None:
    listed = [f"docs/{page}" for page in _pages_of(SITE["nav"])]
    assert sorted(listed) == sorted(PAGES)


def _pages_of(nav: object) -> list[str]:
    match nav:
        case str():
            return [nav]
        case dict():
            return [page for part in nav.values() for page in _pages_of(part)]
        case list():
            return [page for part in nav for page in _pages_of(part)]
        case _:
            raise TypeError(nav)


def test_every_page_is_reached_from_the_readme() -> None:
    seen: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        path = waiting.pop().resolve()
        if path in seen or path.suffix != ".md":
            continue
        seen.add(path)
        targets = links(path.read_text(encoding="utf-8"))
        relative = [target for target in targets if not target.startswith(("http", "#"))]
        waiting += [path.parent / target.partition("#")[0] for target in relative]
    assert {*DOCS.rglob("*.md")} - {DOCS / "index.md"} <= seen  # the site's own front page


def test_every_decision_has_a_number_of_its_own_and_is_listed_by_its_title() -> None:
    titles = [path.read_text(encoding="utf-8").partition("\n")[0] for path in DECISIONS]
    numbers = [path.name[:4] for path in DECISIONS]
    assert numbers == [f"{n:04}" for n in range(1, len(DECISIONS) + 1)]
    assert [title[2:6] for title in titles] == numbers
    rows = [
        f"| [{number}]({path.name}) | {title[7:]} |"
        for number, path, title in zip(numbers, DECISIONS, titles, strict=True)
    ]
    index = PAGES["docs/decisions/index.md"]
    assert re.findall(r"^\| \[.*$", index, re.MULTILINE) == rows


def test_every_decision_that_is_named_by_its_number_exists() -> None:
    numbers = {path.name[:4] for path in DECISIONS}
    text = "\n".join(DOCUMENTS.values())
    assert set(re.findall(r"\b[Dd]ecision (\d{4})\b|decisions/(\d{4})\b", text))
    for one, other in re.findall(r"\b[Dd]ecision (\d{4})\b|decisions/(\d{4})\b", text):
        assert (one or other) in numbers


def test_every_folder_of_the_architecture_is_there_and_every_folder_is_in_it() -> None:
    page = PAGES["docs/architecture.md"]
    named = set(re.findall(r"^\| `([a-z_/]+/)` \|", page, re.MULTILINE))
    for folder in named:
        assert (ROOT / folder).is_dir(), folder
    packages = {
        f"{path.parent.relative_to(ROOT)}/"
        for package in ("fastembed_stream", "operators", "flows")
        for path in (ROOT / package).rglob("__init__.py")
        if path.parent.name != "limits"  # a folder of pixels, named with it
    }
    assert packages <= named


@pytest.mark.parametrize("walk", WALKS)
def test_each_file_of_a_walk_is_there_and_entered_once(walk: str) -> None:
    page = PAGES["docs/architecture.md"]
    part = page.partition(f"\n## {walk}\n")[2].partition("\n## ")[0]
    files = re.findall(r"^\| `([\w/]+\.py)` \|", part, re.MULTILINE)
    assert files
    assert len(files) == len(set(files))
    for file in files:
        assert (ROOT / file).is_file(), file


def test_every_file_that_a_page_names_in_full_is_there() -> None:
    folders = "fastembed_stream|operators|flows|tests|examples|docker|docs"
    text = "\n".join(DOCUMENTS.values())
    for file in set(re.findall(rf"`((?:{folders})/[\w/.-]+\.(?:py|md|yaml|yml))`", text)):
        assert (ROOT / file).is_file(), file
