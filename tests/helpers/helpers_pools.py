"""What most tests share: how long they wait, and pools that are the same in every run."""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncIterator, Iterator
from typing import Any

from greenroom import AgentPool, Member, PoolConfig, PoolFuture, PoolRef, Reply, Request
from greenroom.testing import FakeClock

WAIT_S = 20.0
"""How long a test waits for what must come: it fails then. Nothing that goes well takes so long."""


@contextlib.contextmanager
def pool_of(
    *members: Member,
    clock: FakeClock | None = None,
    strategy: Any = "priority",
    seed: int = 1,
    name: str = "pool",
    **config: Any,
) -> Iterator[PoolRef]:
    """A pool with a seeded generator, stopped at the end."""
    pool = AgentPool.start(
        members,
        clock=clock,
        rng=random.Random(seed),
        strategy=strategy,
        name=name,
        config=PoolConfig(**config),
    )
    try:
        yield pool
    finally:
        pool.stop(timeout=2 * WAIT_S)


def ranked(**agents: Any) -> list[Member]:
    """Members, pools among them, that the strategy `priority` prefers in this order."""
    return [Member(name, agent, priority=i) for i, (name, agent) in enumerate(agents.items())]


def echo(payload: Any) -> Any:
    """A sync agent that answers what it is asked."""
    return payload


async def echo_async(payload: Any) -> Any:
    """The same as a coroutine function."""
    return payload


def chunks(payload: Any) -> Iterator[Any]:
    """A sync generator of what it is asked, in one chunk."""
    yield payload


async def async_chunks(payload: Any) -> AsyncIterator[Any]:
    """The same as an async one."""
    yield payload


def ask(pool: PoolRef, payload: Any = "x", **options: Any) -> PoolFuture[Reply[Any]]:
    """Ask, and do not wait."""
    request: Request[Any] = Request(payload, **options)
    future: PoolFuture[Reply[Any]] = pool.ask(request, block=False)
    return future
