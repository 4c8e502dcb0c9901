"""Who asks does the router's part while that has nothing to do: which threads are woken, and what
may not happen in a thread of the app's.
"""

from __future__ import annotations

import asyncio
import queue
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from helpers_pools import WAIT_S, pool_of

from greenroom import (
    AgentPool,
    Member,
    PoolConfig,
    PoolRef,
    ReentrantAskError,
    Request,
)
from greenroom.actors.request.outcome_reporter import BATCH
from greenroom.actors.request.request_flow import RequestFlow
from greenroom.testing import AsyncScriptedAgent, FakeClock

ASKS = BATCH


async def agent(payload: Any) -> Any:
    return payload


def in_thread(payload: Any) -> Any:
    return payload


class Wakes:
    """Counts what wakes a thread: a put into a queue that somebody waits at, a word to a loop."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        wakes = self.counted = list[str]()

        class Counting(queue.SimpleQueue):  # type: ignore[type-arg]
            def put(self, *arguments: Any, **options: Any) -> None:
                wakes.append("queue")
                super().put(*arguments, **options)

        patch.setattr(queue, "SimpleQueue", Counting)
        self._patch = patch

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Count what is said to that loop, too."""
        tell = loop.call_soon_threadsafe

        def counting(*arguments: Any, **options: Any) -> Any:
            self.counted.append("loop")
            return tell(*arguments, **options)

        self._patch.setattr(loop, "call_soon_threadsafe", counting)


def test_an_agent_on_the_loop_of_its_asker_is_run_without_waking_anybody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither the router nor the loop itself, for the request or for its answer; what comes once
    for many requests, as the report of a batch, does not either.
    """
    wakes = Wakes(monkeypatch)

    async def main() -> None:
        members = [Member(name, agent) for name in "abc"]
        pool = AgentPool.start(members, clock=FakeClock(), strategy="round_robin")
        wakes.watch(asyncio.get_running_loop())
        for number in range(2 * ASKS):
            assert (await pool.ask(Request(number), block=False)).value == number
        before = threading.active_count()
        wakes.counted.clear()
        for number in range(ASKS):
            assert (await pool.ask(Request(number), block=False)).value == number
        assert wakes.counted == []
        assert threading.active_count() == before
        await pool.stop(block=False)

    asyncio.run(main())


def test_a_member_with_threads_takes_two_wake_ups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its thread for the request, and whoever asks for the answer; in the main thread as in any."""
    wakes = Wakes(monkeypatch)

    def asks(pool: PoolRef) -> None:
        for number in range(2 * ASKS):
            pool.execute(number, timeout=WAIT_S)
        wakes.counted.clear()
        for number in range(ASKS):
            assert pool.execute(number, timeout=WAIT_S) == number
        assert wakes.counted == ["queue"] * 2 * ASKS

    with pool_of(Member("a", in_thread), clock=FakeClock(), strategy="round_robin") as pool:
        asks(pool)
        thread = threading.Thread(target=asks, args=(pool,))
        thread.start()
        thread.join(WAIT_S)
        asks(pool)


@pytest.mark.parametrize("way", ["a done callback", "the turn", "a factory", "an event"])
def test_with_a_task_factory_or_outside_of_a_task_the_loop_is_told(way: str) -> None:
    """Where it is not known that the loop goes round by itself, or where a task might begin within
    the router's turn, it is told as by another thread; the answers are the same.
    """

    async def main() -> None:
        loop = asyncio.get_running_loop()
        pool = AgentPool.start([Member(name, agent) for name in "abc"])
        assert (await pool.ask(Request("first"), block=False)).value == "first"
        answers: asyncio.Queue[Any] = asyncio.Queue()

        async def read(future: Any) -> None:
            answers.put_nowait((await future).value)

        tasks = []

        def ask() -> None:
            future = pool.ask(Request("x"), block=False)
            tasks.append(loop.create_task(read(future)))

        if way == "a factory":
            loop.set_task_factory(
                lambda loop, coroutine, **options: asyncio.Task(
                    _wrapped(coroutine), loop=loop, **options
                )
            )
            ask()
        elif way == "a done callback":
            first = pool.ask(Request("y"), block=False)
            first.add_done_callback(lambda _: loop.call_soon_threadsafe(ask))
        elif way == "an event":
            loop.call_later(0, ask)
        else:
            ask()
        assert await asyncio.wait_for(answers.get(), WAIT_S) == "x"
        loop.set_task_factory(None)
        await asyncio.gather(*tasks)
        await pool.stop(block=False)

    asyncio.run(main())


async def _wrapped(coroutine: Any) -> Any:
    """As some tracers do: a coroutine of theirs awaits the one of the task."""
    return await coroutine


