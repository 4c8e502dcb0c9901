"""What the tests of routing share: pools whose breakers stay closed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any

from helpers_pools import WAIT_S

from greenroom import AgentPool, Member, PoolConfig, PoolRef, Request
from greenroom.testing import FakeClock

STEADY = PoolConfig(
    circuit_failure_threshold=10_000, circuit_min_calls=20, circuit_failure_rate=1.0
)
"""Breakers that stay closed."""

Agent = Callable[[Any], Any]


class Failing:
    """A sync agent whose runs fail while `broken`."""

    def __init__(self, broken: bool = True) -> None:
        self.broken = broken
        self.calls = 0

    def __call__(self, payload: Any) -> Any:
        self.calls += 1
        if self.broken:
            raise ConnectionError("down")
        return payload


def start(
    members: Iterable[Member],
    strategy: Any = "round_robin",
    config: PoolConfig | None = None,
    clock: FakeClock | None = None,
    seed: int = 7,
) -> PoolRef:
    return AgentPool.start(
        members,
        strategy=strategy,
        config=config or STEADY,
        clock=clock or FakeClock(),
        rng=random.Random(seed),
    )


def members_of(pool: PoolRef, requests: int, **options: Any) -> list[str]:
    """Who answers that many requests, one after the other."""
    asked = (pool.ask(Request(n, **options), timeout=WAIT_S) for n in range(requests))
    return [reply.member for reply in asked]
