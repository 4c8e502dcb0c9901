"""The waiting room: how many wait, who has to go, whose turn it is."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any, cast

import pytest

from greenroom import AttemptError, FailureKind, PoolConfig, Request
from greenroom.actors.policy.retry_plan import RetryPolicy
from greenroom.actors.request.job import PLACING, QUEUED, Job
from greenroom.actors.request.waiting_room import WaitingRoom
from greenroom.actors.routing.routing_table import RoutingTable
from greenroom.actors.strategies import RoundRobin
from greenroom.messages.supervision import MemberRoute, RoutingSnapshot

NOW = 100.0
POLICY = RetryPolicy.from_config(PoolConfig())


def job(name: str, priority: int = 0, deadline: float | None = None, tried: bool = False) -> Job:
    made = Job(name, Request(name, priority=priority), None, NOW, deadline, POLICY)
    if tried:
        made.attempts = 1
        made.failures = {"a": AttemptError("a", 0, FailureKind.UNAVAILABLE, None, 0.0)}
    return made


def room_of(max_pending: int, *members: str) -> WaitingRoom:
    table = RoutingTable(RoundRobin(), random.Random(7))
    routes = [
        MemberRoute(name, index=index, incarnation=1, ref=cast(Any, object()))
        for index, name in enumerate(members)
    ]
    table.apply(RoutingSnapshot(1, tuple(routes)))
    return WaitingRoom(PoolConfig(max_pending=max_pending), table, stays=False)


def names(jobs: Iterable[Job]) -> list[str]:
    return [each.id for each in jobs]


def test_who_is_let_in_waits_in_the_queue() -> None:
    """It is in the phase of that, and in another one when it leaves."""
    room, one = room_of(2), job("one")
    assert room.enter(one, NOW) == ((), ())
    assert (one.phase, names(room.queue)) == (QUEUED, ["one"])
    room.leave(one)
    assert (one.phase, names(room.queue)) == (PLACING, [])


@pytest.mark.parametrize(("priority", "shed"), [(0, "new"), (5, "old")])
def test_a_full_room_gives_back_whom_it_has_put_out(priority: int, shed: str) -> None:
    """The one that would be served last, be it the newcomer; with how many there were."""
    room, old = room_of(1), job("old")
    room.enter(old, NOW)
    leavers = room.enter(job("new", priority), NOW)
    assert [(each.job.id, each.waiting) for each in leavers.shed] == [(shed, 1)]
    assert names(room.queue) == [{"new": "old", "old": "new"}[shed]]


def test_those_whose_time_is_over_go_first() -> None:
    """Then there is room, and nobody else has to."""
    room = room_of(1)
    room.enter(job("late", deadline=NOW + 1.0), NOW)
    leavers = room.enter(job("new"), NOW + 1.0)
    assert (names(leavers.expired), leavers.shed) == (["late"], ())
    assert names(room.queue) == ["new"]


def test_one_that_has_been_tried_is_always_let_in() -> None:
    """A member has had it already: it is not thrown away for want of room."""
    room = room_of(0)
    assert room.enter(job("tried", tried=True), NOW) == ((), ())
    assert names(room.queue) == ["tried"]


def test_behind_one_that_finds_nobody_only_the_tried_are_asked() -> None:
    """Another untried one would find nobody, either."""
    room = room_of(9, "a")
    for each in (job("first"), job("second"), job("tried", tried=True)):
        room.enter(each, NOW)
    first = room.queue.first()
    assert first is not None
    assert names(room.behind(first)) == ["tried"]
