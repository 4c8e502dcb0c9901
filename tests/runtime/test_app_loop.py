"""Agents on the app's own loop: where they run, who may wait where, and what its end means."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest
from helpers_actors import no_thread_left
from helpers_loops import begun
from helpers_pools import WAIT_S, async_chunks, chunks, echo, echo_async, pool_of

from greenroom import (
    AgentPool,
    Apply,
    Drain,
    FallbackChain,
    GetStats,
    Member,
    PoolConfig,
    PoolRef,
    ReentrantAskError,
    Request,
)
from greenroom.events import LoopEnded
from greenroom.testing import AsyncScriptedAgent, EventRecorder

T = TypeVar("T")

HAS_UVLOOP = importlib.util.find_spec("uvloop") is not None


def uvloops() -> asyncio.AbstractEventLoop:
    import uvloop

    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


def eager() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined,unused-ignore]
    return loop


NewLoop = Callable[[], asyncio.AbstractEventLoop]
LOOPS = [
    pytest.param(asyncio.new_event_loop, id="asyncio"),
    pytest.param(
        uvloops,
        id="uvloop",
        marks=pytest.mark.skipif(not HAS_UVLOOP, reason="uvloop is not installed"),
    ),
    pytest.param(
        eager,
        id="eager",
        marks=pytest.mark.skipif(sys.version_info < (3, 12), reason="comes with Python 3.12"),
    ),
]


def run(main: Coroutine[Any, Any, T], new_loop: NewLoop | None = None) -> T:
    """Run a test's coroutine as an app does; in debug mode, which refuses calls from the wrong
    thread. What hangs fails.
    """
    with asyncio.Runner(debug=True, loop_factory=new_loop) as runner:
        return runner.run(asyncio.wait_for(main, 2 * WAIT_S))


async def in_thread(work: Callable[[], T]) -> T:
    return await asyncio.to_thread(work)


async def where(_: Any = None) -> Any:
    """The loop that an agent runs on, and its thread."""
    return asyncio.get_running_loop(), threading.get_ident()


def start(*members: Member, **config: Any) -> PoolRef:
    return AgentPool.start(members, config=PoolConfig(**config), strategy="priority")


async def value_of(pool: PoolRef, payload: Any = "x") -> Any:
    return (await pool.ask(Request(payload), block=False)).value


# -- which loop it is


@pytest.mark.parametrize("new_loop", LOOPS)
@pytest.mark.parametrize("event_loop", ["auto", "running"])
def test_a_pool_that_is_started_where_a_loop_runs_has_its_agents_there(
    event_loop: str, new_loop: NewLoop
) -> None:
    """Agents, factories, probes and close hooks; asyncio's loop, uvloop's, one with eager tasks."""
    places: list[Any] = []

    async def make() -> Any:
        places.append(await where())
        return where

    async def close(_: Any) -> None:
        places.append(await where())

    async def main() -> None:
        here = await where()
        made = Member("made", factory=make, close=close)
        async with start(made, event_loop=event_loop) as pool:
            assert await value_of(pool) == here
            assert (await pool.ask(Apply(where), block=False)).value == here
            assert await in_thread(lambda: pool.execute("x")) == here
        assert places == [here, here]

    with no_thread_left():
        run(main(), new_loop)


@pytest.mark.parametrize("event_loop", ["own", "asyncio"])
def test_a_loop_of_its_own_when_asked_for(event_loop: str) -> None:
    """Whatever runs where it is started."""

    async def main() -> None:
        async with start(Member("a", where), event_loop=event_loop) as pool:
            loop, thread = await value_of(pool)
            assert loop is not asyncio.get_running_loop()
            assert thread != threading.get_ident()

    run(main())


def test_a_loop_of_its_own_where_none_runs() -> None:
    """As ever: a program without asyncio has async agents all the same."""
    with pool_of(Member("a", where)) as pool:
        _, thread = pool.execute("x", timeout=WAIT_S)
        assert thread != threading.get_ident()


def test_running_refuses_to_start_where_no_loop_runs() -> None:
    """It names the field, and what else there is; nothing is left behind."""
    with no_thread_left(), pytest.raises(RuntimeError, match="event_loop='running' needs") as told:
        start(Member("a", where), event_loop="running")
    assert "event_loop='own'" in str(told.value)


def test_an_isolated_member_has_its_own_all_the_same() -> None:
    """It does not get in the app's way, nor the app in its."""

    async def main() -> None:
        async with start(Member("a", where, isolated=True)) as pool:
            loop, thread = await value_of(pool)
            assert loop is not asyncio.get_running_loop()
            assert thread != threading.get_ident()

    with no_thread_left():
        run(main())


