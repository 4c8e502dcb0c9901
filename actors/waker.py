"""How a coroutine that waits is woken from another thread."""

from __future__ import annotations

import asyncio
import threading
from collections import deque


class Waker:
    """Ends the waits of one loop's coroutines. Any thread may wake; many share one wake-up of the
    loop, which is the dear part of it.

    (It is what `LoopThread.post` does, for loops that are somebody else's.)
    """

    __slots__ = ("_lock", "_ready", "_scheduled", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._lock = threading.Lock()
        self._ready: deque[asyncio.Future[None]] = deque()
        self._scheduled = False

    def wake(self, waiting: asyncio.Future[None]) -> None:
        """End the wait of whoever awaits that future, if it still waits."""
        with self._lock:
            self._ready.append(waiting)
            if self._scheduled:
                return
            self._scheduled = True
        try:
            self.loop.call_soon_threadsafe(self._run)
        except RuntimeError:
            return  # the loop has closed: nobody is left to hear

    def _run(self) -> None:
        with self._lock:
            ready = list(self._ready)
            self._ready.clear()
            self._scheduled = False
        for waiting in ready:
            if not waiting.done():
                waiting.set_result(None)


class Wake:
    """Ends one wait when it is called. (A partial of a method is two objects for the collector.)"""

    __slots__ = ("_waiting", "_waker")

    def __init__(self, waker: Waker, waiting: asyncio.Future[None]) -> None:
        self._waker = waker
        self._waiting = waiting

    def __call__(self) -> None:
        self._waker.wake(self._waiting)


_here = threading.local()


def wait_here() -> tuple[asyncio.Future[None], Wake]:
    """A future for the running coroutine to await, and what ends that wait from any thread."""
    loop = asyncio.get_running_loop()
    waker: Waker | None = getattr(_here, "waker", None)
    if waker is None or waker.loop is not loop:
        waker = _here.waker = Waker(loop)
    waiting: asyncio.Future[None] = loop.create_future()
    return waiting, Wake(waker, waiting)
