"""The executor of async agents: one event loop on one daemon thread, shared by a pool's members."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context, copy_context
from types import CoroutineType
from typing import Any

from greenroom.actors.executors.agent_output import PLAIN, acollect, is_awaitable, is_stream
from greenroom.actors.executors.call import Call, CallPhase
from greenroom.actors.runtime.clock import SYSTEM_CLOCK, Clock
from greenroom.actors.runtime.loop_blocker import ORIGIN
from greenroom.actors.runtime.loop_thread import (
    AgentLoop,
    Begin,
    cancel_once,
    cancel_spared,
    spare_the_log,
)
from greenroom.messages.status import CancelReason

_NEARLY_S = 0.001
"""A loop's timer may be early by so much."""

_KEPT: set[asyncio.Task[None]] = set()
"""Tasks that nobody waits for: a loop holds them weakly."""


class _Grace:
    """A timer of the loop that runs here, without the time in which the process stood still: what
    cleans up could do nothing meanwhile.
    """

    __slots__ = ("_give_up", "_handle", "_loop", "_until")

    def __init__(self, delay_s: float, give_up: Callable[[], object]) -> None:
        self._loop = asyncio.get_running_loop()
        self._give_up = give_up
        self._until = SYSTEM_CLOCK.now() + delay_s
        # Somebody has to look at the clock until then: else it would not notice a pause.
        SYSTEM_CLOCK.watch(self._until)
        self._handle = self._loop.call_later(delay_s, self._ring)

    def cancel(self) -> None:
        self._handle.cancel()

    def _ring(self) -> None:
        left_s = self._until - SYSTEM_CLOCK.now()
        if left_s <= _NEARLY_S:
            self._give_up()
        else:
            self._handle = self._loop.call_later(left_s, self._ring)


def _new_task(
    coroutine: Coroutine[Any, Any, None], name: str, context: Context
) -> asyncio.Task[None]:
    """On the loop: a task of it, by whatever factory the app has set there."""
    create = asyncio.get_running_loop().create_task
    try:
        return create(coroutine, name=name, context=context)
    except TypeError:  # one of before Python 3.11, which takes no context
        return context.run(create, coroutine)


def _end(call: Call) -> None:
    if call.drop():
        call.finish(None, RuntimeError("the event loop has been closed"))


