"""How long to wait before a retry: exponential backoff with full jitter.

Source: Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015:
`sleep = random_between(0, min(cap, base * 2 ** attempt))`. Of the variants compared there, full
jitter ends a pile-up of competing clients with the least work.
"""

from __future__ import annotations

from random import Random


def ceiling(n: int, base_s: float, multiplier: float, max_s: float) -> float:
    """The longest that the n-th backoff may last, in seconds: `base_s * multiplier ** (n - 1)`.

    Args:
        n: 1 for the first backoff; as large as it likes.
        base_s: the first ceiling, 0 or more.
        multiplier: growth from one backoff to the next, 1 or more.
        max_s: the highest that the ceiling gets.

    Raises:
        ValueError: n is less than 1.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n!r}")
    # It does not grow: whatever n is, there is no power to overflow.
    if base_s == 0 or multiplier == 1:
        return min(base_s, max_s)
    try:
        return min(base_s * float(multiplier) ** (n - 1), max_s)
    except OverflowError:  # past what a float can hold, so past any maximum
        return max_s


def full_jitter(n: int, base_s: float, multiplier: float, max_s: float, rng: Random) -> float:
    """The n-th backoff, in seconds: uniform between 0 and its `ceiling`.

    Raises:
        ValueError: n is less than 1.
    """
    return rng.uniform(0.0, ceiling(n, base_s, multiplier, max_s))
