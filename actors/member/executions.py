"""A member's calls: admitted up to its concurrency; how each has ended is reported."""

from __future__ import annotations

import functools
import itertools
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from greenroom.actors.claims.claims import Claim, reply
from greenroom.actors.claims.local_messages import Collecting, word_of
from greenroom.actors.executors.call import CallPhase
from greenroom.actors.member.agent_host import AgentHost
from greenroom.actors.member.attempt_call import AttemptCall
from greenroom.actors.member.call_outcome import outcome_of, refused, succeeded
from greenroom.actors.member.chunk_writer import ChunkWriter
from greenroom.actors.member.hosted_agent import NOBODY, HostedAgent
from greenroom.actors.member.surroundings import Surroundings, default_concurrency
from greenroom.actors.policy.life_signs import LifeSigns
from greenroom.actors.reading.answer_judgement import SURELY_GOOD
from greenroom.actors.reading.classify import is_lost
from greenroom.actors.reading.stream_judge import emptiness
from greenroom.actors.runtime.call_ancestry import WAIT
from greenroom.actors.runtime.event_bus import complain
from greenroom.actors.runtime.future import PoolFuture
from greenroom.actors.runtime.pool_actor import JoinableRef, hand, tell
from greenroom.messages import _validate as check
from greenroom.messages.errors import (
    MemberCrashedError,
    PoolError,
    ReentrantAskError,
    RequestCancelledError,
    not_begun,
    summary,
)
from greenroom.messages.events import DeadLetter
from greenroom.messages.execution import (
    Abandoned,
    Ancestor,
    CancelExecution,
    Execute,
    Failed,
    LimitsSeen,
    Refused,
    SideEffectsStarted,
    StreamBegun,
    StreamResumed,
    Ticket,
)
from greenroom.messages.member import Member
from greenroom.messages.replies import Reply
from greenroom.messages.requests import ReportMember, Request
from greenroom.messages.status import (
    CancelReason,
    FailureKind,
    RefusalReason,
    ReportedState,
    ReportedStateName,
)

# For the whole process: `next` is one operation, however many members' turns run at once.
_creations = itertools.count(1)

ABANDONED_LIMIT = 10
"""Abandoned calls (or twice the concurrency, if that is more) with which a member is replaced."""


_OURS = (RequestCancelledError, MemberCrashedError)
"""What a call fails by that was told to end: that says nothing of its agent."""


@dataclass(frozen=True, slots=True)
class LostAgent:
    """An agent is gone for good, and how that is known: said once of each."""

    hosted: HostedAgent
    why: str


@dataclass(frozen=True, slots=True)
class AbandonedBy:
    """A call has been abandoned (+1), or an abandoned one has ended (-1)."""

    change: int


@dataclass(frozen=True, slots=True)
class WidthHeard:
    """The agent has heard how many calls it takes at a time."""

    calls: int


class _OwnMember:
    """What an agent may say of its member, for as long as it likes: it holds no call."""

    __slots__ = ("_name", "_router", "_tell_back")

    def __init__(
        self, name: str, router: JoinableRef, tell_back: Callable[[WidthHeard], bool]
    ) -> None:
        self._name = name
        self._router = router
        self._tell_back = tell_back

    def report(
        self, state: ReportedState | ReportedStateName, *, for_s: float | None = None, source: str
    ) -> bool:
        word = ReportMember(self._name, cast(ReportedState, state), for_s=for_s, source=source)
        return tell(self._router, word)

    def takes(self, calls: int) -> bool:
        check.whole("calls", calls, minimum=1)
        return self._tell_back(WidthHeard(calls))


