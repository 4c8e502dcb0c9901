"""The smaller decisions: delays, windows, restarts, health, probes; then the lone breaker."""

from __future__ import annotations

import dataclasses
import math
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenroom.messages.config import PoolConfig
from greenroom.messages.errors import PoolError
from greenroom.messages.status import AgentStatus, CircuitState, FailureKind
from greenroom.supervisors.circuit_breaker import CircuitBreaker, CircuitOpenError
from greenroom.supervisors.policy.breaker import BreakerPolicy, Permit
from greenroom.supervisors.policy.delays import reopen_delay, restart_delay
from greenroom.supervisors.policy.health import HEALTH_WINDOW_S, MIN_OUTCOMES, HealthRecord
from greenroom.supervisors.policy.outcome_window import OutcomeWindow
from greenroom.supervisors.policy.probe_schedule import ProbeSchedule
from greenroom.supervisors.policy.restart_window import RestartWindow
from greenroom.testing import FakeClock

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
HEALTHY, DEGRADED, UNHEALTHY = AgentStatus.HEALTHY, AgentStatus.DEGRADED, AgentStatus.UNHEALTHY

repeatable = settings(derandomize=True, database=None, deadline=None)
seconds = st.floats(0.001, 1e6)


# Delays


def test_the_first_opening_lasts_exactly_the_base() -> None:
    """No jitter where the user has said how long."""
    assert {reopen_delay(1, 30.0, 300.0, random.Random(seed)) for seed in range(50)} == {30.0}


@repeatable
@given(st.integers(1, 10_000), seconds, st.floats(1.0, 1e6), st.integers(0, 99))
def test_a_reopening_delay_keeps_its_bounds(n: int, base: float, times: float, seed: int) -> None:
    """base <= delay <= max, and within the upper half of the doubled nominal delay."""
    longest = base * times
    delay = reopen_delay(n, base, longest, random.Random(seed))
    nominal = min(longest, base * 2.0 ** min(n - 1, 1000))
    assert max(base, nominal / 2) <= delay <= nominal <= longest


def test_a_reopening_delay_uses_its_whole_range() -> None:
    """Members that failed together are spread over the range, not put at one end of it."""
    rng = random.Random(3)
    delays = [reopen_delay(4, 10.0, 300.0, rng) for _ in range(1000)]
    assert min(delays) < 41.0
    assert max(delays) > 79.0


def test_restart_delays_double_up_to_the_limit() -> None:
    """A member that fails again waits twice as long, at most the limit; no failure, no wait."""
    assert [restart_delay(n, 0.1, 1.0) for n in range(1, 6)] == [0.1, 0.2, 0.4, 0.8, 1.0]
    assert restart_delay(0, 0.1) == 0.0
    assert restart_delay(10**9, 0.1) == 30.0
    assert restart_delay(10**9, 0.0) == 0.0


# The window of outcomes


@repeatable
@given(st.integers(1, 8), st.lists(st.tuples(st.booleans(), st.booleans()), max_size=40))
def test_the_window_counts_the_last_outcomes(size: int, outcomes: list[tuple[bool, bool]]) -> None:
    """At any time its counts are those of the last `size` outcomes: each leaves exactly once."""
    window = OutcomeWindow(size)
    for end, (failed, slow) in enumerate(outcomes, 1):
        window.record(failed=failed, slow=slow)
        last = outcomes[:end][-size:]
        assert (len(window), window.failed) == (len(last), sum(f for f, _ in last))
        assert window.slow == sum(s for _, s in last)
        assert window.failure_rate == window.failed / len(last)
        assert window.slow_rate == window.slow / len(last)


def test_an_empty_window_has_rates_of_zero() -> None:
    """Nothing seen is nothing failed; a window of no size is refused."""
    assert (OutcomeWindow(3).failure_rate, OutcomeWindow(3).slow_rate) == (0.0, 0.0)
    with pytest.raises(ValueError, match="size must be at least 1, got 0"):
        OutcomeWindow(0)


