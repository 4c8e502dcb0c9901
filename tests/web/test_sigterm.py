"""SIGTERM in an app of one's own: first the pool is drained. Behaviour 261."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from types import FrameType
from typing import Any

import pytest
from helpers_pools import WAIT_S

from greenroom import AgentPool, Member, PoolStoppedError, Request
from greenroom.web import drain_on_sigterm

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SIGTERM ends a process there")


class Server:
    """Stands for one that handles SIGTERM by itself."""

    def __init__(self) -> None:
        self.ends = asyncio.Event()
        self.signals: list[int] = []

    def handle(self, number: int, frame: FrameType | None) -> None:
        self.signals.append(number)
        self.ends.set()


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    server = Server()
    before = signal.signal(signal.SIGTERM, server.handle)
    try:
        yield server
        assert signal.getsignal(signal.SIGTERM) == server.handle
    finally:
        signal.signal(signal.SIGTERM, before)


class Held:
    """An agent whose calls go on when they are told to."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.go = asyncio.Event()

    async def run(self, prompt: str) -> str:
        self.begun.set()
        await self.go.wait()
        return prompt.upper()


def test_the_server_hears_of_it_when_all_is_answered() -> None:
    """Until then it goes on, and the pool refuses what comes."""

    async def main() -> None:
        agent = Held()
        async with AgentPool.start([Member("only", agent)]) as pool:
            with serving() as server, drain_on_sigterm(pool):
                asking = asyncio.create_task(pool.aask(Request("hi")))
                await agent.begun.wait()
                signal.raise_signal(signal.SIGTERM)
                while not (await pool.astats()).draining:
                    pass
                with pytest.raises(PoolStoppedError):
                    await pool.aask(Request("new"))
                assert not server.signals
                agent.go.set()
                assert (await asking).value == "HI"
                await server.ends.wait()
                assert server.signals == [signal.SIGTERM]

    asyncio.run(asyncio.wait_for(main(), WAIT_S))


def test_b261_one_that_breaks_in_on_an_agent_is_no_part_of_its_call() -> None:
    """A signal comes between any two steps of the main thread, those of agents on its loop too."""

    async def main() -> None:
        held = Held()

        async def agent(prompt: str) -> str:
            signal.raise_signal(signal.SIGTERM)
            return await held.run(prompt)

        async with AgentPool.start([Member("only", agent)]) as pool:
            with serving() as server, drain_on_sigterm(pool):
                asking = asyncio.create_task(pool.aask(Request("hi")))
                await held.begun.wait()
                while not (await pool.astats()).draining:
                    pass
                assert not server.signals
                held.go.set()
                assert (await asking).value == "HI"
                await server.ends.wait()

    asyncio.run(asyncio.wait_for(main(), WAIT_S))


def test_what_is_not_done_in_time_is_told_so() -> None:
    """The limit is the server's patience; with none at all it is at once."""

    async def main() -> None:
        agent = Held()
        async with AgentPool.start([Member("only", agent)]) as pool:
            with serving() as server, drain_on_sigterm(pool, 0):
                asking = asyncio.create_task(pool.aask(Request("hi")))
                await agent.begun.wait()
                signal.raise_signal(signal.SIGTERM)
                with pytest.raises(PoolStoppedError):
                    await asking
                await server.ends.wait()

    asyncio.run(asyncio.wait_for(main(), WAIT_S))


def test_a_second_one_goes_on_at_once() -> None:
    """Nobody is answered yet, and whoever sends it does not want to wait for that."""

    async def main() -> None:
        agent = Held()
        async with AgentPool.start([Member("only", agent)]) as pool:
            with serving() as server, drain_on_sigterm(pool):
                asking = asyncio.create_task(pool.aask(Request("hi")))
                await agent.begun.wait()
                signal.raise_signal(signal.SIGTERM)
                while not (await pool.astats()).draining:
                    pass
                signal.raise_signal(signal.SIGTERM)
                await server.ends.wait()
            asking.cancel()

    asyncio.run(asyncio.wait_for(main(), WAIT_S))


