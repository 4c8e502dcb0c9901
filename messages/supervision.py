"""What the supervisor says and is told: outcomes, probes, routing snapshots, no payloads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from greenroom.messages.config import PoolConfig
from greenroom.messages.execution import OfMember
from greenroom.messages.limits import Limit
from greenroom.messages.member import Member
from greenroom.messages.requests import Command
from greenroom.messages.status import CircuitState, FailureKind, SkipReason


class Stopped(Protocol):
    """Whether an actor takes messages no more."""

    def is_set(self) -> bool: ...


class Inbox(Protocol):
    """Where an actor's messages are put, each in its envelope."""

    def put(self, envelope: Any, /) -> None: ...


class Recipient(Protocol):
    """An actor's ref, as far as it is told something. Each of Pykka's is one."""

    @property
    def actor_stopped(self) -> Stopped: ...

    @property
    def actor_inbox(self) -> Inbox: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptOutcome(OfMember):
    """How one attempt ended; `kind` is None for a success. `epoch` is the breaker's at dispatch.

    `elapsed_s` is what counts as its speed; `began` says when it started, if that is longer ago.
    """

    epoch: int
    request_id: str
    attempt: int
    at: float
    elapsed_s: float
    kind: FailureKind | None = None
    error: str | None = None
    retry_after_s: float | None = None
    began: float | None = None
    number: int = 0
    """The how-manieth failure of this incarnation it is: comes back in `FailuresSeen`."""
    opens_at_once: bool = False
    """Whether it opens the breaker by itself, and can never be the request's fault."""


