"""`greenroom.testing.FakeClock`: time that passes when a test says so."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass

from greenroom.actors import forks
from greenroom.messages import _validate as check
from greenroom.waiting import TIMEOUT_S, resolver


class FakeClock:
    """A clock that stands still until `advance`. Give it to `AgentPool.start(clock=...)`.

    Agents may wait on it as well: `sleep` (async) and `block` (in a thread) end when it is moved
    past their time. Any thread may use it.

    Args:
        start: what it shows at first, in seconds.
    """

    def __init__(self, start: float = 1000.0) -> None:
        check.number("start", start)
        self._changed = threading.Condition()
        forks.renew(self)
        self._now = start
        self._wakes: list[Callable[[], None]] = []
        self._sleepers: list[_Sleeper] = []
        self._sequence = itertools.count()

    def renew_locks(self) -> None:
        """Run in a child of a fork."""
        self._changed = threading.Condition()

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
        """Have `wake` called at every `advance`."""
        with self._changed:
            self._wakes.append(wake)

    def unregister(self, wake: Callable[[], None]) -> None:
        """End what `register` began."""
        with self._changed:
            if wake in self._wakes:
                self._wakes.remove(wake)

    def advance(self, seconds: float) -> None:
        """Let time pass, and wake whoever waits for a moment that has come.

        Raises:
            TypeError, ValueError: not a finite number of at least 0: time does not go back.
        """
        check.number("seconds", seconds)
        with self._changed:
            self._now += seconds
            due = []
            while self._sleepers and self._sleepers[0].when <= self._now:
                due.append(heapq.heappop(self._sleepers).wake)
            wakes = list(self._wakes)
            self._changed.notify_all()
        for wake in (*due, *wakes):
            wake()

    async def sleep(self, seconds: float) -> None:
        """Wait, in a coroutine, until the clock has moved that far."""
        done = asyncio.get_running_loop().create_future()
        sleeper = self._fall_asleep(seconds, resolver(done))
        try:
            await done
        finally:
            self._forget(sleeper)

    def block(self, seconds: float) -> None:
        """Wait, in a thread, until the clock has moved that far."""
        done = threading.Event()
        self._fall_asleep(seconds, done.set)
        done.wait()

    @property
    def waiting(self) -> int:
        """How many are in `sleep` or `block` right now."""
        with self._changed:
            return len(self._sleepers)

    def wait_until_sleeping(self, n: int = 1, timeout: float = TIMEOUT_S) -> None:
        """Wait until at least n are in `sleep` or `block`: then `advance` will wake them.

        Args:
            timeout: real seconds.

        Raises:
            TimeoutError: fewer are asleep.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._sleepers) >= n, timeout):
                raise TimeoutError(f"{len(self._sleepers)} of {n} asleep after {timeout:g} s")

    def _fall_asleep(self, seconds: float, wake: Callable[[], None]) -> _Sleeper:
        check.number("seconds", seconds)
        with self._changed:
            sleeper = _Sleeper(self._now + seconds, next(self._sequence), wake)
            if seconds > 0:
                heapq.heappush(self._sleepers, sleeper)
                self._changed.notify_all()
                return sleeper
        wake()
        return sleeper

    def _forget(self, sleeper: _Sleeper) -> None:
        with self._changed:
            if sleeper in self._sleepers:
                self._sleepers.remove(sleeper)
                heapq.heapify(self._sleepers)
                self._changed.notify_all()

    def __repr__(self) -> str:
        return f"FakeClock(now={self._now:g}, waiting={self.waiting})"


@dataclass(frozen=True, slots=True, order=True)
class _Sleeper:
    when: float
    sequence: int
    wake: Callable[[], None]
