"""Failures that turn out to be those of a request: breaker, window and health take them back."""

from __future__ import annotations

import dataclasses
import random
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenroom.messages import AgentStatus, CircuitState, FailureKind, PoolConfig
from greenroom.supervisors.policy.breaker import Breaker, BreakerPolicy, Transition
from greenroom.supervisors.policy.health import HealthRecord
from greenroom.supervisors.policy.outcome_window import OutcomeWindow

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
UNKNOWN = FailureKind.UNKNOWN


class Bench:
    """A breaker with its clock."""

    def __init__(self) -> None:
        policy = BreakerPolicy.from_config(PoolConfig())
        self.breaker = Breaker(dataclasses.replace(policy, failure_rate=None), random.Random(1))
        self.now = 100.0

    @property
    def state(self) -> CircuitState:
        return self.breaker.state

    def fail(
        self, *requests: int, kind: FailureKind = UNKNOWN, may_open: bool = True
    ) -> Transition | None:
        made = None
        for request in requests:
            made = self.breaker.record(
                self.breaker.epoch, self.now, kind=kind, request=request, may_open=may_open
            )
        return made

    def succeed(self) -> None:
        self.breaker.record(self.breaker.epoch, self.now, kind=None)

    def half_open(self) -> None:
        assert self.breaker.reopens_at is not None
        self.now = self.breaker.reopens_at
        self.breaker.tick(self.now)
        assert self.state is HALF_OPEN

    def try_with(self, request: int, kind: FailureKind = UNKNOWN) -> None:
        assert self.breaker.acquire(self.now) is not None
        self.fail(request, kind=kind)

    def retract(self, request: int) -> Transition | None:
        return self.breaker.retract(request, self.now)


# -- the breaker


def test_a_request_counts_once_however_often_it_fails() -> None:
    """One alone never opens a breaker whose threshold is above one."""
    bench = Bench()
    bench.fail(*[1] * 100)
    assert (bench.state, bench.breaker.consecutive_failures) == (CLOSED, 1)
    bench.fail(2, 3, 4)
    assert bench.state is CLOSED
    bench.fail(5)
    assert bench.state is OPEN


def test_what_is_taken_back_counts_no_more() -> None:
    """Four, one of them taken back: it takes two more."""
    bench = Bench()
    bench.fail(1, 2, 3, 4)
    assert bench.retract(2) is None
    assert bench.breaker.consecutive_failures == 3
    bench.fail(5)
    assert bench.state is CLOSED
    bench.fail(6)
    assert bench.state is OPEN


def test_an_opening_is_undone_with_the_other_counts_as_they_were() -> None:
    """Closed again, four in a row: one more and it is open, for as long as the first time."""
    bench = Bench()
    bench.fail(1, 2, 3, 4, 5)
    epoch = bench.breaker.epoch
    undone = bench.retract(3)
    assert undone is not None
    assert (undone.before, undone.after, undone.epoch) == (OPEN, CLOSED, epoch + 1)
    assert "the request's fault" in undone.reason
    assert (bench.breaker.consecutive_failures, bench.breaker.openings) == (4, 0)
    opened = bench.fail(6)
    assert opened is not None
    assert (opened.after, opened.reopens_at) == (OPEN, bench.now + 5.0)


def test_an_opening_that_would_have_come_anyway_stands() -> None:
    """Who came too late to have a share in it, or was one too many."""
    bench = Bench()
    bench.fail(1, 2, 3, 4, 5)
    assert bench.retract(6) is None
    assert bench.state is OPEN


@pytest.mark.parametrize("kind", [FailureKind.AUTH, FailureKind.QUOTA])
def test_what_opens_at_once_is_never_undone(kind: FailureKind) -> None:
    """It cannot be the fault of a request."""
    bench = Bench()
    bench.fail(1, kind=kind)
    assert bench.retract(1) is None
    assert bench.state is OPEN


def test_a_trial_that_failed_is_undone_to_half_open() -> None:
    """With a permit for another one; the opening that it made is not counted."""
    bench = Bench()
    bench.fail(1, 2, 3, 4, 5)
    for request in range(1, 6):
        bench.breaker.settle(request)
    bench.half_open()
    bench.try_with(6)
    assert (bench.state, bench.breaker.openings) == (OPEN, 2)
    undone = bench.retract(6)
    assert undone is not None
    assert (undone.before, undone.after) == (OPEN, HALF_OPEN)
    assert (bench.breaker.openings, bench.breaker.trial_credit) == (1, 1)


