"""The member actor: owns one agent, admits calls up to its concurrency, reports how each ended."""

from __future__ import annotations

import functools
from collections import deque
from dataclasses import dataclass
from typing import Any

from greenroom.actors import agents
from greenroom.actors.base import tell
from greenroom.actors.calls import Call, Phase
from greenroom.actors.clock import Clock
from greenroom.actors.desk import Desk, reply
from greenroom.actors.eventbus import EventBus
from greenroom.actors.host import AgentHost
from greenroom.actors.inline import InlineActor
from greenroom.actors.jobs import Job
from greenroom.actors.loopthread import LoopThread
from greenroom.actors.mailbox import Letter
from greenroom.actors.outcome import outcome_of, refused
from greenroom.actors.writer import ChunkWriter
from greenroom.messages.config import PoolConfig
from greenroom.messages.errors import RequestCancelledError, summary
from greenroom.messages.events import DeadLetter
from greenroom.messages.execution import (
    Abandoned,
    CancelExecution,
    Execute,
    Refused,
    SideEffectsStarted,
    StreamBegun,
    StreamResumed,
    Succeeded,
    Ticket,
)
from greenroom.messages.member import Member
from greenroom.messages.status import CancelReason, RefusalReason
from greenroom.messages.supervision import (
    ActorEnded,
    AgentCreated,
    AgentCreateFailed,
    CancelProbe,
    Leave,
    Probe,
    ProbeResult,
)

SYNC_CONCURRENCY = 1
ASYNC_CONCURRENCY = 100
ABANDONED_LIMIT = 10
"""Abandoned calls (or twice the concurrency, if that is more) with which a member is replaced."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the members of a pool are given to work with."""

    pool: str
    config: PoolConfig
    clock: Clock
    router: Any
    supervisor: Any
    bus: EventBus
    loop: LoopThread
    desk: Desk


@dataclass(frozen=True, slots=True)
class LoopSilent:
    """The supervisor's word that the member's loop has stalled."""


@dataclass(frozen=True, slots=True)
class LoopLost:
    """The supervisor's word that the member's loop has been given up.

    Attributes:
        fresh: the loop to go on with; None: the agent cannot leave the lost one, and so the actor
            ends: with `reason`, or to be told to `Leave` if that is None.
        guilty: whether it was this member that blocked the loop.
    """

    fresh: LoopThread | None = None
    reason: str | None = None
    guilty: bool = False


@dataclass(frozen=True, slots=True)
class _Made:
    """The factory's answer, told by the place to the actor."""

    number: int
    agent: Any
    error: BaseException | None


@dataclass(frozen=True, slots=True)
class _AbandonedBy:
    """A call has been abandoned (+1), or an abandoned one has ended (-1)."""

    change: int


def default_concurrency(member: Member) -> int:
    """`max_concurrency`, or what it is by default: 100 for an async agent, 1 for any other."""
    if member.max_concurrency is not None:
        return member.max_concurrency
    runner = agents.runner_of(member.agent, member.method) if member.factory is None else None
    return ASYNC_CONCURRENCY if runner is not None and runner.is_async else SYNC_CONCURRENCY


def needs_loop(member: Member) -> bool:
    """Whether an event loop runs its agent, or makes it: as far as is known before it is made."""
    if member.factory is not None:
        return agents.is_async(member.factory)
    runner = agents.runner_of(member.agent, member.method)
    return runner is not None and runner.is_async


