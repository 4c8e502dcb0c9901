"""The two ends of a call, with an engine in memory between them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from helpers_remote import MemoryEngine

from greenroom import (
    AgentPool,
    CallContext,
    Member,
    PayloadError,
    PoolConfig,
    PoolRef,
    RemoteError,
    Request,
    StreamInterruptedError,
)
from greenroom.messages.errors import AllPoolMembersFailedError
from greenroom.remote.caller_call import WINDOW
from greenroom.remote.remote_agent import RemoteAgent
from greenroom.remote.worker import desk_of, worker_pool
from greenroom.testing import http_error


class Pair:
    """A worker, and a pool with the remote agent of it as its only member."""

    def __init__(self, engine: MemoryEngine, agent: RemoteAgent, pool: PoolRef, desk: Any) -> None:
        self.engine = engine
        self.agent = agent
        self.pool = pool
        self.desk = desk


@asynccontextmanager
async def pair(
    served: Any, *, config: PoolConfig | None = None, queue: int | None = None, **member: Any
) -> AsyncIterator[Pair]:
    engine = MemoryEngine()
    config = config or PoolConfig(max_retries=0)
    async with worker_pool(Member("w", served, **member)) as inner:
        desk = await desk_of(inner, queue=queue)
        await engine.listen(desk)
        agent = RemoteAgent.over(engine, engine.codec)
        async with AgentPool.start([Member("far", agent)], config=config) as pool:
            yield Pair(engine, agent, pool, desk)
        await agent.aclose()


async def until(holds: Callable[[], object]) -> None:
    """Let the loop go round until it holds."""
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.001)


def why(error: BaseException) -> RemoteError:
    """What the far end has said."""
    assert isinstance(error, AllPoolMembersFailedError)
    found = error.errors[0].error
    assert isinstance(found, RemoteError)
    return found


async def test_b415_an_answer_from_elsewhere() -> None:
    """A call goes there and its answer comes back, with what the agent has been told and says."""

    async def agent(payload: Any, call: CallContext) -> Any:
        call.describe(model="m", usage={"tokens": 3})
        assert call.remaining_s is not None
        assert 0 < call.remaining_s <= 7
        return [payload, call.key, call.priority, call.metadata["tenant"], call.idempotent]

    async with pair(agent) as far:
        request = Request(
            {"a": [1, 2.5, None]}, key="k", priority=3, timeout=7, metadata={"tenant": "acme"}
        )
        reply = await far.pool.aask(request)
        assert reply.value == [{"a": [1, 2.5, None]}, "k", 3, "acme", True]
        assert dict(reply.metadata) == {"model": "m", "usage": {"tokens": 3}}
