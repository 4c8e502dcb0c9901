"""`greenroom.testing.FakeClock`: time that passes when a test says so."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass

from greenroom.actors.runtime import forks
from greenroom.messages import _validate as check
from greenroom.testing.waits import TIMEOUT_S, on_loop_hint, resolver


class FakeClock:
    """A clock that stands still until `advance`. Give it to `AgentPool.start(clock=...)`.

    Agents may wait on it as well: `sleep` (async) and `block` (in a thread) end when it is moved
    past their time. Any thread may use it.

    `advance` lets time pass in which everybody could work: whatever is due is served on time.
    `pause` lets time pass in which the process did not run, as when it was stopped by a signal or
    the lid of a laptop was closed.

    Args:
        start: what it shows at first, in seconds.

    Attributes:
        lost_s: how long all pauses together have taken.
        paused_at: when the last one ended; before any, infinitely long ago.
    """

    def __init__(self, start: float = 1000.0) -> None:
        check.number("start", start)
        self._changed = threading.Condition()
        forks.renew(self)
        self._now = start
        self.lost_s = 0.0
        self.paused_at = -math.inf
        self._wakes: list[Callable[[], None]] = []
        self._told: list[Callable[[float], object]] = []
        self._sleepers: list[_Sleeper] = []
        self._sequence = itertools.count()

    def renew_locks(self) -> None:
        """Run in a child of a fork."""
        self._changed = threading.Condition()

    def now(self) -> float:
        """Seconds, from `start`, without those of pauses."""
        return self._now

    def wall(self) -> float:
        """The same with those of pauses: this clock knows no epoch."""
        return self._now + self.lost_s

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

    def tell_pauses(self, told: Callable[[float], object]) -> None:
        """Have `told` called with the length of every `pause`."""
        with self._changed:
            self._told.append(told)

    def tell_no_more(self, told: Callable[[float], object]) -> None:
        """End what `tell_pauses` began."""
        with self._changed:
            if told in self._told:
                self._told.remove(told)

    def advance(self, seconds: float) -> None:
        """Let time pass, and wake whoever waits for a moment that has come.

        Raises:
            TypeError, ValueError: not a finite number of at least 0: time does not go back.
        """
        check.number("seconds", seconds)
        with self._changed:
            self._now += seconds
            # Woken outside of the lock: what wakes may look at the clock, or fall asleep again.
            wakes = [*self._due(), *self._wakes]
        for wake in wakes:
            wake()

    def pause(self, seconds: float) -> None:
        """Let time pass in which the process did not run.

        What pools have timed is put off by as much: `now`, their time, does not count a pause. What
        agents wait for on `sleep` and `block` does not stand still meanwhile, no more than the
        providers that they really wait for: what was due within the pause is late, at its end.

        Raises:
            TypeError, ValueError: not a finite number of at least 0.
        """
        check.number("seconds", seconds)
        with self._changed:
            self.lost_s += seconds
            if not seconds:
                return
            # `now` does not count the pause, so its begin and its end are the same moment.
            self.paused_at = self._now
            wakes, listeners = self._due(), list(self._told)
        for told in listeners:
            told(seconds)
        for wake in wakes:
            wake()

    def _due(self) -> list[Callable[[], None]]:
        """Under the lock: whom to wake, now that time has passed."""
        due = []
        while self._sleepers and self._sleepers[0].when <= self._now + self.lost_s:
            due.append(heapq.heappop(self._sleepers).wake)
        self._changed.notify_all()
        return due

    async def sleep(self, seconds: float) -> None:
        """Wait, in a coroutine, until the clock has moved that far, pauses included."""
        done = asyncio.get_running_loop().create_future()
        sleeper = self._fall_asleep(seconds, resolver(done))
        try:
            await done
        finally:
            self._forget(sleeper)

    def block(self, seconds: float) -> None:
        """Wait, in a thread, until the clock has moved that far, pauses included."""
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
                raise TimeoutError(
                    f"{len(self._sleepers)} of {n} asleep after {timeout:g} s{on_loop_hint()}"
                )

    def _fall_asleep(self, seconds: float, wake: Callable[[], None]) -> _Sleeper:
        check.number("seconds", seconds)
        with self._changed:
            sleeper = _Sleeper(self._now + self.lost_s + seconds, next(self._sequence), wake)
            # 0 seconds are over at once: nobody would move a clock for them.
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
    # Two that wake at the same moment: the first that fell asleep; functions have no order.
    sequence: int
    wake: Callable[[], None]
