"""How many calls at a time a member bears: the rule, and what it comes to on made-up members."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Protocol

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.actors.policy.concurrency_limit import (
    LEAST_SAMPLES,
    OLD_AFTER,
    START,
    ConcurrencyLimit,
)


def window(limit: ConcurrencyLimit, elapsed_s: float = 1.0, in_flight: int | None = None) -> int:
    """A window of answers, in which the limit is reached unless it is said how many ran."""
    for _ in range(max(LEAST_SAMPLES, limit.limit)):
        limit.answered(elapsed_s, limit.limit if in_flight is None else in_flight)
    return limit.limit


# -- the rule


def test_b309_it_starts_small_and_grows_by_half_until_something_says_no() -> None:
    """Answers that take no longer than before do not."""
    limit = ConcurrencyLimit(1000)
    assert limit.limit == START
    assert [window(limit) for _ in range(4)] == [6, 9, 13, 20]


def test_b309_load_that_does_not_use_it_does_not_widen_it() -> None:
    """However long it goes on: nothing is known of what has not been tried."""
    limit = ConcurrencyLimit(1000)
    for _ in range(200):
        window(limit, in_flight=limit.limit - 1)
    assert limit.limit == START


def test_b309_answers_that_take_longer_narrow_it_used_or_not() -> None:
    """By a half at most of what is between; never below one."""
    limit = ConcurrencyLimit(1000)
    for _ in range(8):
        window(limit)
    wide = limit.limit
    assert window(limit, 3.0) < wide
    before = limit.limit
    assert window(limit, 3.0, in_flight=1) < before
    for _ in range(12):
        window(limit, 100.0)
    assert limit.limit < wide / 2


def test_b309_the_ceiling_and_the_floor_hold() -> None:
    """Also for a start above it, and when it is changed."""
    assert ConcurrencyLimit(2).limit == 2
    limit = ConcurrencyLimit(10)
    for _ in range(20):
        window(limit)
    assert limit.limit == 10
    limit.configure(3)
    assert limit.limit == 3
    for at in range(50):
        limit.refused(at, at + 0.5)
    assert limit.limit == 1


def test_b309_a_burst_of_refusals_cuts_it_once() -> None:
    """What had begun before the cut is of the same burst."""
    limit = ConcurrencyLimit(1000)
    for _ in range(6):
        window(limit)
    before = limit.limit
    for began in range(before):
        limit.refused(began / 1000, 1.0)
    assert limit.limit == pytest.approx(0.85 * before, abs=1)
    cut = limit.limit
    limit.refused(1.1, 1.2)
    assert limit.limit < cut


def test_b309_close_to_a_refusal_it_grows_by_one_a_window() -> None:
    """And faster again once that place is behind."""
    limit = ConcurrencyLimit(1000)
    for _ in range(10):
        window(limit)
    wall = limit.limit
    limit.refused(1.0, 2.0)
    grown = [limit.limit, *(window(limit) for _ in range(60))]
    near = [each for each in grown if 0.85 * wall <= each <= wall]
    assert len(near) > 5
    assert max(later - sooner for sooner, later in itertools.pairwise(near)) <= 1


def test_b309_what_it_takes_without_a_queue_is_measured_anew() -> None:
    """With a low limit, when it has become old; then the limit is what it was."""
    limit = ConcurrencyLimit(60)
    window(limit)
    for _ in range(OLD_AFTER - 1):
        window(limit, 1.4)
    assert (limit.limit, limit.base_s) == (60, 1.0)
    low = window(limit, 1.4)
    assert low < 60 / 1.4
    for _ in range(100):
        limit.answered(9.0, low + 1)  # more run than may: the queue still empties
    assert window(limit, 3.0) == low  # and what has waited there comes out
    assert window(limit, 1.2) == 60
    assert limit.base_s == pytest.approx(1.2)


@pytest.mark.parametrize("quick_s", [0.0, 1e-6, 1e-4])
def test_b309_answers_too_quick_to_be_measured_are_as_good_as_each_other(quick_s: float) -> None:
    """A clock that ticks every 16 ms says 0 s of most, and 16 ms of a few."""
    limit = ConcurrencyLimit(1000)
    for _ in range(2 * OLD_AFTER):
        window(limit, quick_s)
    wide = limit.limit
    assert wide > START
    for _ in range(2 * OLD_AFTER):
        limit.answered(0.016, limit.limit)
        for _ in range(limit.limit):
            limit.answered(0.0, limit.limit)
    assert limit.limit >= wide


elapsed = st.one_of(st.none(), st.just(0.0), st.floats(0.0, 1e6))


@given(st.lists(st.tuples(elapsed, st.integers(1, 40)), max_size=40), st.integers(1, 50))
def test_b309_it_is_always_a_number_from_one_to_the_ceiling(
    runs: list[tuple[float | None, int]], ceiling: int
) -> None:
    """Whatever comes, instant answers and days among it, alone or many alike. None is a refusal."""
    limit = ConcurrencyLimit(ceiling)
    for at, elapsed_s in enumerate(each for each, times in runs for _ in range(times)):
        if elapsed_s is None:
            limit.refused(at, at + 0.5)
        else:
            limit.answered(elapsed_s, limit.limit)
        assert 1 <= limit.limit <= ceiling


# -- the comparison: members with servers and a queue of their own, and callers without end


class Rule(Protocol):
    @property
    def limit(self) -> int: ...

    def answered(self, elapsed_s: float, in_flight: int) -> None: ...


class Windows:
    """What the two that were not taken share: they see the same means as the one that was."""

    def __init__(self) -> None:
        self.width, self._sum_s, self._count, self._most = START, 0.0, 0, 0

    @property
    def limit(self) -> int:
        return max(1, int(self.width))

    def answered(self, elapsed_s: float, in_flight: int) -> None:
        self._sum_s += elapsed_s
        self._count += 1
        self._most = max(self._most, in_flight)
        if self._count >= max(LEAST_SAMPLES, self.limit):
            mean_s, reached = self._sum_s / self._count, self._most >= self.limit
            self._sum_s, self._count, self._most = 0.0, 0, 0
            if reached:
                self.width = self.after(mean_s)

    def after(self, mean_s: float) -> float:
        raise NotImplementedError


class Gradient2(Windows):
    """Netflix's, with a long average over sixty windows."""

    long_s: float | None = None

    def after(self, mean_s: float) -> float:
        self.long_s = mean_s if self.long_s is None else self.long_s + (mean_s - self.long_s) / 30
        if self.long_s > 2 * mean_s:
            self.long_s *= 0.95
        gradient = max(0.5, min(1.0, 1.5 * self.long_s / mean_s))
        wanted = self.width * gradient + math.sqrt(self.width)
        return self.width + 0.2 * (wanted - self.width)


