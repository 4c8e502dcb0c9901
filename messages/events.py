"""The catalogue of what is logged and what subscribers are told. No event carries a payload."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar

from greenroom.messages.status import AgentStatus, FailureKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened in a pool.

    Attributes:
        name: the event's name in the catalogue (`breaker.opened`).
        level: its log level.
        pool: the pool's name.
        member, request_id: whom it concerns; None where it concerns nobody in particular.
    """

    name: ClassVar[str] = "event"
    level: ClassVar[str] = "INFO"

    pool: str
    member: str | None = None
    request_id: str | None = None

    def describe(self) -> str:
        """What happened, why, and what comes next, in one line without pool and member."""
        return self.name

    def severity(self) -> str:
        """The log level of this very event."""
        return self.level

    def as_dict(self) -> dict[str, Any]:
        """The event as flat plain data, ready for JSON: `event`, then its fields."""
        plain: dict[str, Any] = {"event": self.name}
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, str):
                value = str(value)  # an enum becomes its value
            elif isinstance(value, tuple):
                value = ", ".join(str(item) for item in value)
            plain[each.name] = value
        return plain

    def __str__(self) -> str:
        where = f"{self.pool}/{self.member}" if self.member else self.pool
        return f"{self.name} {where}: {self.describe()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolStarted(Event):
    """The pool takes requests."""

    name: ClassVar[str] = "pool.started"
    members: tuple[str, ...] = ()
    strategy: str = ""

    def describe(self) -> str:
        return f"pool started: {', '.join(self.members) or 'no members'} ({self.strategy})"


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolStopped(Event):
    """The pool has ended, its members are closed."""

    name: ClassVar[str] = "pool.stopped"
    unfinished: int = 0

    def describe(self) -> str:
        rest = f"; {self.unfinished} unfinished requests were failed" if self.unfinished else ""
        return f"pool stopped{rest}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolPaused(Event):
    """The process did not run for a while: it was stopped, or the machine slept. All limits have
    been put off by as much, and nobody is blamed.
    """

    name: ClassVar[str] = "pool.paused"
    level: ClassVar[str] = "WARNING"
    lasted_s: float = 0.0

    def describe(self) -> str:
        return f"the process did not run for {self.lasted_s:.1f} s: all limits are put off by that"


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberStarted(Event):
    """A member actor runs."""

    name: ClassVar[str] = "member.started"
    incarnation: int = 1

    def describe(self) -> str:
        return f"member started (incarnation {self.incarnation})"


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberStopped(Event):
    """A member actor has ended because it was asked to, its agent is closed."""

    name: ClassVar[str] = "member.stopped"
    incarnation: int = 1

    def describe(self) -> str:
        return "member stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberCreateFailed(Event):
    """A member's factory failed."""

    name: ClassVar[str] = "member.create_failed"
    level: ClassVar[str] = "WARNING"
    error: str = ""
    retry_in_s: float = 0.0

    def describe(self) -> str:
        return f"creating the agent failed: {self.error}; next try in {self.retry_in_s:.1f} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberFailed(Event):
    """A member actor ended though nobody had asked it to."""

    name: ClassVar[str] = "member.terminated"
    level: ClassVar[str] = "ERROR"
    incarnation: int = 1
    error: str = ""
    restart_in_s: float | None = None

    def describe(self) -> str:
        after = "" if self.restart_in_s is None else f"; restart in {self.restart_in_s:.1f} s"
        return f"member terminated: {self.error or 'no reason given'}{after}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberRestarted(Event):
    """A new actor stands behind the member's name."""

    name: ClassVar[str] = "member.restarted"
    level: ClassVar[str] = "WARNING"
    incarnation: int = 1
    reason: str = ""

    def describe(self) -> str:
        why = f": {self.reason}" if self.reason else ""
        return f"member restarted (incarnation {self.incarnation}){why}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberGaveUp(Event):
    """A member ended more often than the restart intensity allows: it stays down until a reset."""

    name: ClassVar[str] = "member.gave_up"
    level: ClassVar[str] = "CRITICAL"
    restarts: int = 0
    period_s: float = 0.0
    error: str = ""

    def describe(self) -> str:
        return (
            f"member given up: more than {self.restarts} restarts in {self.period_s:g} s "
            f"({self.error}); it stays down until it is reset"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptStarted(Event):
    """A member was given a request."""

    name: ClassVar[str] = "attempt.started"
    level: ClassVar[str] = "DEBUG"
    attempt: int = 1

    def describe(self) -> str:
        return f"attempt {self.attempt} started"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptSucceeded(Event):
    """A member answered."""

    name: ClassVar[str] = "attempt.succeeded"
    level: ClassVar[str] = "DEBUG"
    attempt: int = 1
    elapsed_s: float = 0.0

    def describe(self) -> str:
        return f"attempt {self.attempt} succeeded in {self.elapsed_s:.3f} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptFailed(Event):
    """A member failed."""

    name: ClassVar[str] = "attempt.failed"
    level: ClassVar[str] = "WARNING"
    attempt: int = 1
    elapsed_s: float = 0.0
    kind: FailureKind = FailureKind.UNKNOWN
    error: str = ""

    def describe(self) -> str:
        return (
            f"attempt {self.attempt} failed after {self.elapsed_s:.3f} s: {self.kind}, {self.error}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptLost(Event):
    """Another attempt for the same request was faster: this one is cancelled, and not counted."""

    name: ClassVar[str] = "attempt.lost"
    attempt: int = 1

    def describe(self) -> str:
        return f"attempt {self.attempt} lost to a faster one; it counts for nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class HedgeStarted(Event):
    """A member was given a request beside another one that takes its time."""

    name: ClassVar[str] = "hedge.started"
    attempt: int = 2
    beside: str = ""
    after_s: float = 0.0

    def describe(self) -> str:
        return f"{self.beside} has not answered in {self.after_s:.3f} s: attempt {self.attempt}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryScheduled(Event):
    """Nobody untried is left: the request waits before it is tried again."""

    name: ClassVar[str] = "retry.scheduled"
    attempt: int = 2
    delay_s: float = 0.0

    def describe(self) -> str:
        return f"no untried member left; attempt {self.attempt} in {self.delay_s:.3f} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failover(Event):
    """A request moves on from the member that failed it to another one."""

    name: ClassVar[str] = "failover"
    level: ClassVar[str] = "WARNING"
    attempt: int = 2
    to: str = ""

    def describe(self) -> str:
        return f"failed over to {self.to} (attempt {self.attempt})"


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerOpened(Event):
    """A member gets no more requests for a while."""

    name: ClassVar[str] = "breaker.opened"
    level: ClassVar[str] = "ERROR"
    reason: str = ""
    reopens_in_s: float | None = None

    def describe(self) -> str:
        after = (
            "stays open until it is reset"
            if self.reopens_in_s is None
            else f"next trial in {self.reopens_in_s:.1f} s"
        )
        return f"breaker opened: {self.reason}; {after}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerHalfOpened(Event):
    """A member is being tried again."""

    name: ClassVar[str] = "breaker.half_open"
    trial: str = ""

    def describe(self) -> str:
        return f"breaker half open: trying it with {self.trial}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerClosed(Event):
    """A member is back."""

    name: ClassVar[str] = "breaker.closed"
    reason: str = ""

    def describe(self) -> str:
        return f"breaker closed: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberResting(Event):
    """A member is left alone for a while: it is throttled, or has not what it was asked for. Its
    breaker stays as it is.

    Attributes:
        kind: what it rests for.
        rests_s: for how long, in seconds.
        until: until when, in seconds since the epoch.
    """

    name: ClassVar[str] = "member.resting"
    kind: FailureKind = FailureKind.RATE_LIMITED
    rests_s: float = 0.0
    until: float = 0.0

    def describe(self) -> str:
        return f"member rests for {self.rests_s:.1f} s: {self.kind}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberRested(Event):
    """A member that rested takes requests again."""

    name: ClassVar[str] = "member.rested"

    def describe(self) -> str:
        return "member has rested and takes requests again"


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRejected(Event):
    """A request was refused before anything ran."""

    name: ClassVar[str] = "request.rejected"
    level: ClassVar[str] = "WARNING"
    reason: str = ""

    def describe(self) -> str:
        return f"request rejected: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeSucceeded(Event):
    """A health probe passed."""

    name: ClassVar[str] = "probe.ok"
    level: ClassVar[str] = "DEBUG"
    elapsed_s: float = 0.0

    def describe(self) -> str:
        return f"probe passed in {self.elapsed_s:.3f} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeFailed(Event):
    """A health probe failed."""

    name: ClassVar[str] = "probe.failed"
    level: ClassVar[str] = "WARNING"
    elapsed_s: float = 0.0
    error: str = ""

    def describe(self) -> str:
        return f"probe failed after {self.elapsed_s:.3f} s: {self.error}"


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthChanged(Event):
    """A member's status changed; WARNING when it got worse."""

    name: ClassVar[str] = "health.changed"
    before: AgentStatus = AgentStatus.HEALTHY
    after: AgentStatus = AgentStatus.HEALTHY
    error_rate: float = 0.0

    def describe(self) -> str:
        return f"{self.before} -> {self.after} ({self.error_rate:.0%} of recent calls failed)"

    def severity(self) -> str:
        order = list(AgentStatus)
        return "WARNING" if order.index(self.after) > order.index(self.before) else "INFO"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopStalled(Event):
    """An event loop does not answer: something on it blocks. Once for every stall.

    Attributes:
        member, request_id: whose code it is; None where that cannot be told.
        loop: the name of the loop's thread.
        stalled_s: for how long it has not answered, at least.
        where: the line that blocks (`file:line in function`); empty where there is none to see.
        replaced_in_s: when its members get a fresh loop unless it answers; None: never.
    """

    name: ClassVar[str] = "loop.stalled"
    level: ClassVar[str] = "ERROR"
    loop: str = ""
    stalled_s: float = 0.0
    where: str = ""
    replaced_in_s: float | None = None

    def describe(self) -> str:
        who = "code of no known member" if self.member is None else f"member {self.member!r}"
        where = f" at {self.where}" if self.where else ""
        after = self.replaced_in_s
        rest = "" if after is None else f"; replaced in {after:.1f} s unless it answers"
        return (
            f"loop stalled: {self.loop} has not answered for {self.stalled_s:.1f} s, "
            f"blocked by {who}{where}{rest}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopRecovered(Event):
    """A stalled event loop answers again; `member` and `request_id` are those of the stall."""

    name: ClassVar[str] = "loop.recovered"
    loop: str = ""
    stalled_s: float = 0.0

    def describe(self) -> str:
        return f"loop recovered: {self.loop} answers again after {self.stalled_s:.1f} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopReplaced(Event):
    """A stalled event loop has been given up: `moved` restart on a fresh one, unpunished.

    The member that blocked it, where it is known, has crashed.
    """

    name: ClassVar[str] = "loop.replaced"
    level: ClassVar[str] = "WARNING"
    loop: str = ""
    stalled_s: float = 0.0
    moved: tuple[str, ...] = ()

    def describe(self) -> str:
        moved = ", ".join(self.moved) or "nobody"
        return (
            f"loop replaced: {self.loop} had not answered for {self.stalled_s:.1f} s; "
            f"moved to a fresh one: {moved}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopEnded(Event):
    """The app's event loop has ended before the pool: `moved` go on with a loop of the pool's own.

    What ran there has been interrupted; agents that a factory has made are made anew.
    """

    name: ClassVar[str] = "loop.ended"
    level: ClassVar[str] = "WARNING"
    loop: str = ""
    moved: tuple[str, ...] = ()

    def describe(self) -> str:
        moved = ", ".join(self.moved) or "nobody"
        return (
            f"loop ended: {self.loop} was closed, or nobody runs it, before the pool was stopped; "
            f"moved to the pool's own: {moved}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestCompleted(Event):
    """A request ended with a value, with the caller's own error, or because its caller left."""

    name: ClassVar[str] = "request.completed"
    level: ClassVar[str] = "DEBUG"
    outcome: str = "answered"
    attempts: int = 1
    elapsed_s: float = 0.0

    def describe(self) -> str:
        return f"request {self.outcome} in {self.elapsed_s:.3f} s, {self.attempts} attempt(s)"


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestExhausted(Event):
    """A request failed: nobody could answer it, or its time was over."""

    name: ClassVar[str] = "request.exhausted"
    level: ClassVar[str] = "ERROR"
    reason: str = ""
    attempts: int = 0
    elapsed_s: float = 0.0

    def describe(self) -> str:
        spent = f"{self.elapsed_s:.3f} s, {self.attempts} attempt(s)"
        return f"request failed after {spent}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter(Event):
    """What nobody is left to hear: a late result, or the error of a request without an asker."""

    name: ClassVar[str] = "dead_letter"
    level: ClassVar[str] = "WARNING"
    reason: str = ""

    def describe(self) -> str:
        return f"dead letter: {self.reason}"


CATALOGUE: tuple[type[Event], ...] = (
    PoolStarted,
    PoolStopped,
    PoolPaused,
    MemberStarted,
    MemberStopped,
    MemberCreateFailed,
    MemberFailed,
    MemberRestarted,
    MemberGaveUp,
    AttemptStarted,
    AttemptSucceeded,
    AttemptFailed,
    AttemptLost,
    HedgeStarted,
    RetryScheduled,
    Failover,
    BreakerOpened,
    BreakerHalfOpened,
    BreakerClosed,
    MemberResting,
    MemberRested,
    RequestRejected,
    ProbeSucceeded,
    ProbeFailed,
    HealthChanged,
    LoopStalled,
    LoopRecovered,
    LoopReplaced,
    LoopEnded,
    RequestCompleted,
    RequestExhausted,
    DeadLetter,
)
"""Every event there is."""
