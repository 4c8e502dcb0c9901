"""How long a member's calls have taken of late: can it meet a deadline? Pure."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

from greenroom.actors.policy.in_time import usual_s

KEPT = 100
"""Calls that are looked at, at most, as in the statistics."""
RECENT_S = 60.0
"""A call of this age says nothing any more: so a slow member is tried again in the end."""
FEWEST = 10
"""With fewer of them nothing is concluded."""
SHARE = 0.90


class RecentTimes:
    """The seconds that the last calls of one member have taken: those that have succeeded, and
    those that were cut short because they took too long.
    """

    __slots__ = ("_cut", "_p90", "_times", "_usual")

    def __init__(self) -> None:
        self._times: deque[tuple[float, float]] = deque(maxlen=KEPT)
        # Those that were cut short before they had taken as long as most do.
        self._cut: deque[tuple[float, float]] = deque(maxlen=KEPT)
        self._p90: float | None = None  # None: to be taken anew, as the other one
        self._usual: float | None = None

    def extend(self, at: Sequence[float], elapsed_s: Sequence[float]) -> None:
        """Take in when each of some successes was over, and how long it took."""
        self._times.extend(zip(at, elapsed_s, strict=True))
        self._p90 = self._usual = None

    def at_least(self, elapsed_s: float, now: float) -> None:
        """A call was cut short after so long: it would have taken longer. Where the usual one does,
        too, that says nothing of whether it is slow.
        """
        if elapsed_s >= (self.p90_s(now) or 0.0):
            self.extend((now,), (elapsed_s,))
        else:
            self._cut.append((now, elapsed_s))
            self._usual = None

    def forget(self) -> None:
        """What has been says nothing of what comes."""
        self._times.clear()
        self._cut.clear()
        self._p90 = self._usual = None

    def p90_s(self, now: float) -> float | None:
        """What nine of ten do not exceed; None where too few are known."""
        times = self._times
        while times and times[0][0] + RECENT_S <= now:
            times.popleft()
            self._p90 = self._usual = None
        if len(times) < FEWEST:
            return None
        if self._p90 is None:
            ordered = sorted(elapsed_s for _, elapsed_s in times)
            self._p90 = ordered[math.ceil(SHARE * len(ordered)) - 1]
        return self._p90

    def usual_s(self, now: float) -> float | None:
        """What three of four of them do not exceed, those that were cut short taken for what they
        are; None where too few are known.
        """
        if self.p90_s(now) is None:
            return None
        cut = self._cut
        while cut and cut[0][0] + RECENT_S <= now:
            cut.popleft()
            self._usual = None
        if self._usual is None:
            self._usual = usual_s([each for _, each in self._times], [each for _, each in cut])
        return self._usual

    def began(self, now: float) -> list[float]:
        """When each of them began."""
        return [at - elapsed_s for at, elapsed_s in self._times if at + RECENT_S > now]

    @property
    def longest_s(self) -> float:
        """The longest of them; 0 without any."""
        return max((elapsed_s for _, elapsed_s in self._times), default=0.0)
