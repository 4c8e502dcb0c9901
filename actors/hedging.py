"""When a second attempt joins a slow one, and how often that is allowed. Pure.

Source: Dean and Barroso, The Tail at Scale (2013): defer the second request until the first has
been outstanding for longer than the 95th percentile of its kind, and the extra load stays at 5%.
"""

from __future__ import annotations

from collections import deque

MIN_SAMPLES = 20
"""Latencies that must be known before "p95" means anything."""
HEDGE_RATIO = 0.05
"""Hedges per request."""
_MEMORY = 256
_FRESH = 16
_BURST = 10.0


class Percentile95:
    """The 95th percentile (nearest rank) of the last 256 latencies, taken anew every 16 samples."""

    __slots__ = ("_samples", "_stale", "_value")

    def __init__(self) -> None:
        self._samples: deque[float] = deque(maxlen=_MEMORY)
        self._stale = 0
        self._value: float | None = None

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


class HedgeBudget:
    """At most one hedge in twenty requests, bursts of ten at most.

    The very first hedge is granted in advance: the twenty requests that pay for it come after it.
    So n requests have at most n/20 hedges, for every n from 20 on.
    """

    __slots__ = ("_owed", "_tokens")

    def __init__(self) -> None:
        self._tokens = 1.0
        self._owed = 1.0

    def deposit(self) -> None:
        """Count a request, once however often it is tried."""
        if self._owed > 0.0:
            self._owed -= HEDGE_RATIO
        else:
            self._tokens = min(_BURST, self._tokens + HEDGE_RATIO)

    def has_any(self) -> bool:
        """Whether a hedge is allowed now."""
        return self._tokens >= 1.0 - 1e-9

    def withdraw(self) -> None:
        """Count a hedge."""
        self._tokens -= 1.0

    def __repr__(self) -> str:
        return f"<HedgeBudget {self._tokens:.2f} left>"
