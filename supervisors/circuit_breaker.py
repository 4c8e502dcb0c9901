"""The circuit breaker on its own, for code that has no pool: thread-safe, and it reads a clock."""

from __future__ import annotations

import dataclasses
import inspect
import math
import random
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn, ParamSpec, SupportsIndex, TypeVar

from greenroom.actors.runtime import forks
from greenroom.messages import _validate as check
from greenroom.messages.agent_shape import is_function
from greenroom.messages.config import Classifier, PoolConfig
from greenroom.messages.errors import PoolError
from greenroom.messages.pickling import refuse
from greenroom.messages.status import CircuitState, FailureKind
from greenroom.supervisors.policy.breaker import Breaker, BreakerPolicy, Permit

_RESET_MAX_S = 300.0
P = ParamSpec("P")
R = TypeVar("R")


class CircuitOpenError(PoolError):
    """The breaker lets no call through; `reopens_in_s` seconds until it may, None if unknown."""

    def __init__(self, reopens_in_s: float | None = None) -> None:
        super().__init__(reopens_in_s)
        self.reopens_in_s = reopens_in_s

    def __str__(self) -> str:
        if self.reopens_in_s is None:
            return "the circuit is open"
        return f"the circuit is open; it may be tried again in {self.reopens_in_s:.1f} s"