def test_a_trial_that_failed_for_good_confirms_the_opening() -> None:
    """Whatever becomes of the requests that had opened it."""
    bench = Bench()
    bench.fail(1, 2, 3, 4, 5)
    bench.half_open()
    bench.try_with(6)
    bench.breaker.settle(6)
    assert bench.retract(1) is None
    assert bench.state is OPEN


def test_an_opening_is_undone_while_half_open() -> None:
    """It had never been ill: no trial is needed."""
    bench = Bench()
    bench.fail(1, 2, 3, 4, 5)
    bench.half_open()
    undone = bench.retract(1)
    assert undone is not None
    assert (undone.before, undone.after) == (HALF_OPEN, CLOSED)


def test_a_trial_stands_for_a_failure_when_the_opening_is_undone() -> None:
    """Four and the trial's make five: it would have opened by that one."""
    bench = Bench()
    bench.fail(1, 2, 3, 4, 5)
    bench.half_open()
    bench.try_with(6)
    assert bench.retract(1) is None
    assert bench.state is OPEN
    undone = bench.retract(2)
    assert undone is not None
    assert (bench.state, bench.breaker.consecutive_failures) == (CLOSED, 4)


def test_an_opening_that_was_held_back_comes_at_the_next_failure() -> None:
    """Or when somebody looks at it again."""
    bench = Bench()
    bench.fail(1, 2, 3, 4)
    bench.fail(5, 6, may_open=False)
    assert (bench.state, bench.breaker.consecutive_failures) == (CLOSED, 6)
    other = Bench()
    other.fail(1, 2, 3, 4)
    other.fail(5, may_open=False)
    assert other.breaker.review(other.now, beyond_doubt=False) is not None
    bench.fail(7)
    assert (bench.state, other.state) == (OPEN, OPEN)


def test_beyond_doubt_is_what_cannot_be_taken_back() -> None:
    """Requests that have ended, and failures without a number."""
    bench = Bench()
    bench.fail(1, 2, 3, 4, 5, may_open=False)
    for request in range(1, 5):
        assert bench.breaker.review(bench.now, beyond_doubt=True) is None
        assert not bench.breaker.must_open()
        bench.breaker.settle(request)
    bench.breaker.settle(5)
    assert bench.breaker.must_open()
    assert bench.breaker.review(bench.now, beyond_doubt=True) is not None


def test_in_doubt_until_its_requests_have_ended() -> None:
    """An opening by failures all of which may still be taken back."""
    bench = Bench()
    seen = [bench.breaker.in_doubt]
    bench.fail(1, 2, 3, 4, 5)
    for request in range(1, 6):
        seen.append(bench.breaker.in_doubt)
        bench.breaker.settle(request)
    seen.append(bench.breaker.in_doubt)
    assert seen == [False, *[True] * 5, False]


def test_by_hand_nothing_is_left_to_be_taken_back() -> None:
    """Forced open, disabled, reset: the requests of before have no say."""
    for by_hand in (Breaker.force_open, Breaker.disable, Breaker.reset):
        bench = Bench()
        bench.fail(1, 2, 3, 4, 5)
        by_hand(bench.breaker, bench.now)
        state = bench.state
        assert bench.retract(1) is None
        assert bench.state is state


# -- the window


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(
    st.integers(1, 6),
    st.lists(
        st.tuples(
            st.sampled_from(["record", "record", "extend", "retract", "settle"]),
            st.booleans(),
            st.booleans(),
            st.integers(1, 5),
        ),
        max_size=40,
    ),
)
def test_a_window_counts_what_is_in_it(size: int, steps: list[tuple[str, bool, bool, int]]) -> None:
    """Whatever is recorded, taken back and settled."""
    window = OutcomeWindow(size)
    model: deque[tuple[bool, bool, int | None]] = deque(maxlen=size)
    for what, failed, slow, number in steps:
        if what == "record":
            request = number if failed else None
            window.record(failed=failed, slow=slow, request=request)
            if request is None or request not in [each[2] for each in model]:
                model.append((failed, slow, request))
        elif what == "extend":
            window.extend(number)
            model.extend([(False, False, None)] * number)
        elif what == "retract":
            there = number in [each[2] for each in model]
            assert window.retract(number) is there
            model = deque([each for each in model if each[2] != number], maxlen=size)
        else:
            window.settle(number)
            model = deque([(f, s, None if of == number else of) for f, s, of in model], maxlen=size)
        assert (len(window), window.failed, window.slow) == (
            len(model),
            sum(each[0] for each in model),
            sum(each[1] for each in model),
        )
        kept = [each for each in model if each[2] is None]
        settled = window.settled()
        assert (len(settled), settled.failed) == (len(kept), sum(each[0] for each in kept))


