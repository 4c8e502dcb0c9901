"""A pool without actors: the life of its requests, and its supervisor, driven by an agenda.

What decides is that of a real pool: `request_flow` and the parts of the supervisor. Here is
only what surrounds them, in place of threads, clocks and agents.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, cast

from greenroom.actors.claims.claims import Claims
from greenroom.actors.member.agent_actor import MemberRef
from greenroom.actors.member.call_outcome import cut_off_by
from greenroom.actors.member.surroundings import ASYNC_CEILING, default_concurrency
from greenroom.actors.reading.classify import Verdict
from greenroom.actors.request.flow_observer import FlowObserver, Observers
from greenroom.actors.request.flow_ports import Events, FlowPorts
from greenroom.actors.request.job import Job
from greenroom.actors.request.request_flow import RequestFlow
from greenroom.actors.routing.routing_table import RoutingTable
from greenroom.actors.strategies import strategy_for
from greenroom.messages.config import PoolConfig
from greenroom.messages.errors import summary
from greenroom.messages.events import Event
from greenroom.messages.execution import CancelExecution, Execute, Failed, Refused, Succeeded
from greenroom.messages.member import Member
from greenroom.messages.requests import Request
from greenroom.messages.screening import Heard
from greenroom.messages.status import FailureKind, RefusalReason
from greenroom.messages.supervision import (
    AgentCreated,
    AgentCreateFailed,
    FailuresSeen,
    MemberDrained,
    MemberRoute,
    Outcomes,
    RoutingSnapshot,
    TableWanted,
    TrialStarted,
)
from greenroom.simulate.agenda import Action, Agenda
from greenroom.simulate.scenario import MemberSpec, Scenario
from greenroom.simulate.simulated_failures import error_of, failures
from greenroom.simulate.simulated_member import Call, SimMember
from greenroom.supervisors.member_record import MemberRecord
from greenroom.supervisors.outcome_judge import OutcomeJudge
from greenroom.supervisors.prober import Prober
from greenroom.supervisors.roster import Roster
from greenroom.supervisors.route_publisher import RoutePublisher
from greenroom.supervisors.supervisor_ports import SupervisorPorts, ToRouter


class Audience(Protocol):
    """Who is told what becomes of the requests."""

    def called(self, job: Job, message: Execute, member: str) -> None:
        """An attempt begins."""

    def answered(self, job: Job, member: str) -> None:
        """A member has answered a request."""

    def failed(self, job: Job, error: BaseException) -> None:
        """A request has ended otherwise: that is what its asker would have raised."""


class StandIn(Protocol):
    """What stands behind a member's name, in place of its actor and its agent."""

    def take(self, message: Execute) -> None:
        """Work on a call."""

    def cancel(self, message: CancelExecution) -> None:
        """Let go of a call, if it has not ended."""


