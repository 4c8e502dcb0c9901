"""`make test-frameworks`: measures each framework's members, and holds the page's table against it.

ARGS: nothing runs all; names of groups or cases choose; `--table` prints the table as it was
measured; `--write` writes it and the recipes into `docs/frameworks.md`; without these two the tests
of `test_each_recipe.py` run as well, and `real_clients/test_framework_lines.py` on what a refusal
says to write. What does not install here is named and left out.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from helpers_pages import ROOT, text_of

from frameworks.groups import GROUPS, TESTED
from frameworks.measure import Row
from frameworks.page import (
    PAGE,
    case_names,
    line_of,
    rows_of_page,
    table,
    title_of,
    with_recipe,
    with_table,
)
from frameworks.runner import Record, files_pass, lines_pass, measured, passes

_FLAGS = {"--table", "--write"}


def main(arguments: list[str]) -> int:
    """0 if every recipe keeps its promises, and the page's table says what was measured."""
    flags, chosen = set(arguments) & _FLAGS, set(arguments) - _FLAGS
    cases = {case for group in GROUPS.values() for case in group}
    if unknown := chosen - {*GROUPS, *TESTED, *cases}:
        known = " ".join([*GROUPS, *TESTED, *sorted(cases)])
        print(f"not known: {' '.join(sorted(unknown))}; groups and cases are {known}")
        return 2
    records = [each for group in GROUPS for each in _group(group, chosen)]
    failed = [] if flags else [group for group in GROUPS if not _passes(group, chosen)]
    wanted = [] if flags else [each for each in TESTED if not chosen or each in chosen]
    failed += [each for each in wanted if not _files_pass(each)]
    for record in records:
        if "row" not in record:
            print(f"{record['case']}: {record.get('skipped') or record['broken']}")
    rows = {each["case"]: line_of(Row(**each["row"]).cells()) for each in records if "row" in each}
    if "--table" in flags:
        print(table(list(rows.values())), end="")
    if "--write" in flags:
        _write(list(rows.values()))
    differ = sum(map(_differs, rows, rows.values()))
    broken = sum("broken" in each for each in records)
    print(f"{len(rows)} measured, {differ} differ from {PAGE.name}, {broken} broken")
    if failed:
        print(f"tests failed: {' '.join(failed)}")
    return 1 if broken or differ or failed else 0


def _group(group: str, chosen: set[str]) -> list[Record]:
    """What one group's environment brought; bounded in time."""
    cases, python = _chosen(group, chosen), _python(group)
    if not cases:
        return []
    if not python.exists():
        return [{"case": each, "skipped": "skipped: it has no environment"} for each in cases]
    with tempfile.TemporaryDirectory() as folder:
        return measured(python, cases, Path(folder) / "records.jsonl")


def _passes(group: str, chosen: set[str]) -> bool:
    """Whether its cases pass what the table has no column for, and the lines of refusals answer;
    what is not there is not tested.
    """
    cases, python = _chosen(group, chosen), _python(group)
    if not cases or not python.exists():
        return True
    return passes(python, cases) and lines_pass(python)


def _files_pass(group: str) -> bool:
    """The same of a group that has files of tests instead of cases."""
    if (python := _python(group)).exists():
        return files_pass(python, TESTED[group])
    print(f"{group}: skipped: it has no environment")
    return True


def _chosen(group: str, chosen: set[str]) -> list[str]:
    return [each for each in GROUPS[group] if not chosen or {group, each} & chosen]


def _python(group: str) -> Path:
    return ROOT / f".venv-frameworks-{group}" / "bin" / "python"


def _write(rows: list[str]) -> None:
    text = with_table(rows, text_of(PAGE))
    for name in case_names():
        text = with_recipe(name, text)
    PAGE.write_text(text, encoding="utf-8")


def _differs(case: str, line: str) -> bool:
    on_page = rows_of_page().get(title_of(case))
    if on_page == line:
        return False
    print(f"{case} differs:\n  page:     {on_page}\n  measured: {line}")
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
