"""What follows when an attempt has failed: another member, a retry later, or the end."""

from __future__ import annotations

from abc import abstractmethod

from greenroom.actors.base import tell
from greenroom.actors.blame import Blame, Missing
from greenroom.actors.jobs import Attempt, Job
from greenroom.actors.report import all_failed
from greenroom.actors.retry import (
    LASTING,
    GiveUp,
    RaiseAsIs,
    Situation,
    TryLater,
    TryNow,
    plan_retry,
)
from greenroom.actors.routing import Routing
from greenroom.messages.execution import CancelExecution
from greenroom.messages.status import CancelReason, FailureKind


class Failures(Routing):
    """Counts failures, plans what comes next, and leaves attempts that nobody needs any more."""

    def _lost_race(self, attempt: Attempt, job: Job) -> bool:
        return job.race is not None and job.race.lost(attempt.ticket)

    def _ignore(self, job: Job, attempt: Attempt) -> None:
        """An attempt has ended that nobody needs and that says nothing of its member."""
        self.desk.withdraw(attempt.ticket)
        self._outbox.ignored(attempt, self.clock.now())
        self._chronicle.lost(attempt)
        job.leave(attempt)

    def _attempt_failed(
        self,
        attempt: Attempt,
        kind: FailureKind,
        error: BaseException,
        elapsed_s: float,
        retry_after_s: float | None,
        started: bool = True,
        opens_at_once: bool = False,
    ) -> None:
        """An attempt ended badly and its request still waits: count it, and see what follows.

        A failure that no other member can mend is an answer, too: it must win its race.
        """
        job = attempt.job
        assert job is not None
        if job.race is not None and not kind.tries_another_member:
            job.race.win(attempt.ticket)
        if self._lost_race(attempt, job):
            self._ignore(job, attempt)
            return
        self._chronicle.failed(attempt, kind, error, elapsed_s)
        new_rest = self._count_failure(
            attempt, job, kind, error, elapsed_s, retry_after_s, opens_at_once
        )
        job.failed(attempt, kind, error, elapsed_s, started, retry_after_s)
        self._follow_up(job, attempt, kind, error, retry_after_s, started)
        if new_rest:
            for waiting in self._queue:  # some may wait in vain now
                self._route(waiting)

    def _count_failure(
        self,
        attempt: Attempt,
        job: Job,
        kind: FailureKind,
        error: BaseException,
        elapsed_s: float,
        retry_after_s: float | None = None,
        opens_at_once: bool = False,
    ) -> bool:
        """Take a failure into the accounts; whether the member begins to rest by it."""
        now = self.clock.now()
        slot = self._table.get(attempt.member)
        if attempt.first_chunk_s is not None:  # a stream is as fast as its first chunk
            elapsed_s = attempt.first_chunk_s
        if kind.counts_for_breaker and slot is not None:
            slot.load.failed(elapsed_s, now)
        if kind.is_the_members:
            self._table.record(attempt.member, False)
        self._blame(job, attempt, kind, retry_after_s, opens_at_once)
        new_rest = False
        if slot is not None and kind.is_the_members:
            new_rest = self._rest(slot, kind, attempt.started_at, retry_after_s, now)
        self._outbox.failed(
            attempt, slot, kind, error, elapsed_s, retry_after_s, now, opens_at_once
        )
        return new_rest

    def _blame(
        self,
        job: Job,
        attempt: Attempt,
        kind: FailureKind,
        retry_after_s: float | None,
        opens_at_once: bool,
    ) -> None:
        """Note what speaks against the request or the member; see `_settle`."""
        missing = kind is FailureKind.NOT_FOUND
        if not missing and not kind.counts_for_breaker:
            return
        if job.blame is None:
            job.blame = Blame()
        if missing:
            job.blame.missing.append(Missing(attempt.member, attempt.started_at, retry_after_s))
        else:
            job.blame.add(attempt.member, kind, opens_at_once)

    def _never_started(
        self,
        attempt: Attempt,
        error: BaseException,
        kind: FailureKind = FailureKind.UNAVAILABLE,
    ) -> None:
        """The member refused: nothing has run, so another may have the request in any case."""
        job = attempt.job
        if job is None:
            return
        self._outbox.ignored(attempt, self.clock.now())
        if self._lost_race(attempt, job):
            job.leave(attempt)
            return
        if kind is FailureKind.CREATE_FAILED:
            self._table.record(attempt.member, False)
        job.failed(attempt, kind, error, self.clock.now() - attempt.started_at, started=False)
        self._follow_up(job, attempt, kind, error, None, started=False)

    def _follow_up(
        self,
        job: Job,
        attempt: Attempt,
        kind: FailureKind,
        error: BaseException,
        retry_after_s: float | None,
        started: bool,
    ) -> None:
        """Another member at once, a retry later, or the end."""
        job.leave(attempt)
        won = job.race is not None and job.race.won(attempt.ticket)
        if job.current is not None and not won:
            return  # two were racing, and the other one still runs
        self._abort(job, CancelReason.LOST_RACE)  # it has lost to one that now has failed
        if job.begun:
            self._fail(job, error)
            return
        now = self.clock.now()
        situation = Situation(
            kind=kind,
            started=started,
            side_effects=attempt.side_effects,
            retry_after_s=self._asked_to_wait_s(job, attempt.member, retry_after_s, now),
            attempts=job.attempts,
            backoffs=job.backoffs,
            idempotent=job.work.idempotent,
            untried=self._untried_left(job, now),
            tried_could_recover=self._could_recover(job),
            now=now,
            deadline=job.deadline,
        )
        match plan_retry(job.policy, situation, self._budget, self._rng):
            case TryNow():
                self._route(job)
            case TryLater(delay_s):
                self._retry_later(job, attempt.member, delay_s, now)
            case GiveUp(reason):
                self._fail(job, all_failed(self.name, job, self._table, reason, now))
            case RaiseAsIs():
                self._end(job)
                self._answers.callers_fault(job, error, now - job.accepted_at)
                self._check_idle()

    def _untried_left(self, job: Job, now: float) -> bool:
        """Whether an untried member can take the request: now, once a slot is free, or, if only
        such a one can help it, and it may wait for that, once one is back.
        """
        if self._table.could_take(job.failures):
            return True
        return not job.policy.exhaustive and self._only_untried(job) and self._may_wait(job, now)

    def _asked_to_wait_s(
        self, job: Job, member: str, retry_after_s: float | None, now: float
    ) -> float | None:
        """How long a request has to wait for somebody who can help it, where everybody rests."""
        hopeless = {name for name, each in job.failures.items() if each.kind in LASTING}
        return self._table.asked_to_wait_s(hopeless, member, retry_after_s, now)

    def _retry_later(self, job: Job, member: str, delay_s: float, now: float) -> None:
        job.backoffs += 1
        self._chronicle.retry(job, member, delay_s)
        job.alarm = self.alarms.at(now + delay_s, lambda: self._route(job))

    def _detach(self, job: Job, attempt: Attempt, reason: CancelReason) -> None:
        """The request leaves its attempt behind; the member frees the slot when it has ended."""
        if reason is CancelReason.LOST_RACE:
            attempt.lost = True
            self._chronicle.lost(attempt)
        job.leave(attempt)
        self._cancel_execution(attempt, reason)

    def _abort(self, job: Job, reason: CancelReason) -> bool:
        """Leave all attempts of a request; False when it has just been answered, and the report of
        that is on its way.
        """
        for attempt in list(job.running()):
            if not self._can_leave(job, attempt):
                return False
            self._outbox.ignored(attempt, self.clock.now())
            self._detach(job, attempt, reason)
        return True

    def _can_leave(self, job: Job, attempt: Attempt) -> bool:
        """Whether the request can do without an attempt: not if that has just answered. What one
        that has lost its race reports is no answer, so it is not waited for.
        """
        return self.desk.give_up(attempt.ticket, job) or self._lost_race(attempt, job)

    @abstractmethod
    def _answered(self, job: Job, attempt: Attempt, elapsed_s: float) -> None:
        """A member has answered, or sent the first chunk of its stream, after `elapsed_s`."""

    def _cancel_execution(self, attempt: Attempt, reason: CancelReason) -> None:
        slot = self._table.get(attempt.member)
        if slot is None or slot.route.ref is None:
            return  # its actor has ended, and has cancelled what it had
        if slot.route.incarnation == attempt.incarnation:
            message = CancelExecution(
                request_id=attempt.request_id, attempt=attempt.number, reason=reason
            )
            tell(slot.route.ref, message)
