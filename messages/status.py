"""The closed vocabularies: strategies, states, kinds of failure, reasons for a refusal."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal


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
    CHEAPEST = "cheapest"


StrategyName = Literal[
    "round_robin",
    "random",
    "weighted",
    "priority",
    "least_latency",
    "least_errors",
    "least_outstanding",
    "adaptive",
    "power_of_two",
    "consistent_hash",
    "failover",
    "cheapest",
]
"""The values of `LoadBalanceStrategy`, as a type checker knows them."""


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
    """What a failed attempt means for the request and for the member's breaker; what each of them
    is given for stands in `docs/failures.md`.
    """

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

    # Attributes, not properties: a failure is asked nine times on its way, and to look a member of
    # an enum up in a set hashes it in Python.
    tries_another_member: bool
    """Whether another member may succeed where this one failed."""
    counts_for_breaker: bool
    """Whether the failure says anything about the member's own health."""
    is_the_members: bool
    """Whether it is the member that could not answer, be it ill or only throttled."""
    opens_at_once: bool
    """Whether one such failure opens the breaker, as a rule: more calls cannot help."""

    def __init__(self, value: str) -> None:
        # Not by name: the members are being made.
        throttled, callers = value == "rate_limited", value in ("caller", "cancelled")
        others = value in ("too_large", "not_found", "create_failed", "interrupted")
        self.tries_another_member = not callers
        self.counts_for_breaker = not (throttled or callers or others)
        self.is_the_members = throttled or self.counts_for_breaker
        self.opens_at_once = value in ("auth", "quota")


class SkipReason(StrEnum):
    """Why a member was not tried for a request."""

    CIRCUIT_OPEN = "circuit_open"
    TRIAL_RUNNING = "trial_running"
    COOLING_DOWN = "cooling_down"
    HEADROOM = "headroom"
    SATURATED = "saturated"
    STARTING = "starting"
    STALLED = "stalled"
    UNREACHABLE = "unreachable"
    DRAINING = "draining"
    GAVE_UP = "gave_up"
    EXCLUDED = "excluded"
    NOT_NAMED = "not_named"
    RULED_OUT = "ruled_out"
    NOT_ACCEPTED = "not_accepted"
    TOO_SLOW = "too_slow"


class ReportedState(StrEnum):
    """What somebody outside of a pool says of a member, see `ReportMember`."""

    OPEN = "open"
    COOLING = "cooling"
    UNREACHABLE = "unreachable"
    CLOSED = "closed"


ReportedStateName = Literal["open", "cooling", "unreachable", "closed"]
"""The values of `ReportedState`, as a type checker knows them."""


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
