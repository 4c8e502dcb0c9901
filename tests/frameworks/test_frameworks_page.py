"""`docs/frameworks.md` shows the recipes as they are measured. Behaviour 246."""

from __future__ import annotations

import re

import pytest
from helpers_pages import ROOT, text_of

from frameworks.groups import GROUPS, TESTED
from frameworks.measure import Row
from frameworks.page import (
    HEAD,
    PAGE,
    case_names,
    line_of,
    recipe_of,
    rows_of_page,
    shown_of,
    table,
    title_of,
    with_recipe,
)


@pytest.mark.parametrize("name", case_names())
def test_the_page_shows_the_recipe_that_is_measured(name: str) -> None:
    """Word for word: `python -m frameworks --write` brings it there."""
    assert shown_of(name, text_of(PAGE)) == recipe_of(name)


def test_the_table_has_a_row_of_each_case_in_the_form_of_the_script() -> None:
    """A case without a row and a row without a case are found, and so is an empty cell."""
    rows = rows_of_page()
    assert list(rows) == sorted(map(title_of, case_names()))
    assert table(list(rows.values())) in text_of(PAGE)
    for line in rows.values():
        cells = [each.strip() for each in line.strip("|").split("|")]
        assert len(cells) == len(Row.heads())
        assert all(cells)
        assert line == line_of(cells)
        assert re.fullmatch(r"\d[\w.]*", cells[1]), line
        assert Row.heads()[0] == HEAD


def test_each_case_is_in_one_group_whose_packages_are_pinned() -> None:
    """The groups are those of the Makefile; the versions of the table those of the pins."""
    grouped = [case for group in GROUPS.values() for case in group]
    assert sorted(grouped) == case_names()
    makefile = text_of(ROOT / "Makefile")
    found = re.search(r"^FRAMEWORKS := (.*)$", makefile, re.MULTILINE)
    assert found is not None
    assert found[1].split() == [*GROUPS, *TESTED]
    for group, cases in GROUPS.items():
        pinned = text_of(ROOT / "tests" / "frameworks" / f"requirements-{group}.txt")
        versions = re.findall(r"==(\S+)$", pinned, re.MULTILINE)
        for case in cases:
            assert rows_of_page()[title_of(case)].split("|")[2].strip() in versions, case


def test_a_recipe_that_has_changed_is_written_into_its_own_section() -> None:
    """What else the section says stays; a section without a recipe gets one; none is an error."""
    name = case_names()[0]
    text = (
        f"# Page\n\n## {title_of(name)}\n\nSaid.\n\n```py\nold\n```\n\nMore.\n\n## other\n\nend\n"
    )
    written = with_recipe(name, text)
    assert written == text.replace("old", recipe_of(name))
    assert with_recipe(name, text.replace("```py\nold\n```\n\n", "")).count("```py") == 1
    with pytest.raises(ValueError, match="has no section"):
        with_recipe(name, "# Page\n")
