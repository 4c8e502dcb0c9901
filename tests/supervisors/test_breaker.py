"""The breaker's behaviours 1 to 11, with a fake clock."""

from __future__ import annotations

import dataclasses
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from greenroom.messages.config import PoolConfig
from greenroom.messages.status import CircuitState, FailureKind
from greenroom.supervisors.circuit_breaker import CircuitBreaker
from greenroom.supervisors.policy.breaker import Breaker, BreakerPolicy, Permit, Transition
from greenroom.testing import FakeClock

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
FORCED_OPEN, DISABLED = CircuitState.FORCED_OPEN, CircuitState.DISABLED
UNCOUNTED = [kind for kind in FailureKind if not kind.counts_for_breaker]


class Bench:
    """A breaker with its clock, and every transition that it made."""

    def __init__(self, seed: int = 1, **policy: Any) -> None:
        times = {"reset_timeout_s": 30.0, "reset_max_s": 300.0, "permit_lease_s": 31.0}
        default = BreakerPolicy.from_config(PoolConfig())
        changed = dataclasses.replace(default, **(times | policy))
        self.breaker = Breaker(changed, random.Random(seed))
        self.now = 100.0
        self.made: list[Transition] = []

    def note(self, made: Transition | None) -> Transition | None:
        if made is not None:
            self.made.append(made)
        return made

    def advance(self, seconds: float) -> Transition | None:
        self.now += seconds
        return self.note(self.breaker.tick(self.now))

    def record(self, kind: FailureKind | None, epoch: int | None = None, **more: Any) -> None:
        epoch = self.breaker.epoch if epoch is None else epoch
        self.note(self.breaker.record(epoch, self.now, kind=kind, **more))

    def succeed(self, times: int = 1, **more: Any) -> None:
        for _ in range(times):
            self.record(None, **more)

    def fail(self, times: int = 1, kind: FailureKind = FailureKind.UNKNOWN, **more: Any) -> None:
        for _ in range(times):
            self.record(kind, **more)

    def acquire(self) -> Permit | None:
        return self.breaker.acquire(self.now)

    def to_half_open(self) -> None:
        if self.state is CLOSED:
            self.fail(kind=FailureKind.AUTH)
        assert self.breaker.reopens_at is not None
        self.advance(self.breaker.reopens_at - self.now)
        self.expect(HALF_OPEN)

    def expect(self, state: CircuitState) -> None:
        assert self.state is state, repr(self.breaker)

    @property
    def state(self) -> CircuitState:
        return self.breaker.state


def seen(breaker: Breaker) -> tuple[object, ...]:
    """Whatever can be seen of it from outside."""
    b = breaker
    counts = (b.consecutive_failures, b.openings, b.trial_credit)
    return (b.state, b.epoch, *counts, b.reopens_at, b.next_event_at, repr(b))


def test_b01_five_failures_in_a_row_open_it() -> None:
    """4F S 4F stays closed, 5F in a row opens; counts are zero after opening."""
    bench = Bench()
    bench.fail(4)
    bench.succeed()
    bench.fail(4)
    bench.expect(CLOSED)
    assert bench.breaker.consecutive_failures == 4
    fresh = Bench()
    fresh.fail(5)
    fresh.expect(OPEN)
    opened = Transition(
        CLOSED, OPEN, 2, 100.0, "5 failures in a row", 130.0, kind=FailureKind.UNKNOWN
    )
    assert fresh.made == [opened]
    assert fresh.breaker.consecutive_failures == 0


def test_b01_counts_start_at_zero_when_it_closes_again() -> None:
    """After an opening and a closing it takes the whole threshold again."""
    bench = Bench()
    bench.fail(5)
    bench.to_half_open()
    bench.succeed(2)
    bench.fail(4)
    bench.expect(CLOSED)
    bench.fail()
    bench.expect(OPEN)


def test_b02_it_is_half_open_at_the_reset_timeout_and_not_before() -> None:
    """Open at reset timeout - 1 ms refuses; at the timeout it is half-open. Two S close it."""
    bench = Bench()
    bench.fail(5)
    opened = bench.now
    bench.now = opened + 30.0 - 0.001
    assert bench.acquire() is None
    bench.expect(OPEN)
    bench.now = opened + 30.0
    assert bench.advance(0.0) == Transition(OPEN, HALF_OPEN, 3, 130.0, "reset timeout over")
    assert bench.acquire() is not None
    bench.succeed()
    bench.expect(HALF_OPEN)
    assert bench.acquire() is not None
    bench.succeed()
    bench.expect(CLOSED)
    assert bench.made[-1].reason == "2 trials succeeded"
    assert bench.breaker.openings == 0


