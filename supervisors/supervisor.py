"""The supervisor: owns breakers, statuses, restarts, probes, incarnations; sees no payload."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable
from typing import Any

import pykka

from greenroom.actors.alarms import Alarm
from greenroom.actors.base import PoolActor, tell
from greenroom.actors.clock import Clock
from greenroom.actors.desk import Desk
from greenroom.actors.eventbus import EventBus
from greenroom.actors.loops import LoopThread
from greenroom.actors.member import AgentActor, Surroundings
from greenroom.actors.router import Attach
from greenroom.messages.config import PoolConfig
from greenroom.messages.errors import MemberExistsError, UnknownMemberError
from greenroom.messages.events import (
    BreakerClosed,
    BreakerHalfOpened,
    BreakerOpened,
    Event,
    HealthChanged,
    MemberCreateFailed,
    MemberFailed,
    MemberGaveUp,
    MemberRestarted,
    MemberStarted,
    MemberStopped,
    ProbeFailed,
    ProbeSucceeded,
)
from greenroom.messages.execution import Abandoned
from greenroom.messages.member import Member
from greenroom.messages.requests import (
    AddMember,
    DisableBreaker,
    ForceOpen,
    GetStats,
    RemoveMember,
    ResetAll,
    ResetMember,
)
from greenroom.messages.status import CircuitState, FailureKind
from greenroom.messages.supervision import (
    ActorEnded,
    AgentCreated,
    AgentCreateFailed,
    AttemptOutcome,
    CancelProbe,
    CommandDone,
    FailuresSeen,
    Forwarded,
    Leave,
    MemberDrained,
    Outcomes,
    Probe,
    ProbeResult,
    RoutingSnapshot,
    TrialStarted,
)
from greenroom.supervisors.breaker import Transition
from greenroom.supervisors.record import Life, MemberRecord

MEMBER_STOP_TIMEOUT_S = 5.0
"""How long a member's close hook is waited for."""


