"""A member's circuit breaker. Pure: `now` is an argument, in monotonic seconds. Not thread-safe.

Each state is one small class: it takes an event in, keeps its own counts, and says which state it
wants next. `Breaker` carries that out: it starts the epoch, draws the delay and reports the
`Transition`.
"""

from __future__ import annotations

import math
import random
from bisect import insort
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from greenroom.messages import _validate as check
from greenroom.messages.config import PoolConfig
from greenroom.messages.status import CircuitState, FailureKind
from greenroom.supervisors.backoff import reopen_delay
from greenroom.supervisors.window import OutcomeWindow


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerPolicy:
    """When a breaker opens and closes. Times are in seconds, rates are fractions from 0 to 1.

    The fields mean what `PoolConfig`'s of the same name do (there most start with `circuit_`).
    `failure_rate=None` turns that rule off; `permit_lease_s` is how long a trial may go unreported.

    Raises:
        TypeError, ValueError: a value of the wrong type or out of range, named with its field.
    """

    failure_threshold: int
    reset_timeout_s: float
    reset_max_s: float
    success_threshold: int
    window: int
    min_calls: int
    failure_rate: float | None
    slow_rate: float | None
    slow_call_s: float | None
    half_open_permits: int
    permit_lease_s: float

    def __post_init__(self) -> None:
        for name in ("failure_threshold", "success_threshold", "min_calls", "half_open_permits"):
            check.whole(name, getattr(self, name), minimum=1)
        check.whole("window", self.window, minimum=self.min_calls)
        check.number("reset_timeout_s", self.reset_timeout_s, above=True)
        check.number("reset_max_s", self.reset_max_s, minimum=self.reset_timeout_s)
        check.number("permit_lease_s", self.permit_lease_s, above=True)
        for name in ("failure_rate", "slow_rate"):
            check.number(name, getattr(self, name), maximum=1.0, above=True, optional=True)
        check.number("slow_call_s", self.slow_call_s, above=True, optional=True)

    @classmethod
    def from_config(cls, config: PoolConfig, permit_lease_s: float | None = None) -> BreakerPolicy:
        """A pool's policy; the lease outlasts one attempt by a second unless it is given."""
        if permit_lease_s is None:
            permit_lease_s = (config.request_timeout_s or config.circuit_reset_max_s) + 1.0
        return cls(
            failure_threshold=config.circuit_failure_threshold,
            reset_timeout_s=config.circuit_reset_timeout_s,
            reset_max_s=config.circuit_reset_max_s,
            success_threshold=config.circuit_success_threshold,
            window=config.circuit_window,
            min_calls=config.circuit_min_calls,
            failure_rate=config.circuit_failure_rate,
            slow_rate=config.circuit_slow_rate,
            slow_call_s=config.circuit_slow_call_s,
            half_open_permits=config.half_open_permits,
            permit_lease_s=permit_lease_s,
        )


@dataclass(frozen=True, slots=True)
class Permit:
    """Leave to make one call; its outcome is reported with its epoch."""

    epoch: int
    id: int


@dataclass(frozen=True, slots=True)
class Transition:
    """A change of state: `epoch` is the new one, `reopens_at` the end of a timed opening."""

    before: CircuitState
    after: CircuitState
    epoch: int
    at: float
    reason: str
    reopens_at: float | None = None


class _Outcome(NamedTuple):
    now: float
    kind: FailureKind | None
    elapsed_s: float
    slow: bool
    probe: bool
    not_before: float  # the end of a Retry-After; 0.0 without one


class _Next(NamedTuple):
    """The state that is wanted next, and why; an opening does not end before `not_before`."""

    state: CircuitState
    reason: str
    not_before: float = 0.0


class _State:
    """What every state answers; by default it lets nothing through and records nothing."""

    __slots__ = ()
    circuit: ClassVar[CircuitState]
    failures: int = 0
    cooling_until: float = 0.0

    @property
    def credit(self) -> int | None:
        return None

    @property
    def reopens_at(self) -> float | None:
        return None

    @property
    def next_event_at(self) -> float | None:
        return self.reopens_at

    def tick(self, now: float) -> _Next | None:
        return None

    def admits(self, now: float) -> bool:
        return False

    def trial_started(self, now: float) -> None:
        return None

    def record(self, outcome: _Outcome) -> _Next | None:
        return None


