"""A pool's future wherever asyncio takes an awaitable or a coroutine."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar, assert_type

import pytest
from helpers_agents import AsyncHeld
from helpers_pools import WAIT_S, ask, echo_async, pool_of

from greenroom import GetStats, Member, PoolFuture, PoolRef, PoolStats, Reply, Request
from greenroom.actors.runtime.future import PoolFuture as RuntimeFuture

T = TypeVar("T")


def within(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run it on an event loop of its own, for a bounded time."""
    return asyncio.run(asyncio.wait_for(coroutine, WAIT_S), debug=True)


async def task(future: PoolFuture[T]) -> T:
    return await asyncio.create_task(future)


async def group(future: PoolFuture[T]) -> T:
    async with asyncio.TaskGroup() as tasks:
        made = tasks.create_task(future)
    return made.result()


async def awaited(future: PoolFuture[T]) -> T:
    return await future


async def ensured(future: PoolFuture[T]) -> T:
    return await asyncio.ensure_future(future)


async def gathered(future: PoolFuture[T]) -> T:
    return (await asyncio.gather(future, future))[0]


async def waited_for(future: PoolFuture[T]) -> T:
    return await asyncio.wait_for(future, WAIT_S)


async def shielded(future: PoolFuture[T]) -> T:
    return await asyncio.shield(future)


async def as_completed(future: PoolFuture[T]) -> T:
    (first,) = asyncio.as_completed([future])
    return await first


async def under_a_timeout(future: PoolFuture[T]) -> T:
    async with asyncio.timeout(WAIT_S):
        return await future


async def waited(future: PoolFuture[T]) -> T:
    done, _ = await asyncio.wait([asyncio.create_task(future)])
    return done.pop().result()


async def run_elsewhere(future: PoolFuture[T]) -> T:
    return await asyncio.to_thread(asyncio.run, future)


async def completed_elsewhere(future: PoolFuture[T]) -> T:
    def run() -> T:
        with asyncio.Runner() as runner:
            return runner.get_loop().run_until_complete(future)

    return await asyncio.to_thread(run)


async def brought_to_this_loop(future: PoolFuture[T]) -> T:
    here = asyncio.get_running_loop()
    bring = asyncio.run_coroutine_threadsafe
    return await asyncio.to_thread(lambda: bring(future, here).result(WAIT_S))


WAYS: list[Callable[[PoolFuture[Any]], Awaitable[Any]]] = [
    awaited,
    task,
    group,
    ensured,
    gathered,
    waited_for,
    shielded,
    as_completed,
    under_a_timeout,
    waited,
    run_elsewhere,
    completed_elsewhere,
    brought_to_this_loop,
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_asyncio_takes_a_future_whichever_way(way: Callable[[PoolFuture[Any]], Any]) -> None:
    """Of a request, of statistics, of a stream's first chunk, made of others, and answered ones."""

    async def main() -> None:
        with pool_of(Member("a", echo_async)) as pool:
            assert (await way(ask(pool, "x"))).value == "x"
            assert (await way(pool.ask(GetStats(), block=False))).name == "pool"
            assert await way(ask(pool, "x").map(lambda reply: reply.value * 2)) == "xx"
            stream = pool.stream(Request("x"))
            assert await way(stream.first()) == "a"
            stream.close()
            answered = ask(pool, "y")
            await answered
            assert (await way(answered)).value == "y"
            stopped: Any = pool.stop(block=False)
            assert await way(stopped) is True

    within(main())


def eager() -> asyncio.AbstractEventLoop:
    factory: Any = getattr(asyncio, "eager_task_factory", None)
    if factory is None:
        pytest.skip("there are no eager tasks before Python 3.12")
    loop = asyncio.new_event_loop()
    loop.set_task_factory(factory)
    return loop


def with_uvloop() -> asyncio.AbstractEventLoop:
    made: asyncio.AbstractEventLoop = pytest.importorskip("uvloop").new_event_loop()
    return made


@pytest.mark.parametrize("loop", [eager, with_uvloop])
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_whatever_the_loop(
    way: Callable[[PoolFuture[Any]], Any], loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """uvloop has tasks of asyncio's; an eager one has its first step before it is made."""

    async def main(pool: PoolRef) -> None:
        async with asyncio.timeout(WAIT_S):
            assert (await way(ask(pool, "x"))).value == "x"
            answered = ask(pool, "y")
            await answered
            assert (await way(answered)).value == "y"

    with asyncio.Runner(loop_factory=loop) as runner, pool_of(Member("a", echo_async)) as pool:
        runner.run(main(pool))


def test_asyncio_wait_says_what_to_write() -> None:
    """It takes tasks alone; what it would only wait for for ever is refused at once."""

    async def main() -> None:
        with pytest.raises(TypeError, match="use tasks explicitly"):
            await asyncio.wait([ask(pool)])  # type: ignore[type-var]

    with pool_of(Member("a", echo_async)) as pool:
        within(main())


def test_several_tasks_await_one_future_on_several_loops() -> None:
    """Each has a wait of its own, and the one answer."""
    held = AsyncHeld("answer")
    with pool_of(Member("a", held)) as pool:
        future = ask(pool)
        replies: list[Reply[Any]] = []

        waiting = threading.Semaphore(0)

        async def twice() -> None:
            both = [asyncio.create_task(future) for _ in range(2)]
            await asyncio.sleep(0)
            waiting.release()
            replies.extend(await asyncio.gather(*both))

        loops = [threading.Thread(target=lambda: asyncio.run(twice())) for _ in range(2)]
        for loop in loops:
            loop.start()
        for _ in loops:
            assert waiting.acquire(timeout=WAIT_S)
        held.wait_entered()
        held.let_go()
        for loop in loops:
            loop.join(WAIT_S)
    assert [each.value for each in replies] == ["answer"] * 4


@pytest.mark.parametrize("turns", [0, 2], ids=["before it has begun", "while it waits"])
def test_a_cancelled_task_cancels_the_request(turns: int) -> None:
    """Whether it had its first step or not."""
    held = AsyncHeld()

    async def main(pool: PoolRef) -> None:
        future = ask(pool)
        waiting = asyncio.create_task(future)
        for _ in range(turns):
            await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert (await pool.ask(GetStats(), block=False)).cancelled == 1

    with pool_of(Member("a", held)) as pool:
        within(main(pool))


def test_an_error_is_the_tasks() -> None:
    """A future that fails is a task that fails, with the very error."""
    error = ValueError("the agent's own")

    async def main() -> None:
        future = RuntimeFuture[int]()
        waiting = asyncio.create_task(future)
        await asyncio.sleep(0)
        future.resolve(error=error)
        with pytest.raises(ValueError) as raised:
            await waiting
        assert raised.value is error
        assert future.__dict__["_by_task"] == {}

    within(main())


def test_who_closes_it_as_a_coroutine_gives_the_request_up() -> None:
    """A task group that takes no more tasks does so with what it is given."""
    held = AsyncHeld()
    with pool_of(Member("a", held)) as pool:
        future = ask(pool)
        held.wait_entered()
        future.close()
        held.wait_cancelled()
        assert pool.stats().cancelled == 1
        future.close()


async def _types(pool_future: PoolFuture[PoolStats]) -> None:
    """What a type checker infers; never run."""
    assert_type(await asyncio.create_task(pool_future), PoolStats)
    assert_type(await asyncio.gather(pool_future, pool_future), tuple[PoolStats, PoolStats])
    async with asyncio.TaskGroup() as tasks:
        assert_type(tasks.create_task(pool_future), asyncio.Task[PoolStats])
