"""How many calls a second a member bears, found out from its 429s. Pure: `now` is given.

A number of calls at a time is no pace: two providers of five calls a second, of 0.3 s each, bear
1.5 of them at a time. Who is refused has learned something better: how many were let in until then.

From one refusal to the next that is all that the provider had to give: at both moments nothing is
left. Where a Retry-After says when there is something again, it is these moments that are compared,
since at each of them there is one call's worth. Of a provider with a window that is true of the
last stretch of time, of one with a burst to spare (a token bucket) of the average alone; which of
them it is shows when the pace of the best stretch is refused again at once, or time and again.

A pace is held for so many calls that one refusal in a hundred or so is the price of the next look
(the hold and the probe of BBR, by what is let in instead of what is delivered), and grows ever
faster after that, as that of CUBIC does, so that twice as much is found soon, too. The comparison
is `tests/simulate/test_simulated_goals.py`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

FEWEST = 5
"""With fewer calls known that were let in, a first refusal says nothing of a pace."""
HOLD_CALLS = 60.0
"""So many calls are let in at a pace before a higher one is tried: so one in sixty is refused."""
HOLD_S = 3.0
"""At least so long, where that is more calls."""
HOLD_MOST_S = 120.0
"""And no longer than that: what is known wrongly is found out in the end."""
REST_SHARE = 20.0
"""And so many times as long as a refusal makes the member rest: so that costs a twentieth."""
FORGOTTEN_S = 60.0
"""After so long without need of it a pace is forgotten."""
ODD_CALLS = 30
"""A first refusal after so many answers or more may be an odd one: of an overload, of one kind of
request. It says nothing by itself.
"""
EARLY = 5
"""So many refusals while a pace was held, less two for each that came after it had grown, are none
of the pace: whoever is refused at random is so at any pace, and each refusal would lower it.
"""
TOO_LOW = 0.3
"""And only where it was lowered to that share meanwhile: one that is too high is found soon."""
NO_CURE_S = 300.0
"""For so long none is learned then."""
_UNDER = 0.98
_GENTLE, _FASTER, _FASTEST = 0.03, 0.1, 0.5
"""The growth per second at first, by how much that grows per second, and the most it is."""
_MOST_AT_ONCE = 0.4
_ANOTHER = 1.3
"""By so much more got through, it is not what it was."""
_PRIOR, _PRIOR_CUT = 2.0, 0.9
"""So many calls are assumed at that share of the pace, beside those that were counted."""
_FEW = 3
_LAGS = 1.25
_LONG_S, _LUCK = 2.0, 1.5
_LOWEST_PER_S = 1.0 / 3600.0
_STRETCHES_S = (1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 60.0)
_SLACK_S = 0.05
"""A call that begins so late may be made up for."""
_KEPT = 256
_ABOUT = 1e-6


def first_guess(began: Sequence[float], now: float, retry_after_s: float) -> float | None:
    """Calls a second that were let in until the first refusal; None where too few are known. That
    is what got through in the best stretch of time before it, or on average where that is not much
    less: then it was a little more than is allowed, for long, and the best stretch was luck.

    Args:
        began: when the calls began that were not refused.
        retry_after_s: in how many seconds the provider takes the next one, as it says; 0 if it
            does not: what it had let in at once, it lets in once in that time.
    """
    if len(began) < FEWEST:
        return None
    best = 0.0
    for length_s in _STRETCHES_S:
        number = sum(at > now - length_s for at in began)
        best = max(best, number / max(length_s, retry_after_s))
    span_s = now + retry_after_s - min(began)
    whole = len(began) / span_s if span_s >= _LONG_S else 0.0
    return max(_LOWEST_PER_S, _UNDER * (whole if best < whole * _LUCK else best))


class LearnedPace:
    """Lets calls begin at the pace that their member bears. It grows only while it is used up.

    Args:
        per_s: calls a second, by a first guess.
        retry_after_s: when the next one is let in, after `now`.
        number: of how many calls that was guessed; those that are refused yet are taken off.

    Attributes:
        among: how many processes have a pace of that member: each may have begun with all of it.
    """

    __slots__ = (
        "_anchor", "_at", "_began", "_bursts", "_cut_at", "_doubts", "_early", "_good", "_grown",
        "_grown_from", "_guessed", "_held", "_held_from", "_hold", "_level", "_no_cure_until",
        "_soon", "_used_at", "_whole", "among", "per_s",
    )  # fmt: skip

    def __init__(self, per_s: float, now: float, retry_after_s: float, number: int = 0) -> None:
        self.per_s = per_s
        self.among = 1
        self._good: float | None = None  # held for as long as it had to be, without a refusal
        self._used_at = now
        self._guessed = number
        # What it had let in on average until its last refusal, and whether it is that which counts.
        self._whole: float | None = None
        self._bursts = False
        self._doubts, self._grown = 0, False
        self._held_from = per_s  # what it was when that began
        self._early = 0  # refusals while it was held, less twice those after it had grown
        self._no_cure_until: float | None = None
        self._soon = 0  # refusals in a row that came right after one another
        self._grown_from = now
        self._begin(now, retry_after_s)

    def _begin(self, now: float, retry_after_s: float) -> None:
        """After a refusal: one may begin when the provider says so."""
        self._cut_at = now
        self._at = self._anchor = now + retry_after_s
        self._level = 0.0
        # When the last ones began since.
        self._began: deque[float] = deque(maxlen=_KEPT)
        self._held = 0.0  # seconds for which it was used up
        wanted_s = max(HOLD_S, HOLD_CALLS / self.per_s, REST_SHARE * retry_after_s)
        self._hold = min(HOLD_MOST_S, wanted_s)

    # -- as of other limits

    def headroom(self, now: float) -> float:
        """How many may begin now; below 1: none; infinite where it is forgotten."""
        if self.is_forgotten(now):
            return math.inf
        if now < self._at - _ABOUT:
            return 0.0
        most = 1.0 + self.per_s * _SLACK_S
        return min(most, self._level + self.per_s * max(0.0, now - self._at))

    def allows(self, now: float) -> bool:
        """Whether one may begin now."""
        return self.headroom(now) >= 1.0 - _ABOUT

    def take(self, now: float) -> None:
        """A call begins."""
        if self.is_forgotten(now):
            return
        level, since = self.headroom(now), now - self._at
        self._level = level - 1.0
        self._at = max(now, self._at)
        self._began.append(now)
        # It was waited for: load that does not use it does not widen it.
        if since > 0.0 and level < 1.0 + self.per_s * _SLACK_S - _ABOUT:
            self._used_at = now
            self._grow(since)

    def undo(self) -> None:
        """It has not begun after all."""
        self._level += 1.0
        if self._began:
            self._began.pop()

    def free_at(self, now: float) -> float:
        """When one may begin, if none does before."""
        if self.allows(now):
            return now
        at = self._at + max(0.0, 1.0 - self._level) / self.per_s
        return min(at, self._forgotten_at)

    def leave(self, share: float) -> None:
        """Keep that share of it: the rest is for another process, which has come."""
        self.per_s = max(_LOWEST_PER_S, self.per_s * share)
        self._held_from *= share
        if self._good is not None:
            self._good *= share
        if self._whole is not None:
            self._whole *= share

    def is_forgotten(self, now: float) -> bool:
        """Whether it has not been needed for so long that it says nothing any more."""
        return self._no_cure_until is not None or now >= self._forgotten_at

    @property
    def is_no_cure(self) -> bool:
        """Whether the refusals have turned out to be none of the pace."""
        return self._no_cure_until is not None

    def ignores(self, now: float) -> bool:
        """Whether a refusal is of no account, since those before were none of the pace."""
        return self._no_cure_until is not None and now < self._no_cure_until

    @property
    def _forgotten_at(self) -> float:
        return max(self._used_at, self._anchor) + FORGOTTEN_S

    # -- what is learned

    def _grow(self, since: float) -> None:
        self._held += since
        past_s = self._held - self._hold
        if past_s <= 0.0:
            return
        if self._good is None:
            self._good, self._grown_from = self.per_s, self._at
        growth = min(_FASTEST, _GENTLE + _FASTER * past_s) * since
        self.per_s *= math.exp(min(growth, _MOST_AT_ONCE))

    def refused(self, began: float, now: float, retry_after_s: float) -> None:
        """A call that began at `began` was refused at `now`, and the provider says when it takes
        another one, or 0.
        """
        self._used_at = now
        if began <= self._cut_at:  # of the same burst
            if self._guessed > 1:
                self.per_s *= 1.0 - 1.0 / self._guessed
                self._guessed -= 1
            self._at = self._anchor = max(self._anchor, now + retry_after_s)
            return
        self._guessed = 0
        if self._began:
            self._began.pop()
        if self._good is not None:
            self._early = max(0, self._early - 2)
            self._held_from = self.per_s
        else:
            self._early += 1
            if self._early >= EARLY and self.per_s < self._held_from * TOO_LOW / self.among:
                self._no_cure_until = now + NO_CURE_S
                return
        self.per_s = max(_LOWEST_PER_S, _UNDER * min(self.per_s, self._found(now, retry_after_s)))
        self._good = None
        self._begin(now, retry_after_s)

    def _found(self, now: float, retry_after_s: float) -> float:
        """Calls a second that it bears, by what it has let in since its last refusal."""
        number, before = len(self._began), self.per_s
        whole, best = self._let_in(now, retry_after_s)
        if number == 0:  # the first one after a rest: that was too short, or there is nothing
            self._soon += 1
            return before if self._soon == 1 else whole
        if number <= _FEW:  # right after the last one: what was found then is too much
            self._soon += 1
            last = self._whole
            if last is None or last >= before:
                return whole
            if self._soon < 2:
                return math.sqrt(last * before)
            # It had let in more than it bears: it has some to spare, and only the average counts.
            self._bursts, self._doubts = True, 0
            return last
        self._soon, self._whole = 0, whole
        self._note_bursts(whole, best)
        if not self._bursts:
            return best
        if self._good is None or best < self._good * _ANOTHER:
            return whole
        # Far more than it was: since then, on average.
        since_s = max(1.0 / before, now + retry_after_s - self._grown_from)
        return sum(at > self._grown_from for at in self._began) / since_s

    def _note_bursts(self, whole: float, best: float) -> None:
        """Whether the average is what it bears, or the best stretch."""
        if self._bursts:  # as long as the one does not lag far behind the other, again and again
            self._doubts = self._doubts + 1 if best > whole * _LAGS else 0
        else:  # a pace as of the best stretch is refused before long, again and again
            if self._good is not None:
                self._doubts = 0 if self._grown else self._doubts
            elif self._grown and whole < self.per_s * _UNDER:
                self._doubts += 1
        if self._doubts == 2:
            self._bursts, self._doubts = not self._bursts, 0
        self._grown = self._good is not None

    def _let_in(self, now: float, retry_after_s: float) -> tuple[float, float]:
        """Calls a second that were let in since the last refusal: of all that time, and in the best
        stretch before this one.
        """
        began = self._began
        since = began[0] if len(began) == _KEPT else self._anchor
        # So that few calls in little time are not taken for much.
        prior_s = _PRIOR / (_PRIOR_CUT * self.per_s)
        whole_s = max(0.0, now + retry_after_s - since)
        whole = best = (len(began) + _PRIOR) / (whole_s + prior_s)
        for length_s in _STRETCHES_S:
            if now - length_s <= since:
                break
            number = sum(at > now - length_s for at in began)
            best = max(best, (number + _PRIOR) / (length_s + prior_s))
        return whole, best

    def __repr__(self) -> str:
        return f"<LearnedPace {self.per_s:.3g} per s>"
