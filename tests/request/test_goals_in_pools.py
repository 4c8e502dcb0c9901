"""Limits that nobody has told, in a whole pool on the fake clock: what is made of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from helpers_load import FixedWindow, TokenBucket, ask_at, error_of, pass_time
from helpers_pools import pool_of

from greenroom import Limit, Member
from greenroom.testing import FakeClock

PROVIDERS: dict[str, Callable[..., Any]] = {
    "fixed windows": FixedWindow,
    "token bucket": TokenBucket,
}


def two(kind: str, *limits: Limit) -> tuple[int, int, int]:
    """Two of five calls a second, under thirteen for ten seconds, each of use for three: how many
    were answered, how many calls there were, and how many of them were refused.
    """
    clock = FakeClock()
    a, b = (PROVIDERS[kind](clock, 5) for _ in range(2))
    members = [Member(name, each, limits=limits) for name, each in (("a", a), ("b", b))]
    with pool_of(*members, clock=clock, deadline_s=3.0) as pool:
        futures = ask_at(pool, clock, [i / 13 for i in range(130)])
        pass_time(pool, clock, 3.0)
        answered = sum(error_of(each) is None for each in futures)
    calls, taken = a.calls + b.calls, a.taken + b.taken
    return answered, calls, calls - taken


@pytest.mark.parametrize("kind", sorted(PROVIDERS))
def test_b338_two_providers_that_nobody_knows_answer_what_is_possible(kind: str) -> None:
    """98 of a hundred and more; one call in twenty is refused at most."""
    answered, calls, refused = two(kind)
    assert answered >= 98
    assert refused <= 0.05 * calls


@pytest.mark.parametrize("kind", sorted(PROVIDERS))
def test_b338_limits_that_are_wrong_by_a_factor_of_two_cost_what_they_say(kind: str) -> None:
    """Too high: next to nothing. Too low: what is set is used up, and none is refused."""
    answered, calls, refused = two(kind, Limit(10, per_s=1))
    assert answered >= 90
    assert refused <= 0.05 * calls
    answered, _, refused = two(kind, Limit(5, per_s=2))
    assert answered >= 0.90 * 2 * 2.5 * 13
    assert refused == 0


@pytest.mark.parametrize("kind", sorted(PROVIDERS))
def test_b338_a_limit_that_is_halved_and_doubled_is_followed_in_a_pool(kind: str) -> None:
    """Ten a second, five, ten again, under thirteen, and nobody tells."""
    clock = FakeClock()
    made = PROVIDERS[kind](clock, 10)
    member = Member("a", made, max_concurrency="auto")
    with pool_of(member, clock=clock, deadline_s=3.0) as pool:
        levels = []
        for per_s in (10, 5, 10):
            made.set(per_s)
            ask_at(pool, clock, [i / 13 for i in range(13 * 12)], step_s=0.05)
            before = made.taken
            ask_at(pool, clock, [i / 13 for i in range(13 * 10)], step_s=0.05)
            levels.append((made.taken - before) / 10.0 / per_s)
        assert min(levels) >= 0.90
        assert max(levels) <= 1.10
        assert made.calls - made.taken <= 0.03 * made.calls