class Vegas(Windows):
    """By how many wait in the queue, as reckoned from the shortest ever seen."""

    base_s = math.inf

    def after(self, mean_s: float) -> float:
        self.base_s = min(self.base_s, mean_s)
        log = max(1.0, math.log10(self.width))
        queued = self.width * (1 - self.base_s / mean_s)
        if queued <= log:
            return self.width + 6 * log
        if queued < 3 * log:
            return self.width + log
        return self.width - log if queued > 6 * log else self.width


class Case(NamedTuple):
    """So many servers, and how much longer than a second a call takes on average: then, at half
    of the time, other ones.
    """

    servers: int
    sigma: float = 0.6
    then_servers: int | None = None
    then_s: float = 1.0


STEADY, WIDE, VARIED = Case(8), Case(40), Case(40, 1.0)
SLOWER, FEWER, MORE = Case(20, then_s=3.0), Case(16, then_servers=4), Case(4, then_servers=16)
DURATION_S = 1200.0


def run(rule: Rule, case: Case, seed: int = 1) -> tuple[float, float]:
    """The share of what the servers could do that was done in the last third, and how many times as
    long as without a queue it took.
    """
    rng = random.Random(seed)
    running: list[tuple[float, int, float]] = []
    waiting: deque[float] = deque()
    in_flight = number = 0
    took: list[float] = []

    def mean_s(now: float) -> float:
        return case.then_s if now > DURATION_S / 2 else 1.0

    def servers(now: float) -> int:
        later = case.then_servers
        return case.servers if later is None or now < DURATION_S / 2 else later

    def admit(now: float) -> None:
        nonlocal in_flight, number
        while in_flight < rule.limit:
            in_flight += 1
            waiting.append(now)
        while waiting and len(running) < servers(now):
            number += 1
            length = mean_s(now) * rng.lognormvariate(-(case.sigma**2) / 2, case.sigma)
            heapq.heappush(running, (now + length, number, waiting.popleft()))

    now = 0.0
    admit(now)
    while now < DURATION_S:
        now, _, began = heapq.heappop(running)
        rule.answered(now - began, in_flight)
        in_flight -= 1
        if now > DURATION_S * 2 / 3:
            took.append(now - began)
        admit(now)
    possible = servers(now) / mean_s(now) * DURATION_S / 3
    return len(took) / possible, sum(took) / len(took) / mean_s(now)


