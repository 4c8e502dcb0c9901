"""The catalogue of what is logged and what subscribers are told. No event carries a payload."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeVar, dataclass_transform

from greenroom.messages.pickling import masked_known, on_one_line
from greenroom.messages.status import AgentStatus, FailureKind, ReportedState

_NAMES = frozenset(("pool", "member", "request_id"))
"""The app's own words, by which it knows what it is about: they are shown as they are."""

_LEFT_OUT = frozenset(("metadata", "skipped", "tried", "advice"))
"""What `as_dict` has None for where there is nothing of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened in a pool.

    Whatever it is made of: no text in it has a line end or a control character, nor, but for names
    and ids, what looks like a key.

    Attributes:
        name: the event's name in the catalogue (`breaker.opened`).
        level: its log level.
        pool: the pool's name.
        member, request_id: whom it concerns; None where it concerns nobody in particular.
        metadata: of its request, what `PoolConfig.log_metadata` names: `key=value` each.
    """

    name: ClassVar[str] = "event"
    level: ClassVar[str] = "INFO"
    _says: ClassVar[str] = "{0.name}"
    """`describe`, as a template for the event; where more is to be said it has a method."""

    _texts: ClassVar[tuple[str, ...]] = ()
    """The fields that may hold what comes from outside."""

    pool: str
    member: str | None = None
    request_id: str | None = None
    metadata: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self._texts:
            value = getattr(self, name)
            if value:
                safe = on_one_line(value) if name in _NAMES else _safe(value)
                if safe != value:
                    object.__setattr__(self, name, safe)

    def describe(self) -> str:
        """What happened, why, and what comes next, in one line without pool and member."""
        return self._says.format(self)

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
            plain[each.name] = None if value == "" and each.name in _LEFT_OUT else value
        return plain

    def __str__(self) -> str:
        where = f"{self.pool}/{self.member}" if self.member else self.pool
        return f"{self.name} {where}: {self.describe()}"


_TEXTS = ("str", "str | None", "tuple[str, ...]")
"""The types of such fields, as they are written here."""


def _safe(value: str | tuple[str, ...]) -> str | tuple[str, ...]:
    if isinstance(value, tuple):
        return tuple(map(_safe_text, value))
    return _safe_text(value)


def _safe_text(text: str) -> str:
    return on_one_line(masked_known(text))


E = TypeVar("E", bound=Event)
_catalogue: list[type[Event]] = []


@dataclass_transform(frozen_default=True, kw_only_default=True)
def _event(name: str, level: str = "INFO") -> Callable[[type[E]], type[E]]:
    """Make a class an event of that name and log level, the next one in the catalogue."""

    def made(kind: type[E]) -> type[E]:
        kind.name, kind.level = name, level
        event = dataclass(frozen=True, slots=True, kw_only=True)(kind)
        event._texts = tuple(each.name for each in fields(event) if each.type in _TEXTS)
        _catalogue.append(event)
        return event

    return made


@_event("pool.started")
class PoolStarted(Event):
    """The pool takes requests.

    Attributes:
        request_timeout_s, deadline_s, max_retries: its settings of these names.
    """

    members: tuple[str, ...] = ()
    strategy: str = ""
    request_timeout_s: float | None = None
    deadline_s: float | None = None
    max_retries: int | None = None

    def describe(self) -> str:
        return f"pool started: {', '.join(self.members) or 'no members'} ({self.strategy})"


@_event("pool.stopped")
class PoolStopped(Event):
    """The pool has ended, its members are closed."""

    unfinished: int = 0

    def describe(self) -> str:
        rest = f"; {self.unfinished} unfinished requests were failed" if self.unfinished else ""
        return f"pool stopped{rest}"


@_event("pool.draining")
class PoolDraining(Event):
    """The pool takes no more requests, and finishes those that it has. Told when that begins, and
    every ten seconds from then on.

    Attributes:
        left: how many requests are under way.
        elapsed_s: since it began, in seconds.
        timeout_s: after how long what is left is failed; None: never.
    """

    left: int = 0
    elapsed_s: float = 0.0
    timeout_s: float | None = None

    def describe(self) -> str:
        if self.elapsed_s:
            return f"pool draining: {self.left} still under way after {self.elapsed_s:.1f} s"
        limit = self.timeout_s
        rest = "" if limit is None else f"; what is left after {limit:g} s is failed"
        return f"pool draining: it takes no more requests, {self.left} are under way{rest}"


