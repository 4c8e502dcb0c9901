"""Other settings for requests in flight: they keep what they began with."""

from __future__ import annotations

from typing import Any

import pytest
from helpers_flow import World

from greenroom import (
    AllPoolMembersFailedError,
    AttemptTimeoutError,
    CircuitState,
    FailureKind,
    PoolSaturatedError,
    SkipReason,
)

OPEN = SkipReason.CIRCUIT_OPEN


def configure(world: World, **changes: Any) -> None:
    world.config = world.config.replace(**changes)
    world.flow.configure(world.config)
    world.settle()


def test_a_time_limit_holds_for_attempts_that_begin_from_then_on() -> None:
    """Those that run keep theirs, be the new one shorter, longer, or none."""
    world = World("a", "b", request_timeout_s=10.0, max_retries=0)
    world.change("a", max_concurrency=5)
    world.ask("long")
    configure(world, request_timeout_s=2.0)
    world.ask("short")
    configure(world, request_timeout_s=None)
    world.ask("endless")
    world.pass_(2.0)
    assert isinstance(world.answer("short").__cause__, AttemptTimeoutError)
    assert "request_timeout_s=2" in str(world.answer("short"))
    assert world.answer("long") is None
    world.pass_(8.0)
    assert "request_timeout_s=10" in str(world.answer("long"))
    world.pass_(1000.0)
    assert world.answer("endless") is None


def test_an_attempt_that_has_ended_is_not_met_again_by_the_timer_that_it_began_with() -> None:
    world = World("a", request_timeout_s=10.0)
    world.ask("x")
    configure(world, request_timeout_s=5.0)
    world.succeed(world.call())
    world.ask("y")
    world.pass_(4.0)
    world.succeed(world.call())
    world.pass_(10.0)
    assert (world.answer("x"), world.answer("y")) == ("well", "well")
    assert [each for each in world.outcomes if getattr(each, "kind", None)] == []
    assert (world.timers, world.in_flight()) == (0, {"a": 0})


@pytest.mark.parametrize("new", [1.0, None])
def test_a_stream_keeps_the_limits_of_its_chunks(new: float | None) -> None:
    world = World("a", chunk_timeout_s=5.0, first_chunk_timeout_s=5.0, max_retries=0)
    world.change("a", max_concurrency=2)
    world.stream("before")
    (before,) = world.calls
    configure(world, chunk_timeout_s=new, first_chunk_timeout_s=new)
    world.chunk(before)
    world.pass_(4.9)
    assert world.answer("before") is None
    world.pass_(0.1)
    assert "chunk_timeout_s=5" in str(world.answer("before"))
    world.calls.remove(before)
    world.stream("after")
    world.pass_(1.0)
    assert (world.answer("after") is None) is (new is None)


def test_retries_are_those_of_the_request_when_it_came() -> None:
    world = World("a", "b", max_retries=0)
    world.ask("before")
    configure(world, max_retries=1)
    world.fail(world.call())
    assert world.answer("before").errors[0].kind is FailureKind.UNAVAILABLE
    world.ask("after")
    world.fail(world.call("a"))
    world.succeed(world.call("b"))
    assert world.answer("after") == "well"


def test_a_deadline_is_that_of_requests_that_come_from_then_on() -> None:
    world = World("a", request_timeout_s=None)
    world.change("a", max_concurrency=2)
    world.ask("before")
    configure(world, deadline_s=3.0)
    world.ask("after")
    world.pass_(3.0)
    assert world.answer("before") is None
    assert isinstance(world.answer("after"), TimeoutError)


@pytest.mark.parametrize("new", ["fail", "wait"])
def test_whether_it_waits_for_members_that_are_out_is_as_when_the_request_came(new: Any) -> None:
    old = "wait" if new == "fail" else "fail"
    world = World("a", when_unavailable=old)
    world.ask("runs")
    world.ask("before")
    configure(world, when_unavailable=new)
    world.change("a", circuit=CircuitState.OPEN, blocked=OPEN, reopens_at=world.now + 5.0, epoch=2)
    world.ask("after")
    fails, waits = ("after", "before") if new == "fail" else ("before", "after")
    assert isinstance(world.answer(fails), AllPoolMembersFailedError)
    assert world.answer(waits) is None


def test_who_waits_keeps_his_place_where_fewer_may_wait() -> None:
    world = World("a")
    for name in ("runs", "first", "second"):
        world.ask(name)
    configure(world, max_pending=1)
    world.ask("third")
    assert isinstance(world.answer("third"), PoolSaturatedError)
    for name in ("runs", "first", "second"):
        world.succeed(world.call())
        assert world.answer(name) == "well"


def test_hedging_can_be_switched_on_and_off() -> None:
    """On: for attempts that begin from then on. Off: none begins any more, and a race that runs is
    run to its end.
    """
    world = World("a", "b")
    world.change("a", max_concurrency=9)
    for each in range(40):  # hedges have to be paid for
        world.ask(f"pays {each}")
        world.succeed(world.call())
    world.ask("before")
    configure(world, hedge_after_s=1.0)
    for each in range(40):
        world.ask(f"pays {each}")
        world.succeed(world.calls[-1])
    world.pass_(1.0)
    assert [each.member for each in world.calls] == ["a"]
    world.ask("raced")
    world.pass_(1.0)
    assert [each.member for each in world.calls] == ["a", "a", "b"]
    world.ask("after")
    configure(world, hedge_after_s=None)
    world.pass_(1.0)
    assert [each.member for each in world.calls] == ["a", "a", "b", "a"]
    world.succeed(world.call("b"), "hedged")
    assert world.answer("raced") == "hedged"
    assert [name for name, _ in world.cancelled] == ["a"]


def test_the_retry_budget_is_another_with_what_has_been_spent() -> None:
    world = World("a", "b", retry_budget_ratio=0.0, retry_budget_floor=0.0, max_retries=3)
    world.ask("before")
    world.fail(world.call())
    assert world.answer("before") is not None  # there is no budget for another member
    configure(world, retry_budget_floor=0.1)
    world.ask("after")
    world.fail(world.call("a"))
    world.succeed(world.call("b"))
    assert world.answer("after") == "well"


def test_a_trial_that_outlasts_its_request_is_ended_by_the_limit_that_it_began_with() -> None:
    """Its request's deadline, where there was none: another limit since has not timed it."""
    half_open: dict[str, Any] = {"circuit": CircuitState.HALF_OPEN, "trial_permits": 1, "epoch": 2}
    for began, ends_after_s in ((None, 5.0), (20.0, 20.0)):
        world = World("a", "b", request_timeout_s=began)
        world.change("a", **half_open)
        world.ask("r", timeout_s=5.0)
        configure(world, request_timeout_s=100.0)
        world.succeed(world.call("b"))
        world.pass_(ends_after_s - 0.1)
        assert world.cancelled == []
        world.pass_(0.1)
        assert [name for name, _ in world.cancelled] == ["a"]