@pytest.mark.parametrize("seed", range(20))
def test_b02_a_failed_trial_opens_it_again_for_longer(seed: int) -> None:
    """One F opens it again, with the timeout doubled, jittered within its bounds, below the max."""
    bench = Bench(seed, reset_timeout_s=30.0, reset_max_s=200.0)
    lasted = []
    for _ in range(6):
        bench.to_half_open()
        bench.fail(kind=FailureKind.TIMEOUT)
        assert bench.made[-1].reason == "trial failed: timeout"
        assert bench.breaker.reopens_at is not None
        lasted.append(bench.breaker.reopens_at - bench.now)
    for seconds, nominal in zip(lasted, [60.0, 120.0, 200.0, 200.0, 200.0, 200.0], strict=True):
        assert nominal / 2 - 1e-9 <= seconds <= nominal + 1e-9


def test_b02_openings_are_counted_from_the_last_closing() -> None:
    """Once closed, the next opening lasts the configured timeout again, to the second."""
    bench = Bench()
    bench.to_half_open()
    bench.fail()
    bench.to_half_open()
    bench.succeed(2)
    bench.fail(5)
    assert bench.breaker.openings == 1
    assert bench.breaker.reopens_at == bench.now + 30.0


def test_b03_half_open_lets_one_call_through() -> None:
    """Half-open with one permit: of many requests exactly one passes, then one more a report."""
    bench = Bench()
    bench.to_half_open()
    permits = [bench.acquire() for _ in range(10)]
    assert [p is not None for p in permits] == [True] + [False] * 9
    assert bench.breaker.trial_credit == 1
    bench.succeed()
    assert bench.breaker.trial_credit == 2
    assert bench.acquire() is not None
    assert bench.acquire() is None


def test_b03_of_many_threads_exactly_one_gets_the_trial() -> None:
    """Half-open with one permit: of N concurrent requests exactly one passes."""
    clock = FakeClock()
    breaker = CircuitBreaker(clock=clock.now, rng=random.Random(1))
    breaker.record_failure(FailureKind.AUTH)
    clock.advance(30.0)
    barrier = threading.Barrier(16, timeout=30)

    def ask(_: int) -> bool:
        barrier.wait()
        return breaker.allow()

    with ThreadPoolExecutor(16) as threads:
        assert sum(threads.map(ask, range(16))) == 1


def test_b03_a_router_that_spends_by_itself_uses_the_same_permits() -> None:
    """Trials that a router starts on its credit count like those that are asked for."""
    bench = Bench(half_open_permits=2)
    bench.to_half_open()
    epoch = bench.breaker.epoch
    assert bench.breaker.trial_credit == 2
    bench.breaker.trial_started(epoch - 1, bench.now)
    bench.breaker.trial_started(epoch, bench.now)
    assert bench.acquire() is not None
    assert bench.acquire() is None
    bench.record(FailureKind.CANCELLED)
    assert bench.breaker.trial_credit == 3
    assert bench.acquire() is not None


@pytest.mark.parametrize("kind", [None, *FailureKind])
@pytest.mark.parametrize("state", list(CircuitState))
def test_b04_an_outcome_of_another_epoch_changes_nothing(
    state: CircuitState, kind: FailureKind | None
) -> None:
    """An outcome admitted before the current state's epoch changes nothing, whatever it is."""
    bench = Bench(failure_threshold=1, success_threshold=1, slow_rate=0.1, slow_call_s=1.0)
    bench.to_half_open()
    bench.succeed()
    match state:
        case CircuitState.OPEN:
            bench.fail()
        case CircuitState.HALF_OPEN:
            bench.to_half_open()
            assert bench.acquire() is not None
        case CircuitState.FORCED_OPEN:
            bench.breaker.force_open(bench.now)
        case CircuitState.DISABLED:
            bench.breaker.disable(bench.now)
        case CircuitState.CLOSED:
            pass
    bench.expect(state)
    before, made = seen(bench.breaker), list(bench.made)
    for epoch in [*range(bench.breaker.epoch), bench.breaker.epoch + 1]:
        bench.record(kind, epoch, elapsed_s=9.0, retry_after_s=99.0)
        bench.record(kind, epoch, probe=True)
    assert (seen(bench.breaker), bench.made) == (before, made)


def test_b05_a_permit_that_never_reports_comes_back() -> None:
    """A permit whose call never reports is granted again after its lease."""
    bench = Bench(permit_lease_s=31.0)
    bench.to_half_open()
    assert bench.acquire() is not None
    assert bench.breaker.next_event_at == bench.now + 31.0
    bench.advance(30.999)
    assert bench.acquire() is None
    bench.advance(0.001)
    assert bench.breaker.trial_credit == 2
    assert bench.acquire() is not None
    assert bench.acquire() is None


