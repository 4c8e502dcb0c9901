"""When a second attempt joins a slow one, and how often that is allowed. Pure.

Source: Dean and Barroso, The Tail at Scale (2013): defer the second request until the first has
been outstanding for longer than the 95th percentile of its kind, and the extra load stays at 5%.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

MIN_SAMPLES = 20
"""Latencies that must be known before "p95" means anything."""
REQUESTS_PER_HEDGE = 20
"""What one hedge costs: the extra load stays at 5%."""
# The last requests, so that it follows a change of load.
_MEMORY = 256
_FRESH = 16
# Hours in which nobody was slow must not pay for a flood of hedges in the first slow minute.
_BURST = 10


@dataclass(slots=True, eq=False)
class Percentile95:
    """The 95th percentile (nearest rank) of the last 256 latencies, taken anew every 16 samples."""

    _samples: deque[float] = field(default_factory=lambda: deque(maxlen=_MEMORY))
    _stale: int = 0
    _value: float | None = None

    def add(self, elapsed_s: float) -> None:
        """Take a latency in, in seconds."""
        self._samples.append(elapsed_s)
        self._stale += 1

    def value(self) -> float | None:
        """In seconds; None with fewer than 20 samples."""
        if len(self._samples) < MIN_SAMPLES:
            return None
        if self._value is None or self._stale >= _FRESH:
            ordered = sorted(self._samples)
            self._value = ordered[-(-95 * len(ordered) // 100) - 1]
            self._stale = 0
        return self._value


@dataclass(slots=True, eq=False)
class HedgeBudget:
    """At most one hedge in twenty requests, bursts of ten at most.

    The very first hedge is granted in advance: the twenty requests that pay for it come after it.
    So n requests have at most n/20 hedges, for every n from 20 on. It is counted in whole requests,
    so that it is exact.
    """

    # The first is granted: what comes in pays that debt off before it saves for the next one.
    _paid: int = REQUESTS_PER_HEDGE
    _owed: int = REQUESTS_PER_HEDGE

    def deposit(self) -> None:
        """Count a request, once however often it is tried."""
        if self._owed > 0:
            self._owed -= 1
        else:
            self._paid = min(_BURST * REQUESTS_PER_HEDGE, self._paid + 1)

    def has_any(self) -> bool:
        """Whether a hedge is allowed now."""
        return self._paid >= REQUESTS_PER_HEDGE

    def withdraw(self) -> None:
        """Count a hedge."""
        self._paid -= REQUESTS_PER_HEDGE

    def __repr__(self) -> str:
        return f"<HedgeBudget {self._paid / REQUESTS_PER_HEDGE:.2f} left>"
