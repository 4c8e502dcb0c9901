"""A member's health, from its recent outcomes."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from itertools import repeat

from greenroom.messages import _validate as check
from greenroom.messages.replies import AgentHealth
from greenroom.messages.status import AgentStatus, CircuitState, FailureKind

HEALTH_WINDOW_S = 60.0
"""An outcome of this age is no longer recent."""
MIN_OUTCOMES = 5
"""Recent outcomes needed before a member can be called anything but healthy."""
RATE_OUTCOMES = 20
"""Outcomes over which the error rate is taken, at most."""
LATENCY_OUTCOMES = 100
"""Successes over which latencies are taken, at most."""

_OPEN = frozenset({CircuitState.OPEN, CircuitState.HALF_OPEN, CircuitState.FORCED_OPEN})
_NOT_ILL = frozenset({FailureKind.RATE_LIMITED, FailureKind.NOT_FOUND})
"""Failures of a member that is well all the same: it rests for a while, see `RestPeriod`."""
_NEITHER = frozenset({
    FailureKind.CANCELLED, FailureKind.CALLER, FailureKind.TOO_LARGE, FailureKind.INTERRUPTED,
})  # fmt: skip


class HealthRecord:
    """What one member has done lately. Recording is cheap; rates and quantiles are taken on demand.

    Times are monotonic seconds. `successes` and `failures` count since the start, or since `reset`.

    Args:
        degraded_at: the error rate (0 to 1) from which the member is degraded.
        unhealthy_at: the error rate from which it is unhealthy.
    """

    __slots__ = (
        "_in_a_row", "_latencies", "_outcomes", "_provisional", "_spotless_from", "degraded_at",
        "failures", "last_error", "last_failure_at", "last_success_at", "successes", "unhealthy_at",
    )  # fmt: skip

    def __init__(self, degraded_at: float, unhealthy_at: float) -> None:
        self.configure(degraded_at, unhealthy_at)
        self.reset()

    def configure(self, degraded_at: float, unhealthy_at: float) -> None:
        """Go by other rates; what has been recorded stays."""
        check.number("degraded_at", degraded_at, maximum=1.0, above=True)
        check.number("unhealthy_at", unhealthy_at, minimum=degraded_at, maximum=1.0)
        self.degraded_at = degraded_at
        self.unhealthy_at = unhealthy_at

    def reset(self) -> None:
        """Forget everything."""
        self.successes = 0
        self.failures = 0
        self._in_a_row: dict[int | None, int] = {}  # failures since the last success, by request
        self._provisional: dict[int, int] = {}  # all failures of requests that go on
        self.last_error: str | None = None
        self.last_success_at: float | None = None
        self.last_failure_at: float | None = None
        self._spotless_from = -math.inf  # when no failure so far is recent any more
        self._outcomes: deque[tuple[float, FailureKind | None, int | None]] = deque(
            maxlen=RATE_OUTCOMES
        )
        self._latencies: deque[tuple[float, float]] = deque(maxlen=LATENCY_OUTCOMES)

    @property
    def consecutive_failures(self) -> int:
        """Failures since the last success."""
        return sum(self._in_a_row.values())

    def record(
        self,
        now: float,
        kind: FailureKind | None,
        elapsed_s: float = 0.0,
        error: str | None = None,
        request: int | None = None,
    ) -> None:
        """Take in how an attempt ended; `kind` is None for a success.

        Cancelled and interrupted calls say nothing, and neither do a caller's own mistakes
        (`caller`, `too_large`). Who is throttled, or has not what was asked for, is not ill: such a
        failure is counted and shown, but is no part of the error rate.

        Args:
            request: the number of the request that failed, for `retract` and `settle`.
        """
        if kind is None:
            self.extend((now,), (elapsed_s,))
        elif kind not in _NEITHER:
            self.failures += 1
            self.last_failure_at = now
            self.last_error = error if error is not None else str(kind)
            if kind not in _NOT_ILL:
                self._failed(now, kind, request)

    def retract(self, request: int) -> None:
        """Take the failures of a request back. What the last of them said stays to be read."""
        count = self._provisional.pop(request, 0)
        if count:
            self.failures -= count
            self._in_a_row.pop(request, None)
            # All of them: a request may have failed on this member more than once.
            kept = [each for each in self._outcomes if each[2] != request]
            self._outcomes = deque(kept, maxlen=RATE_OUTCOMES)

    def settle(self, request: int) -> None:
        """A request has ended, and its failures are the member's."""
        if self._provisional.pop(request, None) is not None:
            # None stands for all requests that have ended: nobody asks
            # for them one by one any more.
            in_a_row = self._in_a_row.pop(request, 0)
            if in_a_row:
                self._in_a_row[None] = self._in_a_row.get(None, 0) + in_a_row

    def extend(self, at: Sequence[float], elapsed_s: Sequence[float]) -> None:
        """Take in at least one success: when each of them was over, and how long it took."""
        self.successes += len(at)
        self._in_a_row.clear()
        self.last_success_at = at[-1]
        self._outcomes.extend(zip(at, repeat(None), repeat(None)))
        self._latencies.extend(zip(at, elapsed_s, strict=True))

    def _failed(self, now: float, kind: FailureKind, request: int | None) -> None:
        self._in_a_row[request] = self._in_a_row.get(request, 0) + 1
        if request is not None:
            self._provisional[request] = self._provisional.get(request, 0) + 1
        # A failure that is taken back leaves it as it is: then `status` only looks in vain.
        self._spotless_from = max(self._spotless_from, now + HEALTH_WINDOW_S)
        self._outcomes.append((now, kind, request))

    def status(self, now: float, circuit: CircuitState) -> AgentStatus:
        """What to call the member now. Old outcomes age out, so that time alone brings it back."""
        if circuit in _OPEN:
            return AgentStatus.CIRCUIT_OPEN
        # The usual case, in which nothing need be counted.
        if now >= self._spotless_from:
            return AgentStatus.HEALTHY
        recent = self._recent(now)
        if len(recent) < MIN_OUTCOMES:
            return AgentStatus.HEALTHY
        rate = sum(recent) / len(recent)
        if rate >= self.unhealthy_at:
            return AgentStatus.UNHEALTHY
        return AgentStatus.DEGRADED if rate >= self.degraded_at else AgentStatus.HEALTHY

    def error_rate(self, now: float) -> float:
        """Share of failures among the recent outcomes, from 0 to 1; 0 when there are none."""
        recent = self._recent(now)
        return sum(recent) / len(recent) if recent else 0.0

    def next_change_at(self, now: float) -> float | None:
        """When time alone may next change the status; None when only a new outcome can."""
        # Where nothing has failed, or too little has happened, the member is healthy already, and
        # time alone can only leave it so.
        current = [each for each in self._outcomes if each[0] + HEALTH_WINDOW_S > now]
        if len(current) < MIN_OUTCOMES or all(kind is None for _, kind, _ in current):
            return None
        return min(at for at, _, _ in current) + HEALTH_WINDOW_S

    def snapshot(
        self,
        now: float,
        circuit: CircuitState,
        *,
        reopens_at: float | None = None,
        wall_offset_s: float = 0.0,
    ) -> AgentHealth:
        """The health part of a member's statistics; `wall_offset_s` is wall clock minus `now`."""
        latencies = sorted(took for at, took in self._latencies if at + HEALTH_WINDOW_S > now)
        return AgentHealth(
            status=self.status(now, circuit),
            circuit=circuit,
            successes=self.successes,
            failures=self.failures,
            error_rate=self.error_rate(now),
            latency_p50_s=_nearest_rank(latencies, 0.50),
            latency_p90_s=_nearest_rank(latencies, 0.90),
            latency_p95_s=_nearest_rank(latencies, 0.95),
            consecutive_failures=self.consecutive_failures,
            last_error=self.last_error,
            last_success_at=_moved(self.last_success_at, wall_offset_s),
            last_failure_at=_moved(self.last_failure_at, wall_offset_s),
            reopens_in_s=None if reopens_at is None else max(0.0, reopens_at - now),
        )

    def _recent(self, now: float) -> list[bool]:
        return [k is not None for at, k, _ in self._outcomes if at + HEALTH_WINDOW_S > now]

    def recent_kinds(self, now: float, since: float = -math.inf) -> list[FailureKind | None]:
        """How the recent calls ended that are no older than `since`: None for a success."""
        since = max(since, now - HEALTH_WINDOW_S)
        return [kind for at, kind, _ in self._outcomes if at > since]

    @property
    def oldest_at(self) -> float:
        """When the first of the calls ended that the error rate is taken of."""
        return self._outcomes[0][0] if self._outcomes else -math.inf

    def since_calls(self, count: int) -> float:
        """When the first of the last so many calls ended, of as many as there are."""
        calls = len(self._outcomes)
        return self._outcomes[max(0, calls - count)][0] if calls else -math.inf

    def has_answered_since(self, at: float) -> bool:
        """Whether a call has succeeded then or later."""
        return self.last_success_at is not None and self.last_success_at >= at

    def __repr__(self) -> str:
        return (
            f"<HealthRecord {self.successes} ok, {self.failures} failed, "
            f"{self.consecutive_failures} in a row>"
        )


def _nearest_rank(ordered: list[float], quantile: float) -> float | None:
    return ordered[max(0, math.ceil(quantile * len(ordered)) - 1)] if ordered else None


def _moved(at: float | None, offset_s: float) -> float | None:
    return None if at is None else at + offset_s
