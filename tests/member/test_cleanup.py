"""What runs when nobody wants it any more is cancelled once, and has time to clean up."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import random
import threading
import weakref
from collections.abc import AsyncIterator, Generator, Iterator
from typing import Any, Self, cast

import pytest
from helpers_pools import WAIT_S

from greenroom import AgentPool, AllPoolMembersFailedError, Member, PoolConfig, Request
from greenroom.actors.executors.agent_output import flow
from greenroom.actors.handle.pool_ref import PoolRef
from greenroom.testing import FakeClock

pytestmark = pytest.mark.usefixtures("agents_loop")

STEPS = 5
"""How many turns of the loop a clean-up takes."""


class Cleaner:
    """An async agent whose clean-up awaits, and which remembers in what order all ended."""

    def __init__(self) -> None:
        self.begun = self.finished = self.cut = 0
        self.log: list[str] = []
        self.entered = threading.Event()

    async def clean_up(self) -> None:
        try:
            for _ in range(STEPS):
                await asyncio.sleep(0)
            self.finished += 1
            self.log.append("cleaned up")
        except BaseException:
            self.cut += 1
            raise

    async def hang(self, payload: Any) -> str:
        self.begun += 1
        self.entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            await self.clean_up()
        return "never"

    async def flow(self, payload: Any) -> AsyncIterator[int]:
        self.begun += 1
        self.entered.set()
        try:
            number = 0
            while True:
                yield number
                number += 1
                if number % 3 == 0:
                    await asyncio.sleep(0)
        finally:
            await self.clean_up()

    async def close(self, _: Any) -> None:
        self.log.append("closed")


def cleaned_pool(agent: Any, cleaner: Cleaner, *, isolated: bool = False, **config: Any) -> PoolRef:
    member = Member("m", agent, close=cleaner.close, isolated=isolated)
    return AgentPool.start([member], config=PoolConfig(**config))


def sync_returning(agent: Any) -> Any:
    """The same agent behind a sync callable: it runs from a worker thread."""
    return lambda payload: agent(payload)


@pytest.mark.parametrize("isolated", [False, True], ids=["shared", "isolated"])
@pytest.mark.parametrize("wrap", [lambda agent: agent, sync_returning], ids=["async", "returned"])
def test_a_call_that_is_under_way_at_the_end_cleans_up_and_is_closed_after(
    wrap: Any, isolated: bool
) -> None:
    """One cancellation; the close hook comes when the `finally:` has ended."""
    cleaner = Cleaner()
    pool = cleaned_pool(wrap(cleaner.hang), cleaner, isolated=isolated)
    pool.ask(Request("x"), block=False)
    assert cleaner.entered.wait(WAIT_S)
    pool.stop()
    assert (cleaner.finished, cleaner.cut) == (1, 0)
    assert cleaner.log == ["cleaned up", "closed"]


def test_a_sync_generator_is_closed_before_its_agent() -> None:
    """It is closed in its worker thread, where it stands; then comes the close hook."""
    cleaner = Cleaner()

    def numbers(payload: Any) -> Iterator[int]:
        try:
            yield from itertools.count()
        finally:
            cleaner.log.append("cleaned up")

    pool = cleaned_pool(numbers, cleaner)
    stream = pool.stream(Request("x"))
    assert next(stream) == 0
    pool.stop()
    assert cleaner.log == ["cleaned up", "closed"]


def test_a_call_that_outlives_the_drain_cleans_up() -> None:
    """The drain's timeout is a cancellation like any other."""
    cleaner = Cleaner()
    pool = cleaned_pool(cleaner.hang, cleaner)
    pool.ask(Request("x"), block=False)
    assert cleaner.entered.wait(WAIT_S)
    pool.drain(timeout=0.01)
    pool.stop()
    assert cleaner.log == ["cleaned up", "closed"]


