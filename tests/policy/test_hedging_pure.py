"""When a second attempt joins a slow one, how often, and who wins: the parts without a pool."""

from __future__ import annotations

import threading
from typing import Any, cast

import pytest
from helpers_pools import WAIT_S
from hypothesis import given
from hypothesis import strategies as st

from greenroom.actors.claims.claims import Claim, Claims
from greenroom.actors.claims.race import Race
from greenroom.actors.policy.hedging import MIN_SAMPLES, HedgeBudget, Percentile95
from greenroom.actors.policy.retry_plan import RetryPolicy
from greenroom.actors.request.hedger import outstanding_s
from greenroom.actors.request.job import Attempt, Failure, Job
from greenroom.messages import FailureKind, PoolConfig, Request

REMEMBERED = 256
ERROR = ConnectionError("down")
FRESH = 16

latencies = st.floats(0.0, 100.0)


def percentile_of(samples: list[float]) -> Percentile95:
    percentile = Percentile95()
    for sample in samples:
        percentile.add(sample)
    return percentile


class TestPercentile95:
    def test_b50_fewer_than_20_samples_say_nothing(self) -> None:
        """Behaviour 50: the p95 of at least 20 samples."""
        percentile = Percentile95()
        for _ in range(MIN_SAMPLES - 1):
            percentile.add(1.0)
            assert percentile.value() is None
        percentile.add(1.0)
        assert percentile.value() == 1.0

    @pytest.mark.parametrize(
        ("count", "rank"), [(20, 19), (21, 20), (40, 38), (100, 95), (256, 244)]
    )
    def test_it_is_the_nearest_rank(self, count: int, rank: int) -> None:
        """The smallest sample that at least 95% of them do not exceed."""
        assert percentile_of([float(n) for n in range(count, 0, -1)]).value() == rank

    @given(st.lists(latencies, min_size=MIN_SAMPLES, max_size=2 * REMEMBERED))
    def test_it_is_the_definition_of_a_percentile(self, samples: list[float]) -> None:
        """At least 95% of the last 256 samples are not above it, fewer than 95% are below it."""
        value = percentile_of(samples).value()
        known = samples[-REMEMBERED:]
        assert value in known
        assert value is not None
        assert 100 * sum(each <= value for each in known) >= 95 * len(known)
        assert 100 * sum(each < value for each in known) < 95 * len(known)

    @given(st.lists(latencies, max_size=3 * MIN_SAMPLES))
    def test_it_is_taken_anew_every_16_samples(self, samples: list[float]) -> None:
        """In between it stays as it was, so that a request costs no sorting."""
        percentile = Percentile95()
        expected: float | None = None
        for count, sample in enumerate(samples, 1):
            percentile.add(sample)
            if count >= MIN_SAMPLES and (count - MIN_SAMPLES) % FRESH == 0:
                expected = percentile_of(samples[:count]).value()
            assert percentile.value() == expected

    def test_what_was_long_ago_is_forgotten(self) -> None:
        """Only the last 256 latencies count."""
        percentile = percentile_of([9.0] * 500 + [1.0] * REMEMBERED)
        assert percentile.value() == 1.0


