"""A signal handler that raises, at any place of any hand-over, leaves nothing behind.

Celery's soft time limit and a notebook's stop are such handlers: the call that they break in on
raises their error, and all else goes on. `helpers_interrupts` says where they may break in.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import helpers_ctrl_c
import helpers_storm
import pykka
import pytest
from helpers_interrupts import LINES, SIGNALS, Limit, interrupt_each
from helpers_pools import WAIT_S
from pykka import ActorRegistry

from greenroom import (
    AgentPool,
    FallbackChain,
    Member,
    MemberConfig,
    PoolConfig,
    PoolExecutor,
    PoolRef,
    Request,
    RequestCancelledError,
)
from greenroom.testing import AsyncScriptedAgent

EVERYWHERE = pytest.mark.parametrize("how", [SIGNALS, LINES])
ERRORS = pytest.mark.parametrize("error", [Limit, KeyboardInterrupt])
CHUNKS = [1, 2, 3, 4]
NOT_HERE = {"Mailbox._handled", "Executions.take", "Channel.put", "Claims.claim"}
"""Where no handler of the app's is called: where a message is handled, its signals are put off; and
nothing is answered in its threads."""


def answer(payload: Any) -> Any:
    return payload


async def async_answer(payload: Any) -> Any:
    return payload


def chunks(payload: Any) -> Iterator[int]:
    yield from CHUNKS


async def async_chunks(payload: Any) -> AsyncIterator[int]:
    for each in CHUNKS:
        yield each


class Held:
    """An agent that answers as soon as the app's loop has gone on to its next turn."""

    def __init__(self) -> None:
        self.gate = threading.Event()

    def __call__(self, payload: Any) -> Any:
        if payload == "held":
            assert self.gate.wait(WAIT_S)
        return payload


class Stage:
    """A pool, and a loop of the app's in this thread, that must serve whatever has happened."""

    def __init__(self, *agents: Any) -> None:
        members = [Member(f"m{at}", agent) for at, agent in enumerate(agents)]
        config = PoolConfig(stream_buffer=2, request_timeout_s=None)
        self.pool = AgentPool.start(members, config=config)
        self.loop = asyncio.new_event_loop()
        self.exact = True

    def interrupt(
        self,
        hand_over: Callable[[], object],
        how: str,
        error: type[BaseException] = Limit,
        first: Callable[[], object] = lambda: None,
    ) -> set[str]:
        """Do it interrupted at each place in turn; afterwards all must be served, after `first`."""
        self.exact = how == SIGNALS  # a letter is counted and put where no signal is looked for

        def check() -> None:
            gc.collect()  # asyncio's frames and tasks lead back to each other, and to a stream
            first()
            self.serves()

        seen = interrupt_each(hand_over, check, how, error)
        assert not seen & NOT_HERE
        return seen

    def serves(self) -> None:
        """Every ask and await from here on is answered, and nothing counts as under way."""
        assert self.pool.ask(Request("later"), timeout=WAIT_S).member == "m0"
        self.run(self._awaits())
        self.settled()

    def settled(self) -> None:
        deadline = time.monotonic() + WAIT_S
        actor: Any = self.pool._actor_weakref()
        while True:
            stats = self.pool.stats()
            members = sum(each.in_flight for each in stats.members)
            open_ = stats.pending + stats.in_flight + members
            unread = len(actor.mailbox._envelopes) if self.exact else 0
            if not open_ and not unread:
                break
            assert time.monotonic() < deadline, f"{stats}, {unread} unread"
        assert stats.accepted == stats.completed + stats.failed + stats.cancelled

    async def _awaits(self) -> None:
        futures = [self.pool.ask(Request(number), block=False) for number in range(3)]
        await asyncio.gather(*(self._read(future) for future in futures))

    @staticmethod
    async def _read(future: Any) -> Any:
        return (await future).value

    def run(self, coroutine: Any) -> Any:
        """Run it to its end on the app's loop, be it that an error ends the loop's run half way."""
        task = self.loop.create_task(coroutine)
        patience = self.loop.call_later(WAIT_S, task.cancel)
        try:
            return self.loop.run_until_complete(task)
        except BaseException:
            if task.done():
                task.cancelled() or task.exception()  # it has been read
                raise
            return self.loop.run_until_complete(task)  # it was hit elsewhere, and goes on
        finally:
            patience.cancel()
            del task  # its error's traceback leads back here

    def close(self) -> None:
        self.pool.stop()
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()


