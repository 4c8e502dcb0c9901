"""How long a member is left alone, though its breaker lets calls through. Pure.

Who is throttled is not ill: its breaker stays as it is, and it rests. The router keeps this and not
the supervisor, because the very next request must know of it, and an error the true seconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random

from greenroom.messages.status import FailureKind

_FIRST_PAUSE_S = 1.0
_LONGEST_S = {FailureKind.RATE_LIMITED: 30.0, FailureKind.NOT_FOUND: 300.0}
OF_THEMSELVES = frozenset(_LONGEST_S)
"""Failures that make a member rest though it has not said for how long."""
_NOTICEABLE_S = 1.0
# 2 ** 16 s is far beyond the longest pause; without a limit the power would overflow one day.
_MOST_DOUBLINGS = 16


@dataclass(slots=True, eq=False, repr=False)
class RestPeriod:
    """The rests of one member: as long as its Retry-After asks for, or a pause of the pool's own.

    Such a pause is 1 s at first and doubles with every rest that no success has followed: up to
    30 s for a member that is throttled, up to 300 s for one that has not what it is asked for. It
    is drawn from the upper half of that ("equal jitter"), so that members that were throttled
    together do not come back together. Failures of calls that had begun before the rest are of the
    same burst, and make it no longer.

    Source: Marc Brooker, "Exponential backoff and jitter", AWS Architecture Blog, 2015.

    Attributes:
        until: when it ends, on the pool's clock; 0.0 while there is none.
        kind: what it is for.
        announced: the end that was last told of; 0.0 if none was.
        pauses: pauses of its own in a row, without a success in between.
    """

    until: float = 0.0
    kind: FailureKind = FailureKind.RATE_LIMITED
    pauses: int = 0
    _since: float = -math.inf
    announced: float = 0.0

    def begin(
        self,
        kind: FailureKind,
        now: float,
        began: float,
        retry_after_s: float | None,
        rng: Random,
    ) -> bool:
        """A call that began at `began` has failed at `now`; whether it makes a rest, or a longer
        one.
        """
        until = now + self._length(kind, began, retry_after_s, rng)
        # A rest is never cut short by a shorter one: the provider has asked for the longer.
        if until <= max(now, self.until):
            return False
        # A rest that is prolonged is the same one: it began with the first failure.
        if not self.until:
            self._since = now
        self.until, self.kind = until, kind
        return True

    def is_news(self) -> bool:
        """Whether the end of the rest differs from what was last announced; notes that it is."""
        # A burst of 429s with the same Retry-After moves the end by some
        # milliseconds each: one event, not thirty.
        news = self.until > self.announced + (_NOTICEABLE_S if self.announced else 0.0)
        if news:
            self.announced = self.until
        return news

    def end(self) -> None:
        """It is over."""
        self.until = self.announced = 0.0

    def answered(self, began: float) -> None:
        """A call that began then has succeeded."""
        # A call that was under way when the rest began says nothing of what came after it.
        if began > self._since:
            self.pauses = 0

    def forget(self) -> None:
        """As if it had never rested."""
        self.end()
        self.pauses, self._since = 0, -math.inf

    def _length(
        self, kind: FailureKind, began: float, retry_after_s: float | None, rng: Random
    ) -> float:
        if retry_after_s is not None and retry_after_s > 0 and math.isfinite(retry_after_s):
            return retry_after_s
        longest_s = _LONGEST_S.get(kind)
        # Thirty calls refused at once are one burst: they would double the pause to its limit.
        if longest_s is None or self.until or began <= self._since:
            return 0.0
        nominal = min(longest_s, _FIRST_PAUSE_S * 2.0 ** min(self.pauses, _MOST_DOUBLINGS))
        self.pauses += 1
        return nominal / 2 + rng.random() * nominal / 2

    def __repr__(self) -> str:
        return f"<RestPeriod {f'until {self.until:.3f}: {self.kind}' if self.until else 'none'}>"
