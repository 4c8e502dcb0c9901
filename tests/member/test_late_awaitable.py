"""An awaitable that a sync agent returned, and whose call is given up before it has begun."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import queue
import threading
from collections.abc import Callable, Iterator
from contextvars import copy_context
from typing import Self
from unittest.mock import Mock

import pytest
from helpers_pools import WAIT_S

from greenroom import Member, PoolConfig, Request
from greenroom.actors.claims.claims import Claims
from greenroom.actors.executors.agent_output import aclose, acollect
from greenroom.actors.executors.call import Call, PlainCall
from greenroom.actors.executors.loop_executor import run_on
from greenroom.actors.executors.thread_executor import ThreadExecutor
from greenroom.actors.member.agent_host import AgentHost
from greenroom.actors.member.attempt_call import AttemptCall
from greenroom.actors.member.chunk_writer import ChunkWriter
from greenroom.actors.runtime.clock import SYSTEM_CLOCK
from greenroom.actors.runtime.home_loop import HomeLoop
from greenroom.actors.runtime.loop_thread import LoopThread
from greenroom.messages.execution import Execute
from greenroom.messages.status import CancelReason


@pytest.fixture
def loop_thread() -> Iterator[LoopThread]:
    thread = LoopThread("late-awaitable")
    yield thread
    thread.close()


class Response:
    """A stream that must be closed."""

    def __init__(self) -> None:
        self.closed = threading.Event()
        self.read = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        self.read = True
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self.closed.set()


async def answer() -> str:
    return "an answer"


def writer() -> ChunkWriter:
    """One that nothing is written into."""
    nothing = Mock()
    return ChunkWriter(
        ("r", 1), "m", Claims(), SYSTEM_CLOCK, PoolConfig(), nothing, nothing, nothing
    )


def a_call() -> Call:
    place = ThreadExecutor("late-awaitable", SYSTEM_CLOCK)
    return PlainCall("a call", place, lambda _: None, lambda *_: None)


def test_an_awaitable_whose_call_was_given_up_is_cancelled_and_closed(
    loop_thread: LoopThread,
) -> None:
    """It ends as a cancelled call does, so that its member is not blamed, and never begins."""
    awaitable, call = answer(), a_call()
    call.cancelled = CancelReason.STOPPING
    with pytest.raises(asyncio.CancelledError):
        run_on(loop_thread, awaitable, call)
    assert inspect.getcoroutinestate(awaitable) == inspect.CORO_CLOSED


def test_a_stream_whose_call_was_given_up_before_it_was_read_is_closed(
    loop_thread: LoopThread,
) -> None:
    """A client's response must give its connection back, also when nobody came to read it."""
    response, call = Response(), a_call()
    call.cancelled = CancelReason.STOPPING
    with pytest.raises(asyncio.CancelledError):
        run_on(loop_thread, acollect(response), call, functools.partial(aclose, response))
    assert response.closed.wait(WAIT_S)
    assert not response.read


@pytest.mark.parametrize("wanted", ["a stream", "a list"])
def test_a_sync_agents_async_stream_is_closed_by_whoever_gives_its_call_up(
    loop_thread: LoopThread, wanted: str
) -> None:
    """Between the agent's return and the first look at the stream, for `stream` and for `ask`."""
    response = Response()
    host = AgentHost(Member("m", lambda _: response), "m", SYSTEM_CLOCK, loop_thread)
    message = Execute("r", 1, 1, Request("payload"), stream=wanted == "a stream")
    to = writer() if message.stream else None
    hosted = host.hosted
    assert hosted is not None
    call = AttemptCall(Mock(), host.run, host.executor_for(message), message, to, hosted)
    call.cancelled = CancelReason.STOPPING
    with pytest.raises(asyncio.CancelledError):
        copy_context().run(host.run, call)  # it notes there which call runs
    assert response.closed.wait(WAIT_S)
    assert not response.read


def test_an_awaitable_of_a_closed_loop_is_closed_too(loop_thread: LoopThread) -> None:
    """The caller hears that the loop has been closed; nobody hears of a forgotten coroutine."""
    awaitable = answer()
    loop_thread.close()
    with pytest.raises(RuntimeError, match="the event loop has been closed"):
        run_on(loop_thread, awaitable, a_call())
    assert inspect.getcoroutinestate(awaitable) == inspect.CORO_CLOSED


def test_an_awaitable_that_is_not_given_up_has_its_value(loop_thread: LoopThread) -> None:
    """The value of the awaitable is the value of the call."""
    assert run_on(loop_thread, answer(), a_call()) == "an answer"


def test_b271_a_thread_is_let_go_that_waits_for_what_its_loop_does_not_end() -> None:
    """Of what swallows its cancellation, or was posted just when the loop ended, nobody tells: the
    end of the loop does.
    """
    thread, begun = LoopThread("late-awaitable", grace_s=0.01), threading.Event()
    left: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    async def stubborn() -> None:
        begun.set()
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

    def wait(within: LoopThread) -> None:
        awaitable = stubborn()
        try:
            run_on(within, awaitable, a_call())
            left.put(None)
        except BaseException as error:
            left.put(error)

    class Deaf(LoopThread):
        """It has passed the look at whether it ends, and then has."""

        def post(self, action: Callable[[], object]) -> bool:
            return True

    threading.Thread(target=wait, args=(thread,), daemon=True).start()
    assert begun.wait(WAIT_S)
    thread.close()
    assert type(left.get(timeout=WAIT_S)) is asyncio.CancelledError
    deaf = Deaf("late-awaitable")
    LoopThread.post(deaf, lambda: None)
    threading.Thread(target=wait, args=(deaf,), daemon=True).start()
    deaf.close()
    assert type(left.get(timeout=WAIT_S)) is asyncio.CancelledError


