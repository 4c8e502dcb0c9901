"""The place of async agents: one event loop on one daemon thread, shared by a pool's members."""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from greenroom.actors.calls import Call, Phase
from greenroom.actors.clock import Clock
from greenroom.actors.eventbus import complain
from greenroom.actors.eventloops import NewLoop
from greenroom.actors.flow import acollect, is_stream
from greenroom.messages.status import CancelReason

CANCEL_GRACE_S = 1.0
"""How long a cancelled coroutine may clean up before its slot is given to the next call."""
CLOSE_TIMEOUT_S = 3.0


class LoopThread:
    """An event loop on a thread of its own, started on first use.

    Whatever a coroutine raises, SystemExit included, the loop goes on: only `close` ends it.

    Attributes:
        new_loop: what makes the loop.
    """

    def __init__(self, name: str, new_loop: NewLoop = asyncio.new_event_loop) -> None:
        self.name = name
        self.new_loop = new_loop
        self.loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._posted: deque[Callable[[], object]] = deque()
        self._scheduled = False
        self._closing = False

    def post(self, action: Callable[[], object]) -> bool:
        """Run `action` on the loop, soon; False when the loop has been closed.

        Many posts share one wake-up of the loop, which is the dear part of a hand-over.
        """
        with self._lock:
            if self._closing:
                return False
            loop = self.loop or self._start()
            self._posted.append(action)
            if self._scheduled:
                return True
            self._scheduled = True
        loop.call_soon_threadsafe(self._run_posted)
        return True

    def close(self, *, wait: bool = True) -> None:
        """Cancel every task, let them clean up for a moment, end the thread."""
        with self._lock:
            already, self._closing = self._closing, True
            loop, thread = self.loop, self._thread
        if loop is None or thread is None:
            return
        if not already:
            loop.call_soon_threadsafe(loop.stop)
        if wait and thread is not threading.current_thread():
            thread.join(CLOSE_TIMEOUT_S)

    def _start(self) -> asyncio.AbstractEventLoop:
        self.loop = self.new_loop()
        self._thread = threading.Thread(
            target=self._run, args=(self.loop,), name=self.name, daemon=True
        )
        self._thread.start()
        return self.loop

    def _run_posted(self) -> None:
        with self._lock:
            batch = list(self._posted)
            self._posted.clear()
            self._scheduled = False
        for action in batch:
            try:
                action()
            except Exception as error:  # the others were posted by somebody else
                complain(f"{self.name} failed at what it was told to do", error)

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        while not self._closing:
            try:
                loop.run_forever()
            except BaseException as error:  # a task's SystemExit leaves run_forever
                complain(f"{self.name} was left by {type(error).__name__} and goes on", error)
        try:
            loop.run_until_complete(_cancel_tasks())
            loop.run_until_complete(loop.shutdown_asyncgens())
        except BaseException as error:
            complain(f"{self.name} could not end all of its tasks", error)
        finally:
            asyncio.set_event_loop(None)
            loop.close()


async def _cancel_tasks() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=CLOSE_TIMEOUT_S / 2)


class LoopPlace:
    """Calls as tasks of a loop. Cancelling is real: the coroutine gets a CancelledError."""

    def __init__(self, thread: LoopThread, clock: Clock, owned: bool = False) -> None:
        self._thread = thread
        self._clock = clock
        self._owned = owned
        self._running: set[Call] = set()

    def run(self, call: Call) -> None:
        if not self._thread.post(lambda: self._start(call)) and call.drop():
            call.finish(call, None, RuntimeError("the event loop has been closed"))

    def cancel(self, call: Call, reason: CancelReason) -> None:
        call.cancelled = reason
        self._thread.post(lambda: self._cancel(call))

    def ping(self, answer: Callable[[], None]) -> None:
        self._thread.post(answer)

    def close(self) -> None:
        self._thread.post(self._cancel_all)
        if self._owned:
            self._thread.close(wait=False)

    def join(self, timeout_s: float) -> None:
        if self._owned:
            self._thread.close(wait=True)

    def _start(self, call: Call) -> None:
        if call.phase is Phase.WAITING:
            self._running.add(call)
            call.handle = asyncio.get_running_loop().create_task(self._run(call), name=call.name)

    async def _run(self, call: Call) -> None:
        value, error = None, None
        if not call.begin(self._clock.now()):
            return
        try:
            value = call.work(call)
            if inspect.isawaitable(value):
                value = await value
            if call.collects and is_stream(value):
                value = await acollect(value)
        except BaseException as raised:  # also CancelledError, SystemExit, GeneratorExit
            error = raised
        self._running.discard(call)
        if call.end():
            call.finish(call, value, error)
        elif call.late is not None:
            call.late(call)

    def _cancel(self, call: Call) -> None:
        if call.drop():
            self._running.discard(call)
            if call.handle is not None:
                call.handle.cancel()
            call.finish(call, None, None)
        elif call.phase is Phase.RUNNING:
            call.handle.cancel()
            asyncio.get_running_loop().call_later(CANCEL_GRACE_S, self._abandon, call)

    def _abandon(self, call: Call) -> None:
        if call.abandon():
            call.finish(call, None, None)

    def _cancel_all(self) -> None:
        for call in list(self._running):
            call.cancelled = call.cancelled or CancelReason.STOPPING
            self._cancel(call)


def run_on(thread: LoopThread, awaitable: Awaitable[Any], call: Call) -> Any:
    """Wait, in a worker thread, for an awaitable that a sync callable returned.

    Other than the callable, the awaitable can be cancelled, and is when the call is.
    """
    done = threading.Event()
    outcome: list[Any] = [None, RuntimeError("the event loop has been closed")]

    async def main() -> None:
        try:
            outcome[:] = [await awaitable, None]
        except BaseException as error:
            outcome[1] = error

    def begin() -> None:
        task = asyncio.get_running_loop().create_task(main(), name=call.name)
        call.handle = task
        call.canceller = functools.partial(thread.post, task.cancel)
        task.add_done_callback(lambda _: done.set())
        if call.cancelled is not None:
            task.cancel()

    if thread.post(begin):
        done.wait()
    elif inspect.iscoroutine(awaitable):
        awaitable.close()
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]