class TestHedgeBudget:
    @given(st.lists(st.booleans(), min_size=20, max_size=600))
    def test_b50_at_most_one_in_twenty(self, wishes: list[bool]) -> None:
        """n requests have at most n/20 hedges, for every n from 20 on, whichever ask for one."""
        budget, hedges = HedgeBudget(), 0
        for count, wished in enumerate(wishes, 1):
            budget.deposit()
            if wished and budget.has_any():
                budget.withdraw()
                hedges += 1
            assert hedges <= max(1, count // 20)

    @given(st.lists(st.integers(0, 300), max_size=20))
    def test_bursts_are_bounded(self, pauses: list[int]) -> None:
        """After however long a time without, ten hedges at once are the most."""
        budget = HedgeBudget()
        for pause in pauses:
            for _ in range(pause):
                budget.deposit()
            burst = 0
            while budget.has_any():
                budget.withdraw()
                burst += 1
            assert burst <= 10

    def test_the_first_is_granted_in_advance(self) -> None:
        """The second is to be had when 40 requests have come: 20 pay for each."""
        budget = HedgeBudget()
        budget.deposit()
        assert budget.has_any()
        budget.withdraw()
        for _ in range(38):
            budget.deposit()
            assert not budget.has_any()
        budget.deposit()
        assert budget.has_any()

    def test_it_is_exact_in_the_long_run(self) -> None:
        """100,000 requests that all want one have 5,000 hedges: no rounding error adds up."""
        budget, hedges = HedgeBudget(), 0
        for _ in range(100_000):
            budget.deposit()
            if budget.has_any():
                budget.withdraw()
                hedges += 1
        assert hedges == 5_000

    def test_it_says_what_is_left(self) -> None:
        """In hedges."""
        assert repr(HedgeBudget()) == "<HedgeBudget 1.00 left>"


# -- who wins


def job_of(request_id: str = "r") -> Job:
    policy = RetryPolicy.from_config(PoolConfig())
    return Job(request_id, Request("x", request_id=request_id), None, 0.0, None, policy)


def attempt_of(job: Job, member: str, started_at: float = 0.0) -> Attempt:
    """An attempt that is under way, as the router begins one."""
    job.attempts += 1
    ticket = (job.id, job.attempts)
    attempt = Attempt(job, member, 0, 1, 1, False, started_at, ticket=ticket)
    if job.current is None:
        job.current = attempt
    else:
        job.hedge = attempt
    return attempt


def racing(claims: Claims) -> tuple[Job, Attempt, Attempt]:
    """A request with two attempts, both open to claims."""
    job = job_of()
    first, second = attempt_of(job, "a"), attempt_of(job, "b")
    job.claim.race = Race()
    for attempt in (first, second):
        claims.open(attempt.ticket, job.claim)
    return job, first, second


class TestRace:
    def test_the_first_that_asks_wins(self) -> None:
        """It stays the winner, and the other one has lost."""
        race, one, other = Race(), ("r", 1), ("r", 2)
        assert not race.lost(one)
        assert not race.won(one)
        assert race.win(one)
        assert not race.win(other)
        assert race.win(one)
        assert (race.won(one), race.lost(one)) == (True, False)
        assert (race.won(other), race.lost(other)) == (False, True)

    def test_of_many_threads_one_wins(self) -> None:
        """Whoever asks at the same instant: there is one winner."""
        for _ in range(200):
            race, start = Race(), threading.Barrier(4, timeout=WAIT_S)
            won: list[int] = []

            def run(number: int, race: Any = race, start: Any = start, won: Any = won) -> None:
                start.wait()
                if race.win(("r", number)):
                    won.append(number)

            threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(WAIT_S)
            assert len(won) == 1


class TestClaims:
    def test_b50_two_that_answer_have_one_claim(self) -> None:
        """The first answer wins: the second claims in vain."""
        claims = Claims()
        job, first, second = racing(claims)
        assert claims.claim(second.ticket) is job.claim
        assert claims.claim(first.ticket) is None
        assert len(claims) == 0

    def test_a_race_that_is_called_off_meanwhile_costs_no_answer(self) -> None:
        """The router opens a race, sees that the first has just answered, and calls it off, while
        that one looks at it.
        """

        class CalledOff:
            """A claim whose race is there at the first look only."""

            looks = 0
            future = None
            side_effects: tuple[Any, ...] = ()

            @property
            def race(self) -> Race | None:
                self.looks += 1
                return Race() if self.looks == 1 else None

        claims, ticket = Claims(), ("r", 1)
        for claim in (CalledOff(), CalledOff()):
            claims.open(ticket, cast(Claim, claim))
            assert claims.start_side_effects(ticket)
            claim.looks = 0
            assert claims.claim(ticket) is cast(Claim, claim)

    def test_the_loser_may_not_start_side_effects(self) -> None:
        """Who starts them first is the winner, and the other one neither answers nor starts any."""
        claims = Claims()
        job, first, second = racing(claims)
        assert claims.start_side_effects(second.ticket)
        assert job.must_not_repeat(second)
        assert not job.must_not_repeat(first)
        assert not claims.start_side_effects(first.ticket)
        assert claims.claim(first.ticket) is None
        assert claims.claim(second.ticket) is job.claim

    def test_who_has_been_given_up_wins_no_race(self) -> None:
        """Else nobody would answer: neither it, nor the other one, which had lost."""
        claims = Claims()
        job, first, second = racing(claims)
        assert claims.withdraw(first.ticket)
        assert not claims.start_side_effects(first.ticket)
        assert not job.must_not_repeat(first)
        assert claims.claim(second.ticket) is job.claim

    def test_giving_up_and_starting_side_effects_exclude_each_other(self) -> None:
        """Two threads, a thousand times: who withdraws an attempt first is not beaten by it."""
        claims, rounds = Claims(), 1000
        races = [racing(Claims()) for _ in range(rounds)]
        start = threading.Barrier(2, timeout=WAIT_S)
        started: list[bool] = []

        def effects() -> None:
            for _, first, _ in races:
                start.wait()
                started.append(claims.start_side_effects(first.ticket))
                start.wait()

        thread = threading.Thread(target=effects)
        thread.start()
        noted = []
        for job, first, _ in races:
            claims.open(first.ticket, job.claim)
            start.wait()
            claims.withdraw(first.ticket)
            noted.append(job.must_not_repeat(first))  # what the router sees right after
            start.wait()
        thread.join(WAIT_S)
        assert noted == started
        for ok, (job, first, _) in zip(started, races, strict=True):
            assert job.claim.race is not None
            assert job.claim.race.won(first.ticket) is ok


class TestJob:
    def test_the_other_attempt_takes_over(self) -> None:
        """Leaving one of two, the other is the one that is awaited, and found by its ticket."""
        for leaves_first in (True, False):
            job, first, second = racing(Claims())
            leaving, staying = (first, second) if leaves_first else (second, first)
            job.leave(leaving)
            assert list(job.running()) == [staying]
            assert (job.current, job.hedge) == (staying, None)
            assert job.attempt_of(staying.ticket) is staying
            assert job.attempt_of(leaving.ticket) is None
            assert leaving.job is None
            job.leave(staying)
            assert list(job.running()) == []

    def test_notes_of_failures_can_be_read_meanwhile(self) -> None:
        """A failure noted by the router does not change what an answer is being made of."""
        job, first, second = racing(Claims())
        job.failed(first, Failure(FailureKind.UNAVAILABLE, ERROR, 1.0))
        read = job.claim.errors
        job.failed(second, Failure(FailureKind.UNAVAILABLE, ERROR, 1.0))
        job.failed(second, Failure(FailureKind.TIMEOUT, ERROR, 2.0))
        assert [each.member for each in read] == ["a"]
        assert [(each.member, each.attempts) for each in job.claim.errors] == [("a", 1), ("b", 2)]


class TestTimes:
    def test_b50_a_hedge_does_not_lower_the_p95(self) -> None:
        """Where the second attempt wins, what counts is how long the first was outstanding."""
        job = job_of()
        first, second = attempt_of(job, "a", 10.0), attempt_of(job, "b", 13.0)
        assert outstanding_s(job, second, 0.5) == 3.5
        assert outstanding_s(job, first, 3.2) == 3.2

    def test_after_a_failure_it_is_the_attempts_own_time(self) -> None:
        """The first has not been outstanding, it has failed."""
        job = job_of()
        first, second = attempt_of(job, "a", 10.0), attempt_of(job, "b", 13.0)
        job.leave(first)
        assert outstanding_s(job, second, 0.5) == 0.5
