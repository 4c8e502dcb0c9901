"""The executor of async agents: one event loop on one daemon thread, shared by a pool's members."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context, copy_context
from threading import get_ident
from types import CoroutineType
from typing import Any

from greenroom.actors.executors.agent_output import PLAIN, aclose, acollect, is_awaitable, is_stream
from greenroom.actors.executors.call import Call, CallPhase, go_on_in
from greenroom.actors.runtime.clock import SYSTEM_CLOCK, Clock
from greenroom.actors.runtime.deferral import DEFERRAL, is_on_here, undisturbed
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


_ONCE = (None,)


class _Pause:
    """The first thing that the coroutine of a call awaits, which is entered where its task is made:
    the task resumes it inside of its `try`, be it that a signal or a cancellation comes first. One
    that a task enters may be hit at its entry, and nobody would tell of that.
    """

    __await__ = staticmethod(functools.partial(iter, _ONCE))  # no call of a function of Python's


_PAUSE: Any = _Pause()


class Grace:
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
        self._set(delay_s)

    def _set(self, delay_s: float) -> None:
        # A timer that is called off lies there until its time, with the context of who set it.
        self._handle = self._loop.call_later(delay_s, self._ring, context=Context())

    def cancel(self) -> None:
        self._handle.cancel()

    def _ring(self) -> None:
        left_s = self._until - SYSTEM_CLOCK.now()
        if left_s <= _NEARLY_S:
            undisturbed(self._over, self._give_up)
        else:
            self._set(left_s)

    @staticmethod
    def _over(give_up: Callable[[], object]) -> bool:
        give_up()
        return True


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
        self._graces: dict[Call, Grace] = {}

    def run(self, call: Call) -> None:
        # A coroutine of that very loop asks: nobody need be woken for its request.
        if self._thread.begins_here():
            if DEFERRAL.on:  # as in the turn of whoever asks there
                self._begin(call)
            else:
                self._start(call)
        elif not self._thread.post(Begin(self._start, call)):
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
        gone, loop = self._thread.gone, self._thread.loop
        if gone and call.handle is not None:
            spare_the_log(call.handle)
        # On a loop that has been closed it has ended, as if it had been cancelled: else it would
        # count as abandoned for as long as anything keeps its task.
        if gone and loop is not None and loop.is_closed() and call.end():
            call.finish(None, asyncio.CancelledError())
        elif call.drop() or call.abandon():
            call.finish(None, None)

    def ping(self, answer: Callable[[], object]) -> bool:
        return self._thread.post(answer) and not self._thread.lost

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
            undisturbed(self._begin, call)

    def _begin(self, call: Call) -> bool:
        coroutine = None
        try:
            self._running.add(call)
            # Its own alone: what it sets, neither its asker sees nor another call.
            context = Context() if call.context is None else call.context.copy()
            call.context = None
            loop = asyncio.get_running_loop()
            # A factory of the app's may await the coroutine in one of its own, which can only be
            # done with one that has not been entered.
            entered = loop.get_task_factory() is None
            coroutine = self._run(call, entered)
            if entered:
                coroutine.send(None)  # see `_Pause`
                call.handle = loop.create_task(coroutine, name=call.name, context=context)
            else:
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
        return True

    async def _run(self, call: Call, entered: bool) -> None:
        value, error = None, None
        try:
            # A task may begin right where it is made (`asyncio.eager_task_factory`). Where signals
            # are put off there, it goes on in the loop's next turn: an agent's code may take long.
            if entered or is_on_here():
                await _PAUSE
            if not call.begin(self._now()):
                self._running.discard(call)
                return
            value = call.work(call)
            if type(value) is CoroutineType or is_awaitable(value):
                value = await value
            if type(value) not in PLAIN and call.collects and is_stream(value):
                value = await acollect(value, call.hearing())
                call.collected = True
        except BaseException as raised:  # also CancelledError, SystemExit, GeneratorExit
            error = raised
        # The app's own loop runs in its main thread as a rule, where a handler may raise right
        # here: then it is done all the same, and its error goes on to the app.
        ended: Any = (call, value, error)
        broken_off: BaseException | None = None
        while call in self._running:
            try:
                if get_ident() != DEFERRAL.thread or not DEFERRAL.run(self._ended, ended):
                    self._ended(ended)
            except BaseException as raised:
                broken_off = raised
        if error is not None and _is_apps(self._thread, error):
            broken_off = error
        try:
            if broken_off is not None:
                raise broken_off
        finally:
            # The error's traceback leads back here, and to the payload; the task has the context.
            value = error = ended = broken_off = call.handle = None

    def _ended(self, ended: tuple[Call, Any, BaseException | None]) -> bool:
        call, value, error = ended
        self._running.discard(call)
        waits = call.phase is CallPhase.WAITING
        try:
            if type(error) is GeneratorExit and waits:  # it is let go of, with its loop
                return True
            if error is not None and call.cancelled is None:
                error = _told_apart(self._thread, call, error)
                if type(error) is asyncio.CancelledError and call.cancelled is None:
                    unbegun = list(self._running)
                    asyncio.get_running_loop().call_soon(undisturbed, self._end_unbegun, unbegun)
            if error is not None and waits:  # it has not even begun
                call.broke(error)
                return True
            if call.cancelled is not None and (grace := self._graces.pop(call, None)) is not None:
                grace.cancel()  # it would keep the call, and with it the payload
            with self.guard:  # as `Call.end`, without the call
                ends = call.phase is CallPhase.RUNNING
                if ends:
                    call.phase = CallPhase.ENDED
            # Whoever has abandoned it has told its end; for an end that comes late there is `late`.
            if ends:
                call.finish(value, error)
            elif call.phase is CallPhase.DROPPED:  # by `begin`, where a handler has raised then
                call.finish(None, None)
            elif call.phase is CallPhase.ABANDONED:
                call.late()
        except BaseException as raised:
            call.broke(raised)
        return True

    def _end_unbegun(self, calls: list[Call]) -> bool:
        """Somebody's code cancels tasks that are not its own. One that had not begun by then never
        will, and nothing else would tell of it.
        """
        for call in calls:
            if call.phase is CallPhase.WAITING and call.handle is not None and call.handle.done():
                self._running.discard(call)
                call.broke(asyncio.CancelledError("its task was cancelled before it began"))
        return True

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
            self._graces[call] = Grace(self._thread.grace_s, give_up)

    def _stop(self, call: Call) -> None:
        # One that runs is abandoned, or about to be, and tells that it has ended after all. Of one
        # that has not begun nothing is told here.
        if call.phase not in (CallPhase.RUNNING, CallPhase.ABANDONED):
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
    # By its type: an agent's error may raise this very thing when it is asked for its class.
    return issubclass(type(error), KeyboardInterrupt) and thread.successor is not None


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
        grace = Grace(thread.grace_s, give_up)
        task.add_done_callback(lambda _: grace.cancel())


def run_on(
    thread: AgentLoop,
    awaitable: Awaitable[Any],
    call: Call,
    otherwise: Callable[[], Coroutine[Any, Any, None]] | None = None,
) -> Any:
    """Wait, in a worker thread, for an awaitable that a sync callable returned.

    Other than the callable, the awaitable can be cancelled, and is when the call is. `otherwise`:
    what is run, and not waited for, instead of one that is cancelled before it begins, or whose
    loop has ended before.

    It goes on in what the callable has set, and what it sets itself is there when this returns.
    """
    done, left = threading.Event(), threading.Event()
    # Taken by who comes first: the loop, which begins then, or this thread, which leaves.
    begun = threading.Lock()
    instead_of = threading.Lock()  # taken by the first loop that runs `otherwise`
    # In it once; taken out by this thread, or by the loop where this thread has left.
    outcome: deque[tuple[Any, BaseException | None]] = deque()
    tasks: list[asyncio.Task[None]] = []
    # A copy: this thread is inside of its own until this returns, and a context has one at a time.
    context = copy_context()

    async def main() -> None:
        if is_on_here():  # as in `LoopExecutor._run`; cancelled here, it has not begun
            await _PAUSE
        try:
            outcome.append((await awaitable, None))
        except BaseException as error:
            if call.cancelled is None:
                error = _told_apart(thread, call, error)
            outcome.append((None, error))
        # After the append, and this thread sets it before its last look: one sees the other.
        if left.is_set():
            await _close_unwanted(outcome)

    def begin() -> None:
        if not begun.acquire(blocking=False):
            run_instead()  # who waited has left, but the loop runs
            return
        coroutine = main()
        try:
            task = _new_task(coroutine, call.name, context)
        except BaseException as error:  # whoever waits in its thread must not wait for ever
            coroutine.close()
            outcome.append((None, error))
            done.set()
            return
        tasks.append(task)
        call.handle = task
        # Set on the loop, before the look at `cancelled` below: see `ThreadExecutor.cancel`.
        call.canceller = functools.partial(_cancel_there, thread, task, call)
        task.add_done_callback(ended)
        if call.cancelled is not None:
            _cancel_with_grace(thread, task, call)

    def ended(task: asyncio.Task[None]) -> None:
        try:
            if task.cancelled():  # before it began
                outcome.append((None, asyncio.CancelledError()))
                _close_unawaited(awaitable)
                run_instead()
        finally:
            done.set()

    def run_instead() -> None:
        if otherwise is not None and instead_of.acquire(blocking=False):
            loop = asyncio.get_running_loop()
            instead = loop.create_task(otherwise(), context=context.copy())
            _KEPT.add(instead)
            instead.add_done_callback(_KEPT.discard)

    def cut() -> None:
        # An app that winds its loop up cancels all that it finds there, but not what came later.
        while tasks:
            task = tasks.pop()
            if not task.cancelling():
                cancel_once(task)

    def leave() -> bool:
        """The loop has ended under it; whether it may still run what it has begun."""
        call.cancelled = call.cancelled or CancelReason.LOOP_ENDED
        if not begun.acquire(blocking=False):
            thread.post(cut)
            if thread.loop is not None and thread.loop.is_running():
                return True
            for task in list(tasks):
                spare_the_log(task)
            return False
        if thread.gone and thread.successor is not None:  # else the loop comes to `begin`, if ever
            thread.successor.post(run_instead)
        return False

    runs_on = posted = False
    try:
        posted = thread.post(begin)
        if not posted and thread.successor is not None:
            thread = thread.successor
            posted = thread.post(begin)
        if posted:
            thread.keep(done.set)
            done.wait()
            thread.drop(done.set)
            if not outcome:
                left.set()
                runs_on = not outcome and leave()
    finally:
        # Not while the loop may run it: closed here, it could not await what cleans up.
        if not runs_on:
            _close_unawaited(awaitable)
    go_on_in(context)
    try:
        value, error = outcome.popleft()
    except IndexError:
        closed = RuntimeError("the event loop has been closed")
        value, error = None, asyncio.CancelledError() if posted else closed
    context = Context()
    # Nothing is left to cancel there but by `cut`; these keep the task, and with it the answer.
    call.handle = call.canceller = None
    if not runs_on:
        tasks.clear()
    if error is None:
        return value
    try:
        raise error
    finally:
        del error


async def _close_unwanted(outcome: deque[tuple[Any, BaseException | None]]) -> None:
    """On the loop: whoever waited has left, perhaps without what has come at that very moment."""
    with contextlib.suppress(IndexError):
        value, _ = outcome.popleft()
        if type(value) not in PLAIN and is_stream(value):
            await aclose(value)


def _close_unawaited(awaitable: Awaitable[Any]) -> None:
    """One that never began would complain; one that has ended, not. What its clean-up raises on a
    loop that has ended says nothing: whoever waited has left.
    """
    if type(awaitable) is CoroutineType:
        with contextlib.suppress(BaseException):
            awaitable.close()
