"""The close of an agent that is lost: what it was connected to is gone, and the close may hang."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable

from greenroom.actors.runtime.event_bus import complain

CLOSE_LIMIT_S = 5.0
"""How long the close of a lost agent may take, in real time, as at the end of a member."""

Close = Callable[[Callable[[], None]], Callable[[], object]]
"""Begins a close, whose end it tells; gives what cuts it short."""


class Closing:
    """One close, which is over when it has ended or when its time is over; in whichever thread.

    Args:
        name: the member's, for the log.
        on_loop: whether a loop has to run for it.
    """

    def __init__(self, name: str, on_loop: bool) -> None:
        self.on_loop = on_loop
        self._name = name
        self._over = threading.Event()
        # Whoever takes one out calls it: `then`, or the end that it waits for.
        self._then: deque[Callable[[], object]] = deque()
        self._cut: Callable[[], object] = lambda: None
        # A thread of its own, since a member's actor has none that could keep an alarm.
        self._timer = threading.Timer(CLOSE_LIMIT_S, self._overdue)
        self._timer.daemon = True

    def begin(self, close: Close) -> None:
        """Have it done."""
        self._cut = close(self._ended)
        if not self._over.is_set():
            with contextlib.suppress(RuntimeError):  # no thread to wait in: it has all the time
                self._timer.start()
            if self._over.is_set():
                self._timer.cancel()

    def then(self, action: Callable[[], object]) -> None:
        """Have that called once it is over, or at once."""
        self._then.append(action)
        if self._over.is_set():
            self._go_on()

    def _ended(self) -> None:
        self._timer.cancel()
        self._over.set()
        self._go_on()

    def _overdue(self) -> None:
        if not self._over.is_set():
            error = TimeoutError(f"it takes more than {CLOSE_LIMIT_S:g} s")
            complain(f"closing the lost agent of {self._name} is given up", error)
            self._cut()
            self._ended()  # nobody waits for it, whether or not it has heard

    def _go_on(self) -> None:
        while True:
            try:
                action = self._then.popleft()
            except IndexError:
                return
            action()


def together(count: int, then: Callable[[], object]) -> Callable[[], None]:
    """What is to be called that many times, by any threads; the last one calls `then`."""
    left = threading.Semaphore(count - 1)

    def one() -> None:
        if not left.acquire(blocking=False):
            then()

    return one
