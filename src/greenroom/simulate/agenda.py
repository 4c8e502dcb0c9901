"""The agenda of a simulation: what is still to happen, and what time it is."""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable
from typing import Any

from greenroom.actors.runtime.alarms import Alarms

Action = Callable[[Any], object]


class Agenda:
    """Events in the order of their time; those of one moment in the order in which they were put,
    but for alarms, which come first, as they do in an actor's mailbox.

    What one actor of a pool would tell another by what happens takes no time, and is heard before
    anything else happens: that is put with `soon`.

    There is no way to take out what was put with `at`: whoever gets it looks whether it still means
    something. An alarm can be cancelled.

    Attributes:
        now: seconds since the start of the simulation.
        alarms: the timers of the pool.
        alarm: when the first of them goes off; set by `alarms`.
    """

    __slots__ = ("_heap", "_numbers", "_soon", "alarm", "alarms", "now")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Action, Any]] = []
        self._numbers = itertools.count()
        self._soon: deque[tuple[Action, Any]] = deque()
        self.now = 0.0
        self.alarm: float | None = None
        self.alarms = Alarms(self)

    def at(self, when: float, action: Action, subject: Any = None) -> None:
        """Have `action(subject)` called at `when`, in seconds, not before now."""
        heapq.heappush(self._heap, (when, next(self._numbers), action, subject))

    def soon(self, action: Action, subject: Any) -> None:
        """Have `action(subject)` called when all that was put like this before has been."""
        self._soon.append((action, subject))

    def run(self, until: float = math.inf) -> None:
        """Let everything happen, until nothing is left, or all else would happen later."""
        heap, soon, pop = self._heap, self._soon, heapq.heappop
        while True:
            while soon:
                action, subject = soon.popleft()
                action(subject)
            alarm = self.alarm
            if heap and (alarm is None or heap[0][0] < alarm):
                if heap[0][0] > until:
                    return
                self.now, _, action, subject = pop(heap)
                action(subject)
            elif alarm is not None and alarm <= until:
                # An alarm may have been set for a time that has gone
                # by: time does not go back for it.
                if alarm > self.now:
                    self.now = alarm
                self.alarms.run_due(self.now)
            else:
                return