class PoolSupervisor(PoolActor):
    """One for one: a member that ends is restarted, the others are left alone."""

    def __init__(
        self,
        *,
        pool: str,
        router: Any,
        desk: Desk,
        config: PoolConfig,
        clock: Clock,
        rng: random.Random,
        bus: EventBus,
        members: Iterable[Member],
    ) -> None:
        super().__init__(clock)
        self.pool = pool
        self.router = router
        self.config = config
        self.bus = bus
        self._rng = rng
        self._loop = LoopThread(f"greenroom-{pool}-loop")
        self._around = Surroundings(
            pool=pool,
            config=config,
            clock=clock,
            router=router,
            supervisor=self.actor_ref,
            bus=bus,
            loop=self._loop,
            desk=desk,
        )
        self._records: dict[str, MemberRecord] = {}
        self._next_index = 0
        self._retired: dict[str, tuple[int, int]] = {}
        self._epoch = 0
        self._review_alarm: Alarm | None = None
        self._stopping = False
        self._news: list[Event] = []
        self.handlers.update(
            {
                Outcomes: self._on_outcomes,
                TrialStarted: self._on_trial_started,
                ProbeResult: self._on_probe_result,
                ActorEnded: self._on_actor_ended,
                AgentCreated: self._on_agent_created,
                AgentCreateFailed: self._on_agent_create_failed,
                Abandoned: self._on_abandoned,
                MemberDrained: self._on_member_drained,
                Forwarded: self._on_forwarded,
            }
        )
        tell(router, Attach(self.actor_ref))
        for member in members:
            self._add(member)
        self._publish()
        self._announce_news()

    def on_receive(self, message: Any) -> Any:
        """Handle a message; what there is to announce is announced when the router knows it."""
        try:
            return super().on_receive(message)
        finally:
            self._announce_news()

    def _announce_news(self) -> None:
        news, self._news = self._news, []
        for event in news:
            self.bus.emit(event)

    # -- members come and go

    def _add(self, member: Member) -> None:
        now = self.clock.now()
        record = MemberRecord(member, self._next_index, self.config, self._rng, now)
        self._next_index += 1
        # A name that comes back goes on counting: what its last bearer left behind is not taken
        # for the new one's.
        record.incarnation, record.breaker.epoch = self._retired.get(member.name, (0, 1))
        self._records[member.name] = record
        self._start_actor(record)
        self._news.append(
            MemberStarted(pool=self.pool, member=member.name, incarnation=record.incarnation)
        )

    def _start_actor(self, record: MemberRecord) -> None:
        ref = AgentActor.start(record.member, record.incarnation + 1, self._around)
        record.started(ref)

    def _on_actor_ended(self, message: ActorEnded) -> None:
        record = self._current(message.member, message.incarnation)
        if record is None or self._stopping:
            return
        record.gone()
        if not message.expected and record.life is Life.LEAVING:
            self._stand_in(record)
        if record.ref is not None:
            record.life = Life.LEAVING
        elif message.expected or record.life is Life.LEAVING:
            self._removed(record)
        else:
            self._crashed(record, message.error or "its actor was stopped")
        self._publish()

    def _crashed(self, record: MemberRecord, error: str) -> None:
        now = self.clock.now()
        if record.probes is not None:
            record.probes.abandon(now)
        failed = MemberFailed(
            pool=self.pool, member=record.name, incarnation=record.incarnation, error=error
        )
        if not record.restarts.add(now):
            record.life = Life.GIVEN_UP
            self._news.append(failed)
            self._news.append(
                MemberGaveUp(
                    pool=self.pool,
                    member=record.name,
                    restarts=self.config.restart_intensity,
                    period_s=self.config.restart_period_s,
                    error=error,
                )
            )
            return
        delay_s = record.next_restart_delay()
        record.life = Life.DOWN
        record.restart_at = now + delay_s
        self._news.append(
            MemberFailed(
                pool=self.pool,
                member=record.name,
                incarnation=record.incarnation,
                error=error,
                restart_in_s=delay_s,
            )
        )

    def _restart(self, record: MemberRecord) -> None:
        self._start_actor(record)
        self._news.append(
            MemberRestarted(pool=self.pool, member=record.name, incarnation=record.incarnation)
        )

    def _removed(self, record: MemberRecord) -> None:
        del self._records[record.name]
        self._retired[record.name] = (record.incarnation, record.breaker.epoch + 1)
        self._news.append(
            MemberStopped(pool=self.pool, member=record.name, incarnation=record.incarnation)
        )
        self._publish()
        for ticket in record.removal:
            tell(self.router, CommandDone(ticket))

    def _on_member_drained(self, message: MemberDrained) -> None:
        record = self._records.get(message.member)
        if record is not None and record.life is Life.LEAVING and record.ref is not None:
            tell(record.ref, Leave())
            when = self.clock.now() + MEMBER_STOP_TIMEOUT_S
            self.alarms.at(when, lambda: self._removal_timed_out(record))

    def _removal_timed_out(self, record: MemberRecord) -> None:
        if self._records.get(record.name) is record:
            self._left_behind(record.name)
            self._removed(record)

    def _on_agent_created(self, message: AgentCreated) -> None:
        record = self._current(message.member, message.incarnation)
        if record is not None:
            record.creations_failed = 0
            record.creation_at = None
            record.max_concurrency = message.max_concurrency
            self._publish()

    def _on_agent_create_failed(self, message: AgentCreateFailed) -> None:
        record = self._current(message.member, message.incarnation)
        if record is None:
            return
        now = self.clock.now()
        delay_s = record.next_creation_delay()
        record.creation_at = now + delay_s
        record.health.last_error, record.health.last_failure_at = message.error, now
        self._news.append(
            MemberCreateFailed(
                pool=self.pool, member=record.name, error=message.error, retry_in_s=delay_s
            )
        )
        self._publish()

    def _on_abandoned(self, message: Abandoned) -> None:
        record = self._current(message.member, message.incarnation)
        if record is not None:
            record.abandoned = message.count

    # -- outcomes

    def _on_outcomes(self, message: Outcomes) -> None:
        judged: dict[tuple[str, int], int] = {}
        changed = False
        touched = {}
        for outcome in message.batch:
            record = self._records.get(outcome.member)
            if record is None:
                continue
            touched[record.name] = record
            changed = self._judge(record, outcome) or changed
            if outcome.number:
                judged[outcome.member, outcome.incarnation] = outcome.number
        for record in touched.values():
            self._review_health(record)
        if changed:
            self._publish()
        for (member, incarnation), count in judged.items():
            seen = FailuresSeen(member=member, incarnation=incarnation, count=count)
            tell(self.router, seen)

    def _judge(self, record: MemberRecord, outcome: AttemptOutcome) -> bool:
        """Let the breaker and the health record have an outcome; whether routing changes by it."""
        if outcome.kind is None:
            record.crashes_in_a_row = 0
        record.health.record(outcome.at, outcome.kind, outcome.elapsed_s, outcome.error)
        before = (record.breaker.trial_credit, record.breaker.cooling_until)
        transition = record.breaker.record(
            outcome.epoch,
            outcome.at,
            kind=outcome.kind,
            elapsed_s=outcome.elapsed_s,
            retry_after_s=outcome.retry_after_s,
        )
        why = f" ({outcome.error})" if outcome.error else ""
        self._announce(record, transition, why)
        after = (record.breaker.trial_credit, record.breaker.cooling_until)
        return transition is not None or before != after

    def _on_trial_started(self, message: TrialStarted) -> None:
        record = self._records.get(message.member)
        if record is not None:  # of whichever incarnation: the permit is the breaker epoch's
            record.breaker.trial_started(message.epoch, message.at)
            self._plan_review()

    def _announce(self, record: MemberRecord, transition: Transition | None, why: str = "") -> None:
        """Log a breaker's change of state, and have the probes follow it."""
        if transition is None:
            return
        now = self.clock.now()
        reopens_at = transition.reopens_at
        match transition.after:
            case CircuitState.OPEN | CircuitState.FORCED_OPEN:
                self._news.append(
                    BreakerOpened(
                        pool=self.pool,
                        member=record.name,
                        reason=transition.reason + why,
                        reopens_in_s=None if reopens_at is None else max(0.0, reopens_at - now),
                    )
                )
            case CircuitState.HALF_OPEN:
                trial = "its probe" if record.probes is not None else "one request"
                self._news.append(
                    BreakerHalfOpened(pool=self.pool, member=record.name, trial=trial)
                )
            case CircuitState.CLOSED | CircuitState.DISABLED:
                self._news.append(
                    BreakerClosed(pool=self.pool, member=record.name, reason=transition.reason)
                )
        self._steer_probes(record, transition, now)
        self._review_health(record)

    def _steer_probes(self, record: MemberRecord, transition: Transition, now: float) -> None:
        if record.probes is None:
            return
        match transition.after:
            case CircuitState.OPEN if transition.reopens_at is not None:
                record.probes.hold_until(transition.reopens_at)
            case CircuitState.HALF_OPEN:
                record.probes.hurry(now)
            case CircuitState.FORCED_OPEN | CircuitState.DISABLED:
                record.probes.hold_until(float("inf"))
            case _:
                record.probes.resume(now)

    def _review_health(self, record: MemberRecord) -> None:
        now = self.clock.now()
        after = record.health.status(now, record.breaker.state)
        before, record.status = record.status, after
        if before is not after:
            self._news.append(
                HealthChanged(
                    pool=self.pool,
                    member=record.name,
                    before=before,
                    after=after,
                    error_rate=record.health.error_rate(now),
                )
            )
            self._plan_review()

    # -- probes

    def _start_probe(self, record: MemberRecord, now: float) -> None:
        assert record.probes is not None
        half_open = record.breaker.state is CircuitState.HALF_OPEN
        probe_id = record.probes.start(now, record.breaker.epoch)
        tell(record.ref, Probe(probe_id, create=half_open))

    def _on_probe_result(self, message: ProbeResult) -> None:
        record = self._current(message.member, message.incarnation)
        if record is None or record.probes is None:
            return
        now = self.clock.now()
        if not record.probes.finish(message.probe_id, now):
            return
        if not message.skipped:
            self._probe_ended(record, message.ok, message.elapsed_s, message.error or "", now)
        self._publish()

    def _probe_timed_out(self, record: MemberRecord, probe_id: int, now: float) -> None:
        assert record.probes is not None
        record.probes.finish(probe_id, now)
        tell(record.ref, CancelProbe(probe_id))
        limit = self.config.health_check_timeout_s
        error = f"no answer within health_check_timeout_s={limit:g}"
        self._probe_ended(record, False, limit, error, now)

    def _probe_ended(
        self, record: MemberRecord, ok: bool, elapsed_s: float, error: str, now: float
    ) -> None:
        assert record.probes is not None
        if ok:
            self._news.append(
                ProbeSucceeded(pool=self.pool, member=record.name, elapsed_s=elapsed_s)
            )
        else:
            self._news.append(
                ProbeFailed(pool=self.pool, member=record.name, elapsed_s=elapsed_s, error=error)
            )
        transition = record.breaker.record(
            record.probes.epoch,
            now,
            kind=None if ok else FailureKind.UNAVAILABLE,
            elapsed_s=elapsed_s,
            probe=True,
        )
        self._announce(record, transition, "" if ok else f" (probe: {error})")
        if record.breaker.state is CircuitState.HALF_OPEN:
            record.probes.hurry(now)

    # -- time

    def _review(self) -> None:
        """Do for every member what time alone asks for."""
        self._review_alarm = None
        now = self.clock.now()
        for record in list(self._records.values()):
            self._review_member(record, now)
        self._publish()

    def _review_member(self, record: MemberRecord, now: float) -> None:
        if record.restart_at is not None and now >= record.restart_at:
            self._restart(record)
        if record.creation_at is not None and now >= record.creation_at:
            record.creation_at = None
        self._announce(record, record.breaker.tick(now))
        if record.life is Life.RUNNING:
            self._review_probes(record, now)
        self._review_health(record)

    def _review_probes(self, record: MemberRecord, now: float) -> None:
        if record.probes is None:
            return
        expired = record.probes.expired(now)
        if expired is not None:
            self._probe_timed_out(record, expired, now)
        if record.probes.is_due(now) and record.breaker.state is not CircuitState.OPEN:
            self._start_probe(record, now)

    def _plan_review(self) -> None:
        now = self.clock.now()
        times = (record.next_event_at(now) for record in self._records.values())
        when = min((at for at in times if at is not None), default=None)
        if self._review_alarm is not None:
            if self._review_alarm.when == when:
                return
            self._review_alarm.cancel()
        self._review_alarm = None if when is None else self.alarms.at(when, self._review)

    # -- commands

    def _on_forwarded(self, message: Forwarded) -> None:
        try:
            value, later = self._carry_out(message.command, message.ticket)
        except Exception as error:
            tell(self.router, CommandDone(message.ticket, error=error))
            return
        if not later:
            tell(self.router, CommandDone(message.ticket, value))

    def _carry_out(self, command: Any, ticket: int) -> tuple[Any, bool]:
        """Do what a command asks for; its value, and whether it is answered later instead."""
        now = self.clock.now()
        match command:
            case GetStats():
                offset_s = self.clock.wall() - now
                return tuple(each.stats(now, offset_s) for each in self._records.values()), False
            case AddMember(member):
                if member.name in self._records:
                    raise MemberExistsError(
                        f"name must be unique in pool {self.pool!r}, got {member.name!r} again"
                    )
                self._add(member)
            case RemoveMember(name):
                self._remove(self._known(name), ticket)
                return None, True
            case ResetMember(name):
                self._reset([self._known(name)], now)
            case ResetAll():
                self._reset(self._records.values(), now)
            case ForceOpen(name):
                record = self._known(name)
                self._announce(record, record.breaker.force_open(now))
            case DisableBreaker(name):
                record = self._known(name)
                self._announce(record, record.breaker.disable(now))
        self._publish()
        return None, False

    def _known(self, name: str) -> MemberRecord:
        try:
            return self._records[name]
        except KeyError:
            members = ", ".join(self._records) or "none"
            raise UnknownMemberError(
                f"name must be that of a member of pool {self.pool!r} ({members}), got {name!r}"
            ) from None

    def _remove(self, record: MemberRecord, ticket: int) -> None:
        record.removal.append(ticket)
        self._stand_in(record)
        if record.ref is None:
            self._removed(record)
            return
        record.life = Life.LEAVING
        self._publish()

    def _reset(self, records: Iterable[MemberRecord], now: float) -> None:
        for record in records:
            record.reset(now)
            self._announce(record, record.breaker.reset(now))
            if record.ref is None and record.life in (Life.GIVEN_UP, Life.DOWN):
                self._restart(record)
            self._review_health(record)

    # -- the routing table

    def _publish(self) -> None:
        """Tell the router how things stand."""
        now = self.clock.now()
        self._epoch += 1
        routes = tuple(record.route(now) for record in self._records.values())
        tell(self.router, RoutingSnapshot(self._epoch, routes))
        self._plan_review()

    def _current(self, name: str, incarnation: int) -> MemberRecord | None:
        record = self._records.get(name)
        return record if record is not None and record.incarnation == incarnation else None

    # -- the end

    def on_stop(self) -> None:
        super().on_stop()
        self._end()

    def on_failure(self, *exc_info: Any) -> None:
        super().on_failure(*exc_info)
        self._end()

    def _end(self) -> None:
        """Members first, all at once; then the loop that they share.

        Without a supervisor there is no pool: if the router has not stopped already, it does now.
        """
        tell(self.router, pykka.messages._ActorStop())
        self._stopping = True
        for record in self._records.values():
            self._stand_in(record)
        refs = {name: each.ref for name, each in self._records.items() if each.ref is not None}
        for ref in refs.values():
            tell(ref, Leave())
        until = time.monotonic() + MEMBER_STOP_TIMEOUT_S
        for name, ref in refs.items():
            if not ref.ended.wait(max(0.0, until - time.monotonic())):
                self._left_behind(name)
            self.bus.emit(
                MemberStopped(
                    pool=self.pool, member=name, incarnation=self._records[name].incarnation
                )
            )
        for ref in refs.values():
            ref.join(MEMBER_STOP_TIMEOUT_S)
        self._loop.close()

    def _stand_in(self, record: MemberRecord) -> None:
        """Where a member is down that must still be closed: an actor that does it."""
        ready = record.member.agent is not None and record.member.close is not None
        if record.ref is None and ready:
            self._start_actor(record)

    def _left_behind(self, member: str) -> None:
        error = TimeoutError(f"its close hook took more than {MEMBER_STOP_TIMEOUT_S:g} s")
        self.bus.complain_of(f"member {member!r} does not end and is left behind", error)
