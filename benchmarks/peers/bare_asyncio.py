"""asyncio alone: the coroutine as a task of the caller's own loop. No pool can be cheaper."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from benchmarks.measure import AsyncAsk
from benchmarks.peers import agents
from benchmarks.peers.base import Peer, Stream


class BareAsyncio(Peer):
    """A task a call; a stream is the generator itself."""

    @asynccontextmanager
    async def async_call(
        self, *, failing: bool = False, members: int = 3
    ) -> AsyncIterator[AsyncAsk]:
        if failing:
            self._lacks("failover")
        yield lambda i: asyncio.create_task(agents.aecho(i))

    @asynccontextmanager
    async def asleep(self, concurrency: int, seconds: float) -> AsyncIterator[AsyncAsk]:
        self.sleeper = agent = agents.Sleeper(seconds)
        yield lambda i: asyncio.create_task(agent(i))

    @asynccontextmanager
    async def stream(self) -> AsyncIterator[Stream]:
        yield agents.achunks
