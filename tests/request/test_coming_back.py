"""Coming back: how soon a member is in use again after an outage, and what its trials cost."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from helpers_load import ask_at, error_of, pass_time, settled
from helpers_pools import pool_of, ranked

from greenroom import CircuitState, PoolStats
from greenroom.testing import FakeClock

BEFORE_S, AFTER_S = 10.0, 60.0
GAP_S = 0.5
WITHIN_S = 15.0


class Primary:
    """Answers in a tenth of a second, but for the time of its outage.

    Args:
        hangs: whether it does not answer at all then, rather than fail at once.
    """

    def __init__(self, clock: FakeClock, outage_s: float, hangs: bool) -> None:
        self.clock, self.hangs = clock, hangs
        self.from_ = clock.now() + BEFORE_S
        self.until = self.from_ + outage_s
        self.calls: list[float] = []

    async def __call__(self, payload: Any) -> Any:
        now = self.clock.now()
        self.calls.append(now)
        if self.from_ <= now < self.until:
            if self.hangs:
                await self.clock.sleep(1e6)
            raise ConnectionError("down")
        await self.clock.sleep(0.1)
        return payload


class Deputy:
    """Answers, twice as slowly."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock

    async def __call__(self, payload: Any) -> Any:
        await self.clock.sleep(0.2)
        return payload


def play(strategy: str, outage_s: float, hangs: bool, **config: Any) -> tuple[Primary, list[Any]]:
    """Requests before, during and after an outage; the primary, and all their answers."""
    clock = FakeClock()
    primary = Primary(clock, outage_s, hangs)
    agents: dict[str, Any] = {"primary": primary, "deputy": Deputy(clock)}
    count = int((BEFORE_S + outage_s + AFTER_S) / GAP_S)
    with pool_of(*ranked(**agents), clock=clock, strategy=strategy, **config) as pool:
        futures = ask_at(pool, clock, [i * GAP_S for i in range(count)], step_s=0.1)
        pass_time(pool, clock, 1.0, step_s=0.1)
        pass_time(pool, clock, 40.0, step_s=1.0)
        assert [error_of(future) for future in futures] == [None] * count
        return primary, [future.get(timeout=0.0) for future in futures]


def in_use_after(primary: Primary, replies: list[Any]) -> float:
    """Seconds after the outage from which on the primary has three requests in a row."""
    over = int((primary.until - primary.from_ + BEFORE_S) / GAP_S)
    members = [reply.member for reply in replies]
    for i in range(over, len(members) - 2):
        if members[i : i + 3] == ["primary"] * 3:
            return (i - over) * GAP_S
    raise AssertionError("it does not come back")


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("strategy", ["priority", "adaptive", "least_latency"])
def test_after_an_outage_of_a_minute_the_primary_is_soon_in_use(strategy: str, seed: int) -> None:
    """With the defaults within fifteen seconds; until then at most one trial for every five seconds
    of the outage, and nobody waits for one of them.
    """
    primary, replies = play(strategy, 60.0, hangs=False, seed=seed)
    assert in_use_after(primary, replies) <= WITHIN_S
    tried = [at for at in primary.calls if primary.from_ <= at < primary.until]
    assert len(tried) <= 5 + 60 / 5  # five in a row have opened it
    gaps = [later - sooner for sooner, later in itertools.pairwise(tried[4:])]
    assert min(gaps) >= 5.0 - 1e-6
    assert max(reply.elapsed_s for reply in replies) < 0.5


@pytest.mark.parametrize("strategy", ["priority", "adaptive"])
def test_a_primary_that_hangs_is_soon_in_use_as_well(strategy: str) -> None:
    """A trial that began before the outage was over, and hangs, is not waited for."""
    primary, replies = play(strategy, 60.0, hangs=True)
    assert in_use_after(primary, replies) <= WITHIN_S


def test_a_long_outage_is_tried_at_the_same_pace() -> None:
    """Ten minutes: the pauses do not grow beyond ten seconds."""
    primary, replies = play("priority", 600.0, hangs=False)
    assert in_use_after(primary, replies) <= WITHIN_S
    tried = [at for at in primary.calls if primary.from_ <= at < primary.until]
    assert 60 <= len(tried) <= 5 + 120


def test_an_outage_of_a_minute_is_over_within_the_pools_own_bound() -> None:
    """A reset timeout of ten seconds and a maximum of twenty: in use again within twenty."""
    config = {"circuit_reset_timeout_s": 10.0, "circuit_reset_max_s": 20.0}
    primary, replies = play("priority", 60.0, hangs=False, **config)
    assert in_use_after(primary, replies) <= 20.0 + GAP_S


def test_a_member_is_measured_anew_when_its_breaker_tries_it() -> None:
    """What it did before says nothing: the next request is its trial, not one when the estimate of
    an outage has faded.
    """
    clock = FakeClock()
    primary = Primary(clock, 30.0, hangs=True)
    agents: dict[str, Any] = {"primary": primary, "deputy": Deputy(clock)}
    config: dict[str, Any] = {"circuit_failure_threshold": 1, "request_timeout_s": 20.0}
    with pool_of(*ranked(**agents), clock=clock, strategy="adaptive", **config) as pool:
        ask_at(pool, clock, [0.0, 1.0])
        pass_time(pool, clock, BEFORE_S)
        calls = len(primary.calls)
        ask_at(pool, clock, [i / 10 for i in range(10)])
        assert len(primary.calls) > calls
        pass_time(pool, clock, 25.0)
        stats: PoolStats = settled(pool, clock)
        assert stats["primary"].circuit is CircuitState.HALF_OPEN
        calls = len(primary.calls)
        ask_at(pool, clock, [0.0])
        assert len(primary.calls) == calls + 1