@_event("pool.drained")
class PoolDrained(Event):
    """A drain is over: every request that was under way has ended by itself."""

    _says = "pool drained in {0.elapsed_s:.1f} s: nothing is under way any more"
    elapsed_s: float = 0.0


@_event("pool.drain_timed_out", "WARNING")
class PoolDrainTimedOut(Event):
    """A drain has had its time: what was left has been failed.

    Attributes:
        failed: how many requests those were.
        timeout_s: how long it has waited for them, in seconds.
    """

    _says = (
        "pool drain timed out after {0.timeout_s:g} s: {0.failed} requests are failed; "
        "give it as long as the slowest of them may take: drain(timeout=...)"
    )
    failed: int = 0
    timeout_s: float = 0.0


@_event("pool.configured")
class PoolConfigured(Event):
    """Settings or members have been changed by a `Configure`."""

    changes: tuple[str, ...] = ()

    def describe(self) -> str:
        return f"pool configured: {'; '.join(self.changes) or 'everything was so already'}"


@_event("pool.paused", "WARNING")
class PoolPaused(Event):
    """The process did not run for a while: it was stopped, or the machine slept. All limits have
    been put off by as much, and nobody is blamed.
    """

    _says = "the process did not run for {0.lasted_s:.1f} s: all limits are put off by that"
    lasted_s: float = 0.0


@_event("member.started")
class MemberStarted(Event):
    """A member actor runs.

    Attributes:
        weight, priority, cost: what is declared of it.
    """

    _says = "member started (incarnation {0.incarnation})"
    incarnation: int = 1
    weight: float = 1.0
    priority: int = 0
    cost: float = 0.0


@_event("member.draining")
class MemberDraining(Event):
    """A member leaves the pool: it gets nothing new, and finishes what it has.

    Attributes:
        replaced: whether another one takes its place after that.
    """

    replaced: bool = False

    def describe(self) -> str:
        after = "another one takes its place" if self.replaced else "it stops"
        return f"member draining: it gets nothing new, and finishes what it has; then {after}"


@_event("member.stopped")
class MemberStopped(Event):
    """A member actor has ended because it was asked to, its agent is closed."""

    _says = "member stopped"
    incarnation: int = 1


@_event("member.create_failed", "WARNING")
class MemberCreateFailed(Event):
    """A member's factory failed."""

    _says = "creating the agent failed: {0.error}; next try in {0.retry_in_s:.1f} s"
    error: str = ""
    retry_in_s: float = 0.0


@_event("member.agent_lost", "WARNING")
class MemberAgentLost(Event):
    """A member's agent is gone for good: its process, its connection, or its client.

    Attributes:
        error: how that is known.
        remade: whether another one is made; else the member is out until it is reset.
    """

    error: str = ""
    remade: bool = True

    def describe(self) -> str:
        after = (
            "another one is made when it is needed"
            if self.remade
            else "it was handed over ready, so the member is out until it is reset"
        )
        return f"its agent is lost: {self.error}; {after}"


@_event("member.agent_remade")
class MemberAgentRemade(Event):
    """The factory has made another agent in the place of one that was lost."""

    _says = "its agent has been made anew"


@_event("member.terminated", "ERROR")
class MemberFailed(Event):
    """A member actor ended though nobody had asked it to."""

    incarnation: int = 1
    error: str = ""
    restart_in_s: float | None = None

    def describe(self) -> str:
        after = "" if self.restart_in_s is None else f"; restart in {self.restart_in_s:.1f} s"
        return f"member terminated: {self.error or 'no reason given'}{after}"


@_event("member.restarted", "WARNING")
class MemberRestarted(Event):
    """A new actor stands behind the member's name."""

    incarnation: int = 1
    reason: str = ""

    def describe(self) -> str:
        why = f": {self.reason}" if self.reason else ""
        return f"member restarted (incarnation {self.incarnation}){why}"


@_event("member.gave_up", "CRITICAL")
class MemberGaveUp(Event):
    """A member ended more often than the restart intensity allows: it stays down until a reset."""

    _says = (
        "member given up: more than {0.restarts} restarts in {0.period_s:g} s "
        "({0.error}); it stays down until it is reset: "
        "mend what ends it, then pool.reset_member({0.member!r})"
    )
    restarts: int = 0
    period_s: float = 0.0
    error: str = ""


