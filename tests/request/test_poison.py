"""Poison requests: what follows a request, and not a member, harms nobody else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from helpers_load import error_of, settled
from helpers_pools import WAIT_S, pool_of, ranked
from hypothesis import example, given, settings
from hypothesis import strategies as st

from greenroom import (
    AllPoolMembersFailedError,
    DeadlineExceededError,
    LoadBalanceStrategy,
    Member,
    PoolFuture,
    PoolRef,
    PoolStats,
    Request,
)
from greenroom.messages import AgentStatus, BreakerClosed, BreakerOpened, CircuitState
from greenroom.testing import EventRecorder, FakeClock, http_error

LIMIT_S = 10.0
POISON: dict[str, Callable[[], Exception]] = {
    "403": lambda: http_error(403),
    "500": lambda: http_error(500),
    "529": lambda: http_error(529),
    "KeyError": lambda: KeyError("customer"),
    "TimeoutError": lambda: TimeoutError("slow"),
    "ConnectionError": lambda: ConnectionError("reset"),
}
KINDS = [*sorted(POISON), "too slow"]
STRATEGIES = [str(each) for each in LoadBalanceStrategy]


class Reader:
    """Answers, but for a payload that is poison to every agent."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.calls = 0

    async def __call__(self, payload: Any) -> Any:
        self.calls += 1
        if payload == "too slow":
            await self.clock.sleep(1000 * LIMIT_S)
        if payload in POISON:
            raise POISON[payload]()
        return payload


def readers(clock: FakeClock, count: int) -> list[Reader]:
    return [Reader(clock) for _ in range(count)]


def members(agents: list[Reader]) -> list[Member]:
    return [Member(f"m{i}", agent, priority=i) for i, agent in enumerate(agents)]


def bring_to_an_end(pool: PoolRef, clock: FakeClock, futures: list[PoolFuture[Any]]) -> PoolStats:
    """Let time pass, one attempt's after the other, until each has its answer."""
    for _ in range(100):
        settled(pool, clock)
        stats = pool.stats()
        if stats.pending == stats.in_flight == 0 and stats.accepted == len(futures):
            return stats
        clock.advance(LIMIT_S)
    raise AssertionError(f"not at their end: {pool.stats()!r}")


def assert_unharmed(stats: PoolStats) -> None:
    """Nothing speaks against any member."""
    for each in stats.members:
        assert (each.circuit, each.status) == (CircuitState.CLOSED, AgentStatus.HEALTHY)
        assert (each.failures, each.consecutive_failures, each.error_rate) == (0, 0, 0.0)
        assert each.available


# -- the cases of the field


@pytest.mark.parametrize("poison", KINDS)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_odd_requests_harm_no_member(strategy: str, poison: str) -> None:
    """Five of them, one after the other: every breaker stays closed, the next request is answered,
    and each error says that it is the request's own.
    """
    clock = FakeClock()
    agents = readers(clock, 3)
    config: dict[str, Any] = {"retry_delay_s": 0.0, "request_timeout_s": LIMIT_S}
    pool_ = pool_of(*members(agents), clock=clock, strategy=strategy, **config)
    with EventRecorder() as log, pool_ as pool:
        futures: list[PoolFuture[Any]] = []
        for _ in range(5):
            futures.append(pool.ask(Request(poison), block=False))
            bring_to_an_end(pool, clock, futures)
            error = error_of(futures[-1])
            assert isinstance(error, AllPoolMembersFailedError)
            assert error.same_everywhere
        assert pool.execute("good", timeout=WAIT_S) == "good"
        assert_unharmed(pool.stats())
        assert log.named(BreakerOpened) == []