def test_b05_a_report_after_the_lease_gives_no_second_permit() -> None:
    """The late report of a call whose permit was granted again counts, but gives none back."""
    bench = Bench(permit_lease_s=31.0)
    bench.to_half_open()
    assert bench.acquire() is not None
    bench.advance(31.0)
    assert bench.acquire() is not None
    bench.advance(1.0)
    bench.succeed(elapsed_s=32.0)
    assert bench.acquire() is None
    bench.record(FailureKind.CANCELLED, elapsed_s=32.0)  # no other call was lost: the trial's own
    assert bench.acquire() is not None
    bench.succeed(elapsed_s=0.0)
    bench.expect(CLOSED)


def test_b05_a_stream_that_outlasts_the_lease_gives_no_second_permit() -> None:
    """Its speed is that of its first chunk; how long it has held its permit is another matter."""
    bench = Bench(permit_lease_s=31.0)
    bench.to_half_open()
    assert bench.acquire() is not None
    began = bench.now
    bench.advance(31.0)
    assert bench.acquire() is not None
    bench.advance(1.0)
    bench.succeed(elapsed_s=0.2, began=began)
    assert bench.acquire() is None


def test_b05_the_default_lease_is_no_longer_than_an_opening() -> None:
    """A second longer than an attempt may take, but no longer than the longest opening: a trial
    that hangs keeps nobody out for longer than one that has failed.
    """
    assert BreakerPolicy.from_config(PoolConfig()).permit_lease_s == 10.0
    assert BreakerPolicy.from_config(PoolConfig(circuit_reset_max_s=60.0)).permit_lease_s == 31.0
    unlimited = PoolConfig(request_timeout_s=None, circuit_reset_max_s=60.0)
    assert BreakerPolicy.from_config(unlimited).permit_lease_s == 60.0
    assert BreakerPolicy.from_config(unlimited, 7.0).permit_lease_s == 7.0


@pytest.mark.parametrize("kind", UNCOUNTED)
def test_b06_an_uncounted_outcome_gives_its_permit_back(kind: FailureKind) -> None:
    """A cancelled or ignored outcome gives its permit back and counts for nothing."""
    bench = Bench()
    bench.fail(4)
    bench.fail(50, kind)
    bench.expect(CLOSED)
    assert bench.breaker.consecutive_failures == 4
    bench.fail()
    bench.to_half_open()
    for _ in range(5):
        assert bench.acquire() is not None
        bench.fail(1, kind, retry_after_s=60.0)
        bench.expect(HALF_OPEN)
    bench.succeed()
    bench.expect(HALF_OPEN)


def test_b07_below_min_calls_no_rate_trips() -> None:
    """Failure rate: below min_calls nothing trips; at exactly the threshold it trips."""
    bench = Bench(failure_threshold=100, window=20, min_calls=10, failure_rate=0.5)
    bench.fail(9)
    bench.expect(CLOSED)
    bench.succeed()
    bench.expect(OPEN)
    assert bench.made[-1].reason == "90% of the last 10 calls failed"
    exact = Bench(failure_threshold=100, window=20, min_calls=10, failure_rate=0.5)
    for _ in range(2):
        exact.succeed(3)
        exact.fail(2)
    exact.succeed(2)
    exact.expect(CLOSED)
    exact.fail(2)
    exact.expect(CLOSED)  # 6 of 14
    exact.fail(2)
    exact.expect(OPEN)  # 8 of 16
    assert exact.made[-1].reason == "50% of the last 16 calls failed"


def test_b07_the_oldest_outcome_leaves_the_window_once() -> None:
    """Failure rate: the oldest outcome leaves the window exactly once."""
    bench = Bench(failure_threshold=100, window=4, min_calls=4, failure_rate=0.5)
    for _ in range(10):  # one failure in every four, wherever the window stands
        bench.fail()
        bench.succeed(3)
    bench.expect(CLOSED)
    bench.fail(2)
    bench.expect(OPEN)


def test_b08_slow_calls_trip_without_any_failure() -> None:
    """Slow rate trips without any failure; exactly the slow limit is not slow."""
    bench = Bench(slow_rate=0.5, slow_call_s=2.0)
    bench.succeed(20, elapsed_s=2.0)
    bench.expect(CLOSED)
    bench.succeed(9, elapsed_s=2.001)
    bench.expect(CLOSED)
    bench.succeed(1, elapsed_s=2.001)
    bench.expect(OPEN)
    assert bench.made[-1].reason == "50% of the last 20 calls were slow"


