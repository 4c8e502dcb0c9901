"""The closed vocabularies: strategies, states, kinds of failure, reasons for a refusal."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class LoadBalanceStrategy(StrEnum):
    """How the router chooses among the members that can take a request."""

    ROUND_ROBIN = "round_robin"
    RANDOM = "random"
    WEIGHTED = "weighted"
    PRIORITY = "priority"
    LEAST_LATENCY = "least_latency"
    LEAST_ERRORS = "least_errors"
    LEAST_OUTSTANDING = "least_outstanding"
    ADAPTIVE = "adaptive"
    POWER_OF_TWO = "power_of_two"
    CONSISTENT_HASH = "consistent_hash"
    FAILOVER = "failover"


class AgentStatus(StrEnum):
    """What is known of a member, from its recent outcomes."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"
    CIRCUIT_OPEN = "circuit_open"


class CircuitState(StrEnum):
    """The states of a member's circuit breaker."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    FORCED_OPEN = "forced_open"
    DISABLED = "disabled"


class FailureKind(StrEnum):
    """What a failed attempt means for the request and for the member's breaker."""

    TIMEOUT = "timeout"
    UNAVAILABLE = "unavailable"
    CRASHED = "crashed"
    UNKNOWN = "unknown"
    RATE_LIMITED = "rate_limited"
    AUTH = "auth"
    QUOTA = "quota"
    NOT_FOUND = "not_found"
    TOO_LARGE = "too_large"
    CALLER = "caller"
    CANCELLED = "cancelled"
    CREATE_FAILED = "create_failed"
    INTERRUPTED = "interrupted"

    @property
    def tries_another_member(self) -> bool:
        """Whether another member may succeed where this one failed."""
        return self not in (FailureKind.CALLER, FailureKind.CANCELLED)

    @property
    def counts_for_breaker(self) -> bool:
        """Whether the failure says anything about the member's own health."""
        return self not in _UNCOUNTED

    @property
    def is_the_members(self) -> bool:
        """Whether it is the member that could not answer, be it ill or only throttled."""
        return self is FailureKind.RATE_LIMITED or self.counts_for_breaker

    @property
    def opens_at_once(self) -> bool:
        """Whether one such failure opens the breaker, as a rule: more calls cannot help."""
        return self in (FailureKind.AUTH, FailureKind.QUOTA)


_UNCOUNTED = frozenset(
    {
        FailureKind.RATE_LIMITED,
        FailureKind.TOO_LARGE,
        FailureKind.NOT_FOUND,
        FailureKind.CALLER,
        FailureKind.CANCELLED,
        FailureKind.CREATE_FAILED,
        FailureKind.INTERRUPTED,
    }
)


class SkipReason(StrEnum):
    """Why a member was not tried for a request."""

    CIRCUIT_OPEN = "circuit_open"
    TRIAL_RUNNING = "trial_running"
    COOLING_DOWN = "cooling_down"
    SATURATED = "saturated"
    STARTING = "starting"
    STALLED = "stalled"
    DRAINING = "draining"
    GAVE_UP = "gave_up"
    EXCLUDED = "excluded"


class CancelReason(StrEnum):
    """Why a running attempt is no longer wanted."""

    CALLER = "caller"
    ATTEMPT_TIMEOUT = "attempt_timeout"
    DEADLINE = "deadline"
    STOPPING = "stopping"
    LOOP_LOST = "loop_lost"
    LOOP_ENDED = "loop_ended"
    LOST_RACE = "lost_race"


class RefusalReason(StrEnum):
    """Why a member actor refused an attempt that it provably never started."""

    SATURATED = "saturated"
    CREATE_FAILED = "create_failed"
    STOPPING = "stopping"
    STALE_INCARNATION = "stale_incarnation"
    NO_RESOURCES = "no_resources"


@dataclass(frozen=True, slots=True)
class FailureRow:
    """One row of the table of kinds in `docs/failures.md`, cell by cell."""

    kinds: tuple[FailureKind, ...]
    example: str
    another_member: str
    counts: str

    def __str__(self) -> str:
        kinds = ", ".join(f"`{kind}`" for kind in self.kinds)
        return f"| {kinds} | {self.example} | {self.another_member} | {self.counts} |"


FAILURE_TABLE = (
    FailureRow(
        (FailureKind.TIMEOUT, FailureKind.UNAVAILABLE),
        "`TimeoutError`, 408, 504; `ConnectionError`, 409, 425, 5xx",
        "yes",
        "yes",
    ),
    FailureRow(
        (FailureKind.UNKNOWN,),
        "any other exception; a refused value that says no more",
        "yes",
        "yes",
    ),
    FailureRow(
        (FailureKind.CRASHED,),
        "`SystemExit` and its like in the agent; the member's actor ended",
        "yes",
        "yes",
    ),
    FailureRow(
        (FailureKind.RATE_LIMITED,),
        "429",
        "yes; the member rests for its Retry-After, without one for 1 s doubling to 30 s",
        "no",
    ),
    FailureRow(
        (FailureKind.AUTH, FailureKind.QUOTA),
        "401, 403; 402, `insufficient_quota`",
        "yes",
        "opens at once; a 403 counts as any other",
    ),
    FailureRow((FailureKind.TOO_LARGE,), "413, `context_length_exceeded`", "yes", "no"),
    FailureRow(
        (FailureKind.NOT_FOUND,),
        "404, `model_not_found`, a retired deployment",
        "yes; the member rests for it",
        "no",
    ),
    FailureRow((FailureKind.CREATE_FAILED,), "the member's factory raised", "yes", "no"),
    FailureRow(
        (FailureKind.INTERRUPTED,),
        "another member blocked the event loop that they share, until it was replaced; the app's "
        "event loop ended; the process stood still",
        "yes",
        "no",
    ),
    FailureRow(
        (FailureKind.CALLER,),
        "any other 4xx; a content filter's refusal",
        "no: raised as it is",
        "no",
    ),
    FailureRow((FailureKind.CANCELLED,), "the caller gave up", "no", "no"),
)
"""What each kind means, for whoever reads it; what it does is in `FailureKind`."""
