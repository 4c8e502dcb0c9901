"""The states of a breaker: each takes an event in, keeps its own counts, says what comes next."""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

from greenroom.messages import _validate as check
from greenroom.messages.config import MOST_KEPT, PoolConfig
from greenroom.messages.status import CircuitState, FailureKind
from greenroom.supervisors.policy.outcome_window import OutcomeWindow


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
        check.whole("window", self.window, minimum=self.min_calls, maximum=MOST_KEPT)
        check.number("reset_timeout_s", self.reset_timeout_s, above=True)
        check.number("reset_max_s", self.reset_max_s, minimum=self.reset_timeout_s)
        check.number("permit_lease_s", self.permit_lease_s, above=True)
        for name in ("failure_rate", "slow_rate"):
            check.number(name, getattr(self, name), maximum=1.0, above=True, optional=True)
        check.number("slow_call_s", self.slow_call_s, above=True, optional=True)

    @classmethod
    def from_config(cls, config: PoolConfig, permit_lease_s: float | None = None) -> BreakerPolicy:
        """A pool's policy. Unless it is given, the lease outlasts one attempt by a second, but not
        the longest opening: a trial that hangs from before the end of an outage must not be what
        the member waits for.
        """
        reset_max_s = config.circuit_reset_max_s
        if reset_max_s is None:
            reset_max_s = 2.0 * config.circuit_reset_timeout_s
        # A lease is for a trial of which nothing is ever heard: without it
        # the breaker would stay half-open for good.
        if permit_lease_s is None:
            permit_lease_s = reset_max_s
            if config.request_timeout_s is not None:
                permit_lease_s = min(permit_lease_s, config.request_timeout_s + 1.0)
        return cls(
            failure_threshold=config.circuit_failure_threshold,
            reset_timeout_s=config.circuit_reset_timeout_s,
            reset_max_s=reset_max_s,
            success_threshold=config.circuit_success_threshold,
            window=config.circuit_window,
            min_calls=config.circuit_min_calls,
            failure_rate=config.circuit_failure_rate,
            slow_rate=config.circuit_slow_rate,
            slow_call_s=config.circuit_slow_call_s,
            half_open_permits=config.half_open_permits,
            permit_lease_s=permit_lease_s,
        )


class Outcome(NamedTuple):
    now: float
    kind: FailureKind | None
    elapsed_s: float
    slow: bool
    probe: bool
    not_before: float  # the end of a Retry-After; 0.0 without one
    began: float
    opens_at_once: bool
    request: int | None  # the number of the request that failed; None: of one of its own
    may_open: bool  # whether a closed breaker may open by it


class Next(NamedTuple):
    """The state that is wanted next, and why; an opening does not end before `not_before`, and if
    it is `lasting` what it is for does not pass by itself. One that goes on ends at `until`, as it
    would have without a trial that came early. A closing may come of what has been `tried`; `kind`
    is that of the failure that opens; `heard`: somebody outside has said so.
    """

    state: CircuitState
    reason: str
    not_before: float = 0.0
    lasting: bool = False
    until: float = 0.0
    tried: bool = False
    kind: FailureKind | None = None
    heard: bool = False


class State:
    """What every state answers; by default it lets nothing through and records nothing."""

    __slots__ = ()
    circuit: ClassVar[CircuitState]

    @property
    def failures(self) -> int:
        return 0

    @property
    def credit(self) -> int | None:
        return None

    @property
    def reopens_at(self) -> float | None:
        return None

    @property
    def next_event_at(self) -> float | None:
        return self.reopens_at

    def tick(self, now: float) -> Next | None:
        return None

    def admits(self, now: float) -> bool:
        return False

    def trial_started(self, now: float) -> None:
        return None

    def record(self, outcome: Outcome) -> Next | None:
        return None

    def configure(self, policy: BreakerPolicy) -> None:
        """Go by another policy; what has been counted stays, and nothing changes by it yet."""

    def take(self, successes: int) -> bool:
        """Take in that many calls, none failed or slow, at once; False, and nothing taken in, where
        they must be recorded one by one.
        """
        return True


