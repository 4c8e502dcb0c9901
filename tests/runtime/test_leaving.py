"""A coroutine that leaves or stops a pool needs no thread of an executor, and never holds its loop.

Each program runs in a thread of its own with a limit: what waits for ever fails, and hangs nothing.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import pykka
import pytest
from helpers_actors import crash, greenroom_threads, no_thread_left, router_ref
from helpers_loops import begun
from helpers_pools import WAIT_S, echo, pool_of

from greenroom import (
    AgentPool,
    FallbackChain,
    Member,
    MemberConfig,
    PoolConfig,
    PoolExecutor,
    PoolRef,
    PoolStoppedError,
    Request,
)
from greenroom.actors.runtime.loop_factory import loop_factory
from greenroom.testing import AsyncScriptedAgent, EventRecorder, ScriptedAgent

Main = Callable[[], Coroutine[Any, Any, Any]]


def run(main: Main, new_loop: Any = None) -> Any:
    """What the coroutine returns, in a thread of its own; it must end, and so must its loop."""
    ended: list[Any] = []

    def program() -> None:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            try:
                ended.append(runner.run(main()))
            except BaseException as error:
                ended.append(error)

    thread = threading.Thread(target=program, daemon=True)
    thread.start()
    thread.join(WAIT_S)
    assert not thread.is_alive(), "the program has not ended"
    if isinstance(ended[0], BaseException):
        raise ended[0]
    return ended[0]


@asynccontextmanager
async def full_executor() -> AsyncIterator[ScriptedAgent]:
    """The loop's default executor has one thread, and that is busy until the gate opens."""
    loop, gate = asyncio.get_running_loop(), ScriptedAgent.hanging(echo)
    loop.set_default_executor(ThreadPoolExecutor(1))
    busy = loop.run_in_executor(None, gate, "busy")
    try:
        yield gate
    finally:
        gate.release()
        await busy


@pytest.mark.parametrize("agents_loop", ["own", "auto"])
@pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
def test_a_pool_is_left_while_blocking_asks_fill_the_executor(kind: Any, agents_loop: Any) -> None:
    """They wait for answers of that very pool: its end answers them, and leaves the loop free."""
    agent, config = AsyncScriptedAgent.hanging(), PoolConfig(event_loop=agents_loop)

    async def main() -> list[Any]:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(2))
        async with AgentPool.start([Member("a", agent)], config=config) as pool:
            asks = [loop.run_in_executor(None, pool.execute, "x") for _ in range(8)]
            await begun(agent, 2)
        return await asyncio.gather(*asks, return_exceptions=True)

    with no_thread_left():
        answers = run(main, loop_factory(kind))
    assert all(isinstance(each, PoolStoppedError) for each in answers)


def leave(owner: str) -> Callable[[Any], Coroutine[Any, Any, Any]]:
    async def by_block(pool: Any) -> None:
        async with pool:
            pass

    async def by_stop(pool: Any) -> None:
        assert await pool.stop(block=False) is True

    async def by_map(pool: Any) -> None:
        assert await pool.stop(block=False).map(lambda alive: not alive) is False

    async def by_aclose(pool: Any) -> None:
        await pool.aclose()

    return {"block": by_block, "stop": by_stop, "map": by_map, "aclose": by_aclose}[owner]


@pytest.mark.parametrize(
    ("what", "way"),
    [
        ("pool", "block"),
        ("pool", "stop"),
        ("pool", "map"),
        ("chain", "block"),
        ("chain", "aclose"),
        ("executor", "block"),
        ("executor", "aclose"),
    ],
)
def test_nothing_that_ends_a_pool_needs_the_executor(what: str, way: str) -> None:
    """The block, the future of a stop and what is made of it; a chain and an executor as well."""

    async def main() -> None:
        earlier = greenroom_threads()
        async with full_executor():
            owner: Any
            if what == "pool":
                owner = pool = AgentPool.start([Member("a", echo)])
            elif what == "chain":
                owner = FallbackChain[Any]().add("a", 1)
                pool = owner.pool
            else:
                owner = PoolExecutor("e", [MemberConfig("a")], lambda name, request: echo)
                pool = owner.pool
            before = greenroom_threads() - earlier
            await leave(way)(owner)
            assert not pool.is_alive()
            assert len(before) >= 2
            assert not before & greenroom_threads()

    run(main)


@pytest.mark.parametrize("agents_loop", ["own", "auto"])
def test_a_program_ends_whose_executor_is_full_of_asks_at_its_end(agents_loop: Any) -> None:
    """`asyncio.run` waits for its executor's threads, whose asks the pool's end has answered."""
    agent, config = AsyncScriptedAgent.hanging(), PoolConfig(event_loop=agents_loop)
    errors: list[Any] = []

    def ask(pool: PoolRef) -> None:
        try:
            pool.execute("x")
        except PoolStoppedError as error:
            errors.append(error)

    async def main() -> None:
        async with AgentPool.start([Member("a", agent)], config=config) as pool:
            loop = asyncio.get_running_loop()
            loop.set_default_executor(ThreadPoolExecutor(2))
            for _ in range(4):
                loop.run_in_executor(None, ask, pool)
            await begun(agent, 2)

    run(main)
    assert len(errors) == 4


