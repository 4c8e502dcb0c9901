"""Attempts in the caller's own task, of a pool that is at home on the caller's loop."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from helpers_attempts import Agent, counts, idle, run, stats
from helpers_pools import pool_of, ranked

from greenroom import Drain, Member, PoolStoppedError, ReentrantAskError, Request

GONE = ConnectionError("gone")


def test_blocks_and_calls_share_the_agent_of_the_home_loop() -> None:
    """What an async factory makes there is one agent, whoever asks."""
    made: list[Any] = []

    async def factory() -> Any:
        async def agent(payload: Any) -> Any:
            return agent

        made.append(agent)
        return agent

    async def main() -> None:
        with pool_of(Member("a", factory=factory, max_concurrency=2)) as pool:
            async with pool.acquire() as lent:
                called = (await pool.ask(Request("x"), block=False)).value
                assert lent is called
            assert made == [lent]
            await pool.stop(block=False)

    run(main)


def test_failover_and_cuts_on_the_home_loop() -> None:
    """A block that raises, one that is cut by the end of the pool, one that is cancelled."""

    async def main() -> None:
        with pool_of(*ranked(a=Agent("a", GONE), b=Agent("b"))) as pool:
            async for attempt in pool.attempts():
                async with attempt as agent:
                    name = await agent.run()
            assert name == "b"
            assert counts((await stats(pool))["a"]) == (0, 1, 0)
            entered = [asyncio.Event(), asyncio.Event()]

            async def block(event: asyncio.Event) -> None:
                async with pool.acquire():
                    event.set()
                    await asyncio.Event().wait()

            tasks = [asyncio.create_task(block(event)) for event in entered]
            for event in entered:
                await event.wait()
            tasks[0].cancel()
            with pytest.raises(asyncio.CancelledError):
                await tasks[0]
            while (await stats(pool)).in_flight > 1:  # noqa: ASYNC110
                await asyncio.sleep(0)
            await pool.stop(block=False)
            with pytest.raises(PoolStoppedError):
                await tasks[1]

    run(main)


def test_a_blocking_end_in_the_thread_of_an_open_block_is_refused() -> None:
    """It would wait for the block, which cannot go on meanwhile."""

    async def main() -> None:
        with pool_of(Member("a", Agent("a"))) as pool:
            async with pool.acquire():
                with pytest.raises(ReentrantAskError):
                    pool.stop()
                drained = pool.ask(Drain(), block=False)
            assert await drained is True
            await idle(pool)
            await pool.stop(block=False)

    run(main)


def test_a_plain_block_on_the_home_loop_waits_only_where_that_can_end() -> None:
    """A pool of sync agents may be waited for in the loop's thread; of async agents, a slot that a
    task of that loop has may not.
    """

    class Plain:
        def run(self, payload: Any) -> Any:
            return payload

    async def main() -> None:
        with pool_of(Member("a", Plain())) as pool:
            with pool.acquire() as agent:
                assert agent.run("x") == "x"
            await pool.stop(block=False)
        with pool_of(Member("a", Agent("a"), max_concurrency=1)) as pool:
            entered, go_on = asyncio.Event(), asyncio.Event()

            async def hold() -> None:
                async with pool.acquire():
                    entered.set()
                    await go_on.wait()

            holder = asyncio.create_task(hold())
            await entered.wait()
            with pytest.raises(ReentrantAskError), pool.acquire():
                pass  # pragma: no cover
            go_on.set()
            await holder
            await idle(pool)
            await pool.stop(block=False)

    run(main)
