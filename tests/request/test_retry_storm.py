"""The retry budget of a whole pool: behaviour 30. Its parts are in test_retry.py."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from helpers_pools import WAIT_S, pool_of

from greenroom import (
    AllPoolMembersFailedError,
    Member,
    PoolFuture,
    PoolRef,
    PoolStats,
    Reply,
    Request,
)
from greenroom.testing import FakeClock

A_SECOND = 500
BATCH = 500


class Flaky:
    """An async agent of which a share of the calls fails, whoever makes them."""

    def __init__(self, failure_rate: float) -> None:
        self.failure_rate = failure_rate
        self.calls = 0
        self._rng = random.Random(30)

    async def __call__(self, payload: Any) -> Any:
        self.calls += 1
        if self._rng.random() < self.failure_rate:
            raise ConnectionError("down")
        return payload


def run(requests: int, failure_rate: float) -> tuple[float, Counter[str]]:
    """So many at a steady pace, with three members: calls per request, and how they ended."""
    clock, agent = FakeClock(), Flaky(failure_rate)
    members = [Member(name, agent, max_concurrency=BATCH) for name in "abc"]
    futures: list[PoolFuture[Reply[Any]]] = []
    with pool_of(*members, clock=clock, strategy="round_robin", max_retries=99) as pool:
        for name in "abc":
            pool.disable_breaker(name)  # nothing but the budget holds back, max_retries neither
        for start in range(0, requests, BATCH):
            futures += [pool.ask(Request(start + n), block=False) for n in range(BATCH)]
            come_to_rest(pool)
            clock.advance(BATCH / A_SECOND)
        while come_to_rest(pool).pending:  # the last backoffs
            clock.advance(1.0)
    return agent.calls / requests, Counter(how(future) for future in futures)


def come_to_rest(pool: PoolRef) -> PoolStats:
    """Every call that has begun has been reported, and what followed from it has begun."""
    while (stats := pool.stats()).in_flight:
        pass
    return stats


def how(future: PoolFuture[Reply[Any]]) -> str:
    try:
        future.get(timeout=WAIT_S)
    except AllPoolMembersFailedError as error:
        return error.reason
    return "answered"


def test_b30_half_of_all_calls_fail() -> None:
    """At 50% failures over 10,000 requests the load stays below 1.3x, and more are answered than
    without a retry.
    """
    load, ends = run(10_000, 0.5)
    assert 1.2 <= load < 1.3
    assert ends["answered"] > 5_800
    assert ends["answered"] + ends["retry budget exhausted"] == 10_000


def test_b30_every_call_fails() -> None:
    """A full outage: no storm either, and nobody who waits for ever."""
    load, ends = run(3_000, 1.0)
    assert 1.2 <= load < 1.3
    assert ends == {"retry budget exhausted": 3_000}


def test_b30_few_calls_fail() -> None:
    """The budget is not felt: every request is answered."""
    load, ends = run(3_000, 0.1)
    assert load == pytest.approx(1 / 0.9, rel=0.02)
    assert ends == {"answered": 3_000}
