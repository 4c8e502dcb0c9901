"""The pool router: the actor around the life of its requests."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from greenroom.actors.claims.claims import Claims, reply
from greenroom.actors.claims.local_messages import Answered, Attach, Collecting
from greenroom.actors.handle.pool_ref import PoolRef
from greenroom.actors.request.flow_observer import FlowObserver, Observers
from greenroom.actors.request.flow_ports import FlowPorts
from greenroom.actors.request.job import PLACED, Job
from greenroom.actors.request.request_flow import RequestFlow
from greenroom.actors.router.drains import Drains
from greenroom.actors.router.forwarded_commands import FORWARDED, Commands
from greenroom.actors.runtime import pool_names
from greenroom.actors.runtime.clock import Clock, paused_at
from greenroom.actors.runtime.end_signal import EndSignal
from greenroom.actors.runtime.event_bus import EventBus, complain
from greenroom.actors.runtime.future import PENDING, DoneCallback, GivenUp, Told, Waits
from greenroom.actors.runtime.lease import BlockLeft
from greenroom.actors.runtime.mailbox import Mailbox, enveloped
from greenroom.actors.runtime.pool_actor import Handler, JoinableRef, PoolActor, hand, tell
from greenroom.actors.runtime.thread_duties import Duty, ThreadRole
from greenroom.actors.strategies import RoutingStrategy, strategy_name
from greenroom.messages.config import PoolConfig
from greenroom.messages.configure import Configured
from greenroom.messages.errors import PoolStoppedError, not_begun, summary
from greenroom.messages.events import PoolStopped
from greenroom.messages.execution import (
    CancelExecution,
    Execute,
    Failed,
    LimitsSeen,
    Refused,
    SideEffectsStarted,
    StreamBegun,
    StreamResumed,
    Succeeded,
)
from greenroom.messages.replies import MemberStats, PoolStats
from greenroom.messages.requests import (
    Acquire,
    Apply,
    Cancel,
    Command,
    Drain,
    ReportMember,
    Request,
    ResetAll,
    ResetMember,
    Subscribe,
)
from greenroom.messages.shared_limits import (
    LeaseGranted,
    LeaseRefused,
    LeaseWanted,
    LimitHeard,
    LimitTold,
)
from greenroom.messages.status import FailureKind, ReportedState
from greenroom.messages.supervision import (
    CommandDone,
    FailuresSeen,
    MemberDrained,
    MemberRoute,
    Outcomes,
    RoutingSnapshot,
    TableWanted,
    TrialStarted,
)

SUPERVISOR_STOP_TIMEOUT_S = 10.0
"""How long the end of a pool waits for its supervisor and members to clean up."""


class PoolRouter(PoolActor):
    """Brings messages to the `RequestFlow`, and carries out what it asks for. It runs no user code
    but the strategy's, never waits, and changes no breaker.
    """

    def __init__(
        self,
        *,
        name: str,
        strategy: RoutingStrategy,
        config: PoolConfig,
        clock: Clock,
        rng: random.Random,
        bus: EventBus,
        claims: Claims,
        observers: Sequence[FlowObserver] = (),
        lend: Callable[[LeaseWanted | LimitTold], object] | None = None,
    ) -> None:
        super().__init__(clock)
        self.duty = Duty(self.actor_urn, ThreadRole.ROUTER)
        self.name = name
        self.config = config
        self.bus = bus
        bus.pool_urn = self.actor_urn
        self.claims = claims
        self.ended = EndSignal()
        self._supervisor: JoinableRef | None = None
        self._drains = Drains(name, bus, clock, self.alarms, lambda: len(self.flow.jobs))
        self._commands = Commands(name, self._stats)
        # `report` may have the supervisor handle it in this very thread, before it returns. What
        # that says to it is a message of its own: it is never handled within the one at hand.
        ports = FlowPorts(
            now=clock.now,
            wall=clock.wall,
            paused_at=lambda: paused_at(clock),
            at=self.alarms.at,
            send=_send,
            cancel=_cancel,
            report=self._report,
            note=self._note,
            answer=_answer,
            fail=_fail,
            events=bus,
            observer=Observers(observers, bus.complain_of) if observers else None,
        )
        flow = self.flow = RequestFlow(
            ports,
            name=name,
            urn=self.actor_urn,
            strategy=strategy,
            config=config,
            rng=rng,
            claims=claims,
            idle=self._drains.done,
        )
        if lend is not None:
            flow.refills.share_by(lend)
        # A report may lie aside until the next message, but not while a
        # queue or a drain waits for its slot.
        self.mailbox.hurried = flow.awaits_reports
        forwarded: dict[type, Handler] = dict.fromkeys(FORWARDED, self._on_command)
        self.handlers.update(
            {
                Attach: self._on_attach,
                Request: self._on_work,
                Apply: self._on_work,
                Told: self._on_told,
                Acquire: self._on_work,
                BlockLeft: lambda message: message.lease.give_back(),
                Cancel: lambda message: flow.cancel(message.request_id),
                GivenUp: lambda message: flow.given_up(message.future),
                Waits: flow.waits,
                DoneCallback: DoneCallback.run,
                Answered: flow.answered,
                Succeeded: flow.succeeded,
                Failed: flow.failed,
                Refused: flow.refused,
                SideEffectsStarted: flow.side_effects,
                StreamBegun: flow.stream_begun,
                StreamResumed: flow.attempts.resumed,
                Collecting: flow.attempts.collecting,
                LimitsSeen: flow.limits_seen,
                LeaseGranted: flow.refills.lent,
                LeaseRefused: flow.refills.lent,
                LimitHeard: flow.refills.heard,
                RoutingSnapshot: self._on_snapshot,
                FailuresSeen: flow.failures_judged,
                CommandDone: self._on_command_done,
                Drain: self._on_drain,
                Subscribe: self._on_subscribe,
                **forwarded,
            }
        )
        # In whatever thread brings it, a request is taken in without a detour by `_on_work`.
        self.mailbox.takers = dict.fromkeys((Request, Apply, Acquire), flow.accept)
        member_of = flow.attempts.member_of
        self.ref: PoolRef = PoolRef(
            self, name=name, config=config, ended=self.ended, member_of=member_of
        )
        # The ref of this class, which can ask, in place of the one that every actor has.
        self.known_by(self.ref)

    def on_start(self) -> None:
        if self.flow.table.treats_alike:  # a strategy of the app's own runs in this thread alone
            # Who reads its events may be slow, and holds up nobody's worker by that.
            self.lend(self.bus.unread)

    def on_thread_end(self) -> None:
        self.ended.set()  # this thread is the last of the pool's

    def _on_attach(self, message: Attach) -> None:
        self._supervisor = message.supervisor

    def _on_work(self, work: Request[Any] | Apply[Any] | Acquire) -> Any:
        self.flow.accept(work, self.mailbox.reply_to)
        return PENDING

    def _on_told(self, message: Told) -> None:
        self.flow.accept(message.work, context=message.context, heard=message.heard)

    def _on_snapshot(self, message: RoutingSnapshot) -> None:
        flow = self.flow
        flow.snapshot(message)
        if flow.table.epoch:  # until then the ref knows the members from the start
            self.ref._ask_first(flow.table.screens)

    def on_fault(self, message: Any, error: BaseException) -> bool:
        if isinstance(message, CommandDone):
            self._commands.failed(message.ticket, not_begun("the command", error))
        if isinstance(message, Told):
            message = message.work
        return self.flow.made_good(message, error, self.mailbox.reply_to)

    def _report(self, outcomes: Outcomes) -> None:
        supervisor = self._supervisor
        assert supervisor is not None
        try:
            hand(supervisor, outcomes)
        except BaseException as error:  # in the supervisor's place: it has them all the same
            complain("the outcomes of attempts could not be handed over", error)
            tell(supervisor, outcomes)

    def _note(self, message: TrialStarted | MemberDrained | TableWanted) -> None:
        assert self._supervisor is not None
        tell(self._supervisor, message)

    # -- commands

    def _on_command(self, command: Command) -> Any:
        # What the supervisor is asked about shall be what has happened.
        self.flow.outcome_reporter.flush()
        # Rests are the router's own; the supervisor resets all else.
        if isinstance(command, ResetMember | ResetAll):
            name = command.name if isinstance(command, ResetMember) else None
            self.flow.reset(name)
        elif isinstance(command, ReportMember) and command.state is ReportedState.COOLING:
            assert command.for_s is not None
            kind = command.kind or FailureKind.RATE_LIMITED
            self.flow.told_to_rest(command.name, kind, command.for_s)
        assert self._supervisor is not None
        self._commands.forward(self._supervisor, command, self.mailbox.reply_to)
        return PENDING

    def _on_command_done(self, message: CommandDone) -> None:
        done = message.value
        if isinstance(done, Configured):
            # First: it holds when its answer arrives.
            self.config = done.config
            self.flow.configure(done.config)
            self.ref._go_by(done.config)
            message = replace(message, value=done.changes)
        self._commands.done(message)

    def _stats(self, members: tuple[MemberStats, ...]) -> PoolStats:
        flow, complete = self.flow, []
        now = self.clock.now()
        for stats in members:
            slot = flow.table.get(stats.name)
            if slot is not None:
                free = slot.skip_reason() is None
                stats = replace(stats, in_flight=slot.in_flight, available=free)
                if slot.learned is not None:
                    width = slot.max_concurrency
                    stats = replace(stats, max_concurrency=width, concurrency_learned=True)
                # The supervisor does not know of a rest: it would say
                # None, or when the breaker is back.
                if slot.buckets:
                    stats = replace(stats, limits=flow.table.headroom.stats(slot, now))
                if slot.rest.until:
                    back_at = slot.back_at()
                    back_in_s = None if back_at is None else max(0.0, back_at - now)
                    stats = replace(stats, health=replace(stats.health, reopens_in_s=back_in_s))
            complete.append(stats)
        fair = flow.room.fair
        by_key = {} if fair is None else fair.waiting()
        return PoolStats(
            self.name,
            strategy=strategy_name(flow.table.strategy),
            members=tuple(complete),
            available=tuple(each.name for each in complete if each.available),
            pending=sum(job.phase not in PLACED for job in flow.jobs.values()),
            in_flight=len(flow.attempts.live),
            waiting_keys=len(by_key),
            waiting_most=max(by_key.values(), default=0),
            draining=flow.endings.closed,
            **flow.endings.counts,
        )

    def _on_subscribe(self, message: Subscribe) -> Any:
        return self.bus.subscribe(message.subscriber)

    # -- the end

    def _on_drain(self, message: Drain) -> Any:
        self._drains.add(self.mailbox.reply_to)
        if message.timeout is not None:
            timeout_s = message.timeout
            when = self.clock.now() + timeout_s
            self.alarms.at(when, lambda: self._drain_timed_out(timeout_s))
        # Before it is closed: what is told of its end comes after.
        self._drains.begin(message.timeout)
        self.flow.endings.close()
        return PENDING

    def _drain_timed_out(self, timeout_s: float) -> None:
        if self.flow.jobs:
            self._drains.timed_out(timeout_s)
            self.flow.fail_all(f"the drain of pool {self.name!r} timed out after {timeout_s:g} s")

    def on_stop(self) -> None:
        super().on_stop()
        self._wind_up(f"pool {self.name!r} was stopped")

    def on_failure(self, *exc_info: Any) -> None:
        super().on_failure(*exc_info)
        self._wind_up(f"pool {self.name!r} failed: {summary(exc_info[1])}")

    def _wind_up(self, reason: str) -> None:
        """Admission has ended; then the members, by way of the supervisor; then the pool itself."""
        jobs = self.flow.jobs
        self._drains.cut_off()
        self.flow.endings.closed = True
        self._drains.failed = self._drains.failed or bool(jobs)
        unfinished = len(jobs)
        self.flow.fail_all(reason)
        self.flow.refills.give_back_leases()
        unfinished -= len(jobs)  # those left have been answered on the spot
        self._drains.done()
        # Before the supervisor ends: what it would still answer would
        # come to a mailbox that nobody reads.
        self._commands.fail_all(PoolStoppedError(reason))
        self._stop_supervisor()
        self.bus.emit(PoolStopped(pool=self.name, unfinished=unfinished))
        pool_names.give_back(self.bus)
        # Last: the end of members and of the pool are events, too.
        self.bus.close()

    def _stop_supervisor(self) -> None:
        if self._supervisor is None:
            return
        try:
            # The only wait of a router: it has nothing else left to do.
            self._supervisor.stop(block=True, timeout=SUPERVISOR_STOP_TIMEOUT_S)
            self._supervisor.join(SUPERVISOR_STOP_TIMEOUT_S)
        except Exception as error:
            self.bus.complain_of("its supervisor did not stop in time", error)


def _send(route: MemberRoute, message: Execute) -> bool:
    """`tell`, as a port; without a call of it, since every request comes this way."""
    ref = route.ref
    if ref is None or ref.actor_stopped.is_set():
        return False
    envelope = enveloped((message, None))
    try:
        ref.actor_inbox.put(envelope)
    except BaseException:  # what lies there would begin some day
        if isinstance(ref.actor_inbox, Mailbox):
            ref.actor_inbox.take_back(envelope)
        raise
    return True


def _cancel(route: MemberRoute, message: CancelExecution) -> bool:
    return route.ref is not None and tell(route.ref, message)


def _answer(job: Job, value: Any, member: str, elapsed_s: float) -> None:
    """Give the asker the answer that its member could not give by itself."""
    reply(job.claim, value, member, elapsed_s)


def _fail(job: Job, error: BaseException) -> bool:
    """Give the asker an error, if there is one who asks."""
    if job.future is None:
        return False
    job.future.resolve(error=error)
    return True