@_event("member.unreachable", "WARNING")
class MemberUnreachable(Event):
    """The way to a member is away, somebody outside says: it is given nothing meanwhile, and its
    breaker stays as it is. Told once until it is reachable again.

    Attributes:
        source: who says so.
        for_s: for how long at first, in seconds.
    """

    source: str = ""
    for_s: float = 0.0

    def describe(self) -> str:
        who = f", {self.source} says" if self.source else ""
        return f"unreachable for {self.for_s:.1f} s{who}: it is given nothing, and not blamed"


@_event("member.reachable")
class MemberReachable(Event):
    """A member that was unreachable is given requests again."""

    _says = "reachable again after {0.after_s:.1f} s"
    after_s: float = 0.0


@_event("member.heard")
class MemberHeard(Event):
    """The pool goes by what somebody outside says of a member; what comes of that follows as events
    of its own, which say that it was `heard`.

    Attributes:
        state: what is said.
        source: who says so.
        for_s: for how long, in seconds; None where it is not for a time.
    """

    state: ReportedState = ReportedState.CLOSED
    source: str = ""
    for_s: float | None = None

    def describe(self) -> str:
        time = "" if self.for_s is None else f" for {self.for_s:.1f} s"
        return f"heard from {self.source or 'outside'}: {self.state}{time}"


@_event("shared.away", "WARNING")
class SharedStateAway(Event):
    """What the pool shares with other processes is out of reach: it goes on alone, by what it finds
    out itself. Told once until it is back.
    """

    _says = "alone: what is shared with other processes is out of reach ({0.error}); it goes on"
    error: str = ""


@_event("shared.back")
class SharedStateBack(Event):
    """What the pool shares with other processes is there again."""

    _says = "back: what is shared with other processes is there again"


@_event("courier.away", "WARNING")
class CourierAway(Event):
    """The engine that keeps the pool's durable tells is out of reach, or must not be used. It is
    tried again each second; who tells meanwhile is told so. Told once until it is back.
    """

    _says = "the courier of durable tells is out of reach ({0.error})"
    error: str = ""


@_event("courier.back")
class CourierBack(Event):
    """The engine that keeps the pool's durable tells is there again."""

    _says = "back: the courier of durable tells is there again"


@_event("tell.failed", "WARNING")
class TellFailed(Event):
    """A delivery of a durable tell has failed; there will be another one.

    Attributes:
        delivery: which one, from 1.
        of: after how many it is dead.
        again_in_s: the least time until the next, in seconds.
        reason: members and kinds of failures.
    """

    _says = "delivery {0.delivery} of {0.of} failed, again in {0.again_in_s:.1f} s: {0.reason}"
    delivery: int = 1
    of: int = 1
    again_in_s: float = 0.0
    reason: str = ""


@_event("tell.dead", "WARNING")
class TellDead(Event):
    """A durable tell is dead: it is set aside, with its reasons, for `greenroom dead`.

    Attributes:
        deliveries: how often it was delivered, once more than allowed where its processes ended.
        reasons: of the last ones, in order.
    """

    deliveries: int = 1
    reasons: tuple[str, ...] = ()

    def describe(self) -> str:
        last = self.reasons[-1] if self.reasons else "unknown"
        return f"dead after {self.deliveries} deliveries, set aside: {last}"


@_event("attempt.started", "DEBUG")
class AttemptStarted(Event):
    """A member was given a request."""

    _says = "attempt {0.attempt} started"
    attempt: int = 1


@_event("attempt.succeeded", "DEBUG")
class AttemptSucceeded(Event):
    """A member answered."""

    _says = "attempt {0.attempt} succeeded in {0.elapsed_s:.3f} s"
    attempt: int = 1
    elapsed_s: float = 0.0


@_event("attempt.failed", "WARNING")
class AttemptFailed(Event):
    """A member failed."""

    _says = "attempt {0.attempt} failed after {0.elapsed_s:.3f} s: {0.kind}, {0.error}"
    attempt: int = 1
    elapsed_s: float = 0.0
    kind: FailureKind = FailureKind.UNKNOWN
    error: str = ""


@_event("attempt.lost")
class AttemptLost(Event):
    """Another attempt for the same request was faster: this one is cancelled, and not counted."""

    _says = "attempt {0.attempt} lost to a faster one; it counts for nothing"
    attempt: int = 1


@_event("hedge.started")
class HedgeStarted(Event):
    """A member was given a request beside another one that takes its time."""

    _says = "{0.beside} has not answered in {0.after_s:.3f} s: attempt {0.attempt}"
    attempt: int = 2
    beside: str = ""
    after_s: float = 0.0