# Restarts


def test_b35_the_second_crash_within_the_period_gives_up() -> None:
    """intensity=1, period=5 s: the second crash within 5 s gives up."""
    for after in (0.0, 4.999, 5.0):
        window = RestartWindow(1, 5.0)
        assert window.add(100.0)
        assert not window.add(100.0 + after)


def test_b35_slower_crashes_go_on() -> None:
    """intensity=1, period=5 s: crashes further apart than that are restarted for ever."""
    window = RestartWindow(1, 5.0)
    assert all(window.add(100.0 + 5.001 * n) for n in range(100))
    assert repr(window) == "<RestartWindow 1 crashes, 1 allowed in 5 s>"


def test_b35_intensity_zero_gives_up_at_the_first_crash() -> None:
    """With no restarts allowed the first crash is one too many; a reset by hand forgets it."""
    assert not RestartWindow(0, 5.0).add(100.0)
    window = RestartWindow(2, 60.0)
    assert [window.add(100.0 + n) for n in range(3)] == [True, True, False]
    window.clear()
    assert window.add(103.0)


# Health


class Patient:
    """A health record with a clock; degraded from 30%, unhealthy from 70%."""

    def __init__(self) -> None:
        self.record = HealthRecord(degraded_at=0.3, unhealthy_at=0.7)
        self.now = 100.0

    def succeed(self, times: int = 1, took: float = 0.1) -> None:
        for _ in range(times):
            self.record.record(self.now, None, took)

    def fail(self, times: int = 1, kind: FailureKind = FailureKind.UNKNOWN) -> None:
        for _ in range(times):
            self.record.record(self.now, kind, 0.1, f"Boom: {kind}")

    def status(self, circuit: CircuitState = CLOSED) -> AgentStatus:
        return self.record.status(self.now, circuit)


@pytest.mark.parametrize(
    ("good", "bad", "status"),
    [(8, 2, HEALTHY), (7, 3, DEGRADED), (4, 6, DEGRADED), (3, 7, UNHEALTHY), (0, 4, HEALTHY)],
)
def test_status_follows_the_recent_error_rate(good: int, bad: int, status: AgentStatus) -> None:
    """At the threshold it is worse already; too few outcomes say nothing."""
    patient = Patient()
    patient.succeed(good)
    patient.fail(bad)
    assert patient.status() is status
    assert patient.record.error_rate(patient.now) == bad / (good + bad)


def test_status_is_circuit_open_unless_the_breaker_lets_all_through() -> None:
    """Open, half-open and forced are circuit_open, whatever the outcomes were."""
    patient = Patient()
    shut = [OPEN, HALF_OPEN, CircuitState.FORCED_OPEN]
    assert {patient.status(circuit) for circuit in shut} == {AgentStatus.CIRCUIT_OPEN}
    assert patient.status(CircuitState.DISABLED) is HEALTHY


def test_time_alone_makes_a_member_healthy_again() -> None:
    """Old outcomes age out, just when `next_change_at` has said; lifetime counts stay."""
    patient = Patient()
    patient.fail(3)
    patient.now += 10.0
    patient.fail(2)
    patient.succeed(2)
    assert patient.status() is UNHEALTHY
    due = patient.record.next_change_at(patient.now)
    assert due == 100.0 + HEALTH_WINDOW_S
    patient.now = math.nextafter(due, 0.0)
    assert patient.status() is UNHEALTHY
    patient.now = due
    assert patient.status() is HEALTHY
    assert patient.record.next_change_at(patient.now) is None
    assert patient.record.failures == 5


def test_only_the_last_outcomes_count_for_the_rate() -> None:
    """Twenty good answers make up for whatever came before."""
    patient = Patient()
    patient.fail(500)
    patient.succeed(20)
    assert (patient.status(), patient.record.failures) == (HEALTHY, 500)
    assert patient.record.next_change_at(patient.now) is None


