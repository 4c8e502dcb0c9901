"""Agents on the app's own loop beside the app's own code: stalls, scopes, time moved by hand."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import threading
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Any

import anyio
import pytest
from helpers_actors import no_thread_left
from helpers_loops import QUIET, Blocker, begun, pass_time
from helpers_pools import WAIT_S, echo_async
from test_app_loop import LOOPS, NewLoop, run, start, value_of

from greenroom import AgentPool, Apply, FailureKind, Member, PoolConfig, PoolRef, Request
from greenroom.actors.runtime.deferral import is_on_here
from greenroom.events import BreakerOpened, LoopEnded, LoopReplaced, LoopStalled
from greenroom.testing import AsyncScriptedAgent, EventRecorder, FakeClock

# -- a stall


@pytest.mark.parametrize("new_loop", LOOPS)
@pytest.mark.parametrize("who", ["agent", "app"])
def test_a_stall_of_the_apps_loop_is_reported_with_its_line_and_never_replaced(
    who: str, new_loop: NewLoop
) -> None:
    """By whom, if that is an agent; the app's own line else. It goes on when the loop does."""
    clock, blocker = FakeClock(), Blocker()
    config = PoolConfig(**(QUIET | {"loop_replaced_after_s": 2.0}))
    pools: list[PoolRef] = []
    ready = threading.Event()

    async def main() -> Any:
        pool = AgentPool.start(
            [Member("a", blocker), Member("b", echo_async, priority=1)],
            clock=clock,
            config=config,
            strategy="priority",
        )
        async with pool:
            await value_of(pool, "warm")
            pools.append(pool)
            ready.set()
            if who == "app":
                await asyncio.sleep(0)
                blocker.block()
                return await value_of(pool, "on")
            return await value_of(pool, "block"), await value_of(pool, "on")

    answers: list[Any] = []
    app = threading.Thread(target=lambda: answers.append(run(main(), new_loop)))
    with no_thread_left(), EventRecorder() as log:
        app.start()
        blocker.wait_entered()
        assert ready.wait(WAIT_S)
        pass_time(pools[0], clock, 8.0)
        stalled = log.wait_for(LoopStalled)
        known = new_loop is not LOOPS[1].values[0] or sys.version_info >= (3, 12)
        assert stalled.member == ("a" if who == "agent" and known else None)
        assert "helpers_loops.py" in stalled.where
        assert stalled.replaced_in_s is None
        assert not log.named(LoopReplaced)
        blocker.release()
        app.join(WAIT_S)
        assert answers == [("block", "on") if who == "agent" else "on"]
        assert len(log.named(LoopStalled)) == 1
        assert not log.named(LoopReplaced)
        assert not log.named(LoopEnded)


def test_a_loop_that_nobody_runs_for_a_while_is_not_stalled() -> None:
    """An app that runs it again and again; nothing is to be done there in between."""
    clock = FakeClock()

    async def begin() -> PoolRef:
        pool = AgentPool.start([Member("a", echo_async)], clock=clock)
        await value_of(pool)
        return pool

    with no_thread_left(), EventRecorder() as log, asyncio.Runner() as runner:
        pool = runner.run(begin())
        for _ in range(20):
            clock.advance(1.0)
            pool.stats()
        assert runner.run(value_of(pool)) == "x"
        assert not log.named(LoopStalled)
        assert not log.named(LoopEnded)
        runner.run(stopped(pool))


async def stopped(pool: PoolRef) -> None:
    await pool.stop(block=False)


# -- time that is moved by hand


def test_time_that_is_moved_by_hand_is_the_agents_time_too() -> None:
    """Limits and sleeps, in one thread with the test that moves it."""
    clock = FakeClock()

    async def sleepy(payload: Any) -> Any:
        await clock.sleep(payload)
        return payload

    async def main() -> None:
        config = PoolConfig(request_timeout_s=5.0, max_retries=0)
        async with AgentPool.start([Member("a", sleepy)], clock=clock, config=config) as pool:
            short = pool.ask(Request(1.0), block=False)
            long = pool.ask(Request(60.0), block=False)
            await asyncio.to_thread(clock.wait_until_sleeping, 2)
            clock.advance(1.0)
            assert (await short).value == 1.0
            clock.advance(4.0)
            with pytest.raises(Exception, match="did not answer within request_timeout_s=5"):
                await long

    with no_thread_left():
        run(main())


