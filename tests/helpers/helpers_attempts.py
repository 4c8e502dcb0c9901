"""What the tests of attempts in the caller's own task share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from helpers_pools import WAIT_S

from greenroom import GetStats, MemberStats, PoolRef, PoolStats
from greenroom.testing import FakeClock

R = TypeVar("R")


def run(main: Callable[[], Coroutine[Any, Any, R]]) -> R:
    """What the coroutine function returns or raises, on a loop of its own; it fails, not hangs."""

    async def within() -> R:
        async with asyncio.timeout(WAIT_S):
            return await main()

    return asyncio.run(within())


class Agent:
    """An agent for other people's code: `run` answers with its name, or raises.

    Args:
        errors: raised by the first calls, one each.
    """

    def __init__(self, name: str, *errors: BaseException) -> None:
        self.name = name
        self.calls = 0
        self._errors = list(errors)

    async def run(self, payload: Any = None) -> str:
        self.calls += 1
        if self._errors:
            raise self._errors.pop(0)
        return self.name

    def call(self) -> str:
        """The same in a thread."""
        self.calls += 1
        if self._errors:
            raise self._errors.pop(0)
        return self.name


async def stats(pool: PoolRef) -> PoolStats:
    """Of the pool, in a coroutine; whatever was reported before is in it."""
    return await pool.ask(GetStats(), block=False)


async def waiting(pool: PoolRef, requests: int) -> None:
    """Until that many requests wait for a member."""
    while (await stats(pool)).pending < requests:  # noqa: ASYNC110 - the router cannot tell
        await asyncio.sleep(0)


async def idle(pool: PoolRef) -> None:
    """Until all slots have been given back."""
    while (await stats(pool)).in_flight:  # noqa: ASYNC110
        await asyncio.sleep(0)


def counts(member: MemberStats) -> tuple[int, int, int]:
    """Its successes, its failures, and what it has in flight."""
    return member.successes, member.failures, member.in_flight


async def overtime(clock: FakeClock, seconds: float) -> None:
    """Let so much time pass, and wait to be cut short."""
    clock.advance(seconds)
    await asyncio.Event().wait()
