"""What a provider's headers say of a limit: how much is left, and how it comes back. Pure."""

from __future__ import annotations

import math

LONGEST_S = 86_400.0
"""A reset that is further away is not believed."""

_ABOUT = 1e-6
"""By less than that two ways to reckon a level differ."""


class LearnedLimit:
    """How much is left of a limit, as a provider has said, less what has begun since.

    Where it has said the whole, too, that comes back evenly, as OpenAI's and Anthropic's limits do
    (both are token buckets); so it goes on past the time of its reset, which is only when it would
    be full. Else nothing comes back before the reset, and from then on nothing is known.

    Args:
        remaining: how much is left, as the provider has seen it.
        resets_in_s: seconds until it is whole again.
        whole: how much that is; None if nobody says.
        since: what has begun meanwhile, of which the provider may not know yet.
        mark: what had begun until the call that brings this, as the counter of its bucket has it.
        among: how many processes use it: each has an equal part of what is left, and of what comes
            back, until the next word of the provider.
    """

    __slots__ = ("_at", "_level", "_most", "_rate", "mark", "until", "whole")

    def __init__(
        self,
        remaining: int,
        resets_in_s: float,
        whole: int | None,
        *,
        since: int,
        mark: int,
        now: float,
        among: int = 1,
    ) -> None:
        resets_in_s = min(resets_in_s, LONGEST_S)
        self.whole = whole
        self.mark = mark
        self.until = now + resets_in_s
        self._at = now
        self._level = float(remaining // among - since)
        self._rate = 0.0
        self._most = math.inf if whole is None else max(1.0, whole / among)
        if whole is not None and resets_in_s > 0 and whole > remaining:
            self._rate = (whole - remaining) / resets_in_s / among

    def headroom(self, now: float) -> float:
        """How much may begin now; infinite where that is not known any more."""
        if self._rate:
            return min(self._most, self._level + self._rate * (now - self._at))
        return math.inf if now >= self.until else self._level

    def take(self, cost: int, now: float) -> None:
        """Something begins."""
        if self._rate:
            self._level = self.headroom(now)
            self._at = max(now, self._at)
        self._level -= cost

    def change(self, by: int) -> None:
        """What has begun since took so much more, or less."""
        self._level -= by

    def allows(self, cost: int, now: float) -> bool:
        """Whether so much may begin now. What is more than the whole begins with a full one: the
        provider has the last word on that.
        """
        return self.headroom(now) >= self._need(cost) - _ABOUT

    def free_at(self, cost: int, now: float) -> float:
        """When so much may begin, if nothing else does before."""
        if self.allows(cost, now):
            return now
        if not self._rate:
            return self.until
        return self._at + (self._need(cost) - self._level) / self._rate

    def _need(self, cost: int) -> float:
        return min(cost, self._most)

    def __repr__(self) -> str:
        return f"<LearnedLimit {self._level:g} left at {self._at:.3f}, whole at {self.until:.3f}>"
