"""What somebody outside says of a member: it opens, rests, is unreachable, is back."""

from __future__ import annotations

from typing import Any

import pytest
from helpers_load import pass_time, settled
from helpers_messages import INFINITY, NAN, agent, refused
from helpers_pools import WAIT_S, echo, pool_of, ranked

from greenroom import (
    AllPoolMembersFailedError,
    CircuitState,
    FailureKind,
    Member,
    PoolRef,
    ReportedState,
    ReportMember,
    Request,
    UnknownMemberError,
)
from greenroom.events import (
    BreakerClosed,
    BreakerHalfOpened,
    BreakerOpened,
    MemberHeard,
    MemberReachable,
    MemberRested,
    MemberResting,
    MemberUnreachable,
    ProbeFailed,
)
from greenroom.messages import SkipReason
from greenroom.testing import EventRecorder, FakeClock, ScriptedAgent, http_error

OPEN, COOLING = ReportedState.OPEN, ReportedState.COOLING
UNREACHABLE, CLOSED = ReportedState.UNREACHABLE, ReportedState.CLOSED


def who(pool: PoolRef, **options: Any) -> str:
    return pool.ask(Request("x", **options), timeout=WAIT_S).member


def skipped(error: AllPoolMembersFailedError) -> dict[str, Any]:
    return {each.member: each.kind for each in error.errors}


# -- the message


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ReportMember("a", "away", for_s=1), "state must be one of open, cooling"),  # type: ignore[arg-type]
        (lambda: ReportMember("a", 3, for_s=1), "TypeError: state must be one of"),  # type: ignore[arg-type]
        (lambda: ReportMember("a", OPEN), "for_s must be a number, got None"),
        (lambda: ReportMember("a", OPEN, for_s=0.0), "for_s must be greater than 0, got 0.0"),
        (lambda: ReportMember("a", COOLING, for_s=NAN), "for_s must be finite"),
        (lambda: ReportMember("a", UNREACHABLE, for_s=-1), "for_s must be at least 0, got -1"),
        (lambda: ReportMember("a", OPEN, for_s=INFINITY), "for_s must be finite"),
        (lambda: ReportMember("a", OPEN, for_s=1e6), "for_s must be at most 86400"),
        (lambda: ReportMember("a", CLOSED, for_s=1.0), "for_s must be left out of 'closed'"),
        (lambda: ReportMember("", CLOSED), "name must not be empty"),
        (lambda: ReportMember("a", CLOSED, source="x\ny"), "source must not contain line breaks"),
        (lambda: ReportMember("a", OPEN, for_s=1, kind="dead"), "kind must be one of timeout"),  # type: ignore[arg-type]
    ],
)
def test_b395_what_cannot_be_said_is_refused(make: Any, said: str) -> None:
    """With the field, the value and the rule."""
    assert said in refused(make)


def test_b395_its_words_may_be_given_as_texts() -> None:
    """As `report_member` takes them."""
    word = ReportMember("a", "open", for_s=1, kind="timeout")  # type: ignore[arg-type]
    assert word.state is OPEN
    assert word.kind is FailureKind.TIMEOUT


def test_b395_nobody_is_told_of_a_member_that_is_none() -> None:
    """Whoever says so hears of it."""
    with pool_of(Member("a", echo)) as pool, pytest.raises(UnknownMemberError, match="'b'"):
        pool.report_member("b", "closed")


# -- open


def test_b396_a_member_said_to_fail_is_given_nothing_until_its_trial() -> None:
    """Its breaker opens without a call, half-opens in its time, and its own trial decides."""
    clock = FakeClock()
    a, b = ScriptedAgent(["a"]), ScriptedAgent(["b"])
    with pool_of(*ranked(a=a, b=b), clock=clock) as pool, EventRecorder() as log:
        assert who(pool) == "a"
        pool.report_member("a", "open", for_s=5.0, source="host-7")
        assert [who(pool) for _ in range(3)] == ["b"] * 3
        assert pool.stats()["a"].circuit is CircuitState.OPEN
        assert log.named(BreakerOpened)[0].heard
        assert log.named(BreakerOpened)[0].severity() == "WARNING"
        assert "unavailable failure, heard from host-7" in log.named(BreakerOpened)[0].reason
        heard = log.named(MemberHeard)[0]
        assert heard.describe() == "heard from host-7: open for 5.0 s"
        pass_time(pool, clock, 4.9)
        assert who(pool) == "b"
        pass_time(pool, clock, 0.2)
        assert log.named(BreakerHalfOpened)
        for _ in range(4):
            who(pool)
            settled(pool, clock)
        assert pool.stats()["a"].circuit is CircuitState.CLOSED
        assert not log.named(BreakerClosed)[0].heard
        assert who(pool) == "a"


