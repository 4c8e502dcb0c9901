"""For tests of what is built on a pool: a clock moved by hand, and agents that follow a script."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import threading
from collections.abc import Callable


class FakeClock:
    """A clock that stands still until `advance`. Give it to `AgentPool.start(clock=...)`.

    Agents may wait on it as well: `sleep` (async) and `block` (in a thread) end when it is moved
    past their time.
    """

    def __init__(self, start: float = 1000.0) -> None:
        self._lock = threading.Lock()
        self._now = start
        self._wakes: list[Callable[[], None]] = []
        self._sleepers: list[tuple[float, int, Callable[[], None]]] = []
        self._sequence = itertools.count()

    def now(self) -> float:
        """Seconds, from `start`."""
        return self._now

    def wall(self) -> float:
        """The same: this clock knows no epoch."""
        return self._now

    def wait_s(self, when: float) -> float | None:
        """No real time passes: whoever waits is woken by `advance`."""
        return None

    def register(self, wake: Callable[[], None]) -> None:
        with self._lock:
            self._wakes.append(wake)

    def unregister(self, wake: Callable[[], None]) -> None:
        with self._lock:
            if wake in self._wakes:
                self._wakes.remove(wake)

    def advance(self, seconds: float) -> None:
        """Let time pass, and wake whoever waits for a moment that has come."""
        with self._lock:
            self._now += seconds
            due = []
            while self._sleepers and self._sleepers[0][0] <= self._now:
                due.append(heapq.heappop(self._sleepers)[2])
            wakes = list(self._wakes)
        for wake in (*due, *wakes):
            wake()

    async def sleep(self, seconds: float) -> None:
        """Wait, in a coroutine, until the clock has moved that far."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def wake() -> None:
            loop.call_soon_threadsafe(lambda: done.done() or done.set_result(None))

        self._wait(seconds, wake)
        await done

    def block(self, seconds: float) -> None:
        """Wait, in a thread, until the clock has moved that far."""
        done = threading.Event()
        self._wait(seconds, done.set)
        done.wait()

    def _wait(self, seconds: float, wake: Callable[[], None]) -> None:
        with self._lock:
            if seconds > 0:
                heapq.heappush(self._sleepers, (self._now + seconds, next(self._sequence), wake))
                return
        wake()
