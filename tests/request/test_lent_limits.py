"""Requests that wait for a limit that processes have together: who is asked in whose name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from helpers_flow import TOKENS, World

from greenroom import Limit
from greenroom.actors.request.job import JobPhase
from greenroom.messages.shared_limits import LeaseGranted, LeaseWanted, LimitHeard, LimitTold

STEP_S = 0.05
GROUPED = Limit(10, per_s=60, group="key")
LIMITS: Mapping[str, tuple[dict[str, Limit], dict[str, int] | None, int]] = {
    "calls": ({"a": Limit(10, per_s=60)}, None, 1),
    "tokens": ({"a": Limit(1000, per_s=60, cost=TOKENS)}, {TOKENS: 400}, 400),
    "group": ({"a": GROUPED, "b": GROUPED}, None, 1),
    "pace": ({"a": Limit(10, per_s=60)}, None, 1),
}
"""The members' limits, what a request costs, and how much of the limit that is."""


class Lent(World):
    """Members whose limits are lent, by whoever calls `lend`.

    Attributes:
        asked: what has been asked for.
    """

    def __init__(self, limits: Mapping[str, Limit], **config: Any) -> None:
        super().__init__(*limits, **{"request_timeout_s": None, **config})
        self.asked: list[LeaseWanted] = []
        self._lent = 0
        self.flow.refills.share_by(self._ask)
        for name, limit in limits.items():
            self.change(name, limits=(limit,), max_concurrency=100)

    def _ask(self, wanted: LeaseWanted | LimitTold) -> None:
        if isinstance(wanted, LeaseWanted):
            self.asked.append(wanted)

    def lend(self, holds: int) -> None:
        """Answer what has been asked for; where that is too little, in half a minute there is
        more.
        """
        while self._lent < len(self.asked):
            asked = self.asked[self._lent]
            self._lent += 1
            self.flow.refills.lent(
                LeaseGranted(
                    key=asked.key,
                    serial=asked.serial,
                    holds=holds,
                    wait_s=30.0,
                    slice=0,
                    processes=2,
                )
            )
        self.settle()

    def goes_by(self, seconds: float) -> None:
        """Time passes, and there is nothing to be had."""
        for _ in range(round(seconds / STEP_S)):
            self.pass_(STEP_S)
            self.lend(0)


@pytest.fixture(params=["wait", "fail"])
def when_unavailable(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.mark.parametrize("kind", LIMITS)
def test_b470_who_waits_is_asked_for_until_there_is_something(
    when_unavailable: str, kind: str
) -> None:
    """Five times a second; whatever waiting is set to, for one member or several of a key, for
    calls or tokens, and for one that waits for a pace of the others as well.
    """
    limits, cost, least = LIMITS[kind]
    world = Lent(limits, when_unavailable=when_unavailable)
    if kind == "pace":
        world.flow.refills.heard(LimitHeard(member="a", cost="requests", pace_per_s=2.0, paces=1))
    world.ask("1", cost=cost)
    world.goes_by(5.0)
    assert world.phase("1") is JobPhase.QUEUED
    before = len(world.asked)
    world.goes_by(5.0)
    assert 20 <= len(world.asked) - before <= 30
    assert {each.least for each in world.asked[before:]} == {least}
    world.pass_(0.5)
    world.lend(least)
    assert world.call("a").message.request_id == "1"


@pytest.mark.parametrize("kind", LIMITS)
def test_b470_who_waits_no_more_is_asked_for_no_more(when_unavailable: str, kind: str) -> None:
    """Its time is over: after what was on its way nothing is asked, and the next request asks anew,
    as whether there is something now nobody knows.
    """
    limits, cost, least = LIMITS[kind]
    world = Lent(limits, when_unavailable=when_unavailable)
    if kind == "pace":
        world.flow.refills.heard(LimitHeard(member="a", cost="requests", pace_per_s=2.0, paces=1))
    world.ask("1", cost=cost, timeout=40.0)
    world.goes_by(39.0)
    assert world.phase("1") is JobPhase.QUEUED
    world.goes_by(1.5)
    assert "1" in world.answers
    before = len(world.asked)
    world.goes_by(30.0)
    assert len(world.asked) == before
    world.ask("2", cost=cost)
    assert world.phase("2") is JobPhase.QUEUED
    world.goes_by(1.0)
    assert {each.least for each in world.asked[before:]} == {least}


def test_b470_who_stays_is_asked_for_by_what_it_needs_itself() -> None:
    """Not by what one needed that has gone meanwhile: so much more there may not be for long."""
    world = Lent({"a": Limit(1000, per_s=60, cost=TOKENS)})
    world.ask("much", cost={TOKENS: 400}, timeout=35.0)
    world.ask("little", cost={TOKENS: 10})
    world.ask("less", cost={TOKENS: 5})
    world.goes_by(34.0)
    assert world.asked[-1].least == 400
    world.goes_by(2.0)
    assert "much" in world.answers
    assert world.asked[-1].least == 10


def test_b470_who_pauses_before_its_next_attempt_asks_when_that_has_come() -> None:
    """It waits for nothing until then: what it lacks is asked for in its name afterwards."""
    world = Lent({"a": Limit(10, per_s=60)}, retry_delay_s=20.0)
    world.ask("1")
    world.lend(1)
    world.fail(world.call())
    before = len(world.asked)
    while world.phase("1") is JobPhase.PAUSED:
        assert not any(each.least for each in world.asked[before:])
        world.goes_by(STEP_S)
    assert world.now > 102.0
    assert world.phase("1") is JobPhase.QUEUED
    assert world.asked[-1].least == 1
    world.pass_(0.5)
    world.lend(1)
    assert world.call("a").message.request_id == "1"