@contextlib.contextmanager
def staged(*agents: Any) -> Iterator[Stage]:
    made = Stage(*agents)
    gc.freeze()  # all there is by now: the collector looks at what comes only
    try:
        yield made
    finally:
        gc.unfreeze()
        made.close()


@EVERYWHERE
@ERRORS
def test_an_ask(how: str, error: type[BaseException]) -> None:
    """A blocking ask that is broken off anywhere: nobody is left to read its answer."""
    with staged(answer) as stage:
        stage.interrupt(lambda: stage.pool.ask(Request("x")), how, error)


def test_a_time_limit_that_ends_a_blocking_ask_cancels_its_request() -> None:
    """A real signal, while it waits: its error is the asker's, and nobody would read the answer."""
    agent, asker = AsyncScriptedAgent.hanging(), threading.get_ident()

    def over(*_: Any) -> None:
        raise Limit

    def limit() -> None:
        agent.wait_for_calls()
        signal.pthread_kill(asker, signal.SIGALRM)

    before = signal.signal(signal.SIGALRM, over)
    try:
        with staged(agent) as stage:
            limiter = threading.Thread(target=limit)
            limiter.start()
            with pytest.raises(Limit):
                stage.pool.ask(Request("x"))
            limiter.join(WAIT_S)
            stage.settled()
            assert stage.pool.stats().cancelled == 1
    finally:
        signal.signal(signal.SIGALRM, before)


@EVERYWHERE
@ERRORS
def test_an_await(how: str, error: type[BaseException]) -> None:
    """An ask that is awaited on a loop of the app's, where callbacks of the pool's run as well."""
    held = Held()

    async def main() -> None:
        held.gate.clear()
        future = stage.pool.ask(Request("held"), block=False)
        asyncio.get_running_loop().call_soon(held.gate.set)
        assert (await future).value == "held"

    with staged(held) as stage:
        seen = stage.interrupt(lambda: stage.run(main()), how, error, held.gate.set)
    assert {"PoolFuture.__await__", "Waker._deal", "Row._turn", "wait_here"} <= seen


@EVERYWHERE
def test_an_ask_that_waits_for_nothing_but_its_time(how: str) -> None:
    """Who polls is broken off: the future is of use all the same."""
    held = Held()
    with staged(held) as stage:
        future = stage.pool.ask(Request("held"), block=False)

        def poll() -> None:
            with contextlib.suppress(pykka.Timeout):
                future.get(timeout=0.0)

        interrupt_each(poll, lambda: None, how)
        held.gate.set()
        assert future.get(timeout=WAIT_S).value == "held"
        stage.serves()


@EVERYWHERE
def test_a_tell_and_a_cancellation(how: str) -> None:
    """What was sent is dealt with, what was not is not."""
    with staged(answer) as stage:

        def hand_over() -> None:
            stage.pool.tell(Request("x"))
            stage.pool.ask(Request("y"), block=False).cancel()

        stage.interrupt(hand_over, how)


@EVERYWHERE
def test_a_cancelled_ask_that_runs(how: str) -> None:
    """The error comes, or the request is cancelled; never is its slot kept."""
    agent = AsyncScriptedAgent.hanging()
    with staged(agent) as stage:
        future = stage.pool.ask(Request("x"), block=False)

        interrupt_each(future.cancel, lambda: None, how)
        future.cancel()
        with pytest.raises(RequestCancelledError):
            future.get(timeout=WAIT_S)
        agent.release()
        stage.exact = how == SIGNALS
        stage.settled()


@EVERYWHERE
def test_a_done_callback(how: str) -> None:
    """Those that are added before the answer and behind it are called once, or, where that was
    broken off, once at most.
    """
    with staged(answer) as stage:
        called: list[str] = []

        def add() -> None:
            called.clear()
            future = stage.pool.ask(Request("x"), block=False)
            future.add_done_callback(lambda _: called.append("before"))
            future.get(timeout=WAIT_S)
            future.add_done_callback(lambda _: called.append("behind"))

        def check() -> None:
            assert len(called) == len(set(called))

        stage.interrupt(add, how, first=check)
        assert sorted(called) == ["before", "behind"]