@_event("retry.scheduled")
class RetryScheduled(Event):
    """Nobody untried is left: the request waits before it is tried again."""

    _says = "no untried member left; attempt {0.attempt} in {0.delay_s:.3f} s"
    attempt: int = 2
    delay_s: float = 0.0


@_event("failover", "WARNING")
class Failover(Event):
    """A request moves on from the member that failed it to another one."""

    _says = "failed over to {0.to} (attempt {0.attempt})"
    attempt: int = 2
    to: str = ""


@_event("breaker.opened", "ERROR")
class BreakerOpened(Event):
    """A member gets no more requests for a while.

    Attributes:
        observed: whether it would get none: the breaker is only observed (`circuit="observe"`).
        advice: what is to be done about it.
        kind: the failure that has opened it; None where none did.
        heard: whether somebody outside has said so, and nothing has failed here.
    """

    reason: str = ""
    reopens_in_s: float | None = None
    observed: bool = False
    advice: str = ""
    kind: FailureKind | None = None
    heard: bool = False

    def severity(self) -> str:
        return "WARNING" if self.observed or self.heard else self.level

    def describe(self) -> str:
        if self.observed:
            return f"breaker would open: {self.reason}; it is only observed"
        after = (
            "stays open until it is reset"
            if self.reopens_in_s is None
            else f"next trial in {self.reopens_in_s:.1f} s"
        )
        advice = f"; {self.advice}" if self.advice else ""
        return f"breaker opened: {self.reason}; {after}{advice}"


@_event("breaker.half_open")
class BreakerHalfOpened(Event):
    """A member is being tried again; `observed`: it would be."""

    trial: str = ""
    observed: bool = False

    def describe(self) -> str:
        if self.observed:
            return "breaker would be half open: the next calls would be trials; it is only observed"
        return f"breaker half open: trying it with {self.trial}"


@_event("breaker.kept", "WARNING")
class BreakerKept(Event):
    """A member whose breaker is open is tried all the same, one request at a time: more would be
    out than may be. Told once until it is back.

    Attributes:
        may_be_out: how many may be.
        members: of how many.
    """

    _says = (
        "breaker open, and tried all the same, one request at a time: "
        "at most {0.may_be_out} of {0.members} members may be out"
    )
    may_be_out: int = 0
    members: int = 0


@_event("breaker.spared", "WARNING")
class BreakerSpared(Event):
    """A member fails often enough for its breaker to open, and that stays as it is: its peers fail
    alike, and all answer some. Told once until it fails less.
    """

    _says = "breaker stays as it is: the others fail as often, and all answer some"


@_event("breaker.closed")
class BreakerClosed(Event):
    """A member is back; `observed`: it would be; `heard`: somebody outside has said so."""

    reason: str = ""
    observed: bool = False
    heard: bool = False

    def describe(self) -> str:
        return f"breaker {'would be ' if self.observed else ''}closed: {self.reason}"


@_event("member.resting")
class MemberResting(Event):
    """A member is left alone for a while: it is throttled, or has not what it was asked for. Its
    breaker stays as it is.

    Attributes:
        kind: what it rests for.
        rests_s: for how long, in seconds.
        until: until when, in seconds since the epoch.
        heard: whether somebody outside has said so.
    """

    _says = "member rests for {0.rests_s:.1f} s: {0.kind}"
    kind: FailureKind = FailureKind.RATE_LIMITED
    rests_s: float = 0.0
    until: float = 0.0
    heard: bool = False


@_event("member.rested")
class MemberRested(Event):
    """A member that rested takes requests again."""

    _says = "member has rested and takes requests again"


@_event("member.queueing")
class MemberQueueing(Event):
    """Requests wait, and a member takes one call at a time, as nobody has said otherwise. A hint,
    given once for each member.

    Attributes:
        waiting: how many wait, for whichever member.
    """

    _says = (
        "{0.waiting} requests wait, and it takes 1 call at a time by default; if its agent can do "
        "more, say so: Member(max_concurrency=...)"
    )
    waiting: int = 0


@_event("request.rejected", "WARNING")
class RequestRejected(Event):
    """A request was refused before anything ran.

    Attributes:
        skipped: each member that could not take it, and why.
    """

    reason: str = ""
    skipped: tuple[str, ...] = ()

    def describe(self) -> str:
        return f"request rejected: {self.reason}{_listed(skipped=self.skipped)}"