@pytest.mark.parametrize("kind", [FailureKind.CANCELLED, FailureKind.CALLER, FailureKind.TOO_LARGE])
def test_what_is_not_the_members_fault_does_not_count(kind: FailureKind) -> None:
    """Cancelled calls and callers' mistakes are neither success nor failure."""
    patient = Patient()
    patient.fail(4)
    patient.fail(50, kind)
    record = patient.record
    assert (record.successes, record.failures, record.consecutive_failures) == (0, 4, 4)
    assert record.last_error == "Boom: unknown"


def test_latencies_are_quantiles_of_recent_successes() -> None:
    """Nearest rank over the last hundred; failures and old calls are left out."""
    patient = Patient()

    def latencies(at: float) -> tuple[float | None, float | None]:
        health = patient.record.snapshot(at, CircuitState.CLOSED)
        return health.latency_p50_s, health.latency_p95_s

    assert latencies(patient.now) == (None, None)
    for n in range(1, 151):
        patient.succeed(took=float(n))
    patient.fail(10)
    assert latencies(patient.now) == (100, 145)
    assert latencies(patient.now + HEALTH_WINDOW_S) == (None, None)


def test_a_snapshot_says_it_all() -> None:
    """The statistics have rates, latencies, counts, and times of the wall clock."""
    patient = Patient()
    patient.succeed(3, took=0.25)
    patient.now += 1.0
    patient.fail(3)
    health = patient.record.snapshot(
        patient.now, OPEN, reopens_at=patient.now + 12.0, wall_offset_s=1_000_000.0
    )
    assert (health.status, health.circuit) == (AgentStatus.CIRCUIT_OPEN, OPEN)
    assert (health.successes, health.failures, health.consecutive_failures) == (3, 3, 3)
    assert (health.error_rate, health.latency_p50_s, health.latency_p95_s) == (0.5, 0.25, 0.25)
    assert (health.last_success_at, health.last_failure_at) == (1_000_100.0, 1_000_101.0)
    assert (health.last_error, health.reopens_in_s) == ("Boom: unknown", 12.0)
    patient.record.reset()
    empty = patient.record.snapshot(patient.now, CLOSED)
    assert (empty.successes, empty.last_error, empty.reopens_in_s) == (0, None, None)
    assert MIN_OUTCOMES == 5


# Probes


def probes(seed: int = 1, interval: float = 30.0, timeout: float = 5.0) -> ProbeSchedule:
    return ProbeSchedule(interval, timeout, random.Random(seed), now=100.0)


def test_first_probes_are_spread_over_one_interval() -> None:
    """Members that start together are not probed together."""
    first = [probes(seed).due_at for seed in range(200)]
    assert min(first) < 105.0
    assert max(first) > 125.0
    assert all(100.0 <= at <= 130.0 for at in first)


def test_probes_keep_their_interval_within_a_tenth() -> None:
    """The next probe is due an interval after the last one, with 10% of jitter."""
    schedule, gaps = probes(), []
    for _ in range(200):
        now = schedule.due_at
        assert schedule.is_due(now)
        assert not schedule.is_due(math.nextafter(now, 0.0))
        assert schedule.finish(schedule.start(now), now + 1.0)
        gaps.append(schedule.due_at - (now + 1.0))
    assert 27.0 - 1e-6 <= min(gaps) < 28.0
    assert 32.0 < max(gaps) <= 33.0 + 1e-6


def test_one_probe_runs_at_a_time() -> None:
    """While one is in flight none is due, and only its own id ends it."""
    schedule = probes()
    first = schedule.start(130.0, epoch=7)
    assert (schedule.running, schedule.epoch) == (first, 7)
    schedule.hurry(130.0)
    assert not schedule.is_due(1e9)
    with pytest.raises(RuntimeError, match="probe 1 is still running"):
        schedule.start(131.0)
    assert not schedule.finish(first + 1, 131.0)
    assert schedule.running == first
    assert schedule.finish(first, 131.0)
    assert not schedule.finish(first, 131.0)
    assert schedule.is_due(131.0)  # the hurry was not forgotten
    assert schedule.start(131.0) != first