@pytest.mark.parametrize("wrap", [lambda agent: agent, sync_returning], ids=["async", "returned"])
@pytest.mark.parametrize("seed", range(3))
def test_streams_that_are_left_while_chunks_flow_clean_up(seed: int, wrap: Any) -> None:
    """Left by a sync `break` at any point: not one clean-up is cut."""
    rng, cleaner = random.Random(seed), Cleaner()
    with cleaned_pool(wrap(cleaner.flow), cleaner) as pool:
        for _ in range(50):
            many = rng.randrange(1, 40)
            with pool.stream(Request("x")) as stream:
                for number in stream:
                    if number >= many:
                        break
    assert (cleaner.begun, cleaner.finished, cleaner.cut) == (50, 50, 0)
    assert cleaner.log[-1] == "closed"


@pytest.mark.parametrize("how", ["break", "close", "cancel"])
def test_streams_that_are_left_on_a_loop_clean_up(how: str) -> None:
    """Left by `break`, `close` or a cancelled task of asyncio, at any point."""
    rng, cleaner = random.Random(how), Cleaner()

    async def leave(pool: PoolRef) -> None:
        many = rng.randrange(1, 40)
        if how == "cancel":
            reached = asyncio.Event()

            async def read() -> None:
                async with pool.stream(Request("x")) as stream:
                    async for number in stream:
                        if number >= many:
                            reached.set()

            task = asyncio.create_task(read())
            await reached.wait()
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            return
        stream = pool.stream(Request("x"))
        if how == "close":
            async for number in stream:
                if number >= many:
                    break
            stream.close()
            return
        async with stream:
            async for number in stream:
                if number >= many:
                    break

    async def main() -> None:
        async with cleaned_pool(cleaner.flow, cleaner) as pool:
            for _ in range(40):
                await leave(pool)

    asyncio.run(main())
    assert (cleaner.begun, cleaner.finished, cleaner.cut) == (40, 40, 0)


def test_what_an_agent_has_started_is_cancelled_once_at_the_end() -> None:
    """A task of the agent's own is given the same time."""
    cleaner, tasks = Cleaner(), list[Any]()

    async def agent(payload: Any) -> str:
        tasks.append(asyncio.create_task(cleaner.hang(payload)))
        await asyncio.sleep(0)
        return "done"

    with cleaned_pool(agent, cleaner) as pool:
        pool.ask(Request("x"))
        assert cleaner.entered.wait(WAIT_S)
    assert (cleaner.finished, cleaner.cut) == (1, 0)


def test_what_does_not_clean_up_in_time_is_abandoned() -> None:
    """With no grace at all it is cancelled once, and the agent is closed at once."""
    cleaner = Cleaner()
    cancelled = list[str]()
    gate = threading.Event()

    async def stubborn(payload: Any) -> str:
        cleaner.entered.set()
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(payload)
                gate.set()

    pool = cleaned_pool(stubborn, cleaner, cancel_grace_s=0.0)
    pool.ask(Request("x"), block=False)
    assert cleaner.entered.wait(WAIT_S)
    pool.stop()
    assert gate.wait(WAIT_S)
    assert cleaner.log == ["closed"]
    assert cancelled == ["x"]


@pytest.mark.parametrize("wrap", [lambda agent: agent, sync_returning], ids=["async", "returned"])
def test_a_call_that_ran_out_of_its_time_cleans_up_before_its_agent_is_closed(wrap: Any) -> None:
    """The end of the pool waits for it, also where a sync callable has returned the awaitable."""
    cleaner, gate, told = Cleaner(), asyncio.Event(), threading.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def slow(payload: Any) -> None:
        loops.append(asyncio.get_running_loop())
        cleaner.entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            told.set()
            await gate.wait()
            await cleaner.clean_up()

    clock = FakeClock()
    config = PoolConfig(request_timeout_s=5.0, max_retries=0, cancel_grace_s=3600.0)
    pool = AgentPool.start(
        [Member("m", wrap(slow), close=cleaner.close)], config=config, clock=clock
    )
    future = pool.ask(Request("x"), block=False)
    assert cleaner.entered.wait(WAIT_S)
    clock.advance(5.0)
    with pytest.raises(AllPoolMembersFailedError):
        future.get(timeout=WAIT_S)
    assert told.wait(WAIT_S)
    assert pool.stats()["m"].in_flight == 1
    ending = pool.stop(block=False)
    loops[0].call_soon_threadsafe(gate.set)
    ending.get(timeout=WAIT_S)
    assert cleaner.log == ["cleaned up", "closed"]
    assert cleaner.cut == 0


