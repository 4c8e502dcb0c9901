"""Cutting short a piece of a task that is not one's own, in the manner of `asyncio.timeout`."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable


class TaskCut:
    """From its making to its `close` the running task can be cut short, by one cancellation.

    That is taken back where the piece is left, so that whoever else has the task cancelled (a
    `timeout` around it, a task group) is neither answered in its place nor overlooked.

    Attributes:
        paused: whether the task is in code of somebody else's, which is not cut: it is for who sets
            this to look at the end of the pause whether it shall go on.

    Raises:
        RuntimeError: no task runs here.
    """

    __slots__ = ("_before", "_cut", "_loop", "_open", "_task", "_told", "paused")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("an attempt must be entered in a task of the running loop")
        # Weakly: the pool holds this for as long as the piece lasts, and a task that nobody else
        # holds any more has left it.
        self._task = weakref.ref(task)
        self._before = task.cancelling()
        self._open = True
        self._cut = self._told = False
        self.paused = False

    @property
    def has_cut(self) -> bool:
        """Whether it has cancelled the task."""
        return self._cut

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop that runs it."""
        return self._loop

    def cut(self, then: Callable[[], object]) -> bool:
        """Cut it short, soon, unless it has been left by then; any thread may do so. False where
        its loop has closed.

        Args:
            then: called on its loop, right before.
        """
        try:
            self._loop.call_soon_threadsafe(self._cut_here, then)
        except RuntimeError:
            if not self._loop.is_closed():
                raise
            return False
        return True

    def _cut_here(self, then: Callable[[], object]) -> None:
        # The loop runs this between two steps of the task: so it is inside, and hears of it there.
        if self._open:
            then()
            task = self._task()
            if task is not None and not self.paused and not self._told:
                self._told = self._cut = True
                task.cancel()

    def resume(self, told: bool) -> None:
        """The pause is over.

        Args:
            told: whether it is told here that it shall end: then it is not cut any more.
        """
        self.paused = False
        self._told = self._told or told

    def forget(self) -> None:
        """Nobody will ever leave it; from a finalizer, in whatever thread."""
        self._open = False

    def close(self, error: BaseException | None) -> bool:
        """It has been left, by that error if there is one; whether somebody else has the task
        cancelled, too.
        """
        self._open = False
        cancelled = is_cancellation(error)
        try:
            task = asyncio.current_task()
        except RuntimeError:  # a generator is closed where no loop runs
            task = None
        if task is None or task is not self._task():
            return cancelled
        left = task.uncancel() if self._cut else task.cancelling()
        return cancelled and left > self._before


def is_cancellation(error: BaseException | None) -> bool:
    """Whether it ends a task by somebody's wish."""
    # By its type: an agent's error may raise at any look.
    return issubclass(type(error), asyncio.CancelledError)