def made() -> ConcurrencyLimit:
    return ConcurrencyLimit(1000)


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("case", [STEADY, WIDE, VARIED, SLOWER, FEWER, MORE])
def test_b309_nearly_all_that_the_servers_can_do_is_done(case: Case, seed: int) -> None:
    """Without knowing how many there are, and when that changes; answers do not wait for long."""
    share, times = run(made(), case, seed)
    assert share > 0.9
    assert times < 4.0


@pytest.mark.parametrize(
    ("rule", "case", "least", "most"),
    [
        (Gradient2, STEADY, 0.95, math.inf),
        (Vegas, VARIED, 0.0, 0.6),
        (Vegas, SLOWER, 0.0, 0.6),
    ],
)
def test_b309_why_it_is_neither_of_the_two(
    rule: Callable[[], Rule], case: Case, least: float, most: float
) -> None:
    """The one has the queue of its own making in its average, and does not see it; the other takes
    the luckiest answers for what they all should be.
    """
    share, times = run(rule(), case)
    assert least < share < most
    if rule is Gradient2:
        assert times > 2.5 * run(made(), case)[1]


def refusals(bears: Callable[[float], int], seed: int = 1) -> tuple[float, float]:
    """A member that refuses whatever is more than it bears, and callers without end: the share that
    it answers of what it could, and that of the calls that it refuses.
    """
    rng, rule = random.Random(seed), made()
    running: list[tuple[float, int, float]] = []
    number = refused = answered = 0
    now, possible = 0.0, 0.0

    def admit(now: float) -> None:
        nonlocal number, refused
        while len(running) < rule.limit:
            if len(running) >= bears(now):
                refused += 1
                rule.refused(now, now)
                return
            number += 1
            heapq.heappush(running, (now + rng.lognormvariate(-0.18, 0.6), number, now))

    admit(now)
    while now < DURATION_S:
        before, in_flight = now, len(running)
        now, _, began = heapq.heappop(running)
        possible += (now - before) * bears(before)
        answered += 1
        rule.answered(now - began, in_flight)
        admit(now)
    return answered / possible, refused / (answered + refused)


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize(
    "bears",
    [
        lambda now: 20,
        lambda now: 3,
        lambda now: 40 if now < 600 else 20,
        lambda now: 20 if now < 600 else 40,
    ],
    ids=["20", "3", "halved", "doubled"],
)
def test_b309_a_member_that_refuses_is_seldom_made_to(
    bears: Callable[[float], int], seed: int
) -> None:
    """Two calls of a hundred at most, also when what it bears is halved or doubled."""
    share, refused = refusals(bears, seed)
    assert share > 0.88
    assert refused < 0.02