class EndingLoop:
    """A loop of the app's that ends before it begins what is posted there."""

    loop: asyncio.AbstractEventLoop | None = None
    gone = True

    def __init__(self, successor: LoopThread | None) -> None:
        self.successor = successor
        self.posted: list[Callable[[], object]] = []

    def post(self, action: Callable[[], object]) -> bool:
        self.posted.append(action)
        return True

    def keep(self, leave: Callable[[], object]) -> None:
        leave()

    def drop(self, leave: Callable[[], object]) -> None:
        pass


def test_b269_a_stream_whose_loop_ends_before_it_is_read_is_closed_on_the_one_that_follows(
    loop_thread: LoopThread,
) -> None:
    """Whoever waited for it has left: it is not read after that, should the loop go on."""
    response, call, ending = Response(), a_call(), EndingLoop(loop_thread)
    reading = acollect(response)
    with pytest.raises(asyncio.CancelledError):
        run_on(ending, reading, call, functools.partial(aclose, response))  # type: ignore[arg-type]
    assert call.cancelled is CancelReason.LOOP_ENDED
    assert response.closed.wait(WAIT_S)
    assert inspect.getcoroutinestate(reading) == inspect.CORO_CLOSED
    for action in ending.posted:
        loop_thread.post(action)
    assert run_on(loop_thread, answer(), a_call()) == "an answer"  # all of that has been done
    assert not response.read


def test_b269_a_stream_is_closed_on_a_loop_that_goes_on_when_its_pool_has_ended(
    loop_thread: LoopThread,
) -> None:
    """The loop of the app comes to it when nobody waits any more."""
    response, closing = Response(), EndingLoop(None)
    closing.gone = False
    reading = acollect(response)
    with pytest.raises(asyncio.CancelledError):
        run_on(closing, reading, a_call(), functools.partial(aclose, response))  # type: ignore[arg-type]
    for action in closing.posted:
        loop_thread.post(action)
    assert response.closed.wait(WAIT_S)
    assert not response.read
    assert inspect.getcoroutinestate(reading) == inspect.CORO_CLOSED


class LateLoop(EndingLoop):
    """One that ends when it has begun that, and before it has come to it.

    Attributes:
        left: to be set when whoever waited has left; then the task has its turn.
    """

    def __init__(self, within: LoopThread, cancels: bool) -> None:
        super().__init__(None)
        self.left = threading.Event()
        self._within = within
        self._cancels = cancels

    def keep(self, leave: Callable[[], object]) -> None:
        begun = threading.Event()

        def begin() -> None:
            for action in self.posted:
                action()
            self.loop = asyncio.get_running_loop()
            begun.set()
            assert self.left.wait(WAIT_S)
            for task in asyncio.all_tasks() if self._cancels else ():
                task.cancel()

        self._within.post(begin)
        assert begun.wait(WAIT_S)
        leave()


async def answer_with(response: Response) -> Response:
    return response


def test_b269_a_stream_that_comes_when_who_waited_for_it_has_just_left_is_closed(
    loop_thread: LoopThread,
) -> None:
    """What an awaitable brings may have to be closed: nobody else knows of it."""
    response, late = Response(), LateLoop(loop_thread, cancels=False)
    with pytest.raises(asyncio.CancelledError):
        run_on(late, answer_with(response), a_call())  # type: ignore[arg-type]
    late.left.set()
    assert response.closed.wait(WAIT_S)
    assert not response.read


def test_b269_a_stream_is_closed_whose_reading_is_cancelled_before_it_began_when_nobody_waits(
    loop_thread: LoopThread,
) -> None:
    """By the loop: whoever waited for it has left that to it."""
    response, late = Response(), LateLoop(loop_thread, cancels=True)
    reading = acollect(response)
    with pytest.raises(asyncio.CancelledError):
        run_on(late, reading, a_call(), functools.partial(aclose, response))  # type: ignore[arg-type]
    late.left.set()
    assert response.closed.wait(WAIT_S)
    assert not response.read
    assert inspect.getcoroutinestate(reading) == inspect.CORO_CLOSED


class HangingResponse(Response):
    """Its next chunk does not come."""

    def __init__(self) -> None:
        super().__init__()
        self.began = asyncio.Event()

    async def __anext__(self) -> str:
        self.began.set()
        await asyncio.Event().wait()
        return "a chunk"

    async def aclose(self) -> None:
        await asyncio.sleep(0)
        await super().aclose()


@pytest.mark.parametrize("cancelled", [True, False])
def test_b269_what_a_loop_that_winds_up_has_begun_is_left_to_it(cancelled: bool) -> None:
    """Not closed by the thread that waited for it, where nothing can be awaited: the loop cancels
    it, with all that it runs, or for who has left.
    """
    successor, left = LoopThread("late-awaitable"), threading.Event()

    async def app() -> None:
        loop, response, call = asyncio.get_running_loop(), HangingResponse(), a_call()
        home = HomeLoop("late-awaitable", loop, successor)
        before = asyncio.all_tasks()

        def read() -> None:
            with pytest.raises(asyncio.CancelledError):
                run_on(home, acollect(response), call, functools.partial(aclose, response))
            left.set()

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        await asyncio.wait_for(response.began.wait(), WAIT_S)
        (task,) = asyncio.all_tasks() - before - {asyncio.current_task()}
        if cancelled:
            task.cancel()
        home.end()  # as the first of all that are cancelled finds out
        assert left.wait(WAIT_S)  # the task has had no turn yet
        await asyncio.wait([task], timeout=WAIT_S)
        assert response.closed.is_set()
        assert call.cancelled is CancelReason.LOOP_ENDED
        reader.join(WAIT_S)

    asyncio.run(app())
    successor.close()