class Closed(State):
    """Lets calls through and counts their outcomes."""

    __slots__ = ("_policy", "_provisional", "_settled", "_window", "last_kind")
    circuit = CircuitState.CLOSED

    def __init__(self, policy: BreakerPolicy) -> None:
        self._policy = policy
        self._window = OutcomeWindow(policy.window)
        # Requests that have failed since the last success: those that go on, and how many others.
        self._provisional: set[int] = set()
        self._settled = 0
        self.last_kind: FailureKind | None = None

    @property
    def failures(self) -> int:
        return self._settled + len(self._provisional)

    def admits(self, now: float) -> bool:
        return True

    def configure(self, policy: BreakerPolicy) -> None:
        self._policy = policy
        if policy.window != self._window.size:
            self._window.resize(policy.window)

    def record(self, outcome: Outcome) -> Next | None:
        kind = outcome.kind
        if kind is None and outcome.probe:  # a cheap ping must not mask failing traffic
            return None
        if kind is not None and not kind.counts_for_breaker:
            return None
        # Before it is counted: a success can only open the breaker as
        # the one that makes the calls enough.
        enough = len(self._window) >= self._policy.min_calls
        self.count(kind is not None, outcome.slow, outcome.request)
        if kind is not None:
            self.last_kind = kind
        # Counted all the same: see `Breaker.record`.
        if not outcome.may_open:
            return None
        if outcome.opens_at_once:
            reason = f"{kind} failure"
            return Next(CircuitState.OPEN, reason, outcome.not_before, lasting=True, kind=kind)
        if kind is None and not outcome.slow and (enough or self._window.spotless):
            return None  # it makes the rates go down
        why = self.reason_to_open()
        return Next(CircuitState.OPEN, why, outcome.not_before, kind=kind) if why else None

    def count(self, failed: bool, slow: bool, request: int | None) -> None:
        """Take an outcome into the accounts; a request's failures count once."""
        self._window.record(failed=failed, slow=slow, request=request)
        if not failed:
            self._succeeded()
        elif request is not None:
            self._provisional.add(request)
        else:
            self._settled += 1

    def retract(self, request: int) -> bool:
        """Take the failures of a request off the accounts; whether there were any."""
        in_row = request in self._provisional
        self._provisional.discard(request)
        return self._window.retract(request) or in_row

    def settle(self, request: int) -> None:
        """A request has ended: its failures can be taken back no more."""
        self._window.settle(request)
        if request in self._provisional:
            self._provisional.remove(request)
            self._settled += 1

    def take(self, successes: int) -> bool:
        """Good calls make the rates go down. So one of them can only open it where it makes the
        calls enough for a rate, and there is a failed or a slow one among them.
        """
        window = self._window
        if not window.spotless and len(window) < self._policy.min_calls:
            return False
        window.extend(successes)
        self._succeeded()
        return True

    def _succeeded(self) -> None:
        self._settled = 0
        if self._provisional:
            self._provisional.clear()

    def is_near_opening(self) -> bool:
        """Whether there may be a reason to open it, now or by one more failure, with or without
        what may still be taken back. Where it says no there is none: most failures need no closer
        look.
        """
        policy, window = self._policy, self._window
        # Without some failures the share of slow calls may be higher than with them.
        if self.failures + 1 >= policy.failure_threshold or policy.slow_rate is not None:
            return True
        calls = min(len(window) + 1, window.size)
        if policy.failure_rate is None or calls < policy.min_calls:
            return False
        return (window.failed + 1) / calls >= policy.failure_rate

    def reason_to_open(self, *, beyond_doubt: bool = False) -> str | None:
        """Why it should open by its accounts, None if it should not; `beyond_doubt`: without what
        may still be taken back.
        """
        policy, window, failures = self._policy, self._window, self.failures
        if beyond_doubt:
            window, failures = window.settled(), self._settled
        if failures >= policy.failure_threshold:
            return f"{_plural(failures, 'failure')} in a row"
        if len(window) < policy.min_calls:
            return None
        last = f"of the last {_plural(len(window), 'call')}"
        # The failures come first: of a member that fails slowly it is said that it fails.
        if policy.failure_rate is not None and window.failure_rate >= policy.failure_rate:
            return f"{window.failure_rate:.0%} {last} failed"
        if policy.slow_rate is not None and window.slow_rate >= policy.slow_rate:
            return f"{window.slow_rate:.0%} {last} were slow"
        return None