class Unclosable:
    """Chunks whose `aclose` hangs until it is cancelled."""

    def __init__(self) -> None:
        self.left = 1
        self.closing = threading.Event()
        self.cancelled = threading.Event()

    def __aiter__(self) -> Unclosable:
        return self

    async def __anext__(self) -> str:
        if not self.left:
            raise StopAsyncIteration
        self.left -= 1
        return "chunk"

    async def aclose(self) -> None:
        self.closing.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


@pytest.mark.parametrize("wrap", [lambda agent: agent, sync_returning], ids=["async", "returned"])
def test_a_close_of_a_stream_that_hangs_is_cancelled_when_its_time_is_over(wrap: Any) -> None:
    """It was let be, as the clean-up that it is; one cancellation it gets all the same."""
    chunks, cleaner = Unclosable(), Cleaner()

    async def agent(payload: Any) -> Any:
        return chunks

    with cleaned_pool(wrap(agent), cleaner, cancel_grace_s=0.01) as pool:
        stream = pool.stream(Request("x"))
        assert chunks.closing.wait(WAIT_S)
        assert next(stream) == "chunk"
    assert chunks.cancelled.wait(WAIT_S)
    assert cleaner.log == ["closed"]


class Payload:
    """One that can be watched."""


@pytest.mark.parametrize("way", ["ask", "stream"])
def test_a_pool_in_between_lets_the_payload_of_a_cancelled_call_go(way: str) -> None:
    """Nor does the inner pool keep the outer one's call, though it has nothing else to look at."""
    entered, ended = threading.Event(), threading.Event()

    async def hang(payload: Any) -> None:
        entered.set()
        await asyncio.Event().wait()

    with (
        AgentPool.start([Member("m", hang)]) as inner,
        AgentPool.start([Member("inner", inner)]) as outer,
    ):
        payload = Payload()
        gone = weakref.ref(payload, lambda _: ended.set())
        asked: Any
        if way == "ask":
            asked = outer.ask(Request(payload), block=False)
        else:
            asked = outer.stream(Request(payload))
        del payload
        assert entered.wait(WAIT_S)
        asked.cancel()
        del asked
        assert ended.wait(WAIT_S), gc.get_referrers(gone())


def test_the_payload_of_a_cancelled_call_is_let_go_at_once() -> None:
    """Neither a timer nor a cycle keeps it until the grace is over."""
    entered, ended = threading.Event(), threading.Event()

    async def hang(payload: Any) -> None:
        entered.set()
        await asyncio.Event().wait()

    with AgentPool.start([Member("m", hang)], config=PoolConfig(cancel_grace_s=3600.0)) as pool:
        payload = Payload()
        gone = weakref.ref(payload, lambda _: ended.set())
        gc.collect()
        gc.disable()
        try:
            future = pool.ask(Request(payload), block=False)
            del payload
            assert entered.wait(WAIT_S)
            future.cancel()
            del future
            assert ended.wait(WAIT_S), gc.get_referrers(gone())
        finally:
            gc.enable()


class Never:
    """Awaited, it is suspended for good; no loop is asked."""

    def __await__(self) -> Generator[None, None, None]:
        yield


class Chunks:
    """A stream whose next chunk never comes."""

    closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        await Never()
        return "never"

    async def aclose(self) -> None:
        await Never()
        self.closed = True


def test_a_coroutine_that_is_thrown_away_with_its_loop_makes_no_noise() -> None:
    """Its clean-up cannot be awaited any more, and is not tried: the collector has no complaint."""
    chunks = Chunks()
    coroutine = flow(chunks, cast(Any, None))
    coroutine.send(None)
    coroutine.close()  # as the collector does
    assert not chunks.closed
