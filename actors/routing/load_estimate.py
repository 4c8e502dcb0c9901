"""What is known of a member's speed and reliability. Pure: `now` is given.

Tried and dropped: an estimate that decays while calls are running. A member that hangs reports
nothing, so it looked faster by the second until it had swallowed everything it had room for.
"""

from __future__ import annotations

import math

_TAU_S = 10.0
_LONGEST_TAU_S = 300.0
_TAU_IN_CALLS = 10.0
_SHORT_S = _TAU_S / _TAU_IN_CALLS
_USUAL_WEIGHT = 1.0 / 8.0
_UNKNOWN_LATENCY_S = 1.0
_LONGEST_SAMPLE_S = 86_400.0
_MAX_PENALTY_DOUBLINGS = 3
_STREAK_STEP = 5
_MAX_STREAK = 25
_MEMORY = 20.0
_OVERDUE = 2.0

MAX_PENALTY = 2.0**_MAX_PENALTY_DOUBLINGS
"""The most by which failures in a row multiply a latency estimate."""


Known = tuple[float | None, int, float, float]
"""What is known of a member's speed: see `latency_of`."""


class LoadEstimate:
    """The latency estimate and the recent error rate of one member.

    The latency is Finagle's peak EWMA (`finagle/loadbalancer/PeakEwma.scala`): a sample above the
    estimate replaces it at once, a lower one pulls it down with the weight 1 - exp(-dt / tau). The
    estimate of an idle member decays towards 0, so that it is sampled again. tau is 10 s, for a
    member that usually takes longer than 1 s ten times that, at most 300 s: with less, one that
    takes 30 s would be sampled again for every second request.

    A failure counts as no faster than what the member usually takes, and every failure in a row
    doubles the estimate (up to `MAX_PENALTY`): failing fast is not being fast.

    The error rate is failures / (outcomes + 1), each outcome weighted by exp(-age / tau) and all of
    them together by at most twenty: the added success is what it falls back to as time passes. tau
    is 10 s, and up to 60 s after failures in a row, one more 10 s for every five: with 10 s alone
    a member that fails at once would keep half the traffic of a pool whose answers take 20 s.

    Attributes:
        usual_s: what its successes take on average, in seconds; None before the first.
    """

    __slots__ = ("_failures", "_latency", "_outcomes", "_stamp", "_streak", "_tau", "usual_s")

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Be as at first: nothing is known."""
        self._latency: float | None = None  # without the penalty
        self.usual_s: float | None = None
        self._tau = _TAU_S
        self._streak = 0
        self._failures = 0.0
        self._outcomes = 0.0
        self._stamp = -math.inf

    def succeeded(self, elapsed_s: float | None, now: float) -> None:
        """Take a success after `elapsed_s` seconds; None if `measured` has been told them."""
        # As `_age` and `_count`, without the calls: every request that goes well comes this way.
        stamp, outcomes = self._stamp, self._outcomes
        age = now - stamp if now > stamp and outcomes else 0.0
        if elapsed_s is not None:
            self._measure(elapsed_s, age)
        keep = math.exp(-age / (_TAU_S * (1 + self._streak // _STREAK_STEP)))
        if outcomes * keep > _MEMORY - 1.0:
            keep = (_MEMORY - 1.0) / outcomes
        self._failures *= keep
        self._outcomes = outcomes * keep + 1.0
        if now > stamp:
            self._stamp = now
        self._streak = 0

    def measured(self, elapsed_s: float, now: float) -> None:
        """Take the latency of a call that goes on: of a stream, the time to its first chunk."""
        self._measure(elapsed_s, self._age(now))

    def failed(self, elapsed_s: float, now: float) -> None:
        """Take a failure that says something about the member (a cancelled call does not)."""
        usual = _UNKNOWN_LATENCY_S if self._latency is None else self._latency
        self._latency = max(_sane(elapsed_s), usual)
        self._count(1.0, self._age(now), now)
        self._streak = min(self._streak + 1, _MAX_STREAK)

    def pardon(self, failures: int) -> None:
        """So many of the last failures were not the member's: it is as fast as usual."""
        self._streak = max(0, self._streak - failures)
        self._failures = max(0.0, self._failures - failures)
        if self.usual_s is None:
            self._latency = None
        elif self._latency is not None and self._latency > self.usual_s:
            self._latency = self.usual_s

    def latency_s(self, now: float, in_flight: int = 0) -> float | None:
        """The estimate in seconds, never negative; None before the first sample.

        With calls in flight it does not decay: the member is being sampled already. So a stale
        member gets one request and not a herd, and one that hangs does not look ever faster.
        """
        # As `latency_of`, without the call: every pick asks every candidate.
        estimate = self._latency
        if estimate is None:
            return None
        # Not kept in `_latency`: one success ends the penalty, and
        # the estimate is what was measured.
        if self._streak:
            estimate *= 1 << min(self._streak, _MAX_PENALTY_DOUBLINGS)
        if in_flight > 0 or now <= self._stamp:
            return estimate
        return estimate * math.exp((self._stamp - now) / self._tau)

    def known(self) -> Known:
        """All that `latency_of` makes the estimate of, at whatever time."""
        return self._latency, self._streak, self._stamp, self._tau

    def error_rate(self, now: float) -> float:
        """The recent error rate, in [0, 1); 0 without outcomes, and back to 0 as time passes."""
        if self._failures == 0.0:
            return 0.0
        # The added success is not multiplied: with time it outweighs what is left of the failures.
        keep = self._remembered(self._age(now))
        return self._failures * keep / (self._outcomes * keep + 1.0)

    def overdue(self, elapsed_s: float, now: float) -> bool:
        """Whether a call has run for at least twice the estimate, decay and penalty left aside.

        Any call of an unmeasured member has.
        """
        return self._latency is None or elapsed_s >= _OVERDUE * self._latency

    def __repr__(self) -> str:
        latency = "unmeasured" if self._latency is None else f"{self._latency:.3f} s"
        return f"LoadEstimate({latency}, {self._failures:.1f}/{self._outcomes:.1f} failed)"

    def _measure(self, elapsed_s: float, age: float) -> None:
        sample = elapsed_s if 0.0 <= elapsed_s <= _LONGEST_SAMPLE_S else _sane(elapsed_s)
        # Also after failures alone: what they have made of the estimate was a guess.
        if self._latency is None or self.usual_s is None:
            self._latency = self.usual_s = sample
            self._tau = _tau(sample)
            return
        if sample < self._latency:
            self._latency = sample + (self._latency - sample) * math.exp(-age / self._tau)
        else:
            self._latency = sample
        self.usual_s += (sample - self.usual_s) * _USUAL_WEIGHT
        # For most members tau never changes, and is not reckoned again with every call.
        if self.usual_s > _SHORT_S or self._tau != _TAU_S:
            self._tau = _tau(self.usual_s)

    def _age(self, now: float) -> float:
        """Seconds since the last outcome, 0 before the first."""
        # Reports may come out of order, by a thread's turn: time does not go back by that.
        return now - self._stamp if now > self._stamp and self._outcomes else 0.0

    def _remembered(self, age: float) -> float:
        """What is left of the weight of the outcomes so far: 1 at once, 0 in the end."""
        return math.exp(-age / (_TAU_S * (1 + self._streak // _STREAK_STEP)))

    def _count(self, failures: float, age: float, now: float) -> None:
        # The newest outcome weighs 1, all before it together no more than the memory holds.
        keep = self._remembered(age)
        if self._outcomes * keep > _MEMORY - 1.0:
            keep = (_MEMORY - 1.0) / self._outcomes
        self._failures = self._failures * keep + failures
        self._outcomes = self._outcomes * keep + 1.0
        if now > self._stamp:
            self._stamp = now


def latency_of(known: Known, now: float, in_flight: int = 0) -> float | None:
    """`LoadEstimate.latency_s`, of what was known."""
    estimate, streak, stamp, tau = known
    if estimate is None:
        return None
    if streak:
        estimate *= 1 << min(streak, _MAX_PENALTY_DOUBLINGS)
    if in_flight > 0 or now <= stamp:
        return estimate
    return estimate * math.exp((stamp - now) / tau)


def _tau(usual_s: float) -> float:
    """How fast the latency of a member is forgotten that usually takes that long."""
    return min(max(_TAU_IN_CALLS * usual_s, _TAU_S), _LONGEST_TAU_S)


def _sane(elapsed_s: float) -> float:
    """One absurd sample (negative, infinite, no number) must not poison the estimate for good."""
    return min(max(0.0, elapsed_s), _LONGEST_SAMPLE_S)
