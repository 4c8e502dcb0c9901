"""Throttling is not ill health: who is throttled rests, and its breaker stays as it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from helpers_load import FixedWindow, TokenBucket, ask_at, error_of, pass_time, settled
from helpers_pools import WAIT_S, pool_of, ranked

from greenroom import (
    AllPoolMembersFailedError,
    LoadBalanceStrategy,
    Member,
    PoolFuture,
    PoolSaturatedError,
    Request,
)
from greenroom.messages import (
    AgentStatus,
    BreakerOpened,
    CircuitState,
    FailureKind,
    HealthChanged,
    MemberRested,
    MemberResting,
    RetryScheduled,
    SkipReason,
)
from greenroom.testing import AsyncScriptedAgent, EventRecorder, FakeClock, http_error

STRATEGIES = [str(each) for each in LoadBalanceStrategy]
Maker = Callable[[FakeClock], Any]
PROVIDERS: dict[str, Maker] = {
    "fixed windows": lambda clock: FixedWindow(clock, 5),
    "token bucket": lambda clock: TokenBucket(clock, 5),
}


def answered(futures: list[PoolFuture[Any]]) -> list[int]:
    return [i for i, future in enumerate(futures) if error_of(future) is None]


# -- the cases of the field


@pytest.mark.parametrize("provider", sorted(PROVIDERS))
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_two_throttled_providers_answer_what_they_can(strategy: str, provider: str) -> None:
    """Five calls a second each, a load of thirteen, for ten seconds: at least 90 of the 100 that
    are possible, in the last four seconds as in the first.
    """
    clock = FakeClock()
    a, b = PROVIDERS[provider](clock), PROVIDERS[provider](clock)
    with (
        EventRecorder() as log,
        pool_of(Member("a", a), Member("b", b, priority=1), clock=clock, strategy=strategy) as pool,
    ):
        futures = ask_at(pool, clock, [i / 13 for i in range(130)])
        pass_time(pool, clock, 2.0)
        got = answered(futures)
        assert len(got) >= 90
        assert len([i for i in got if i >= 78]) >= 36
        assert len([i for i in got if i < 52]) >= 36
        stats = pool.stats()
        assert {each.circuit for each in stats.members} == {CircuitState.CLOSED}
        assert {each.status for each in stats.members} == {AgentStatus.HEALTHY}
        assert not log.named(BreakerOpened)
        assert not log.named(HealthChanged)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_after_a_burst_the_pool_does_as_well_as_a_bare_client(strategy: str) -> None:
    """160 calls at once on two keys of 60 a minute; then one a second, as many as one key refills:
    each is answered.
    """
    clock = FakeClock()
    keys = [Member(name, TokenBucket(clock, 1.0, burst=60), max_concurrency=100) for name in "ab"]
    with pool_of(*keys, clock=clock, strategy=strategy) as pool:
        burst = [pool.ask(Request(i, key=str(i)), block=False) for i in range(160)]
        settled(pool, clock)
        while pool.stats().pending:
            pass_time(pool, clock, 1.0)
        assert len(answered(burst)) >= 120
        pass_time(pool, clock, 1.0)
        later = ask_at(pool, clock, range(14))
        assert len(answered(later)) == 14


def test_one_that_waits_for_the_first_to_be_back_is_told_of_nobody_else() -> None:
    """The last one to fail it asks for 20 s, the first one for 1 s: it is tried again after 1 s."""
    clock = FakeClock()
    a = AsyncScriptedAgent([http_error(429, 1), "back"])
    b = AsyncScriptedAgent([http_error(429, 20), "late"])
    with EventRecorder() as log, pool_of(*ranked(a=a, b=b), clock=clock) as pool:
        future = pool.ask(Request("x"), block=False)
        log.wait_for(RetryScheduled)
        (planned,) = log.named(RetryScheduled)
        assert planned.delay_s == 1.0
        pass_time(pool, clock, 1.0, step_s=1.0)
        assert future.get(timeout=WAIT_S).member == "a"


def test_a_request_waits_for_one_that_it_has_not_tried() -> None:
    """That rests, too, and is back sooner than who has failed it."""
    clock = FakeClock()
    a = AsyncScriptedAgent([http_error(429, 2), "a"])
    b = AsyncScriptedAgent([http_error(429, 20), "b"])
    with EventRecorder() as log, pool_of(*ranked(a=a, b=b), clock=clock) as pool:
        first = pool.ask(Request(1, max_retries=0), block=False)
        assert isinstance(error_of(first, WAIT_S), AllPoolMembersFailedError)
        second = pool.ask(Request(2), block=False)
        log.wait_for(RetryScheduled)
        (planned,) = log.named(RetryScheduled)
        assert planned.delay_s == 2.0
        pass_time(pool, clock, 2.0, step_s=2.0)
        assert second.get(timeout=WAIT_S).member == "a"


# -- what an error says


def test_the_first_error_of_throttled_members_has_the_true_seconds() -> None:
    """The first one to be back, not the last one to fail."""
    clock = FakeClock()
    agents = {
        "a": AsyncScriptedAgent([http_error(429, 7.5)]),
        "b": AsyncScriptedAgent([http_error(429, 29)]),
    }
    with pool_of(*ranked(**agents), clock=clock, max_retries=1) as pool:
        with pytest.raises(AllPoolMembersFailedError) as caught:
            pool.execute("x", timeout=WAIT_S)
        assert caught.value.retry_after_s == 7.5
        clock.advance(2.5)
        with pytest.raises(AllPoolMembersFailedError) as caught:
            pool.execute("x", timeout=WAIT_S)
        assert caught.value.retry_after_s == 5.0
        assert [(e.kind, e.detail) for e in caught.value.errors] == [
            (SkipReason.COOLING_DOWN, "back in 5.0 s"),
            (SkipReason.COOLING_DOWN, "back in 26.5 s"),
        ]
        assert [len(agent.calls) for agent in agents.values()] == [1, 1]


def test_without_a_retry_after_the_error_has_the_pools_own_pause() -> None:
    """Between half a second and one at first."""
    clock = FakeClock()
    with pool_of(
        Member("a", AsyncScriptedAgent([http_error(429)])), clock=clock, max_retries=0
    ) as pool:
        with pytest.raises(AllPoolMembersFailedError) as caught:
            pool.execute("x", timeout=WAIT_S)
        assert caught.value.retry_after_s is not None
        assert 0.5 <= caught.value.retry_after_s <= 1.0
        assert pool.stats()["a"].reopens_in_s == pytest.approx(caught.value.retry_after_s)


def test_a_full_queue_says_when_the_first_member_is_back() -> None:
    """Requests wait for a resting member; one too many is told the true seconds."""
    clock = FakeClock()
    agent = AsyncScriptedAgent([http_error(429, 5), "late"])
    config: dict[str, Any] = {"when_unavailable": "wait", "max_pending": 1, "max_retries": 0}
    with pool_of(Member("a", agent), clock=clock, **config) as pool:
        with pytest.raises(AllPoolMembersFailedError):
            pool.execute("x", timeout=WAIT_S)
        waiting = pool.ask(Request("y"), block=False)
        with pytest.raises(PoolSaturatedError) as caught:
            pool.execute("z", timeout=WAIT_S)
        assert caught.value.retry_after_s == 5.0
        pass_time(pool, clock, 5.0, step_s=1.0)
        assert waiting.get(timeout=WAIT_S).value == "late"


# -- when every member rests


def test_who_may_wait_is_answered_by_the_first_member_back() -> None:
    """One after the other, as it comes back at a pace."""
    clock = FakeClock()
    agent = TokenBucket(clock, 1.0)
    with pool_of(Member("a", agent), clock=clock, when_unavailable="wait", max_retries=0) as pool:
        assert pool.execute(0, timeout=WAIT_S) == 0
        with pytest.raises(AllPoolMembersFailedError):
            pool.execute(1, timeout=WAIT_S)
        waiting = [pool.ask(Request(i), block=False) for i in range(3)]
        hurried = pool.ask(Request("h", timeout_s=0.5), block=False)
        assert isinstance(error_of(hurried, WAIT_S), AllPoolMembersFailedError)
        pass_time(pool, clock, 1.0, step_s=1.0)
        assert waiting[0].get(timeout=WAIT_S).value == 0
        assert agent.calls == 5  # then there was room for two, and no token


def test_a_member_back_from_its_rest_is_not_taken_by_storm() -> None:
    """Of fifty that wait for it one gets through, then two, then four."""
    clock = FakeClock()
    running: list[int] = []

    async def agent(payload: Any) -> Any:
        if payload == "first":
            raise http_error(429, 5)
        running.append(len(running))
        await clock.sleep(1.0)
        return payload

    config: dict[str, Any] = {"when_unavailable": "wait", "max_retries": 0}
    with pool_of(Member("a", agent), clock=clock, **config) as pool:
        with pytest.raises(AllPoolMembersFailedError):
            pool.execute("first", timeout=WAIT_S)
        waiting = [pool.ask(Request(i), block=False) for i in range(50)]
        settled(pool, clock)
        counts = []
        for seconds in (5.0, 1.0, 1.0, 1.0):
            clock.advance(seconds)
            settled(pool, clock)
            counts.append(len(running))
        assert counts == [1, 3, 7, 15]
        for _ in range(3):
            clock.advance(1.0)
            settled(pool, clock)
        assert len(answered(waiting)) == 50


# -- what it leaves alone


def test_no_number_of_throttlings_opens_a_breaker() -> None:
    """They count neither in the row nor in a rate, and the member is healthy."""
    clock = FakeClock()
    agent = AsyncScriptedAgent([http_error(429, 0.5)])
    with EventRecorder() as log, pool_of(Member("a", agent), clock=clock, max_retries=0) as pool:
        for _ in range(50):
            assert isinstance(
                error_of(pool.ask(Request("x"), block=False), WAIT_S), AllPoolMembersFailedError
            )
            pass_time(pool, clock, 0.5, step_s=0.5)
        stats = pool.stats()["a"]
        assert (stats.circuit, stats.status) == (CircuitState.CLOSED, AgentStatus.HEALTHY)
        assert (stats.failures, stats.consecutive_failures, stats.error_rate) == (50, 0, 0.0)
        assert stats.last_error == "ScriptedHTTPError: 429 Too Many Requests"
        assert log.named(BreakerOpened) == []


def test_a_throttled_trial_is_made_again_after_the_rest() -> None:
    """It gives its permit back: the breaker stays half-open, the request after that closes it."""
    clock = FakeClock()
    agent = AsyncScriptedAgent([http_error(503), http_error(429, 3), "back"])
    config: dict[str, Any] = {
        "circuit_failure_threshold": 1,
        "circuit_success_threshold": 1,
        "max_retries": 0,
    }
    with pool_of(Member("a", agent), clock=clock, **config) as pool:
        assert isinstance(error_of(pool.ask(Request(1), block=False), WAIT_S), Exception)
        pass_time(pool, clock, 5.0, step_s=5.0)
        assert isinstance(error_of(pool.ask(Request(2), block=False), WAIT_S), Exception)
        stats = pool.stats()["a"]
        assert (stats.circuit, stats.available, stats.reopens_in_s) == ("half_open", False, 3.0)
        pass_time(pool, clock, 3.0, step_s=3.0)
        assert pool.execute(3, timeout=WAIT_S) == "back"
        assert pool.stats()["a"].circuit is CircuitState.CLOSED


def test_a_retry_after_of_another_failure_rests_its_member_and_counts() -> None:
    """A 503 that says when to come back."""
    clock = FakeClock()
    agents = {"a": AsyncScriptedAgent([http_error(503, 4), "back"]), "b": AsyncScriptedAgent(["b"])}
    with pool_of(*ranked(**agents), clock=clock) as pool:
        assert pool.execute(1, timeout=WAIT_S) == "b"
        stats = pool.stats()["a"]
        assert (stats.consecutive_failures, stats.available, stats.reopens_in_s) == (1, False, 4.0)
        assert pool.execute(2, timeout=WAIT_S) == "b"
        pass_time(pool, clock, 4.0, step_s=4.0)
        assert pool.execute(3, timeout=WAIT_S) == "back"


# -- what it tells


def test_a_rest_is_told_once_and_so_is_its_end() -> None:
    """However many calls of a burst are throttled."""
    clock = FakeClock()
    agent = FixedWindow(clock, 1, width_s=10.0)
    with EventRecorder() as log, pool_of(Member("a", agent), clock=clock, max_retries=0) as pool:
        futures = [pool.ask(Request(i), block=False) for i in range(20)]
        settled(pool, clock)
        assert len(answered(futures)) == 1
        log.wait_for(MemberResting)
        (resting,) = log.named(MemberResting)
        assert (resting.member, resting.kind, resting.rests_s) == ("a", "rate_limited", 10.0)
        assert resting.until == clock.wall() + 10.0
        assert log.named(MemberRested) == []
        pass_time(pool, clock, 10.0, step_s=5.0)
        log.wait_for(MemberRested)
        (rested,) = log.named(MemberRested)
        assert (rested.member, rested.level) == ("a", "INFO")
        assert len(log.named(MemberResting)) == 1


def test_a_reset_ends_a_rest() -> None:
    """By hand, and it is told."""
    clock = FakeClock()
    agent = AsyncScriptedAgent([http_error(429, 60), "back"])
    with EventRecorder() as log, pool_of(Member("a", agent), clock=clock, max_retries=0) as pool:
        assert isinstance(error_of(pool.ask(Request(1), block=False), WAIT_S), Exception)
        pool.reset_member("a")
        log.wait_for(MemberRested)
        assert len(log.named(MemberRested)) == 1
        assert pool.execute(2, timeout=WAIT_S) == "back"
        pass_time(pool, clock, 120.0, step_s=60.0)
        assert len(log.named(MemberRested)) == 1


# -- a model that is retired


def test_a_member_that_has_not_the_model_rests_when_another_has_it() -> None:
    """1 s at first, twice as long each time; no breaker, and nobody's request fails."""
    clock = FakeClock()
    gone, other = AsyncScriptedAgent([http_error(404)]), AsyncScriptedAgent(["other"])
    with (
        EventRecorder() as log,
        pool_of(*ranked(gone=gone, other=other), clock=clock) as pool,
    ):
        for calls in (1, 2, 3):
            assert pool.execute("x", timeout=WAIT_S) == "other"
            assert pool.execute("x", timeout=WAIT_S) == "other"
            assert len(gone.calls) == calls
            stats = pool.stats()["gone"]
            assert (stats.circuit, stats.status) == (CircuitState.CLOSED, AgentStatus.HEALTHY)
            assert 2 ** (calls - 2) <= (stats.reopens_in_s or 0.0) <= 2 ** (calls - 1)
            pass_time(pool, clock, 2.0 ** (calls - 1))
        log.wait_for(MemberResting, count=3)
        kinds = {event.kind for event in log.named(MemberResting)}
        assert kinds == {FailureKind.NOT_FOUND}


def test_what_nobody_has_rests_nobody() -> None:
    """It is the request that asks for the wrong thing."""
    clock = FakeClock()
    agents = {name: AsyncScriptedAgent([http_error(404), http_error(404), "good"]) for name in "ab"}
    config: dict[str, Any] = {"max_retries": 1, "retry_delay_s": 0.0}
    with EventRecorder() as log, pool_of(*ranked(**agents), clock=clock, **config) as pool:
        for _ in range(2):
            assert isinstance(
                error_of(pool.ask(Request("x"), block=False), WAIT_S), AllPoolMembersFailedError
            )
        assert pool.stats().available == ("a", "b")
        assert pool.execute("y", timeout=WAIT_S) == "good"
        assert log.named(MemberResting) == []
