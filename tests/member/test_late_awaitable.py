"""An awaitable that a sync agent returned, and whose call is given up before it has begun."""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from collections.abc import Iterator
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
