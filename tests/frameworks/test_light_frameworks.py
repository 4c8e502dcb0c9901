"""The recipes of the frameworks that the dev extra has. Behaviours 246 to 249.

The others are measured by `make test-frameworks`.
"""

from __future__ import annotations

import sys
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
from helpers_pools import WAIT_S, pool_of, ranked
from langchain_core.language_models import FakeListChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import RunnableLambda

from frameworks.groups import GROUPS, LIGHT
from frameworks.measure import Row
from frameworks.page import line_of, rows_of_page, title_of
from frameworks.runner import measured
from greenroom import Request


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


def test_runnables_of_langchain_core_are_members_as_they_are() -> None:
    """A chain that fails and one that answers, asked and streamed; each sees its caller's context.

    `langchain_core` among the cases has a chat model beneath, which the dev extra has not.
    """
    tenant: ContextVar[str] = ContextVar("tenant", default="nobody")

    def down(prompt: str) -> str:
        raise ConnectionError("refused")

    up = FakeListChatModel(responses=["It is 42."]) | StrOutputParser()
    members = ranked(a=RunnableLambda(down) | StrOutputParser(), b=up)
    with pool_of(*members) as pool:
        tenant.set("ann")
        assert pool.execute("hello", timeout=WAIT_S) == "It is 42."
        chunks = list(pool.stream(Request("hello"), timeout=WAIT_S))
    assert "".join(chunks) == "It is 42."
    assert len(chunks) > 1
    with pool_of(*ranked(a=RunnableLambda(down), b=RunnableLambda(lambda _: tenant.get()))) as pool:
        assert pool.execute("hello", timeout=WAIT_S) == "ann"
