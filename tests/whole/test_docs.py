"""The documents hang together: every link and anchor leads somewhere, every page is in the nav.

It needs neither a network nor the tool that makes the site, which checks the same in its own way.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers_pages import CONTRIBUTING, DOCS, FENCE, PAGES, README, ROOT, names, rows, text_of

import greenroom
import greenroom.messages

CODE = re.compile(r"`[^`\n]*`")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
README_LINES = 200


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return FENCE.sub("", text_of(page))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site's tool both name them."""
    found: set[str] = set()
    for heading in HEADING.findall(prose(page)):
        words = re.sub(r"[^\w\- ]", "", heading.lower()).strip()
        anchor = words.replace(" ", "-")
        if "--" not in anchor:  # the one keeps what the other makes one hyphen of
            found.add(anchor)
    return found


def links(page: Path) -> list[str]:
    """Where a page's links lead, those of other sites left out."""
    text = re.sub(r"\[`([^`\n]*)`\]", r"[\1]", prose(page))
    return [target for target in LINK.findall(CODE.sub("", text)) if "://" not in target]


def problems(page: Path) -> Iterator[str]:
    """What is wrong with a page's links."""
    for target in links(page):
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        if not file.exists():
            yield f"{target}: no such file"
        elif anchor and anchor not in anchors(file):
            yield f"{target}: no such heading"
        elif page.parent == DOCS and DOCS not in file.parents:
            yield f"{target}: not a page of the site"


@pytest.mark.parametrize("page", [*PAGES, CONTRIBUTING], ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    """A link to a file has its file, a link to a heading its heading; pages link to pages alone."""
    assert not list(problems(page))


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    """A missing file, a missing heading here and there; what stands in code is no link."""
    other = tmp_path / "other.md"
    other.write_text("# Other\n\n## A heading, with a comma\n")
    page = tmp_path / "page.md"
    page.write_text(
        "# Page\n\n[a](gone.md) [b](#gone) [`c`](other.md#gone)"
        " [d](other.md#a-heading-with-a-comma) `[e](gone.md)` [f](https://example.org/#gone)\n\n```text\n[g](gone.md)\n```\n"
    )
    assert list(problems(page)) == [
        "gone.md: no such file",
        "#gone: no such heading",
        "other.md#gone: no such heading",
    ]


def test_no_two_headings_of_a_page_share_an_anchor() -> None:
    """The second one could not be linked to."""
    for page in (*PAGES, CONTRIBUTING):
        headings = HEADING.findall(prose(page))
        assert len(headings) == len({heading.lower() for heading in headings}), page.name


def in_nav(entry: Any) -> list[str]:
    """The pages that a part of the nav names."""
    if isinstance(entry, str):
        return [entry]
    inside = entry.values() if isinstance(entry, dict) else entry
    return [page for each in inside for page in in_nav(each)]


def test_every_page_is_in_the_nav_and_the_index() -> None:
    """The site's nav names each page once; the index links to each of the others."""
    site = tomllib.loads(text_of(ROOT / "zensical.toml"))["project"]
    pages = sorted(page.name for page in DOCS.glob("*.md"))
    assert sorted(in_nav(site["nav"])) == pages
    assert sorted({*links(DOCS / "index.md"), "index.md"}) == pages


@pytest.mark.parametrize(
    "page", [DOCS / "architecture.md", CONTRIBUTING], ids=lambda page: page.name
)
def test_every_file_that_is_named_exists(page: Path) -> None:
    """A file that moves takes its name in the pages along."""
    text = text_of(page)
    named = re.findall(r"`((?:[\w.]+/)+(?:\w+\.\w+)?|\w+\.(?:py|toml|md))`", text)
    folder = ROOT
    assert named
    for name in named:
        if "/" in name:
            # A bare name after it is in the same folder.
            folder = ROOT / name if name.endswith("/") else (ROOT / name).parent
        assert (ROOT / name).exists() or (folder / name).exists(), name


def test_every_test_file_of_the_behaviours_exists() -> None:
    """A list that names tests is as good as the names; each is the name of one file only."""
    files = [file.name for file in (ROOT / "tests").rglob("test_*.py")]
    named = set(re.findall(r"`(test_\w+\.py)`", text_of(DOCS / "behaviours.md")))
    assert named
    assert not named - set(files)
    assert len(files) == len(set(files))


def test_the_readme_is_short() -> None:
    """It says what there is and where more stands; more stands in the pages."""
    assert len(text_of(README).splitlines()) <= README_LINES


def test_the_messages_and_errors_of_the_design_are_those_of_the_code() -> None:
    """Its table of messages names only what there is, its table of errors every public one."""
    said = {name for row in rows(DOCS / "design.md", "error") for name in names(row[0])}
    public = {name for name in greenroom.__all__ if _is_error(getattr(greenroom, name))}
    assert said | {"PoolError", "AttemptError"} == public
    for row in rows(DOCS / "design.md", "from, to"):
        assert all(hasattr(greenroom.messages, name) for name in names(row[1])), row[0]


def _is_error(thing: object) -> bool:
    return isinstance(thing, type) and issubclass(thing, greenroom.PoolError)


def test_the_figures_of_the_readme_are_those_of_the_performance_page() -> None:
    """The README quotes some rows of its table; a new measurement changes both."""
    whole = [cell for row in rows(DOCS / "performance.md", "case") for cell in row]
    for row in rows(README, "case"):
        assert row[1] in whole, row
        assert row[3] in whole, row