@pytest.mark.parametrize("poison", KINDS)
def test_odd_requests_that_come_together_harm_no_member(poison: str) -> None:
    """Ten at once among good ones: what they open for a moment is closed again, somebody serves all
    the time, and no good request fails.
    """
    clock = FakeClock()
    agents = readers(clock, 3)
    config: dict[str, Any] = {"retry_delay_s": 0.0, "request_timeout_s": LIMIT_S}
    payloads = ["good", *[poison] * 5, "good", *[poison] * 5, "good"]
    with pool_of(*members(agents), clock=clock, **config) as pool:
        futures = [pool.ask(Request(each), block=False) for each in payloads]
        later = [pool.ask(Request("good"), block=False) for _ in range(5)]
        stats = bring_to_an_end(pool, clock, futures + later)
        failed = [each for each, future in zip(payloads, futures, strict=True) if error_of(future)]
        assert failed == [poison] * 10
        assert [error_of(future) for future in later] == [None] * 5
        assert {each.circuit for each in stats.members} == {CircuitState.CLOSED}


def test_a_breaker_that_was_opened_by_requests_says_why_it_closes() -> None:
    """The failures are taken back when the requests end, and so is the opening; until then another
    member serves.
    """
    clock = FakeClock()

    async def slow(payload: Any) -> Any:
        if payload == "KeyError":
            await clock.sleep(5.0)
            raise KeyError("x")
        return payload

    agents: dict[str, Any] = {"a": Reader(clock), "b": slow}
    with EventRecorder() as log, pool_of(*ranked(**agents), clock=clock, max_retries=1) as pool:
        futures = [pool.ask(Request("KeyError"), block=False) for _ in range(5)]
        log.wait_for(BreakerOpened)
        (opened,) = log.named(BreakerOpened)
        assert (opened.member, settled(pool, clock).available) == ("a", ("b",))
        assert pool.execute("good", timeout=WAIT_S) == "good"
        clock.wait_until_sleeping(5)
        clock.advance(5.0)
        log.wait_for(BreakerClosed)
        (closed,) = log.named(BreakerClosed)
        assert closed.member == "a"
        assert "the request's fault" in closed.reason
        assert [type(error_of(future, WAIT_S)) for future in futures] == [
            AllPoolMembersFailedError
        ] * 5
        stats = pool.stats()
        assert [each.failures for each in stats.members] == [0, 0]
        assert stats.available == ("a", "b")
        assert len(log.named(BreakerOpened)) == 1


def test_the_last_one_serves_while_nobody_knows_whose_fault_it_is() -> None:
    """Eight odd requests have failed everywhere and wait for their retry: two members are out, the
    third one stays, and a good request is answered.
    """
    clock = FakeClock()
    config: dict[str, Any] = {"max_retries": 3, "retry_delay_s": 30.0}
    with (
        EventRecorder() as log,
        pool_of(*members(readers(clock, 3)), clock=clock, **config) as pool,
    ):
        futures = [pool.ask(Request("KeyError"), block=False) for _ in range(8)]
        stats = settled(pool, clock)
        assert (stats.pending, len(stats.available), len(log.named(BreakerOpened))) == (8, 1, 2)
        assert pool.execute("good", timeout=WAIT_S) == "good"
        for _ in range(3):
            clock.advance(30.0)
            settled(pool, clock)
        assert [type(error_of(each, WAIT_S)) for each in futures] == [AllPoolMembersFailedError] * 8
        assert_unharmed(pool.stats())


def test_who_finds_but_one_member_is_not_held_against_it() -> None:
    """Others are out in doubt: odd requests that can be given to one member only do not open that
    one as well.
    """
    clock = FakeClock()
    config: dict[str, Any] = {"circuit_failure_threshold": 2, "retry_delay_s": 30.0}
    with pool_of(*members(readers(clock, 2)), clock=clock, **config) as pool:
        for _ in range(2):  # one after the other: the second begins with the first member, too
            pool.ask(Request("KeyError"), block=False)
            stats = settled(pool, clock)
        left = stats.available
        assert left == ("m1",)
        for _ in range(4):
            with pytest.raises(AllPoolMembersFailedError):
                pool.ask(Request("KeyError", max_retries=0), timeout=WAIT_S)
        assert pool.stats().available == left
        assert pool.execute("good", timeout=WAIT_S) == "good"


