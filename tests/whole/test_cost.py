"""What a request costs in things that can be counted, so that a slower machine changes nothing.

Messages, threads, tasks, wake-ups of a loop, calls of greenroom's functions, memory: whoever makes
a request dearer by one of them is told here. The bounds on calls and bytes have some room, since a
mailbox may look once more before it sleeps, and versions of Python differ a little.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import threading
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from helpers_pools import WAIT_S, pool_of

from greenroom import AgentPool, Member, PoolConfig, PoolRef, Request
from greenroom.actors.request.outcome_reporter import BATCH
from greenroom.actors.runtime.mailbox import Mailbox
from greenroom.testing import AsyncScriptedAgent, FakeClock

ASKS = BATCH
"""As many as make one batch of outcomes: the clock stands still, so nothing else sends one."""
MESSAGES = {"Request": ASKS, "Execute": ASKS, "Answered": ASKS, "Outcomes": 1}
CALLS_SYNC = 80
CALLS_ASYNC = 90
CALLS_AUTO = 15
"""So many more where the number of calls at a time is found out."""
CALLS_HOME = 60
"""Of an agent on the loop of its asker: no thread of the pool's has a part in it."""
CALLS_FAILOVER = 260
"""The same where the first member fails and the second answers: two attempts, an error that is
looked at, two events, a plan, and what the supervisor is told.
"""
MANY = 5_000
"""So many that the timers which have been called off and not yet swept out make no difference."""
BYTES_IN_FLIGHT = 5 * 1024


def sync_agent(payload: Any) -> Any:
    return payload


async def async_agent(payload: Any) -> Any:
    return payload


AGENTS = pytest.mark.parametrize("agent", [sync_agent, async_agent])


@contextlib.contextmanager
def warm_pool(agent: Callable[..., Any], **more: Any) -> Iterator[PoolRef]:
    """A pool of three whose threads run and whose last batch of outcomes has just been sent."""
    clock = FakeClock()
    members = [Member(name, agent, **more) for name in "abc"]
    with pool_of(*members, clock=clock, strategy="round_robin") as pool:
        ask(pool, ASKS)
        pool.stats()  # the router has read every report, the supervisor every outcome
        yield pool


def ask(pool: PoolRef, times: int) -> None:
    for i in range(times):
        assert pool.execute(i, timeout=WAIT_S) == i


async def await_(pool: PoolRef, times: int) -> None:
    for i in range(times):
        assert (await pool.ask(Request(i), block=False)).value == i


class Post:
    """Counts the letters that are put into any mailbox, by the type of their message."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.messages: Counter[str] = Counter()
        self.waking: Counter[str] = Counter()
        self._on = False
        for name in ("put", "leave"):
            patch.setattr(Mailbox, name, self._counting(name))
        patch.setattr(Mailbox, "handles", self._handed(Mailbox.handles))

    def _counting(self, name: str) -> Callable[[Any, Any], Any]:
        original = getattr(Mailbox, name)

        def put(box: Any, envelope: Any) -> Any:
            if self._on:
                kind = type(getattr(envelope, "message", envelope)).__name__
                self.messages[kind] += 1
                self.waking[kind] += name == "put" and kind != "Execute"  # no member has a thread
            return original(box, envelope)

        return put

    def _handed(self, original: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
        """What its sender has handled itself; what it could not is put, and counted there."""

        def handled_here(box: Any, envelope: Any) -> bool:
            handled = original(box, envelope)
            if envelope is not None:
                self.messages[type(envelope.message).__name__] += handled and self._on
            return handled

        return handled_here

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        self._on = True
        yield
        self._on = False


class Calls:
    """Counts the calls of greenroom's functions in every thread that is started after it.

    Those of others do not count: asyncio's depend on how its loop is woken, and the collector may
    run the finalizers of whatever an earlier test has left.
    """

    def __init__(self) -> None:
        self.of: Counter[Any] = Counter()
        self.on = False
        self._before = threading.getprofile(), sys.getprofile()

    def __call__(self, frame: Any, event: str, argument: Any) -> None:
        if self.on and event == "call":
            module = frame.f_globals.get("__name__", "")
            if str(module).startswith("greenroom."):
                self.of[frame.f_code] += 1

    @property
    def count(self) -> int:
        return self.of.total()

    def __enter__(self) -> Calls:
        threading.setprofile(self)
        sys.setprofile(self)
        return self

    def __exit__(self, *_: object) -> None:
        threading.setprofile(self._before[0])
        sys.setprofile(self._before[1])


@AGENTS
def test_a_successful_ask_sends_three_messages(
    agent: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In, to the member, back; and to the supervisor one for every 64 asks."""
    post = Post(monkeypatch)
    with warm_pool(agent) as pool:
        with post.counted():
            ask(pool, ASKS)
        pool.stats()
    assert not post.messages - Counter(MESSAGES)
    assert all(post.messages[kind] == ASKS for kind in ("Request", "Execute", "Answered"))