class SimPool:
    """Takes requests, and says of each what became of it.

    Args:
        chance: gives the random generator of that name.
        observer: who is told each step.
    """

    def __init__(
        self,
        scenario: Scenario,
        strategy: str,
        agenda: Agenda,
        chance: Callable[[str], random.Random],
        audience: Audience,
        observer: FlowObserver | None = None,
    ) -> None:
        self._agenda = agenda
        self._audience = audience
        self._failure = failures(scenario.config.classify)
        self._unmade: set[str] = set()
        self._spent, self._shares = scenario.load.spent, chance("spent")
        self._concurrency = {
            spec.name: default_concurrency(member_of(spec)) for spec in scenario.members
        }
        members = {
            spec.name: SimMember(spec, agenda, chance(f"member {spec.name}"), self._ended)
            for spec in scenario.members
        }
        self._pool = AgendaPool(
            scenario.config,
            strategy,
            agenda,
            [member_of(spec) for spec in scenario.members],
            members,
            routing=chance("routing"),
            supervision=chance("supervision"),
            audience=audience,
            observer=observer,
        )
        self._flow, self._supervisor = self._pool.flow, self._pool.supervisor
        self._pool.begin()

    @property
    def table(self) -> RoutingTable:
        """The members as its router sees them."""
        return self._flow.table

    def take(self, request: Request[Any], heard: Heard | None = None) -> None:
        """A request arrives."""
        self._flow.accept(request, heard=heard)

    # -- what members report

    def _ended(self, call: Call) -> None:
        """What `Executions` makes of an end; most are answers."""
        kind = call.ending.kind
        if call.cancelled is not None:
            self._failed(call, *cut_off_by(call.member, call.cancelled))
            return
        if kind is FailureKind.CREATE_FAILED:
            self._not_made(call)
            return
        if self._unmade:
            self._made(call)
        if kind is not None:
            self._failed(call, *self._failure(kind, call.ending.retry_after_s))
            return
        elapsed_s, spent = self._agenda.now - call.began_at, self._spent_by(call)
        # Nobody has claimed the answer: so the flow does, and gives it by `_answer`.
        succeeded = Succeeded(**_names(call), value=None, elapsed_s=elapsed_s, spent=spent)
        self._flow.succeeded(succeeded)

    def _spent_by(self, call: Call) -> dict[str, int] | None:
        """What its agent says that it took."""
        cost, between = call.message.work.cost, self._spent
        if between is None or cost is None:
            return None
        return {
            name: math.ceil(each * self._shares.uniform(*between)) for name, each in cost.items()
        }

    def _failed(self, call: Call, error: BaseException, verdict: Verdict) -> None:
        """The member raises, or was cut off by that error."""
        self._flow.failed(
            Failed(
                **_names(call),
                kind=verdict.kind,
                error=error,
                elapsed_s=self._agenda.now - call.began_at,
                retry_after_s=verdict.retry_after_s,
                opens_at_once=verdict.opens_at_once,
                same_member_may_mend=verdict.same_member_may_mend,
            )
        )

    def _not_made(self, call: Call) -> None:
        """There was no agent, and there could be made none, as `AgentActor` says it."""
        error = error_of(FailureKind.CREATE_FAILED)
        self._unmade.add(call.member)
        # As with actors: the supervisor hears of it in a turn of its own.
        self._agenda.soon(
            self._supervisor.roster.agent_create_failed,
            AgentCreateFailed(
                member=call.member, incarnation=call.message.incarnation, error=summary(error)
            ),
        )
        reason = RefusalReason.CREATE_FAILED
        self._flow.refused(Refused(**_names(call), reason=reason, error=error))

    def _made(self, call: Call) -> None:
        """There is an agent after all."""
        if call.member in self._unmade:
            self._unmade.remove(call.member)
            made = AgentCreated(
                member=call.member,
                incarnation=call.message.incarnation,
                max_concurrency=self._concurrency[call.member],
            )
            self._agenda.soon(self._supervisor.roster.agent_created, made)


class Post(Protocol):
    """Carries what router and supervisor say to each other."""

    def to_router(self, action: Action, message: Any) -> None:
        """Have the router hear a `RoutingSnapshot` or a `FailuresSeen`."""

    def to_supervisor(self, action: Action, message: Any) -> None:
        """Have the supervisor hear what the router says."""

    def rings_at(self, when: float) -> float:
        """When a timer of the router's goes off that is set for that time."""


class Prompt:
    """Takes no time: each message is heard before anything else happens."""

    def __init__(self, agenda: Agenda) -> None:
        self.to_router = self.to_supervisor = agenda.soon

    def rings_at(self, when: float) -> float:
        return when


class AgendaPool:
    """The flow and the supervisor on one agenda; who stands behind the members' names is given.

    Args:
        stand_ins: by the names of the members.
        routing, supervision: the chance of the two.
        post: carries what they say to each other; None: it takes no time.

    Attributes:
        flow: to which reports of members are brought.
        supervisor: the other one.
        strategy: whom the flow asks.
        on_snapshot: told of each table before the flow takes it over.
    """

    def __init__(
        self,
        config: PoolConfig,
        strategy: str,
        agenda: Agenda,
        members: Sequence[Member],
        stand_ins: Mapping[str, StandIn],
        *,
        routing: random.Random,
        supervision: random.Random,
        audience: Audience,
        observer: FlowObserver | None = None,
        post: Post | None = None,
    ) -> None:
        events = _Nobody()
        post = post or Prompt(agenda)
        self._audience = audience
        self._members = stand_ins
        # What one of the two tells the other is a message of its own: `Agenda.soon`.
        self.supervisor = SimSupervisor(
            members,
            config,
            agenda,
            supervision,
            events,
            tell_router=lambda message: post.to_router(self._snapshot, message),
            answer=lambda seen: post.to_router(self.flow.failures_judged, seen),
            post=post,
        )
        self.on_snapshot: Callable[[RoutingSnapshot], object] = _ignore
        self.strategy = strategy_for(strategy)
        self.flow = RequestFlow(
            FlowPorts(
                now=lambda: agenda.now,
                wall=lambda: agenda.now,
                paused_at=lambda: -math.inf,
                at=lambda when, act: agenda.alarms.at(post.rings_at(when), act),
                send=self._send,
                cancel=self._cancel,
                report=self.supervisor.report,
                note=self.supervisor.note,
                answer=self._answer,
                fail=self._fail,
                events=events,
                observer=None if observer is None else Observers((observer,), events.complain_of),
            ),
            name="simulated",
            urn="simulated",
            strategy=self.strategy,
            config=config,
            rng=routing,
            claims=Claims(),
            idle=lambda: None,
        )

    def begin(self) -> None:
        """The first table is on its way."""
        self.supervisor.routes.publish()

    def _snapshot(self, snapshot: RoutingSnapshot) -> None:
        self.on_snapshot(snapshot)
        self.flow.snapshot(snapshot)

    # -- what the flow asks for

    def _send(self, route: MemberRoute, message: Execute) -> bool:
        self._audience.called(self.flow.jobs[message.request_id], message, route.name)
        self._members[route.name].take(message)
        return True

    def _cancel(self, route: MemberRoute, message: CancelExecution) -> None:
        self._members[route.name].cancel(message)

    def _answer(self, job: Job, value: Any, member: str, elapsed_s: float) -> None:
        self._audience.answered(job, member)

    def _fail(self, job: Job, error: BaseException) -> bool:
        self._audience.failed(job, error)
        return True


