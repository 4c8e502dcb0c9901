"""Ten questions as users ask them, each answered by one look at what was recorded."""

from __future__ import annotations

from typing import Any

import pytest
from helpers_flight import FlightWorld

from greenroom.flight.explanation import explain
from greenroom.flight.flight_lines import FlightError, RequestLine
from greenroom.flight.line_text import read
from greenroom.messages.status import CircuitState, FailureKind, SkipReason


def _open(world: FlightWorld, name: str, until: float) -> None:
    world.change(
        name,
        circuit=CircuitState.OPEN,
        blocked=SkipReason.CIRCUIT_OPEN,
        reopens_at=until,
        epoch=world.routes[name].epoch + 1,
    )


def read_request(text: str) -> RequestLine:
    line = read(text)
    assert isinstance(line, RequestLine)
    return line


def test_why_was_it_slow() -> None:
    """It waited: for whom, and how much of the time that was."""
    world = FlightWorld("a")
    world.ask("first")
    world.ask("slow")
    world.pass_(3.0)
    world.succeed(world.call(), after_s=3.0)
    world.pass_(1.0)
    world.succeed(world.call(), after_s=1.0)
    said = world.explained("slow")
    assert "slow came at 00:01:40.000Z and was answered by a after 4 s (1 attempt)." in said
    assert "It waited 3 s for a member (a: it was full: 1 call at a time)." in said
    assert "Most of it, 75%: it waited 3 s for a member" in said


def test_why_did_it_fail_over() -> None:
    """What failed and what that means, and who had it next."""
    world = FlightWorld("a", "b")
    world.ask("r")
    world.pass_(2.0)
    world.fail(world.call("a"), FailureKind.TIMEOUT)
    world.pass_(0.3)
    world.succeed(world.call("b"), after_s=0.3)
    said = world.explained("r")
    assert (
        "a failed attempt 1: timeout (ConnectionError), it had not answered in time.\n"
        "  So it went on to b: attempt 2." in said
    )
    assert "Not to a: it had it before (attempt 1 failed: timeout)." in said


def test_why_did_the_cheap_one_not_get_it() -> None:
    """It was free and slower, and the strategy does not look at costs."""
    world = FlightWorld("dear", "cheap", strategy="adaptive")
    world.change("cheap", cost=1.0)
    world.change("dear", cost=5.0)
    for number in range(2):  # each is measured once
        world.ask(f"{number}")
        call = world.call()
        seconds = 0.1 if call.member == "dear" else 1.0
        world.pass_(seconds)
        world.succeed(call, after_s=seconds)
    world.ask("r")
    said = world.explained("r")
    assert "Attempt 1 went to dear: by adaptive, the fastest goes first" in said
    assert "Not to cheap: expected " in said
    assert "against expected 0.1 s, 0 of 1 calls." in said
    assert (
        "cheap is cheaper (1 against 5) and was free, but adaptive does not look at costs: "
        "strategy='cheapest' would have chosen it." in said
    )


def test_why_did_the_cheap_one_not_get_it_when_it_was_out() -> None:
    """Since when, until when, and what a later moment would have changed."""
    world = FlightWorld("dear", "cheap", strategy="cheapest")
    world.change("cheap", cost=1.0)
    world.change("dear", cost=5.0)
    _open(world, "cheap", until=109.0)
    world.pass_(2.0)
    world.ask("r")
    said = world.explained("r")
    assert "Attempt 1 went to dear: it was the only one that could take it." in said
    assert (
        "Not to cheap: its breaker was open since 00:01:40.000Z until 00:01:49.000Z (7 s more)."
        in said
    )
    assert "Had it come 7 s later, cheap might have been back." in said


def test_who_is_out_until_when() -> None:
    """Breakers and rests, with the time that is left."""
    world = FlightWorld("a", "b", "c")
    assert world.out() == "Pool pool at 00:01:40.000Z\n\nWho is out\n  Nobody."
    _open(world, "a", until=109.0)
    world.ask("r")
    world.fail(world.call("b"), FailureKind.RATE_LIMITED, retry_after_s=4.0)
    world.pass_(1.0)
    assert world.out() == (
        "Pool pool at 00:01:41.000Z\n"
        "\n"
        "Who is out\n"
        "  a is out: its breaker is open since 00:01:40.000Z until 00:01:49.000Z (8 s more).\n"
        "  b is out: it rests (rate_limited) until 00:01:44.000Z (3 s more)."
    )


