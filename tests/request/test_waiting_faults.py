"""What was suspected of those that wait, each of it true once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from helpers_flow import World, limited_world

from greenroom import Limit, PoolSaturatedError
from greenroom.messages.execution import LimitsSeen
from greenroom.messages.screening import Heard
from greenroom.messages.status import CircuitState, FailureKind, SkipReason


def saturated(world: World, request_id: str) -> PoolSaturatedError:
    error = world.answer(request_id)
    assert isinstance(error, PoolSaturatedError), error
    return error


def test_b333_who_is_turned_away_hears_of_members_that_may_have_it_alone() -> None:
    """One is back in 5 s that it must not be given to, the other one in 50."""
    world = World("a", "b", when_unavailable="wait", max_pending=1)
    for name, back_s in (("a", 5.0), ("b", 50.0)):
        blocked = SkipReason.CIRCUIT_OPEN
        world.change(name, blocked=blocked, reopens_at=world.now + back_s)
    world.ask("waits", only="b")
    world.ask("turned away", only="b")
    assert saturated(world, "turned away").retry_after_s == 50.0


def test_b334_who_waits_for_a_limit_that_is_forgotten_goes_at_once() -> None:
    """It was learned from a provider, and somebody resets the member by hand."""
    world = limited_world(a=[])
    world.ask("first")
    call = world.call()
    seen: Any = {"cost": "requests", "remaining": 0, "resets_in_s": 60.0, "whole": None}
    world.flow.limits_seen(LimitsSeen(at=world.now, **seen, **call.about))
    world.ask("second", timeout=100.0)
    assert len(world.calls) == 1
    world.flow.reset("a")
    assert [each.message.request_id for each in world.calls] == ["first", "second"]


def test_b335_of_one_key_who_would_be_served_last_makes_room() -> None:
    """Before the first word of the supervisor all are let in; then it is not the first one that was
    too many that goes, but the last one by priority and time.
    """
    world = World("a", fair_by="key", max_pending_per_key=1, when_unavailable="wait")
    world.flow.table.epoch = 0
    reopens_at = world.now + 9.0
    world.routes["a"] = replace(
        world.routes["a"], blocked=SkipReason.CIRCUIT_OPEN, reopens_at=reopens_at
    )
    for slot in world.flow.table:
        slot.update(world.routes["a"])
    for name, priority in (("usual", 0), ("urgent", 5)):
        world.ask(name, heard=Heard(fair_key="k"), priority=priority)
    world.snapshot()
    assert saturated(world, "usual").reason == "max_pending_per_key"
    assert "urgent" not in world.answers


def test_b336_a_member_that_is_eased_in_with_one_call_is_not_widened_at_once() -> None:
    """Its slow start goes on under another number, as that of any other member does."""
    world = World("a", max_retries=0)
    world.change("a", max_concurrency=1, circuit=CircuitState.HALF_OPEN, trial_permits=1)
    world.change("a", circuit=CircuitState.CLOSED, trial_permits=None, eased_in=True)
    world.change("a", max_concurrency=10)
    for number in range(5):
        world.ask(f"r{number}")
    assert len(world.calls) == 1
    world.succeed(world.call())
    assert len(world.calls) == 2
    world.fail(world.calls[0], FailureKind.RATE_LIMITED, retry_after_s=1.0)


def test_b334_a_reset_forgets_a_refusal_that_taught_nothing() -> None:
    """That of a member, or of all; and none is kept of a member that has left."""
    world = World("a", "b")
    headroom = world.flow.table.headroom
    headroom._odd_at = {"a": 1.0, "b": 1.0}
    world.change("a", limits=(Limit(1, per_s=1.0),))
    assert set(headroom._odd_at) == {"a", "b"}
    headroom.sync([slot for slot in world.flow.table if slot.name == "a"], 2.0)
    assert set(headroom._odd_at) == {"a"}
    for name in (None, "a"):
        headroom._odd_at = {"a": 1.0}
        headroom.forget_learned(name, 2.0)
        assert headroom._odd_at == {}