# -- cancel scopes


@contextlib.asynccontextmanager
async def watched(agent: AsyncScriptedAgent) -> AsyncIterator[PoolRef]:
    async with start(Member("a", agent)) as pool:
        yield pool
        pool.stats()
        agent.release()
        assert await value_of(pool) == "value"


@pytest.mark.parametrize("new_loop", LOOPS)
@pytest.mark.parametrize("scope", ["asyncio", "anyio", "group"])
def test_a_scope_that_cancels_the_caller_cancels_its_request_and_nothing_else(
    scope: str, new_loop: NewLoop
) -> None:
    """The other's request goes on, on the same member and the same loop."""
    agent = AsyncScriptedAgent.hanging()

    async def leave_by_scope(pool: PoolRef) -> None:
        if scope == "asyncio":
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(None) as within:
                    future = pool.ask(Request("left"), block=False)
                    await begun(agent, 2)
                    within.reschedule(0.0)
                    await future
        elif scope == "anyio":
            with anyio.CancelScope() as cancel:
                future = pool.ask(Request("left"), block=False)
                await begun(agent, 2)
                cancel.cancel()
                await future
            assert cancel.cancelled_caught
        else:

            class LeftError(Exception):
                pass

            async def fail() -> None:
                await begun(agent, 2)
                raise LeftError

            with pytest.raises(ExceptionGroup) as raised:
                async with asyncio.TaskGroup() as group:
                    group.create_task(value_of(pool, "left"))
                    group.create_task(fail())
            assert [type(each) for each in raised.value.exceptions] == [LeftError]

    async def main() -> None:
        async with watched(agent) as pool:
            other = pool.ask(Request("other"), block=False)
            await begun(agent, 1)
            await leave_by_scope(pool)
            await asyncio.to_thread(agent.wait_for_cancelled)
            assert agent.cancelled == ["left"]
            assert not other.done()
            agent.release()
            assert (await other).value == "value"

    with no_thread_left():
        run(main(), new_loop)


@pytest.mark.parametrize("new_loop", LOOPS)
def test_an_agents_task_is_no_child_of_the_callers_scope(new_loop: NewLoop) -> None:
    """A group waits for its own tasks, a scope's deadline is none of the agent's, and an agent may
    use scopes of its own.
    """
    seen: list[Any] = []

    async def agent(payload: Any) -> Any:
        with anyio.move_on_after(60) as own:
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.sleep, 0)
        seen.append((own.cancelled_caught, anyio.current_effective_deadline()))
        return payload

    async def main() -> None:
        async with start(Member("a", agent)) as pool:
            with anyio.fail_after(WAIT_S):
                async with anyio.create_task_group():
                    assert await value_of(pool) == "x"
                async with asyncio.TaskGroup():
                    assert await value_of(pool) == "x"
        assert seen == [(False, float("inf"))] * 2

    with no_thread_left():
        run(main(), new_loop)


def test_anyios_own_runner_is_a_home_as_well() -> None:
    """`anyio.run`, with a pool in a task group of its own."""

    async def main() -> Any:
        async with anyio.create_task_group(), start(Member("a", echo_async)) as pool:
            return await value_of(pool)

    with no_thread_left():
        assert anyio.run(main) == "x"


# -- tasks that begin at once


@pytest.mark.parametrize("new_loop", LOOPS)
def test_an_agents_code_never_runs_in_the_routers_turn(new_loop: NewLoop) -> None:
    """Not even on a loop that begins tasks at once: an agent may ask its pool for commands there,
    and for other agents.
    """

    pool: Any = None

    async def agent(payload: Any) -> Any:
        names = [pool.stats().name]
        if payload:
            names.append(await value_of(pool, payload - 1))
        return names

    async def main() -> None:
        nonlocal pool
        async with start(Member("a", agent), Member("b", agent)) as pool:
            found = await asyncio.gather(*(value_of(pool, 2) for _ in range(10)))
            assert found == [["pool", ["pool", ["pool"]]]] * 10

    with no_thread_left():
        run(main(), new_loop)