@_event("probe.ok", "DEBUG")
class ProbeSucceeded(Event):
    """A health probe passed."""

    _says = "probe passed in {0.elapsed_s:.3f} s"
    elapsed_s: float = 0.0


@_event("probe.failed", "WARNING")
class ProbeFailed(Event):
    """A health probe failed."""

    _says = "probe failed after {0.elapsed_s:.3f} s: {0.error}"
    elapsed_s: float = 0.0
    error: str = ""


@_event("health.changed")
class HealthChanged(Event):
    """A member's status changed; WARNING when it got worse."""

    _says = "{0.before} -> {0.after} ({0.error_rate:.0%} of recent calls failed)"
    before: AgentStatus = AgentStatus.HEALTHY
    after: AgentStatus = AgentStatus.HEALTHY
    error_rate: float = 0.0

    def severity(self) -> str:
        order = list(AgentStatus)
        return "WARNING" if order.index(self.after) > order.index(self.before) else "INFO"


@_event("loop.stalled", "ERROR")
class LoopStalled(Event):
    """An event loop does not answer: something on it blocks. Once for every stall.

    Attributes:
        member, request_id: whose code it is; None where that cannot be told.
        loop: the name of the loop's thread.
        stalled_s: for how long it has not answered, at least.
        where: the line that blocks (`file:line in function`); empty where there is none to see.
        replaced_in_s: when its members get a fresh loop unless it answers; None: never.
    """

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


@_event("loop.recovered")
class LoopRecovered(Event):
    """A stalled event loop answers again; `member` and `request_id` are those of the stall."""

    _says = "loop recovered: {0.loop} answers again after {0.stalled_s:.1f} s"
    loop: str = ""
    stalled_s: float = 0.0


@_event("loop.replaced", "WARNING")
class LoopReplaced(Event):
    """A stalled event loop has been given up: `moved` restart on a fresh one, unpunished.

    The member that blocked it, where it is known, has crashed.
    """

    loop: str = ""
    stalled_s: float = 0.0
    moved: tuple[str, ...] = ()

    def describe(self) -> str:
        moved = ", ".join(self.moved) or "nobody"
        return (
            f"loop replaced: {self.loop} had not answered for {self.stalled_s:.1f} s; "
            f"moved to a fresh one: {moved}"
        )


@_event("loop.ended", "WARNING")
class LoopEnded(Event):
    """The app's event loop has ended before the pool: `moved` go on with a loop of the pool's own.

    What ran there has been interrupted; agents that a factory has made are made anew.
    """

    loop: str = ""
    moved: tuple[str, ...] = ()

    def describe(self) -> str:
        moved = ", ".join(self.moved) or "nobody"
        return (
            f"loop ended: {self.loop} was closed, or nobody runs it, before the pool was stopped; "
            f"moved to the pool's own: {moved}"
        )


@_event("request.completed", "DEBUG")
class RequestCompleted(Event):
    """A request ended with a value, with the caller's own error, or because its caller left."""

    _says = "request {0.outcome} in {0.elapsed_s:.3f} s, {0.attempts} attempt(s)"
    outcome: str = "answered"
    attempts: int = 1
    elapsed_s: float = 0.0


@_event("request.exhausted", "ERROR")
class RequestExhausted(Event):
    """A request failed: nobody could answer it, or its time was over.

    Attributes:
        skipped: each member that was not asked, and why.
        tried: each member that was, and the kind of its failure.
        advice: what comes next, and what is to be done about it.
    """

    reason: str = ""
    attempts: int = 0
    elapsed_s: float = 0.0
    skipped: tuple[str, ...] = ()
    tried: tuple[str, ...] = ()
    advice: str = ""

    def describe(self) -> str:
        spent = f"{self.elapsed_s:.3f} s, {self.attempts} attempt(s)"
        members = _listed(tried=self.tried, skipped=self.skipped)
        advice = f"; {self.advice}" if self.advice else ""
        return f"request failed after {spent}: {self.reason}{members}{advice}"


def _listed(**members: tuple[str, ...]) -> str:
    """What became of which members, by the name of that."""
    return "".join(f"; {what}: {', '.join(each)}" for what, each in members.items() if each)


@_event("dead_letter", "WARNING")
class DeadLetter(Event):
    """What nobody is left to hear: a late result, or the error of a request without an asker."""

    _says = "dead letter: {0.reason}"
    reason: str = ""


CATALOGUE: tuple[type[Event], ...] = tuple(_catalogue)
"""Every event there is."""
