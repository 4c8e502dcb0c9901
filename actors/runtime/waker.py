"""How a loop is told of what other threads have for it: the end of a wait, or something to do.

A loop of the app's runs in its main thread as a rule, and there a signal handler may raise: at the
entry of a function, behind a call, where a loop goes round. No such error may leave the loop deaf,
or take away what is on its way to somebody else.
"""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator
from contextvars import Context
from typing import Generic, TypeVar

from greenroom.actors.runtime.thread_duties import running_loop

T = TypeVar("T")


def in_step_of(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether the running code belongs to a step of a task of that loop, which so goes round
    afterwards: nobody need wake it. Of any other code in its thread that is not known: the handler
    of a signal may have broken in on its sleep.
    """
    return running_loop() is loop and asyncio.current_task(loop) is not None


class Row(ABC, Generic[T]):
    """What any thread puts there is dealt with on one loop, in order. Many share one turn of the
    loop: to have it woken is the dear part of it.

    Whether a turn is due is written down before the loop is told, in a `try` that takes it back;
    and it is the turn that ends it, a generator's, since that is resumed inside of its `try`: a
    function may be hit at its entry, where nothing is guarded yet. Should the loop lose a turn in
    code of its own, whoever is about to wait there asks for another (`look_again`).

    Attributes:
        due: whether a turn is.
    """

    __slots__ = ("_things", "due", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.due = False
        self._things: deque[T] = deque()

    def put(self, thing: T) -> None:
        """Have it dealt with, soon.

        Raises:
            RuntimeError: the loop has been closed.
        """
        self._things.append(thing)
        # Two threads may both find none due: that is a turn too many, which finds nothing to do.
        if not self.due:  # else the turn begins after this, and finds it
            # As `_call`, without the call: there is one for each request of an async agent.
            try:
                self.due = True
                turn = self._turn()
                next(turn)
                # Without the context of here, a request's: the loop may have stopped, and keep it.
                self.loop.call_soon_threadsafe(turn.__next__, context=Context())
            except BaseException:
                self.due = False
                raise

    def look_again(self) -> None:
        """On the loop: have a turn, be it that one is due already."""
        self.loop.call_soon(self._new_turn(), context=Context())

    def empty(self) -> None:
        """On the loop: deal with all there is."""
        while self._things:
            self._deal(self._things)

    @abstractmethod
    def _deal(self, things: deque[T]) -> None:
        """Deal with the first of them, and take it out."""

    def _call(self) -> None:
        try:
            self.due = True
            self.loop.call_soon_threadsafe(self._new_turn(), context=Context())
        except BaseException:
            self.due = False
            raise

    def _new_turn(self) -> Callable[[], None]:
        turn = self._turn()
        next(turn)
        return turn.__next__

    def _turn(self) -> Generator[None, None, None]:
        try:
            yield
            self.due = False  # first: what is put from here on has a turn of its own
            while self._things:
                self._deal(self._things)
        except GeneratorExit:  # the loop was closed before
            raise
        except BaseException:
            if self._things:
                self._call()
            raise
        yield


class Waker(Row[asyncio.Future[None]]):
    """Ends the waits of one loop's coroutines."""

    __slots__ = ()

    def wake(self, waiting: asyncio.Future[None]) -> None:
        """End the wait of whoever awaits that future, if it still waits. Any thread may do so, and
        more than once.
        """
        self._things.append(waiting)  # as in `put`
        if self.due:
            return
        try:
            self._call()
        except RuntimeError:
            if not self.loop.is_closed():
                raise
            # nobody is left to hear

    def _deal(self, things: deque[asyncio.Future[None]]) -> None:
        waiting = things[0]
        if not waiting.done():
            waiting.set_result(None)
        del things[0]  # only now: it is ended twice rather than never


class Wake(tuple[Waker, "asyncio.Future[None]"]):
    """Ends one wait when it is called: that of the coroutine which awaits this future, on the loop
    of this waker. (A partial of a method is two objects for the collector; and what is no tuple is
    made by a call of its own.)
    """

    __slots__ = ()

    def __call__(self) -> None:
        # An agent on the same loop has answered: what a turn would do, without one. Written out
        # (`in_step_of`): one for every request that is awaited.
        waker, waiting = self
        loop = waker.loop
        if running_loop() is not loop or asyncio.current_task(loop) is None:
            waker.wake(waiting)
        elif not waiting.done():
            waiting.set_result(None)


_here = threading.local()


def wait_here() -> tuple[asyncio.Future[None], Callable[[], object]]:
    """A future for the running coroutine to await, and what ends that wait from any thread."""
    loop = asyncio.get_running_loop()
    # One for a thread, the loop's own: only that thread looks for it, so there is nothing to lock,
    # and a loop that has ended is let go when the thread runs another one.
    waker: Waker | None = getattr(_here, "waker", None)
    if waker is None or waker.loop is not loop:
        waker = _here.waker = Waker(loop)
    elif waker.due:
        waker.look_again()
    waiting: asyncio.Future[None] = loop.create_future()
    # mypy does not see that a tuple can be called.
    return waiting, Wake((waker, waiting))  # type: ignore[return-value]


class Bell:
    """Any thread rings it; a coroutine, one at a time, waits until it has been."""

    __slots__ = ("_has_rung", "_wake")

    def __init__(self) -> None:
        self._has_rung = False
        self._wake: Callable[[], object] | None = None

    def ring(self) -> None:
        """End the wait, or the next one."""
        self._has_rung = True
        wake = self._wake
        if wake is not None:
            wake()

    async def rung(self) -> None:
        """Wait until it has been rung since the last wait."""
        try:
            while not self._has_rung:
                waiting, self._wake = wait_here()
                # Once more: who has rung before the wake was there has woken nobody.
                if not self._has_rung:
                    await waiting
        finally:
            self._wake = None
        self._has_rung = False
