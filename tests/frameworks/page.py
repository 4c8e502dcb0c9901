"""`docs/frameworks.md`: its table, and the recipes that it shows of the cases."""

from __future__ import annotations

import re
from pathlib import Path

from helpers_pages import DOCS, lines, text_of

from frameworks.measure import Row

PAGE = DOCS / "frameworks.md"
HEAD = "framework"
CASES = Path(__file__).with_name("cases")
_RECIPE = re.compile(r"^# recipe\n(.*?)\n+# end of recipe$", re.MULTILINE | re.DOTALL)
_BLOCK = re.compile(r"^```py\n.*?^```$", re.MULTILINE | re.DOTALL)


def case_names() -> list[str]:
    """All that there are, as modules."""
    return sorted(each.stem for each in CASES.glob("*.py") if each.stem != "__init__")


def title_of(name: str) -> str:
    """What the page calls a case."""
    return name.replace("_", "-")


def recipe_of(name: str) -> str:
    """The part of a case that the page shows."""
    found = _RECIPE.search(text_of(CASES / f"{name}.py"))
    if found is None:
        raise ValueError(f"cases/{name}.py has no part between '# recipe' and '# end of recipe'")
    return found[1]


def section_of(name: str, text: str) -> str:
    """The part of the page's text about a case; a heading without one is an error."""
    found = re.search(rf"^## {re.escape(title_of(name))}\n.*?(?=^## |\Z)", text, re.M | re.DOTALL)
    if found is None:
        raise ValueError(f"{PAGE.name} has no section '## {title_of(name)}'")
    return found[0]


def shown_of(name: str, text: str) -> str:
    """The recipe that the page shows; its section has exactly one block of it."""
    blocks = _BLOCK.findall(section_of(name, text))
    if len(blocks) != 1:
        raise ValueError(f"section {title_of(name)!r}: {len(blocks)} blocks of `py`, not one")
    return str(blocks[0]).removeprefix("```py\n").removesuffix("\n```")


def with_recipe(name: str, text: str) -> str:
    """The page's text with the recipe as the case has it."""
    section = section_of(name, text)
    block = f"```py\n{recipe_of(name)}\n```"
    if not _BLOCK.search(section):
        return text.replace(section, f"{section.rstrip()}\n\n{block}\n\n")
    return text.replace(section, _BLOCK.sub(lambda _: block, section))


def line_of(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def table(rows: list[str]) -> str:
    """The whole table; rows are its lines."""
    heads = [HEAD, *Row.heads()[1:]]
    return "\n".join([line_of(heads), "|" + "---|" * len(heads), *sorted(rows)]) + "\n"


def rows_of_page() -> dict[str, str]:
    """The lines of the table by the name that they begin with."""
    return {line.split("|")[1].strip(): line for line in lines(PAGE, HEAD)}


def with_table(rows: list[str], text: str) -> str:
    """The page's text with these rows; those of cases that were not measured stay."""
    old = {line.split("|")[1].strip(): line for line in lines(PAGE, HEAD)}
    new = {line.split("|")[1].strip(): line for line in rows}
    whole = re.compile(rf"^\| {HEAD} \|.*\n(?:\|.*\n)+", re.MULTILINE)
    return whole.sub(lambda _: table(list({**old, **new}.values())), text, count=1)
