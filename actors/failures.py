"""What follows when an attempt has failed: another member, a retry later, or the end."""

from __future__ import annotations

from abc import abstractmethod

from greenroom.actors.base import tell
from greenroom.actors.blame import Blame, Missing
from greenroom.actors.channel import Cut
from greenroom.actors.jobs import Attempt, Bound, Job
from greenroom.actors.report import all_failed
from greenroom.actors.retry import (
    LASTING,
    GiveUp,
    RaiseAsIs,
    SameAgain,
    Situation,
    StayFor,
    TryLater,
    TryNow,
    plan_retry,
)
from greenroom.actors.routing import Routing
from greenroom.actors.strategies import PickContext
from greenroom.messages.errors import StreamInterruptedError, summary
from greenroom.messages.execution import CancelExecution
from greenroom.messages.status import CancelReason, CircuitState, FailureKind
from greenroom.messages.supervision import RequestSettled


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
        may_mend: bool = False,
    ) -> None:
        """An attempt ended badly and its request still waits: count it, and see what follows.

        A failure that no other member can mend is an answer, too: it must win its race.
        """
        job = attempt.job
        assert job is not None
        if job.race is not None and not kind.tries_another_member:
            job.race.win(attempt.ticket)
        if self._lost_race(attempt, job):
            self._lost(job, attempt, kind, error, elapsed_s, retry_after_s)
            return
        preferred = self._is_preferred(job, attempt, retry_after_s)
        mends = may_mend and self._in_service(attempt)
        self._chronicle.failed(attempt, kind, error, elapsed_s)
        new_rest = self._count_failure(
            attempt, job, kind, error, elapsed_s, retry_after_s, opens_at_once, preferred
        )
        job.failed(attempt, kind, error, elapsed_s, started, retry_after_s)
        self._follow_up(job, attempt, kind, error, retry_after_s, started, mends, preferred)
        if new_rest:
            for waiting in self._queue:  # some may wait in vain now
                self._route(waiting)

    def _heed(self, attempt: Attempt, kind: FailureKind, retry_after_s: float | None) -> None:
        """An attempt has failed that nobody needs any more, and counts for nothing. That its member
        is throttled is true all the same: it rests.
        """
        slot = self._table.get(attempt.member)
        if slot is not None and kind is FailureKind.RATE_LIMITED:
            self._rest(slot, kind, attempt.started_at, retry_after_s, self.clock.now())

    @abstractmethod
    def _lost(
        self,
        job: Job,
        attempt: Attempt,
        kind: FailureKind,
        error: BaseException,
        elapsed_s: float,
        retry_after_s: float | None,
    ) -> None:
        """An attempt that has lost its race has failed."""

    def _in_service(self, attempt: Attempt) -> bool:
        """Whether its member takes requests as usual, as far as the supervisor has said."""
        slot = self._table.get(attempt.member)
        if slot is None or attempt.trial or not slot.in_service:
            return False
        return slot.route.circuit in (CircuitState.CLOSED, CircuitState.DISABLED)

    def _is_preferred(self, job: Job, attempt: Attempt, retry_after_s: float | None) -> bool:
        """Whether the request would rather wait for the member that has failed it."""
        if not self._stay_s or retry_after_s is None or retry_after_s > self._stay_s:
            return False
        context = PickContext(self.clock.now(), job.work.key, job.id)
        return self._table.prefers(attempt.member, job.taken, context)

    def _count_failure(
        self,
        attempt: Attempt,
        job: Job | None,
        kind: FailureKind,
        error: BaseException,
        elapsed_s: float,
        retry_after_s: float | None = None,
        opens_at_once: bool = False,
        preferred: bool = False,
    ) -> bool:
        """Take a failure into the accounts; whether the member begins to rest by it.

        Args:
            job: whose it is; None of a trial whose request has gone on without it.
            preferred: the strategy is not told, or not yet: the request may stay for the member.
        """
        now = self.clock.now()
        slot = self._table.get(attempt.member)
        if slot is not None:
            self._chronicle.slow_to_fail(attempt, kind, elapsed_s, slot.load.usual_s)
        if attempt.first_chunk_s is not None:  # a stream is as fast as its first chunk
            elapsed_s = attempt.first_chunk_s
        if kind.counts_for_breaker and slot is not None:
            slot.load.failed(elapsed_s, now)
        if kind.is_the_members and not preferred:
            self._table.record(attempt.member, False)
        if job is not None:
            self._blame(job, attempt, kind, retry_after_s, opens_at_once)
        new_rest = False
        if slot is not None and kind.is_the_members:
            new_rest = self._rest(slot, kind, attempt.started_at, retry_after_s, now)
        self._outbox.failed(
            attempt, slot, kind, error, elapsed_s, retry_after_s, now, opens_at_once
        )
        if job is None and kind.counts_for_breaker:
            self._outbox.settled(RequestSettled(request_id=attempt.request_id), False, now)
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
        if job is not None or attempt.alone:
            self._outbox.ignored(attempt, self.clock.now())
        if job is None:
            return
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
        mends: bool = False,
        preferred: bool = False,
    ) -> None:
        """The same member or another one at once, a retry later, or the end.

        Args:
            mends: whether the same member may be over it by now.
            preferred: whether the strategy would not give the request to anybody else.
        """
        beside = attempt is job.trial
        job.leave(attempt)
        won = job.race is not None and job.race.won(attempt.ticket)
        if (beside or job.current is not None) and not won:
            return  # two were racing, or might be: the request goes on with the other one
        if won:  # the others have lost to one that now has failed
            self._let_trial_go_on(job)
            self._abort(job, CancelReason.LOST_RACE)
        restarts = job.shown
        if restarts and not self._may_restart(job, attempt):
            self._fail(job, error)
            return
        if attempt.member in job.cut:  # left out for good
            mends = preferred = False
        now = self.clock.now()
        situation = Situation(
            kind=kind,
            started=started,
            side_effects=attempt.side_effects,
            # Who stays for a member is asked to wait for that one, whoever else may be back.
            retry_after_s=retry_after_s
            if preferred
            else self._asked_to_wait_s(job, attempt.member, retry_after_s, now),
            attempts=job.attempts - job.extra,
            backoffs=job.backoffs,
            idempotent=job.work.idempotent,
            untried=self._untried_left(job, now),
            tried_could_recover=self._could_recover(job),
            now=now,
            deadline=job.deadline,
            may_mend=mends,
            tries=job.failures[attempt.member].attempts,
            members=len(self._table),
            in_service=mends,
            preferred=preferred,
        )
        plan = plan_retry(job.policy, situation, self._budget, self._rng)
        if preferred and kind.is_the_members and not isinstance(plan, StayFor):
            self._table.record(attempt.member, False)
        if isinstance(plan, GiveUp | RaiseAsIs):
            if restarts:
                self._fail(job, self._broken_by(job, error))
                return
        elif job.begun:
            number = max(attempt.number, job.attempts)
            cut = Cut(attempt.member, kind, summary(error)) if attempt.member in job.cut else None
            self.desk.reopen(job, number, cut)
        match plan:
            case SameAgain():
                job.bound = Bound(attempt.member, rests=False)
                self._route(job)
            case StayFor(delay_s):
                job.bound = Bound(attempt.member, rests=True)
                self._retry_later(job, attempt.member, delay_s, now)
            case TryNow():
                self._route(job)
            case TryLater(delay_s):
                self._retry_later(job, attempt.member, delay_s, now)
            case GiveUp(reason):
                self._fail(job, all_failed(self.name, job, self._table, reason, now))
            case RaiseAsIs():
                self._end(job)
                tell, elapsed_s = self._answers.callers_fault, now - job.accepted_at
                self._tell_asker(job, _own(error), tell, elapsed_s)
                self._check_idle()

    def _may_restart(self, job: Job, attempt: Attempt) -> bool:
        """The consumer of a stream has had chunks that count, and its attempt has failed: whether
        another member may start over. The one whose stream has broken off is left out for good.
        """
        channel = job.channel
        if self.config.on_cut != "restart" or channel is None:
            return False
        if job.begun and channel.counted:
            channel.cut |= {attempt.member}
        return True

    def _broken_by(self, job: Job, error: BaseException) -> BaseException:
        """What broke the last stream off that the consumer has had chunks of.

        Args:
            error: of the last attempt, which may have had none. (It is not asked whether it is
                true: that runs code of its own.)
        """
        member = None if job.channel is None else job.channel.member
        broken = job.failures.get(member or "")
        return error if broken is None or broken.error is None else broken.error

    def _untried_left(self, job: Job, now: float) -> bool:
        """Whether an untried member can take the request: now, once a slot is free, or, if only
        such a one can help it, and it may wait for that, once one is back.
        """
        if self._table.could_take(job.taken):
            return True
        return not job.policy.exhaustive and self._only_untried(job) and self._may_wait(job, now)

    def _asked_to_wait_s(
        self, job: Job, member: str, retry_after_s: float | None, now: float
    ) -> float | None:
        """How long a request has to wait for somebody who can help it, where everybody rests."""
        hopeless = {name for name, each in job.failures.items() if each.kind in LASTING}
        return self._table.asked_to_wait_s(hopeless, member, retry_after_s, now)

    @abstractmethod
    def _let_trial_go_on(self, job: Job) -> bool:
        """The request needs its trial no more; False if that has just answered it."""

    def _retry_later(self, job: Job, member: str, delay_s: float, now: float) -> None:
        job.backoffs += 1
        self._chronicle.retry(job, member, delay_s)
        job.alarm = self.alarms.at(
            now + delay_s, lambda: self._see_to(job, "try a request again", self._route)
        )

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


def _own(error: BaseException) -> BaseException:
    """The agent's own error. An inner pool's stream may have broken off by it, of which the outer
    pool's consumer has not been shown anything: to it nothing has.
    """
    while isinstance(error, StreamInterruptedError) and error.__cause__ is not None:
        error = error.__cause__
    return error