class AgentActor(InlineActor):
    """One incarnation of a member. It never retries, never picks, and runs no user code itself."""

    def __init__(self, member: Member, incarnation: int, around: Surroundings) -> None:
        super().__init__(around.clock)
        self.member = member
        self.incarnation = incarnation
        self.around = around
        name = f"greenroom-{around.pool}-{member.name}"
        self.host = AgentHost(member, name, around.clock, around.loop)
        self._limit = default_concurrency(member)
        self._creations = 0
        self._creating: int | None = None
        self._waiting: deque[Execute] = deque()
        self._waiting_probes: list[Probe] = []
        self._probes: dict[int, Call] = {}
        # Shared with the places' threads, which take out what has ended: single dict operations.
        self._calls: dict[Ticket, Call] = {}
        self._abandoned = 0
        self._leaving = False
        self._reason: str | None = None
        self._blameless = False
        self.handlers.update(
            {
                Execute: self._on_execute,
                CancelExecution: self._on_cancel,
                Probe: self._on_probe,
                CancelProbe: self._on_cancel_probe,
                LoopSilent: self._on_loop_silent,
                LoopLost: self._on_loop_lost,
                Leave: self._on_leave,
                _Made: self._on_made,
                _AbandonedBy: self._on_abandoned_by,
            }
        )

    # -- calls

    def _on_execute(self, message: Execute) -> None:
        if message.incarnation != self.incarnation:
            self._refuse(message, RefusalReason.STALE_INCARNATION)
        elif len(self._calls) + len(self._waiting) >= self._limit:
            self._refuse(message, RefusalReason.SATURATED)
        elif not self.host.made:
            self._waiting.append(message)
            self._create()
        else:
            self._run(message)

    def _run(self, message: Execute) -> None:
        writer = self._writer(message) if message.stream else None
        call, start = self.host.execute(
            message,
            functools.partial(self._finished, message, writer),
            functools.partial(self._ended_late, message.request_id),
            functools.partial(self._start_side_effects, message, writer),
            writer,
        )
        self._calls[message.request_id, message.attempt] = call
        start()

    def _writer(self, message: Execute) -> ChunkWriter:
        """The producer's end of the stream that is asked for."""
        around, name = self.around, self.member.name

        def accept(answer: Any) -> None:
            error = refused(around.config, name, answer)
            if error is not None:
                raise error

        return ChunkWriter(
            (message.request_id, message.attempt),
            name,
            around.desk,
            around.clock,
            around.config,
            begun=functools.partial(self._stream_begun, message),
            resumed=functools.partial(self._stream_resumed, message),
            accept=accept,
        )

    def _finished(
        self,
        message: Execute,
        writer: ChunkWriter | None,
        call: Call,
        value: Any,
        error: BaseException | None,
    ) -> None:
        """Runs wherever the call ended: the slot is free, the router and the asker are told.

        The router comes first, so that whatever the asker sends next finds its books in order.
        """
        ticket = (message.request_id, message.attempt)
        report = outcome_of(self.around, self.member.name, message, call, value, error, writer)
        self._calls.pop(ticket, None)
        if call.phase is Phase.ABANDONED:
            tell(self.actor_ref, _AbandonedBy(1))
        # One that was given up has been claimed, and its ticket may be another request's by now.
        answers = isinstance(report, Succeeded) and call.cancelled is None
        job = self._claim(ticket, writer) if answers else None
        if job is None:
            tell(self.around.router, report)
        else:
            self._tell_answered(report, job)
            reply(job, value, self.member.name, self.clock.now() - job.accepted_at)
        if writer is not None:
            writer.release()

    def _claim(self, ticket: Ticket, writer: ChunkWriter | None) -> Job | None:
        """The request to answer; None if somebody else does. A stream that has begun is one's own
        until somebody ends it.
        """
        if writer is None or writer.first_chunk_s is None:
            return self.around.desk.claim(ticket)
        return writer.finish()

    def _stream_begun(self, message: Execute, first_chunk_s: float) -> None:
        tell(
            self.around.router,
            StreamBegun(
                member=self.member.name,
                incarnation=self.incarnation,
                request_id=message.request_id,
                attempt=message.attempt,
                first_chunk_s=first_chunk_s,
            ),
        )

    def _stream_resumed(self, message: Execute) -> None:
        tell(
            self.around.router,
            StreamResumed(
                member=self.member.name,
                incarnation=self.incarnation,
                request_id=message.request_id,
                attempt=message.attempt,
            ),
        )

    def _tell_answered(self, report: Any, job: Job) -> None:
        """Nobody waits for the router to hear of a success, unless something hangs on it."""
        router = self.around.router
        attempt = job.attempt_of((report.request_id, report.attempt))
        decides = attempt is None or attempt.trial or self.around.config.circuit_slow_call_s
        decides = decides or job.race is not None or job.channel is not None
        if decides or self.around.bus.listening():
            tell(router, report)
        elif not router.actor_stopped.is_set():
            router.actor_inbox.put_aside(Letter(report))

    def _start_side_effects(self, message: Execute, writer: ChunkWriter | None, call: Call) -> None:
        call.start_side_effects()
        if writer is not None and writer.first_chunk_s is not None:
            if not writer.wanted():
                raise RequestCancelledError(f"{call.name} has been given up")
            return  # nothing that has begun to stream is repeated
        if not self.around.desk.start_side_effects((message.request_id, message.attempt)):
            raise RequestCancelledError(f"{call.name} has been given up")
        tell(
            self.around.router,
            SideEffectsStarted(
                member=self.member.name,
                incarnation=self.incarnation,
                request_id=message.request_id,
                attempt=message.attempt,
            ),
        )

    def _refuse(
        self, message: Execute, reason: RefusalReason, error: BaseException | None = None
    ) -> None:
        tell(
            self.around.router,
            Refused(
                member=self.member.name,
                incarnation=self.incarnation,
                request_id=message.request_id,
                attempt=message.attempt,
                reason=reason,
                error=error,
            ),
        )

    def _on_cancel(self, message: CancelExecution) -> None:
        call = self._calls.get((message.request_id, message.attempt))
        if call is not None:
            call.cancel(message.reason)
            return
        for waiting in self._waiting:
            if (waiting.request_id, waiting.attempt) == (message.request_id, message.attempt):
                self._waiting.remove(waiting)
                self._refuse(waiting, RefusalReason.STOPPING)
                break
        timed_out = message.reason is CancelReason.ATTEMPT_TIMEOUT
        if timed_out and not self._waiting and not self._waiting_probes:
            self._creating = None  # the factory has had its time: what it still makes is closed

    def _ended_late(self, request_id: str, call: Call) -> None:
        """Runs in a thread that was given up on: its call has ended after all."""
        if tell(self.actor_ref, _AbandonedBy(-1)) and call.cancelled is not CancelReason.LOST_RACE:
            self.around.bus.emit(
                DeadLetter(
                    pool=self.around.pool,
                    member=self.member.name,
                    request_id=request_id,
                    reason="a call ended long after its time was over; its result is lost",
                )
            )

    def _on_abandoned_by(self, message: _AbandonedBy) -> None:
        self._abandoned += message.change
        self._tell_supervisor(
            Abandoned(member=self.member.name, incarnation=self.incarnation, count=self._abandoned)
        )
        if self._abandoned >= max(ABANDONED_LIMIT, 2 * self._limit) and self._reason is None:
            self._reason = f"{self._abandoned} calls were given up on and have not ended"
            self.stop()

    # -- the agent

    def _create(self) -> None:
        if self._creating is None:
            self._creations += 1
            self._creating = self._creations
            self.host.create(functools.partial(self._created, self._creating))

    def _created(self, number: int, _: Call, agent: Any, error: BaseException | None) -> None:
        """Runs in the agent's place."""
        if not tell(self.actor_ref, _Made(number, agent, error)) and error is None:
            self.host.close_agent(agent)

    def _on_made(self, made: _Made) -> None:
        if made.number != self._creating:
            if made.error is None:
                self.host.close_agent(made.agent)
            return
        self._creating = None
        waiting, self._waiting = self._waiting, deque()
        probes, self._waiting_probes = self._waiting_probes, []
        if made.error is None:
            self._adopt(made.agent)
            for message in waiting:
                self._run(message)
            for probe in probes:
                self._on_probe(probe)
            return
        why = summary(made.error)
        self._tell_supervisor(
            AgentCreateFailed(member=self.member.name, incarnation=self.incarnation, error=why)
        )
        for message in waiting:
            self._refuse(message, RefusalReason.CREATE_FAILED, made.error)
        for probe in probes:
            self._probe_ended(probe, 0.0, f"creating the agent failed: {why}")

    def _adopt(self, agent: Any) -> None:
        self.host.adopt(agent)
        if self.member.max_concurrency is None and self.host.is_async:
            self._limit = ASYNC_CONCURRENCY
        self._tell_supervisor(
            AgentCreated(
                member=self.member.name,
                incarnation=self.incarnation,
                max_concurrency=self._limit,
                is_async=self.host.is_async,
            )
        )

    # -- probes

    def _on_probe(self, message: Probe) -> None:
        if self.host.made:
            finish = functools.partial(self._probe_finished, message)
            self._probes[message.probe_id] = self.host.probe(finish, self._probe_ended_late)
        elif message.create:
            self._waiting_probes.append(message)
            self._create()
        else:
            self._probe_ended(message, 0.0, None, skipped=True)

    def _probe_finished(
        self, message: Probe, call: Call, value: Any, error: BaseException | None
    ) -> None:
        """Runs wherever the probe ended."""
        if call.phase is Phase.ABANDONED:
            tell(self.actor_ref, _AbandonedBy(1))
        if call.cancelled is not None:
            return
        why = summary(error) if error is not None else None
        if error is None and value is False:
            why = "the probe returned False"
        self._probe_ended(message, self.clock.now() - call.started_at, why)

    def _probe_ended_late(self, _: Call) -> None:
        tell(self.actor_ref, _AbandonedBy(-1))

    def _probe_ended(
        self, message: Probe, elapsed_s: float, error: str | None, skipped: bool = False
    ) -> None:
        self._tell_supervisor(
            ProbeResult(
                member=self.member.name,
                incarnation=self.incarnation,
                probe_id=message.probe_id,
                ok=error is None,
                elapsed_s=elapsed_s,
                skipped=skipped,
                error=error,
            )
        )
        self._probes.pop(message.probe_id, None)

    def _on_cancel_probe(self, message: CancelProbe) -> None:
        self._waiting_probes = [p for p in self._waiting_probes if p.probe_id != message.probe_id]
        call = self._probes.pop(message.probe_id, None)
        if call is not None:
            call.cancel(CancelReason.ATTEMPT_TIMEOUT)

    # -- a loop that does not answer

    def _on_loop_silent(self, _: LoopSilent) -> None:
        """What was cancelled there, and cannot be, must not keep its slot for as long."""
        for call in list(self._calls.values()):
            if call.place is self.host.loop and call.cancelled is not None:
                call.cancel(call.cancelled)

    def _on_loop_lost(self, message: LoopLost) -> None:
        why = CancelReason.STOPPING if message.guilty else CancelReason.LOOP_LOST
        self.host.leave_loop([*self._calls.values(), *self._probes.values()], why)
        if message.fresh is not None:
            self.host.move_to(message.fresh)
        elif message.reason is not None and self._reason is None:
            self._reason = message.reason
            self._blameless = not message.guilty
            self.stop()

    # -- the end

    def _on_leave(self, _: Leave) -> None:
        self._leaving = True
        self.stop()

    def on_stop(self) -> None:
        super().on_stop()
        self._end(self._reason)

    def on_failure(self, *exc_info: Any) -> None:
        super().on_failure(*exc_info)
        self._end(summary(exc_info[1]))

    def _end(self, error: str | None) -> None:
        """Give back what never started, cancel what runs, close the agent, say goodbye.

        Nothing waits here. A crash is reported at once; an end that was asked for is reported
        when the agent has been closed.
        """
        for message in self._waiting:
            self._refuse(message, RefusalReason.STOPPING)
        for call in [*self._calls.values(), *self._probes.values()]:
            call.cancel(CancelReason.STOPPING)
        goodbye = ActorEnded(
            member=self.member.name,
            incarnation=self.incarnation,
            expected=self._leaving,
            error=error,
            blameless=self._blameless,
        )
        if not self._leaving:
            self._tell_supervisor(goodbye)

        def closed() -> None:
            self.host.release()
            if self._leaving:
                self._tell_supervisor(goodbye)
            self.ended.set()

        if self._leaving or self.member.factory is not None:
            self.host.close_agent(then=closed)
        else:
            closed()  # an agent that was handed over ready is the next incarnation's, too

    def join(self, timeout_s: float) -> None:
        self.host.join(timeout_s)

    def on_undelivered(self, message: Any) -> None:
        """An attempt that comes after the end has provably not started."""
        if isinstance(message, Execute):
            self._refuse(message, RefusalReason.STOPPING)

    def _tell_supervisor(self, message: Any) -> None:
        tell(self.around.supervisor, message)
