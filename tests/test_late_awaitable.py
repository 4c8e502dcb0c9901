"""An awaitable that a sync agent returned, and whose call is given up before it has begun."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator

import pytest

from greenroom.actors.calls import Call
from greenroom.actors.clock import SYSTEM_CLOCK
from greenroom.actors.loops import run_on
from greenroom.actors.loopthread import LoopThread
from greenroom.actors.threads import ThreadPlace
from greenroom.messages.status import CancelReason


@pytest.fixture
def loop_thread() -> Iterator[LoopThread]:
    thread = LoopThread("late-awaitable")
    yield thread
    thread.close()


async def answer() -> str:
    return "an answer"


def a_call() -> Call:
    place = ThreadPlace("late-awaitable", SYSTEM_CLOCK)
    return Call("a call", place, lambda _: None, lambda *_: None)


def test_an_awaitable_whose_call_was_given_up_is_cancelled_and_closed(
    loop_thread: LoopThread,
) -> None:
    """It ends as a cancelled call does, so that its member is not blamed, and never begins."""
    awaitable, call = answer(), a_call()
    call.cancelled = CancelReason.STOPPING
    with pytest.raises(asyncio.CancelledError):
        run_on(loop_thread, awaitable, call)
    assert inspect.getcoroutinestate(awaitable) == inspect.CORO_CLOSED


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
