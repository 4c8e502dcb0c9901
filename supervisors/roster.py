"""The members: their records, the actors behind their names, restarts, and their end."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from greenroom.actors.member.agent_actor import MemberRef
from greenroom.messages.errors import UnknownMemberError
from greenroom.messages.events import (
    MemberAgentLost,
    MemberAgentRemade,
    MemberCreateFailed,
    MemberDraining,
    MemberFailed,
    MemberGaveUp,
    MemberRestarted,
    MemberStarted,
    MemberStopped,
)
from greenroom.messages.execution import Abandoned
from greenroom.messages.member import Member
from greenroom.messages.supervision import (
    ActorEnded,
    AgentCreated,
    AgentCreateFailed,
    AgentLost,
    AgentRemade,
    CommandDone,
    Leave,
    MemberDrained,
    WidthSaid,
)
from greenroom.supervisors.member_record import Life, MemberRecord, current
from greenroom.supervisors.route_publisher import AGAIN_S, RoutePublisher
from greenroom.supervisors.supervisor_ports import SupervisorPorts


@dataclass(eq=False, repr=False)
class Roster:
    """One for one: a member that ends is restarted, the others are left alone.

    Args:
        _records: what is kept here, and only read elsewhere.
        _spawn: starts the actor of the next incarnation, and notes it in the record. May raise.
        stop_timeout_s: how long a member may take to end.

    Attributes:
        stopping: set at the end of the pool: who ends is not restarted any more.
    """

    _ports: SupervisorPorts
    _records: dict[str, MemberRecord]
    _routes: RoutePublisher
    _rng: random.Random
    _spawn: Callable[[MemberRecord], None]
    stop_timeout_s: float
    stopping: bool = False

    def __post_init__(self) -> None:
        self._next_index = 0
        self._retired: dict[str, tuple[int, int]] = {}
        self._closing: list[tuple[str, MemberRef]] = []

    # -- they come, and come back

    def add(self, member: Member, index: int | None = None) -> MemberRecord:
        """Start a member's first incarnation.

        Args:
            index: its place; None: behind the others. That of a member which has left is for
                another one of its name alone: their incarnations tell the two apart.
        """
        now = self._ports.now()
        if index is None:
            index = self._next_index
            self._next_index += 1
        record = MemberRecord(member, index, self._ports.config, self._rng, now)
        # A name that comes back goes on counting: what its last bearer left behind is not taken
        # for the new one's.
        record.incarnation, record.breaker.epoch = self._retired.get(member.name, (0, 1))
        record.since = record.incarnation + 1
        self._records[member.name] = record
        try:
            if index != self._next_index - 1:  # it is not the last one, as it stands now
                ordered = sorted(self._records.items(), key=lambda item: item[1].index)
                self._records.clear()
                self._records.update(ordered)
            # Last: whatever raises behind it would leave an actor that nobody knows.
            self._spawn(record)
        except BaseException:  # then there is no such member
            del self._records[member.name]
            raise
        self._ports.emit(
            MemberStarted(
                pool=self._ports.pool,
                member=member.name,
                incarnation=record.incarnation,
                weight=member.weight,
                priority=member.priority,
                cost=member.cost,
            )
        )
        return record

    def actor_ended(self, message: ActorEnded) -> None:
        """Who has ended on his own is restarted, or given up; who was to end is gone."""
        record = current(self._records, message.member, message.incarnation)
        if record is None or self.stopping:
            return
        if record.ref is None and record.life in (Life.DOWN, Life.GIVEN_UP):
            return  # it has been heard before, and something has raised then
        record.gone()
        # It has crashed while it was to leave; an agent that was
        # handed over ready must still be closed.
        if not message.expected and record.life is Life.LEAVING:
            self.stand_in(record)
        if record.ref is not None:
            record.life = Life.LEAVING
        elif message.expected or record.life is Life.LEAVING:
            self._removed(record)
        elif message.blameless:
            self.restart(record, message.error or "")
        else:
            self._crashed(record, message.error or "its actor was stopped")
        self._routes.publish(record)

    def _crashed(self, record: MemberRecord, error: str) -> None:
        now = self._ports.now()
        if record.probes is not None:
            record.probes.abandon(now)
        allowed = record.restarts.add(now)
        delay_s = record.next_restart_delay() if allowed else None
        self._ports.emit(
            MemberFailed(
                pool=self._ports.pool,
                member=record.name,
                incarnation=record.incarnation,
                error=error,
                restart_in_s=delay_s,
            )
        )
        if delay_s is not None:
            record.life = Life.DOWN
            record.restart_at = now + delay_s
            return
        record.life = Life.GIVEN_UP
        self._ports.emit(
            MemberGaveUp(
                pool=self._ports.pool,
                member=record.name,
                restarts=self._ports.config.restart_intensity,
                period_s=self._ports.config.restart_period_s,
                error=error,
            )
        )

    def restart(self, record: MemberRecord, reason: str = "") -> None:
        """Start the next incarnation; if that raises, it is tried again."""
        try:
            self._spawn(record)
        except BaseException as error:  # no memory, or a look at the agent
            self._ports.complain_of(f"member {record.name!r} could not be restarted", error)
            record.life = Life.DOWN
            # It counts as a crash in a row, but not for the restart limit:
            # nobody of the member's is to blame.
            record.restart_at = self._ports.now() + record.next_restart_delay()
            return
        self._ports.emit(
            MemberRestarted(
                pool=self._ports.pool,
                member=record.name,
                incarnation=record.incarnation,
                reason=reason,
            )
        )

    # -- what their actors say

    def agent_created(self, message: AgentCreated) -> None:
        """Now it is known where the agent runs, and with how many calls at a time."""
        record = current(self._records, message.member, message.incarnation)
        if record is not None:
            record.creations_failed = 0
            record.creation_at = None
            record.max_concurrency = message.max_concurrency
            record.on_loop = message.is_async
            if record.agent_wanted:
                record.agent_wanted = False
                self._ports.emit(MemberAgentRemade(pool=self._ports.pool, member=record.name))
            self._routes.publish(record)

    def width_said(self, message: WidthSaid) -> None:
        """It takes so many calls at a time, by what its agent has heard."""
        record = current(self._records, message.member, message.incarnation)
        if record is not None and record.max_concurrency != message.max_concurrency:
            record.max_concurrency = message.max_concurrency
            self._routes.publish(record)

    def agent_lost(self, message: AgentLost) -> None:
        """Its agent is gone for good. Where nobody can make another one nothing is sent to it until
        it is reset; what was sent before may say the same once more.
        """
        record = current(self._records, message.member, message.incarnation)
        if record is None or record.without_agent:
            return
        record.agents_lost += 1
        record.without_agent = not message.remade
        if message.remade and not message.of_loop:
            record.agent_wanted = True
        which = "that of a caller's event loop: " if message.of_loop else ""
        self._ports.emit(
            MemberAgentLost(
                pool=self._ports.pool,
                member=record.name,
                error=which + message.error,
                remade=message.remade,
            )
        )
        self._routes.publish(record)

    def agent_remade(self, message: AgentRemade) -> None:
        """On a caller's event loop, for whose blocks nothing else changes."""
        record = current(self._records, message.member, message.incarnation)
        if record is not None:
            self._ports.emit(MemberAgentRemade(pool=self._ports.pool, member=record.name))

    def agent_create_failed(self, message: AgentCreateFailed) -> None:
        """Leave the factory alone for a while."""
        record = current(self._records, message.member, message.incarnation)
        if record is None:
            return
        now = self._ports.now()
        delay_s = record.next_creation_delay()
        record.creation_at = now + delay_s
        record.health.last_error, record.health.last_failure_at = message.error, now
        self._ports.emit(
            MemberCreateFailed(
                pool=self._ports.pool, member=record.name, error=message.error, retry_in_s=delay_s
            )
        )
        self._routes.publish(record)

    def abandoned(self, message: Abandoned) -> None:
        """So many of its calls have been given up on, and have not ended."""
        record = current(self._records, message.member, message.incarnation)
        if record is not None:
            record.abandoned = message.count

    def review(self, record: MemberRecord, now: float) -> None:
        """Do for a member what time alone asks for."""
        if record.restart_at is not None and now >= record.restart_at:
            self.restart(record)
        if record.creation_at is not None and now >= record.creation_at:
            record.creation_at = None

    # -- they go for good

    def known(self, name: str) -> MemberRecord:
        """The member of that name.

        Raises:
            UnknownMemberError: there is none.
        """
        try:
            return self._records[name]
        except KeyError:
            members, pool = ", ".join(self._records) or "none", self._ports.pool
            raise UnknownMemberError(
                f"name must be that of a member of pool {pool!r} ({members}), got {name!r}"
            ) from None

    def remove(self, record: MemberRecord, ticket: int) -> None:
        """Let a member finish what it has, and end; the command is answered when it is gone."""
        record.removal.append(ticket)
        self.let_go(record)

    def replace(self, record: MemberRecord, member: Member) -> None:
        """Let a member finish what it has, and end; then another of its name takes its place."""
        self.let_go(record, member)

    def let_go(self, record: MemberRecord, successor: Member | None = None) -> None:
        """Let a member finish what it has, and end."""
        dropped, record.successor = record.successor, successor
        self._close_unused(dropped)
        self.stand_in(record)
        if record.ref is None:
            self._removed(record)
            return
        if record.life is not Life.LEAVING:
            self._ports.emit(
                MemberDraining(
                    pool=self._ports.pool, member=record.name, replaced=successor is not None
                )
            )
        record.life = Life.LEAVING
        self._routes.publish(record)

    def drained(self, message: MemberDrained) -> None:
        """The router has nothing of it in flight any more: it may go."""
        record = self._records.get(message.member)
        if record is not None and record.life is Life.LEAVING and record.ref is not None:
            self._ports.tell(record, Leave())
            # A close hook may hang: then the command is answered all the
            # same, and the name is free again.
            when = self._ports.now() + self.stop_timeout_s
            self._ports.at(when, lambda: self._removal_timed_out(record))

    def _removal_timed_out(self, record: MemberRecord) -> None:
        # By identity: a member of that name may have been added meanwhile.
        if self._records.get(record.name) is record:
            self.left_behind(record.name)
            self._removed(record)

    def _removed(self, record: MemberRecord) -> None:
        del self._records[record.name]
        # One epoch on: an outcome of the last bearer's must not count for the next one.
        self._retired[record.name] = (record.incarnation, record.breaker.epoch + 1)
        name, incarnation = record.name, record.incarnation
        try:
            self._ports.emit(
                MemberStopped(pool=self._ports.pool, member=name, incarnation=incarnation)
            )
            if not self._succeeded(record):
                self._routes.publish(record)
        finally:  # it is in no book any more: nobody else would answer
            for ticket in record.removal:
                self._ports.tell_router(CommandDone(ticket))

    def _succeeded(self, record: MemberRecord) -> bool:
        """Have the one in who is to take the place of a member that has left; whether there is one.

        In one table with its leaving: who waits for it must not find nobody in between.
        """
        if record.successor is None or self.stopping:
            return False
        # By name: one of that name may have been added since it could not be done.
        if record.name in self._records:
            self.drop_successor(record)
            return False
        try:
            successor = self.add(record.successor, record.index)
        except BaseException as error:  # no memory, or a look at the agent
            self._ports.complain_of(f"member {record.name!r} could not be replaced", error)
            self._ports.at(self._ports.now() + AGAIN_S, partial(self._bring_in, record))
            return False
        self._routes.publish(successor, gone=(record.name,))
        return True

    def _bring_in(self, record: MemberRecord) -> None:
        self._succeeded(record)

    def stand_in(self, record: MemberRecord) -> None:
        """Where a member is down that must still be closed: an actor that does it."""
        # An agent that a factory has made ended with its actor; only
        # one that was handed over outlives it.
        ready = record.member.agent is not None and record.member.close is not None
        if record.ref is None and ready:
            self._spawn(record)

    # -- they were to come, and never do

    def drop_successor(self, record: MemberRecord) -> None:
        """Nobody is to take the place of a member any more."""
        dropped, record.successor = record.successor, None
        self._close_unused(dropped)

    def closing(self) -> list[tuple[str, MemberRef]]:
        """The actors that close what was handed over and never used, by its member's name."""
        self._closing = [each for each in self._closing if not each[1].ended.is_set()]
        return self._closing

    def _close_unused(self, member: Member | None) -> None:
        """Have an agent closed that was handed over for a member that never gets in."""
        if member is None or member.agent is None or member.close is None:
            return
        if any(member.agent is each for each in self._agents()):
            return
        config, now = self._ports.config, self._ports.now()
        record = MemberRecord(member, self._next_index, config, self._rng, now)
        # No member's actor has the number that comes now: its end is taken for nobody else's.
        record.incarnation = -1
        try:
            self._spawn(record)
            if record.ref is not None:
                self._closing = [*self.closing(), (member.name, record.ref)]
            self._ports.tell(record, Leave())
        except BaseException as error:  # the pool goes on without it
            self._ports.complain_of(f"nobody closes what was to be {member.name!r}", error)

    def _agents(self) -> Iterator[Any]:
        """Those of all who are in, or are to be."""
        for record in self._records.values():
            yield record.member.agent
            if record.successor is not None:
                yield record.successor.agent

    def left_behind(self, member: str) -> None:
        """Log that nobody waits for a member's end any more."""
        error = TimeoutError(f"its close hook took more than {self.stop_timeout_s:g} s")
        self._ports.complain_of(f"member {member!r} does not end and is left behind", error)