def test_a_probe_has_a_time_limit() -> None:
    """At its timeout it is expired, and ended by whoever asks; its late result is stale."""
    schedule = probes(timeout=5.0)
    probe = schedule.start(130.0)
    assert schedule.next_event_at == 135.0
    assert schedule.expired(134.999) is None
    assert schedule.expired(135.0) == probe
    assert schedule.finish(probe, 135.0)
    assert schedule.expired(1e9) is None
    assert not schedule.finish(probe, 136.0)


def test_an_open_breaker_is_probed_at_its_reopening() -> None:
    """The next probe waits for the reopening; then one follows another until it is decided."""
    schedule = probes()
    schedule.hold_until(160.0)
    assert schedule.next_event_at == 160.0
    assert not schedule.is_due(159.999)
    assert schedule.is_due(160.0)
    schedule.finish(schedule.start(160.0), 160.5)
    schedule.hurry(160.5)
    assert schedule.is_due(160.5)
    schedule.finish(schedule.start(160.5), 161.0)
    schedule.resume(161.0)
    assert 188.0 - 1e-6 <= schedule.due_at <= 194.0 + 1e-6
    schedule.hold_until(math.inf)
    assert schedule.next_event_at is None


def test_a_probe_of_a_dead_actor_is_given_up() -> None:
    """Its result is stale, and the rhythm goes on."""
    schedule = probes()
    probe = schedule.start(130.0)
    assert schedule.abandon(131.0) == probe
    assert schedule.abandon(131.0) is None
    assert not schedule.finish(probe, 132.0)
    assert schedule.next_event_at is not None
    assert 158.0 - 1e-6 <= schedule.next_event_at <= 164.0 + 1e-6


# The breaker on its own


def lone(**more: Any) -> tuple[CircuitBreaker, FakeClock]:
    clock = FakeClock()
    return CircuitBreaker(clock=clock.now, rng=random.Random(1), **more), clock


def refuses(breaker: CircuitBreaker) -> bool:
    return breaker.is_open  # asked here, the type checker does not take it for a constant


def test_the_lone_breaker_promises_no_return_when_it_was_set_by_hand() -> None:
    """A Retry-After of before ends nothing then: not while it is held open, nor while it is off."""
    breaker, _ = lone()
    breaker.record_failure(FailureKind.RATE_LIMITED, retry_after_s=30.0)
    said = [breaker.reopens_in_s]
    for by_hand in (breaker.force_open, breaker.disable):
        by_hand()
        said.append(breaker.reopens_in_s)
    assert said == [30.0, None, None]


def test_the_lone_breaker_works_as_the_seeds_use_it() -> None:
    """is_open, record_success, record_failure and reset are enough; no permit is needed."""
    breaker, clock = lone(failure_threshold=3, reset_timeout_s=10.0)
    for _ in range(3):
        assert not refuses(breaker)
        breaker.record_failure()
    assert refuses(breaker)
    assert breaker.reopens_in_s == 10.0
    clock.advance(9.999)
    assert refuses(breaker)
    clock.advance(1010.0 - clock.now())
    assert not refuses(breaker)
    assert breaker.state is HALF_OPEN
    breaker.record_success()
    breaker.record_success()
    assert breaker.state is CLOSED
    for _ in range(3):
        breaker.record_failure()
    breaker.reset()
    assert not refuses(breaker)


def test_the_lone_breaker_is_open_while_its_trial_runs() -> None:
    """is_open is True while a call would be refused: a trial under way takes the permit."""
    breaker, clock = lone(failure_threshold=1)
    breaker.record_failure()
    assert not breaker.allow()
    clock.advance(30.0)
    assert breaker.allow()
    assert refuses(breaker)
    assert not breaker.allow()
    breaker.record_failure(FailureKind.CANCELLED)
    assert not refuses(breaker)


