"""An actor's timers: a heap whose earliest entry is the alarm of the actor's mailbox."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

AGAIN_S = 0.05
"""How many seconds an actor waits before it tries again what raised and should not."""


class HasAlarm(Protocol):
    """The part of a mailbox that timers need."""

    alarm: float | None


@dataclass(slots=True, eq=False, repr=False)
class Alarm:
    """One timer; `cancel` before its time and it does nothing.

    Attributes:
        raised: whether its action has been tried, and has raised.
    """

    _owner: Alarms
    when: float
    sequence: int
    action: Callable[[], None] | None
    raised: bool = False

    def cancel(self) -> None:
        """Forget the action at once, so that nothing it refers to is kept alive."""
        if self.action is not None:
            self.action = None
            self._owner.cancelled()

    def __lt__(self, other: Alarm) -> bool:
        return (self.when, self.sequence) < (other.when, other.sequence)


class Alarms:
    """Timers in order of their time. Cancelled ones are swept out when they are the majority."""

    def __init__(self, mailbox: HasAlarm) -> None:
        # All of this is used in the actor's turn, by whichever thread has it: so there is no lock,
        # and `cancel` must not be called from anywhere else.
        self._mailbox = mailbox
        self._heap: list[Alarm] = []
        self._cancelled = 0
        self._sequence = 0

    def __len__(self) -> int:
        return len(self._heap) - self._cancelled

    def at(self, when: float, action: Callable[[], None]) -> Alarm:
        """Call `action` in the owner's thread once it is `when`."""
        self._sequence += 1
        alarm = Alarm(self, when, self._sequence, action)
        heapq.heappush(self._heap, alarm)
        # Only a nearer one: who changes it in a borrowed turn has to wake the owner for that.
        if self._mailbox.alarm is None or when < self._mailbox.alarm:
            self._mailbox.alarm = when
        return alarm

    def cancelled(self) -> None:
        """One entry of the heap has been cancelled."""
        self._cancelled += 1
        if self._cancelled > 64 and self._cancelled * 2 > len(self._heap):
            # An action may have done so in the middle of `run_due`: that reads the new list then.
            self._heap = [alarm for alarm in self._heap if alarm.action is not None]
            heapq.heapify(self._heap)
            self._cancelled = 0

    def run_due(self, now: float) -> None:
        """Run what is due, then set the mailbox's alarm to what comes next.

        What raises is tried once more, at the next time: actions guard what they do themselves, so
        it has hardly begun; and nothing else would end what has run out of time.
        """
        try:
            while self._heap and (self._heap[0].action is None or self._heap[0].when <= now):
                alarm = heapq.heappop(self._heap)
                # Taken out before it is called: an action that cancels its own alarm, which is in
                # the heap no more, must not be counted as cancelled there.
                action, alarm.action = alarm.action, None
                if action is None:
                    self._cancelled -= 1
                    continue
                try:
                    action()
                except BaseException:
                    if not alarm.raised:
                        alarm.raised, alarm.action = True, action
                        self._sequence += 1
                        alarm.sequence = self._sequence  # behind the others of its time
                        heapq.heappush(self._heap, alarm)
                    raise
        finally:  # an action that raises must not stop the clock for the others
            self.rearm()

    def rearm(self) -> None:
        """Set the mailbox's alarm to what comes first."""
        self._mailbox.alarm = self._heap[0].when if self._heap else None
