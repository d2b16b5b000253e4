"""The documents of the project, and what stands in them: code, commands, links, headings."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

_GENERATED_CODE = re.compile(r"<!-- example: [\w.]+ -->\n.*?<!-- /example -->", re.DOTALL)


def _read(path: Path) -> tuple[str, str]:
    return str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")


README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")

PAGES: dict[str, str] = dict(map(_read, sorted(DOCS.rglob("*.md"))))
"""The site, by path from the project's root."""

GUIDE: dict[str, str] = {"README.md": README} | PAGES
"""What users read to run the project."""

DOCUMENTS: dict[str, str] = GUIDE | dict(
    _read(ROOT / name) for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
)
"""Everything that is written for people."""


def blocks(language: str, text: str) -> list[str]:
    """Return the fenced blocks of a language, without those that are copies of a file."""
    own = _GENERATED_CODE.sub("", text)
    return re.findall(rf"^```{language}\n(.*?)^```$", own, re.DOTALL | re.MULTILINE)


def all_blocks(language: str) -> list[tuple[str, str]]:
    """Return page and code of each block of a language in the guide."""
    return [(page, code) for page, text in GUIDE.items() for code in blocks(language, text)]


def commands() -> list[list[str]]:
    """Return every command of the guide's shell blocks as words, without comments."""
    lines = [line for _, block in all_blocks("sh") for line in block.splitlines()]
    lines = [part for line in lines for part in line.split(" && ")]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def environments() -> list[tuple[str, list[list[str]]]]:
    """Return the blocks that set variables and then run a flow, line by line in words."""
    found = [
        (page, [shlex.split(line) for line in block.splitlines()])
        for page, block in all_blocks("sh")
    ]
    return [
        (page, lines)
        for page, lines in found
        if lines[0][0] == "export" and lines[-1][0] == "python"
    ]


def prose(text: str) -> str:
    """Return a document without its code, in which a bracket is no link and `#` no heading."""
    fences = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]*`", "", fences)


def links(text: str) -> list[str]:
    """Return the targets of all links."""
    return re.findall(r"\]\(([^)\s]+)\)", prose(text))


def anchors(text: str) -> set[str]:
    """Return the anchors of all headings, as GitHub and the site name them."""
    code = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.+)$", code, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