def _ignore(_: object) -> None:
    """Nobody wants to know."""


def _names(call: Call) -> dict[str, Any]:
    """Of which call a message is."""
    message = call.message
    return {
        "member": call.member,
        "incarnation": message.incarnation,
        "request_id": message.request_id,
        "attempt": message.attempt,
    }


# -- its supervisor


FromRouter = TrialStarted | MemberDrained | TableWanted

STOP_TIMEOUT_S = 5.0
"""How long a member may take to end; none is told to."""


class SimSupervisor:
    """Brings messages to the parts, and time; see `PoolSupervisor`, which does the same.

    Args:
        tell_router: brings the router a message of its own.
        answer: tells it which failures have been judged, likewise.
    """

    def __init__(
        self,
        members: Sequence[Member],
        config: PoolConfig,
        agenda: Agenda,
        rng: random.Random,
        events: Events,
        tell_router: Callable[[ToRouter], object],
        answer: Callable[[FailuresSeen], None],
        post: Post,
    ) -> None:
        self._agenda = agenda
        self._post = post
        self._records: dict[str, MemberRecord] = {}
        ports = SupervisorPorts(
            pool="simulated",
            config=config,
            now=lambda: agenda.now,
            paused_at=lambda: -math.inf,
            at=agenda.alarms.at,
            emit=events.emit,
            tell=lambda record, message: None,  # there are no probes, and nobody leaves
            tell_router=tell_router,
            complain_of=events.complain_of,
        )
        self.routes = RoutePublisher(ports, self._records, self._review)
        self.roster = Roster(ports, self._records, self.routes, rng, _spawn, STOP_TIMEOUT_S)
        self.judge = OutcomeJudge(ports, self.routes, answer)
        self._prober = Prober(ports, self.routes, self.judge)
        for member in members:
            self.roster.add(member)

    def report(self, outcomes: Outcomes) -> None:
        """The router says how attempts have ended."""
        self._post.to_supervisor(self.judge.take_in, outcomes)

    def note(self, message: FromRouter) -> None:
        """The router says something of a member, or asks."""
        match message:
            case TrialStarted():
                self._post.to_supervisor(self.judge.trial_started, message)
            case MemberDrained():
                self._post.to_supervisor(self.roster.drained, message)
            case TableWanted():
                self._post.to_supervisor(lambda _: self.routes.publish(), message)

    def _review(self) -> None:
        now = self._agenda.now
        for record in self._records.values():
            self.roster.review(record, now)
            self.judge.review(record, now)
            self._prober.review(record, now)
            self.judge.review_health(record, now)


def member_of(spec: MemberSpec) -> Member:
    """The member that a simulated one stands for."""
    return Member(
        spec.name,
        _stand_in,
        weight=spec.weight,
        priority=spec.priority,
        group=spec.group,
        max_concurrency=spec.concurrency,
        max_concurrency_ceiling=ASYNC_CEILING,  # nothing of a simulation takes a thread
        cost=spec.cost,
        tags=spec.tags,
        limits=spec.limits,
    )


def _stand_in(_: object) -> None:
    """Where an agent and an actor would stand: nothing of a simulation calls it."""


def _spawn(record: MemberRecord) -> None:
    """The parts, and the flow, look at nothing but whether there is a ref; who has the messages
    carried finds the member by its name.
    """
    record.started(cast(MemberRef, _stand_in), None)


class SimulationFailed(RuntimeError):
    """A part of the pool has raised. A real pool would log that and go on; here it is a fault that
    must not pass for a result.
    """


class _Nobody:
    """Nobody reads what happens."""

    def listening(self, level: str = "DEBUG") -> bool:
        return False

    def emit(self, event: Event) -> None:
        """Let it go by."""

    def complain_of(self, what: str, error: BaseException) -> None:
        if isinstance(error, SimulationFailed):
            raise error
        raise SimulationFailed(f"the simulation failed: {what}") from error

    def hint(self, what: str) -> None:
        """Let it go by."""