def test_why_was_it_rejected() -> None:
    """Which bound was reached."""
    world = FlightWorld("a", max_pending=1)
    for request in ("1", "2", "rejected"):
        world.ask(request)
    said = world.explained("rejected")
    assert "rejected came at 00:01:40.000Z and was rejected after 0 ms (0 attempts)." in said
    assert "It got no answer: too many requests waited: max_pending is 1." in said
    assert "A higher max_pending, or more members, would have let it wait." in said


def test_why_did_nobody_take_it() -> None:
    """Each member that was not asked, and why."""
    world = FlightWorld("a", "b")
    _open(world, "a", until=109.0)
    _open(world, "b", until=105.0)
    world.ask("r")
    said = world.explained("r")
    assert "r came at 00:01:40.000Z and failed after 0 ms (0 attempts)." in said
    assert "It got no answer: nobody could answer it (no member is available)." in said
    assert "b was not asked: its breaker was open since 00:01:40.000Z until 00:01:45.000Z" in said


def test_which_attempt_cost_the_time() -> None:
    """Each attempt with its time, and the longest with its share."""
    world = FlightWorld("a", "b")
    world.ask("r")
    world.pass_(2.0)
    world.fail(world.call("a"))
    world.pass_(0.5)
    world.succeed(world.call("b"), after_s=0.5)
    said = world.explained("r")
    assert "Attempt 1 on a took 2 s and failed: unavailable." in said
    assert "Attempt 2 on b took 0.5 s and answered." in said
    assert "Most of it, 80%: attempt 1 on a took 2 s" in said


def test_was_it_a_trial() -> None:
    """Of whose breaker, and whether it cost the request anything."""
    world = FlightWorld("a", "b")
    world.change("a", circuit=CircuitState.HALF_OPEN, trial_permits=1, epoch=2)
    world.ask("r")
    world.succeed(world.call("b"))
    said = world.explained("r")
    assert "Attempt 1 was a trial of a's half-open breaker, beside another attempt." in said
    assert "Not to a: its breaker was half-open, so it was tried beside." in said
    world.ask("other", only=("b",))
    assert "No attempt of it was a trial." in world.explained("other")


@pytest.mark.parametrize(
    ("config", "options", "said"),
    [
        ({}, {}, "hedge_after_s is not set"),
        ({"hedge_after_s": 1.0}, {}, "each attempt was over before hedge_after_s=1"),
        ({"hedge_after_s": 1.0}, {"idempotent": False}, "the request is not idempotent"),
        (
            {"hedge_after_s": 1.0},
            {"max_retries": 0},
            "a hedge counts as a retry, and max_retries is 0",
        ),
    ],
)
def test_why_was_there_no_hedge(config: dict[str, Any], options: dict[str, Any], said: str) -> None:
    """What kept the pool from it."""
    world = FlightWorld("a", "b", **config)
    world.ask("r", **options)
    world.pass_(0.2)
    world.succeed(world.call("a"), after_s=0.2)
    assert f"There was no hedge: {said}." in world.explained("r")


def test_why_there_was_a_hedge() -> None:
    """When it began, and that the first attempt was still running."""
    world = FlightWorld("a", "b", hedge_after_s=1.0)
    world.ask("r")
    world.pass_(1.0)
    world.succeed(world.call("b"))
    said = world.explained("r")
    assert "Attempt 2 was a hedge, 1 s after the first began." in said
    assert "Not to a: attempt 1 was running on it." in said
    assert "Attempt 1 on a was left after 1 s: another attempt was first." in said


def test_why_did_this_key_move() -> None:
    """Who had it before, and why not that one now."""
    world = FlightWorld("a", "b", strategy="consistent_hash")
    world.ask("before", key="k")
    had = world.call().member
    world.succeed(world.call())
    assert "No earlier request of its key is recorded." in world.explained("before")
    world.ask("stays", key="k")
    world.succeed(world.call())
    assert f"Its key stayed with {had}, which had it at" in world.explained("stays")
    _open(world, had, until=109.0)
    world.ask("moved", key="k")
    other = world.call().member
    assert (
        f"Its key moved from {had}, which had it at 00:01:40.000Z, to {other}: its breaker was "
        "open since 00:01:40.000Z until 00:01:49.000Z (9 s more)." in world.explained("moved")
    )


