"""The event loop that the app runs itself, as a place where agents run."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Protocol

from greenroom.actors.runtime.event_bus import complain
from greenroom.actors.runtime.loop_thread import Actions, Begin, KnowsSilence, LoopThread
from greenroom.actors.runtime.thread_duties import (
    Held,
    Need,
    at_home,
    left_home,
    running_loop,
)
from greenroom.messages.errors import ResourceError

_IDLE_LOOKS = 2
"""Looks at a loop that nobody runs until it counts as ended, where something waits for it."""

_CANCELS_ALL: CodeType | None = getattr(
    getattr(asyncio.runners, "_cancel_all_tasks", None), "__code__", None
)

_WHERE = "the thread of the event loop that its agents run on"
_HINT = (
    "await what ask(..., block=False) returns, read streams by async for, or wait in another "
    "thread; PoolConfig(event_loop='own') gives the agents a loop of their own"
)


class Guest(Protocol):
    """Who may run something on the loop."""

    @property
    def busy(self) -> bool:
        """Whether anything of it runs there; asked on the loop."""

    @property
    def lives_there(self) -> bool:
        """Whether its calls run on a loop, or may, as far as is known."""

    @property
    def closes_there(self) -> bool:
        """Whether its agent is closed on a loop, or may be."""

    def works_for(self, request: tuple[str, str]) -> bool:
        """Whether a call of it was asked for by an attempt of that request of another pool."""


class HomeLoop:
    """The app's own loop, with what a `LoopThread` has; it is run, stopped and closed by the app.

    Nothing of it is changed: no exception handler, no task factory, no task but the pool's own. A
    loop that has been closed, or that nobody runs while something is to be done there, has ended:
    it takes nothing more, and what lives there goes on elsewhere.

    Args:
        loop: it runs in this thread.
        successor: where the agents go once it has ended.
        on_start: told when it gets its first work; must not wait.
        on_end: told when it has ended, from whichever thread finds out; must not wait.
        grace_s: how long what is cancelled there may clean up.
        pool: the urn of the router whose pool it is for.

    Attributes:
        heartbeat: knows whether it answers; set by the supervisor once it watches the loop.
        lost: whether nobody waits for it any more.
        gone: whether it has ended before the pool.
        floor: the code that runs what runs on it.
    """

    def __init__(
        self,
        name: str,
        loop: asyncio.AbstractEventLoop,
        successor: LoopThread,
        on_start: Callable[[], object] = lambda: None,
        on_end: Callable[[], object] = lambda: None,
        grace_s: float = 1.0,
        pool: str = "",
    ) -> None:
        self.name = name
        self.loop = loop
        self.ident: int | None = threading.get_ident()
        self.successor = successor
        self.grace_s = grace_s
        self.heartbeat: KnowsSilence | None = None
        self.lost = self.gone = False
        self.floor: CodeType | None = None
        self._pool = pool
        self._on_start = on_start
        self._on_end = on_end
        self._actions = Actions(loop, name, (KeyboardInterrupt,))
        self._lock = threading.Lock()
        self._begun = self._closing = False
        self._idle_looks = 0
        self._waits: set[Callable[[], object]] = set()
        # Any thread adds and takes, in single operations of a set.
        self._guests: set[Guest] = set()
        at_home(loop, pool, self)

    def here(self) -> bool:
        """Whether this very thread runs it right now."""
        return running_loop() is self.loop

    @property
    def stalled(self) -> bool:
        """Whether the supervisor has found that it does not answer, or it has ended. Any thread may
        ask.
        """
        if self.gone:
            return not self.loop.is_running()
        return self.heartbeat is not None and self.heartbeat.stalled

    @property
    def ended(self) -> bool:
        """Whether it takes nothing more."""
        return self._closing

    def post(self, action: Callable[[], object]) -> bool:
        """Run `action` on the loop, soon; False when it has ended, or the pool has. What is not
        the begin of something (a cancellation) is done all the same, should the loop run again.
        """
        # Whoever runs it need not be asked whether it runs.
        if self._closing or not (self.here() or self.loop.is_running()):
            self.end()
            if type(action) is not Begin:
                with contextlib.suppress(RuntimeError):
                    self._actions.put(action)
            return False
        try:
            if not self._begun:
                self._begin()
            self._actions.put(action)
        except RuntimeError:
            if not self.loop.is_closed():  # else it has been closed since
                raise
            self.end()
            return False
        return True

    def begins_here(self) -> bool:
        """Whether the running code may begin a task there without `post`: nothing of the task's own
        runs before that code has gone on.
        """
        loop = self.loop
        if not self._begun or self._closing or running_loop() is not loop or self._actions.due:
            return False  # what others have posted comes first
        # As `in_step_of`, without the call: asked for every request.
        return asyncio.current_task(loop) is not None and loop.get_task_factory() is None

    def _begin(self) -> None:
        with self._lock:
            begun, self._begun = self._begun, True
        if begun:
            return
        self._actions.put(self._note_floor)
        try:
            self._on_start()
        except BaseException as error:
            complain(f"nobody was told that {self.name} has work", error)

    def _note_floor(self) -> None:
        # A loop in C shows no frames of its own: what is below this row's is what runs the loop.
        frame: FrameType | None = sys._getframe()
        while frame is not None and frame.f_globals.get("__name__", "").startswith("greenroom."):
            frame = frame.f_back
        self.floor = None if frame is None else frame.f_code

    # -- its end

    def end(self) -> None:
        """It has ended: what was to begin there is told so, and so is `on_end`, once."""
        with self._lock:
            already, self._closing = self._closing, True
        if already:
            return
        self.gone = True
        left_home(self.loop, self._pool)
        for begin in self._actions.take_begins():
            try:
                begin.broke(ResourceError(f"{self.name} has ended"))
            except BaseException as error:  # the others were posted by somebody else
                complain(f"what was to begin on {self.name} could not be told", error)
        for leave in list(self._waits):
            leave()
        self._on_end()

    def close(self, *, wait: bool = True) -> None:
        """The pool has ended. What it had there has been cancelled; the loop is not its own."""
        with self._lock:
            self._closing = True
        left_home(self.loop, self._pool)
        # The loop may close before it comes to what a thread still waits for.
        for leave in list(self._waits):
            leave()
        self.successor.close(wait=wait)

    def abandon(self) -> None:
        """It does not answer, and the pool ends: nobody waits for it any more."""
        self.lost = True

    def winds_up(self) -> bool:
        """On the loop, where a task has been cancelled that nobody of the pool's has cancelled:
        whether the app has cancelled all that runs there. Where it does so to close the loop, that
        has ended from here on.
        """
        # None, too, where the coroutine is thrown away with a loop that has closed.
        current = asyncio.current_task() if self.here() else None
        if current is None or not current.cancelling():
            return False
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and _CANCELS_ALL is not None:
            if frame.f_code is _CANCELS_ALL:
                self.end()
                return True
            frame = frame.f_back
        others = asyncio.all_tasks() - {current}
        return bool(others) and all(each.cancelling() for each in others)

    def can_answer(self) -> bool:
        """Asked at every look at it: whether it runs. One that does not is not silent."""
        if self.loop.is_closed():
            self.end()
        if self.loop.is_running():
            self._idle_looks = 0
            return True
        # Not at the first look: an app that runs it again and again has pauses in between.
        self._idle_looks += 1
        if self._idle_looks >= _IDLE_LOOKS and any(guest.busy for guest in list(self._guests)):
            self.end()
        return False

    def keep(self, leave: Callable[[], object]) -> None:
        """A thread waits for the loop: `leave` ends that, should the loop or the pool end."""
        self._waits.add(leave)
        if self._closing:
            leave()

    def drop(self, leave: Callable[[], object]) -> None:
        """End what `keep` began."""
        self._waits.discard(leave)

    # -- who lives there

    def lodge(self, guest: Guest) -> None:
        """It may run something there from now on."""
        self._guests.add(guest)

    def forget(self, guest: Guest) -> None:
        """It runs nothing there, or nothing any more."""
        self._guests.discard(guest)

    def held(self) -> Held:
        """Asked in the thread that runs it: what cannot be had while that thread waits."""
        guests = list(self._guests)
        needs = {Need.LOOP}
        if any(guest.lives_there for guest in guests):
            needs.add(Need.WORK)
        if any(guest.busy or guest.closes_there for guest in guests):
            needs.add(Need.END)
        return Held(self._pool, _WHERE, frozenset(needs), _HINT)

    def works_for(self, request: tuple[str, str]) -> bool:
        """Whether what runs there was asked for by an attempt of that request of another pool."""
        return any(guest.works_for(request) for guest in list(self._guests))
