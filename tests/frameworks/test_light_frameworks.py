"""The recipes of the frameworks that the dev extra has. Behaviours 250 to 253.

The others are measured by `make test-frameworks`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from frameworks.groups import GROUPS, LIGHT
from frameworks.measure import Row
from frameworks.page import line_of, rows_of_page, title_of
from frameworks.runner import measured


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Of all of them, by a process of their own: they set what is global."""
    out = tmp_path_factory.mktemp("frameworks") / "records.jsonl"
    return {each["case"]: each for each in measured(Path(sys.executable), [*GROUPS[LIGHT]], out)}


@pytest.mark.parametrize("case", GROUPS[LIGHT])
def test_what_is_measured_is_what_the_page_says(case: str, records: dict[str, Any]) -> None:
    """Each cell of its row; the version here may be another one than there."""
    record = records[case]
    if "skipped" in record:
        pytest.skip(record["skipped"])
    assert "broken" not in record, record["broken"]
    row = Row(**record["row"])
    there = [each.strip() for each in rows_of_page()[title_of(case)].strip("|").split("|")]
    there[1] = row.version
    assert line_of(there) == line_of(row.cells())