def test_a_member_that_is_ill_is_left_as_before() -> None:
    """Others answer its requests: five of them, and it is open."""
    clock = FakeClock()
    agents = readers(clock, 2)

    async def down(payload: Any) -> Any:
        raise http_error(503)

    with pool_of(*ranked(a=down, b=agents[0]), clock=clock) as pool:
        for number in range(5):
            assert pool.execute(number, timeout=WAIT_S) == number
            pool.stats()  # the supervisor has judged the failure: the next one goes to it again
        assert pool.stats()["a"].circuit is CircuitState.OPEN
        assert pool.stats()["a"].failures == 5


@pytest.mark.parametrize("status", [503, 401])
def test_a_request_opens_one_breaker_at_most(status: int) -> None:
    """Though it is the one too many for all of them: the next request opens the next one."""
    clock = FakeClock()

    async def down(payload: Any) -> Any:
        raise http_error(status)

    config: dict[str, Any] = {
        "circuit_failure_threshold": 1,
        "max_retries": 2,
        "retry_delay_s": 0.0,
    }
    with (
        EventRecorder() as log,
        pool_of(*ranked(a=down, b=down, c=down), clock=clock, **config) as pool,
    ):
        opened = []
        for _ in range(3):
            with pytest.raises(AllPoolMembersFailedError):
                pool.execute("x", timeout=WAIT_S)
            pool.stats()
            opened.append(len(log.named(BreakerOpened)) - len(log.named(BreakerClosed)))
    if status == 401:
        assert opened == [1, 2, 3]
    else:
        assert opened == [0, 0, 0]


def test_a_total_outage_opens_the_breakers_all_the_same() -> None:
    """Ten requests may be odd in a row; if nobody answers in between, it is an outage. (Where all
    may be out: by default one of them is tried on.)
    """
    clock = FakeClock()

    async def down(payload: Any) -> Any:
        raise http_error(503)

    config: dict[str, Any] = {"max_retries": 2, "retry_delay_s": 0.0, "circuit_max_open_share": 1.0}
    with pool_of(*ranked(a=down, b=down, c=down), clock=clock, **config) as pool:
        asked = 0
        while pool.stats().available:
            asked += 1
            with pytest.raises(AllPoolMembersFailedError):
                pool.execute("x", timeout=WAIT_S)
            assert asked < 30
        assert {each.circuit for each in pool.stats().members} == {CircuitState.OPEN}
        assert asked <= 10 + 5 + 2


@pytest.mark.parametrize("poison", ["403", "KeyError"])
def test_odd_requests_harm_no_pool_that_is_a_member(poison: str) -> None:
    """What an inner pool has found to be the request's fault is no fault of that pool either,
    however often it comes in a row.
    """
    clock = FakeClock()
    with (
        pool_of(*members(readers(clock, 2)), clock=clock, name="in-1", max_retries=1) as first,
        pool_of(*members(readers(clock, 2)), clock=clock, name="in-2", max_retries=1) as second,
        pool_of(Member("1", first), Member("2", second), clock=clock, max_retries=1) as outer,
    ):
        for _ in range(30):
            error = error_of(outer.ask(Request(poison), block=False), WAIT_S)
            assert isinstance(error, AllPoolMembersFailedError)
            assert error.same_everywhere
        assert outer.stats().available == ("1", "2")
        assert first.stats().available == second.stats().available
        assert outer.execute("good", timeout=WAIT_S) == "good"


def test_the_deadline_says_that_it_was_the_same_everywhere() -> None:
    """A prompt that is too slow for the first two, and then out of time."""
    clock = FakeClock()
    agents = readers(clock, 3)
    config: dict[str, Any] = {"request_timeout_s": LIMIT_S, "deadline_s": 2.5 * LIMIT_S}
    with pool_of(*members(agents), clock=clock, **config) as pool:
        future = pool.ask(Request("too slow"), block=False)
        for seconds in (LIMIT_S, LIMIT_S, LIMIT_S / 2):
            clock.wait_until_sleeping(1)
            settled(pool, clock)
            clock.advance(seconds)
        with pytest.raises(DeadlineExceededError) as caught:
            future.get(timeout=WAIT_S)
        assert caught.value.same_everywhere
        assert [each.kind for each in caught.value.errors] == ["timeout"] * 3
        stats = pool.stats()
        assert {each.circuit for each in stats.members} == {CircuitState.CLOSED}