def test_why_was_it_retried_twice() -> None:
    """What failed before, how long it paused, and what allows it."""
    world = FlightWorld("a", "b", max_retries=2, retry_delay_s=1.0)
    world.ask("r")
    for member in ("a", "b"):
        world.pass_(0.5)
        world.fail(world.call(member))
    world.pass_(1.0)
    world.succeed(world.call())
    said = world.explained("r")
    assert (
        "It was tried 3 times, since the ones before failed: unavailable on a and unavailable on "
        "b. max_retries allows 2 after the first." in said
    )
    assert "Nobody untried was left that could take it, so it paused for" in said
    assert "Between them it paused" in said


def test_of_many_members_one_sentence_says_what_was_not_recorded() -> None:
    """Those of which something is known have their own."""
    world = FlightWorld(*(f"m{number}" for number in range(1_100)), strategy="failover")
    world.ask("r", exclude=("m7",))
    world.fail(world.call("m0"))
    world.succeed(world.call())
    said = world.explained("r")
    assert "Not to m0: it had it before (attempt 1 failed: unavailable)." in said
    assert "Not to m7: " in said
    assert (
        "Not to 1,098 others: what they were doing was not recorded, since the pool has too many "
        "members." in said
    )
    assert "Not to m9: " not in said


def test_who_waits_is_told_for_whom() -> None:
    """Of one that nobody has been given yet the wait is all that there is to be told."""
    world = FlightWorld("a")
    world.ask("first")
    world.ask("r")
    world.pass_(3.0)
    assert (
        "Where its time went\n"
        "  It has waited 3 s for a member (a: it was full: 1 call at a time) so far."
        in world.explained("r")
    )


def test_an_answer_that_is_heard_of_late_is_not_called_a_wait() -> None:
    """The member had answered; a busy pool had not read it."""
    line = '["g",1,0,100.0,0,false,[1],[],[],[],[],[]],["s",1,1.0,2.0]'
    world = FlightWorld("a")
    log = world.log()
    log.add(
        read_request(
            f'{{"request":"r","n":1,"at":100.0,"members":1,"end":[103.0,"answered",0,"","",[]],'
            f'"steps":[{line}]}}'
        )
    )
    said = str(explain(log, "r"))
    assert "2 s went by until the pool had heard of its answer." in said
    assert "waited" not in said


def test_the_last_failure_is_no_reason_for_the_attempts_before_it() -> None:
    """Of a request that failed altogether the last attempt was followed by none."""
    world = FlightWorld("a", "b", max_retries=1)
    world.ask("r")
    world.fail(world.call("a"), FailureKind.TIMEOUT)
    world.fail(world.call("b"))
    assert (
        "It was tried 2 times, since the one before failed: timeout on a. max_retries allows 1 "
        "after the first." in world.explained("r")
    )


def test_a_member_whose_failure_is_not_judged_yet_is_not_called_full() -> None:
    """It has room, and another request does not go there all the same."""
    world = FlightWorld("a", "b")
    world.ask("1")
    call = world.call("a")
    world.settle = lambda: None  # type: ignore[method-assign]
    world.fail(call)
    world.succeed(world.call("b"))
    world.ask("2")
    assert "Not to a: its last failure had not been judged yet." in world.explained("2")


def test_the_file_says_the_same_as_the_memory() -> None:
    """What is explained by its lines is explained in the same words."""
    world = FlightWorld("a", "b", strategy="adaptive")
    for number in range(6):
        world.ask(f"{number}", key="k")
        world.pass_(0.25)
        if number % 3 == 2:
            world.fail(world.calls[0])
            world.pass_(0.25)
        world.succeed(world.calls[0], after_s=0.25)
    for number in range(6):
        assert str(explain(world.recorded(), f"{number}")) == world.explained(f"{number}")


def test_of_what_is_not_recorded_nothing_is_said() -> None:
    """It is an error that names the request; one that was turned away is known as that."""
    world = FlightWorld("a")
    with pytest.raises(FlightError, match="nothing is recorded of a request 'r'"):
        explain(world.log(), "r")
    world.flow.endings.close()
    world.ask("r")
    assert world.explained("r") == (
        "r was not taken in at 00:01:40.000Z: the pool was draining or had ended."
    )
