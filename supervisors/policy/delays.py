"""How long a breaker stays open and a crashed member waits: bounded, doubling delays."""

from __future__ import annotations

import random

_MOST_DOUBLINGS = 1023  # 2.0 ** 1024 raises OverflowError; a product beyond the range is just inf


def reopen_delay(openings: int, base_s: float, max_s: float, rng: random.Random) -> float:
    """Seconds that the `openings`-th opening in a row lasts: `base_s` exactly, then jittered.

    The nominal delay doubles with every further opening, up to `max_s`. The first opening takes it
    as it is, so that the configured reset timeout means what it says. From the second on the delay
    is drawn evenly from the upper half of the nominal one ("equal jitter": both bounds double), so
    that members that failed together are not tried together. It never exceeds `max_s`, and no
    opening is shorter than the first.

    Source: Marc Brooker, "Exponential backoff and jitter", AWS Architecture Blog, 2015.
    """
    nominal = _doubled(base_s, openings - 1, max_s)
    lowest = max(nominal / 2, min(base_s, max_s))  # the nominal delay itself at first
    return min(nominal, lowest + rng.random() * (nominal - lowest))


def restart_delay(failures: int, base_s: float, max_s: float = 30.0) -> float:
    """Seconds to wait after the `failures`-th failure in a row: `base_s`, doubling up to `max_s`.

    Without jitter: the members of a pool do not crash in step, and a test can count on it. No
    failure, no wait.
    """
    return _doubled(base_s, failures - 1, max_s) if failures > 0 else 0.0


def _doubled(base_s: float, times: int, max_s: float) -> float:
    return min(max_s, base_s * 2.0 ** min(max(times, 0), _MOST_DOUBLINGS))