class _Closed(_State):
    """Lets calls through and counts their outcomes, except while a Retry-After lasts."""

    __slots__ = ("_policy", "_window", "cooling_until", "failures")
    circuit = CircuitState.CLOSED

    def __init__(self, policy: BreakerPolicy) -> None:
        self._policy = policy
        self._window = OutcomeWindow(policy.window)
        self.failures = 0
        self.cooling_until = 0.0

    @property
    def reopens_at(self) -> float | None:
        return self.cooling_until or None

    def tick(self, now: float) -> _Next | None:
        if now >= self.cooling_until:
            self.cooling_until = 0.0
        return None

    def admits(self, now: float) -> bool:
        return now >= self.cooling_until

    def record(self, outcome: _Outcome) -> _Next | None:
        kind = outcome.kind
        if kind is None and outcome.probe:  # a cheap ping must not mask failing traffic
            return None
        if kind is not None and not kind.counts_for_breaker:
            return None
        self.cooling_until = max(self.cooling_until, outcome.not_before)
        self._window.record(failed=kind is not None, slow=outcome.slow)
        if kind is not FailureKind.RATE_LIMITED:
            self.failures = 0 if kind is None else self.failures + 1
        reason = self._reason_to_open(kind)
        return _Next(CircuitState.OPEN, reason, self.cooling_until) if reason else None

    def _reason_to_open(self, kind: FailureKind | None) -> str | None:
        policy, window = self._policy, self._window
        if kind is not None and kind.opens_at_once:
            return f"{kind} failure"
        if self.failures >= policy.failure_threshold:
            return f"{_plural(self.failures, 'failure')} in a row"
        if len(window) < policy.min_calls:
            return None
        last = f"of the last {_plural(len(window), 'call')}"
        if policy.failure_rate is not None and window.failure_rate >= policy.failure_rate:
            return f"{window.failure_rate:.0%} {last} failed"
        if policy.slow_rate is not None and window.slow_rate >= policy.slow_rate:
            return f"{window.slow_rate:.0%} {last} were slow"
        return None


class _Open(_State):
    """Lets nothing through until its time has come; only a Retry-After makes it later."""

    __slots__ = ("_reopens_at",)
    circuit = CircuitState.OPEN

    def __init__(self, reopens_at: float) -> None:
        self._reopens_at = reopens_at

    @property
    def reopens_at(self) -> float | None:
        return self._reopens_at

    def tick(self, now: float) -> _Next | None:
        if now < self._reopens_at:
            return None
        return _Next(CircuitState.HALF_OPEN, "reset timeout over")

    def record(self, outcome: _Outcome) -> _Next | None:
        self._reopens_at = max(self._reopens_at, outcome.not_before)
        return None


class _HalfOpen(_State):
    """Lets a few trials through, each on a lease; probes need none and count as well."""

    __slots__ = ("_leases", "_lost", "_policy", "_returned", "_started", "_successes")
    circuit = CircuitState.HALF_OPEN

    def __init__(self, policy: BreakerPolicy) -> None:
        self._policy = policy
        self._leases: list[float] = []  # when each trial under way started, oldest first
        self._started = 0
        self._returned = 0
        self._lost = 0  # leases that ended before their call reported
        self._successes = 0

    @property
    def credit(self) -> int | None:
        return self._policy.half_open_permits + self._returned

    @property
    def next_event_at(self) -> float | None:
        return self._leases[0] + self._policy.permit_lease_s if self._leases else None

    def tick(self, now: float) -> _Next | None:
        while self._leases and now >= self._leases[0] + self._policy.permit_lease_s:
            self._take_back()
            self._lost += 1
        return None

    def admits(self, now: float) -> bool:
        return self._started < self._policy.half_open_permits + self._returned

    def trial_started(self, now: float) -> None:
        self._started += 1
        insort(self._leases, now)

    def record(self, outcome: _Outcome) -> _Next | None:
        if not outcome.probe:
            self._reported(outcome.now - outcome.elapsed_s)
        kind = outcome.kind
        if kind is not None and not kind.counts_for_breaker:
            return None
        if kind is not None:
            return _Next(CircuitState.OPEN, f"trial failed: {kind}", outcome.not_before)
        if outcome.slow:
            return _Next(CircuitState.OPEN, f"trial took {outcome.elapsed_s:.1f} s")
        self._successes += 1
        if self._successes < self._policy.success_threshold:
            return None
        return _Next(CircuitState.CLOSED, f"{_plural(self._successes, 'trial')} succeeded")

    def _reported(self, began: float) -> None:
        """Give the permit of a call that began then back, unless its lease had ended before.

        Such a late call began at least a lease before any trial that its permit has gone to since;
        half of that leaves room for clocks that do not quite agree.
        """
        if not self._leases:
            return
        if self._lost and began < self._leases[0] - self._policy.permit_lease_s / 2:
            self._lost -= 1
        else:
            self._take_back()

    def _take_back(self) -> None:
        del self._leases[0]
        self._returned += 1


class _ForcedOpen(_State):
    """Lets nothing through until it is reset by hand."""

    __slots__ = ()
    circuit = CircuitState.FORCED_OPEN


class _Disabled(_State):
    """Lets everything through and records nothing."""

    __slots__ = ()
    circuit = CircuitState.DISABLED

    def admits(self, now: float) -> bool:
        return True