def open_and_read(stage: Stage) -> None:
    assert list(stage.pool.stream(Request("x"))) == CHUNKS


def open_and_break(stage: Stage) -> None:
    for chunk in stage.pool.stream(Request("x")):
        if chunk == CHUNKS[1]:
            break


def open_and_leave(stage: Stage) -> None:
    with stage.pool.stream(Request("x")) as stream:
        assert next(stream) == CHUNKS[0]
        stream.first()


def open_and_cancel(stage: Stage) -> None:
    stage.pool.stream(Request("x")).cancel()


def open_and_collect(stage: Stage) -> None:
    assert stage.pool.stream(Request("x")).collect() == CHUNKS


WAYS = pytest.mark.parametrize(
    "way", [open_and_read, open_and_break, open_and_leave, open_and_cancel, open_and_collect]
)
AGENTS = pytest.mark.parametrize("agent", [chunks, async_chunks])


@EVERYWHERE
@AGENTS
@WAYS
def test_a_stream(how: str, agent: Any, way: Callable[[Stage], None]) -> None:
    """However far it has come it is left, and its agent's slot is free."""
    with staged(agent) as stage:
        stage.interrupt(lambda: way(stage), how)


async def aread(stage: Stage) -> None:
    assert [chunk async for chunk in stage.pool.stream(Request("x"))] == CHUNKS


async def abreak(stage: Stage) -> None:
    async for chunk in stage.pool.stream(Request("x")):
        if chunk == CHUNKS[1]:
            break


async def aleave(stage: Stage) -> None:
    async with stage.pool.stream(Request("x")) as stream:
        assert await stream.first() == "m0"
        assert await anext(stream) == CHUNKS[0]


async def acollect(stage: Stage) -> None:
    assert await stage.pool.stream(Request("x")).acollect() == CHUNKS


@EVERYWHERE
@AGENTS
@pytest.mark.parametrize("way", [aread, abreak, aleave, acollect])
def test_an_async_stream(how: str, agent: Any, way: Callable[[Stage], Awaitable[None]]) -> None:
    """The same on the app's own loop."""
    with staged(agent) as stage:
        stage.interrupt(lambda: stage.run(way(stage)), how)


@EVERYWHERE
@AGENTS
def test_a_reader_that_goes_on_has_every_chunk(how: str, agent: Any) -> None:
    """Whoever takes a `next` up again that was broken off is told all the same."""
    got: list[int] = []

    def read() -> None:
        got.clear()
        stream = stage.pool.stream(Request("x"))
        while True:
            try:
                got.append(next(stream))
            except Limit:
                continue
            except StopIteration:
                return

    def check() -> None:
        if how == SIGNALS:
            assert got in (CHUNKS, [])  # none where it was not opened

    with staged(agent) as stage:
        stage.interrupt(read, how, first=check)


@EVERYWHERE
@AGENTS
def test_an_async_reader_that_goes_on_has_every_chunk(how: str, agent: Any) -> None:
    """The same on the app's own loop."""
    got: list[int] = []

    async def read() -> None:
        got.clear()
        stream = stage.pool.stream(Request("x"))
        while True:
            try:
                got.append(await anext(stream))
            except Limit:
                continue
            except StopAsyncIteration:
                return

    def check() -> None:
        if how == SIGNALS:
            assert got in (CHUNKS, [])

    with staged(agent) as stage:
        stage.interrupt(lambda: stage.run(read()), how, first=check)


@EVERYWHERE
def test_a_subscription(how: str) -> None:
    """Events go on to come to whoever subscribes later."""
    with staged(answer) as stage:

        def subscribe() -> None:
            stage.pool.on_event(lambda _: None)()

        def check() -> None:
            come = threading.Event()
            end = stage.pool.on_event(lambda event: come.set())
            stage.pool.force_open("m0")
            stage.pool.reset_member("m0")
            assert come.wait(WAIT_S)
            end()

        stage.interrupt(subscribe, how, first=check)


