"""Attempts in the callers' own tasks and threads under everything at once, by a seeded plan."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

import pytest
from helpers_attempts import idle, run, stats
from helpers_pools import pool_of
from helpers_streams import Doing

from greenroom import (
    AddMember,
    Cancel,
    CircuitState,
    Member,
    PoolError,
    PoolRef,
    RemoveMember,
    ResetAll,
)
from greenroom.testing import FakeClock, http_error

CALLERS = 40
ROUNDS = 6
LIMIT_S = 5.0


class Agent:
    """Something to be used in a block; whoever uses it is counted.

    Attributes:
        most: how many blocks have used it at a time.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.inside = self.most = 0

    def __enter__(self) -> None:
        self.inside += 1
        self.most = max(self.most, self.inside)

    def __exit__(self, *_: object) -> None:
        self.inside -= 1


class Storm:
    """Callers that all do something else, and what they have seen."""

    def __init__(self, pool: PoolRef, clock: FakeClock, rng: random.Random) -> None:
        self.pool = pool
        self.clock = clock
        self.rng = rng
        self.ends: Counter[str] = Counter()

    async def wait(self) -> None:
        for _ in range(self.rng.randrange(4)):
            await asyncio.sleep(0)

    async def use(self, attempt: Any, agent: Agent) -> str:
        with agent:
            await self.wait()
            match self.rng.randrange(12):
                case 0:
                    raise ConnectionError("gone")
                case 1:
                    raise http_error(self.rng.choice((400, 401, 429, 503)))
                case 2:
                    attempt.fail("in band", kind=self.rng.choice(("unavailable", "unknown")))
                case 3:
                    await asyncio.Event().wait()  # until somebody ends it
                case 4:
                    raise asyncio.CancelledError("nobody has asked for this")
                case 5:
                    attempt.context.started_side_effects()
                case 6:
                    async with asyncio.timeout(0):
                        await asyncio.Event().wait()
            await self.wait()
            return agent.name

    async def loop(self, **options: Any) -> str:
        name = ""
        async for attempt in self.pool.attempts(**options):
            async with attempt as agent:
                name = await self.use(attempt, agent)
        return name

    async def once(self) -> str:
        one = self.pool.acquire()
        async with one as agent:
            return await self.use(one, agent)

    async def nested(self) -> str:
        async with asyncio.timeout(600), self.pool.acquire() as agent:
            with agent:
                return await self.loop(timeout_s=2)

    async def left(self) -> str:
        async def events() -> AsyncGenerator[str, None]:
            async for attempt in self.pool.attempts(stream=True):
                async with attempt as agent:
                    for _ in range(3):
                        attempt.first()
                        with agent, attempt.paused():
                            yield agent.name

        async for name in events():
            await self.wait()
            if self.rng.random() < 0.5:
                return name
        return "whole"

    async def by_id(self) -> str:
        number = f"by-id-{self.rng.random()}"
        task = asyncio.create_task(self.loop(request_id=number))
        await self.wait()
        await self.pool.ask(Cancel(number), block=False)
        return await task

    def in_thread(self) -> str:
        for attempt in self.pool.attempts(timeout_s=3):
            with attempt as agent:
                if attempt.number == 1 and self.rng.random() < 0.3:
                    raise ConnectionError("gone")
                name: str = agent.name
        return name

    async def threaded(self) -> str:
        return await asyncio.to_thread(self.in_thread)

    async def caller(self) -> None:
        ways: list[Callable[[], Coroutine[Any, Any, str]]] = [
            self.loop,
            self.once,
            self.nested,
            self.left,
            self.by_id,
            self.threaded,
        ]
        try:
            self.ends["done" if await self.rng.choice(ways)() else "empty"] += 1
        except (PoolError, ConnectionError, TimeoutError) as error:
            self.ends[type(error).__name__] += 1
        except asyncio.CancelledError:
            self.ends["cancelled"] += 1
        except Exception as error:  # a scripted HTTP error, as it is
            self.ends[f"raised {error}"] += 1

    async def weather(self, tasks: list[asyncio.Task[None]]) -> None:
        """Time passes, callers are cancelled, a member goes and another one comes."""
        while not all(task.done() for task in tasks):
            await self.wait()
            match self.rng.randrange(6):
                case 0:
                    self.rng.choice(tasks).cancel()
                case 1:
                    await self.pool.ask(ResetAll(), block=False)
                case _:
                    self.clock.advance(self.rng.choice((0.2, 1.0, LIMIT_S)))
            await stats(self.pool)

    async def rage(self) -> None:
        for number in range(ROUNDS):
            late = Agent(f"late-{number}")
            await self.pool.ask(AddMember(Member(late.name, late, max_concurrency=2)), block=False)
            tasks = [asyncio.create_task(self.caller()) for _ in range(CALLERS)]
            gone = self.pool.ask(RemoveMember(late.name), block=False)
            await self.weather(tasks)
            await asyncio.gather(*tasks, return_exceptions=True)
            await gone
            await idle(self.pool)
            assert late.most <= 2
            assert late.inside == 0


@pytest.mark.parametrize("seed", range(4))
def test_after_any_storm_of_blocks_all_slots_are_back_and_all_requests_are_counted(
    seed: int,
) -> None:
    """Failures, cuts, cancellations, generators that are let go of, blocks in threads and in one
    another, members that come and go: no slot is lost, none is given to more than it has room for.
    """
    clock = FakeClock()
    agents = [Agent(name) for name in "abc"]
    members = [Member(agent.name, agent, max_concurrency=5) for agent in agents]
    limits: dict[str, Any] = {"request_timeout_s": LIMIT_S, "cancel_grace_s": 60.0}
    with pool_of(*members, clock=clock, strategy="adaptive", seed=seed, **limits) as pool:
        storm = Storm(pool, clock, random.Random(seed))
        Doing(lambda: run(storm.rage)).result()
        found = pool.stats()
        assert (found.pending, found.in_flight) == (0, 0)
        assert found.accepted == found.completed + found.failed + found.cancelled
        assert found.completed > 0
        for agent in agents:
            member = found[agent.name]
            assert (member.in_flight, member.abandoned, agent.inside) == (0, 0, 0)
            assert agent.most <= 5
            assert member.circuit in CircuitState
        assert storm.ends["done"] > 0
