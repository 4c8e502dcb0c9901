"""Attempts: what members report of them, and what is done about those that do not report."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from greenroom.actors.base import tell
from greenroom.actors.clock import paused_at
from greenroom.actors.desk import reply
from greenroom.actors.jobs import Answered, Attempt, Collecting, Job
from greenroom.actors.pauses import excuses
from greenroom.actors.table import Slot
from greenroom.actors.trials import Trials
from greenroom.messages.errors import AttemptTimeoutError, MemberCrashedError, PoolError
from greenroom.messages.execution import (
    Failed,
    Refused,
    SideEffectsStarted,
    StreamBegun,
    StreamResumed,
    Succeeded,
)
from greenroom.messages.status import CancelReason, FailureKind, RefusalReason, SkipReason
from greenroom.messages.supervision import MemberDrained

FromMember = (
    Succeeded | Failed | Refused | SideEffectsStarted | StreamBegun | StreamResumed | Collecting
)


class Attempts(Trials):
    """Takes in what members report, and times out those that do not.

    Whoever ends a live attempt takes it from the desk first: where that fails, the asker has just
    been answered on the spot, and the member's report is on its way.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.handlers.update(
            {
                Answered: self._on_answered,
                Succeeded: self._on_succeeded,
                Failed: self._on_failed,
                Refused: self._on_refused,
                SideEffectsStarted: self._on_side_effects,
            }
        )

    def _on_answered(self, message: Answered) -> None:
        """The usual end of a request, all of it in one place: it runs for every request that goes
        well, and each call that it does without can be measured. What is special about an attempt
        comes as `Succeeded`.
        """
        attempt, elapsed_s = message.attempt, message.elapsed_s
        job = attempt.job
        if self._attempts.get(attempt.ticket) is not attempt:
            return
        if job is None:
            self._release(attempt)
            return
        ended_at = attempt.started_at + elapsed_s
        table = self._table
        slot = table.get(attempt.member)
        stands = slot is not None and slot.route.incarnation == attempt.incarnation
        if slot is not None and stands:
            slot.give_back()
        del self._attempts[attempt.ticket]  # from here on its slot is given back: see `on_fault`
        if self._timeouts is not None:
            self._timeouts.stop(attempt)
        if attempt.alarm is not None:
            attempt.alarm.cancel()
        self._drain_rate.answered(attempt.started_at, elapsed_s)
        if slot is not None:
            slot.load.succeeded(elapsed_s, ended_at)
            if slot.recovers:
                slot.answered(attempt.started_at)
            if stands and table.draining:
                self._check_drained(slot)
        if table.learns:
            table.record(attempt.member, True)
        self._outbox.succeeded(attempt, elapsed_s, ended_at)
        if self.config.hedge_after_s is not None:
            self._answered(job, attempt, elapsed_s)
        if job.blame is not None:
            self._settle(job, job.blame, True)
        del self._jobs[job.id]
        job.cancel_alarms()
        attempt.detach()  # the two refer to each other: the collector need not find out
        self._answers.counts["completed"] += 1
        if self._closed:
            self._check_idle()
        if self._queue.size:
            self._pump()

    def _on_succeeded(self, message: Succeeded) -> None:
        attempt = self._reported(message)
        job = attempt.job if attempt is not None else None
        if attempt is not None and attempt.alone:
            self._trial_reported(attempt, message)
        elif attempt is None or job is None:
            self._nobody_waits_for(message, attempt)
        elif job.race is not None and not job.race.win(attempt.ticket):
            if attempt is job.trial:
                job.leave(attempt)
                self._trial_reported(attempt, message)
            else:
                self._ignore(job, attempt)  # the winner's report is on its way
        else:
            self._succeeded(message, attempt, job)
        self._pump()

    def _succeeded(self, message: Succeeded, attempt: Attempt, job: Job) -> None:
        now = self.clock.now()
        elapsed_s = message.elapsed_s if message.first_chunk_s is None else message.first_chunk_s
        streamed = message.first_chunk_s is not None
        ended_at = attempt.started_at + message.elapsed_s
        if ended_at > now:  # otherwise the report has lain aside
            ended_at = now
        slot = self._table.get(attempt.member)
        if slot is not None:  # what a first chunk has told of its speed is known already
            slot.load.succeeded(None if streamed else elapsed_s, ended_at)
            if slot.recovers:
                slot.answered(attempt.started_at)
        if self._table.learns:
            self._table.record(attempt.member, True)
        self._outbox.succeeded(attempt, elapsed_s, ended_at)
        listening = self.bus.listening()
        if listening:
            self._chronicle.succeeded(attempt, elapsed_s)
        if self.desk.is_open(attempt.ticket) or streamed:  # else it was answered on the spot
            self._answer_late(message, attempt, job, now)
        if not streamed:
            self._answered(job, attempt, elapsed_s)
        self._end(job, answered=True)
        attempt.detach()
        self._answers.value(job, attempt.member, now - job.accepted_at, listening)
        if self._closed:
            self._check_idle()

    def _answer_late(self, message: Succeeded, attempt: Attempt, job: Job, now: float) -> None:
        if self._unanswered(attempt, job):
            reply(job, message.value, attempt.member, now - job.accepted_at)

    def _unanswered(self, attempt: Attempt, job: Job) -> bool:
        """Whether nobody has answered on the spot, as when its member was about to end."""
        if self.desk.claim(attempt.ticket) is not None:
            return True
        return job.channel is not None and self.desk.give_up(attempt.ticket, job)

    def _nobody_waits_for(self, message: Succeeded, attempt: Attempt | None) -> None:
        """Chunks have found their consumer one by one, or none; a value is lost as a whole. That of
        an attempt which has lost a race was not to be had: no loss.
        """
        if message.first_chunk_s is None and (attempt is None or not attempt.lost):
            self._answers.dead_letter(message.request_id, message.member, "a late result")

    def _on_failed(self, message: Failed) -> None:
        attempt = self._reported(message)
        if attempt is not None and self._is_excused(attempt, message.kind):
            message = replace(message, kind=FailureKind.INTERRUPTED)
        if attempt is not None and attempt.job is not None:
            self.desk.withdraw(attempt.ticket)
            attempt.side_effects = attempt.side_effects or message.side_effects
            self._attempt_failed(
                attempt,
                message.kind,
                message.error,
                message.elapsed_s,
                message.retry_after_s,
                message.started,
                message.opens_at_once,
                message.same_member_may_mend,
            )
        elif attempt is not None and attempt.alone:
            self._trial_reported(attempt, message)
        elif attempt is not None:
            self._heed(attempt, message.kind, message.retry_after_s)
        self._pump()

    def _is_excused(self, attempt: Attempt, kind: FailureKind) -> bool:
        """Whether it failed by a pause of the process: an agent's own time limits do not know of
        one, nor does who has waited at the other end of its connection.
        """
        if kind not in (FailureKind.TIMEOUT, FailureKind.UNAVAILABLE):
            return False
        return excuses(paused_at(self.clock), attempt.started_at, self.clock.now())

    def _on_refused(self, message: Refused) -> None:
        attempt = self._reported(message)
        if attempt is not None:
            self.desk.withdraw(attempt.ticket)
            error = message.error or PoolError(f"{message.member} refused it: {message.reason}")
            create_failed = message.reason is RefusalReason.CREATE_FAILED
            kind = FailureKind.CREATE_FAILED if create_failed else FailureKind.UNAVAILABLE
            self._never_started(attempt, error, kind)
        self._pump()

    def _on_side_effects(self, message: SideEffectsStarted) -> None:
        attempt = self._attempt_of(message)
        if attempt is not None:
            attempt.side_effects = True

    def _reported(self, message: Succeeded | Failed | Refused) -> Attempt | None:
        """The attempt that a member reports the end of, if it still stands; its slot is free."""
        attempt = self._attempt_of(message)
        if attempt is not None:
            self._release(attempt, message.elapsed_s if type(message) is Succeeded else None)
        return attempt

    def _attempt_of(self, message: FromMember) -> Attempt | None:
        """The attempt that a message is about; None for one that ended with its member's actor."""
        attempt = self._attempts.get((message.request_id, message.attempt))
        if attempt is None or attempt.incarnation != message.incarnation:
            return None
        return attempt if attempt.member == message.member else None

    def _release(self, attempt: Attempt, elapsed_s: float | None = None) -> None:
        """The member has let go of the attempt: its slot is free."""
        slot = self._table.get(attempt.member)
        stands = slot is not None and slot.route.incarnation == attempt.incarnation
        if slot is not None and stands:
            slot.give_back()
        self._attempts.pop(attempt.ticket, None)  # it is given back from here on: see `on_fault`
        held_s = self.clock.now() - attempt.started_at
        if elapsed_s is not None and elapsed_s < held_s:  # the report has lain aside
            held_s = elapsed_s
        self._drain_rate.freed(attempt.started_at, held_s)
        if self._timeouts is not None:
            self._timeouts.stop(attempt)
        if attempt.alarm is not None:
            attempt.alarm.cancel()
        if slot is not None and stands and self._table.draining:
            self._check_drained(slot)

    def _check_drained(self, slot: Slot) -> None:
        if slot.in_flight == 0 and slot.route.blocked is SkipReason.DRAINING:
            tell(self._supervisor, MemberDrained(slot.name))

    def _attempt_timed_out(
        self, attempt: Attempt, limit: str, limit_s: float, lack: str = "did not answer"
    ) -> None:
        """The attempt has had its time; whoever asks must not wait for the member to notice.

        Args:
            limit, limit_s: the setting that says so, and its value.
            lack: what it has not done.
        """
        attempt.alarm = None
        job = attempt.job
        if job is not None:
            if attempt.first_chunk_s is None:
                given_up = self.desk.withdraw(attempt.ticket)
            else:
                given_up = self.desk.give_up(attempt.ticket, job)
            if not given_up:
                return  # it has just ended, or its stream begins: the report is on its way
        self._cancel_execution(attempt, CancelReason.ATTEMPT_TIMEOUT)
        elapsed_s = self.clock.now() - attempt.started_at
        error = AttemptTimeoutError(f"{attempt.member} {lack} within {limit}={limit_s:g}")
        if job is not None:
            self._attempt_failed(attempt, FailureKind.TIMEOUT, error, elapsed_s, None)
            self._pump()
        elif attempt.alone:
            self._trial_failed(attempt, FailureKind.TIMEOUT, error, elapsed_s)

    def _crashed(self, attempt: Attempt) -> None:
        """The member's actor is gone, and the attempt with it."""
        job = attempt.job
        if job is not None and not self.desk.give_up(attempt.ticket, job):
            return  # it has just been answered: the report is on its way
        self._release(attempt)
        elapsed_s = self.clock.now() - attempt.started_at
        error = MemberCrashedError(f"{attempt.member} ended while it worked on the request")
        if job is not None:
            self._attempt_failed(attempt, FailureKind.CRASHED, error, elapsed_s, None)
        elif attempt.alone:
            self._trial_failed(attempt, FailureKind.CRASHED, error, elapsed_s)