@EVERYWHERE
def test_an_executor(how: str) -> None:
    """Its first use, which starts its pool, and a run: it serves whoever comes next."""
    threads, executors = set(threading.enumerate()), list[PoolExecutor]()

    def run() -> None:
        executor = PoolExecutor("e", [MemberConfig("a")], lambda name, request: answer)
        executors.append(executor)
        assert executor.execute("x") == "x"

    def check() -> None:
        for executor in executors:
            assert executor.execute("later", timeout=WAIT_S) == "later"
            executor.close()
        executors.clear()
        deadline = time.monotonic() + WAIT_S
        for thread in set(threading.enumerate()) - threads:
            assert thread._started.wait(WAIT_S)  # type: ignore[attr-defined]  # it is listed before
            thread.join(max(0.0, deadline - time.monotonic()))
            assert not thread.is_alive(), thread

    for module in (
        "greenroom.pool.pool_owner",
        "greenroom.fallback.pool_executor",
    ):  # for the rest: `test_a_start`
        interrupt_each(run, check, how, within=module)


@EVERYWHERE
def test_a_chain(how: str) -> None:
    """A run of it, an agent that joins and one that leaves."""
    with FallbackChain[Any]() as chain:
        chain.add("a", answer)
        assert chain.execute(lambda agent: agent("x")) == "x"

        def change() -> None:
            chain.add("b", answer)
            assert chain.execute(lambda agent: agent("x")) == "x"
            chain.remove("b")

        def check() -> None:
            chain.remove("b")
            assert chain.execute(lambda agent: agent("later"), timeout=WAIT_S) == "later"
            chain.add("b", answer)
            assert set(chain.names) == {"a", "b"}
            chain.remove("b")

        interrupt_each(change, check, how)


@EVERYWHERE
def test_a_stop(how: str) -> None:
    """Who stops again after it was broken off finds the pool stopped, whatever it was doing."""
    pools: list[PoolRef] = []

    def stop() -> None:
        pools[-1].stop()

    def check() -> None:
        pools[-1].stop(timeout=WAIT_S)
        assert not pools.pop().is_alive()
        pools.append(AgentPool.start([Member("a", answer)]))

    pools.append(AgentPool.start([Member("a", answer)]))
    interrupt_each(stop, check, how)
    pools.pop().stop()


@EVERYWHERE
def test_a_start(how: str) -> None:
    """Of a pool, with its actors and threads: either there is one, or nothing is left of it."""
    actors, threads = set(ActorRegistry.get_all()), set(threading.enumerate())

    started: list[PoolRef] = []

    def check() -> None:
        while started:
            started.pop().stop()
        deadline = time.monotonic() + WAIT_S
        for thread in set(threading.enumerate()) - threads:
            thread.join(max(0.0, deadline - time.monotonic()))
            assert not thread.is_alive(), thread
        assert set(ActorRegistry.get_all()) == actors

    def start() -> None:
        started.append(AgentPool.start([Member("a", answer)], name="begun"))

    interrupt_each(start, check, how)


def test_two_thousand_interrupts() -> None:
    """Ctrl-C and a timer's error at random moments, with agents on the loop of the interrupted
    thread and in others: whatever was asked for has an answer, and every slot comes back.
    """
    made = subprocess.run(
        [sys.executable, helpers_ctrl_c.__file__],
        capture_output=True,
        text=True,
        timeout=20 * WAIT_S,
    )
    assert made.returncode == 0, made.stderr
    hits, *left, kept = map(int, made.stdout.split())
    assert hits == helpers_ctrl_c.INTERRUPTS == 2_000
    assert left == [0, 0, 0]
    assert kept


def test_a_storm_of_signals() -> None:
    """Real ones, a timer's, in a process of its own: whatever was asked for is answered, and what
    is asked for afterwards as well.
    """
    made = subprocess.run(
        [sys.executable, helpers_storm.__file__],
        capture_output=True,
        text=True,
        timeout=20 * WAIT_S,
    )
    assert made.returncode == 0, made.stderr
    hits, unanswered, under_way = map(int, made.stdout.split())
    assert hits > 0
    assert (unanswered, under_way) == (0, 0)
