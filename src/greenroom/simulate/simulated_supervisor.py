"""The supervisor of a simulated pool: the parts of the real one, without an actor around them."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import cast

from greenroom.actors.member.agent_actor import MemberRef
from greenroom.messages.config import PoolConfig
from greenroom.messages.events import Event
from greenroom.messages.member import Member
from greenroom.messages.supervision import (
    FailuresSeen,
    MemberDrained,
    Outcomes,
    TableWanted,
    TrialStarted,
)
from greenroom.simulate.agenda import Agenda
from greenroom.simulate.scenario import MemberSpec
from greenroom.supervisors.member_record import MemberRecord
from greenroom.supervisors.outcome_judge import OutcomeJudge
from greenroom.supervisors.prober import Prober
from greenroom.supervisors.roster import Roster
from greenroom.supervisors.route_publisher import RoutePublisher
from greenroom.supervisors.supervisor_ports import SupervisorPorts, ToRouter

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
        specs: Sequence[MemberSpec],
        config: PoolConfig,
        agenda: Agenda,
        rng: random.Random,
        *,
        tell_router: Callable[[ToRouter], object],
        answer: Callable[[FailuresSeen], None],
    ) -> None:
        self._agenda = agenda
        self._records: dict[str, MemberRecord] = {}
        ports = SupervisorPorts(
            pool="simulated",
            config=config,
            now=lambda: agenda.now,
            paused_at=lambda: -math.inf,
            at=agenda.alarms.at,
            emit=ignored,
            tell=lambda record, message: None,  # there are no probes, and nobody leaves
            tell_router=tell_router,
            complain_of=raised,
        )
        self.routes = RoutePublisher(ports, self._records, self._review)
        self.roster = Roster(ports, self._records, self.routes, rng, _spawn, STOP_TIMEOUT_S)
        self.judge = OutcomeJudge(ports, self.routes, answer)
        self._prober = Prober(ports, self.routes, self.judge)
        for spec in specs:
            self.roster.add(_member(spec))

    def report(self, outcomes: Outcomes) -> None:
        """The router says how attempts have ended."""
        self._agenda.soon(self.judge.take_in, outcomes)

    def note(self, message: FromRouter) -> None:
        """The router says something of a member, or asks."""
        match message:
            case TrialStarted():
                self._agenda.soon(self.judge.trial_started, message)
            case MemberDrained():
                self._agenda.soon(self.roster.drained, message)
            case TableWanted():
                self._agenda.soon(lambda _: self.routes.publish(), message)

    def _review(self) -> None:
        now = self._agenda.now
        for record in self._records.values():
            self.roster.review(record, now)
            self.judge.review(record, now)
            self._prober.review(record, now)
            self.judge.review_health(record, now)


def _member(spec: MemberSpec) -> Member:
    return Member(
        spec.name,
        _stand_in,
        weight=spec.weight,
        priority=spec.priority,
        max_concurrency=spec.concurrency,
    )


def _stand_in() -> None:
    """Where an agent and an actor would stand: nothing of a simulation calls it."""


def _spawn(record: MemberRecord) -> None:
    """The parts, and the flow, look at nothing but whether there is a ref; who has the messages
    carried finds the member by its name.
    """
    record.started(cast(MemberRef, _stand_in), None)


def ignored(_: Event) -> None:
    """Nobody listens."""


class SimulationFailed(RuntimeError):
    """A part of the pool has raised. A real pool would log that and go on; here it is a fault that
    must not pass for a result.
    """


def raised(what: str, error: BaseException) -> None:
    """The port for complaints."""
    if isinstance(error, SimulationFailed):
        raise error
    raise SimulationFailed(f"the simulation failed: {what}") from error
