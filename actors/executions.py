"""A member's calls: it admits them up to its concurrency, and reports how each has ended."""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from greenroom.actors.base import tell
from greenroom.actors.calls import Call, Phase
from greenroom.actors.desk import reply
from greenroom.actors.host import AgentHost
from greenroom.actors.inline import InlineActor
from greenroom.actors.jobs import Job
from greenroom.actors.lending import hand
from greenroom.actors.mailbox import Letter
from greenroom.actors.outcome import outcome_of, refused
from greenroom.actors.surroundings import Surroundings, default_concurrency
from greenroom.actors.writer import ChunkWriter
from greenroom.messages.errors import RequestCancelledError
from greenroom.messages.events import DeadLetter
from greenroom.messages.execution import (
    Abandoned,
    CancelExecution,
    Execute,
    Failed,
    Refused,
    SideEffectsStarted,
    StreamBegun,
    StreamResumed,
    Succeeded,
    Ticket,
)
from greenroom.messages.member import Member
from greenroom.messages.status import CancelReason, RefusalReason

ABANDONED_LIMIT = 10
"""Abandoned calls (or twice the concurrency, if that is more) with which a member is replaced."""


@dataclass(frozen=True, slots=True)
class AbandonedBy:
    """A call has been abandoned (+1), or an abandoned one has ended (-1)."""

    change: int


class Executions(InlineActor):
    """The lower floor of a member actor: one call for each attempt that the router sends."""

    def __init__(self, member: Member, incarnation: int, around: Surroundings) -> None:
        super().__init__(around.clock)
        self.member = member
        self.incarnation = incarnation
        self.around = around
        name = f"greenroom-{around.pool}-{member.name}"
        self.host = AgentHost(member, name, around.clock, around.loop)
        self._limit = default_concurrency(member)
        self._waiting: deque[Execute] = deque()
        # Shared with the places' threads, which take out what has ended: single dict operations.
        self._calls: dict[Ticket, Call] = {}
        self._abandoned = 0
        self._reason: str | None = None
        self.handlers.update(
            {
                Execute: self._on_execute,
                CancelExecution: self._on_cancel,
                AbandonedBy: self._on_abandoned_by,
            }
        )

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
            tell(self.actor_ref, AbandonedBy(1))
        # One that was given up has been claimed, and its ticket may be another request's by now.
        answers = isinstance(report, Succeeded) and call.cancelled is None
        job = self._claim(ticket, writer) if answers else None
        if job is None:
            self._tell_unanswered(report)
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
        self._report(StreamBegun, message, first_chunk_s=first_chunk_s)

    def _stream_resumed(self, message: Execute) -> None:
        self._report(StreamResumed, message)

    def _report(self, kind: Callable[..., Any], message: Execute, **more: Any) -> None:
        """Tell the router something of that kind about an attempt."""
        about = kind(
            member=self.member.name,
            incarnation=self.incarnation,
            request_id=message.request_id,
            attempt=message.attempt,
            **more,
        )
        tell(self.around.router, about)

    def _tell_unanswered(self, report: Any) -> None:
        """After a failure the request may go on from here to its next member, unless the router has
        something to tell on the way: who reads its events may be slow.
        """
        if isinstance(report, Failed) and not self.around.bus.listening("CRITICAL"):
            hand(self.around.router, report)
        else:
            tell(self.around.router, report)

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
        self._report(SideEffectsStarted, message)

    def _refuse(
        self, message: Execute, reason: RefusalReason, error: BaseException | None = None
    ) -> None:
        self._report(Refused, message, reason=reason, error=error)

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
        if message.reason is CancelReason.ATTEMPT_TIMEOUT:
            self._creation_timed_out()

    def _ended_late(self, request_id: str, call: Call) -> None:
        """Runs in a thread that was given up on: its call has ended after all."""
        if tell(self.actor_ref, AbandonedBy(-1)) and call.cancelled is not CancelReason.LOST_RACE:
            self.around.bus.emit(
                DeadLetter(
                    pool=self.around.pool,
                    member=self.member.name,
                    request_id=request_id,
                    reason="a call ended long after its time was over; its result is lost",
                )
            )

    def _on_abandoned_by(self, message: AbandonedBy) -> None:
        self._abandoned += message.change
        self._tell_supervisor(
            Abandoned(member=self.member.name, incarnation=self.incarnation, count=self._abandoned)
        )
        if self._abandoned >= max(ABANDONED_LIMIT, 2 * self._limit) and self._reason is None:
            self._reason = f"{self._abandoned} calls were given up on and have not ended"
            self.stop()

    def _tell_supervisor(self, message: Any) -> None:
        tell(self.around.supervisor, message)

    @abstractmethod
    def _create(self) -> None:
        """Have the agent made that the waiting calls are for."""

    @abstractmethod
    def _creation_timed_out(self) -> None:
        """The time of a call is over that waits for the agent to be made."""
