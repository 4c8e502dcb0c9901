"""What `/metrics` counts: each request and each attempt once, by how it ended."""

from __future__ import annotations

import random
from typing import Any

import pytest
from helpers_flow import World

from greenroom import FailureKind
from greenroom.status.request_tally import BOUNDS_S, Histogram, RequestTally


def test_a_histogram_has_each_value_in_one_bucket() -> None:
    """A bound is in its own bucket, as Prometheus has it: less or equal."""
    histogram = Histogram()
    for seconds in (0.0, BOUNDS_S[0], 0.011, 1000.0):
        histogram.note(seconds)
    sums = histogram.cumulative()
    assert sums[:2] == [2, 3]
    assert sums[-2:] == [3, 4]
    assert len(sums) == len(BOUNDS_S) + 1
    assert histogram.total_s == pytest.approx(1000.021)


def test_times_are_those_of_the_pools_clock() -> None:
    """Of a request from its arrival, of an attempt from its begin; the wait is before the first."""
    tally = RequestTally()
    world = World("a", observer=tally)
    world.ask("first")
    world.ask("second")
    world.pass_(2.0)
    world.succeed(world.call("a"), after_s=2.0)
    world.pass_(3.0)
    world.succeed(world.call("a"), after_s=3.0)
    took = {labels: each.total_s for labels, each in tally.request_s.items()}
    assert took == {("answered",): pytest.approx(2.0 + 5.0)}
    took = {labels: each.total_s for labels, each in tally.attempt_s.items()}
    assert took == {("a", "succeeded"): pytest.approx(2.0 + 3.0)}
    assert [each.total_s for _, each in tally.queue_s.items()] == [pytest.approx(2.0)]


class Given(RequestTally):
    """Counts what is given out as well."""

    def __init__(self) -> None:
        super().__init__()
        self.given_out = 0

    def given(self, job: Any, attempt: Any, role: Any, now: float) -> None:
        super().given(job, attempt, role, now)
        self.given_out += 1


@pytest.mark.parametrize("seed", range(20))
def test_each_request_and_each_attempt_is_counted_once(seed: int) -> None:
    """Whatever becomes of them, late answers, hedges and restarts among it."""
    rng, tally = random.Random(seed), Given()
    config = {"hedge_after_s": 0.5} if seed % 2 else {}
    world = World(
        *"abc", observer=tally, strategy="random", max_pending=3, request_timeout_s=4.0, **config
    )
    for turn in range(120):
        match rng.randrange(8):
            case 0 | 1 | 2:
                world.ask(f"r{turn}", timeout=rng.choice((None, 1.0, 3.0)))
            case 3 | 4 if world.calls:
                world.succeed(rng.choice(world.calls))
            case 5 if world.calls:
                kind = rng.choice((FailureKind.UNAVAILABLE, FailureKind.CALLER))
                world.fail(rng.choice(world.calls), kind)
            case 6:
                world.pass_(rng.choice((0.1, 0.6, 2.0)))
            case 7 if world.flow.jobs and rng.random() < 0.5:
                world.flow.cancel(rng.choice(list(world.flow.jobs)))
            case 7 if rng.random() < 0.3:
                world.restart(rng.choice("abc"))
    world.flow.fail_all("the end")
    counts = world.flow.endings.counts
    turned_away = tally.requests["turned_away"]
    assert sum(tally.requests.values()) - turned_away == counts["accepted"]
    assert tally.requests["answered"] == counts["completed"]
    waited = sum(each.cumulative()[-1] for _, each in tally.queue_s.items())
    assert waited <= counts["accepted"]
    assert sum(tally.attempts.values()) == tally.given_out
    timed = sum(each.cumulative()[-1] for _, each in tally.attempt_s.items())
    assert timed == sum(
        count for (_, how, _), count in tally.attempts.items() if how in ("succeeded", "failed")
    )