class CircuitBreaker:
    """Stops calling what keeps failing, and tries it again after a while.

    Either `call` a function through it, or ask `allow()` before a call and record how it went after
    it. An outcome that is recorded without a permit counts as one of the present state's: code that
    only looks at `is_open` works too, but does not ration trials. `acquire()` gives the permit
    itself: an outcome recorded with it counts for nothing once the state has changed meanwhile, and
    only the first one counts.

    Args:
        failure_threshold: failures in a row that open it.
        reset_timeout_s: seconds that the first opening lasts; repeated ones double, up to 300 s (or
            to this, when it is longer).
        success_threshold: successful trials that close it again; one trial runs at a time.
        policy: replaces the three above, and adds failure and slow rates, which are off without it.
        classify: says what kind of failure an exception from `call` is. Without it, or when it
            returns None, a TimeoutError is a timeout and every other exception unknown.
        clock: gives the time in monotonic seconds.
        rng: draws the jitter.

    Raises:
        TypeError, ValueError: a bad argument, named with its value and rule.
    """

    def __init__(
        self,
        failure_threshold: int = 5,
        reset_timeout_s: float = 30.0,
        *,
        success_threshold: int = 2,
        policy: BreakerPolicy | None = None,
        classify: Classifier | None = None,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        if policy is None:
            policy = _policy(failure_threshold, reset_timeout_s, success_threshold)
        elif not isinstance(policy, BreakerPolicy):
            raise TypeError(f"policy must be a BreakerPolicy, got {policy!r}")
        check.function("classify", classify, optional=True)
        check.function("clock", clock)
        self._breaker = Breaker(policy, rng or random.Random())
        # Beside the state, as in a pool: who is throttled is not ill, and its breaker stays closed.
        self._rests_until = -math.inf  # the end of the last Retry-After
        self._classify = classify
        self._clock = clock
        self._lock = threading.Lock()
        forks.renew(self)

    def renew_locks(self) -> None:
        """Run in a child: another thread may have been inside when the process was forked."""
        self._lock = threading.Lock()

    @property
    def state(self) -> CircuitState:
        """The state now; an opening whose time is over is half-open."""
        with self._lock:
            return self._now()[0].state

    @property
    def is_open(self) -> bool:
        """Whether a call would be refused now; with a free trial in half-open it would not."""
        with self._lock:
            breaker, now = self._now()
            rests = now < self._rests_until and breaker.state is not CircuitState.DISABLED
            return rests or not breaker.admits(now)

    @property
    def reopens_in_s(self) -> float | None:
        """Seconds until an opening or a Retry-After ends; None if none, or if forced by hand."""
        with self._lock:
            return self._reopens_in_s()

    def allow(self) -> bool:
        """Whether a call may be made now; in half-open this spends one trial."""
        return self.acquire() is not None

    def acquire(self) -> Permit | None:
        """A permit for one call, to be recorded with its outcome; None while calls are refused."""
        with self._lock:
            return self._acquired(self._clock())

    def record_success(self, *, permit: Permit | None = None, elapsed_s: float = 0.0) -> None:
        """A call has succeeded, in `elapsed_s` seconds."""
        self._record(permit, None, elapsed_s, None)

    def record_failure(
        self,
        error_kind: FailureKind | str = FailureKind.UNKNOWN,
        *,
        permit: Permit | None = None,
        elapsed_s: float = 0.0,
        retry_after_s: float | None = None,
    ) -> None:
        """A call has failed; its kind decides what it counts for (see `FailureKind`).

        Raises:
            ValueError: no such kind.
        """
        self._record(permit, _kind(error_kind), elapsed_s, retry_after_s)

    def reset(self) -> None:
        """Close it, with all counts at zero."""
        with self._lock:
            self._rests_until = -math.inf
            self._breaker.reset(self._clock())

    def force_open(self) -> None:
        """Refuse every call until `reset` or `disable`."""
        with self._lock:
            self._breaker.force_open(self._clock())

    def disable(self) -> None:
        """Let every call through and record nothing until `reset` or `force_open`."""
        with self._lock:
            self._breaker.disable(self._clock())

    def call(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a plain function and record how it went; what it raises is raised.

        A BaseException that is no Exception, such as KeyboardInterrupt, counts for nothing.

        Raises:
            CircuitOpenError: calls are refused now.
            TypeError: `fn` is a coroutine function, whose outcome is not known when it returns.
        """
        if is_function(inspect.iscoroutinefunction, fn):
            raise TypeError(f"fn must be a plain function, got the coroutine function {fn!r}")
        permit, began = self._admitted()
        try:
            value = fn(*args, **kwargs)
        except BaseException as error:
            # A KeyboardInterrupt as well: it counts for nothing, but gives a trial's permit back.
            self._record(permit, self._kind_of(error), self._clock() - began, None)
            raise
        self._record(permit, None, self._clock() - began, None)
        return value

    def _admitted(self) -> tuple[Permit, float]:
        with self._lock:
            now = self._clock()
            permit = self._acquired(now)
            if permit is None:
                raise CircuitOpenError(self._reopens_in_s())
            return permit, now

    def _acquired(self, now: float) -> Permit | None:
        disabled = self._breaker.state is CircuitState.DISABLED
        return None if now < self._rests_until and not disabled else self._breaker.acquire(now)

    def _record(
        self,
        permit: Permit | None,
        kind: FailureKind | None,
        elapsed_s: float,
        retry_after_s: float | None,
    ) -> None:
        with self._lock:
            if permit is not None and not permit.spend():
                return
            breaker, now = self._now()
            epoch = breaker.epoch if permit is None else permit.epoch
            # Before `record`, which may begin the next epoch: the rest is of this one.
            self._rest(epoch, now, kind, retry_after_s)
            breaker.record(epoch, now, kind=kind, elapsed_s=elapsed_s, retry_after_s=retry_after_s)

    def _rest(
        self, epoch: int, now: float, kind: FailureKind | None, retry_after_s: float | None
    ) -> None:
        """Let no call through before a Retry-After is over, whatever the state; save by hand."""
        if kind is None or retry_after_s is None or epoch != self._breaker.epoch:
            return
        if kind.is_the_members and retry_after_s > 0 and math.isfinite(retry_after_s):
            self._rests_until = max(self._rests_until, now + retry_after_s)

    def _now(self) -> tuple[Breaker, float]:
        now = self._clock()
        self._breaker.tick(now)
        return self._breaker, now

    def _reopens_in_s(self) -> float | None:
        breaker, now = self._now()
        if breaker.state in (CircuitState.FORCED_OPEN, CircuitState.DISABLED):
            return None  # a Retry-After of before ends nothing
        if self._rests_until <= now:
            return None if breaker.reopens_at is None else breaker.reopens_at - now
        return max(breaker.reopens_at or 0.0, self._rests_until) - now

    def _kind_of(self, error: BaseException) -> FailureKind:
        if not isinstance(error, Exception):
            return FailureKind.CANCELLED
        kind = self._classify(error) if self._classify is not None else None
        if kind is not None:
            return kind
        return FailureKind.TIMEOUT if isinstance(error, TimeoutError) else FailureKind.UNKNOWN

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        refuse("a circuit breaker", "its counts are those of one process: make one in each")

    def __repr__(self) -> str:
        with self._lock:
            return repr(self._now()[0]).replace("<Breaker", "<CircuitBreaker", 1)


def _policy(failure_threshold: Any, reset_timeout_s: Any, success_threshold: Any) -> BreakerPolicy:
    """The pool's default policy with the three changed, and without a failure rate.

    With the rate, a threshold above `circuit_min_calls` would never be reached.
    """
    check.number("reset_timeout_s", reset_timeout_s, above=True)
    default = BreakerPolicy.from_config(PoolConfig())
    return dataclasses.replace(
        default,
        failure_threshold=failure_threshold,
        reset_timeout_s=reset_timeout_s,
        reset_max_s=max(reset_timeout_s, _RESET_MAX_S),
        success_threshold=success_threshold,
        failure_rate=None,
    )


def _kind(value: FailureKind | str) -> FailureKind:
    try:
        return FailureKind(value)
    except ValueError:
        kinds = ", ".join(FailureKind)
        raise ValueError(f"error_kind must be one of {kinds}; got {value!r}") from None
