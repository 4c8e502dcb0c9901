"""The supervisor: owns breakers, statuses, restarts, probes, incarnations; sees no payload."""

from __future__ import annotations

import functools
import random
import time
from collections.abc import Iterable
from contextvars import copy_context
from dataclasses import replace
from typing import Any

from greenroom.actors.claims.claims import Claims
from greenroom.actors.claims.local_messages import Attach
from greenroom.actors.member.agent_actor import AgentActor, MemberRef
from greenroom.actors.member.surroundings import Surroundings
from greenroom.actors.runtime.alarms import Alarm
from greenroom.actors.runtime.clock import Clock, SystemClock, Timer, paused_at, pauses_of
from greenroom.actors.runtime.event_bus import EventBus, complain
from greenroom.actors.runtime.home_loop import HomeLoop
from greenroom.actors.runtime.loop_blocker import blocker_of
from greenroom.actors.runtime.loop_factory import AppLoop, loop_factory
from greenroom.actors.runtime.loop_thread import AgentLoop, LoopThread
from greenroom.actors.runtime.mailbox import Tick
from greenroom.actors.runtime.pool_actor import (
    Handler,
    JoinableRef,
    PoolActor,
    Stop,
    hand,
    started,
    tell,
)
from greenroom.actors.runtime.thread_duties import Duty, ThreadRole
from greenroom.messages.config import PoolConfig
from greenroom.messages.configure import Configure, Configured
from greenroom.messages.errors import MemberExistsError, not_begun
from greenroom.messages.events import Event, MemberStopped, PoolPaused
from greenroom.messages.execution import Abandoned
from greenroom.messages.member import Member
from greenroom.messages.replies import MemberStats
from greenroom.messages.requests import (
    AddMember,
    Command,
    DisableBreaker,
    ForceOpen,
    GetMembers,
    GetStats,
    RemoveMember,
    ReportMember,
    ResetAll,
    ResetMember,
)
from greenroom.messages.supervision import (
    ActorEnded,
    AgentCreated,
    AgentCreateFailed,
    AgentLost,
    AgentRemade,
    CommandDone,
    FailuresSeen,
    Forwarded,
    Leave,
    MemberDrained,
    Outcomes,
    ProbeResult,
    TableWanted,
    TrialStarted,
    WidthSaid,
)
from greenroom.supervisors.loop_monitor import (
    LookDue,
    LoopAnswered,
    LoopHasEnded,
    LoopMonitor,
    LoopStarted,
)
from greenroom.supervisors.member_record import Life, MemberRecord
from greenroom.supervisors.outcome_judge import OutcomeJudge
from greenroom.supervisors.outside_word import OutsideWord
from greenroom.supervisors.prober import Prober
from greenroom.supervisors.reconfigurer import Reconfigurer
from greenroom.supervisors.roster import Roster
from greenroom.supervisors.route_publisher import RoutePublisher
from greenroom.supervisors.supervisor_ports import SupervisorPorts, ToMember

MEMBER_STOP_TIMEOUT_S = 5.0
"""How long a member's end is waited for: up to a second of clean-up, and its close hook."""

_GRACE_WITHIN_S = 1.0
"""The part of a `cancel_grace_s` that is within that; what is beyond comes on top."""

_SAID_ONCE = (ActorEnded, MemberDrained, AgentCreated, AgentCreateFailed, AgentLost, AgentRemade)


class _HasNews:
    """The supervisor's word to itself that there is something to announce."""

    __slots__ = ()