class Executions:
    """The running calls of one incarnation: one for each attempt that the router sends.

    What the router sends comes in the actor's turn; what a call says, from wherever the call runs.

    Args:
        create: has the agent made that the waiting calls are for.
        tell_back: brings a message to the actor, from whichever thread; False after the end.
        give_up: ends the incarnation, which is replaced.

    Attributes:
        limit: how many calls may run at a time.
        waiting: attempts whose agent is still to be made.
        at_rest: called wherever a call has ended, once the incarnation ends, or has a lost agent.
    """

    def __init__(
        self,
        member: Member,
        incarnation: int,
        around: Surroundings,
        host: AgentHost,
        *,
        create: Callable[[], None],
        tell_back: Callable[[AbandonedBy | LostAgent | WidthHeard], bool],
        give_up: Callable[[str], None],
    ) -> None:
        self.incarnation = incarnation
        self.clock = around.clock
        self.claims = around.claims
        self.member_name = member.name
        self._lost, self._remakes = member.lost, member.factory is not None
        self.label = host.name
        self.host = host
        self._create = create
        self._tell_back = tell_back
        self._give_up = give_up
        host.own_member = _OwnMember(member.name, around.router, tell_back)
        self._run_agent = host.run  # bound once: each call holds it
        self._takes_any = around.config.is_failure is None
        self._by_auto = around.config.is_failure == "auto"
        self.configure(around)
        self.limit = default_concurrency(member)
        self.waiting: deque[Execute] = deque()
        # Shared with the executors' threads, which take out what has ended: single dict operations.
        self._calls: dict[Ticket, AttemptCall] = {}
        self.at_rest: Callable[[], object] | None = None
        self._abandoned = 0
        self._creation: Ancestor | None = None

    def configure(self, around: Surroundings) -> None:
        """Go by the settings in there, from the next call on."""
        self.around = around
        self._watches_speed = around.config.circuit_slow_call_s is not None
        limits = (around.config.first_chunk_timeout_s, around.config.chunk_timeout_s)
        self._watches_chunks = limits != (None, None)

    def widen(self, limit: int) -> None:
        """Let so many calls run at a time. Fewer is the router's affair alone: what it had sent by
        then is not refused.
        """
        self.limit = max(self.limit, limit)

    def take(self, message: Execute) -> None:
        """Run an attempt, have it wait for its agent, or refuse it.

        Once it runs the call is answered for: by `finished`, whatever raises on its way.
        """
        host, calls = self.host, self._calls
        if (
            message.incarnation != self.incarnation
            # Only this turn adds to them: there are never more, whichever calls end meanwhile.
            or len(calls) + len(self.waiting) >= self.limit
            or (hosted := host.hosted) is None
        ):
            self._not_now(message)
            return
        try:
            writer = self._writer(message) if message.stream else None
            work = self._run_agent
            if type(message.work) is Request and writer is None and not message.inside:
                executor = host.usual
            else:
                executor = host.executor_for(message)
                if executor is host.callers:
                    work = host.lend
            call = AttemptCall(self, work, executor, message, writer, hosted)
        except BaseException as error:
            self.refuse(message, RefusalReason.NO_RESOURCES, not_begun(self.label, error))
            return
        # First: it may have ended, and been taken out, before the next line returns.
        calls[call.ticket] = call
        if message.inside:  # once more: from now on who waits in the loop's thread sees this call
            call.executor = executor = host.executor_for(message)
        try:
            executor.run(call)
        except BaseException as error:
            call.broke(error)

    def _not_now(self, message: Execute) -> None:
        """It waits for its agent, or cannot be run."""
        if message.incarnation != self.incarnation:
            self.refuse(message, RefusalReason.STALE_INCARNATION)
        elif len(self._calls) + len(self.waiting) >= self.limit:
            self.refuse(message, RefusalReason.SATURATED)
        else:
            if self._creation is not None and self._creation in message.inside:
                why = f"the factory of {self.member_name!r} asked for {message.request_id}, which"
                error = ReentrantAskError(f"{why} would wait for the agent that it makes")
                self.refuse(message, RefusalReason.STOPPING, error)
                return
            self.waiting.append(message)
            self._create()

    def begin_creation(self) -> tuple[Ancestor, ...]:
        """A factory is asked: what it asks for, it asks for from inside of these calls. The last
        one is no call, but its own mark: no agent can be waited for by what makes it.
        """
        urn = self.around.router.actor_urn
        waiting = [(urn, (each.request_id, each.attempt)) for each in self.waiting]
        inside = self.waiting[0].inside if self.waiting else ()
        self._creation = (urn, (WAIT, -next(_creations)))
        return (*inside, *waiting, self._creation)

    def put_back(self, call: AttemptCall) -> None:
        """In the actor's turn: it cannot begin with the agent that there was; another one is made
        for it.
        """
        self._calls.pop(call.ticket, None)
        if call.drop():
            # It was taken out for this call, which has not begun.
            object.__setattr__(call.message, "context", call.context)
            self.take(call.message)

    def _writer(self, message: Execute) -> ChunkWriter:
        """The producer's end of the stream that is asked for."""
        around, name = self.around, self.member_name

        def accept(answer: Any) -> None:
            error = refused(around.config, name, answer, around.clock.wall())
            if error is not None:
                raise error

        return ChunkWriter(
            (message.request_id, message.attempt),
            name,
            around.claims,
            around.clock,
            around.config,
            begun=functools.partial(self._stream_begun, message),
            resumed=functools.partial(self._stream_resumed, message),
            accept=accept,
        )

    def finished(self, call: AttemptCall, value: Any, error: BaseException | None) -> None:
        """Runs wherever the call ended: the slot is free, the router and the asker are told.

        The router comes first, so that whatever the asker sends next finds its books in order.
        """
        try:
            # Seen here at a glance, without a call: nearly all that comes is a good answer.
            kind, writer = type(value), call.writer
            good = self._takes_any or (
                self._by_auto and (kind in SURELY_GOOD or (kind is str and "<" not in value[:64]))
            )
            report = None
            if (
                not good
                or error is not None
                or writer is not None
                or call.collected
                or call.phase is not CallPhase.ENDED
            ):
                report = outcome_of(self.around, self.member_name, call, value, error)
            # Before the report: the router may send the next attempt on reading it, from this very
            # thread, and it must not be refused for want of a slot.
            self._calls.pop(call.ticket, None)
            if call.phase is CallPhase.ABANDONED:
                self._tell_back(AbandonedBy(1))
            if report is None:
                self._answer(call, value)
            elif isinstance(report, Failed) and call.executor is not self.host.callers:
                # Its request may go on from here to the next member: not in a thread of the app's.
                hand(self.around.router, self._heed(call, report))
            elif isinstance(report, Failed):
                tell(self.around.router, self._heed(call, report))
            else:
                tell(self.around.router, report)
            if writer is not None:
                writer.release()
            # Last: the agent may be closed in there.
            if self.at_rest is not None:
                self.at_rest()
        except BaseException as raised:
            self.unreported(call, raised)
            if call.executor is self.host.callers:  # a Ctrl-C in a thread of the app's
                raise

    def _answer(self, call: AttemptCall, value: Any) -> None:
        """The call has brought an answer, or its stream to the end: whoever asks has it from here,
        unless somebody else answers.

        Nobody waits for the router to hear of it, unless something hangs on it; then it hears all
        about it.
        """
        router, writer, wanted = self.around.router, call.writer, False
        now = self.clock.now()
        if call.cancelled is not None:  # it was given up; its ticket may be another request's now
            claim = None
        elif writer is not None and writer.first_chunk_s is not None:
            claim = writer.finish()
        else:
            claim = self.around.claims.claim(call.ticket)
        if (
            claim is None
            or claim.trial
            or claim.race is not None
            or writer is not None
            or call.told
            or self._watches_speed
            or self.around.bus.listening()
        ):
            tell(router, succeeded(call, self.member_name, value, now))
        elif not router.actor_stopped.is_set():
            elapsed_s = now - call.started_at
            wanted = router.actor_inbox.leave(word_of((claim.attempt, elapsed_s)))
        # After the report, which the router reads before whatever the asker sends next.
        if claim is not None:
            if call.metadata is not None:
                claim.metadata = call.metadata
            try:
                future = claim.future
                if future is None or claim.channel is not None:
                    reply(claim, value, self.member_name, now - claim.accepted_at)
                else:  # as there, without the call
                    future.resolve(
                        Reply(
                            value,
                            member=self.member_name,
                            attempts=claim.attempts,
                            elapsed_s=now - claim.accepted_at,
                            request_id=claim.request_id,
                            errors=claim.errors,
                            metadata=claim.metadata,
                        )
                    )
            except BaseException as raised:
                self._not_answered(claim, raised)
                if call.executor is self.host.callers:  # see `finished`
                    raise
        # After the answer: its asker does not wait until this thread has done the router's part.
        if wanted:  # others wait for the slot that is free now
            router.actor_inbox.serve()

    def _heed(self, call: AttemptCall, report: Failed) -> Failed:
        """What a failure says of the agent itself, before the router hears of it: what that sends
        on reading the report shall find another one. And what it says of the member, where its
        agent is known to be gone.
        """
        hosted, told_off = call.hosted, call.cancelled not in (None, CancelReason.ATTEMPT_TIMEOUT)
        if hosted is NOBODY or (told_off and isinstance(report.error, _OURS)):
            return report
        lost, known = is_lost(report.error, self._lost), hosted.lost
        if lost and not known and hosted.lose():
            self._tell_back(LostAgent(hosted, summary(report.error)))
            return replace(report, same_member_may_mend=self._remakes)
        if known or lost:  # others that were with it have failed by the same
            counts = report.kind.counts_for_breaker and not report.opens_at_once
            kind = FailureKind.INTERRUPTED if counts else report.kind
            return replace(report, kind=kind, same_member_may_mend=self._remakes and counts)
        if report.kind.counts_for_breaker:
            hosted.disconnected = type(report.error).__name__ if report.disconnected else ""
        return report

    def unreported(self, call: AttemptCall, raised: BaseException) -> None:
        """The report of a call's end has failed, which no slot, no asker and no breaker may pay
        for. Where it had got as far as the router, this one is of an attempt that is over.
        """
        complain(f"the end of {call.name} could not be reported", raised)
        self._calls.pop(call.ticket, None)
        error = PoolError(f"the end of a call of {self.member_name} raised {summary(raised)}")
        report = Failed(
            member=self.member_name,
            incarnation=self.incarnation,
            request_id=call.message.request_id,
            attempt=call.message.attempt,
            error=error,
            kind=FailureKind.INTERRUPTED,
            elapsed_s=max(0.0, self.clock.now() - call.started_at),
            side_effects=call.side_effects,
            spent=call.spent,
        )
        tell(self.around.router, report)
        if call.writer is not None:
            call.writer.release()
        if self.at_rest is not None:
            self.at_rest()

    def not_taken(self, message: Execute, error: BaseException) -> None:
        """`take` has raised: the attempt has not begun, or ends by that."""
        complain(f"{self.label} failed to begin {message.request_id}", error)
        call = self._calls.get((message.request_id, message.attempt))
        if call is not None:
            call.broke(error)
            return
        self.waiting = deque(each for each in self.waiting if each is not message)
        self.refuse(message, RefusalReason.NO_RESOURCES, not_begun(self.label, error))

    def _not_answered(self, claim: Claim, raised: BaseException) -> None:
        """An answer that has been claimed could not be given, and nobody else will give one: so
        whoever asks has the error here and now.
        """
        complain(f"the answer to {claim.request_id} could not be given", raised)
        if claim.future is not None:
            what = f"the answer of {self.member_name} to {claim.request_id} raised"
            error = PoolError(f"{what} {summary(raised)}")
            claim.future.resolve(error=error)
            if claim.channel is not None and not claim.channel.ended:
                claim.channel.end(error)

    def _stream_begun(self, message: Execute, first_chunk_s: float) -> None:
        self._report(StreamBegun, message, first_chunk_s=first_chunk_s)

    def _stream_resumed(self, message: Execute) -> None:
        self._report(StreamResumed, message)

    def _report(self, kind: Callable[..., Any], message: Execute, **more: Any) -> None:
        """Tell the router something of that kind about an attempt."""
        about = kind(
            member=self.member_name,
            incarnation=self.incarnation,
            request_id=message.request_id,
            attempt=message.attempt,
            **more,
        )
        tell(self.around.router, about)

    def side_effects_start(self, call: AttemptCall) -> None:
        """Runs where the agent runs: nobody may repeat the attempt from here on."""
        claims = self.around.claims
        streamed = None if call.writer is None else call.writer.claim
        started = streamed is None and claims.start_side_effects(call.ticket)
        if not started and call.writer is not None:  # it has begun its stream, maybe just now
            streamed = call.writer.claim
        if streamed is not None:
            started = claims.start_side_effects_in_stream(call.ticket, streamed)
        if not started:
            raise RequestCancelledError(f"{call.name} has been given up")
        self._report(SideEffectsStarted, call.message)

    def alive(self, call: AttemptCall) -> None:
        """Runs where the agent runs, as often as the agent likes; of a pool as an agent, in that of
        the inner one's, while this one's may be passing on a first chunk.
        """
        writer, claims = call.writer, self.around.claims
        streamed = None if writer is None else writer.claim
        claim = streamed or claims.look(call.ticket)
        if claim is None and writer is not None:
            # Neither open nor begun: it has been given up, or it is in the middle of
            # `Claims.begin`. Whoever begins is through after this, and the next look tells the one
            # from the other.
            claims.let_begin()
            claim = streamed = writer.claim
        if claim is None or (streamed is not None and writer is not None and not writer.wanted()):
            raise RequestCancelledError(f"{call.name} has been given up")
        if call.life_signs is None and self._watches_chunks:
            call.life_signs = LifeSigns(call.started_at)
        if call.life_signs is not None:
            call.life_signs.alive_at = self.clock.now()
        if claim.future is not None:
            claim.future.on_alive()

    def limits_seen(
        self, call: AttemptCall, cost: str, remaining: int, resets_in_s: float, whole: int | None
    ) -> None:
        """Runs where the agent runs. At once, not with the end of the call: a stream may go on for
        minutes after its provider's headers, and others are sent there meanwhile.
        """
        asker = self._asker_of(call)
        if asker is not None:
            asker.on_limits(cost, remaining, resets_in_s, whole)
        self._report(
            LimitsSeen,
            call.message,
            cost=cost,
            remaining=remaining,
            resets_in_s=resets_in_s,
            at=self.clock.now(),
            whole=whole,
        )

    def spent(self, call: AttemptCall, took: Mapping[str, int]) -> None:
        """Runs where the agent runs: whoever asks may want to know at once."""
        asker = self._asker_of(call)
        if asker is not None:
            asker.on_spent(took)

    def _asker_of(self, call: AttemptCall) -> PoolFuture[Any] | None:
        streamed = None if call.writer is None else call.writer.claim
        claim = streamed or self.around.claims.look(call.ticket)
        return None if claim is None else claim.future

    def collecting(self, call: AttemptCall) -> Callable[[Any], object] | None:
        """Runs where the agent runs, as what it tells of does: the router watches from here on that
        the agent of an ask does not keep quiet for longer than that of a stream may.
        """
        if not self._watches_chunks:
            return None
        message = call.message
        life_signs = call.life_signs = call.life_signs or LifeSigns(call.started_at)
        is_empty = emptiness(self.around.config)

        def heard(chunk: Any) -> None:
            # Read without the guard: a chunk of that very moment is heard, the next one is not.
            if call.cancelled not in (None, CancelReason.STOPPING):  # its end may answer still
                raise RequestCancelledError(f"{call.name} has been given up: {call.cancelled}")
            if not is_empty(chunk):
                life_signs.since = self.clock.now()
                if not life_signs.counts:
                    life_signs.counts = True
                    self._stream_resumed(message)

        self._report(Collecting, message, life_signs=life_signs)
        return heard

    def refuse(
        self, message: Execute, reason: RefusalReason, error: BaseException | None = None
    ) -> None:
        """Send an attempt back that has not begun."""
        self._report(Refused, message, reason=reason, error=error)

    def runs(self, message: Execute) -> bool:
        """Whether an attempt holds a slot."""
        return (message.request_id, message.attempt) in self._calls

    def uses(self, hosted: HostedAgent) -> bool:
        """Whether a call runs on that agent, or is to."""
        return any(call.hosted is hosted for call in self.running())

    def running(self) -> list[AttemptCall]:
        """The calls that hold a slot, with an agent to run."""
        return list(self._calls.values())

    def cancel(self, message: CancelExecution) -> bool:
        """Give an attempt up; whether it had an agent to run."""
        # It may end in its own thread right now: by its phase its end is reported once.
        call = self._calls.get((message.request_id, message.attempt))
        if call is not None:
            call.cancel(message.reason)
            return True
        for waiting in self.waiting:
            if (waiting.request_id, waiting.attempt) == (message.request_id, message.attempt):
                self.waiting.remove(waiting)
                self.refuse(waiting, RefusalReason.STOPPING)
                break
        return False

    def ended_late(self, call: AttemptCall) -> None:
        """Runs in a thread that was given up on: its call has ended after all."""
        if self._tell_back(AbandonedBy(-1)) and call.cancelled is not CancelReason.LOST_RACE:
            self.around.bus.emit(
                DeadLetter(
                    pool=self.around.pool,
                    member=self.member_name,
                    request_id=call.message.request_id,
                    reason="a call ended long after its time was over; its result is lost",
                )
            )

    def abandoned_by(self, message: AbandonedBy) -> None:
        """Count what runs on though nobody waits for it: with too much of that it is replaced."""
        # In the actor's turn: calls end in many threads, and each brings its change as a message.
        count = self._abandoned = self._abandoned + message.change
        name, supervisor = self.member_name, self.around.supervisor
        tell(supervisor, Abandoned(member=name, incarnation=self.incarnation, count=count))
        if count >= max(ABANDONED_LIMIT, 2 * self.limit):
            self._give_up(f"{count} calls were given up on and have not ended")
