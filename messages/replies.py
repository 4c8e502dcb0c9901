"""What a pool says back: answers and statistics, immutable."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from greenroom.messages.errors import AttemptError
from greenroom.messages.limits import LimitStats
from greenroom.messages.status import AgentStatus, CircuitState, FailureKind

R = TypeVar("R")


class Metadata(Mapping[str, Any]):
    """What an agent has said of its answer: a mapping that cannot be changed.

    Not a `MappingProxyType`, which could be neither pickled nor copied.
    """

    __slots__ = ("_said",)

    def __init__(self, said: Mapping[str, Any]) -> None:
        self._said = dict(said)

    def __getitem__(self, key: str) -> Any:
        return self._said[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._said)

    def __len__(self) -> int:
        return len(self._said)

    def __hash__(self) -> int:
        return hash(frozenset(self._said))  # whatever the values are

    def __repr__(self) -> str:
        return f"<Metadata of {', '.join(self._said) or 'nothing'}>"


NO_METADATA = Metadata({})
"""That of every answer of which its agent has said nothing."""


@dataclass(frozen=True, slots=True)
class Reply(Generic[R]):
    """The answer to a request.

    Attributes:
        value: what the agent returned.
        member: who answered.
        attempts: how many attempts it took; 1 is the first try.
        elapsed_s: seconds from the request's arrival at the router to its answer.
        request_id: the request's id, as in the log.
        errors: the members that failed before this one answered.
        metadata: what the agent has said of its answer by `CallContext.describe`: of a model which
            one it was, and its usage. Never logged, and not in the repr.
    """

    value: R
    member: str = field(kw_only=True)
    attempts: int = field(default=1, kw_only=True)
    elapsed_s: float = field(default=0.0, kw_only=True)
    request_id: str = field(default="", kw_only=True)
    errors: tuple[AttemptError, ...] = field(default=(), kw_only=True)
    metadata: Mapping[str, Any] = field(
        default=NO_METADATA, kw_only=True, repr=False, compare=False
    )


@dataclass(frozen=True, slots=True)
class MapResult(Generic[R]):
    """What has become of one payload of a `map` that returns errors.

    Attributes:
        index: the payload's place in the input, from 0.
        reply: the answer; None where there is an error.
        error: why there is none.
    """

    index: int
    reply: Reply[R] | None = field(default=None, kw_only=True)
    error: Exception | None = field(default=None, kw_only=True)

    @property
    def value(self) -> R:
        """What the agent returned.

        Raises:
            Exception: the error, where there is one.
        """
        if self.reply is None:
            assert self.error is not None
            raise self.error
        return self.reply.value


@dataclass(frozen=True)  # with slots no type checker would believe that a `str` may be one
class Restarted:
    """In a stream, between its chunks: what has come so far is void, the whole answer follows.

    It comes with `PoolConfig(on_cut="restart")` alone, where a stream has broken off after its
    first chunk and another member has begun it anew.

    Attributes:
        member: whose stream broke off. (`stream.member` is whose chunks follow.)
        kind: how it failed.
        error: its error in one line.
        attempt: the number of the attempt whose chunks follow, the first one being 1.
        dropped: how many chunks the consumer has had that are void, since the start or since the
            last `Restarted`.
    """

    member: str
    kind: FailureKind
    error: str
    attempt: int
    dropped: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentHealth:
    """The health part of a member's statistics.

    The error rate is that of the last 20 outcomes, latencies are those of the last 100 successes,
    neither older than 60 s; `*_at` are seconds since the epoch.
    """

    status: AgentStatus = AgentStatus.HEALTHY
    circuit: CircuitState = CircuitState.CLOSED
    successes: int = 0
    failures: int = 0
    error_rate: float = 0.0
    latency_p50_s: float | None = None
    latency_p90_s: float | None = None
    latency_p95_s: float | None = None
    consecutive_failures: int = 0
    last_error: str | None = None
    last_success_at: float | None = None
    last_failure_at: float | None = None
    reopens_in_s: float | None = None

    @property
    def is_available(self) -> bool:
        """Whether the member's breaker lets calls through."""
        return self.status is not AgentStatus.CIRCUIT_OPEN


