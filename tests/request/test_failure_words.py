"""What the log says of a request that failed: of whom, why, what comes next, what to do."""

from __future__ import annotations

from typing import Any

import pytest
from helpers_flow import World

from greenroom import AgentPool, AllPoolMembersFailedError, FailureKind, Member, PoolConfig, Request
from greenroom.actors.request.failure_words import MOST_NAMED, named
from greenroom.events import RequestExhausted, RequestRejected
from greenroom.messages import advice
from greenroom.messages.errors import AttemptError
from greenroom.messages.status import SkipReason
from greenroom.testing import EventRecorder, FakeClock, ScriptedAgent, http_error

OUT: dict[str, Any] = {"blocked": SkipReason.CIRCUIT_OPEN, "reopens_at": 104.0}


def exhausted(world: World) -> RequestExhausted:
    (event,) = (each for each in world.events if isinstance(each, RequestExhausted))
    return event


def test_b382_the_line_of_a_request_names_who_was_skipped_and_why() -> None:
    """With until when; and what to do about it."""
    world = World("a", "b")
    world.change("a", **OUT)
    world.change("b", blocked=SkipReason.GAVE_UP)
    world.ask("r")
    event = exhausted(world)
    assert event.skipped == ("a circuit_open (back in 4.0 s)", "b gave_up")
    assert event.tried == ()
    assert event.describe().endswith(
        "(no member is available); retry after 4.0 s; "
        "skipped: a circuit_open (back in 4.0 s), b gave_up; nobody asked for an answer; "
        'ask again in 4.0 s, or have requests wait by PoolConfig(when_unavailable="wait")'
    )


def test_b382_it_names_who_was_tried_as_well() -> None:
    """By the kind of the last failure, and what to do about that kind, if there is one alone."""
    world = World("a", "b", max_retries=0)
    world.change("b", **OUT)
    world.ask("r")
    world.fail(world.call("a"))
    event = exhausted(world)
    assert event.tried == ("a unavailable",)
    assert event.skipped == ("b circuit_open (back in 4.0 s)",)
    assert event.advice.endswith(advice.of_kind(FailureKind.UNAVAILABLE))


def test_b382_a_request_that_was_turned_away_names_who_had_no_room() -> None:
    """The one that has no place in the queue."""
    world = World("a", "b", max_pending=0)
    world.change("b", **OUT)
    world.ask("first")
    world.ask("second")
    (event,) = (each for each in world.events if isinstance(each, RequestRejected))
    assert event.request_id == "second"
    assert event.skipped == ("a saturated", "b circuit_open (back in 4.0 s)")


def test_b382_of_very_many_members_some_are_named() -> None:
    """And how many more there are."""
    errors = [AttemptError(f"m{n}", n, SkipReason.SATURATED) for n in range(MOST_NAMED + 3)]
    assert named(errors)[-2:] == ("m7 saturated", "and 3 more")
    assert named(errors[:2]) == ("m0 saturated", "m1 saturated")
    assert named(errors[:2], of=1000)[-1] == "and 998 more"


@pytest.mark.parametrize(
    ("members", "settings", "timeout", "what"),
    [
        ((), {}, 10, "add a member"),
        ((http_error(401),), {}, 10, "check its key"),
        ((http_error(401), http_error(503)), {}, 10, "see its attempt.failed lines"),
    ],
)
def test_b383_it_says_what_to_do(
    members: tuple[Exception, ...],
    settings: dict[str, Any],
    timeout: float,
    what: str,
    greenroom_events: EventRecorder,
) -> None:
    """Whoever asked has the error; the line has the advice."""
    config = PoolConfig(max_retries=len(members), **settings)
    pool_members = [
        Member(f"m{n}", ScriptedAgent.failing(9, error)) for n, error in enumerate(members)
    ]
    with AgentPool.start(
        pool_members, strategy="failover", config=config, clock=FakeClock()
    ) as pool:
        with pytest.raises(AllPoolMembersFailedError):
            pool.ask(Request("x"), timeout=timeout)
        event = greenroom_events.wait_for(RequestExhausted)
    assert event.advice == f"whoever asked has the error; {what}"


def test_b383_every_kind_of_failure_has_its_advice() -> None:
    """And one that nobody knows as well."""
    assert set(advice.ADVICE) == set(FailureKind)
    assert advice.of_kind(None)
