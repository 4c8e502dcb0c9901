"""How fast a pool gets through its requests, and so when to come back to a full one. Pure."""

from __future__ import annotations

from dataclasses import dataclass

# About thirty requests count: few enough to follow a change, enough not to follow each one.
_KEPT = 1.0 - 1.0 / 32.0
_UNKNOWN_S = 1.0
_USUAL_EXCESS = 0.5

SHORTEST_S = 0.05
LONGEST_S = 60.0


@dataclass(slots=True, eq=False)
class Throughput:
    """The pace at which slots come free, from how long requests hold them.

    With n slots in use and requests that hold a slot for a time t each, all attempts of one taken
    together, n / t requests are done a second (Little's law). t is the mean of the last requests,
    about thirty of them. So the pace is known from the first answer on, whatever the traffic was
    before, and follows the slots in use at once. Where the calls that are running have lasted for
    more than 1.5 t on average, what is above 0.5 t is taken instead: a pool that has stalled looks
    slower by the second. (Calls of exponential length have lasted for t on average, hence the 0.5.)

    Only slots count: what was cancelled, failed or turned away without one says nothing.

    Tried and dropped: counting answers a second, forgotten with exp(-age / 10 s). A pool that had
    had little to do looked slow when the rush came, and one whose calls take 30 s looked like
    anything from twice its pace to a tenth of it.
    """

    _running: int = 0
    # A sum instead of a list: the mean age of what runs is all that is asked for.
    _started_at: float = 0.0  # the sum over the running ones
    _spent_s: float = 0.0  # since the last request that ended
    _held_s: float = 0.0
    _requests: float = 0.0

    def started(self, now: float) -> None:
        """A slot has been taken."""
        self._running += 1
        self._started_at += now

    def freed(self, started_at: float, held_s: float) -> None:
        """A slot taken at `started_at` has been given back, after `held_s` seconds."""
        self._running -= 1
        # With none left it is 0 by itself, but for rounding errors, which would add up for ever.
        self._started_at = self._started_at - started_at if self._running else 0.0
        if held_s > 0.0:
            # Kept until a request ends, whichever that is: over many of them the sums are the same,
            # and no request need carry its own.
            self._spent_s += held_s

    def answered(self, started_at: float, held_s: float) -> None:
        """`freed` and `ended` in one: the usual end of a request."""
        self._running -= 1
        self._started_at = self._started_at - started_at if self._running else 0.0
        self._held_s = self._held_s * _KEPT + self._spent_s + held_s
        self._requests = self._requests * _KEPT + 1.0
        self._spent_s = 0.0

    def ended(self) -> None:
        """A request that has had a slot is done with, however it ended."""
        self._held_s = self._held_s * _KEPT + self._spent_s
        self._requests = self._requests * _KEPT + 1.0
        self._spent_s = 0.0

    def retry_after_s(self, pending: int, now: float) -> float:
        """How long until `pending` requests have been given a slot, in [0.05, 60] s.

        While all calls take equally long it is off by at most the time of one. Before the first
        request has ended it is at least 1 s.
        """
        wait_s = pending * self._each_s(now) / max(1, self._running)
        shortest_s = SHORTEST_S if self._requests else _UNKNOWN_S
        return min(max(shortest_s, wait_s), LONGEST_S)

    def _each_s(self, now: float) -> float:
        """For how many seconds a request holds a slot."""
        usual_s = self._held_s / self._requests if self._requests else 0.0
        age_s = now - self._started_at / self._running if self._running else 0.0
        return max(usual_s, age_s - _USUAL_EXCESS * usual_s)

    def __repr__(self) -> str:
        mean = f"{self._held_s / self._requests:.3f} s" if self._requests else "unmeasured"
        return f"Throughput({self._running} running, {mean} each)"