def test_the_lone_breaker_opens_by_a_run_of_failures_alone() -> None:
    """A threshold above the pool's min_calls means what it says: no failure rate is in the way."""
    breaker, _ = lone(failure_threshold=50)
    for _ in range(49):
        breaker.record_failure()
    assert not breaker.is_open
    breaker.record_failure()
    assert breaker.is_open


def test_an_outcome_with_an_old_permit_counts_for_nothing() -> None:
    """A permit ties the outcome to the state that granted it."""
    breaker, clock = lone(failure_threshold=1)
    old = breaker.acquire()
    breaker.record_failure()
    clock.advance(30.0)
    breaker.record_failure(permit=old)
    assert breaker.state is HALF_OPEN
    breaker.record_failure("timeout")
    assert breaker.state is OPEN


def test_a_rate_limit_blocks_the_lone_breaker_without_opening_it() -> None:
    """Closed and cooling down, it refuses calls until Retry-After is over."""
    breaker, clock = lone()
    breaker.record_failure(FailureKind.RATE_LIMITED, retry_after_s=5.0)
    assert (breaker.state, breaker.is_open, breaker.reopens_in_s) == (CLOSED, True, 5.0)
    clock.advance(5.0)
    assert (breaker.is_open, breaker.reopens_in_s) == (False, None)


def test_call_records_and_raises() -> None:
    """What the function raises is raised; an open breaker raises CircuitOpenError instead."""
    breaker, clock = lone(failure_threshold=2)

    def fail() -> None:
        raise KeyError("boom")

    assert breaker.call(divmod, 7, 2) == (3, 1)
    for _ in range(2):
        with pytest.raises(KeyError):
            breaker.call(fail)
    clock.advance(10.0)
    with pytest.raises(CircuitOpenError, match=r"tried again in 20\.0 s") as refused:
        breaker.call(divmod, 7, 2)
    assert refused.value.reopens_in_s == 20.0
    assert isinstance(refused.value, PoolError)
    breaker.force_open()
    with pytest.raises(CircuitOpenError, match=r"the circuit is open$"):
        breaker.call(divmod, 7, 2)
    breaker.disable()
    assert breaker.call(divmod, 7, 2) == (3, 1)
    assert repr(breaker).startswith("<CircuitBreaker disabled, epoch 4")


def test_call_judges_by_kind() -> None:
    """`classify` says what an exception means; an interrupt means nothing."""
    kinds = {LookupError: FailureKind.CALLER, PermissionError: FailureKind.AUTH}
    breaker, _ = lone(failure_threshold=2, classify=lambda error: kinds.get(type(error)))

    def fail(error: BaseException) -> None:
        raise error

    for harmless in (LookupError(), KeyboardInterrupt(), GeneratorExit()):
        for _ in range(5):
            with pytest.raises(type(harmless)):
                breaker.call(fail, harmless)
    assert breaker.state is CLOSED
    with pytest.raises(PermissionError):
        breaker.call(fail, PermissionError())
    assert breaker.state is OPEN


def test_call_measures_slow_calls() -> None:
    """With a policy that has a slow rate, calls that take too long open it."""
    policy = dataclasses.replace(
        BreakerPolicy.from_config(PoolConfig(circuit_slow_rate=1.0, circuit_slow_call_s=2.0)),
        min_calls=3,
    )
    breaker, clock = lone(policy=policy)

    def slow() -> None:
        clock.advance(2.5)

    for _ in range(3):
        assert breaker.state is not OPEN
        breaker.call(slow)
    assert breaker.is_open


def test_call_refuses_coroutine_functions() -> None:
    """A coroutine function returns before its outcome is known: it would always succeed."""

    async def later() -> None: ...

    with pytest.raises(TypeError, match="fn must be a plain function"):
        _ = lone()[0].call(later)


