"""A pool inside an asyncio application: its loop stays free, and whoever leaves is let go."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import pathlib
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from types import FrameType
from typing import Any, TypeVar

import pytest
from aiohttp import ClientSession, web
from helpers_actors import join_all
from helpers_pools import WAIT_S, echo, echo_async, pool_of

import greenroom
from greenroom import (
    AddMember,
    AllPoolMembersFailedError,
    DeadlineExceededError,
    Drain,
    GetStats,
    Member,
    PoolRef,
    PoolStats,
    PoolStoppedError,
    RemoveMember,
    Reply,
    Request,
    RequestCancelledError,
)
from greenroom.actors.runtime.future import PoolFuture
from greenroom.testing import AsyncScriptedAgent, FakeClock, ScriptedAgent

pytestmark = pytest.mark.usefixtures("agents_loop")

T = TypeVar("T")

LIMIT_S = 0.05
"""How long no call of greenroom may hold an application's loop."""
SAMPLES = 10
"""How often a loop's thread must be seen asleep in the same place before it is called blocked."""
GREENROOM = str(pathlib.Path(greenroom.__file__).parent)


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a test's coroutine; in debug mode, which refuses calls from the wrong thread."""
    return asyncio.run(asyncio.wait_for(main, 3 * WAIT_S), debug=True)


async def stats_of(pool: PoolRef) -> PoolStats:
    return await pool.ask(GetStats(), block=False)


async def stats_when(pool: PoolRef, holds: Callable[[PoolStats], bool]) -> PoolStats:
    """Ask for the stats until they are as they should be: every answer is a step of the actors."""
    async with asyncio.timeout(WAIT_S):
        while not holds(stats := await stats_of(pool)):
            pass
        return stats


# -- the loop stays free


class Watchdog:
    """Finds out whether a loop's thread is blocked inside greenroom, however busy the machine is.

    A gap between two ticks alone proves nothing: a machine may stand still for longer. So after
    `LIMIT_S` without a tick the thread is looked at `SAMPLES` times, and is called blocked only if
    it stood at the same instruction of greenroom every time and was asleep, not waiting for a CPU.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, on_stall: Callable[[], None]) -> None:
        self.stalls: list[str] = []
        self.ticks = 0
        self._loop = loop
        self._on_stall = on_stall
        self._watched = threading.get_ident()
        self._stat = pathlib.Path(f"/proc/self/task/{threading.get_native_id()}/stat")
        self._over = threading.Event()
        self._ticked = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Watchdog:
        self._loop.call_soon(self._tick)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(WAIT_S)

    def _tick(self) -> None:
        self.ticks += 1
        self._ticked.set()
        if not self._over.is_set():
            self._loop.call_later(LIMIT_S / 50, self._tick)

    def _watch(self) -> None:
        while not self._over.is_set():
            self._ticked.clear()
            if not self._ticked.wait(LIMIT_S):
                self._look()

    def _look(self) -> None:
        places = set()
        for _ in range(SAMPLES):
            places.add(self._place())
            if self._ticked.wait(LIMIT_S / SAMPLES) or self._over.is_set():
                return
        if len(places) == 1 and (place := places.pop()) is not None:
            self.stalls.append(place)
            self._on_stall()

    def _place(self) -> str | None:
        """Where in greenroom the thread sleeps; None if it is elsewhere, or can run."""
        frame: FrameType | None = sys._current_frames().get(self._watched)
        while frame is not None and not frame.f_code.co_filename.startswith(GREENROOM):
            frame = frame.f_back
        asleep = (
            not self._stat.exists() or self._stat.read_text().rsplit(")", 1)[1].split()[0] == "S"
        )
        if frame is None or not asleep:
            return None
        return f"{frame.f_code.co_qualname}:{frame.f_lasti} {id(frame)}"


@contextlib.contextmanager
def watched(on_stall: Callable[[], None] = lambda: None) -> Iterator[Watchdog]:
    """Watch the running loop; whoever enters says what to do about a stall."""
    with Watchdog(asyncio.get_running_loop(), on_stall) as watchdog:
        yield watchdog


@contextlib.asynccontextmanager
async def serving(pool: PoolRef) -> AsyncIterator[tuple[ClientSession, str]]:
    """An app whose handler asks the pool, on a free port of this machine, and a client of it."""

    async def handle(request: web.Request) -> web.Response:
        try:
            reply = await pool.ask(Request(request.match_info["payload"]), block=False)
        except AllPoolMembersFailedError as error:
            return web.Response(status=503, text=str(error))
        return web.Response(text=f"{reply.member}: {reply.value}")

    app = web.Application()
    app.router.add_get("/{payload}", handle)
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with ClientSession() as session:
            yield session, f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def test_the_watchdog_sees_a_blocked_loop() -> None:
    """A blocking ask in a coroutine is what it must find; finding it is what ends the block."""
    gate = ScriptedAgent.hanging(echo)

    async def main() -> None:
        with pool_of(Member("a", gate)) as pool, watched(gate.release) as watchdog:
            await asyncio.sleep(0)
            assert pool.execute("x") == "x"
        assert len(watchdog.stalls) == 1
        assert "PoolFuture" in watchdog.stalls[0]

    run(main())


def test_an_app_stays_responsive_while_members_hang() -> None:
    """A web app's loop is never held by the pool, while one sync and one async member hang.

    The pool's time moves only when this very loop moves it: a call that waited for a member on the
    loop would wait for ever.
    """
    sync, on_loop = ScriptedAgent.hanging(), AsyncScriptedAgent.hanging()
    clock = FakeClock()
    members = [
        Member("sync", sync),
        Member("async", on_loop, max_concurrency=30),
        Member("good", echo_async, priority=1),
    ]

    async def main() -> None:
        with pool_of(*members, clock=clock, request_timeout_s=1.0) as pool, watched() as watchdog:
            async with serving(pool) as (session, url), asyncio.TaskGroup() as group:

                async def get(payload: int) -> str:
                    async with session.get(f"{url}/{payload}") as response:
                        return await response.text()

                tasks = [group.create_task(get(i)) for i in range(30)]
                await stats_when(pool, lambda stats: stats.in_flight == 30)
                ticks = watchdog.ticks
                while not all(task.done() for task in tasks):
                    # time passes when nothing is on its way any more but what hangs
                    await stats_when(
                        pool, lambda stats: stats["good"].in_flight + stats.pending == 0
                    )
                    clock.advance(1.0)
            assert {task.result() for task in tasks} == {f"good: {i}" for i in range(30)}
            assert watchdog.ticks > ticks
            assert (await stats_of(pool)).completed == 30
        assert watchdog.stalls == []

    run(main())
    assert on_loop.cancelled == on_loop.calls
    sync.release()


def test_no_call_takes_long_on_the_callers_loop() -> None:
    """Asking costs the loop's thread far less than 50 ms of its own time, a full queue or not."""
    gate = ScriptedAgent.hanging(echo)
    spent: list[float] = []

    async def main() -> None:
        with pool_of(Member("a", gate), max_pending=10_000) as pool:
            futures: list[PoolFuture[Any]] = []
            for i in range(2000):
                began = time.thread_time()
                futures.append(pool.ask(Request(i), block=False))
                spent.append(time.thread_time() - began)
            gate.release()
            assert len(await asyncio.gather(*futures)) == 2000

    gc.disable()  # a collection of all that pytest holds is no fault of the pool
    try:
        run(main())
    finally:
        gc.enable()
    assert max(spent) < LIMIT_S