def test_a_chain_has_a_loop_of_its_own_whoever_uses_it_first() -> None:
    """It is started by the first of many loops, and outlives it."""
    chain = FallbackChain[Any]().add("a", where)

    async def main() -> Any:
        return await chain.aexecute(lambda agent: agent())

    with chain, EventRecorder() as log:
        first, second = run(main()), run(main())
        assert first == second
        assert not log.named(LoopEnded)


@pytest.mark.parametrize("outer", ["own", "auto"])
def test_another_pools_own_loop_is_no_home(outer: str) -> None:
    """It ends, or is replaced, for reasons of that pool's. The app's is home to pools in pools."""

    async def start_inner(_: Any) -> Any:
        async with start(Member("b", where)) as pool:
            return asyncio.get_running_loop() is (await value_of(pool))[0]

    async def main() -> None:
        async with start(Member("a", start_inner), event_loop=outer) as pool:
            assert await value_of(pool) is (outer == "auto")

    with no_thread_left():
        run(main())


# -- who may wait in its thread


WAITS: dict[str, Callable[[PoolRef], Any]] = {
    "ask": lambda pool: pool.ask(Request("x")),
    "ask for a time": lambda pool: pool.ask(Request("x"), timeout=3.0),
    "execute": lambda pool: pool.execute("x"),
    "apply": lambda pool: pool.apply(echo),
    "get": lambda pool: pool.ask(Request("x"), block=False).get(),
    "get for a time": lambda pool: pool.ask(Request("x"), block=False).get(timeout=3.0),
    "map": lambda pool: pool.ask(Request("x"), block=False).map(echo).get(),
    "map over many": lambda pool: list(pool.map(["x", "y"])),
    "iterate": lambda pool: next(iter(pool.stream(Request("x")))),
    "collect": lambda pool: pool.stream(Request("x")).collect(),
    "first": lambda pool: pool.stream(Request("x")).first().get(),
    "map many": lambda pool: list(pool.map("xy")),
    "acquire": lambda pool: pool.acquire().__enter__(),
    "attempts": lambda pool: next(iter(pool.attempts())).__enter__(),
    "drain": lambda pool: pool.drain(),
    "remove": lambda pool: pool.remove_member("a"),
}


SENDS_NOTHING = ("ask", "execute", "apply", "map many", "acquire", "attempts")


@pytest.mark.parametrize("way", WAITS)
def test_who_would_wait_for_its_own_loop_is_told_at_once(way: str) -> None:
    """The error says what to write instead; the loop goes on, and so does the pool."""

    async def main() -> None:
        async with start(Member("a", echo_async), Member("b", echo)) as pool:
            with pytest.raises(ReentrantAskError) as told:
                WAITS[way](pool)
            assert "the thread of the event loop that its agents run on" in str(told.value)
            assert "await" in str(told.value)
            assert await value_of(pool) == "x"
            if way in SENDS_NOTHING:
                stats = await pool.ask(GetStats(), block=False)
                assert (stats.completed, stats.cancelled) == (1, 0)

    with no_thread_left():
        run(main())