def test_b03_concurrent_calls_share_one_trial() -> None:
    """Half-open with one permit: of N concurrent calls exactly one runs, the others are refused."""
    breaker, clock = lone(failure_threshold=1)
    breaker.record_failure()
    clock.advance(30.0)
    barrier = threading.Barrier(12, timeout=30)
    all_refused = threading.Event()
    refusals: list[int] = []

    def ask(caller: int) -> bool:
        barrier.wait()
        try:
            return breaker.call(all_refused.wait, 30)  # the trial runs until all are refused
        except CircuitOpenError:
            refusals.append(caller)
            if len(refusals) >= 11:
                all_refused.set()
            return False

    with ThreadPoolExecutor(12) as threads:
        assert sum(threads.map(ask, range(12))) == 1
    assert len(refusals) == 11
    assert breaker.state is HALF_OPEN


def test_no_count_is_lost_between_threads() -> None:
    """Failures recorded from many threads at once are all counted."""
    breaker, _ = lone(failure_threshold=801)
    barrier = threading.Barrier(8, timeout=30)

    def fail(_: int) -> None:
        barrier.wait()
        for _ in range(100):
            breaker.record_failure()

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(fail, range(8)))
    assert breaker.state is CLOSED
    breaker.record_failure()
    assert breaker.state is OPEN


@pytest.mark.parametrize(
    ("arguments", "error", "rule"),
    [
        ({"failure_threshold": 0}, ValueError, "failure_threshold must be at least 1, got 0"),
        ({"failure_threshold": 2.5}, TypeError, "failure_threshold must be a whole number, got 2"),
        ({"reset_timeout_s": -1}, ValueError, "reset_timeout_s must be greater than 0, got -1"),
        ({"reset_timeout_s": "30"}, TypeError, "reset_timeout_s must be a number, got '30'"),
        ({"success_threshold": 0}, ValueError, "success_threshold must be at least 1, got 0"),
        ({"policy": "strict"}, TypeError, "policy must be a BreakerPolicy, got 'strict'"),
        ({"classify": 3}, TypeError, "classify must be callable, got 3"),
    ],
)
def test_bad_arguments_are_refused(
    arguments: dict[str, Any], error: type[Exception], rule: str
) -> None:
    """A bad argument is refused with its name, value and rule."""
    with pytest.raises(error, match=rule):
        lone(**arguments)


def test_an_unknown_kind_is_refused() -> None:
    """A failure kind that does not exist is named, with those that do."""
    with pytest.raises(ValueError, match=r"one of timeout, .*; got 'sad'"):
        lone()[0].record_failure("sad")


def test_a_long_reset_timeout_needs_no_maximum() -> None:
    """A reset timeout above the pool's default maximum is simply taken."""
    breaker, _ = lone(failure_threshold=1, reset_timeout_s=900.0)
    breaker.record_failure()
    assert breaker.reopens_in_s == 900.0


@pytest.mark.parametrize("kind", [None, FailureKind.TIMEOUT])
def test_a_permit_is_spent_by_its_first_record(kind: FailureKind | None) -> None:
    """Whoever records twice by mistake is not counted twice: neither failures nor trials."""
    guard, clock = lone(failure_threshold=3, success_threshold=2)

    def record(permit: Permit) -> None:
        if kind is None:
            guard.record_success(permit=permit)
        else:
            guard.record_failure(kind, permit=permit)

    if kind is None:
        for _ in range(3):
            guard.record_failure()
        clock.advance(guard.reopens_in_s or 0.0)
    permit = guard.acquire()
    assert permit is not None
    for _ in range(5):
        record(permit)
    guard.record_failure(FailureKind.AUTH, permit=permit)
    assert guard.state is (CircuitState.CLOSED if kind else CircuitState.HALF_OPEN)
    for _ in range(2 if kind else 1):
        another = guard.acquire()
        assert another is not None
        record(another)
    assert guard.state is (CircuitState.OPEN if kind else CircuitState.CLOSED)
