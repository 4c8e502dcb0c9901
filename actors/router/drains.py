"""Who waits for the pool to have nothing left to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from greenroom.actors.runtime.alarms import Alarm, Alarms
from greenroom.actors.runtime.clock import Clock
from greenroom.actors.runtime.event_bus import EventBus
from greenroom.actors.runtime.future import PoolFuture
from greenroom.messages.events import PoolDrained, PoolDraining, PoolDrainTimedOut

TOLD_EVERY_S = 10.0
"""How often it is told how much is left of a drain."""


class Drains:
    """The drains under way, and what is told of them.

    Args:
        left: how many requests are under way.

    Attributes:
        failed: whether requests had to be failed instead of finished.
    """

    def __init__(
        self, pool: str, bus: EventBus, clock: Clock, alarms: Alarms, left: Callable[[], int]
    ) -> None:
        self.failed = False
        self._pool = pool
        self._bus = bus
        self._clock = clock
        self._alarms = alarms
        self._left = left
        self._futures: list[PoolFuture[Any]] = []
        self._began_at: float | None = None
        self._ended = False
        self._alarm: Alarm | None = None

    def begin(self, timeout_s: float | None) -> None:
        """The pool takes no more requests from now on; told once, whoever else drains it."""
        if self._began_at is not None:
            return
        self._began_at = self._clock.now()
        self._bus.emit(PoolDraining(pool=self._pool, left=self._left(), timeout_s=timeout_s))
        self._alarm = self._alarms.at(self._began_at + TOLD_EVERY_S, self._tell)

    def _tell(self) -> None:
        if self._ended or self._began_at is None:
            return
        now = self._clock.now()
        elapsed_s = now - self._began_at
        self._bus.emit(PoolDraining(pool=self._pool, left=self._left(), elapsed_s=elapsed_s))
        self._alarm = self._alarms.at(now + TOLD_EVERY_S, self._tell)

    def timed_out(self, timeout_s: float) -> None:
        """What is left is about to be failed."""
        self.failed = True
        self._end()
        self._bus.emit(PoolDrainTimedOut(pool=self._pool, failed=self._left(), timeout_s=timeout_s))

    def cut_off(self) -> None:
        """The pool ends, drained or not: that is told by another event."""
        self._end()

    def _end(self) -> None:
        self._ended = True
        if self._alarm is not None:
            self._alarm.cancel()

    def add(self, future: PoolFuture[Any] | None) -> None:
        """One more wants to know; None for a tell, that does not."""
        if future is not None:
            self._futures.append(future)

    def done(self) -> None:
        """There is nothing left to do."""
        if self._began_at is not None and not self._ended:
            self._end()
            elapsed_s = self._clock.now() - self._began_at
            self._bus.emit(PoolDrained(pool=self._pool, elapsed_s=elapsed_s))
        # Taken away first: it is called anew by every request that ends once the pool is closed.
        futures, self._futures = self._futures, []
        for future in futures:
            future.resolve(not self.failed)
