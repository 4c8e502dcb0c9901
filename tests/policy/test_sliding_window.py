"""The sliding window of rate limits, against a list of all that has ever begun."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenroom.actors.policy.sliding_window import KEPT_ONE_BY_ONE, Entry, SlidingWindow

# Halves: sums of them are exact, and boundaries are hit.
steps = st.sampled_from([0.0, 0.0, 0.5, 1.0, 3.5, 7.5, 8.0])
costs = st.integers(0, 20)
moves = st.tuples(steps, costs, st.integers(0, 3), st.floats(0, 1))


class History:
    """Everything that has begun, and when."""

    def __init__(self, amount: int, per_s: float) -> None:
        self.amount, self.per_s = amount, per_s
        self.begun: list[list[float]] = []

    def used(self, now: float) -> float:
        return sum(cost for at, cost in self.begun if at + self.per_s > now)

    def most_in_any_window(self) -> float:
        """Where a window is fullest, it begins with something that begins."""
        return max(
            (
                sum(cost for at, cost in self.begun if start <= at < start + self.per_s)
                for start, _ in self.begun
            ),
            default=0,
        )

    def free_at(self, cost: int, now: float) -> float | None:
        if cost > self.amount:
            return None
        times = sorted({now, *(at + self.per_s for at, _ in self.begun if at + self.per_s > now)})
        return next(at for at in times if self.used(at) + cost <= self.amount)


@settings(max_examples=300)
@given(st.lists(moves, max_size=60))
def test_a_window_is_that_of_a_list_of_all_that_has_begun(
    script: list[tuple[float, int, int, float]],
) -> None:
    """Behaviour 288: whatever begins, takes less than was reserved or nothing, what a window says
    of its headroom and of the time of the next is what a list of everything says.
    """
    window, history, now = SlidingWindow(30, 8.0), History(30, 8.0), 100.0
    under_way: list[tuple[Entry, list[float], int]] = []
    for step, cost, change, share in script:
        now += step
        assert window.headroom(now) == 30 - history.used(now)
        assert window.free_at(cost, now) == history.free_at(cost, now)
        if window.headroom(now) >= cost:
            begun = [now, float(cost)]
            history.begun.append(begun)
            under_way.append((window.take(cost, now), begun, cost))
        if change and under_way:  # one that is under way takes less
            entry, begun, reserved = under_way.pop(int(share * (len(under_way) - 1)))
            spent = int(reserved * share) if change == 1 else 0
            window.change(entry, spent - reserved)
            begun[1] = spent
        assert history.most_in_any_window() <= 30


@pytest.mark.parametrize(("amount", "per_s", "cost"), [(90_000, 60.0, 1), (1_000_000, 60.0, 37)])
def test_a_window_with_many_entries_keeps_few_and_gives_back_all(
    amount: int, per_s: float, cost: int
) -> None:
    """Behaviour 289: a window that holds 90,000 calls keeps 2,048 entries at most. It is never over
    its amount; what it holds comes back whole, at most a 1,024th of its length late.
    """
    window, rng, now, taken = SlidingWindow(amount, per_s), random.Random(7), 0.0, 0
    begun: list[float] = []
    while now < 2.5 * per_s:
        now += rng.random() * per_s / 40_000
        if window.headroom(now) >= cost:
            window.take(cost, now)
            begun.append(now)
            taken += 1
        assert len(window) <= 2 * KEPT_ONE_BY_ONE
        assert window.used <= amount
    first = 0  # the fullest window ends with something that begins
    for last, at in enumerate(begun):
        while begun[first] + per_s <= at:
            first += 1
        assert (last - first + 1) * cost <= amount
    assert window.headroom(now + per_s * (1 + 1 / KEPT_ONE_BY_ONE)) == amount
    assert window.used == 0
    # It is not made narrower by that than by a thousandth.
    assert taken * cost >= min(2.5 * amount, 2.5 * per_s * 40_000 * cost / per_s) * 0.99


def test_a_call_that_took_more_than_was_reserved_keeps_others_out_for_longer() -> None:
    """What was estimated too low is counted when it is known, and nothing begins until that has
    left the window.
    """
    window = SlidingWindow(10, 60.0)
    entry = window.take(4, 0.0)
    window.change(entry, 10)
    assert window.headroom(59.0) == -4
    assert window.free_at(1, 59.0) == 60.0
    assert window.headroom(60.0) == 10
    window.change(entry, 100)  # it has left the window
    assert window.headroom(60.0) == 10


def test_another_amount_or_length_keeps_what_has_begun() -> None:
    """Behaviour 290: what has begun counts under a changed limit as it did before."""
    window = SlidingWindow(10, 60.0)
    window.take(8, 0.0)
    window.amount = 5
    assert window.headroom(1.0) == -3
    window.amount, window.per_s = 20, 30.0
    assert window.headroom(29.0) == 12
    assert window.headroom(30.0) == 20
