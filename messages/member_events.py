"""What happens to a member: its agent, its restarts, its rests, its probes and its health."""

from __future__ import annotations

from greenroom.messages.event_base import Event, event
from greenroom.messages.status import AgentStatus, FailureKind, ReportedState


@event("member.started")
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


@event("member.draining")
class MemberDraining(Event):
    """A member leaves the pool: it gets nothing new, and finishes what it has.

    Attributes:
        replaced: whether another one takes its place after that.
    """

    replaced: bool = False

    def describe(self) -> str:
        after = "another one takes its place" if self.replaced else "it stops"
        return f"member draining: it gets nothing new, and finishes what it has; then {after}"


@event("member.stopped")
class MemberStopped(Event):
    """A member actor has ended because it was asked to, its agent is closed."""

    _says = "member stopped"
    incarnation: int = 1


@event("member.create_failed", "WARNING")
class MemberCreateFailed(Event):
    """A member's factory failed."""

    _says = "creating the agent failed: {0.error}; next try in {0.retry_in_s:.1f} s"
    error: str = ""
    retry_in_s: float = 0.0


@event("member.agent_lost", "WARNING")
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


@event("member.agent_remade")
class MemberAgentRemade(Event):
    """The factory has made another agent in the place of one that was lost."""

    _says = "its agent has been made anew"


@event("member.terminated", "ERROR")
class MemberFailed(Event):
    """A member actor ended though nobody had asked it to."""

    incarnation: int = 1
    error: str = ""
    restart_in_s: float | None = None

    def describe(self) -> str:
        after = "" if self.restart_in_s is None else f"; restart in {self.restart_in_s:.1f} s"
        return f"member terminated: {self.error or 'no reason given'}{after}"


@event("member.restarted", "WARNING")
class MemberRestarted(Event):
    """A new actor stands behind the member's name."""

    incarnation: int = 1
    reason: str = ""

    def describe(self) -> str:
        why = f": {self.reason}" if self.reason else ""
        return f"member restarted (incarnation {self.incarnation}){why}"


@event("member.gave_up", "CRITICAL")
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


@event("member.unreachable", "WARNING")
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


@event("member.reachable")
class MemberReachable(Event):
    """A member that was unreachable is given requests again."""

    _says = "reachable again after {0.after_s:.1f} s"
    after_s: float = 0.0


@event("member.heard")
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


@event("member.resting")
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


@event("member.rested")
class MemberRested(Event):
    """A member that rested takes requests again."""

    _says = "member has rested and takes requests again"


@event("member.queueing")
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


@event("probe.ok", "DEBUG")
class ProbeSucceeded(Event):
    """A health probe passed."""

    _says = "probe passed in {0.elapsed_s:.3f} s"
    elapsed_s: float = 0.0


@event("probe.failed", "WARNING")
class ProbeFailed(Event):
    """A health probe failed."""

    _says = "probe failed after {0.elapsed_s:.3f} s: {0.error}"
    elapsed_s: float = 0.0
    error: str = ""


@event("health.changed")
class HealthChanged(Event):
    """A member's status changed; WARNING when it got worse."""

    _says = "{0.before} -> {0.after} ({0.error_rate:.0%} of recent calls failed)"
    before: AgentStatus = AgentStatus.HEALTHY
    after: AgentStatus = AgentStatus.HEALTHY
    error_rate: float = 0.0

    def severity(self) -> str:
        order = list(AgentStatus)
        return "WARNING" if order.index(self.after) > order.index(self.before) else "INFO"