# -- whoever leaves is let go


def test_a_client_that_disconnects_cancels_its_request() -> None:
    agent = AsyncScriptedAgent.hanging()

    async def main() -> None:
        with pool_of(Member("a", agent)) as pool:
            async with serving(pool) as (session, url):
                get = asyncio.create_task(session.get(f"{url}/x"))
                await asyncio.to_thread(agent.wait_for_calls)
                get.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await get
                await asyncio.to_thread(agent.wait_for_cancelled)
                stats = await stats_when(pool, lambda stats: stats.in_flight == 0)
            assert (stats.cancelled, stats.failed, stats["a"].failures) == (1, 0, 0)

    run(main())


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_task_that_is_cancelled_cancels_its_request(kind: str) -> None:
    agent: Any = (ScriptedAgent if kind == "sync" else AsyncScriptedAgent).hanging()

    async def main() -> None:
        with pool_of(Member("a", agent, max_concurrency=1)) as pool:

            async def ask(payload: str) -> Reply[Any]:
                return await pool.ask(Request(payload), block=False)

            running = asyncio.create_task(ask("running"))
            await asyncio.to_thread(agent.wait_for_calls)
            queued = asyncio.create_task(ask("queued"))
            await stats_when(pool, lambda stats: stats.pending == 1)
            for task in (queued, running):
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            await stats_when(pool, lambda stats: stats.cancelled == 2)
            agent.release()
            stats = await stats_when(pool, lambda stats: stats.in_flight == 0)
            assert (stats.pending, stats.completed) == (0, 0)
            assert agent.calls == ["running"]

    run(main())


def test_wait_for_gives_the_request_up() -> None:
    agent = AsyncScriptedAgent.hanging()

    async def main() -> None:
        with pool_of(Member("a", agent)) as pool:
            future = pool.ask(Request("x"), block=False)
            await asyncio.to_thread(agent.wait_for_calls)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(future, 0.001)
            await asyncio.to_thread(agent.wait_for_cancelled)
            with pytest.raises(RequestCancelledError):
                await future
            assert (await stats_of(pool)).cancelled == 1

    run(main())


