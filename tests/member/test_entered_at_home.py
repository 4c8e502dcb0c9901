"""What a factory makes, entered on the app's own loop: behaviours 158 and 161."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from helpers_pools import WAIT_S, echo, echo_async

from greenroom import AgentPool, Member, PoolRef, ReentrantAskError, Request
from greenroom.messages import LoopEnded, MemberCreateFailed, MemberFailed, MemberRestarted
from greenroom.testing import EventRecorder

Log = list[tuple[str, asyncio.AbstractEventLoop, asyncio.Task[Any] | None]]


def noting(log: Log, agent: Any = echo_async) -> Callable[[], Any]:
    """A factory that says where its agent is entered and left."""

    def note(what: str) -> None:
        log.append((what, asyncio.get_running_loop(), asyncio.current_task()))

    @contextlib.asynccontextmanager
    async def factory() -> AsyncIterator[Any]:
        note("enter")
        try:
            yield agent
        finally:
            await asyncio.sleep(0)
            note("exit")

    return factory


def words(log: Log) -> list[str]:
    return [what for what, _, _ in log]


async def answer(pool: PoolRef) -> Any:
    return (await pool.ask(Request("x"), block=False, timeout=WAIT_S)).value


@pytest.mark.parametrize("agent", [echo, echo_async], ids=["sync", "async"])
def test_b158_it_is_entered_and_left_in_a_task_of_the_apps_loop(agent: Any) -> None:
    """Which leaves nothing behind there when the pool has ended."""
    log: Log = []

    async def app() -> None:
        async with AgentPool.start([Member("lazy", factory=noting(log, agent))]) as pool:
            assert await answer(pool) == "x"
            assert words(log) == ["enter"]
        assert words(log) == ["enter", "exit"]
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert {loop for _, loop, _ in log} == {asyncio.get_running_loop()}

    asyncio.run(app())
    assert len({task for _, _, task in log}) == 1


def test_b158_the_loops_own_thread_may_not_wait_for_what_is_left_there() -> None:
    """A sync agent whose client lives on the loop: a blocking stop would wait for itself."""
    log: Log = []

    async def app() -> None:
        async with AgentPool.start([Member("lazy", factory=noting(log, echo))]) as pool:
            assert await answer(pool) == "x"
            with pytest.raises(ReentrantAskError):
                pool.stop()
            assert await answer(pool) == "x"

    asyncio.run(app())
    assert words(log) == ["enter", "exit"]


@pytest.mark.parametrize("agent", [echo, echo_async], ids=["sync", "async"])
def test_b161_it_is_left_with_the_apps_loop_and_entered_anew_on_the_pools(
    agent: Any, greenroom_events: EventRecorder
) -> None:
    """That is no failure of the member, and no restart."""
    log: Log = []

    async def app() -> PoolRef:
        pool = AgentPool.start([Member("lazy", factory=noting(log, agent))])
        assert await answer(pool) == "x"
        return pool

    pool = asyncio.run(app())
    assert words(log) == ["enter", "exit"]
    assert pool.execute("y", timeout=WAIT_S) == "y"
    assert words(log) == ["enter", "exit", "enter"]
    pool.stop(timeout=WAIT_S)
    assert words(log) == ["enter", "exit"] * 2
    assert [log[0][1], log[2][1]] == [log[1][1], log[3][1]]
    assert log[0][1] is not log[2][1]
    assert len(greenroom_events.named(LoopEnded)) == 1
    assert not [*greenroom_events.named(MemberFailed), *greenroom_events.named(MemberRestarted)]


def test_b161_an_app_loop_that_is_left_as_it_is_holds_up_nobody() -> None:
    """It is entered anew elsewhere; the old one leaves if its loop runs once more."""
    log: Log = []

    async def app() -> PoolRef:
        pool = AgentPool.start([Member("lazy", factory=noting(log))])
        assert await answer(pool) == "x"
        return pool

    loop = asyncio.new_event_loop()
    pool = loop.run_until_complete(app())
    assert pool.execute("y", timeout=WAIT_S) == "y"
    assert words(log) == ["enter", "enter"]
    pool.stop(timeout=WAIT_S)
    assert words(log) == ["enter", "enter", "exit"]

    async def turns() -> None:
        for _ in range(100):
            await asyncio.sleep(0)

    loop.run_until_complete(turns())
    loop.close()
    assert words(log) == ["enter", "enter", "exit", "exit"]
    assert log[3][1] is loop


def test_b161_what_is_being_entered_when_the_apps_loop_ends_is_entered_elsewhere(
    greenroom_events: EventRecorder,
) -> None:
    """Whoever waits for it waits on, and nobody is blamed."""
    log: Log = []
    waits: list[Callable[[], Any]] = [lambda: asyncio.Event().wait(), lambda: asyncio.sleep(0)]

    async def app() -> tuple[PoolRef, Any]:
        entered = asyncio.Event()

        @contextlib.asynccontextmanager
        async def factory() -> AsyncIterator[Any]:
            entered.set()
            await waits.pop(0)()
            async with noting(log)() as agent:
                yield agent

        pool = AgentPool.start([Member("lazy", factory=factory)])
        future = pool.ask(Request("x"), block=False)
        await entered.wait()
        return pool, future

    pool, future = asyncio.run(app())
    assert future.get(timeout=WAIT_S).value == "x"
    assert greenroom_events.named(MemberCreateFailed) == []
    pool.stop(timeout=WAIT_S)
    assert words(log) == ["enter", "exit"]
