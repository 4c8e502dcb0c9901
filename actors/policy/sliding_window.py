"""How much may begin in any window of time: a sliding log, exact by construction. Pure.

A token bucket of the same size lets twice the limit through in one window (a full bucket, and then
its refill), as a fixed window does at its boundary. A log of what has begun lets nothing through
that would be too much in any window of that length, whatever its beginning.
"""

from __future__ import annotations

from collections import deque

KEPT_ONE_BY_ONE = 1024
"""So many entries stand for one call each. Where there are more, those that begin in the same slice
of time, a 1,024th of the window, are one entry that ends with the last of them: so much later, at
most, does what the first of them took come back, and never too early.
"""


class Entry:
    """What has begun at a time, or in a slice of time.

    Attributes:
        since, at: when the first and the last of it began.
        cost: how much it is altogether.
        counts: whether it is still in the window.
    """

    __slots__ = ("at", "cost", "counts", "since")

    def __init__(self, now: float, cost: int) -> None:
        self.since = self.at = now
        self.cost = cost
        self.counts = True


class SlidingWindow:
    """What has begun in the last `per_s` seconds, of which there may be no more than `amount`.

    What begins at `t` counts up to `t + per_s`, and no more from then on. All amounts are whole
    numbers, so sums never drift. The entries are 2,048 at most, and each is looked at twice: when
    it comes and when it goes.
    """

    __slots__ = ("_log", "amount", "per_s", "used")

    def __init__(self, amount: int, per_s: float) -> None:
        self.amount = amount
        self.per_s = per_s
        self.used = 0
        self._log: deque[Entry] = deque()

    def __len__(self) -> int:
        return len(self._log)

    def headroom(self, now: float) -> int:
        """How much may begin now; below 0 where calls have taken more than they had reserved."""
        log = self._log
        while log and log[0].at + self.per_s <= now:
            entry = log.popleft()
            entry.counts = False
            self.used -= entry.cost
        return self.amount - self.used

    def take(self, cost: int, now: float) -> Entry:
        """Something begins. To be asked before: `headroom`."""
        log = self._log
        last = log[-1] if log else None
        if last is not None and now <= last.at:
            last.cost += cost  # no later than the last one: they go together in any case
        elif (
            last is not None
            and len(log) >= KEPT_ONE_BY_ONE
            and now - last.since < self.per_s / KEPT_ONE_BY_ONE
        ):
            last.at = now
            last.cost += cost
        else:
            last = Entry(now, cost)
            log.append(last)
        self.used += cost
        return last

    def change(self, entry: Entry, by: int) -> None:
        """What has begun then took so much more, or less. What has left the window is over."""
        if entry.counts:
            entry.cost += by
            self.used += by

    def free_at(self, cost: int, now: float) -> float | None:
        """When so much may begin, if nothing else does before; None: never."""
        if cost > self.amount:
            return None
        lacking = cost - self.headroom(now)
        if lacking <= 0:
            return now
        for entry in self._log:
            lacking -= entry.cost
            if lacking <= 0:
                return entry.at + self.per_s
        return now  # not reached: all that is used stands in the log

    def __repr__(self) -> str:
        return f"<SlidingWindow {self.used}/{self.amount} per {self.per_s:g} s>"