def test_a_second_one_goes_on_past_a_loop_that_is_blocked() -> None:
    """Whoever sends it may do so for that: nothing would come of it otherwise."""

    async def main() -> None:
        async with AgentPool.start([Member("only", Held())]) as pool:
            with serving() as server, drain_on_sigterm(pool):
                signal.raise_signal(signal.SIGTERM)
                assert not server.signals
                signal.raise_signal(signal.SIGTERM)
                assert server.signals == [signal.SIGTERM]

    asyncio.run(asyncio.wait_for(main(), WAIT_S))


def test_a_second_one_goes_on_past_all_pools() -> None:
    """The first is held up by one after the other."""

    async def main() -> None:
        inner, outer = Held(), Held()
        async with (
            AgentPool.start([Member("only", outer)]) as first,
            AgentPool.start([Member("only", inner)]) as second,
        ):
            with serving() as server, drain_on_sigterm(first), drain_on_sigterm(second):
                asking = asyncio.create_task(second.aask(Request("hi")))
                await inner.begun.wait()
                signal.raise_signal(signal.SIGTERM)
                while not (await second.astats()).draining:
                    pass
                assert not (await first.astats()).draining
                signal.raise_signal(signal.SIGTERM)
                assert server.signals == [signal.SIGTERM]
            asking.cancel()

    asyncio.run(asyncio.wait_for(main(), WAIT_S))


def test_where_the_loop_has_ended_within_it_goes_on_at_once() -> None:
    """The block was never left: a server that is forced to end leaves its app's lifespan so."""

    async def main() -> AbstractContextManager[None]:
        block = drain_on_sigterm(pool)
        block.__enter__()
        return block

    loop = asyncio.new_event_loop()
    with AgentPool.start([Member("only", str.upper)]) as pool, serving() as server:
        block = loop.run_until_complete(main())
        loop.close()
        signal.raise_signal(signal.SIGTERM)
        assert server.signals == [signal.SIGTERM]
        block.__exit__(None, None, None)


def test_a_pool_that_has_been_stopped_holds_nothing_up() -> None:
    """The signal goes on as if there were no pool."""

    async def main() -> None:
        pool = AgentPool.start([Member("only", Held())])
        with serving() as server, drain_on_sigterm(pool):
            await pool.astop()
            signal.raise_signal(signal.SIGTERM)
            await server.ends.wait()

    asyncio.run(asyncio.wait_for(main(), WAIT_S))


def test_where_nobody_handles_it_nothing_is_changed() -> None:
    """Neither in the main thread without a server, nor in another thread, as in a test client."""
    seen: list[Any] = []

    async def main() -> None:
        async with AgentPool.start([Member("only", Held())]) as pool:
            with drain_on_sigterm(pool):
                seen.append(signal.getsignal(signal.SIGTERM))

    asyncio.run(main())
    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    thread.join(WAIT_S)
    assert seen == [signal.SIG_DFL, signal.SIG_DFL]


def test_a_handler_that_the_app_sets_within_is_left() -> None:
    """It is not taken away at the end."""

    def own(number: int, frame: FrameType | None) -> None: ...

    async def main() -> None:
        async with AgentPool.start([Member("only", Held())]) as pool:
            with drain_on_sigterm(pool):
                signal.signal(signal.SIGTERM, own)

    before = signal.signal(signal.SIGTERM, lambda number, frame: None)
    try:
        asyncio.run(main())
        assert signal.getsignal(signal.SIGTERM) is own
    finally:
        signal.signal(signal.SIGTERM, before)


def test_what_is_given_is_checked() -> None:
    """By its name, before anything is set."""

    async def main() -> None:
        with pytest.raises(TypeError, match="pool must be a PoolRef"), drain_on_sigterm("pool"):  # type: ignore[arg-type]
            pass
        async with AgentPool.start([Member("only", Held())]) as pool:
            with pytest.raises(ValueError, match="drain_s must be at least 0"):
                drain_on_sigterm(pool, -1).__enter__()

    asyncio.run(main())
