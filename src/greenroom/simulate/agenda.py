"""The agenda of a simulation: what is still to happen, and what time it is."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from typing import Any

Action = Callable[[Any], None]


class Agenda:
    """Events in the order of their time; those of one moment in the order in which they were put.

    There is no way to take an event out: whoever gets one looks whether it still means something.

    Attributes:
        now: seconds since the start of the simulation.
    """

    __slots__ = ("_heap", "_numbers", "now")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Action, Any]] = []
        self._numbers = itertools.count()
        self.now = 0.0

    def at(self, when: float, action: Action, subject: Any = None) -> None:
        """Have `action(subject)` called at `when`, in seconds, not before now."""
        heapq.heappush(self._heap, (when, next(self._numbers), action, subject))

    def run(self) -> None:
        """Let everything happen, until nothing is left."""
        heap, pop = self._heap, heapq.heappop
        while heap:
            self.now, _, action, subject = pop(heap)
            action(subject)
