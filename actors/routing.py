"""Routing: whom a request is given to, and the queue of those that wait for a member."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from greenroom.actors.admission import Admission
from greenroom.actors.base import tell
from greenroom.actors.jobs import Attempt, Job
from greenroom.actors.retry import LASTING
from greenroom.actors.strategies import PickContext
from greenroom.actors.table import NoPick, Slot
from greenroom.actors.timeouts import Timeouts
from greenroom.messages.errors import MemberCrashedError, StrategyError
from greenroom.messages.execution import Execute
from greenroom.messages.status import FailureKind, SkipReason
from greenroom.messages.supervision import TrialStarted

_ABOUT_NOW_S = 1e-6
"""More than two ways to reckon a moment differ by."""


class Routing(Admission):
    """Gives requests to members, at once or when one becomes free."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        limit_s = self.config.request_timeout_s
        self._timeouts: Timeouts | None = None
        if limit_s is not None:
            self._timeouts = Timeouts(
                self.alarms,
                self.clock.now,
                limit_s,
                lambda attempt: self._attempt_timed_out(attempt, "request_timeout_s", limit_s),
            )

    def _route(self, job: Job) -> None:
        """Give the request to a member, or let it wait, or fail it."""
        now = self.clock.now()
        if job.deadline is not None and job.deadline <= now:  # before its alarm has been handled
            self._expire(job, now)
        else:
            self._give(job, now)

    def _give(self, job: Job, now: float) -> None:
        """The same where its deadline is known not to be over."""
        if not job.failures and not self._table.has_room() and self._table.is_busy():
            self._enqueue(job, now)  # no strategy need be asked
            return
        context = PickContext(now, job.work.key, job.id)
        try:
            only_untried = job.policy.exhaustive or (job.failures and self._only_untried(job))
            choice = self._table.pick(job.failures, context, bool(only_untried))
        except StrategyError as error:
            self._fail(job, error)
            return
        if isinstance(choice, Slot):
            self._dispatch(job, choice, now)
        elif choice is NoPick.BUSY or self._table.epoch == 0 or self._may_wait(job, now):
            self._enqueue(job, now)
        else:
            self._fail_unroutable(job, now)

    def _may_wait(self, job: Job, now: float) -> bool:
        """Whether a request may wait for a member to come back, rather than fail at once."""
        if job.policy.exhaustive and job.failures:
            return False
        besides = job.failures if self._only_untried(job) else ()
        reopening = self._table.earliest_reopening(besides)
        if reopening is not None and reopening <= now + _ABOUT_NOW_S:
            return True  # its time has come: the word of it is on its way
        if job.failures and self._sits_out(job, besides, now):
            return True
        if self.config.when_unavailable != "wait":
            return False
        if self._table.trial_running(besides):
            return True
        return reopening is not None and (job.deadline is None or reopening < job.deadline)

    def _sits_out(self, job: Job, besides: Collection[str], now: float) -> bool:
        """Whether a request that has retries left waits for the first member that has rested, as it
        would right after a failure. It has been tried before; a new one need not wait.
        """
        until, policy = self._table.first_rested(besides), job.policy
        if until is None or until > now + policy.max_delay_s:
            return False
        if job.attempts - 1 >= policy.max_retries:
            return False
        return job.deadline is None or until < job.deadline

    def _only_untried(self, job: Job) -> bool:
        """Whether no member that it has tried can still help the request."""
        return job.policy.exhaustive or (bool(job.failures) and not self._could_recover(job))

    def _could_recover(self, job: Job) -> bool:
        """Whether a member that has failed the request might answer it later."""
        return any(
            failure.kind not in LASTING and self._table.get(name) is not None
            for name, failure in job.failures.items()
        )

    def _pump(self) -> None:
        """Give waiting requests, the first ones first, to whoever has become free."""
        if not self._queue.size:  # as after most answers
            return
        while (job := self._queue.first()) is not None and self._table.has_room():
            self._route(job)
            if job.cell is not None:  # it cannot use the room there is: others may
                self._pump_past(job)
                return

    def _pump_past(self, first: Job) -> None:
        """Where one untried request finds nobody, none does: then only the tried ones are asked."""
        asked = {first.id}
        if not self._is_stuck(first) and not self._pump_until_stuck(asked):
            return
        for job in self._queue.tried():
            if job.failures and job.id not in asked:
                self._route(job)
                if not self._table.has_room():
                    return

    def _pump_until_stuck(self, asked: set[str]) -> bool:
        """By turns; whether an untried request has found nobody though there is room."""
        for job in self._queue:
            if job.id in asked:
                continue
            asked.add(job.id)
            self._route(job)
            if not self._table.has_room():
                return False
            if self._is_stuck(job):
                return True
        return False

    def _is_stuck(self, job: Job) -> bool:
        """Whether it has found nobody, and so no other untried request would."""
        return self._table.treats_alike and job.cell is not None and not job.failures

    def _dispatch(self, job: Job, slot: Slot, now: float, hedge: bool = False) -> None:
        if job.cell is not None:
            self._queue.discard(job)
        route = slot.route
        trial = slot.is_trial
        job.attempts += 1
        attempt = Attempt(job, slot.name, slot.index, route.incarnation, route.epoch, trial, now)
        while attempt.ticket in self._attempts:
            attempt.renumber()
        if hedge:
            job.hedge = attempt
        else:
            job.current = attempt
        self._attempts[attempt.ticket] = attempt
        self._drain_rate.started(now)
        self.desk.open(attempt.ticket, job)
        slot.take()
        if trial:
            slot.trial_started()
            started = TrialStarted(
                member=slot.name, incarnation=route.incarnation, epoch=route.epoch, at=now
            )
            tell(self._supervisor, started)
        if job.attempts > 1:
            self._answers.counts["hedges" if hedge else "retries"] += 1
        if job.channel is not None:
            job.channel.attempts = job.attempts
        if hedge or job.failed_last is not None or self.bus.listening():
            self._chronicle.started(job, attempt)
        if self.config.hedge_after_s is not None and not hedge:
            self._plan_hedge(job, now)
        self._send(job, attempt, slot, now)

    def _send(self, job: Job, attempt: Attempt, slot: Slot, now: float) -> None:
        deadline = job.deadline
        if job.channel is not None:
            self._limit_first_chunk(attempt, now)
        elif self._timeouts is not None:
            self._timeouts.start(attempt)
            cut_off = now + self._timeouts.limit_s
            deadline = cut_off if deadline is None or cut_off < deadline else deadline
        message = Execute(
            job.id,
            attempt.number,
            attempt.incarnation,
            job.work,
            deadline,
            stream=job.channel is not None,
        )
        if not tell(slot.route.ref, message):
            # Its actor has ended and the supervisor has not said so yet: it never started.
            slot.update(replace(slot.route, ref=None, blocked=SkipReason.STARTING))
            self.desk.withdraw(attempt.ticket)
            self._release(attempt)
            self._never_started(attempt, MemberCrashedError(f"{slot.name} has ended"))

    @abstractmethod
    def _release(self, attempt: Attempt, elapsed_s: float | None = None) -> None:
        """The member has let go of the attempt: its slot is free."""

    def _limit_first_chunk(self, attempt: Attempt, now: float) -> None:
        limit_s, limit = self.config.first_chunk_timeout_s, "first_chunk_timeout_s"
        if limit_s is None:
            limit_s, limit = self.config.request_timeout_s, "request_timeout_s"
        if limit_s is not None:
            attempt.alarm = self.alarms.at(
                now + limit_s, lambda: self._attempt_timed_out(attempt, limit, limit_s)
            )

    @abstractmethod
    def _attempt_timed_out(self, attempt: Attempt, limit: str, limit_s: float) -> None:
        """The attempt has had its time."""

    @abstractmethod
    def _plan_hedge(self, job: Job, now: float) -> None:
        """An attempt begins: see when a second one shall join it."""

    @abstractmethod
    def _never_started(
        self,
        attempt: Attempt,
        error: BaseException,
        kind: FailureKind = FailureKind.UNAVAILABLE,
    ) -> None:
        """The member refused: nothing has run."""
