"""The moment a broken member is tried again: behaviour 29."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from helpers_requests import (
    WAIT_S,
    AsyncHeld,
    AsyncScripted,
    Held,
    Scripted,
    http_error,
    pool_of,
    ranked,
    recorded,
)

from greenroom import (
    AllPoolMembersFailedError,
    CircuitState,
    PoolRef,
    Reply,
    Request,
    SkipReason,
)
from greenroom.messages import BreakerClosed, BreakerHalfOpened, BreakerOpened
from greenroom.testing import FakeClock

CALLERS = 50


def at_once(pool: PoolRef, calls: int = CALLERS) -> list[Reply[Any] | Exception]:
    """That many blocking asks from as many threads, started by one barrier; how each ended."""
    barrier = threading.Barrier(calls)
    results: list[Reply[Any] | Exception] = []

    def call() -> None:
        barrier.wait(WAIT_S)
        try:
            results.append(pool.ask(Request("x"), timeout=WAIT_S))
        except Exception as error:
            results.append(error)

    threads = [threading.Thread(target=call) for _ in range(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(3 * WAIT_S)
    return results


def open_it(pool: PoolRef, calls: int = 1) -> None:
    for _ in range(calls):
        pool.ask(Request("open it"), timeout=WAIT_S)
    assert pool.stats()["dead"].circuit is CircuitState.OPEN


class TestOneTrial:
    @pytest.mark.parametrize("agent", [Scripted, AsyncScripted])
    def test_b29_fifty_callers_and_one_trial(self, agent: Callable[..., Any]) -> None:
        """50 callers at the moment a dead member's reset timeout ends: exactly one trial."""
        clock = FakeClock()
        dead, good = agent(http_error(401), ValueError("still dead")), AsyncScripted("good")
        with (
            recorded() as log,
            pool_of(
                *ranked(dead=dead, good=good), clock=clock, circuit_reset_timeout_s=30.0
            ) as pool,
        ):
            open_it(pool)
            assert dead.calls == 1
            clock.advance(30.0)
            pool.stats()
            results = at_once(pool)
            assert {getattr(each, "member", each) for each in results} == {"good"}
            assert dead.calls == 2  # the one that opened it, and the trial
            assert pool.stats()["dead"].circuit is CircuitState.OPEN
            assert len(log.of(BreakerOpened)) == 2
            assert len(log.of(BreakerHalfOpened)) == 1

    def test_b29_with_the_clock_moved_among_them(self) -> None:
        """The same when the timeout ends while they are on their way."""
        clock = FakeClock()
        dead, good = AsyncScripted(http_error(401), ValueError("dead")), AsyncScripted("good")
        with pool_of(
            *ranked(dead=dead, good=good), clock=clock, circuit_reset_timeout_s=30.0
        ) as pool:
            open_it(pool)
            mover = threading.Timer(0.0, clock.advance, (30.0,))
            mover.start()
            results = at_once(pool)
            mover.join(WAIT_S)
            assert {getattr(each, "member", each) for each in results} == {"good"}
            assert dead.calls <= 2

    def test_b29_a_trial_that_lasts_keeps_the_others_out(self) -> None:
        """With nobody else to go to the others fail at once, and say that a trial is running."""
        clock = FakeClock()
        dead = AsyncHeld(http_error(401))
        with pool_of(
            *ranked(dead=dead), clock=clock, circuit_reset_timeout_s=30.0, max_retries=0
        ) as pool:
            first = pool.ask(Request("open it"), block=False)
            dead.wait_entered()
            dead.let_go()
            with pytest.raises(AllPoolMembersFailedError):
                first.get(timeout=WAIT_S)
            dead.value = "alive"
            pool.stats()
            clock.advance(30.0)
            pool.stats()
            futures = [pool.ask(Request(n), block=False) for n in range(CALLERS)]
            dead.wait_entered()
            for future in futures[1:]:
                with pytest.raises(AllPoolMembersFailedError) as caught:
                    future.get(timeout=WAIT_S)
                assert [e.kind for e in caught.value.errors] == [SkipReason.TRIAL_RUNNING]
            assert dead.calls == 2
            dead.let_go()
            assert futures[0].get(timeout=WAIT_S).value == "alive"

    def test_b29_those_who_may_wait_are_served_one_trial_at_a_time(self) -> None:
        """`when_unavailable="wait"`: two trials close the breaker, then the rest go through."""
        clock = FakeClock()
        dead = Held(http_error(401))
        with (
            recorded() as log,
            pool_of(
                *ranked(dead=dead),
                clock=clock,
                circuit_reset_timeout_s=30.0,
                max_retries=0,
                when_unavailable="wait",
            ) as pool,
        ):
            first = pool.ask(Request("open it"), block=False)
            dead.let_go()
            with pytest.raises(AllPoolMembersFailedError):
                first.get(timeout=WAIT_S)
            dead.wait_entered()
            dead.value = "alive"
            futures = [pool.ask(Request(n), block=False) for n in range(CALLERS)]
            clock.advance(30.0)
            for trial in range(2):
                dead.wait_entered()
                assert pool.stats()["dead"].circuit is CircuitState.HALF_OPEN
                assert dead.calls == 2 + trial
                dead.let_go()
            log.wait_for(BreakerClosed)
            dead.let_go(CALLERS)
            assert [f.get(timeout=WAIT_S).value for f in futures] == ["alive"] * CALLERS
            assert dead.payloads == ["open it", *range(CALLERS)]

    def test_b29_as_many_trials_as_permits(self) -> None:
        """half_open_permits=3: three calls at a time, not four."""
        clock = FakeClock()
        dead, good = AsyncHeld(http_error(401)), AsyncScripted("good")
        with pool_of(
            *ranked(dead=dead, good=good),
            clock=clock,
            circuit_reset_timeout_s=30.0,
            half_open_permits=3,
        ) as pool:
            first = pool.ask(Request("open it"), block=False)
            dead.wait_entered()
            dead.let_go()
            first.get(timeout=WAIT_S)
            pool.stats()
            clock.advance(30.0)
            pool.stats()
            futures = [pool.ask(Request(n), block=False) for n in range(CALLERS)]
            dead.wait_entered(3)
            for future in futures[3:]:
                assert future.get(timeout=WAIT_S).member == "good"
            assert dead.calls == 4
            dead.value = "alive"
            dead.let_go()
            assert {f.get(timeout=WAIT_S).value for f in futures[:3]} == {"alive"}

    def test_b29_a_caller_on_its_own_is_not_refused_between_two_trials(self) -> None:
        """One request after the other, as fast as the answers come: the second trial follows the
        first without a refusal in between.
        """
        for _ in range(20):
            clock = FakeClock()
            dead = Scripted(http_error(401), "alive")
            with pool_of(
                *ranked(dead=dead), clock=clock, circuit_reset_timeout_s=30.0, max_retries=0
            ) as pool:
                with pytest.raises(AllPoolMembersFailedError):
                    pool.ask(Request("open it"))
                pool.stats()
                clock.advance(30.0)
                assert [pool.execute(n) for n in range(5)] == ["alive"] * 5
                assert pool.stats()["dead"].circuit is CircuitState.CLOSED