class LoopExecutor:
    """Calls as tasks of a loop. Cancelling is real: the coroutine gets a CancelledError, once, and
    has the loop's `grace_s` to clean up before its slot is given to the next call.

    Args:
        owned: whether the loop is closed with it.
        elsewhere: given a call that cannot begin since the loop has ended.
    """

    def __init__(
        self,
        thread: AgentLoop,
        clock: Clock,
        owned: bool = False,
        elsewhere: Callable[[Call], object] = _end,
    ) -> None:
        self.guard = threading.Lock()
        self._thread = thread
        self._now = clock.now
        self._owned = owned
        self._elsewhere = elsewhere
        # Both are touched on the loop alone; so there is no lock, and `close` has it done there.
        self._running: set[Call] = set()
        self._graces: dict[Call, _Grace] = {}

    def run(self, call: Call) -> None:
        if not self._thread.post(Begin(self._start, call)):
            self._elsewhere(call)

    def cancel(self, call: Call, reason: CancelReason) -> None:
        # Before the loop hears of it: an attempt that has still to begin there looks at this.
        call.cancelled = reason
        if not self._thread.stalled and self._thread.post(lambda: self._cancel(call)):
            # Twice: should the first raise; once it is told, the second does nothing.
            self._thread.post(lambda: self._cancel(call))
        elif self._thread.stalled:  # it has been, or has been found to be by the post
            self._forsake(call)

    def _forsake(self, call: Call) -> None:
        """Report a call as over, since the loop does not answer; end it when that ever does."""
        # First: should the loop answer after all, the task is ended, whoever reports the call.
        self._thread.post(lambda: self._stop(call))
        if self._thread.gone and call.handle is not None:
            spare_the_log(call.handle)
        if call.drop() or call.abandon():
            call.finish(None, None)

    def ping(self, answer: Callable[[], None]) -> None:
        self._thread.post(answer)

    def close(self) -> None:
        if self._thread.lost:
            return  # it ends by itself, if it ever answers, and runs the close hooks first
        if self._thread.loop is not None:  # else nothing runs there, and none is started for this
            self._thread.post(self._cancel_all)
        if self._owned:
            self._thread.close(wait=False)

    def join(self, timeout_s: float) -> None:
        if self._owned:
            self._thread.close(wait=True)

    def _start(self, call: Call) -> None:
        if call.phase is CallPhase.WAITING:
            coroutine = None
            try:
                self._running.add(call)
                context = Context()  # nobody else's: neither an asker's nor another call's
                context.run(ORIGIN.set, call.origin)
                coroutine = self._run(call)
                call.handle = _new_task(coroutine, call.name, context)
            except BaseException as error:  # no memory, or a task factory of an agent's
                if coroutine is not None:
                    coroutine.close()
                self._running.discard(call)
                apps = _is_apps(self._thread, error)
                # A task that begins at once may have ended by that, and told of it.
                if not apps or call.phase in (CallPhase.WAITING, CallPhase.RUNNING):
                    call.broke(error)
                if apps:
                    raise

    async def _run(self, call: Call) -> None:
        value, error = None, None
        raised: BaseException | None = None
        try:
            if not call.begin(self._now()):
                self._running.discard(call)
                return
            value = call.work()
            if type(value) is CoroutineType or is_awaitable(value):
                value = await value
            if type(value) not in PLAIN and call.collects and is_stream(value):
                value = await acollect(value, call.hearing())
                call.collected = True
        except BaseException as its:  # also CancelledError, SystemExit, GeneratorExit
            error = raised = its
        self._running.discard(call)
        if error is not None and call.phase is CallPhase.WAITING:  # it has not even begun
            call.broke(error)
            return
        try:
            if error is not None and call.cancelled is None:
                error = _told_apart(self._thread, call, error)
            if type(error) is asyncio.CancelledError and call.cancelled is None:
                asyncio.get_running_loop().call_soon(self._end_unbegun)
            if call.cancelled is not None and (grace := self._graces.pop(call, None)) is not None:
                grace.cancel()  # it would keep the call, and with it the payload
            # Whoever has abandoned it has told its end; for an end that comes late there is `late`.
            if call.end():
                call.finish(value, error)
            else:
                call.late()
        except BaseException as its:
            call.broke(its)
        if raised is not None and _is_apps(self._thread, raised):
            raise raised
        value = error = raised = None  # the error's traceback leads back here, and to the payload

    def _end_unbegun(self) -> None:
        """Somebody's code cancels tasks that are not its own. One that had not begun by then never
        will, and nothing else would tell of it.
        """
        for call in list(self._running):
            if call.phase is CallPhase.WAITING and call.handle is not None and call.handle.done():
                self._running.discard(call)
                call.broke(asyncio.CancelledError("its task was cancelled before it began"))

    def _cancel(self, call: Call) -> None:
        if call.drop():
            self._running.discard(call)
            if call.handle is not None:
                cancel_once(call.handle)
            call.finish(None, None)
        # The task hears of it, and tells of its end; or the grace does, if the task goes on.
        elif call.phase is CallPhase.RUNNING and call not in self._graces:
            cancel_once(call.handle)
            give_up = functools.partial(self._abandon, call)
            self._graces[call] = _Grace(self._thread.grace_s, give_up)

    def _stop(self, call: Call) -> None:
        self._running.discard(call)
        if call.handle is not None:
            cancel_once(call.handle)

    def _abandon(self, call: Call) -> None:
        self._graces.pop(call, None)
        cancel_spared(call.handle)
        if call.abandon():
            call.finish(None, None)

    def _cancel_all(self) -> None:
        for call in list(self._running):
            call.cancelled = call.cancelled or CancelReason.STOPPING
            self._cancel(call)


