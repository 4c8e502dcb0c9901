"""Members of one group: what refuses a key or an account on one of them has all of them rest."""

from __future__ import annotations

from typing import Any

import pytest
from helpers_load import ask_at, error_of, pass_time, settled
from helpers_pools import echo, pool_of
from test_last_one import fail, open_up, states
from test_supervisor_parts import World

from greenroom import CircuitState, FailureKind, Member
from greenroom.events import BreakerClosed, BreakerOpened
from greenroom.messages import Outcomes, RequestSettled
from greenroom.testing import EventRecorder, FakeClock, http_error

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
FORCED_OPEN = CircuitState.FORCED_OPEN
AUTH, QUOTA = FailureKind.AUTH, FailureKind.QUOTA


def world_of(config: dict[str, Any] | None = None, **groups: str | None) -> World:
    members = (Member(name, echo, group=group) for name, group in groups.items())
    return World(*members, config=config)


def told(world: World, kind: type[Any]) -> list[str | None]:
    return [each.member for each in world.events if isinstance(each, kind)]


@pytest.mark.parametrize("kind", [AUTH, QUOTA])
def test_b286_all_of_the_group_rest_and_nobody_else(kind: FailureKind) -> None:
    """Until the same moment; the router hears of all of them at once, and the log says why."""
    world = world_of(a="x", b="x", c="y", d=None)
    fail(world, "b", kind, opens_at_once=True)
    assert states(world) == [OPEN, OPEN, CLOSED, CLOSED]
    assert len({world.records[name].breaker.reopens_at for name in "ab"}) == 1
    assert {route.name for route in world.snapshots()[-1].members} == {"a", "b"}
    reasons = {each.member: each.reason for each in world.events if isinstance(each, BreakerOpened)}
    assert reasons["a"] == f"{kind} failure of b, of the same group"


@pytest.mark.parametrize("kind", [FailureKind.UNAVAILABLE, FailureKind.TIMEOUT])
def test_b286_any_other_failure_is_a_members_own(kind: FailureKind) -> None:
    """However often it comes."""
    world = world_of(a="x", b="x")
    for _ in range(5):
        fail(world, "a", kind)
    assert states(world)[1] is CLOSED


def test_b286_one_trial_says_how_it_is_with_all() -> None:
    """Whoever is tried first: where it fails all rest on, where it succeeds all are back, and let
    in step by step.
    """
    world = world_of({"circuit_success_threshold": 2}, a="x", b="x", c="x", d=None)
    fail(world, "a", AUTH, opens_at_once=True)
    world.advance(31.0)
    assert states(world) == [HALF_OPEN, HALF_OPEN, HALF_OPEN, CLOSED]
    fail(world, "b", AUTH, opens_at_once=True)
    assert states(world) == [OPEN, OPEN, OPEN, CLOSED]
    until = {world.records[name].breaker.reopens_at for name in "abc"}
    assert len(until) == 1
    world.advance(61.0)
    fail(world, "c", None)
    assert states(world) == [HALF_OPEN, HALF_OPEN, HALF_OPEN, CLOSED]
    fail(world, "c", None)
    assert states(world) == [CLOSED] * 4
    assert sorted(map(str, told(world, BreakerClosed))) == ["a", "b", "c"]
    assert all(world.route(name).eased_in for name in "abc")


def test_b286_who_is_out_by_itself_stays_so() -> None:
    """By hand, and for a reason of its own: neither begins nor ends with the group's."""
    world = world_of({"circuit_max_open_share": 1.0}, a="x", b="x", c="x")
    open_up(world, "b")
    until = world.records["b"].breaker.reopens_at
    record = world.records["c"]
    world.judge.announce(record, record.breaker.force_open(world.now))
    fail(world, "a", AUTH, opens_at_once=True)
    assert states(world) == [OPEN, OPEN, FORCED_OPEN]
    assert world.records["b"].breaker.reopens_at == until
    world.advance(35.0)
    fail(world, "a", None)
    assert states(world)[0] is CLOSED
    assert states(world)[2] is FORCED_OPEN


def test_b286_a_reset_by_hand_is_of_one_member() -> None:
    """The others wait for their trial."""
    world = world_of(a="x", b="x")
    fail(world, "a", AUTH, opens_at_once=True)
    record = world.records["a"]
    world.judge.announce(record, record.breaker.reset(world.now))
    assert states(world) == [CLOSED, OPEN]


def test_b286_a_403_counts_for_the_group_once_it_is_certain() -> None:
    """Moderation answers so as well: while the requests go on, only the one that failed is out."""
    world = world_of({"circuit_failure_threshold": 3}, a="x", b="x", c=None)
    for _ in range(3):
        fail(world, "a", AUTH)
    assert states(world) == [OPEN, CLOSED, CLOSED]
    for number in range(1, world.requests + 1):
        world.judge.take_in(Outcomes((RequestSettled(request_id=f"r{number}"),)))
    assert states(world) == [OPEN, OPEN, CLOSED]
    assert world.snapshots()[-1].epoch > 1


def test_b286_who_leaves_or_comes_is_not_concerned() -> None:
    """A member that drains has nothing to be kept from."""
    world = world_of(a="x", b="x")
    world.roster.remove(world.records["b"], 1)
    fail(world, "a", AUTH, opens_at_once=True)
    assert states(world) == [OPEN, CLOSED]
    world.roster.add(Member("c", echo, group="x"))
    assert states(world)[2] is CLOSED


def test_b286_a_group_of_thousands() -> None:
    """All of them in one step, and no deeper."""
    world = World(*(Member(f"m{i}", echo, group="x") for i in range(2000)))
    fail(world, "m7", AUTH, opens_at_once=True)
    assert set(states(world)) == {OPEN}


def test_b286_an_observed_group_is_only_told_of() -> None:
    """Each of its members would be out; none is."""
    world = world_of({"circuit": "observe"}, a="x", b="x")
    fail(world, "a", AUTH, opens_at_once=True)
    assert told(world, BreakerOpened) == ["a", "b"]
    assert [world.route(name).blocked for name in "ab"] == [None, None]


# -- a pool


def test_b286_a_revoked_key_costs_one_attempt_whoever_has_it() -> None:
    """Four members with one key, one with another: after the first 401 nobody asks the four, one
    trial at a time looks whether the key is good again, and then all four are back.
    """
    clock = FakeClock()
    revoked, calls = [True], []

    def agent(name: str, key: str) -> Any:
        async def call(payload: Any) -> Any:
            calls.append((name, clock.now()))
            if key == "one" and revoked[0]:
                raise http_error(401)
            await clock.sleep(0.01)
            return payload

        return call

    members = [Member(f"m{i}", agent(f"m{i}", "one"), priority=i, group="one") for i in range(4)]
    members.append(Member("other", agent("other", "two"), priority=9, group="two"))
    log = EventRecorder()
    with pool_of(*members, clock=clock) as pool:
        pool.on_event(log)
        futures = ask_at(pool, clock, [i * 0.5 for i in range(50)], step_s=0.25)
        assert sum(name != "other" for name, _ in calls) == 1
        futures += ask_at(pool, clock, [i * 0.5 for i in range(40)], step_s=0.25)
        assert sum(name != "other" for name, _ in calls) == 2
        revoked[0] = False
        futures += ask_at(pool, clock, [i * 0.5 for i in range(200)], step_s=0.25)
        pass_time(pool, clock, 1.0)
        assert settled(pool, clock).available == ("m0", "m1", "m2", "m3", "other")
        assert [error_of(future) for future in futures] == [None] * len(futures)
        assert {futures[-1].get(timeout=0).member} == {"m0"}
