"""A member whose number of calls at a time the router finds out: its slot."""

from __future__ import annotations

import random
from typing import Any, cast

import pytest

from greenroom.actors.routing.slot import FreeSlots, Slot
from greenroom.messages import CircuitState, FailureKind, MemberRoute, SkipReason

RNG = random.Random(1)
LIMITED, TIMEOUT, DOWN = FailureKind.RATE_LIMITED, FailureKind.TIMEOUT, FailureKind.UNAVAILABLE


def route(ceiling: int = 100, **more: Any) -> MemberRoute:
    given: dict[str, Any] = {"incarnation": 1, "learns": True, "max_concurrency": ceiling}
    return MemberRoute("a", index=0, ref=cast(Any, object()), **{**given, **more})


def slot(ceiling: int = 100) -> Slot:
    return Slot(route(ceiling), FreeSlots())


def answers(member: Slot, number: int, at_a_time: int | None = None, took_s: float = 1.0) -> None:
    """So many calls succeed, of as many at a time as there is room for, or fewer."""
    while number > 0:
        started = 0
        while member.is_free and started < (at_a_time or number):
            member.take()
            started += 1
        assert started
        for _ in range(started):
            member.give_back()
            if member.recovers:
                member.answered(0.0, took_s)
        number -= started


def test_b320_room_grows_while_it_is_used() -> None:
    """From a few, up to the ceiling, as long as nothing says that it is too much."""
    member, seen = slot(ceiling=30), []
    assert (member.limit, member.max_concurrency) == (4, 4)
    for _ in range(12):
        answers(member, 20)
        seen.append(member.max_concurrency)
    assert seen == sorted(seen)
    assert seen[-1] == member.limit == 30


def test_b320_load_that_does_not_use_it_does_not_widen_it() -> None:
    """Whatever number of calls: one at a time says nothing of more."""
    member = slot()
    answers(member, 1000, at_a_time=1)
    assert member.max_concurrency == 4


@pytest.mark.parametrize("kind", [LIMITED, TIMEOUT])
def test_b321_what_says_that_it_is_too_much_narrows_it_once_a_burst(kind: FailureKind) -> None:
    """All calls that had begun by then are of the same one; another failure says nothing of it."""
    member = slot()
    answers(member, 200)
    before = member.max_concurrency
    member.rest_for(DOWN, 10.0, 9.0, None, RNG)
    assert member.max_concurrency == before
    for _ in range(5):
        member.rest_for(kind, 10.0, 9.0, None, RNG)
    assert int(before * 0.8) < member.max_concurrency < int(before * 0.9)


def test_b321_after_its_rest_they_are_let_in_one_by_one() -> None:
    """Room for one call, and one more with each success, up to what it bears by now."""
    member = slot()
    answers(member, 200)
    member.rest_for(LIMITED, 10.0, 9.0, 5.0, RNG)
    bears = member.max_concurrency
    assert member.skip_reason() is SkipReason.COOLING_DOWN
    assert member.rested(15.0)
    assert member.limit == 1
    answers(member, 1)
    assert member.limit == 2
    answers(member, bears)
    assert member.limit == member.max_concurrency >= bears
    assert member.recovers  # its successes are of interest for good


def test_b321_a_limit_that_falls_below_what_runs_keeps_it_full() -> None:
    """Nothing is taken back from what runs; nothing new is let in until there are so few."""
    member = slot()
    for _ in range(4):
        member.take()
    member.rest_for(TIMEOUT, 10.0, 9.0, None, RNG)
    assert (member.limit, member.is_free) == (3, False)
    member.give_back()
    assert not member.is_free
    member.give_back()
    assert member.is_free


def test_b322_what_is_learned_stays_until_somebody_names_a_number() -> None:
    """A restart and a breaker leave it; another ceiling bounds it; a number takes its place."""
    member = slot()
    answers(member, 400)
    learned = member.max_concurrency
    assert learned > 20
    member.update(route(circuit=CircuitState.OPEN, epoch=2))
    member.update(route(circuit=CircuitState.CLOSED, epoch=3, eased_in=True))
    assert (member.max_concurrency, member.limit) == (learned, 1)
    member.forget_rest()
    member.update(route(incarnation=2))
    assert (member.max_concurrency, member.limit) == (learned, learned)
    member.update(route(20))
    assert (member.max_concurrency, member.limit) == (20, 20)
    member.update(route(7, learns=False))
    assert (member.max_concurrency, member.limit, member.learned) == (7, 7, None)
    answers(member, 1)
    assert not member.recovers
    member.update(route(50))
    assert (member.max_concurrency, member.limit, member.recovers) == (4, 4, True)