def test_a_shielded_request_goes_on() -> None:
    agent = AsyncScriptedAgent.hanging("answer")

    async def main() -> None:
        with pool_of(Member("a", agent)) as pool:
            future = pool.ask(Request("x"), block=False)
            await asyncio.to_thread(agent.wait_for_calls)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.shield(future), 0.001)
            agent.release()
            assert (await future).value == "answer"

    run(main())


def test_a_deadline_reaches_who_awaits() -> None:
    clock = FakeClock()

    async def main() -> None:
        with pool_of(Member("a", AsyncScriptedAgent.hanging()), clock=clock) as pool:
            future = pool.ask(Request("x"), block=False, timeout=5)
            await stats_of(pool)
            clock.advance(5)
            with pytest.raises(DeadlineExceededError):
                await future
            await pool.stop(block=False)  # its call is being cancelled on this very loop

    run(main())


def test_a_stop_reaches_who_awaits() -> None:
    async def main() -> None:
        with pool_of(Member("a", AsyncScriptedAgent.hanging())) as pool:
            future = pool.ask(Request("x"), block=False)
            stop = asyncio.create_task(asyncio.to_thread(pool.stop))
            with pytest.raises(PoolStoppedError):
                await future
            assert await stop is True

    run(main())


# -- many at once


@pytest.mark.parametrize("agent", [echo, echo_async])
def test_five_hundred_at_once(agent: Any) -> None:
    async def main() -> None:
        with pool_of(Member("a", agent, max_concurrency=20)) as pool:
            replies = await asyncio.gather(*(pool.ask(Request(i), block=False) for i in range(500)))
            assert [reply.value for reply in replies] == list(range(500))
            assert (await stats_of(pool)).completed == 500

    run(main())


def test_five_hundred_that_all_run_at_the_same_time() -> None:
    agent = AsyncScriptedAgent.hanging("answer")

    async def main() -> None:
        with pool_of(Member("a", agent, max_concurrency=500)) as pool:
            asked = asyncio.gather(*(pool.ask(Request(i), block=False) for i in range(500)))
            await asyncio.to_thread(agent.wait_for_calls, 500)
            agent.release()
            assert len(await asked) == 500

    run(main())


def test_one_error_among_many_is_one_error() -> None:
    def picky(payload: int) -> int:
        if payload == 7:
            raise ZeroDivisionError
        return payload

    async def main() -> None:
        with pool_of(Member("a", picky), max_retries=0) as pool:
            results = await asyncio.gather(
                *(pool.ask(Request(i), block=False) for i in range(20)), return_exceptions=True
            )
            wrong = [result for result in results if isinstance(result, BaseException)]
            assert [type(error) for error in wrong] == [AllPoolMembersFailedError]
            assert results.index(wrong[0]) == 7

    run(main())


def test_a_task_group_that_fails_cancels_the_rest() -> None:
    agent = AsyncScriptedAgent.hanging()

    async def main() -> None:
        with pool_of(Member("a", agent)) as pool:

            async def ask(payload: int) -> None:
                await pool.ask(Request(payload), block=False)

            async def fail() -> None:
                await asyncio.to_thread(agent.wait_for_calls, 10)
                raise ZeroDivisionError

            with pytest.raises(ExceptionGroup) as caught:
                async with asyncio.TaskGroup() as group:
                    for i in range(10):
                        group.create_task(ask(i))
                    group.create_task(fail())
            assert caught.value.subgroup(ZeroDivisionError) is not None
            await asyncio.to_thread(agent.wait_for_cancelled, 10)
            assert (await stats_when(pool, lambda stats: not stats.in_flight)).cancelled == 10

    run(main())


# -- futures and loops


def test_one_future_is_awaited_from_two_loops_at_once() -> None:
    agent = AsyncScriptedAgent.hanging("answer")
    got: list[Any] = []
    waiting = threading.Barrier(3)

    with pool_of(Member("a", agent)) as pool:
        future = pool.ask(Request("x"), block=False)

        async def wait() -> None:
            asyncio.get_running_loop().call_soon(waiting.wait, WAIT_S)  # runs while it is awaited
            got.append((await future).value)

        threads = {threading.Thread(target=lambda: run(wait())) for _ in range(2)}
        for thread in threads:
            thread.start()
        waiting.wait(WAIT_S)
        agent.release()
        join_all(threads)
        assert got == ["answer", "answer"]
        assert future.get(timeout=0).value == "answer"


def test_a_future_may_be_awaited_again() -> None:
    async def main() -> None:
        with pool_of(Member("a", ScriptedAgent.failing(1, then="x")), max_retries=0) as pool:
            failed = pool.ask(Request("x"), block=False)
            for _ in range(3):
                with pytest.raises(AllPoolMembersFailedError):
                    await failed
            await stats_of(pool)
            done = pool.ask(Request("x"), block=False)
            assert [(await done).value for _ in range(3)] == ["x"] * 3

    run(main())


