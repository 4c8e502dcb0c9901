"""Other thresholds and times for what has counted already."""

from __future__ import annotations

import random

from greenroom.messages.config import PoolConfig
from greenroom.messages.status import CircuitState, FailureKind
from greenroom.supervisors.policy.breaker import Breaker, BreakerPolicy
from greenroom.supervisors.policy.outcome_window import OutcomeWindow
from greenroom.supervisors.policy.probe_schedule import ProbeSchedule
from greenroom.supervisors.policy.restart_window import RestartWindow

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN


def policy(**config: object) -> BreakerPolicy:
    return BreakerPolicy.from_config(PoolConfig(**config))  # type: ignore[arg-type]


def breaker(**config: object) -> Breaker:
    return Breaker(policy(**config), random.Random(1))


def fail(of: Breaker, now: float, request: int | None = None) -> None:
    of.record(of.epoch, now, kind=FailureKind.UNAVAILABLE, request=request)


def test_a_lower_threshold_opens_by_the_next_failure_and_not_before() -> None:
    """What has been counted until then counts."""
    of = breaker(circuit_failure_threshold=10)
    for now in range(4):
        fail(of, now)
    of.configure(policy(circuit_failure_threshold=3))
    assert of.state is CLOSED
    of.record(of.epoch, 5.0, kind=FailureKind.CANCELLED)
    assert of.state is CLOSED
    fail(of, 6.0)
    assert of.state is OPEN


def test_a_higher_threshold_is_what_is_left_to_go() -> None:
    of = breaker(circuit_failure_threshold=3, circuit_min_calls=20)
    fail(of, 0.0)
    fail(of, 1.0)
    of.configure(policy(circuit_failure_threshold=5, circuit_min_calls=20))
    fail(of, 2.0)
    fail(of, 3.0)
    assert of.state is CLOSED
    fail(of, 4.0)
    assert of.state is OPEN


def test_an_opening_ends_when_it_was_to_end_and_the_next_one_goes_by_the_new_time() -> None:
    of = breaker(circuit_failure_threshold=1, circuit_reset_timeout_s=5.0)
    fail(of, 0.0)
    of.configure(policy(circuit_failure_threshold=1, circuit_reset_timeout_s=50.0))
    assert of.reopens_at == 5.0
    of.tick(5.0)
    assert of.state is HALF_OPEN
    fail(of, 5.0)
    assert of.reopens_at is not None
    assert of.reopens_at >= 55.0


def test_a_half_open_one_lets_as_many_through_as_are_said_now() -> None:
    of = breaker(circuit_failure_threshold=1, circuit_success_threshold=5)
    fail(of, 0.0)
    of.tick(5.0)
    assert of.trial_credit == 1
    more = policy(circuit_failure_threshold=1, half_open_permits=3, circuit_success_threshold=1)
    of.configure(more)
    assert of.trial_credit == 3
    of.record(of.epoch, 6.0, kind=None)
    assert of.state is CLOSED


def test_what_is_taken_back_of_an_opening_is_judged_by_the_new_thresholds() -> None:
    """Its closed state, which counts on, is another as well."""
    of = breaker(circuit_failure_threshold=2, circuit_min_calls=20)
    fail(of, 0.0)
    fail(of, 1.0, request=7)
    assert of.state is OPEN
    of.configure(policy(circuit_failure_threshold=1, circuit_min_calls=20))
    of.retract(7, 2.0)
    assert of.state is OPEN  # one is enough by now


def test_a_window_that_shrinks_keeps_the_last_ones() -> None:
    window = OutcomeWindow(10)
    window.record(failed=True, slow=True, request=1)
    window.record(failed=True, slow=False)
    window.extend(3)
    window.record(failed=True, slow=True, request=2)
    window.resize(4)
    assert (len(window), window.failed, window.slow) == (4, 1, 1)
    assert not window.retract(1)
    assert window.retract(2)
    assert (len(window), window.failed, window.slow) == (3, 0, 0)
    window.extend(9)
    assert len(window) == 4
    window.resize(6)
    window.extend(9)
    assert len(window) == 6


def test_a_breaker_whose_window_is_another_goes_by_its_rate_of_the_last_ones() -> None:
    of = breaker(circuit_window=20, circuit_min_calls=10, circuit_failure_threshold=99)
    for now in range(8):
        fail(of, now)
    small = policy(circuit_window=4, circuit_min_calls=4, circuit_failure_threshold=99)
    of.configure(small)
    assert of.state is CLOSED
    fail(of, 9.0)
    assert of.state is OPEN


def test_probes_follow_a_shorter_interval_at_once_and_a_longer_one_from_the_next_on() -> None:
    schedule = ProbeSchedule(1000.0, 5.0, random.Random(1), now=0.0)
    schedule.configure(10.0, 2.0)
    schedule.hasten(0.0)
    assert schedule.due_at <= 10.0
    probe = schedule.start(10.0)
    schedule.hasten(10.0)
    assert schedule.running == probe
    assert schedule.expired(11.9) is None
    assert schedule.expired(12.0) == probe
    schedule.configure(1000.0, 2.0)
    due = schedule.due_at
    schedule.hasten(12.0)
    assert schedule.due_at == due
    assert schedule.finish(probe, 12.0)
    assert schedule.due_at > 900.0


def test_crashes_that_have_been_counted_count_for_another_limit() -> None:
    window = RestartWindow(9, 60.0)
    assert window.add(0.0)
    assert window.add(1.0)
    window.configure(2, 60.0)
    assert not window.add(2.0)
