"""Limits that the system really sets, each in a process of its own: every ask is answered, every
slot comes back, and the pool serves again as soon as there is what it needs, without a reset.
"""

from __future__ import annotations

from typing import Any

import pytest
from helpers_limits import in_a_process_of_its_own


def seen_in(what: str) -> dict[str, Any]:
    seen = in_a_process_of_its_own(what)
    if "skip" in seen:
        pytest.skip(seen["skip"])
    return seen


@pytest.mark.parametrize(
    "what", ["sync_without_threads", "async_without_threads", "async_without_descriptors"]
)
def test_a_limit_of_the_system_is_nobodys_fault(what: str) -> None:
    """Another member answers; where there is none the error says what is lacking."""
    seen = seen_in(what)
    assert seen["refused"] == ["x by b"] * 3
    assert seen["rest"] == [0, [0, 0], [0, 0]]
    assert seen["alone"].startswith("ResourceError/unavailable")
    assert seen["again"] == "x by a"
    assert seen.get("together", 4) == 4
    assert seen["end"] == [0, [0, 0], [0, 0]]


@pytest.mark.parametrize("what", ["sync_at_exit", "async_at_exit"])
def test_the_first_use_at_the_end_of_the_process_is_refused(what: str) -> None:
    """An exit handler that asks is told that there are no threads any more, and can stop it."""
    seen = seen_in(what)
    assert seen["refused"] == ["ResourceError/unavailable"] * 3
    assert seen["rest"] == [0, [0, 0]]
    assert seen["stopped"] is True