def test_b08_a_slow_trial_is_a_failed_trial() -> None:
    """What opened for being slow does not close while it still is."""
    bench = Bench(slow_rate=0.5, slow_call_s=2.0)
    bench.to_half_open()
    bench.succeed(elapsed_s=2.5)
    bench.expect(OPEN)
    assert bench.made[-1].reason == "trial took 2.5 s"


def test_b09_forced_open_stays_open() -> None:
    """Force-open stays open past the reset timeout; reset closes."""
    bench = Bench()
    forced = bench.breaker.force_open(bench.now)
    assert forced == Transition(CLOSED, FORCED_OPEN, 2, 100.0, "forced by hand")
    bench.advance(10_000.0)
    bench.succeed(10)
    bench.fail(10, retry_after_s=60.0)
    assert bench.acquire() is None
    assert (bench.state, bench.breaker.epoch) == (FORCED_OPEN, 2)
    assert bench.breaker.reopens_at is bench.breaker.next_event_at is None
    closed = bench.breaker.reset(bench.now)
    assert closed == Transition(FORCED_OPEN, CLOSED, 3, bench.now, "reset by hand")
    assert bench.acquire() == Permit(3, 1)


def test_b09_disabled_admits_all_and_records_nothing() -> None:
    """Disable admits and records nothing; reset closes, with counts at zero."""
    bench = Bench()
    bench.fail(4)
    bench.breaker.disable(bench.now)
    bench.fail(100, FailureKind.AUTH, retry_after_s=60.0)
    assert all(bench.acquire() for _ in range(100))
    bench.expect(DISABLED)
    bench.breaker.reset(bench.now)
    bench.fail(4)
    bench.expect(CLOSED)


def test_b09_reset_forgets_everything() -> None:
    """Reset closes from anywhere: counts, openings and calls in flight are void."""
    bench = Bench()
    bench.to_half_open()
    bench.fail()
    bench.breaker.reset(bench.now)
    assert (bench.state, bench.breaker.openings) == (CLOSED, 0)
    bench.fail(4)
    old = bench.breaker.epoch
    assert bench.breaker.reset(bench.now) is None
    assert bench.acquire() is not None
    assert bench.breaker.epoch == old + 1
    bench.record(FailureKind.AUTH, old)
    bench.fail(4)
    bench.expect(CLOSED)


def test_b10_a_self_transition_says_nothing() -> None:
    """A self-transition emits no event; an illegal one changes nothing."""
    bench = Bench()
    assert bench.breaker.reset(bench.now) is None
    assert bench.breaker.force_open(bench.now) is not None
    before = seen(bench.breaker)
    assert bench.breaker.force_open(bench.now) is None
    assert bench.advance(1e6) is None
    assert seen(bench.breaker) == before
    assert bench.breaker.disable(bench.now) is not None
    before = seen(bench.breaker)
    assert bench.breaker.disable(bench.now) is None
    bench.breaker.trial_started(bench.breaker.epoch, bench.now)
    assert seen(bench.breaker) == before


def test_b10_an_open_breaker_ignores_what_nobody_was_admitted_for() -> None:
    """Outcomes in the open state's own epoch neither close it nor open it anew."""
    bench = Bench()
    bench.fail(5)
    before = seen(bench.breaker)
    bench.succeed(10)
    bench.fail(10, FailureKind.AUTH)
    bench.breaker.trial_started(bench.breaker.epoch, bench.now)
    assert (seen(bench.breaker), len(bench.made)) == (before, 1)


def test_b11_a_rate_limit_counts_neither_in_the_row_nor_in_a_rate() -> None:
    """Throttling is not ill health: however many there are, nothing changes, and no run ends."""
    bench = Bench()
    bench.fail(4)
    before = seen(bench.breaker)
    bench.fail(100, FailureKind.RATE_LIMITED, retry_after_s=12.0)
    assert (seen(bench.breaker), bench.made) == (before, [])
    bench.fail()
    assert bench.made[-1].reason == "5 failures in a row"


def test_b11_a_rate_limited_trial_gives_its_permit_back() -> None:
    """In half-open a rate limit is no failed trial: another one may be made."""
    bench = Bench()
    bench.to_half_open()
    assert bench.acquire() is not None
    bench.fail(1, FailureKind.RATE_LIMITED, retry_after_s=3600.0)
    bench.expect(HALF_OPEN)
    assert bench.acquire() is not None


