"""The thread in which what has ended is told: exporters and hooks may take their time there."""

from __future__ import annotations

import atexit
import contextlib
import queue
import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

from greenroom.actors.runtime import forks
from greenroom.actors.runtime.event_bus import complain
from greenroom.actors.runtime.thread_duties import HERE, Duty, ThreadRole
from greenroom.otel.telemetry import Flushed, flush_each

BACKLOG = 10_000
"""How many ends may wait for slow exporters; what comes on top is not told, which is said once."""
PACE_S = 0.1
"""How long what has ended may wait for more to come: its thread is woken for many at once."""
LOOK_S = 1.0
"""While requests are open, how often the router is woken to read of ends that lie aside."""
CLOSE_TIMEOUT_S = 2.0
"""How long the end of a pool, and of the process, waits for exporters and hooks."""


class Backlog:
    """What is to be told, and the thread that tells it.

    Args:
        pool: the pool's name.
        tell: tells of one; called in the thread alone.
        is_open: whether there is anything of which the end is still to come.
        look: has the pool say what it has not said yet; it must not wait.
    """

    def __init__(
        self,
        pool: str,
        tell: Callable[[Any], object],
        is_open: Callable[[], bool],
        look: Callable[[], object],
    ) -> None:
        self._pool = pool
        self._tell = tell
        self._is_open = is_open
        self._look = look
        self._waiting: deque[Any] = deque()
        self._asleep = False
        self._ended = False
        self._full = False
        # As in `Mailbox`: its `put` may come in the middle of another one of the same thread.
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._hurry = threading.Event()
        self._born = forks.generation
        self._thread = threading.Thread(
            target=self._run, name=f"greenroom-telemetry-{pool}", daemon=True
        )

    def start(self, duty_of: str) -> None:
        """Begin to tell.

        Args:
            duty_of: the urn of the pool's router, for who waits in this thread.

        Raises:
            RuntimeError: the system gives no thread.
        """
        self._duty = Duty(duty_of, ThreadRole.EVENTS)
        self._thread.start()

    def put(self, ended: Any) -> None:
        """Have it told soon. Whoever has the router's turn does this: nothing waits here."""
        if self._ended:
            return
        waiting = self._waiting
        if len(waiting) >= BACKLOG:
            if not self._full:
                self._full = True
                behind = RuntimeError(f"{BACKLOG} ends wait for an exporter that does not return")
                complain(f"pool {self._pool!r}: telemetry is being dropped", behind)
            return
        # First put, then look who sleeps; the thread says that it sleeps first, and looks then.
        waiting.append(ended)
        if self._asleep:
            self._bell.put(None)

    def is_here(self) -> bool:
        """Whether this is the thread that tells."""
        return self._thread is threading.current_thread()

    def mark(self, told: threading.Event) -> None:
        """Have it set once all that was put before has been told; nothing waits here."""
        if self._born != forks.generation or not self._thread.is_alive():
            told.set()
            return
        self._waiting.append(told)
        self._hurry.set()
        self._bell.put(None)

    def close(self) -> None:
        """Tell what there is and end; a thread that is stuck is left behind."""
        if self._born != forks.generation:
            return
        self._ended = True
        self._hurry.set()
        self._bell.put(None)
        if self._thread is not threading.current_thread() and self._thread.ident is not None:
            self._thread.join(CLOSE_TIMEOUT_S)

    def _run(self) -> None:
        HERE.duty = self._duty
        while True:
            try:
                self._sleep()
                told = self._tell_all()
                if self._ended:
                    self._tell_all()  # what came between the last look and the mark
                    return
                # Where something ends, more does: what lies aside is read before that.
                if not told and self._is_open():
                    self._look()
            except BaseException as error:  # the next ones are told all the same
                complain(f"pool {self._pool!r}: telemetry goes on", error)

    def _sleep(self) -> None:
        self._asleep = True
        if not self._waiting and not self._ended:
            with contextlib.suppress(queue.Empty):
                self._bell.get(timeout=LOOK_S if self._is_open() else None)
        self._asleep = False
        while not self._bell.empty():
            self._bell.get()
        if self._waiting and not self._ended:
            self._hurry.wait(PACE_S)
        self._hurry.clear()

    def _tell_all(self) -> int:
        """Tell all that there is; how much that was."""
        waiting, told = self._waiting, 0
        while waiting:
            ended = waiting.popleft()
            told += 1
            if isinstance(ended, threading.Event):
                ended.set()
                continue
            try:
                self._tell(ended)
            except BaseException as error:  # the others are told all the same
                complain(f"pool {self._pool!r}: something could not be told", error)
        self._full = False
        return told


_told_at_exit: weakref.WeakSet[Flushed] = weakref.WeakSet()


def _flush_all() -> None:
    """The process ends, and after this the exporters, if they were made before."""
    with contextlib.suppress(BaseException):
        flush_each(list(_told_at_exit), CLOSE_TIMEOUT_S)


def tell_at_exit(pool: Flushed) -> None:
    """Have all told of a pool that the end of the process finds running. What its router has not
    read yet is a part of that: so it is the pool that is flushed, not its backlog.
    """
    _told_at_exit.add(pool)
    be_first_at_exit()


def told_all(pool: Flushed) -> None:
    """It has ended: the end of the process need not wait for it."""
    _told_at_exit.discard(pool)


def be_first_at_exit() -> None:
    """Have all told before the providers that there are by now have their end: what is registered
    last is run first.
    """
    atexit.unregister(_flush_all)
    atexit.register(_flush_all)
