"""when_unavailable="wait": who waits for which member to come back, and who does not. Number 52."""

from __future__ import annotations

from typing import Any

import pytest
from helpers_agents import Held
from helpers_pools import WAIT_S, ask, pool_of, ranked

from greenroom import (
    AllPoolMembersFailedError,
    CircuitState,
    DeadlineExceededError,
    FailureKind,
    Member,
    PoolFuture,
    PoolRef,
    Reply,
    Request,
    SkipReason,
)
from greenroom.messages import AttemptFailed, BreakerOpened
from greenroom.testing import EventRecorder, FakeClock, ScriptedAgent, http_error

FIRST_OPENING_S = 30.0
"""`circuit_reset_timeout_s`: a 401 opens a breaker at once, for that long the first time."""


def out(then: Any = "back", **retry_after_s: float) -> list[Member]:
    """Members that answer their first call with a 429 and that Retry-After, then `then`."""
    return ranked(
        **{
            name: ScriptedAgent([http_error(429, seconds), then])
            for name, seconds in retry_after_s.items()
        }
    )


def all_out(pool: PoolRef) -> None:
    """One request that every member fails: none is routable after it."""
    with pytest.raises(AllPoolMembersFailedError):
        pool.ask(Request("puts them out", max_retries=len(pool.stats().members) - 1))
    assert pool.stats().available == ()


def fails_at_once(future: PoolFuture[Reply[Any]], match: str) -> AllPoolMembersFailedError:
    with pytest.raises(AllPoolMembersFailedError, match=match) as caught:
        future.get(timeout=WAIT_S)
    return caught.value


def test_b52_a_request_waits_for_the_earliest_reopening() -> None:
    """Three members that come back at different times: the first one back has it, no sooner."""
    clock = FakeClock()
    members = out(a=20.0, b=12.0, c=30.0)
    with pool_of(*members, clock=clock, when_unavailable="wait") as pool:
        all_out(pool)
        future = ask(pool)
        assert pool.stats().pending == 1
        clock.advance(11.999)
        assert pool.stats().pending == 1
        assert not future.done()
        clock.advance(0.001)
        reply = future.get(timeout=WAIT_S)
        assert (reply.member, reply.attempts, reply.errors) == ("b", 1, ())
        assert reply.elapsed_s == pytest.approx(12.0)
        assert [len(member.agent.calls) for member in members] == [1, 2, 1]


def test_b52_it_fails_at_once_when_no_reopening_falls_within_its_deadline() -> None:
    """The error says both times, lists every member, and when the first may be back."""
    clock = FakeClock()
    with pool_of(*out(a=20.0, b=12.0), clock=clock, when_unavailable="wait") as pool:
        all_out(pool)
        clock.advance(2.0)
        error = fails_at_once(
            ask(pool, timeout_s=8.0), r"before the deadline: the first in 10\.0 s, 8\.0 s left"
        )
        assert error.retry_after_s == pytest.approx(10.0)
        assert [(e.member, e.kind, e.detail) for e in error.errors] == [
            ("a", SkipReason.COOLING_DOWN, "back in 18.0 s"),
            ("b", SkipReason.COOLING_DOWN, "back in 10.0 s"),
        ]


@pytest.mark.parametrize("limit", ["timeout_s", "ask", "deadline_s"])
@pytest.mark.parametrize("seconds", [12.0, 12.25])
def test_b52_a_reopening_at_the_very_deadline_is_too_late(limit: str, seconds: float) -> None:
    """Whichever limit it is; the least bit before it is waited for, and served."""
    clock = FakeClock()
    config: dict[str, Any] = {"deadline_s": seconds} if limit == "deadline_s" else {}
    with pool_of(*out(a=12.0), clock=clock, when_unavailable="wait", **config) as pool:
        all_out(pool)
        request: Request[str] = Request("x", timeout_s=seconds if limit == "timeout_s" else None)
        timeout = seconds if limit == "ask" else None
        future: PoolFuture[Reply[Any]] = pool.ask(request, block=False, timeout=timeout)
        if seconds == 12.0:
            fails_at_once(future, r"the first in 12\.0 s, 12\.0 s left")
        else:
            assert pool.stats().pending == 1
            clock.advance(12.0)
            assert future.get(timeout=WAIT_S).value == "back"