class Open(State):
    """Lets nothing through until its time has come; only a Retry-After makes it later.

    Attributes:
        not_before: the end of that Retry-After; 0.0 without one.
        lasting: whether what it is for does not pass by itself.
    """

    __slots__ = ("lasting", "not_before", "reopens_at")
    circuit = CircuitState.OPEN
    reopens_at: float

    def __init__(self, reopens_at: float, not_before: float = 0.0, lasting: bool = False) -> None:
        self.reopens_at = reopens_at
        self.not_before = not_before
        self.lasting = lasting

    def tick(self, now: float) -> Next | None:
        if now < self.reopens_at:
            return None
        return Next(CircuitState.HALF_OPEN, "reset timeout over")

    def record(self, outcome: Outcome) -> Next | None:
        self.not_before = max(self.not_before, outcome.not_before)
        self.reopens_at = max(self.reopens_at, outcome.not_before)
        return None


@dataclass(slots=True, eq=False)
class HalfOpen(State):
    """Lets a few trials through, each on a lease; probes need none and count as well.

    Attributes:
        early_until: when the opening would have ended that it is tried before the end of; None of
            a trial that has come in its time. An early one is one at a time, one success is enough,
            and one that fails leaves the opening as it was.
    """

    circuit = CircuitState.HALF_OPEN

    _policy: BreakerPolicy
    early_until: float | None = None
    _leases: list[float] = field(default_factory=list)  # when each trial started, oldest first
    _started: int = 0
    _returned: int = 0
    _lost: int = 0  # leases that ended before their call reported
    _successes: int = 0

    @property
    def credit(self) -> int | None:
        return self._permits + self._returned

    @property
    def _permits(self) -> int:
        return self._policy.half_open_permits if self.early_until is None else 1

    @property
    def next_event_at(self) -> float | None:
        return self._leases[0] + self._policy.permit_lease_s if self._leases else None

    def tick(self, now: float) -> Next | None:
        while self._leases and now >= self._leases[0] + self._policy.permit_lease_s:
            self._take_back()
            self._lost += 1
        return None

    def configure(self, policy: BreakerPolicy) -> None:
        self._policy = policy

    def admits(self, now: float) -> bool:
        return self._started < self._permits + self._returned

    def trial_started(self, now: float) -> None:
        self._started += 1
        # Sorted: each trial is told of with its own time, and the words may come out of order.
        insort(self._leases, now)

    def record(self, outcome: Outcome) -> Next | None:
        if not outcome.probe:
            self._reported(outcome.began)
        kind = outcome.kind
        if kind is not None and not kind.counts_for_breaker:
            return None
        if kind is not None:
            reason, lasting = f"trial failed: {kind}", outcome.opens_at_once
            until = 0.0 if lasting else self._goes_on_until(outcome.now)
            return Next(CircuitState.OPEN, reason, outcome.not_before, lasting, until, kind=kind)
        # Also without a `slow_rate`: a trial that is slow shows that the member is not back yet.
        if outcome.slow:
            until = self._goes_on_until(outcome.now)
            return Next(CircuitState.OPEN, f"trial took {outcome.elapsed_s:.1f} s", until=until)
        self._successes += 1
        enough = 1 if self.early_until is not None else self._policy.success_threshold
        if self._successes < enough:
            return None
        reason = f"{_plural(self._successes, 'trial')} succeeded"
        return Next(CircuitState.CLOSED, reason, tried=True)

    def _goes_on_until(self, now: float) -> float:
        """When an opening ends that goes on; 0.0 where this is a new one."""
        early = self.early_until
        return early if early is not None and early > now else 0.0

    def take(self, successes: int) -> bool:
        return False

    def _reported(self, began: float) -> None:
        """Give the permit of a call that began then back, unless its lease had ended before.

        Such a late call began at least a lease before any trial that its permit has gone to since;
        half of that leaves room for clocks that do not quite agree.
        """
        if not self._leases:
            return
        if self._lost and began < self._leases[0] - self._policy.permit_lease_s / 2:
            # The late call of a lease that has been taken back: its permit
            # does not come back a second time.
            self._lost -= 1
        else:
            self._take_back()

    def _take_back(self) -> None:
        del self._leases[0]
        self._returned += 1


class ForcedOpen(State):
    """Lets nothing through until it is reset by hand."""

    __slots__ = ()
    circuit = CircuitState.FORCED_OPEN


class Disabled(State):
    """Lets everything through and records nothing."""

    __slots__ = ()
    circuit = CircuitState.DISABLED

    def admits(self, now: float) -> bool:
        return True


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
