"""The pace that a member's 429s teach, held against providers of several kinds."""

from __future__ import annotations

import math
import random

import pytest
from helpers_providers import KINDS

from greenroom.actors.policy.learned_pace import (
    EARLY,
    FEWEST,
    FORGOTTEN_S,
    NO_CURE_S,
    TOO_LOW,
    LearnedPace,
    first_guess,
)

MODELS = sorted(KINDS)


def begin(pace: LearnedPace, now: float) -> float:
    """One call, as soon as it may; when that was."""
    at = pace.free_at(now)
    assert pace.allows(at)
    pace.take(at)
    return at


@pytest.mark.parametrize("kind", MODELS)
def test_b332_a_pace_comes_to_what_the_provider_lets_in(kind: str) -> None:
    """From a guess that is half as much, or three times as much; few are refused by then."""
    for guess in (5.0, 10.0, 30.0):
        let_in = KINDS[kind](10)
        pace, now = LearnedPace(guess, 0.0, 0.0), 0.0
        outcomes = []
        while now < 120.0:
            now = begin(pace, now)
            wait_s = let_in(now)
            outcomes.append((now, not wait_s))
            if wait_s:
                pace.refused(now, now, max(0.001, math.ceil(wait_s * 1000.0) / 1000.0))
        late = [well for at, well in outcomes if at >= 30.0]
        assert sum(late) >= 0.94 * 10 * 90
        assert late.count(False) <= 0.02 * len(late)


def test_b332_no_more_begins_than_the_pace_allows_whoever_asks_when() -> None:
    """At random: in any time so many times the pace as there are seconds, and two more."""
    for seed in range(20):
        rng = random.Random(seed)
        per_s = rng.uniform(0.5, 20.0)
        pace, now, begun = LearnedPace(per_s, 0.0, rng.choice([0.0, 2.0])), 0.0, []
        for _ in range(400):
            now += rng.expovariate(per_s) if rng.random() < 0.9 else 5.0
            if pace.allows(now):
                pace.take(now)
                begun.append(now)
                if rng.random() < 0.1:
                    pace.undo()
                    begun.pop()
            else:
                assert now < pace.free_at(now) <= now + 1.0 / min(per_s, pace.per_s) + 2.1
        most = pace.per_s if pace.per_s > per_s else per_s
        for i, first in enumerate(begun):
            within = [at for at in begun[i:] if at <= first + 10.0]
            assert len(within) <= most * 10.0 + 2.0 + most * 0.05


def test_b332_load_that_does_not_use_it_does_not_widen_it_and_it_is_forgotten() -> None:
    """After a minute in which nobody had to wait for it."""
    pace, now = LearnedPace(10.0, 0.0, 0.0), 0.0
    for _ in range(50):
        now += 1.0
        pace.take(now)
    assert pace.per_s == 10.0
    assert not pace.is_forgotten(FORGOTTEN_S - 1.0)
    assert pace.is_forgotten(FORGOTTEN_S)
    assert pace.headroom(FORGOTTEN_S) == math.inf
    assert pace.free_at(FORGOTTEN_S) == FORGOTTEN_S


def test_b332_calls_of_the_same_burst_are_refused_once() -> None:
    """Fifty at once, of which five were let in: it is those five that are known in the end."""
    pace = LearnedPace(50.0, 0.0, 1.0, 50)
    for _ in range(45):
        pace.refused(0.0, 0.0, 1.0)
    assert pace.per_s == pytest.approx(5.0)
    assert not pace.allows(1.0)
    assert pace.allows(1.2)


def test_b332_a_first_guess_is_what_was_let_in() -> None:
    """In the best stretch of time, or on average; of too few it is none."""
    assert first_guess([0.0] * (FEWEST - 1), 0.0, 1.0) is None
    assert first_guess([0.0] * 5, 0.0, 1.0) == pytest.approx(0.98 * 5.0)
    assert first_guess([0.0] * 60, 1.0, 40.0) == pytest.approx(0.98 * 60 / 41.0, rel=0.03)
    steady = [each / 6.0 for each in range(60)]
    assert first_guess(steady, 10.0, 0.0) == pytest.approx(0.98 * 6.0, rel=0.05)
    surge = [*range(40), *(40.0 + each / 10.0 for each in range(10))]
    assert first_guess(surge, 41.0, 0.0) == pytest.approx(0.98 * 10.0, rel=0.15)


def test_b332_a_pace_that_is_far_too_low_is_found_out_in_two_minutes() -> None:
    """Five calls, and a Retry-After of half a minute that has little to do with the limit."""
    guess = first_guess([0.0] * 5, 0.0, 30.0)
    assert guess == pytest.approx(0.98 * 5 / 30)
    assert guess is not None
    pace, now = LearnedPace(guess, 0.0, 30.0), 0.0
    while pace.per_s < 2.0:
        now = begin(pace, now)
    assert now < 30.0 + 150.0
    assert LearnedPace(1e-9, 0.0, 5.0).free_at(0.0) == 5.0 + FORGOTTEN_S


def test_b414_refusals_at_any_pace_are_none_of_it() -> None:
    """Nothing waits for a pace any more that was refused while it was held, time and again, and
    none is learned anew for a while. One that was refused after it had grown is a pace.
    """
    pace, now = LearnedPace(10.0, 0.0, 0.0), 0.0
    refusals = 0
    while not pace.is_no_cure:
        for _ in range(10):
            now = begin(pace, now)
        lowered = pace.per_s < 10.0 * TOO_LOW
        pace.refused(now, now, 0.5)
        refusals += 1
        assert pace.is_no_cure is (refusals >= EARLY and lowered)
        assert refusals < 100
    assert pace.headroom(now) == math.inf
    assert pace.free_at(now) == now
    assert pace.ignores(now + NO_CURE_S - 1.0)
    assert not pace.ignores(now + NO_CURE_S)

    pace, now = LearnedPace(10.0, 0.0, 0.0), 0.0
    for _ in range(3 * EARLY):
        for _ in range(100):
            now = begin(pace, now)
        pace.refused(now, now, 0.0)
        assert not pace.is_no_cure


def test_b332_whatever_comes_it_stays_a_pace() -> None:
    """Refusals, calls and undone ones at random: it is a finite number above 0, never waits longer
    than a minute after what the provider has said, and no call is let in before that.
    """
    for seed in range(50):
        rng = random.Random(seed)
        pace, now, until = LearnedPace(rng.uniform(0.01, 500.0), 0.0, 0.0), 0.0, 0.0
        for _ in range(300):
            now += rng.choice([0.0, 0.0, 0.01, 1.0, 30.0]) * rng.random()
            at = pace.free_at(now)
            assert until - 1e-6 <= max(at, until) <= max(now, until) + FORGOTTEN_S
            if pace.allows(now):
                assert now >= until - 1e-6
                pace.take(now)
                if rng.random() < 0.1:
                    pace.undo()
                elif rng.random() < 0.4:
                    after_s = rng.choice([0.0, 0.001, 2.0])
                    pace.refused(now - rng.choice([0.0, 0.0, 3.0]), now, after_s)
                    until = max(until, now + after_s)
                    if pace.is_no_cure:
                        break
            else:
                now = at
            assert 0.0 < pace.per_s < 1e6