def test_b396_an_opening_lasts_as_long_as_the_longer_of_both_says() -> None:
    """Said again, it is put off, a shorter word changes nothing, and it is one event."""
    clock = FakeClock()
    with pool_of(*ranked(a=echo, b=echo), clock=clock) as pool, EventRecorder() as log:
        for for_s in (5.0, 9.0, 2.0):
            pool.report_member("a", "open", for_s=for_s)
        assert pool.stats()["a"].health.reopens_in_s == pytest.approx(9.0)
        assert len(log.named(BreakerOpened)) == 1
        assert [each.for_s for each in log.named(MemberHeard)] == [5.0]


def test_b396_what_is_held_by_hand_stays_so() -> None:
    """Neither word moves it."""
    with pool_of(*ranked(a=echo, b=echo)) as pool:
        pool.force_open("a")
        pool.disable_breaker("b")
        for name in "ab":
            pool.report_member(name, "open", for_s=1.0)
            pool.report_member(name, "closed")
        circuits = [each.circuit for each in pool.stats().members]
        assert circuits == [CircuitState.FORCED_OPEN, CircuitState.DISABLED]


def test_b396_a_member_said_to_work_is_back_at_once_and_eased_in() -> None:
    """Also one whose breaker has opened by failures of its own."""
    clock = FakeClock()
    a = ScriptedAgent.failing(3, http_error(503))
    config: dict[str, Any] = {"circuit_failure_threshold": 3, "circuit_reset_timeout_s": 30.0}
    with pool_of(*ranked(a=a, b=echo), clock=clock, **config) as pool, EventRecorder() as log:
        for _ in range(3):
            assert who(pool) == "b"
            settled(pool, clock)
        assert pool.stats()["a"].circuit is CircuitState.OPEN
        assert log.named(BreakerOpened)[0].kind is FailureKind.UNAVAILABLE
        pool.report_member("a", "closed", source="host-7")
        assert who(pool) == "a"
        closed = log.named(BreakerClosed)[0]
        assert (closed.heard, closed.reason) == (True, "heard from host-7")
        pool.report_member("a", "closed")  # nothing new
        assert len(log.named(MemberHeard)) == 1


def test_b396_a_refused_key_is_not_tried_before_its_time() -> None:
    """Though nobody else is left: what does not pass by itself is no cause for a trial."""
    clock = FakeClock()
    with pool_of(*ranked(a=echo, b=echo), clock=clock) as pool:
        pool.ask(ReportMember("a", OPEN, for_s=60.0, kind=FailureKind.AUTH))
        pool.ask(ReportMember("b", OPEN, for_s=60.0, kind=FailureKind.AUTH))
        with pytest.raises(AllPoolMembersFailedError) as caught:
            who(pool)
        assert set(skipped(caught.value).values()) == {SkipReason.CIRCUIT_OPEN}


# -- cooling


def test_b397_a_member_said_to_be_throttled_rests() -> None:
    """As long as that, beside its breaker, and who hears of the rest knows that it was heard."""
    clock = FakeClock()
    with pool_of(*ranked(a=echo, b=echo), clock=clock) as pool, EventRecorder() as log:
        pool.report_member("a", "cooling", for_s=3.0, source="host-7")
        assert who(pool) == "b"
        resting = log.wait_for(MemberResting)
        assert resting.heard
        assert resting.rests_s == pytest.approx(3.0)
        assert resting.kind is FailureKind.RATE_LIMITED
        assert log.wait_for(MemberHeard).state is COOLING
        assert pool.stats()["a"].circuit is CircuitState.CLOSED
        pass_time(pool, clock, 3.1)
        assert log.named(MemberRested)
        assert who(pool) == "a"


def test_b397_a_rest_of_its_own_can_be_told_from_one_that_was_heard() -> None:
    """So that who shares them shares each once: how long, what for, and that it was not heard."""
    clock = FakeClock()
    a = ScriptedAgent.rate_limited(1, 7.0)
    with pool_of(*ranked(a=a, b=echo), clock=clock) as pool, EventRecorder() as log:
        assert who(pool) == "b"
        resting = log.wait_for(MemberResting)
        assert not resting.heard
        assert resting.rests_s == pytest.approx(7.0)
        assert resting.kind is FailureKind.RATE_LIMITED


# -- unreachable