def test_a_task_factory_of_the_apps_may_know_no_contexts() -> None:
    """As they all were before Python 3.11; each call has a context of its own all the same."""
    made: list[Any] = []
    word: ContextVar[str] = ContextVar("word", default="none")

    def factory(loop: asyncio.AbstractEventLoop, coroutine: Any) -> asyncio.Task[Any]:
        made.append(coroutine)
        return asyncio.Task(coroutine, loop=loop)

    async def agent(payload: Any) -> Any:
        before = word.get()
        word.set("set")
        return before

    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(factory)
        async with start(Member("a", agent)) as pool:
            assert [await value_of(pool) for _ in range(2)] == ["none"] * 2
            assert await value_of(pool) == "none"
            assert (await pool.ask(Apply(lambda _: echo_async("x")), block=False)).value == "x"
        assert len(made) >= 4

    with no_thread_left():
        run(main())


# -- signals


@pytest.mark.parametrize("new_loop", LOOPS)
def test_a_ctrl_c_in_an_agents_code_is_the_apps(new_loop: NewLoop) -> None:
    """It leaves the loop, as from any task; the request is interrupted, and nobody is blamed."""
    entered: list[int] = []

    async def agent(payload: Any) -> Any:
        if not entered:
            entered.append(1)
            signal.raise_signal(signal.SIGINT)
        return payload

    futures: list[Any] = []

    async def begin() -> Any:
        pools.append(start(Member("a", agent), Member("b", agent), circuit_failure_threshold=1))
        futures.append(pools[0].ask(Request("x"), block=False))
        await asyncio.sleep(WAIT_S)

    pools: list[PoolRef] = []
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with no_thread_left(), contextlib.closing(new_loop()) as loop, EventRecorder() as log:
        try:
            with pytest.raises(KeyboardInterrupt):
                loop.run_until_complete(begin())
        finally:
            signal.signal(signal.SIGINT, before)
        with pools.pop():
            reply = futures.pop().get(timeout=WAIT_S)
            assert reply.value == "x"
            # The next attempt may have come to that loop while it was being left.
            assert [each.kind for each in reply.errors if each.started] == [FailureKind.INTERRUPTED]
            assert not log.named(BreakerOpened)
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))


@pytest.mark.parametrize("new_loop", LOOPS)
@pytest.mark.parametrize("how", ["async", "sync that returns a coroutine"])
def test_an_agents_code_runs_with_the_signals_of_the_app_as_they_are(
    how: str, new_loop: NewLoop
) -> None:
    """Also where a task begins right where it is made, in the moment in which they are put off."""
    seen: list[bool] = []

    async def agent(payload: Any) -> Any:
        seen.append(is_on_here())
        return payload

    def returns(payload: Any) -> Any:
        return agent(payload)

    async def main() -> None:
        async with start(Member("a", agent if how == "async" else returns)) as pool:
            assert [await value_of(pool) for _ in range(3)] == ["x"] * 3

    with no_thread_left():
        run(main(), new_loop)
    assert seen == [False] * 3


def test_a_done_callback_runs_with_the_signals_of_the_app_as_they_are() -> None:
    """Not in the moment in which an agent on the app's loop tells of its end: it may take long, or
    set a handler.
    """
    seen: list[bool] = []

    async def main() -> None:
        async with AgentPool.start([Member("a", echo_async)]) as pool:
            future, called = pool.ask(Request(1), block=False), threading.Event()

            def callback(_: Any) -> None:
                seen.append(is_on_here())
                called.set()

            future.add_done_callback(callback)
            await future
            assert await asyncio.to_thread(called.wait, WAIT_S)

    asyncio.run(main())
    assert seen == [False]