@AGENTS
def test_an_ask_does_not_wake_the_router(
    agent: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its asker does the router's part, and handles the report of the one before; that of a success
    wakes nobody, either.
    """
    post = Post(monkeypatch)
    with warm_pool(agent) as pool, post.counted():
        ask(pool, ASKS)
    assert not +post.waking


@AGENTS
def test_an_ask_starts_no_thread(
    agent: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Worker threads and the loop are there, whoever asks and however."""
    with warm_pool(agent) as pool:
        started: list[threading.Thread] = []
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", started.append)
            ask(pool, ASKS)
            asyncio.run(await_(pool, ASKS))
        assert started == []


def test_an_ask_of_a_sync_agent_starts_no_loop() -> None:
    """A pool without async agents has no event loop, hence no task."""
    before = set(threading.enumerate())
    with warm_pool(sync_agent) as pool:
        names = [thread.name for thread in set(threading.enumerate()) - before]
        assert [name for name in names if name == f"greenroom-{pool.name}-loop"] == []


def test_an_ask_of_an_async_agent_makes_one_task_and_wakes_its_loop_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One task for the agent's coroutine, one hand-over to the loop."""
    tasks: list[Any] = []
    wakes: list[Any] = []

    def make(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> Any:
        tasks.append(coroutine)
        return asyncio.Task(coroutine, loop=loop, **options)

    async def agent(payload: Any) -> Any:
        loop = asyncio.get_running_loop()
        if payload == "watch":
            loop.set_task_factory(make)
            wake = loop.call_soon_threadsafe

            def counting(*arguments: Any, **options: Any) -> Any:
                wakes.append(arguments)
                return wake(*arguments, **options)

            monkeypatch.setattr(loop, "call_soon_threadsafe", counting)
        return payload

    with warm_pool(agent) as pool:
        pool.execute("watch", timeout=WAIT_S)
        ask(pool, ASKS)
        assert len(tasks) <= ASKS
        assert len(wakes) <= ASKS
        monkeypatch.undo()  # before the pool's end wakes the loop


@pytest.mark.parametrize(("agent", "limit"), [(sync_agent, CALLS_SYNC), (async_agent, CALLS_ASYNC)])
def test_an_ask_makes_only_so_many_calls(agent: Callable[..., Any], limit: int) -> None:
    """Calls of greenroom's own functions, in all threads together: the least of a few tries, since
    whether a report finds the router awake, which takes more of them, is up to the scheduler.
    """
    counts: list[int] = []
    for _ in range(5):
        with Calls() as calls, warm_pool(agent) as pool:
            calls.on = True
            ask(pool, ASKS)
            pool.stats()  # all that the asks have set off is counted, the supervisor's part as well
            calls.on = False
        counts.append(calls.count)
    assert min(counts) / ASKS <= limit


def test_b341_to_find_out_how_many_at_a_time_takes_a_few_calls_more() -> None:
    """Of an answer it is noted how long it took and how many ran; nothing else is done by it. On
    the loop of its asker, where one thread does everything and each run makes the same calls.
    """
    counts: list[int] = []

    async def main(**more: Any) -> None:
        members = [Member(name, async_agent, **more) for name in "abc"]
        async with AgentPool.start(members, clock=FakeClock(), strategy="round_robin") as pool:
            await await_(pool, 2 * ASKS)
            with Calls() as calls:
                calls.on = True
                await await_(pool, ASKS)
                calls.on = False
            counts.append(calls.count)

    asyncio.run(main())
    asyncio.run(main(max_concurrency="auto"))
    assert (counts[1] - counts[0]) / ASKS <= CALLS_AUTO


@AGENTS
def test_b341_nothing_else_is_called_to_find_out_how_many(agent: Callable[..., Any]) -> None:
    """In threads, where it is up to the scheduler how often the router is found awake: of what is
    called without it, nothing is counted.
    """
    counts: list[Counter[Any]] = []
    for more in ({}, {"max_concurrency": "auto"}):
        with Calls() as calls, warm_pool(agent, **more) as pool:
            calls.on = True
            ask(pool, ASKS)
            pool.stats()
            calls.on = False
        counts.append(calls.of)
    plain, auto = counts
    assert sum(calls for code, calls in auto.items() if code not in plain) / ASKS <= CALLS_AUTO


def test_an_await_of_an_agent_on_the_same_loop_makes_only_so_many_calls() -> None:
    """All that an ask takes, in the one thread that has a part in it."""
    counts: list[int] = []

    async def main() -> None:
        members = [Member(name, async_agent) for name in "abc"]
        pool = AgentPool.start(members, clock=FakeClock(), strategy="round_robin")
        async with pool:
            await await_(pool, 2 * ASKS)
            with Calls() as calls:
                calls.on = True
                await await_(pool, ASKS)
                calls.on = False
            counts.append(calls.count)

    for _ in range(3):
        asyncio.run(main())
    assert min(counts) / ASKS <= CALLS_HOME


def test_a_request_that_fails_over_makes_only_so_many_calls() -> None:
    """As long as the breaker of who fails is disabled, so that it is always asked first."""
    counts: list[int] = []

    async def fails(payload: Any) -> Any:
        raise ConnectionError("connection refused")

    async def main() -> None:
        members = [Member("a", fails, priority=1)]
        members += [Member(name, async_agent, priority=2) for name in "bc"]
        config = PoolConfig(retry_budget_floor=1e9)
        pool = AgentPool.start(members, clock=FakeClock(), strategy="priority", config=config)
        async with pool:
            pool.disable_breaker("a")
            await await_(pool, 2 * ASKS)
            with Calls() as calls:
                calls.on = True
                for i in range(ASKS):
                    assert (await pool.ask(Request(i), block=False)).attempts == 2
                calls.on = False
            counts.append(calls.count)

    for _ in range(3):
        asyncio.run(main())
    assert min(counts) / ASKS <= CALLS_FAILOVER, min(counts) / ASKS


@AGENTS
def test_a_request_that_is_over_leaves_nothing_behind(agent: Callable[..., Any]) -> None:
    """Once its windows of recent outcomes are full, a pool does not grow with its requests."""
    with warm_pool(agent) as pool:
        ask(pool, 1_000)
        before = _blocks(pool)
        ask(pool, MANY)
        assert (_blocks(pool) - before) / MANY < 0.05


def _blocks(pool: PoolRef) -> int:
    pool.stats()
    gc.collect()
    return sys.getallocatedblocks()


def test_a_request_in_flight_takes_at_most_5_kib() -> None:
    """All there is of it: future, job, attempt, call, the agent's coroutine and its task."""
    count = 500
    agent = AsyncScriptedAgent.hanging()
    members = [Member("a", agent, max_concurrency=count + 1)]
    with AgentPool.start(members, config=PoolConfig(max_pending=count)) as pool:
        pool.ask(Request("first"), block=False)
        agent.wait_for_calls()
        tracemalloc.start()
        try:
            futures = [pool.ask(Request(i), block=False) for i in range(count)]
            agent.wait_for_calls(count + 1)
            size, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert size / len(futures) <= BYTES_IN_FLIGHT
        agent.release()