def test_b52_who_waits_is_failed_at_its_deadline_all_the_same() -> None:
    """The member that it waited for comes back, but another request has it."""
    clock, agent = FakeClock(), Held(http_error(401))
    with pool_of(*ranked(a=agent), clock=clock, when_unavailable="wait") as pool:
        agent.let_go()
        all_out(pool)
        agent.wait_entered()
        first, second = ask(pool, "first"), ask(pool, "second", timeout_s=FIRST_OPENING_S + 1)
        pool.stats()
        clock.advance(FIRST_OPENING_S)
        agent.wait_entered()
        clock.advance(1.0)
        with pytest.raises(DeadlineExceededError) as caught:
            second.get(timeout=WAIT_S)
        assert [e.kind for e in caught.value.errors] == [SkipReason.TRIAL_RUNNING]
        agent.value = "back"
        agent.let_go()
        assert first.get(timeout=WAIT_S).value == "back"
        assert agent.payloads == ["puts them out", "first"]


def test_b52_a_member_added_while_they_wait_serves_them() -> None:
    """At once, in order, and the one that is out is left alone."""
    clock = FakeClock()
    new = ScriptedAgent(["new"])
    with pool_of(*out(a=12.0), clock=clock, when_unavailable="wait") as pool:
        all_out(pool)
        futures = [ask(pool, n) for n in range(3)]
        assert pool.stats().pending == 3
        pool.add_member(Member("b", new))
        assert [future.get(timeout=WAIT_S).member for future in futures] == ["b"] * 3
        assert new.calls == [0, 1, 2]


@pytest.mark.parametrize("reset", ["reset_member", "reset_all"])
def test_b52_a_reset_while_they_wait_lets_them_go_on(reset: str) -> None:
    """Nobody waits for a time that does not hold any more."""
    clock = FakeClock()
    agent = ScriptedAgent([http_error(401), "back"])
    with pool_of(*ranked(a=agent), clock=clock, when_unavailable="wait") as pool:
        all_out(pool)
        futures = [ask(pool, n) for n in range(3)]
        assert pool.stats().pending == 3
        pool.reset_all() if reset == "reset_all" else pool.reset_member("a")
        assert [future.get(timeout=WAIT_S).value for future in futures] == ["back"] * 3


def test_b52_a_member_held_open_is_not_waited_for() -> None:
    """It never reopens by itself: who waits, waits for the others, or fails without any."""
    clock = FakeClock()
    members = out(a=12.0, b=20.0)
    with pool_of(*members, clock=clock, when_unavailable="wait") as pool:
        all_out(pool)
        patient, hasty = ask(pool, "patient"), ask(pool, "hasty", timeout_s=15.0)
        assert pool.stats().pending == 2
        pool.force_open("a")
        fails_at_once(hasty, r"the first in 20\.0 s, 15\.0 s left")
        clock.advance(19.9)
        assert pool.stats().pending == 1
        clock.advance(0.1)
        assert patient.get(timeout=WAIT_S).member == "b"
        pool.force_open("b")
        clock.advance(3600.0)
        fails_at_once(ask(pool), "none says when it will be")
        assert [len(member.agent.calls) for member in members] == [1, 2]


def test_b52_who_waits_for_the_last_hope_fails_when_it_is_held_open_or_removed() -> None:
    """At once, whatever its deadline."""
    for end in ("force_open", "remove_member"):
        with pool_of(*out(a=12.0), clock=FakeClock(), when_unavailable="wait") as pool:
            all_out(pool)
            futures = [ask(pool), ask(pool, timeout_s=100.0)]
            assert pool.stats().pending == 2
            getattr(pool, end)("a")
            for future in futures:
                fails_at_once(future, "no member")


def trial_fails(pool: PoolRef, clock: FakeClock, agent: Held, log: EventRecorder) -> float:
    """At the first reopening the trial, which has begun, fails; how long the second opening is."""
    clock.advance(FIRST_OPENING_S)
    agent.wait_entered()
    agent.let_go()
    log.wait_for(BreakerOpened, count=2)
    reopens_in_s = pool.stats()["a"].reopens_in_s
    assert reopens_in_s is not None
    assert reopens_in_s >= FIRST_OPENING_S
    return reopens_in_s


def test_b52_a_trial_that_fails_sends_the_others_back_to_waiting() -> None:
    """Until the next reopening; those whose deadline is before that fail there and then."""
    clock, agent = FakeClock(), Held(http_error(401))
    with (
        EventRecorder() as log,
        pool_of(*ranked(a=agent), clock=clock, when_unavailable="wait", max_retries=0) as pool,
    ):
        agent.let_go()
        all_out(pool)
        agent.wait_entered()
        trial, patient = ask(pool, "trial"), ask(pool, "patient")
        hasty = ask(pool, "hasty", timeout_s=FIRST_OPENING_S + 29.0)
        assert pool.stats().pending == 3
        reopens_in_s = trial_fails(pool, clock, agent, log)
        assert [e.kind for e in fails_at_once(trial, "max_retries=0").errors] == [FailureKind.AUTH]
        error = fails_at_once(hasty, r"29\.0 s left")
        assert error.retry_after_s == pytest.approx(reopens_in_s)
        assert pool.stats().pending == 1
        agent.value = "back"
        clock.advance(reopens_in_s - 0.01)
        assert pool.stats().pending == 1
        clock.advance(0.01)
        agent.let_go()
        assert patient.get(timeout=WAIT_S).value == "back"
        assert agent.payloads == ["puts them out", "trial", "patient"]