def _told_apart(thread: AgentLoop, call: Call, error: BaseException) -> BaseException:
    """On the loop, in a task that ends by an error: it is none of the agent's where the app has
    cancelled all that runs there, or somebody has pressed Ctrl-C.
    """
    if not (_is_apps(thread, error) or thread.winds_up()):
        return error
    call.cancelled = CancelReason.LOOP_ENDED
    return asyncio.CancelledError()


def _is_apps(thread: AgentLoop, error: BaseException | None) -> bool:
    """Whether a signal's error has hit what runs on the app's loop: the app is to have it, as by
    any task, and so the loop.
    """
    return isinstance(error, KeyboardInterrupt) and thread.successor is not None


def _cancel_there(thread: AgentLoop, task: asyncio.Task[None], call: Call) -> bool:
    """Cancel what a worker thread waits for; whether it has its time to clean up then."""
    posted = thread.post(functools.partial(_cancel_with_grace, thread, task, call))
    return posted and not thread.stalled


def _cancel_with_grace(thread: AgentLoop, task: asyncio.Task[None], call: Call) -> None:
    """On the loop: the call is given up on if the task has not ended when its time is over."""

    def give_up() -> None:
        cancel_spared(task)
        if call.abandon():
            call.finish(None, None)

    if not task.done():
        cancel_once(task)
        grace = _Grace(thread.grace_s, give_up)
        task.add_done_callback(lambda _: grace.cancel())


def run_on(
    thread: AgentLoop,
    awaitable: Awaitable[Any],
    call: Call,
    otherwise: Callable[[], Coroutine[Any, Any, None]] | None = None,
) -> Any:
    """Wait, in a worker thread, for an awaitable that a sync callable returned.

    Other than the callable, the awaitable can be cancelled, and is when the call is. `otherwise`:
    what is run, and not waited for, instead of one that is cancelled before it begins.
    """
    done = threading.Event()
    closed = RuntimeError("the event loop has been closed")
    outcome: list[Any] = [None, closed]
    context = copy_context()  # what the callable has set in its thread goes on
    context.run(ORIGIN.set, call.origin)

    async def main() -> None:
        try:
            outcome[:] = [await awaitable, None]
        except BaseException as error:
            if call.cancelled is None:
                error = _told_apart(thread, call, error)
            # As a whole: where the loop has ended, who waited has gone, and has emptied it.
            outcome[:] = [None, error]

    def begin() -> None:
        coroutine = main()
        try:
            task = _new_task(coroutine, call.name, context)
        except BaseException as error:  # whoever waits in its thread must not wait for ever
            coroutine.close()
            outcome[1] = error
            done.set()
            return
        call.handle = task
        # Set on the loop, before the look at `cancelled` below: see `ThreadExecutor.cancel`.
        call.canceller = functools.partial(_cancel_there, thread, task, call)
        task.add_done_callback(ended)
        if call.cancelled is not None:
            _cancel_with_grace(thread, task, call)

    def ended(task: asyncio.Task[None]) -> None:
        try:
            if task.cancelled():  # before it began
                outcome[1] = asyncio.CancelledError()
                if otherwise is not None:
                    instead = asyncio.get_running_loop().create_task(
                        otherwise(), context=context.copy()
                    )
                    _KEPT.add(instead)
                    instead.add_done_callback(_KEPT.discard)
        finally:
            done.set()

    try:
        posted = thread.post(begin)
        if not posted and thread.successor is not None:
            thread = thread.successor
            posted = thread.post(begin)
        if posted:
            thread.keep(done.set)
            done.wait()
            thread.drop(done.set)
            if outcome[1] is closed:  # it has ended under it
                call.cancelled = call.cancelled or CancelReason.LOOP_ENDED
                outcome[1] = asyncio.CancelledError()
    finally:
        if type(awaitable) is CoroutineType:
            awaitable.close()  # one that never began would complain; one that has ended, not
    value, error = outcome
    outcome.clear()  # the error's traceback leads back here: it must not wait for the collector
    # Nothing is left to cancel there; the partial would keep the task, and with it the answer.
    call.handle = call.canceller = None
    if error is None:
        return value
    try:
        raise error
    finally:
        del error
