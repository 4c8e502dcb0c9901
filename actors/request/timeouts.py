"""One timer for the time limits of all attempts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from greenroom.actors.request.job import Attempt
from greenroom.actors.runtime.alarms import Alarm


@dataclass(slots=True, eq=False, repr=False)
class Timeouts:
    """Attempts that may all take equally long, so that the one that began first ends first.

    A timer for each would be set and cancelled for every request that goes well. The one timer here
    is set for the first attempt, and when it goes off, which is once in `limit_s` at most, it looks
    who is the first by then.

    Args:
        at: sets a timer.
        now: reads the clock.
        limit_s: seconds that an attempt may take.
        expired: told of each one that has had its time.

    Attributes:
        alarm: the timer; None while there is none.
        running: those that run. A dict as an ordered set: the first that began is the first in it,
            and any can be taken out, by a single operation of whoever sees its end.
    """

    _at: Callable[[float, Callable[[], None]], Alarm]
    _now: Callable[[], float]
    limit_s: float
    _expired: Callable[[Attempt], None]
    running: dict[Attempt, None] = field(default_factory=dict)
    alarm: Alarm | None = None

    def start(self, attempt: Attempt) -> None:
        """It has just begun: at `attempt.started_at`, which never goes back."""
        self.running[attempt] = None
        if self.alarm is None:
            self._set(attempt)

    def __contains__(self, attempt: Attempt) -> bool:
        return attempt in self.running

    def __len__(self) -> int:
        return len(self.running)

    def _set(self, first: Attempt) -> None:
        self.alarm = self._at(first.started_at + self.limit_s, self._ring)

    def _ring(self) -> None:
        now = self._now()
        try:
            while (first := next(iter(self.running), None)) is not None:
                if first.started_at + self.limit_s > now:
                    break
                # Before it is told of: it must not be met again if that raises.
                del self.running[first]
                try:
                    self._expired(first)
                except BaseException:  # it guards what it does: so nothing has been done
                    self._expired(first)
        finally:  # one that could not be ended must not keep the others from it
            # Only now: the attempts that have begun by this come behind those that still run.
            self.alarm = None
            first = next(iter(self.running), None)
            if first is not None:
                self._set(first)