def test_b52_a_trial_that_fails_leaves_the_others_to_another_member() -> None:
    """The next one to reopen has them all, the one that was the trial included: what has failed
    it does not pass with time, so only another member can help.
    """
    clock = FakeClock()
    first, second = (
        ScriptedAgent([http_error(401)]),
        ScriptedAgent([http_error(429, 40.0), "second"]),
    )
    with (
        EventRecorder() as log,
        pool_of(
            *ranked(a=first, b=second), clock=clock, when_unavailable="wait", max_retries=1
        ) as pool,
    ):
        all_out(pool)
        failed = len(log.named(AttemptFailed))
        futures = [ask(pool, n) for n in range(3)]
        assert pool.stats().pending == 3
        clock.advance(FIRST_OPENING_S)
        log.wait_for(AttemptFailed, count=failed + 1)
        clock.advance(9.9)
        assert pool.stats().pending == 3
        clock.advance(0.1)
        assert [future.get(timeout=WAIT_S).member for future in futures] == ["b"] * 3
        assert len(first.calls) == 2


def test_b52_after_a_lasting_failure_only_an_untried_member_is_waited_for() -> None:
    """It is not called again meanwhile; and the request fails at once if its time is too short."""
    clock = FakeClock()
    first, second = (
        ScriptedAgent([http_error(413)]),
        ScriptedAgent([http_error(429, 40.0), "second"]),
    )
    with pool_of(*ranked(a=first, b=second), clock=clock, when_unavailable="wait") as pool:
        pool.force_open("a")
        with pytest.raises(AllPoolMembersFailedError):
            ask(pool).get(timeout=WAIT_S)
        pool.reset_member("a")
        future, hurried = ask(pool), ask(pool, timeout_s=10.0)
        fails_at_once(hurried, "too_large does not pass with time")
        assert pool.stats().pending == 1
        clock.advance(40.0)
        assert future.get(timeout=WAIT_S).member == "b"
        assert (len(first.calls), len(second.calls)) == (2, 2)


def test_b52_who_cannot_help_is_not_asked_again_while_another_one_rests() -> None:
    """One has refused the request for good, the other one rests: that one is waited for."""
    clock = FakeClock()
    first, second = (
        ScriptedAgent([http_error(413)]),
        ScriptedAgent([http_error(429, 1.0), "second"]),
    )
    members = ranked(a=first, b=second)
    with EventRecorder() as log, pool_of(*members, clock=clock, retry_delay_s=0.0) as pool:
        future = ask(pool)
        log.wait_for(AttemptFailed, count=2)
        assert pool.stats().pending == 1
        clock.advance(1.0)
        assert future.get(timeout=WAIT_S).member == "b"
        assert (len(first.calls), len(second.calls)) == (1, 2)


def test_b52_a_request_that_has_failed_waits_like_any_other() -> None:
    """Its attempt has opened the only member: it is tried again once that is back."""
    clock = FakeClock()
    agent = ScriptedAgent([http_error(503), "back"])
    with (
        EventRecorder() as log,
        pool_of(
            *ranked(a=agent),
            clock=clock,
            when_unavailable="wait",
            circuit_failure_threshold=1,
            retry_delay_s=0.0,
        ) as pool,
    ):
        future = ask(pool)
        log.wait_for(BreakerOpened)
        clock.advance(0.0)  # its backoff is over
        assert pool.stats().pending == 1
        clock.advance(FIRST_OPENING_S)
        reply = future.get(timeout=WAIT_S)
        assert (reply.value, reply.attempts) == ("back", 2)


def test_b52_the_first_in_rank_is_the_trial() -> None:
    """51 holds for those that wait for a reopening: the better one has the one permit."""
    clock, agent = FakeClock(), Held(http_error(401))
    with pool_of(*ranked(a=agent), clock=clock, when_unavailable="wait") as pool:
        agent.let_go()
        all_out(pool)
        agent.wait_entered()
        agent.value = "back"
        low, high = ask(pool, "low"), ask(pool, "high", priority=1)
        assert pool.stats().pending == 2
        clock.advance(FIRST_OPENING_S)
        agent.wait_entered()
        assert agent.payloads == ["puts them out", "high"]
        assert pool.stats()["a"].circuit is CircuitState.HALF_OPEN
        agent.let_go(2)
        assert {f.get(timeout=WAIT_S).value for f in (low, high)} == {"back"}
