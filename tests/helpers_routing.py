"""What the tests of routing share: pools whose breakers stay closed."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable
from typing import Any

from greenroom import (
    AgentPool,
    Member,
    PoolConfig,
    PoolFuture,
    PoolRef,
    Reply,
    Request,
)
from greenroom.testing import FakeClock

WAIT_S = 20.0
STEADY = PoolConfig(
    circuit_failure_threshold=10_000, circuit_min_calls=20, circuit_failure_rate=1.0
)
"""Breakers that stay closed."""

Agent = Callable[[Any], Any]


def echo(payload: Any) -> Any:
    return payload


async def aecho(payload: Any) -> Any:
    return payload


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


class Held:
    """A sync agent whose calls wait until they are let go."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self._begun = threading.Condition()
        self._go = threading.Event()

    def __call__(self, payload: Any) -> Any:
        with self._begun:
            self.calls.append(payload)
            self._begun.notify_all()
        assert self._go.wait(WAIT_S)
        return payload

    def wait_for(self, calls: int) -> None:
        with self._begun:
            assert self._begun.wait_for(lambda: len(self.calls) >= calls, WAIT_S)

    def let_go(self) -> None:
        self._go.set()


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


def ask(pool: PoolRef, payload: Any = None, **options: Any) -> PoolFuture[Reply[Any]]:
    request: Request[Any] = Request(payload, **options)
    future: PoolFuture[Reply[Any]] = pool.ask(request, block=False)
    return future