class PoolSupervisor(PoolActor):
    """The shell around the supervisor's parts: messages in, parts called; news and commands.

    What a part decides is carried out in its turn; what is announced, when the router knows it.
    """

    def __init__(
        self,
        *,
        pool: str,
        router: JoinableRef,
        claims: Claims,
        config: PoolConfig,
        clock: Clock,
        rng: random.Random,
        bus: EventBus,
        members: Iterable[Member],
        loop: AppLoop | None = None,
    ) -> None:
        super().__init__(clock)
        self.duty = Duty(router.actor_urn, ThreadRole.SUPERVISOR)
        self.pool = pool
        self.router = router
        self.config = config
        self.bus = bus
        # Events that wait until the router knows of what they tell: a subscriber that asks the pool
        # upon `member.started` must find that member.
        self._news: list[Event] = []
        self._records: dict[str, MemberRecord] = {}
        ports = self._ports = SupervisorPorts(
            pool=pool,
            config=config,
            now=clock.now,
            paused_at=lambda: paused_at(clock),
            at=self.alarms.at,
            emit=self._news.append,
            tell=_tell_member,
            tell_router=functools.partial(tell, router),
            complain_of=bus.complain_of,
        )
        routes = self._routes = RoutePublisher(ports, self._records, self._review)
        self._loops = LoopMonitor(
            ports,
            routes,
            by_hand=lambda: clock.wait_s(clock.now()) is None,
            new_loop=self._new_loop,
            plan=self._plan_look,
            ask=functools.partial(_ask_loop, self.ref),
            find_blocker=blocker_of,
            home=None if loop is None else self._home_on(loop),
        )
        stop_s = _stop_timeout_s(config)
        self._roster = Roster(ports, self._records, routes, rng, self._start_actor, stop_s)
        self._judge = OutcomeJudge(ports, routes, self._answer)
        self._prober = Prober(ports, routes, self._judge)
        self._outside_word = OutsideWord(ports, routes, self._judge)
        self._reconfigurer = Reconfigurer(
            ports, self._roster, routes, self._judge, self._configured, self._check_agent
        )
        self._around = Surroundings(
            pool=pool,
            config=config,
            clock=clock,
            router=router,
            supervisor=self.ref,
            bus=bus,
            loop=self._loops.shared,
            claims=claims,
            # Of whoever starts the pool: this is made in that thread.
            context=copy_context() if config.propagate_context else None,
        )
        self.handlers.update(
            {
                _HasNews: lambda _: None,
                Outcomes: self._judge.take_in,
                TrialStarted: self._judge.trial_started,
                ProbeResult: self._prober.ended,
                LoopStarted: self._loops.started,
                LoopHasEnded: self._loops.has_ended,
                LookDue: self._loops.look_due,
                LoopAnswered: self._loops.answered,
                ActorEnded: self._roster.actor_ended,
                AgentCreated: self._roster.agent_created,
                AgentCreateFailed: self._roster.agent_create_failed,
                AgentLost: self._roster.agent_lost,
                AgentRemade: self._roster.agent_remade,
                Abandoned: self._roster.abandoned,
                WidthSaid: self._roster.width_said,
                MemberDrained: self._roster.drained,
                TableWanted: lambda _: self._routes.publish(),
                Forwarded: self._on_forwarded,
            }
        )
        # All of them: whatever a message has led to is told when its turn ends.
        for kind, handler in self.handlers.items():
            self.handlers[kind] = self._then_news(handler)
        self._pauses = pauses_of(clock)
        try:
            if self._pauses is not None:
                self._pauses.tell_pauses(self._announce_pause)
            for member in members:
                self._roster.add(member)
            # Before the first table: the router reports to whom it was attached.
            tell(self.router, Attach(self.ref))
            self._routes.publish()
            self._announce_news()
        except BaseException:  # a look at an agent has raised, or a signal handler
            self.never_started()
            raise

    def never_started(self) -> None:
        """Let the members' actors end, too. Agents that were handed over ready are the caller's."""
        super().never_started()
        self._hear_no_pauses()
        for record in self._records.values():
            if record.ref is not None:
                tell(record.ref, Stop())
        self._loops.shared.close()

    # -- what the parts ask for

    def _start_actor(self, record: MemberRecord) -> None:
        loop = self._new_loop(record.name) if record.member.isolated else self._loops.shared
        around = replace(self._around, loop=loop)
        ref: MemberRef | None = None
        try:
            # Noted only once the actor stands: one that cannot be
            # started leaves the record as it was.
            number = record.incarnation + 1
            ref = started(lambda: AgentActor(record.member, number, around)).ref
            record.started(ref, loop)
        except BaseException:  # of a signal handler, while the app starts its pool
            if ref is not None:
                tell(ref, Stop())
            raise

    def _new_loop(self, owner: str | None) -> LoopThread:
        """The pool's loop, or that of an isolated member alone; its thread starts on first use."""
        name = "loop" if owner is None else f"{owner}-loop"

        def told() -> None:
            hand(self.ref, LoopStarted(thread, owner, self.clock.now()))

        new_loop = loop_factory(self.config.event_loop)
        thread = LoopThread(
            f"greenroom-{self.pool}-{name}",
            told,
            new_loop,
            self.config.cancel_grace_s,
            self.router.actor_urn,
        )
        return thread

    def _home_on(self, loop: AppLoop) -> HomeLoop:
        """The app's loop, which runs in this thread, for as long as it runs."""

        def started() -> None:
            hand(self.ref, LoopStarted(home, None, self.clock.now()))

        home = HomeLoop(
            f"the app's loop, home of pool {self.pool!r}",
            loop,
            self._new_loop(None),
            started,
            lambda: hand(self.ref, LoopHasEnded(home)),
            self.config.cancel_grace_s,
            self.router.actor_urn,
        )
        return home

    def _plan_look(self, when: float, thread: AgentLoop) -> Alarm | Timer:
        # A clock moved by hand has no thread: there the looks are alarms of the supervisor's own.
        if isinstance(self.clock, SystemClock):
            return self.clock.at(when, functools.partial(_hand_look, self.ref, thread))
        return self.alarms.at(when, lambda: self._loops.look_due(LookDue(thread, handed=True)))

    def _configured(self) -> None:
        """The settings have changed: what is made from now on is made by them."""
        self.config = self._ports.config
        self._around = replace(self._around, config=self.config)
        self._loops.configure()

    def _check_agent(self, member: Member) -> None:
        if member.agent is self.router:
            raise ValueError(f"agent must not be the pool itself, got {member.agent!r}")

    def _answer(self, seen: FailuresSeen) -> None:
        """Where the router waits for it in this very thread, it need not be woken."""
        hand(self.router, seen)

    def _review(self) -> None:
        """Do for every member what time alone asks for."""
        now = self.clock.now()
        for record in list(self._records.values()):
            self._roster.review(record, now)
            self._outside_word.review(record, now)
            self._judge.review(record, now)
            self._prober.review(record, now)
            self._judge.review_health(record, now)

    # -- news

    def on_start(self) -> None:
        self.lend()

    def _then_news(self, handler: Handler) -> Handler:
        """What there is to announce is announced when the router knows it."""

        def handle(message: Any) -> Any:
            try:
                return handler(message)
            finally:
                self._announce_news()

        return handle

    def _announce_news(self) -> None:
        """In this actor's own thread: who hears of it may be slow."""
        try:
            if self._news and self.mailbox.is_borrowed():
                tell(self.actor_ref, _HasNews())
            elif self._news:
                self._emit(self._take_news())
        except BaseException as error:  # nobody waits for them
            complain("the news could not be told", error)

    def _take_news(self) -> list[Event]:
        news = self._news.copy()
        self._news.clear()
        return news

    def _emit(self, news: list[Event]) -> None:
        for event in news:
            try:
                self.bus.emit(event)
            except BaseException as error:  # the others are news, too
                complain("an event could not be told", error)

    def _announce_pause(self, lasted_s: float) -> None:
        """Called by the clock, in its own thread: a thousand pools need not all be woken for it, on
        a machine that has just had too much to do perhaps.
        """
        self.bus.emit(PoolPaused(pool=self.pool, lasted_s=lasted_s))

    def _hear_no_pauses(self) -> None:
        if self._pauses is not None:
            self._pauses.tell_no_more(self._announce_pause)

    # -- something raises that must not

    def on_fault(self, message: Any, error: BaseException) -> bool:
        """Whatever a message was about: how things stand is found out and told anew, at once."""
        complain(f"the supervisor of pool {self.pool!r} failed at a message", error)
        if type(message) is not Tick:  # else the review has seen to it, if it was that
            self._routes.review_soon()
        if isinstance(message, _SAID_ONCE):
            handler = self.handlers[type(message)]  # nobody says so again
            self.alarms.at(self.clock.now(), functools.partial(handler, message))
        elif isinstance(message, Outcomes):
            self._judge.not_taken_in(message)
        elif isinstance(message, Forwarded):  # whoever waits for a command is told
            why = not_begun("the command", error)
            tell(self.router, CommandDone(message.ticket, error=why))
        self._announce_news()
        return False

    # -- commands

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

    def _carry_out(
        self, command: Command, ticket: int
    ) -> tuple[tuple[MemberStats, ...] | dict[str, Member | None] | Configured | None, bool]:
        """Do what a command asks for; its value, and whether it is answered later instead."""
        now = self.clock.now()
        match command:
            case GetStats():
                offset_s = self.clock.wall() - now
                return tuple(each.stats(now, offset_s) for each in self._records.values()), False
            case GetMembers():
                return {name: each.next_member for name, each in self._records.items()}, False
            case AddMember(member):
                if member.name in self._records:
                    raise MemberExistsError(
                        f"name must be unique in pool {self.pool!r}, got {member.name!r} again"
                    )
                self._check_agent(member)
                self._routes.publish(self._roster.add(member))
            case RemoveMember(name):
                self._roster.remove(self._roster.known(name), ticket)
                return None, True
            case ResetMember(name):
                record = self._roster.known(name)
                self._reset([record], now)
                self._routes.publish(record)
            case ResetAll():
                self._reset(self._records.values(), now)
                self._routes.publish()
            case ForceOpen(name):
                record = self._roster.known(name)
                self._judge.announce(record, record.breaker.force_open(now))
                self._routes.publish(record)
            case DisableBreaker(name):
                record = self._roster.known(name)
                self._judge.announce(record, record.breaker.disable(now))
                self._routes.publish(record)
            case ReportMember(name):
                self._outside_word.take_in(self._roster.known(name), command)
            case Configure():
                return self._reconfigurer.carry_out(command), False
        return None, False

    def _reset(self, records: Iterable[MemberRecord], now: float) -> None:
        for record in records:
            record.reset(now)
            self._outside_word.forget(record)
            self._judge.announce(record, record.breaker.reset(now))
            # At once, without the rest of its backoff: whoever resets
            # it has mended it, or thinks so.
            if record.ref is None and record.life in (Life.GIVEN_UP, Life.DOWN):
                self._roster.restart(record)
            self._judge.review_health(record, now)

    # -- the end

    def on_stop(self) -> None:
        super().on_stop()
        self._hear_no_pauses()
        self._emit(self._take_news())  # the word of it would come too late
        self._end()

    def on_failure(self, *exc_info: Any) -> None:
        super().on_failure(*exc_info)
        self._hear_no_pauses()
        self._end()

    def _end(self) -> None:
        """Members first, all at once; then the loop that they share.

        Without a supervisor there is no pool: if the router has not stopped already, it does now.
        """
        tell(self.router, Stop())
        self._roster.stopping = True
        # First: whoever lives on such a loop would not end, and be waited for.
        self._loops.let_stalled_go()
        for record in self._records.values():
            try:
                self._roster.stand_in(record)
            except BaseException as error:  # the others have agents to close, too
                complain(f"nobody closes what {record.name} may have held", error)
            self._roster.drop_successor(record)
        refs = {name: each.ref for name, each in self._records.items() if each.ref is not None}
        for ref in refs.values():
            tell(ref, Leave())
        # Real time: a clock that is moved by hand would have the end of a pool wait for ever. One
        # limit for all of them, who end side by side.
        until = time.monotonic() + self._roster.stop_timeout_s
        for name, ref in refs.items():
            if not ref.ended.wait(max(0.0, until - time.monotonic())):
                self._roster.left_behind(name)
            self.bus.emit(
                MemberStopped(
                    pool=self.pool, member=name, incarnation=self._records[name].incarnation
                )
            )
        closing = self._roster.closing()
        for name, ref in closing:
            if not ref.ended.wait(max(0.0, until - time.monotonic())):
                self._roster.left_behind(name)
        for ref in (*refs.values(), *(ref for _, ref in closing)):
            if ref.ended.is_set():  # who is left behind has had its time
                ref.join(MEMBER_STOP_TIMEOUT_S)
        self._loops.shared.close()


def _tell_member(record: MemberRecord, message: ToMember) -> None:
    if record.ref is not None:
        tell(record.ref, message)


def _ask_loop(supervisor: JoinableRef, answer: LoopAnswered) -> None:
    answer.thread.post(functools.partial(hand, supervisor, answer))


def _hand_look(supervisor: JoinableRef, thread: AgentLoop) -> None:
    """Called by the clock's thread."""
    look = LookDue(thread)
    hand(supervisor, look)
    look.handed = True
    # Out of the supervisor's turn by now, so that the loop's answer can be handed over as well.
    if look.question is not None:
        _ask_loop(supervisor, look.question)


def _stop_timeout_s(config: PoolConfig) -> float:
    """How long a member may take to end, its calls' grace included."""
    return MEMBER_STOP_TIMEOUT_S + max(0.0, config.cancel_grace_s - _GRACE_WITHIN_S)