@pytest.mark.parametrize("way", ["stop", "close", "block", "get"])
@pytest.mark.parametrize("why", ["running", "hook"])
def test_who_would_wait_for_an_end_that_needs_the_loop_is_told_at_once(why: str, way: str) -> None:
    """Where calls run there, or an agent is to be closed there. Nothing has been done then."""
    agent = AsyncScriptedAgent.hanging()

    async def close(_: Any) -> None:
        pass

    def end(pool: PoolRef) -> None:
        if way == "block":
            pool.__exit__(None, None, None)
        elif way == "get":
            pool.stop(block=False).get()
        else:
            getattr(pool, way)()

    async def main() -> None:
        hook: dict[str, Any] = {"close": close} if why == "hook" else {}
        pool = start(Member("a", agent, **hook))
        if why == "running":
            future = pool.ask(Request("x"), block=False)
            await begun(agent)
        with pytest.raises(ReentrantAskError, match="stop"):
            end(pool)
        assert pool.is_alive() or way == "get"
        await pool.stop(block=False)
        if why == "running":
            assert future.done()

    with no_thread_left():
        run(main())


def test_a_pool_whose_loop_has_nothing_to_do_may_be_left_without_await() -> None:
    """`with` in a coroutine: its end needs nothing of the loop."""

    async def main() -> None:
        with start(Member("a", echo_async)) as pool:
            assert await value_of(pool) == "x"

    with no_thread_left():
        run(main())


def test_sync_members_alone_may_be_waited_for() -> None:
    """It holds up the loop, as any blocking call does, but not itself."""

    async def main() -> None:
        with start(Member("a", echo)) as pool:
            assert pool.execute("x") == "x"
            assert pool.apply(lambda _: "y") == "y"
            assert pool.ask(Request("x"), block=False).get().value == "x"
            assert list(pool.map("xy")) == ["x", "y"]
            with pool.acquire() as agent:
                assert agent is echo
            assert pool.stats().completed == 6
        with start(Member("a", chunks)) as pool:
            assert pool.stream(Request("x")).collect() == ["x"]
            assert pool.drain()

    with no_thread_left():
        run(main())


LATE: dict[str, Callable[[PoolRef], Any]] = {
    "apply": lambda pool: pool.apply(echo_async),
    "get apply": lambda pool: pool.ask(Apply(echo_async), block=False).get(),
    "apply of what returns a coroutine": lambda pool: pool.apply(lambda _: echo_async("x")),
    "ask": lambda pool: pool.execute("x"),
    "get": lambda pool: pool.ask(Request("x"), block=False).get(),
    "stream": lambda pool: pool.stream(Request("x")).collect(),
    "map": lambda pool: list(pool.map("x")),
    "map over many": lambda pool: list(pool.map(["x", "y"])),
}


@pytest.mark.parametrize("way", LATE)
def test_a_sync_member_that_turns_out_to_need_the_loop_waits_for_nobody(way: str) -> None:
    """A sync callable that returns an awaitable or an async stream: whoever holds up the loop for
    it is told.
    """

    def agent(payload: Any) -> Any:
        return async_chunks(payload) if way == "stream" else echo_async(payload)

    async def main() -> None:
        async with start(Member("a", agent), request_timeout_s=None) as pool:
            with pytest.raises(ReentrantAskError, match="await"):
                LATE[way](pool)
            assert await value_of(pool) in ("x", ["x"])
            assert (await pool.ask(Apply(echo_async), block=False)).value is agent

    with no_thread_left():
        run(main())


def test_a_factory_that_turns_out_to_make_an_async_agent_holds_up_nobody() -> None:
    """As the first request finds out; from then on it is told before anything is sent."""

    async def main() -> None:
        async with start(Member("a", factory=lambda: echo_async)) as pool:
            for _ in range(2):
                with pytest.raises(ReentrantAskError):
                    pool.execute("x")
            assert await value_of(pool) == "x"

    run(main())