# -- the health record


def test_health_takes_the_failures_of_a_request_back() -> None:
    """Counts, rate and status are as if they had not been; what the last one said stays."""
    record = HealthRecord(0.3, 0.7)
    for _ in range(3):
        record.record(1.0, None, 0.1)
    for _ in range(4):
        record.record(2.0, UNKNOWN, 0.1, "E: odd", request=7)
    record.record(2.0, UNKNOWN, 0.1, "E: other", request=8)
    assert record.status(3.0, CLOSED) is AgentStatus.DEGRADED
    record.retract(7)
    assert (record.failures, record.consecutive_failures) == (1, 1)
    assert record.error_rate(3.0) == 0.25
    assert record.status(3.0, CLOSED) is AgentStatus.HEALTHY
    record.retract(7)
    record.settle(8)
    record.retract(8)
    assert (record.failures, record.consecutive_failures, record.last_error) == (1, 1, "E: other")


def test_health_takes_back_what_was_before_a_success() -> None:
    """The row has ended by that; the count has not."""
    record = HealthRecord(0.3, 0.7)
    record.record(1.0, UNKNOWN, request=7)
    record.record(1.0, None)
    record.record(1.0, UNKNOWN, request=7)
    assert (record.failures, record.consecutive_failures) == (2, 1)
    record.retract(7)
    assert (record.failures, record.consecutive_failures) == (0, 0)


@pytest.mark.parametrize("kind", [FailureKind.RATE_LIMITED, FailureKind.NOT_FOUND])
def test_who_is_throttled_is_not_ill(kind: FailureKind) -> None:
    """It is counted and shown, and is no part of the rate, nor of the row."""
    record = HealthRecord(0.3, 0.7)
    for _ in range(20):
        record.record(1.0, kind, error="E: no")
    assert (record.failures, record.consecutive_failures, record.error_rate(1.0)) == (20, 0, 0.0)
    assert (record.last_error, record.status(1.0, CLOSED)) == ("E: no", AgentStatus.HEALTHY)


@given(
    events=st.lists(
        st.tuples(st.sampled_from("fssrx"), st.integers(1, 6), st.booleans()), max_size=60
    ),
    threshold=st.integers(1, 8),
    window=st.integers(2, 12),
    data=st.data(),
)
def test_far_from_opening_means_that_no_failure_opens_it(
    events: list[tuple[str, int, bool]], threshold: int, window: int, data: st.DataObject
) -> None:
    """Whatever has been counted, held back, taken back and settled: who says that it is not near
    would not open by one more failure either, nor by a review.
    """
    policy = dataclasses.replace(
        BreakerPolicy.from_config(PoolConfig()),
        failure_threshold=threshold,
        window=window,
        min_calls=data.draw(st.integers(1, window)),
        failure_rate=data.draw(st.sampled_from([None, 0.3, 0.5, 1.0])),
        slow_rate=data.draw(st.sampled_from([None, 0.5])),
        slow_call_s=1.0,
    )
    breaker = Breaker(policy, random.Random(1))
    for what, request, slow in events:
        far = breaker.state is CLOSED and not breaker.is_near_opening()
        if far:
            assert not breaker.must_open()
            for beyond_doubt in (False, True):
                assert breaker.review(1.0, beyond_doubt=beyond_doubt) is None
        if what == "f":
            made = breaker.record(
                breaker.epoch, 1.0, kind=UNKNOWN, request=request, elapsed_s=2.0 * slow
            )
            assert not (far and made)
        elif what == "s":
            breaker.record(breaker.epoch, 1.0, kind=None, elapsed_s=2.0 * slow)
        elif what == "r":
            breaker.retract(request, 1.0)
        else:
            breaker.settle(request)