class Breaker:
    """One member's breaker. Every change of state starts an epoch; outcomes of older ones are void.

    Attributes:
        epoch: 1 at first; never goes back.
        openings: openings in a row, without a closing in between.
    """

    __slots__ = ("_last_permit", "_policy", "_rng", "_state", "epoch", "openings")

    def __init__(self, policy: BreakerPolicy, rng: random.Random) -> None:
        self._policy = policy
        self._rng = rng
        self._state: _State = _Closed(policy)
        self._last_permit = 0
        self.epoch = 1
        self.openings = 0

    @property
    def state(self) -> CircuitState:
        """The state as of the last event; `tick` first to have it as of now."""
        return self._state.circuit

    @property
    def consecutive_failures(self) -> int:
        """Failures in a row while closed; 0 in every other state."""
        return self._state.failures

    @property
    def cooling_until(self) -> float:
        """While closed: the end of a Retry-After; 0.0 if there is none, or `tick` saw it end."""
        return self._state.cooling_until

    @property
    def reopens_at(self) -> float | None:
        """When an opening or a cool-down ends; None when there is none, or it is by hand."""
        return self._state.reopens_at

    @property
    def next_event_at(self) -> float | None:
        """When `tick` next has something to do: a reopening, a cool-down's or a lease's end."""
        return self._state.next_event_at

    @property
    def trial_credit(self) -> int | None:
        """How many trials may be started in this epoch altogether; None unless half-open.

        A running total: `half_open_permits` and one more for every trial that reported, was
        cancelled, or whose lease ended.
        """
        return self._state.credit

    def tick(self, now: float) -> Transition | None:
        """Let time pass: openings and cool-downs end, permits that never reported come back."""
        return self._enter(self._state.tick(now), now)

    def admits(self, now: float) -> bool:
        """Whether `acquire` would grant a permit now, given that `tick` has seen this time."""
        return self._state.admits(now)

    def acquire(self, now: float) -> Permit | None:
        """Leave for one call, or None. Ticks first, and tells nobody of a transition by that."""
        self.tick(now)
        if not self._state.admits(now):
            return None
        self._state.trial_started(now)
        self._last_permit += 1
        return Permit(self.epoch, self._last_permit)

    def trial_started(self, epoch: int, now: float) -> None:
        """A router has started a trial at `now` on its own account; void in any other epoch."""
        if epoch == self.epoch:
            self._state.trial_started(now)

    def record(
        self,
        epoch: int,
        now: float,
        *,
        kind: FailureKind | None,
        elapsed_s: float = 0.0,
        retry_after_s: float | None = None,
        probe: bool = False,
    ) -> Transition | None:
        """Take in how a call admitted in `epoch` ended at `now`; `kind` is None for a success.

        Calls of any epoch but this one change nothing. A probe holds no permit and gives none back;
        while closed only its failures count. The Retry-After (seconds) of any failure that counts
        keeps the member out for that long.
        """
        if epoch != self.epoch:
            return None
        limit = self._policy.slow_call_s
        slow = limit is not None and elapsed_s > limit
        not_before = _retry_at(now, kind, retry_after_s)
        outcome = _Outcome(now, kind, elapsed_s, slow, probe, not_before)
        return self._enter(self._state.record(outcome), now)

    def force_open(self, now: float) -> Transition | None:
        """Keep everything out until `reset` or `disable`."""
        return self._by_hand(CircuitState.FORCED_OPEN, "forced by hand", now)

    def disable(self, now: float) -> Transition | None:
        """Let everything through and record nothing until `reset` or `force_open`."""
        return self._by_hand(CircuitState.DISABLED, "disabled by hand", now)

    def reset(self, now: float) -> Transition | None:
        """Close it, counts at zero. If closed already: a new epoch all the same, no transition."""
        return self._by_hand(CircuitState.CLOSED, "reset by hand", now)

    def _by_hand(self, state: CircuitState, reason: str, now: float) -> Transition | None:
        if state is self.state and state is not CircuitState.CLOSED:
            return None
        transition = self._enter(_Next(state, reason), now)
        return transition if transition and transition.before is not state else None

    def _enter(self, wanted: _Next | None, now: float) -> Transition | None:
        if wanted is None:
            return None
        before = self.state
        self._state = self._made(wanted, now)
        self.epoch += 1
        until = self.reopens_at
        return Transition(before, self.state, self.epoch, now, wanted.reason, until)

    def _made(self, wanted: _Next, now: float) -> _State:
        policy = self._policy
        match wanted.state:
            case CircuitState.OPEN:
                self.openings += 1
                delay = reopen_delay(
                    self.openings, policy.reset_timeout_s, policy.reset_max_s, self._rng
                )
                return _Open(max(now + delay, wanted.not_before))
            case CircuitState.HALF_OPEN:
                return _HalfOpen(policy)
            case CircuitState.FORCED_OPEN:
                return _ForcedOpen()
            case CircuitState.DISABLED:
                return _Disabled()
            case CircuitState.CLOSED:
                self.openings = 0
                return _Closed(policy)

    def __repr__(self) -> str:
        until = "" if self.reopens_at is None else f", reopens at {self.reopens_at:.3f}"
        return (
            f"<Breaker {self.state}, epoch {self.epoch}, "
            f"{self.consecutive_failures} failures in a row{until}>"
        )


def _retry_at(now: float, kind: FailureKind | None, retry_after_s: float | None) -> float:
    """When a Retry-After ends; 0.0 if there is none, or none that makes sense."""
    if kind is None or not kind.counts_for_breaker or retry_after_s is None:
        return 0.0
    return now + retry_after_s if retry_after_s > 0 and math.isfinite(retry_after_s) else 0.0


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
