"""`greenroom doctor` on an hour of log of an outage drill."""

from __future__ import annotations

import pytest
from helpers_outage_log import PLANTED, clean, drill

from greenroom.commands.doctoring import examined


@pytest.mark.parametrize("seed", [1, 7])
def test_b393_the_five_planted_mistakes_are_found_and_nothing_else(seed: int) -> None:
    """With outages, hangs and throttling of an hour around them."""
    report = examined(drill(seed))
    assert {(each.rule, each.pool, each.members) for each in report.found} == PLANTED
    assert len(report.found) == 5
    assert report.not_checked == {}


@pytest.mark.parametrize("seed", [1, 7])
def test_b393_a_clean_hour_has_nothing(seed: int) -> None:
    """The same outages, hangs and throttling are no fault of the set-up."""
    report = examined(clean(seed))
    assert report.found == []
    assert report.lines > 10_000
