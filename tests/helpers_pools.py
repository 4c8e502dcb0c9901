"""What most tests share: how long they wait, and pools that are the same in every run."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from typing import Any

from greenroom import AgentPool, Member, PoolConfig, PoolRef
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


def ranked(**agents: Callable[..., Any]) -> list[Member]:
    """Members that the strategy `priority` prefers in this order."""
    return [Member(name, agent, priority=i) for i, (name, agent) in enumerate(agents.items())]


def echo(payload: Any) -> Any:
    """A sync agent that answers what it is asked."""
    return payload


async def echo_async(payload: Any) -> Any:
    """The same as a coroutine function."""
    return payload
