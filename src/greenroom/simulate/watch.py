"""The supervisor's part of the simulated pool: the breakers, and the routing table that follows."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import cast

from greenroom.actors.loopthread import LoopThread
from greenroom.actors.member import MemberRef
from greenroom.actors.table import RoutingTable
from greenroom.messages.config import PoolConfig
from greenroom.messages.member import Member
from greenroom.messages.status import CircuitState, FailureKind
from greenroom.messages.supervision import RoutingSnapshot
from greenroom.simulate.agenda import Agenda
from greenroom.simulate.scenario import MemberSpec
from greenroom.simulate.work import Call
from greenroom.supervisors.record import MemberRecord

CLOSED = CircuitState.CLOSED


class SimWatch:
    """Keeps greenroom's own member records, and tells the table of every change at once.

    Args:
        on_review: called when time alone has changed the table.
    """

    def __init__(
        self,
        specs: Sequence[MemberSpec],
        config: PoolConfig,
        table: RoutingTable,
        agenda: Agenda,
        rng: random.Random,
        on_review: Callable[[], None],
    ) -> None:
        self._table = table
        self._agenda = agenda
        self._on_review = on_review
        self._records = {
            spec.name: _record(spec, index, config, rng) for index, spec in enumerate(specs)
        }
        # So many successes in a row fill a closed breaker's window: one more changes nothing.
        self._enough = config.circuit_window if config.circuit_slow_call_s is None else math.inf
        self._in_a_row = dict.fromkeys(self._records, 0)
        self._epoch = 0
        self._review_at: float | None = None
        self._publish()

    def judge(
        self,
        call: Call,
        kind: FailureKind | None,
        elapsed_s: float,
        retry_after_s: float | None = None,
    ) -> bool:
        """Let the breaker have an outcome; whether the table has changed by it."""
        name = call.slot.name
        if kind is None and self._in_a_row[name] >= self._enough:
            return False
        breaker = self._records[name].breaker
        before = breaker.trial_credit
        transition = breaker.record(
            call.epoch,
            self._agenda.now,
            kind=kind,
            elapsed_s=elapsed_s,
            retry_after_s=retry_after_s,
        )
        counts = kind is None and breaker.state is CLOSED and call.epoch == breaker.epoch
        self._in_a_row[name] = self._in_a_row[name] + 1 if counts else 0
        if transition is None and before == breaker.trial_credit:
            return False
        self._publish()
        return True

    def trial_started(self, call: Call) -> None:
        """A permit of a half-open breaker has been spent."""
        record = self._records[call.slot.name]
        record.breaker.trial_started(call.epoch, self._agenda.now)
        self._plan_review()

    def _publish(self) -> None:
        now = self._agenda.now
        self._epoch += 1
        routes = tuple(record.route(now) for record in self._records.values())
        self._table.apply(RoutingSnapshot(self._epoch, routes))
        self._plan_review()

    def _plan_review(self) -> None:
        now = self._agenda.now
        times = (record.next_event_at(now) for record in self._records.values())
        when = min((at for at in times if at is not None), default=None)
        if when is not None and when != self._review_at:
            self._agenda.at(max(when, now), self._review, when)
        self._review_at = when

    def _review(self, planned_at: float) -> None:
        """Do what time alone asks for, unless the plan has changed since."""
        if planned_at != self._review_at:
            return
        self._review_at = None
        for record in self._records.values():
            record.breaker.tick(self._agenda.now)
        self._publish()
        self._on_review()


def _record(spec: MemberSpec, index: int, config: PoolConfig, rng: random.Random) -> MemberRecord:
    member = Member(
        spec.name,
        _stand_in,
        weight=spec.weight,
        priority=spec.priority,
        max_concurrency=spec.concurrency,
    )
    record = MemberRecord(member, index, config, rng, 0.0)
    stand_in = cast(MemberRef, _stand_in)
    record.started(stand_in, LoopThread("simulated"))  # it starts no thread before its first call
    return record


def _stand_in() -> None:
    """Where an agent and an actor would stand: nothing of a simulation calls it."""