def test_an_opening_does_not_end_before_a_retry_after() -> None:
    """Of what opens it, or makes its trial fail; even the maximum gives way to it."""
    bench = Bench(reset_max_s=60.0)
    bench.fail(4)
    bench.fail(retry_after_s=90.0)
    assert bench.breaker.reopens_at == 190.0
    bench.to_half_open()
    bench.fail(1, FailureKind.UNAVAILABLE, retry_after_s=3600.0)
    assert bench.breaker.reopens_at == bench.now + 3600.0


@pytest.mark.parametrize("nonsense", [-1.0, 0.0, float("nan"), float("inf")])
def test_b11_a_retry_after_without_sense_is_none(nonsense: float) -> None:
    """A Retry-After that is not a positive, finite time does not make an opening longer."""
    bench = Bench()
    bench.fail(5, retry_after_s=nonsense)
    assert bench.breaker.reopens_at == 130.0


@pytest.mark.parametrize("kind", [FailureKind.AUTH, FailureKind.QUOTA])
def test_what_does_not_pass_by_itself_is_tried_seldom(kind: FailureKind) -> None:
    """30 s at first, doubling up to 300 s, however short the policy's times are."""
    bench = Bench(reset_timeout_s=1.0, reset_max_s=2.0)
    bench.fail(1, kind)
    assert bench.breaker.reopens_at == 130.0
    lasted = []
    for _ in range(6):
        bench.to_half_open()
        bench.fail(1, kind)
        assert bench.breaker.reopens_at is not None
        lasted.append(bench.breaker.reopens_at - bench.now)
    for seconds, nominal in zip(lasted, [60.0, 120.0, 240.0, 300.0, 300.0, 300.0], strict=True):
        assert max(30.0, nominal / 2) - 1e-9 <= seconds <= nominal + 1e-9


def test_what_does_not_pass_by_itself_is_not_tried_more_often_than_the_rest() -> None:
    """The policy's own times are taken where they are longer."""
    bench = Bench(reset_timeout_s=400.0, reset_max_s=500.0)
    bench.fail(1, FailureKind.AUTH)
    assert bench.breaker.reopens_at == 500.0


@pytest.mark.parametrize("kind", [FailureKind.AUTH, FailureKind.QUOTA])
def test_auth_and_quota_open_it_at_once(kind: FailureKind) -> None:
    """More calls cannot help a member that has no rights or no credit left."""
    bench = Bench()
    bench.fail(1, kind)
    assert bench.made[-1].reason == f"{kind} failure"


def test_b11_a_retry_after_that_comes_late_holds_an_open_breaker() -> None:
    """While open, a Retry-After puts the reopening off, and never makes it earlier."""
    bench = Bench()
    bench.fail(5)
    bench.fail(1, FailureKind.UNAVAILABLE, retry_after_s=10.0)
    assert bench.breaker.reopens_at == 130.0
    bench.fail(1, FailureKind.UNAVAILABLE, retry_after_s=45.0)
    assert bench.breaker.reopens_at == 145.0


def test_a_probe_neither_masks_failures_nor_hides_its_own() -> None:
    """While closed, a probe's success counts for nothing and its failure like any other."""
    bench = Bench()
    bench.fail(4)
    bench.succeed(50, probe=True)
    assert bench.breaker.consecutive_failures == 4
    bench.fail(probe=True)
    bench.expect(OPEN)


def test_probes_decide_in_half_open_without_a_permit() -> None:
    """In half-open a probe counts both ways, and gives no permit back, for it holds none."""
    bench = Bench()
    bench.to_half_open()
    assert bench.acquire() is not None
    bench.succeed(probe=True)
    assert bench.acquire() is None
    bench.succeed(probe=True)
    bench.expect(CLOSED)
    bench.to_half_open()
    bench.fail(probe=True)
    bench.expect(OPEN)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"failure_threshold": 0}, "failure_threshold must be at least 1, got 0"),
        ({"window": 5, "min_calls": 6}, "window must be at least 6, got 5"),
        ({"reset_max_s": 1.0}, "reset_max_s must be at least 30, got 1.0"),
        ({"failure_rate": 1.5}, "failure_rate must be at most 1, got 1.5"),
        ({"permit_lease_s": 0}, "permit_lease_s must be greater than 0, got 0"),
    ],
)
def test_a_bad_policy_is_refused(change: dict[str, Any], rule: str) -> None:
    """A bad value is refused with its field and the rule."""
    with pytest.raises(ValueError, match=rule):
        Bench(**change)


def test_it_can_be_read() -> None:
    """Its repr tells the state, the epoch and when it reopens."""
    bench = Bench()
    bench.fail(5)
    assert repr(bench.breaker) == "<Breaker open, epoch 2, 0 failures in a row, reopens at 130.000>"