def test_near_the_limit_of_recursion_the_router_is_woken() -> None:
    """A turn in there would be broken off in the middle: every ask is answered or refused whole."""
    with pool_of(Member("a", in_thread, max_concurrency=4), strategy="round_robin") as pool:
        pool.execute("first", timeout=WAIT_S)
        raised = answered = 0

        def ask_below(depth: int) -> Any:
            return ask_below(depth - 1) if depth else pool.execute("x", timeout=WAIT_S)

        here = 0
        frame: Any = sys._getframe()
        while frame is not None:
            here, frame = here + 1, frame.f_back
        deepest = sys.getrecursionlimit() - here
        for depth in range(deepest - 250, deepest):
            try:
                assert ask_below(depth) == "x"
                answered += 1
            except RecursionError:
                raised += 1
        assert answered > 100
        assert raised
        while (stats := pool.stats()).pending or stats.in_flight:
            pass
        assert stats.failed == 0
        assert [pool.execute(n, timeout=WAIT_S) for n in range(8)] == list(range(8))


def test_a_callback_of_the_apps_is_not_called_within_somebody_elses_ask() -> None:
    """Whoever asks may hold a lock that the callback of another request wants."""
    lock, called = threading.Lock(), threading.Event()
    hanging = AsyncScriptedAgent.hanging()
    where: list[int] = []

    def callback(_: Any) -> None:
        with lock:
            where.append(threading.get_ident())
        called.set()

    config = PoolConfig(max_pending=1)
    with AgentPool.start([Member("a", hanging, max_concurrency=1)], config=config) as pool:
        running = pool.ask(Request("runs"), block=False)
        hanging.wait_for_calls()
        waits = pool.ask(Request("waits", priority=0), block=False)
        waits.add_done_callback(callback)
        with lock:  # the second one that waits is of a higher rank: the first one has to go
            better = pool.ask(Request("better", priority=9), block=False)
        assert called.wait(WAIT_S)
        assert where != [threading.get_ident()]
        hanging.release()
        assert running.get(timeout=WAIT_S) is not None
        assert better.get(timeout=WAIT_S) is not None


def test_what_would_wait_within_the_turn_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """A finalizer of the app's, say, that the collector calls there: it would wait for itself."""
    refused: list[BaseException] = []
    accept = RequestFlow.accept

    def with_a_finalizer(flow: RequestFlow, work: Any, *how: Any) -> None:
        for wait in (pool.stats, pool.stop) if work.payload == "x" else ():
            try:
                wait()
            except ReentrantAskError as error:
                refused.append(error)
        accept(flow, work, *how)

    monkeypatch.setattr(RequestFlow, "accept", with_a_finalizer)
    with pool_of(Member("a", in_thread)) as pool:
        pool.execute("first", timeout=WAIT_S)
        assert pool.execute("x", timeout=WAIT_S) == "x"
    assert len(refused) == 2


def test_what_is_asked_within_the_turn_comes_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """By that finalizer: it is no request within a request, and has its answer."""
    accept = RequestFlow.accept
    inside: list[str] = []
    futures: list[Any] = []

    def with_a_finalizer(flow: RequestFlow, work: Any, *how: Any) -> None:
        inside.append(work.payload)
        if work.payload == "x":
            futures.append(pool.ask(Request("behind"), block=False))
            assert inside == ["first", "x"]
        accept(flow, work, *how)

    monkeypatch.setattr(RequestFlow, "accept", with_a_finalizer)
    with pool_of(Member("a", in_thread, max_concurrency=2)) as pool:
        pool.execute("first", timeout=WAIT_S)
        assert pool.execute("x", timeout=WAIT_S) == "x"
        assert futures[0].get(timeout=WAIT_S).value == "behind"
    assert inside == ["first", "x", "behind"]


def test_many_threads_that_ask_at_once_are_all_answered() -> None:
    """Some of them do the router's part, and the router itself what they cannot."""
    with pool_of(*(Member(name, in_thread, max_concurrency=3) for name in "abc")) as pool:
        wrong: list[Any] = []

        def ask(first: int) -> None:
            for number in range(first, first + 150):
                if pool.execute(number, timeout=WAIT_S) != number:
                    wrong.append(number)

        threads = [threading.Thread(target=ask, args=(1_000 * each,)) for each in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT_S)
        stats = pool.stats()
        assert (wrong, stats.completed, stats.in_flight) == ([], 8 * 150, 0)


def test_the_order_of_one_sender_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """However the router was woken in between, and whoever has handled what."""
    accept = RequestFlow.accept
    seen: list[int] = []

    def noted(flow: RequestFlow, work: Any, *how: Any, **more: Any) -> None:
        if isinstance(work.payload, int):
            seen.append(work.payload)
        accept(flow, work, *how, **more)

    monkeypatch.setattr(RequestFlow, "accept", noted)
    with pool_of(Member("a", in_thread), max_pending=10_000) as pool:
        send: list[Callable[[Any], Any]] = [
            lambda request: pool.ask(request, block=False),
            pool.tell,
        ]
        for number in range(600):
            send[number % 2](Request(number))
            if number % 7 == 0:
                pool.reset_all()  # a command: the router's own
        pool.drain(timeout=WAIT_S)
    assert seen == list(range(600))
