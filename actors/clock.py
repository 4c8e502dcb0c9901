"""The clock: the one place where a pool reads the time, so that a fake one can drive everything."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol, runtime_checkable


@runtime_checkable
class Clock(Protocol):
    """What a pool needs of a clock. Times are seconds."""

    def now(self) -> float:
        """Monotonic time."""

    def wall(self) -> float:
        """Time since the epoch, for what people read."""

    def wait_s(self, when: float) -> float | None:
        """How long to really wait until `when`; None: until the clock calls the registered wake."""

    def register(self, wake: Callable[[], None]) -> None:
        """Have `wake` called whenever time has been moved by hand."""

    def unregister(self, wake: Callable[[], None]) -> None:
        """End what `register` began."""


class SystemClock:
    """The machine's clock."""

    now = staticmethod(time.monotonic)
    wall = staticmethod(time.time)

    def wait_s(self, when: float) -> float | None:
        return when - time.monotonic()

    def register(self, wake: Callable[[], None]) -> None:
        """Nobody moves this clock by hand."""

    def unregister(self, wake: Callable[[], None]) -> None:
        """Nothing was registered."""


SYSTEM_CLOCK = SystemClock()
