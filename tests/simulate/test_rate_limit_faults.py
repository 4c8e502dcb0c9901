"""Simulated providers that count calls: by a token bucket, or by a window; and what they say."""

from __future__ import annotations

import random
from typing import Any

import pytest
from helpers_messages import refused

from greenroom.simulate import scenarios_of
from greenroom.simulate.faults import Ending, RateLimit


def played(fault: RateLimit, *times: float) -> list[float | None]:
    """Whether it lets calls in at those times: None, or what their Retry-After says."""
    effect = fault.effect(random.Random(1))
    endings = [effect(Ending(0.3), at) for at in times]
    return [None if each.kind is None else each.retry_after_s or 0.0 for each in endings]


def test_b337_a_bucket_says_when_there_is_a_token() -> None:
    """In whole milliseconds, and not a moment too early."""
    bucket = RateLimit(3.0, 2, retry_after_s="exact")
    assert played(bucket, 0.0, 0.0, 0.0) == [None, None, 0.334]
    assert played(bucket, 0.0, 0.0, 0.334) == [None, None, None]
    assert played(RateLimit(3.0, 1), 0.0, 0.0) == [None, 0.0]
    assert played(RateLimit(3.0, 1, 2.0), 0.0, 0.0) == [None, 2.0]


def test_b337_a_window_lets_no_more_in_wherever_it_begins() -> None:
    """Five in any second, whatever came before."""
    window = RateLimit(5.0, retry_after_s="exact", window_s=1.0)
    said = played(window, *[0.5] * 5, 0.9, 1.4, 1.5, 1.5)
    assert said[:5] == [None] * 5
    assert said[5:7] == [pytest.approx(0.6, abs=0.0011), pytest.approx(0.1, abs=0.0011)]
    assert said[7:] == [None, None]
    rng = random.Random(3)
    times = sorted(rng.uniform(0.0, 20.0) for _ in range(300))
    let_in = [at for at, no in zip(times, played(window, *times), strict=True) if no is None]
    assert all(sum(at <= each < at + 1.0 for each in let_in) <= 5 for at in let_in)
    assert len(let_in) >= 85


def test_b337_wrong_ones_are_refused_with_field_and_rule() -> None:
    """By code and in a file."""
    made: Any = RateLimit
    assert refused(lambda: made(5.0, retry_after_s="soon")).startswith(
        "TypeError: retry_after_s must be a number"
    )
    assert refused(lambda: made(0.5, window_s=1.0)) == (
        "ValueError: window_s must be such that one call fits in it at per_s (0.5), got 1.0"
    )
    text = """
        duration_s = 1
        load.rate_per_s = 1
        members = [{ name = "a", latency = { kind = "constant", mean_s = 0.1 } }]
        faults = [{ member = "a", kind = "rate_limit", per_s = 2, window_s = 3,
            retry_after_s = "exact", from_s = 0, until_s = 9 }]
    """.replace("\n            retry", " retry")
    (scenario,) = scenarios_of(text, "file", "name")
    assert scenario.members[0].faults[0].trouble == RateLimit(2, retry_after_s="exact", window_s=3)
