"""What is learned of limits by providers' headers."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from greenroom.actors.policy.learned_limit import LONGEST_S, LearnedLimit


def learned(
    remaining: int, resets_in_s: float, whole: int | None = None, since: int = 0, now: float = 0.0
) -> LearnedLimit:
    return LearnedLimit(remaining, resets_in_s, whole, since=since, mark=0, now=now)


def test_what_is_left_lasts_until_the_reset() -> None:
    """Without the whole, nothing comes back before the reset, and nothing is known after it."""
    limit = learned(2, 30.0)
    assert limit.allows(2, 0.0)
    assert not limit.allows(3, 0.0)
    limit.take(2, 1.0)
    assert limit.free_at(1, 1.0) == 30.0
    assert not limit.allows(1, 29.9)
    assert limit.headroom(30.0) == math.inf


def test_what_is_whole_at_the_reset_comes_back_evenly() -> None:
    """With the whole, a sixtieth is back in a second of sixty, and the next a second later."""
    limit = learned(0, 60.0, whole=60)
    assert limit.free_at(1, 0.0) == 1.0
    assert limit.allows(1, 1.0)
    limit.take(1, 1.0)
    assert limit.free_at(1, 1.0) == 2.0
    assert limit.headroom(1000.0) == 60.0
    assert limit.free_at(500, 1.0) == 61.0  # more than it can hold: with a full one


def test_what_has_begun_since_is_not_left_any_more() -> None:
    """The provider has not seen it yet when it says what is left, nor does that change the pace."""
    limit = learned(3, 60.0, whole=60, since=5)
    assert limit.headroom(0.0) == -2.0
    assert limit.free_at(1, 0.0) == 3 * 60.0 / 57


def test_a_reset_in_a_year_is_not_believed() -> None:
    """A header may be wrong: nobody is kept out for longer than a day by it."""
    assert learned(0, 1e12).free_at(1, 0.0) == LONGEST_S


@given(
    st.integers(0, 100),
    st.floats(0.1, 100.0),
    st.integers(1, 100),
    st.lists(st.tuples(st.floats(0.0, 20.0), st.integers(0, 30)), max_size=30),
)
def test_what_is_let_in_is_what_comes_back(
    remaining: int, resets_in_s: float, whole: int, script: list[tuple[float, int]]
) -> None:
    """Never more begins than was left and has come back; and at the time that it says, it may."""
    limit, now, taken = learned(remaining, resets_in_s, whole), 0.0, 0
    rate = max(0.0, whole - remaining) / resets_in_s
    for step, cost in script:
        now += step
        if rate == 0.0 and now >= resets_in_s:
            return
        if not limit.allows(cost, now):
            at = limit.free_at(cost, now)
            assert at > now
            assert limit.allows(cost, at + 1e-6 / max(rate, 1e-3))
        elif cost <= whole:
            limit.take(cost, now)
            taken += cost
        assert taken <= remaining + rate * now + 1e-3
