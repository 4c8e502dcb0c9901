"""The supervisor: owns breakers, statuses, restarts, probes, incarnations; sees no payload."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pykka

from greenroom.actors.base import tell
from greenroom.actors.desk import Desk
from greenroom.actors.member import AgentActor
from greenroom.actors.router import Attach
from greenroom.actors.surroundings import Surroundings
from greenroom.messages.errors import MemberExistsError, UnknownMemberError, not_begun
from greenroom.messages.events import (
    MemberCreateFailed,
    MemberFailed,
    MemberGaveUp,
    MemberRestarted,
    MemberStarted,
    MemberStopped,
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
from greenroom.messages.supervision import (
    ActorEnded,
    AgentCreated,
    AgentCreateFailed,
    CommandDone,
    Forwarded,
    Leave,
    MemberDrained,
)
from greenroom.supervisors.judging import Judging
from greenroom.supervisors.record import Life, MemberRecord

MEMBER_STOP_TIMEOUT_S = 5.0
"""How long a member's end is waited for: up to a second of clean-up, and its close hook."""

_GRACE_WITHIN_S = 1.0
"""The part of a `cancel_grace_s` that is within that; what is beyond comes on top."""


class PoolSupervisor(Judging):
    """One for one: a member that ends is restarted, the others are left alone."""

    def __init__(self, *, desk: Desk, members: Iterable[Member], **settings: Any) -> None:
        super().__init__(**settings)
        self._around = Surroundings(
            pool=self.pool,
            config=self.config,
            clock=self.clock,
            router=self.router,
            supervisor=self.actor_ref,
            bus=self.bus,
            loop=self._shared,
            desk=desk,
        )
        self._next_index = 0
        self._retired: dict[str, tuple[int, int]] = {}
        self._stopping = False
        self.handlers.update(
            {
                ActorEnded: self._on_actor_ended,
                AgentCreated: self._on_agent_created,
                AgentCreateFailed: self._on_agent_create_failed,
                Abandoned: self._on_abandoned,
                MemberDrained: self._on_member_drained,
                Forwarded: self._on_forwarded,
            }
        )
        try:
            for member in members:
                self._add(member)
            tell(self.router, Attach(self.actor_ref))
            self._publish()
            self._announce_news()
        except BaseException:  # a look at an agent has raised, or a signal handler
            self.never_started()
            raise

    def never_started(self) -> None:
        """Let the members' actors end, too. Agents that were handed over ready are the caller's."""
        super().never_started()
        for record in self._records.values():
            if record.ref is not None:
                tell(record.ref, pykka.messages._ActorStop())
        self._shared.close()

    # -- members come and go

    def _add(self, member: Member) -> MemberRecord:
        now = self.clock.now()
        record = MemberRecord(member, self._next_index, self.config, self._rng, now)
        self._next_index += 1
        # A name that comes back goes on counting: what its last bearer left behind is not taken
        # for the new one's.
        record.incarnation, record.breaker.epoch = self._retired.get(member.name, (0, 1))
        self._records[member.name] = record
        try:
            self._start_actor(record)
        except BaseException:  # then there is no such member
            del self._records[member.name]
            raise
        self._news.append(
            MemberStarted(pool=self.pool, member=member.name, incarnation=record.incarnation)
        )
        return record

    def _start_actor(self, record: MemberRecord) -> None:
        loop = self._new_loop(record.name) if record.member.isolated else self._shared
        around = replace(self._around, loop=loop)
        ref: Any = None
        try:
            ref = AgentActor.start(record.member, record.incarnation + 1, around)
            record.started(ref, loop)
        except BaseException:  # of a signal handler, while the app starts its pool
            if ref is not None:
                tell(ref, pykka.messages._ActorStop())
            raise

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
        elif message.blameless:
            self._restart(record, message.error or "")
        else:
            self._crashed(record, message.error or "its actor was stopped")
        self._publish(record)

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

    def _restart(self, record: MemberRecord, reason: str = "") -> None:
        try:
            self._start_actor(record)
        except BaseException as error:  # no memory, or a look at the agent: it is tried again
            self.bus.complain_of(f"member {record.name!r} could not be restarted", error)
            record.life = Life.DOWN
            record.restart_at = self.clock.now() + record.next_restart_delay()
            return
        self._news.append(
            MemberRestarted(
                pool=self.pool,
                member=record.name,
                incarnation=record.incarnation,
                reason=reason,
            )
        )

    def _removed(self, record: MemberRecord) -> None:
        del self._records[record.name]
        self._retired[record.name] = (record.incarnation, record.breaker.epoch + 1)
        self._news.append(
            MemberStopped(pool=self.pool, member=record.name, incarnation=record.incarnation)
        )
        self._publish(record)
        for ticket in record.removal:
            tell(self.router, CommandDone(ticket))

    def _on_member_drained(self, message: MemberDrained) -> None:
        record = self._records.get(message.member)
        if record is not None and record.life is Life.LEAVING and record.ref is not None:
            tell(record.ref, Leave())
            when = self.clock.now() + self._stop_timeout_s()
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
            record.on_loop = message.is_async
            self._publish(record)

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
        self._publish(record)

    def _on_abandoned(self, message: Abandoned) -> None:
        record = self._current(message.member, message.incarnation)
        if record is not None:
            record.abandoned = message.count

    def _review_member(self, record: MemberRecord, now: float) -> None:
        if record.restart_at is not None and now >= record.restart_at:
            self._restart(record)
        if record.creation_at is not None and now >= record.creation_at:
            record.creation_at = None
        super()._review_member(record, now)

    # -- commands

    def on_fault(self, message: Any, error: BaseException) -> bool:
        """Whoever waits for a command is told."""
        super().on_fault(message, error)
        if isinstance(message, Forwarded):
            why = not_begun("the command", error)
            tell(self.router, CommandDone(message.ticket, error=why))
        return False

    def _on_forwarded(self, message: Forwarded) -> None:
        try:
            value, later = self._carry_out(message.command, message.ticket)
        except BaseException as error:
            if not isinstance(error, Exception):  # it is raised where somebody waits for an answer
                error = not_begun("the command", error)
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
                if member.agent is self.router:
                    raise ValueError(f"agent must not be the pool itself, got {member.agent!r}")
                self._publish(self._add(member))
            case RemoveMember(name):
                self._remove(self._known(name), ticket)
                return None, True
            case ResetMember(name):
                record = self._known(name)
                self._reset([record], now)
                self._publish(record)
            case ResetAll():
                self._reset(self._records.values(), now)
                self._publish()
            case ForceOpen(name):
                record = self._known(name)
                self._announce(record, record.breaker.force_open(now))
                self._publish(record)
            case DisableBreaker(name):
                record = self._known(name)
                self._announce(record, record.breaker.disable(now))
                self._publish(record)
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
        self._publish(record)

    def _reset(self, records: Iterable[MemberRecord], now: float) -> None:
        for record in records:
            record.reset(now)
            self._announce(record, record.breaker.reset(now))
            if record.ref is None and record.life in (Life.GIVEN_UP, Life.DOWN):
                self._restart(record)
            self._review_health(record)

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
        self._let_stalled_go()
        for record in self._records.values():
            self._stand_in(record)
        refs = {name: each.ref for name, each in self._records.items() if each.ref is not None}
        for ref in refs.values():
            tell(ref, Leave())
        until = time.monotonic() + self._stop_timeout_s()
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
        self._shared.close()

    def _stand_in(self, record: MemberRecord) -> None:
        """Where a member is down that must still be closed: an actor that does it."""
        ready = record.member.agent is not None and record.member.close is not None
        if record.ref is None and ready:
            self._start_actor(record)

    def _stop_timeout_s(self) -> float:
        """How long a member may take to end, its calls' grace included."""
        return MEMBER_STOP_TIMEOUT_S + max(0.0, self.config.cancel_grace_s - _GRACE_WITHIN_S)

    def _left_behind(self, member: str) -> None:
        error = TimeoutError(f"its close hook took more than {self._stop_timeout_s():g} s")
        self.bus.complain_of(f"member {member!r} does not end and is left behind", error)
