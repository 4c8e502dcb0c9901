"""README and the pages in docs/, and what stands in their tables."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = next(each for each in Path(__file__).resolve().parents if (each / "pyproject.toml").exists())
README = ROOT / "README.md"
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
DOCS = ROOT / "docs"
PAGES = (README, *sorted(DOCS.glob("*.md")))
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def lines(page: Path, head: str) -> list[str]:
    """The rows of the tables whose first line begins with `head`, as they stand there."""
    tables = re.findall(rf"^\| {head} \|.*\n[|: -]+\n((?:\|.*\n)+)", text_of(page), re.MULTILINE)
    assert tables, f"{page.name} has no table of {head}"
    return "".join(tables).splitlines()


def rows(page: Path, head: str) -> list[list[str]]:
    """Their cells."""
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines(page, head)]


def names(cell: str) -> list[str]:
    """What stands in code."""
    return re.findall(r"`([^`]+)`", cell)