def test_another_pool_in_between_is_seen_through() -> None:
    """The loop's thread waits for a pool whose agent asks the one that lives on the loop."""

    async def main() -> None:
        async with start(Member("a", echo_async)) as inner:

            def ask(payload: Any) -> Any:
                return inner.execute(payload)

            async def ask_async(payload: Any) -> Any:
                return await value_of(inner, payload)

            for agent in (ask, ask_async):
                with start(Member("b", agent), event_loop="own") as outer:
                    with pytest.raises(ReentrantAskError):
                        outer.execute("x")
                    with pytest.raises(ReentrantAskError):
                        list(outer.map("xy"))
                    assert await value_of(outer) == "x"

    with no_thread_left():
        run(main())


@pytest.mark.parametrize("way", ["get", "iterate", "collect", "map many"])
@pytest.mark.parametrize("begun_before", [False, True])
@pytest.mark.parametrize("nested", [False, True])
def test_so_is_one_that_was_asked_before_the_wait(
    nested: bool, begun_before: bool, way: str
) -> None:
    """Be it that the inner pool was asked when the wait began, or is only then."""

    async def main() -> None:
        agent = AsyncScriptedAgent.hanging()
        async with start(Member("a", agent), request_timeout_s=None) as inner:

            async def ask(payload: Any) -> Any:
                return await value_of(inner, payload)

            with start(Member("b", inner if nested else ask), event_loop="own") as outer:
                request, stream = Request("x"), way in ("iterate", "collect")
                asked: Any = outer.stream(request) if stream else outer.ask(request, block=False)
                if begun_before:
                    await begun(agent)
                waits: dict[str, Callable[[], Any]] = {
                    "get": lambda: asked.get(),
                    "iterate": lambda: next(iter(asked)),
                    "collect": lambda: asked.collect(),
                    "map many": lambda: list(outer.map("x")),
                }
                with pytest.raises(ReentrantAskError):
                    waits[way]()
                asked.cancel()

    with no_thread_left():
        run(main())


def test_commands_may_be_waited_for() -> None:
    """They need no agent."""

    async def main() -> None:
        async with start(Member("a", echo_async)) as pool:
            assert pool.stats().name == "pool"
            pool.add_member(Member("b", echo_async))
            pool.force_open("b")
            pool.reset_all()
            assert not pool.cancel("no such")
            assert await pool.ask(Drain(), block=False)

    run(main())


def test_other_threads_and_other_loops_may_wait() -> None:
    """By blocking, by awaiting, for an answer, a stream, the end."""

    async def elsewhere(pool: PoolRef) -> Any:
        return await value_of(pool), [chunk async for chunk in pool.stream(Request("x"))]

    def in_another_thread(pool: PoolRef) -> Any:
        return pool.execute("x"), pool.stream(Request("x")).collect(), asyncio.run(elsewhere(pool))

    async def main() -> None:
        pool = start(Member("a", echo_async))
        found = await in_thread(lambda: in_another_thread(pool))
        assert found == ("x", ["x"], ("x", ["x"]))
        assert await in_thread(pool.stop)

    with no_thread_left():
        run(main())


# -- an agent that asks, there


def test_an_agent_there_may_ask_its_own_pool_and_await_it() -> None:
    """It is refused where it would block, or wait for its own end."""

    pool: Any = None

    async def agent(payload: Any) -> Any:
        if payload == "blocks":
            return pool.execute("x")
        if payload == "drains":
            return await pool.ask(Drain(), block=False)
        return payload if payload == "x" else await value_of(pool)

    async def main() -> None:
        nonlocal pool
        async with start(Member("a", agent)) as pool:
            for payload in ("blocks", "drains"):
                assert await value_of(pool, "asks") == "x"
                with pytest.raises(ReentrantAskError):
                    await value_of(pool, payload)

    run(main())