def test_b398_an_engine_that_is_away_costs_no_attempts_and_opens_no_breaker() -> None:
    """300 requests: each is answered by the other one, at its first attempt."""
    clock = FakeClock()
    a = ScriptedAgent(["a"])
    with pool_of(*ranked(a=a, b=echo), clock=clock) as pool, EventRecorder() as log:
        pool.report_member("a", "unreachable", for_s=5.0, source="its broker")
        replies = [pool.ask(Request("x"), timeout=WAIT_S) for _ in range(300)]
        assert {(each.member, each.attempts) for each in replies} == {("b", 1)}
        assert not a.calls
        assert pool.stats()["a"].circuit is CircuitState.CLOSED
        away = log.named(MemberUnreachable)[0]
        assert away.describe() == (
            "unreachable for 5.0 s, its broker says: it is given nothing, and not blamed"
        )
        pass_time(pool, clock, 5.1)
        assert log.named(MemberReachable)[0].after_s == pytest.approx(5.0, abs=0.1)
        assert who(pool) == "a"
        assert not log.named(BreakerOpened)


def test_b398_the_last_word_on_it_holds_and_is_told_once() -> None:
    """Said again and again, it is one event; with 0 seconds, or as closed, it is reachable."""
    clock = FakeClock()
    with pool_of(*ranked(a=echo, b=echo), clock=clock) as pool, EventRecorder() as log:
        for _ in range(4):
            pool.report_member("a", "unreachable", for_s=2.0)
            pass_time(pool, clock, 1.0)
        assert who(pool) == "b"
        assert len(log.named(MemberUnreachable)) == 1
        pool.report_member("a", "unreachable", for_s=0)
        assert who(pool) == "a"
        pool.report_member("a", "unreachable", for_s=2.0)
        assert who(pool) == "b"
        pool.report_member("a", "closed")
        assert who(pool) == "a"
        pool.report_member("a", "unreachable", for_s=2.0)
        pool.reset_member("a")
        assert who(pool) == "a"
        assert len(log.named(MemberReachable)) == 3


def test_b398_who_asks_is_told_that_it_was_unreachable_and_for_how_long() -> None:
    """Or waits for it, where requests wait for members to come back."""
    clock = FakeClock()
    with pool_of(Member("a", echo), clock=clock) as pool:
        pool.report_member("a", "unreachable", for_s=5.0)
        with pytest.raises(AllPoolMembersFailedError) as caught:
            who(pool)
        assert skipped(caught.value) == {"a": SkipReason.UNREACHABLE}
        assert caught.value.retry_after_s == pytest.approx(5.0)
    with pool_of(Member("a", echo), clock=clock, when_unavailable="wait") as pool:
        pool.report_member("a", "unreachable", for_s=5.0)
        future = pool.ask(Request("x"), block=False)
        pass_time(pool, clock, 4.0)
        assert not future.done()
        pass_time(pool, clock, 1.1)
        assert future.get(timeout=WAIT_S).member == "a"


def test_b398_what_fails_while_it_is_away_counts_for_nothing() -> None:
    """Calls that were on it when its engine went away, and its probes."""
    clock = FakeClock()
    config: dict[str, Any] = {"circuit_failure_threshold": 1, "max_retries": 0}
    pings: list[int] = []

    def ping() -> bool:
        pings.append(1)
        raise ConnectionError("no route")

    def lost(payload: Any) -> Any:
        pool.tell(ReportMember("a", UNREACHABLE, for_s=100.0))
        pool.stats()
        raise ConnectionError("no route")

    members = [Member("a", lost, probe=ping), Member("b", echo, priority=1)]
    with pool_of(*members, clock=clock, **config) as pool, EventRecorder() as log:
        with pytest.raises(AllPoolMembersFailedError):
            who(pool)
        settled(pool, clock)
        pass_time(pool, clock, 90.0, step_s=1.0)
        assert not pings
        assert not log.named(ProbeFailed)
        assert not log.named(BreakerOpened)
        assert pool.stats()["a"].circuit is CircuitState.CLOSED


def test_b398_a_refused_key_counts_whatever_is_said_of_the_way() -> None:
    """It has come from the member itself."""
    clock = FakeClock()

    def refuses(payload: Any) -> Any:
        pool.tell(ReportMember("a", UNREACHABLE, for_s=100.0))
        pool.stats()
        raise http_error(401)

    with pool_of(*ranked(a=refuses, b=echo), clock=clock) as pool:
        assert who(pool) == "b"
        settled(pool, clock)
        assert pool.stats()["a"].circuit is CircuitState.OPEN


def test_b398_the_last_one_stays_though_the_other_is_away() -> None:
    """A member that cannot be reached is out, and cannot be tried: the one whose breaker is open
    is.
    """
    clock = FakeClock()
    with pool_of(*ranked(a=agent, b=echo), clock=clock) as pool:
        pool.report_member("a", "unreachable", for_s=60.0)
        pool.report_member("b", "open", for_s=60.0)
        assert who(pool) == "b"