def test_a_request_that_is_repeated_on_a_member_counts_once() -> None:
    """A pool of one, threshold two: one request may try as often as it likes."""
    clock = FakeClock()
    agents = readers(clock, 1)
    config: dict[str, Any] = {
        "circuit_failure_threshold": 2,
        "max_retries": 30,
        "retry_delay_s": 0.0,
    }
    with pool_of(*members(agents), clock=clock, **config) as pool:
        for circuit in (CircuitState.CLOSED, CircuitState.OPEN):
            with pytest.raises(AllPoolMembersFailedError) as caught:
                pool.execute("500", timeout=WAIT_S)
            assert not caught.value.same_everywhere
            assert pool.stats()["m0"].circuit is circuit
        assert agents[0].calls > 31


# -- the model: no good request fails for a poison one


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(
    good=st.integers(0, 8),
    position=st.integers(0, 8),
    count=st.integers(1, 5),
    max_retries=st.integers(0, 6),
    poison=st.sampled_from(KINDS),
    strategy=st.sampled_from(STRATEGIES),
    threshold=st.integers(2, 5),
    min_calls=st.integers(2, 10),
    together=st.booleans(),
)
@example(8, 4, 3, 3, "403", "adaptive", 5, 10, False)
@example(8, 0, 1, 6, "too slow", "priority", 2, 2, True)
def test_one_poison_request_harms_no_good_one(
    good: int,
    position: int,
    count: int,
    max_retries: int,
    poison: str,
    strategy: str,
    threshold: int,
    min_calls: int,
    together: bool,
) -> None:
    """Wherever it comes, whatever it does, however many members and attempts there are: it alone
    fails, and it opens no breaker.
    """
    clock = FakeClock()
    payloads: list[Any] = list(range(good))
    payloads.insert(min(position, good), poison)
    with (
        EventRecorder() as log,
        pool_of(
            *members(readers(clock, count)),
            clock=clock,
            strategy=strategy,
            max_retries=max_retries,
            retry_delay_s=0.0,
            request_timeout_s=LIMIT_S,
            circuit_failure_threshold=threshold,
            circuit_min_calls=min_calls,
            circuit_failure_rate=1.0,
        ) as pool,
    ):
        futures: list[PoolFuture[Any]] = []
        for payload in payloads:
            futures.append(pool.ask(Request(payload, key=str(payload)), block=False))
            if not together:
                bring_to_an_end(pool, clock, futures)
        bring_to_an_end(pool, clock, futures)
        assert log.named(BreakerOpened) == []
    failed = [p for p, future in zip(payloads, futures, strict=True) if error_of(future)]
    assert failed == [poison]


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(
    payloads=st.lists(st.sampled_from(["good", "good", *KINDS]), max_size=30),
    count=st.integers(2, 4),
    strategy=st.sampled_from(STRATEGIES),
    threshold=st.integers(2, 5),
    together=st.integers(1, 30),
)
def test_poison_requests_of_every_kind_harm_no_good_one(
    payloads: list[str], count: int, strategy: str, threshold: int, together: int
) -> None:
    """Many at a time, too, where each may be tried on all members."""
    clock = FakeClock()
    with pool_of(
        *members(readers(clock, count)),
        clock=clock,
        strategy=strategy,
        max_retries=count,
        retry_delay_s=0.0,
        retry_budget_floor=1000.0,
        request_timeout_s=LIMIT_S,
        circuit_failure_threshold=threshold,
        circuit_min_calls=20,
        circuit_failure_rate=1.0,
    ) as pool:
        futures: list[PoolFuture[Any]] = []
        for first in range(0, len(payloads), together):
            batch = payloads[first : first + together]
            futures += [pool.ask(Request(each, key=each), block=False) for each in batch]
            bring_to_an_end(pool, clock, futures)
    for payload, future in zip(payloads, futures, strict=True):
        assert (error_of(future) is None) == (payload == "good")