def test_leaving_waits_for_the_close_hooks_and_leaves_the_loop_free() -> None:
    """As ever: the block is left when everything has been cleaned up, the pool's event included."""
    closing, closed = ScriptedAgent.hanging(echo), []

    def close(agent: Any) -> None:
        closing("closing")
        closed.append(agent)

    async def main() -> list[str]:
        with EventRecorder() as log:
            async with full_executor():
                async with AgentPool.start([Member("a", echo, close=close)]) as pool:
                    asyncio.get_running_loop().call_later(0, closing.release)
                assert closed == [echo]
                assert not pool.is_alive()
                return log.names()[-2:]

    assert run(main) == ["member.stopped", "pool.stopped"]


def test_a_pool_that_was_stopped_before_is_left_at_once() -> None:
    """And a stop says that it had been stopped."""

    async def main() -> None:
        async with full_executor(), AgentPool.start([Member("a", echo)]) as pool:
            assert await pool.stop(block=False) is True
            assert await pool.stop(block=False) is False

    run(main)


def test_a_pool_that_has_crashed_is_left_as_well() -> None:
    """A router that was hit has ended, and says so."""

    async def main() -> None:
        async with full_executor():
            async with AgentPool.start([Member("a", echo)]) as pool:
                crash(router_ref(pool))
            assert await pool.stop(block=False) is False

    with no_thread_left():
        run(main)


def test_many_coroutines_of_two_loops_wait_for_one_end() -> None:
    """Each is woken on its own loop."""
    gate = ScriptedAgent.hanging(echo)
    pool = AgentPool.start([Member("a", echo, close=gate)])
    waiting = threading.Barrier(3)

    async def main() -> list[bool]:
        ends = [asyncio.ensure_future(pool.stop(block=False)) for _ in range(50)]
        await asyncio.sleep(0)
        waiting.wait(WAIT_S)
        return await asyncio.gather(*ends)

    with ThreadPoolExecutor(2) as threads:
        both = [threads.submit(run, main) for _ in range(2)]
        waiting.wait(WAIT_S)
        gate.release()
        answers = [answer for each in both for answer in each.result(WAIT_S)]
    assert len(answers) == 100
    assert answers.count(True) >= 1


def test_a_pool_of_pools_is_left_as_well() -> None:
    """The inner one was made by the outer one, which stops it."""
    inner: list[PoolRef] = []

    def make() -> PoolRef:
        inner.append(AgentPool.start([Member("b", AsyncScriptedAgent(["x"]))], name="in"))
        return inner[0]

    async def main() -> None:
        async with full_executor(), AgentPool.start([Member("a", factory=make)]) as pool:
            assert (await pool.ask(Request("y"), block=False)).value == "x"
        assert not inner[0].is_alive()

    with no_thread_left():
        run(main)


def test_who_is_cancelled_while_leaving_leaves_a_pool_that_stops() -> None:
    """Nobody waits for it any more, but the stop has been said, and goes on."""
    gate = ScriptedAgent.hanging(echo)
    pool = AgentPool.start([Member("a", echo, close=gate)])

    async def main() -> None:
        async def block() -> None:
            async with pool:
                pass

        async with full_executor():
            leaving = asyncio.create_task(block())
            await asyncio.sleep(0)
            gate.wait_for_calls()
            leaving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leaving
            assert not pool._ended.is_set()

    run(main)
    gate.release()
    assert pool.stop(timeout=WAIT_S) is False
    assert pool._ended.watchers == 0


def test_a_loop_that_closes_while_a_pool_is_left_harms_nobody() -> None:
    """Its coroutine is thrown away; the pool ends, and whoever else waits for it is told."""
    gate = ScriptedAgent.hanging(echo)
    pool = AgentPool.start([Member("a", echo, close=gate)])

    async def leave() -> None:
        async with pool:
            pass

    def abandon() -> None:
        loop = asyncio.new_event_loop()
        task = loop.create_task(leave())
        loop.run_until_complete(asyncio.sleep(0))
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        loop.close()

    thread = threading.Thread(target=abandon, daemon=True)
    thread.start()
    thread.join(WAIT_S)
    gate.wait_for_calls()
    gate.release()
    assert pool.stop(timeout=WAIT_S) is False


def test_what_is_made_of_another_librarys_future_needs_no_executor_either() -> None:
    """Nobody can tell when such a one has its value: a thread of its own waits for it."""

    async def main() -> None:
        async with full_executor():
            foreign: Any = pykka.ThreadingFuture()
            with pool_of(Member("a", echo)) as pool:
                both = pool.ask(Request("x"), block=False).join(foreign)
                asyncio.get_running_loop().call_later(0, foreign.set, "y")
                reply, other = await both
            assert (reply.value, other) == ("x", "y")

    run(main)