@dataclass(frozen=True, slots=True)
class Successes:
    """Successes of one member in a row, all admitted in one epoch of its breaker, that decide
    nothing by themselves: none was slow, none the trial of a half-open breaker.

    Attributes:
        at: when each of them was over, in the order in which the router saw them; at least one.
        elapsed_s: how long each of them took.
    """

    member: str
    incarnation: int = field(kw_only=True)
    epoch: int = field(kw_only=True)
    at: tuple[float, ...] = field(kw_only=True)
    elapsed_s: tuple[float, ...] = field(kw_only=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestSettled:
    """A request has ended that had failures which count: until now they were provisional.

    Attributes:
        kind: how it failed, if that was in one and the same way each time, of a kind that can be
            the request's fault, and nobody answered it; else None: its failures are the members'.
        everywhere: whether it was given to every member that could have taken it.
    """

    request_id: str
    kind: FailureKind | None = None
    everywhere: bool = True


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Outcomes, in the order in which the router saw those of one member, and requests that have
    ended, each behind its last failure.
    """

    batch: tuple[AttemptOutcome | Successes | RequestSettled, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FailuresSeen(OfMember):
    """The supervisor's word that it has judged the first `count` failures of an incarnation.

    Until then the router prefers other members, so that a request never races a breaker's opening.
    """

    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialStarted(OfMember):
    """The router has spent one trial permit of a half-open breaker's epoch."""

    epoch: int
    at: float


@dataclass(frozen=True, slots=True)
class MemberRoute:
    """A member as the router may see it.

    Attributes:
        index: its position in the configured order; never reused.
        ref: where to send an `Execute`; None while no actor stands behind the name.
        epoch: the breaker's epoch; every change of state starts a new one.
        blocked: why nothing may be sent to it, or None.
        trial_permits: with a half-open breaker, how many attempts may be started in this epoch
            altogether (a running total, so that permits in transit are never spent twice); None
            when calls are not rationed.
        reopens_at: when `blocked` may end, on the pool's monotonic clock; None if unknown.
        by_default: whether nobody has said how many calls it takes at a time.
        replaced: whether another one of its name comes when it has left: who can have nobody else
            waits for that.
        tags, accepts, cost: `Member`'s. What `accepts` says of a payload is found out where the
            request is made: nobody else calls it.
        eased_in: whether its breaker has closed by what was tried: it is given more step by step.
        limits: its rate limits.
        learns: whether the router finds out how many calls at a time it bears, up to
            `max_concurrency`.
    """

    name: str
    index: int = field(kw_only=True)
    incarnation: int = field(kw_only=True)
    ref: Recipient | None = field(kw_only=True)
    weight: float = field(default=1.0, kw_only=True)
    priority: int = field(default=0, kw_only=True)
    max_concurrency: int = field(default=1, kw_only=True)
    circuit: CircuitState = field(default=CircuitState.CLOSED, kw_only=True)
    epoch: int = field(default=1, kw_only=True)
    blocked: SkipReason | None = field(default=None, kw_only=True)
    trial_permits: int | None = field(default=None, kw_only=True)
    reopens_at: float | None = field(default=None, kw_only=True)
    by_default: bool = field(default=False, kw_only=True)
    replaced: bool = field(default=False, kw_only=True)
    tags: tuple[str, ...] = field(default=(), kw_only=True)
    accepts: Callable[[Any], object] | None = field(default=None, kw_only=True)
    cost: float = field(default=0.0, kw_only=True)
    group: str | None = field(default=None, kw_only=True)
    eased_in: bool = field(default=False, kw_only=True)
    limits: tuple[Limit, ...] = field(default=(), kw_only=True)
    learns: bool = field(default=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class TableWanted:
    """The router's word to the supervisor that it has missed a change: it needs the whole table."""


@dataclass(frozen=True, slots=True)
class RoutingSnapshot:
    """The routing table, or what has changed in it; the router takes only a newer epoch than the
    one it has, and a change only of the very one it has.

    Attributes:
        members: all of them; of a change those that have changed or are new.
        since: the epoch that this is a change of; None of a whole table.
        gone: of a change, the names of those that are members no more.
    """

    epoch: int
    members: tuple[MemberRoute, ...]
    since: int | None = field(default=None, kw_only=True)
    gone: tuple[str, ...] = field(default=(), kw_only=True)


@dataclass(frozen=True, slots=True)
class MemberDrained:
    """The router's word that a draining member has nothing of its own in flight any more."""

    member: str


@dataclass(frozen=True, slots=True)
class Forwarded:
    """A command that the router passes on to the supervisor, to be answered with `CommandDone`."""

    ticket: int
    command: Command


@dataclass(frozen=True, slots=True)
class CommandDone:
    """The supervisor's answer to a forwarded command: a value or an error."""

    ticket: int
    value: Any = None
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class Probe:
    """Check the member's agent once."""

    probe_id: int
    create: bool = False
    """Whether to make the agent first, when it has not been made yet."""


@dataclass(frozen=True, slots=True)
class CancelProbe:
    """Give a probe up: its time is over."""

    probe_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult(OfMember):
    """How a probe ended; `skipped` when there was no agent yet to check."""

    probe_id: int
    ok: bool
    elapsed_s: float
    skipped: bool = False
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentCreated(OfMember):
    """A member's factory has made its agent; `is_async`: it lives on the event loop."""

    max_concurrency: int
    is_async: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WidthSaid(OfMember):
    """A member's agent has said how many calls it takes at a time."""

    max_concurrency: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentCreateFailed(OfMember):
    """A member's factory has failed."""

    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentLost(OfMember):
    """A member's agent is gone for good.

    `remade`: a factory makes another one when it is needed. `of_loop`: it was the one of a caller's
    event loop, where the others go on.
    """

    error: str
    remade: bool
    of_loop: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRemade(OfMember):
    """Another agent has been made in the place of a lost one of a caller's event loop."""


@dataclass(frozen=True, slots=True)
class TrialDue:
    """The supervisor's word to a member actor that its half-open breaker is to be tried."""


@dataclass(frozen=True, slots=True)
class Reconfigured:
    """The supervisor's word to a member actor that its pool, or itself, goes by other settings."""

    member: Member
    config: PoolConfig


@dataclass(frozen=True, slots=True)
class Leave:
    """The supervisor's word to a member actor that it shall end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActorEnded(OfMember):
    """A member actor's last word; `expected` when the supervisor had asked for it.

    `blameless`: it ended because its event loop was lost, which was the fault of somebody else.
    """

    expected: bool
    error: str | None = None
    blameless: bool = False
