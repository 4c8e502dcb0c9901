"""How many calls at a time a member bears, found out from how they end. Pure: `now` is given.

Too few leave a provider idle, too many only wait in its own queue, or are refused. Nobody tells the
number, and it changes. It shows in how long answers take, and in refusals.

The gradient is Netflix's (`concurrency-limits`, `Gradient2Limit`): the limit times what an answer
takes without a queue by what it takes now, and headroom of its root. What an answer takes without a
queue is not that one's, though: the average of a longer time has the queue in it that the limit
itself has made. With eight servers and callers without end answers took 18 times as long as they
must. Nor is it the shortest ever seen, as in Vegas: of lengths that vary (lognormal, sigma 1.0) the
luckiest are taken for what all should be, and a fifth got through of what could have; a model that
became three times slower for good was left with a third. It is the least of the last windows here,
and is measured anew with a low limit when it has become old, as BBR does it. That got 93 % and more
of what the servers can do through in each of these, and answers took two to three times as long as
they must, under callers without end. The comparison is `tests/policy/test_concurrency_limit.py`.
"""

from __future__ import annotations

import math

FLOOR = 1.0
START = 4.0
TOLERANCE = 1.5
"""So much longer than without a queue may answers take: below that their lengths just vary."""
LEAST_SAMPLES = 16
OLD_AFTER = 30
"""Windows after which what an answer takes without a queue is measured anew."""
_SMOOTHING = 0.2
_STEEPEST = 0.5
_GROWTH = 1.5
_CUT = 0.85
_NEAR = 0.8
_SLOWLY = 20.0
_QUICK_S = 0.001
"""Answers that are quicker are as good as each other: what lies between them is the scheduler's, or
that of a clock which ticks more slowly than they come (0 s, every 16 ms on Windows).
"""
_BELOW = 1.25
"""By so much the limit is lower than what runs without a queue, while that is measured: or what was
measured with a queue once would be so for good.
"""


class ConcurrencyLimit:
    """The calls at a time that a member is given: 1 at least, a ceiling at most.

    Answers are looked at in windows of as many as the limit is, 16 at least. It grows only after a
    window in which it was reached: load that does not use it does not widen it. It grows by half
    a window until the first sign that it is too much. A refusal cuts it by a seventh (AIMD), once
    for all calls that had begun by then; close to where that was it grows by one a window, or less.

    Args:
        ceiling: the most it may be.
    """

    __slots__ = (
        "_age", "_base_s", "_count", "_cut_at", "_drains", "_held", "_limit", "_most", "_settles",
        "_sum_s", "_unhurt", "_wall", "ceiling",
    )  # fmt: skip

    def __init__(self, ceiling: int) -> None:
        self.ceiling = ceiling
        self._limit = min(START, float(ceiling))
        self._unhurt = True  # nothing has said yet that it is too much
        self._wall = math.inf  # where a refusal has come
        self._cut_at = -math.inf
        self._base_s: float | None = None
        self._age = 0
        # While it is measured anew: what the limit was, and whether more run than may by now; then
        # there is a window with answers in it that have waited in the old queue.
        self._held: float | None = None
        self._drains = self._settles = False
        # The window: the answers' times and their number, and how many calls ran at most.
        self._sum_s, self._count, self._most = 0.0, 0, 0

    @property
    def limit(self) -> int:
        """How many calls may run at a time."""
        return int(self._limit)

    @property
    def base_s(self) -> float | None:
        """What an answer takes without a queue, in seconds; None before the first window."""
        return self._base_s

    def answered(self, elapsed_s: float, in_flight: int) -> None:
        """A call has succeeded after `elapsed_s` seconds.

        Args:
            in_flight: how many ran when it ended, itself included.
        """
        if self._drains and in_flight > self.limit:
            return
        self._drains = False
        self._sum_s += elapsed_s
        self._count += 1
        self._most = max(self._most, in_flight)
        if self._count < max(LEAST_SAMPLES, self.limit):
            return
        mean_s = max(_QUICK_S, self._sum_s / self._count)
        reached = self._most >= self.limit
        self._new_window()
        self._limit = min(float(self.ceiling), max(FLOOR, self._next(mean_s, reached)))

    def refused(self, began: float, now: float) -> None:
        """A call that began at `began` was refused at `now`: throttled, or it has timed out."""
        # All that were on their way when it was cut are of the same burst.
        if began <= self._cut_at:
            return
        self._cut_at, self._unhurt = now, False
        before = self._limit if self._held is None else self._held
        self._wall, self._held, self._drains = before, None, False
        self._limit = max(FLOOR, before * _CUT)
        self._new_window()

    def configure(self, ceiling: int) -> None:
        """Have another ceiling."""
        self.ceiling = ceiling
        self._limit = min(self._limit, float(ceiling))
        if self._held is not None:
            self._held = min(self._held, float(ceiling))

    def _new_window(self) -> None:
        self._sum_s, self._count, self._most = 0.0, 0, 0

    def _next(self, mean_s: float, reached: bool) -> float:
        """The limit after a window."""
        if self._held is not None:
            return self._measured(mean_s, self._held)
        self._age += 1
        if self._base_s is None or mean_s < self._base_s:
            self._base_s, self._age = mean_s, 0
        # Without a queue that it could have made there is nothing to be measured anew.
        if self._age >= OLD_AFTER and self._limit > FLOOR:
            self._held, self._drains, self._settles = self._limit, True, True
            return self._limit * self._base_s / mean_s / _BELOW
        gradient = max(_STEEPEST, min(1.0, TOLERANCE * self._base_s / mean_s))
        if gradient < 1.0:
            self._unhurt = False
        wanted = self._limit * gradient + math.sqrt(self._limit)
        if self._unhurt:
            wanted = self._limit * _GROWTH
        else:
            wanted = self._limit + _SMOOTHING * (wanted - self._limit)
        if wanted <= self._limit:
            return wanted
        return min(wanted, self._step()) if reached else self._limit

    def _measured(self, mean_s: float, held: float) -> float:
        if self._settles:
            self._settles = False
            return self._limit
        self._base_s, self._age, self._held = mean_s, 0, None
        return held

    def _step(self) -> float:
        """The most it may grow to in a window."""
        if self._limit > self._wall:  # it is there no more
            self._wall = math.inf
        if self._limit < _NEAR * self._wall:
            return math.inf
        return self._limit + min(1.0, self._limit / _SLOWLY)

    def __repr__(self) -> str:
        base = "" if self._base_s is None else f", {self._base_s:.3f} s without a queue"
        return f"<ConcurrencyLimit {self.limit} of {self.ceiling}{base}>"