def test_a_loop_that_is_gone_when_the_answer_comes() -> None:
    """Whoever asked has left without a word: the answer is lost, the pool is not."""
    agent = AsyncScriptedAgent.hanging("answer")
    with pool_of(Member("a", agent)) as pool:
        future = pool.ask(Request("x"), block=False)
        loop = asyncio.new_event_loop()
        waiting = future.__await__()

        async def begin() -> None:
            waiting.send(None)

        loop.run_until_complete(begin())
        loop.close()
        agent.release()
        assert future.get(timeout=WAIT_S).value == "answer"
        assert pool.execute("again", timeout=WAIT_S) == "answer"
        waiting.close()


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_mapped_future_is_awaited_without_holding_the_loop(kind: str) -> None:
    """map, filter, join and reduce are Pykka's: what they make can be awaited as well."""
    agent: Any = (ScriptedAgent if kind == "sync" else AsyncScriptedAgent).hanging([3, 4])

    async def main() -> None:
        with pool_of(Member("a", agent, max_concurrency=9)) as pool, watched() as watchdog:
            first = pool.ask(Request("x"), block=False)
            second = pool.ask(Request("y"), block=False)
            mapped = first.map(lambda reply: reply.value)
            made = [
                mapped,
                mapped.filter(lambda value: value > 3),
                mapped.map(sum).map(str),
                mapped.reduce(lambda a, b: a * b, 1),
                first.join(second).map(lambda replies: len(list(replies))),
            ]
            gathered = asyncio.gather(*made)
            await asyncio.to_thread(agent.wait_for_calls, 2)
            agent.release()
            assert await gathered == [[3, 4], [4], "7", 12, 2]
            assert mapped.get(timeout=0) == [3, 4]
        assert watchdog.stalls == []

    run(main())


def test_a_mapped_future_that_is_given_up_gives_its_request_up() -> None:
    """And the program ends: no thread of the loop's own waits for an answer that never comes."""
    agent = AsyncScriptedAgent.hanging()

    async def main() -> None:
        with pool_of(Member("a", agent), request_timeout_s=None) as pool:
            future = pool.ask(Request("x"), block=False)
            mapped = future.map(lambda reply: reply.value)
            await asyncio.to_thread(agent.wait_for_calls)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(mapped, 0.001)
            await asyncio.to_thread(agent.wait_for_cancelled)
            with pytest.raises(RequestCancelledError):
                await future
            with pytest.raises(RequestCancelledError):
                await mapped

    run(main())


def test_an_error_passes_through_a_mapped_future() -> None:
    async def main() -> None:
        with pool_of(Member("a", echo)) as pool:
            future = pool.ask(Request("x"), block=False)
            with pytest.raises(ZeroDivisionError):
                await future.map(lambda reply: 1 / 0)
            pool.stop()
            with pytest.raises(PoolStoppedError):
                await pool.ask(Request("x"), block=False).map(lambda reply: reply.value)

    run(main())


# -- the rest of the pool, awaited


def test_everything_else_can_be_awaited_too() -> None:
    async def main() -> None:
        with pool_of(Member("a", echo)) as pool:
            await pool.ask(AddMember(Member("b", echo_async)), block=False)
            assert len((await stats_of(pool)).members) == 2
            await pool.ask(RemoveMember("a"), block=False)
            assert (await pool.ask(Request("x"), block=False)).member == "b"
            assert await pool.ask(Drain(), block=False) is True
            with pytest.raises(PoolStoppedError):
                await pool.ask(Request("x"), block=False)

    run(main())


def test_an_agent_that_asks_another_pool_passes_its_cancellation_on() -> None:
    """A pool behind a pool: who gives the outer request up gives the inner one up."""
    agent = AsyncScriptedAgent.hanging()

    async def main() -> None:
        with pool_of(Member("inner", agent), name="inner") as inner:

            async def forward(payload: Any) -> Any:
                return (await inner.ask(Request(payload), block=False)).value

            with pool_of(Member("outer", forward), name="outer") as outer:
                future = outer.ask(Request("x"), block=False)
                await asyncio.to_thread(agent.wait_for_calls)
                future.cancel()
                with pytest.raises(RequestCancelledError):
                    await future
                await asyncio.to_thread(agent.wait_for_cancelled)
                assert (await stats_when(inner, lambda stats: not stats.in_flight)).cancelled == 1

    run(main())


def test_an_agent_may_ask_its_own_pool() -> None:
    async def countdown(payload: int) -> int:
        if payload == 0:
            return 0
        return 1 + int((await pool.ask(Request(payload - 1), block=False)).value)

    with pool_of(Member("a", countdown)) as pool:
        assert pool.execute(50, timeout=WAIT_S) == 50