@dataclass(frozen=True, slots=True)
class MemberStats:
    """What is known of a member.

    Attributes:
        available: whether a request could be routed to it right now.
        in_flight: attempts that hold one of its slots.
        abandoned: threads given up on after a timeout that have not ended yet.
        incarnation: 1 for the first actor behind the name, one more with every restart.
        max_concurrency: how many attempts it takes at a time; of a member with
            `max_concurrency="auto"` what has been learned by now.
        concurrency_learned: whether it has been.
        agents_lost: agents of it that were gone for good, since the pool started or the member was
            reset.
        group: `Member.group`.
        limits: its rate limits, and what is left of them.
    """

    name: str
    health: AgentHealth = field(default_factory=AgentHealth, kw_only=True)
    available: bool = field(default=True, kw_only=True)
    in_flight: int = field(default=0, kw_only=True)
    max_concurrency: int = field(default=1, kw_only=True)
    abandoned: int = field(default=0, kw_only=True)
    incarnation: int = field(default=1, kw_only=True)
    weight: float = field(default=1.0, kw_only=True)
    priority: int = field(default=0, kw_only=True)
    metadata: Mapping[str, Any] = field(default_factory=dict, kw_only=True)
    agents_lost: int = field(default=0, kw_only=True)
    tags: tuple[str, ...] = field(default=(), kw_only=True)
    cost: float = field(default=0.0, kw_only=True)
    group: str | None = field(default=None, kw_only=True)
    limits: tuple[LimitStats, ...] = field(default=(), kw_only=True)
    concurrency_learned: bool = field(default=False, kw_only=True)

    @property
    def has_headroom(self) -> bool:
        """Whether something is left of each of its rate limits."""
        return all(each.headroom >= 1 for each in self.limits)

    @property
    def status(self) -> AgentStatus:
        """Healthy, degraded, unhealthy or circuit_open."""
        return self.health.status

    @property
    def circuit(self) -> CircuitState:
        """The breaker's state."""
        return self.health.circuit

    @property
    def successes(self) -> int:
        """Attempts that succeeded since the pool started or the member was reset."""
        return self.health.successes

    @property
    def failures(self) -> int:
        """Attempts that failed since the pool started or the member was reset."""
        return self.health.failures

    @property
    def error_rate(self) -> float:
        """Share of failures among recent outcomes."""
        return self.health.error_rate

    @property
    def latency_p50_s(self) -> float | None:
        """Median latency of recent successes, in seconds."""
        return self.health.latency_p50_s

    @property
    def latency_p90_s(self) -> float | None:
        """90th percentile of the same: a member whose own is longer than the time that a request
        has left is passed by while another one is free.
        """
        return self.health.latency_p90_s

    @property
    def latency_p95_s(self) -> float | None:
        """95th percentile of the latency of recent successes, in seconds."""
        return self.health.latency_p95_s

    @property
    def consecutive_failures(self) -> int:
        """Failures since the last success."""
        return self.health.consecutive_failures

    @property
    def last_error(self) -> str | None:
        """The last failure in one line."""
        return self.health.last_error

    @property
    def last_success_at(self) -> float | None:
        """When an attempt last succeeded, in seconds since the epoch."""
        return self.health.last_success_at

    @property
    def last_failure_at(self) -> float | None:
        """When an attempt last failed, in seconds since the epoch."""
        return self.health.last_failure_at

    @property
    def reopens_in_s(self) -> float | None:
        """Seconds until an open breaker is tried again, or a rest is over; None without either."""
        return self.health.reopens_in_s

    def __repr__(self) -> str:
        latency = "" if self.latency_p50_s is None else f", p50 {self.latency_p50_s * 1000:.0f} ms"
        what = "reopens in" if self.circuit is CircuitState.OPEN else "rests for"
        reopens = "" if self.reopens_in_s is None else f", {what} {self.reopens_in_s:.1f} s"
        return (
            f"<MemberStats {self.name}: {self.status}, {self.circuit}{reopens}, "
            f"{self.in_flight}/{self.max_concurrency} in flight, {self.successes} ok, "
            f"{self.failures} failed{latency}>"
        )


@dataclass(frozen=True, slots=True)
class PoolStats:
    """A pool at one moment.

    Attributes:
        members: one `MemberStats` a member, in the configured order.
        available: the names of the members that can take a request now.
        pending: requests that wait for a member.
        in_flight: attempts that hold a member's slot.
        accepted: requests taken in since the start; each ends in one of the next three.
        completed: requests answered with a value.
        failed: requests answered with an error.
        cancelled: requests given up by their caller.
        retries: attempts after one that had failed.
        hedges: attempts beside one that was slow.
        waiting_keys: with `PoolConfig.fair_by`, of how many keys something waits; else 0.
        waiting_most: with it, how many requests wait of the key that has most of them; else 0.
    """

    name: str
    strategy: str = field(kw_only=True)
    members: tuple[MemberStats, ...] = field(default=(), kw_only=True)
    available: tuple[str, ...] = field(default=(), kw_only=True)
    pending: int = field(default=0, kw_only=True)
    in_flight: int = field(default=0, kw_only=True)
    accepted: int = field(default=0, kw_only=True)
    completed: int = field(default=0, kw_only=True)
    failed: int = field(default=0, kw_only=True)
    cancelled: int = field(default=0, kw_only=True)
    retries: int = field(default=0, kw_only=True)
    hedges: int = field(default=0, kw_only=True)
    waiting_keys: int = field(default=0, kw_only=True)
    waiting_most: int = field(default=0, kw_only=True)
    draining: bool = field(default=False, kw_only=True)

    @property
    def can_serve(self) -> bool:
        """Whether a member could take a request, now or once it is less busy: what a health check
        asks. (`available` leaves out who is busy: a pool at work would be taken for a dead one.)
        """
        return not self.draining and any(
            each.available
            or (
                each.health.is_available
                and (each.in_flight >= each.max_concurrency or not each.has_headroom)
            )
            for each in self.members
        )

    def __getitem__(self, member: str) -> MemberStats:
        for stats in self.members:
            if stats.name == member:
                return stats
        raise KeyError(member)

    def __repr__(self) -> str:
        rows = "".join(f"\n  {m!r}" for m in self.members)
        draining = ", draining" if self.draining else ""
        return (
            f"<PoolStats {self.name} ({self.strategy}): {len(self.available)} of "
            f"{len(self.members)} available, {self.pending} pending, {self.in_flight} in flight, "
            f"{self.completed} completed, {self.failed} failed{draining}>{rows}"
        )
