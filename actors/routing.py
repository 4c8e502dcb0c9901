"""Routing: whom a request is given to, and the queue of those that wait for a member."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

from greenroom.actors.admission import Admission
from greenroom.actors.base import tell
from greenroom.actors.jobs import Attempt, Bound, Job
from greenroom.actors.pulse import Pulse
from greenroom.actors.retry import LASTING
from greenroom.actors.strategies import PickContext
from greenroom.actors.table import NoPick, Slot
from greenroom.actors.timeouts import Timeouts
from greenroom.messages.errors import MemberCrashedError, StrategyError, not_begun
from greenroom.messages.execution import Execute
from greenroom.messages.status import FailureKind, SkipReason
from greenroom.messages.supervision import TrialStarted

_ABOUT_NOW_S = 1e-6
"""More than two ways to reckon a moment differ by."""


class Routing(Admission):
    """Gives requests to members, at once or when one becomes free."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._stay_s = self.config.stay_for_retry_after_s if self._table.sticks else 0.0
        limit_s = self.config.request_timeout_s
        self._timeouts: Timeouts | None = None
        if limit_s is not None:
            self._timeouts = Timeouts(
                self.alarms,
                self.clock.now,
                limit_s,
                lambda attempt: self._end_overdue(attempt, "request_timeout_s", limit_s),
            )

    def _route(self, job: Job) -> None:
        """Give the request to a member, or let it wait, or fail it."""
        now = self.clock.now()
        if job.deadline is not None and job.deadline <= now:  # before its alarm has been handled
            self._expire(job, now)
            return
        try:
            self._give(job, now)
        except BaseException as error:  # of this request, whosever message is being handled
            self._fail_by_fault(job, "give a request to a member", error)

    def _see_to(self, job: Job, what: str, act: Callable[[Job], object]) -> None:
        """Do what is due for a request, by a timer: if that raises, no message will tell of it.

        Args:
            what: what is to be done.
        """
        try:
            act(job)
        except BaseException as error:
            self._fail_by_fault(job, what, error)

    def _give(self, job: Job, now: float) -> None:
        """The same where its deadline is known not to be over."""
        if job.trial is not None and self._is_answered(job):
            return  # by its trial: the report is on its way
        if job.bound is not None and self._give_again(job, job.bound, now):
            return
        if not job.failures and not self._table.has_room() and self._table.is_busy():
            self._enqueue(job, now)  # no strategy need be asked
            return
        context = PickContext(now, job.work.key, job.id)
        if self._stay_s and self._stays(job, context):
            self._enqueue(job, now)
            return
        spare, number = None, 0
        try:
            if job.failures or job.trial is not None:
                choice = self._pick_another(job, context)
            else:
                choice = self._table.pick((), context, job.policy.exhaustive)
            if self._table.half_open and isinstance(choice, Slot) and choice.is_trial:
                choice, spare = self._spare(job, choice, context)
                number = job.attempts
        except StrategyError as error:
            self._fail(job, error)
            return
        if isinstance(choice, Slot):
            self._dispatch(job, choice, now)
        elif choice is NoPick.BUSY or self._table.epoch == 0 or self._may_wait(job, now):
            self._enqueue(job, now)
        else:
            self._fail_unroutable(job, now)
        if spare is not None:
            self._try_beside(job, spare, number, now)

    def _pick_another(self, job: Job, context: PickContext) -> Slot | NoPick:
        """For a request that members have had, or have."""
        only_untried = self._only_untried(job)
        last = () if only_untried else job.silent
        never = job.cut if job.failures else ()
        return self._table.pick(job.taken, context, only_untried, never, last)

    def _give_again(self, job: Job, bound: Bound, now: float) -> bool:
        """Give it to the member that it is bound to, or let it wait for that one; False if it is
        none of these any more: then anybody will do.
        """
        slot = self._table.get(bound.member)
        if slot is not None and slot.is_free and (bound.rests or not slot.is_trial):
            job.bound = None
            self._dispatch(job, slot, now)
            return True
        if slot is not None and self._is_worth_waiting(slot, bound, job, now):
            self._enqueue(job, now)
            return True
        job.bound = None
        return False

    def _is_worth_waiting(self, slot: Slot, bound: Bound, job: Job, now: float) -> bool:
        if slot.is_unjudged():
            return True
        if not bound.rests:
            return False
        saturated = slot.skip_reason() is SkipReason.SATURATED
        return saturated or slot.rests(now + self._stay_s, job.deadline)

    def _stays(self, job: Job, context: PickContext) -> bool:
        """Whether it waits for a preferred member that rests, though others could take it."""
        if job.cell is None and self._queue.size >= self.config.max_pending:
            return False
        until = context.now + self._stay_s
        return self._table.rests(job.failures, context, until, job.deadline)

    def _is_answered(self, job: Job) -> bool:
        """Whether one that races for it has won, and only the router has not heard of it yet."""
        return job.race is not None and job.race.over

    @abstractmethod
    def _fail_by_fault(
        self, job: Job, what: str, error: BaseException, answered: bool = False
    ) -> None:
        """Something that must not raise has: the request has failed by that.

        Args:
            what: what could not be done.
            answered: whether its answer is there all the same, or on its way.
        """

    @abstractmethod
    def _spare(
        self, job: Job, trial: Slot, context: PickContext
    ) -> tuple[Slot | NoPick, Slot | None]:
        """Whom to give it to in place of a half-open member, and whether to try that one beside."""

    @abstractmethod
    def _try_beside(self, job: Job, slot: Slot, number: int, now: float) -> None:
        """Give it to a half-open member as well, as the attempt of that number."""

    def _may_wait(self, job: Job, now: float) -> bool:
        """Whether a request may wait for a member to come back, rather than fail at once."""
        if job.policy.exhaustive and job.failures:
            return False
        besides = job.failures if self._only_untried(job) else job.cut
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
        cut = job.cut
        return any(
            failure.kind not in LASTING and name not in cut and self._table.get(name) is not None
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
        if job.cell is None or job.failures or job.trial is not None or self._stay_s:
            return False
        return self._table.treats_alike

    def _dispatch(
        self, job: Job, slot: Slot, now: float, hedge: bool = False, beside: int = 0
    ) -> None:
        """`beside`: the number of the attempt where it is a trial beside, else 0."""
        if job.cell is not None and not beside:
            self._queue.discard(job)
        route = slot.route
        trial = slot.is_trial
        if not beside:
            job.attempts += 1
        attempt = Attempt(
            job, slot.name, slot.index, route.incarnation, route.epoch, trial, now, beside
        )
        while attempt.ticket in self._attempts or (
            job.race is not None and job.race.is_past(attempt.ticket)
        ):
            attempt.renumber()
        if hedge:
            job.hedge = attempt
        elif beside:
            job.trial = attempt
        else:
            job.current = attempt
        self._attempts[attempt.ticket] = attempt
        held, sent = slot.in_flight, False
        try:
            self._drain_rate.started(now)
            self.desk.open(attempt.ticket, job)
            slot.take()
            if trial:
                slot.trial_started()
                started = TrialStarted(
                    member=slot.name, incarnation=route.incarnation, epoch=route.epoch, at=now
                )
                tell(self._supervisor, started)
            if job.attempts - job.extra > 1 and not beside:
                self._answers.counts["hedges" if hedge else "retries"] += 1
            if job.channel is not None:
                job.channel.attempts = job.attempts
            if hedge or job.failed_last is not None or self.bus.listening():
                self._chronicle.started(job, attempt)
            if self.config.hedge_after_s is not None and not hedge and not beside:
                self._plan_hedge(job, now)
            sent = True
            self._send(job, attempt, slot, now)
        except BaseException as error:
            if self._attempts.get(attempt.ticket) is not attempt:
                raise  # it has ended already: this came of what followed
            if slot.in_flight == held:
                slot.in_flight += 1  # to be given back
            self._not_sent(attempt, sent, error)

    def _not_sent(self, attempt: Attempt, perhaps: bool, error: BaseException) -> None:
        """Something has raised on the way to the member, so nobody else would give the slot back:
        another member may have the request.

        Args:
            perhaps: whether the member may have it in spite of that.
        """
        self.bus.complain_of(f"it failed to give a request to {attempt.member}", error)
        if not self.desk.withdraw(attempt.ticket) and perhaps:
            return  # it has been answered: the report is on its way
        self._release(attempt)
        self._never_started(attempt, not_begun(f"a call of {attempt.member}", error))

    def _send(self, job: Job, attempt: Attempt, slot: Slot, now: float) -> None:
        deadline = job.deadline
        if job.channel is not None:
            attempt.pulse = Pulse(now)
            self._watch(attempt)
            if attempt is job.trial and attempt.alarm is not None:
                deadline = None
        elif self._timeouts is not None:
            self._timeouts.start(attempt)
            cut_off = now + self._timeouts.limit_s
            # A trial beside has the time of any attempt, not what its caller has left.
            if deadline is None or cut_off < deadline or attempt is job.trial:
                deadline = cut_off
        message = Execute(
            job.id,
            attempt.number,
            attempt.incarnation,
            job.work,
            deadline,
            job.channel is not None,
            () if job.future is None else job.future.inside,
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

    @abstractmethod
    def _watch(self, attempt: Attempt) -> None:
        """Have a look when a chunk is overdue, if none has come by then."""

    @abstractmethod
    def _attempt_timed_out(
        self, attempt: Attempt, limit: str, limit_s: float, lack: str = "did not answer"
    ) -> None:
        """The attempt has had its time."""

    def _end_overdue(
        self, attempt: Attempt, limit: str, limit_s: float, lack: str = "did not answer"
    ) -> None:
        """The same, by a timer: see `_see_to`."""
        job = attempt.job
        try:
            self._attempt_timed_out(attempt, limit, limit_s, lack)
        except BaseException as error:
            if job is None:
                raise
            self._fail_by_fault(job, "end an attempt in time", error)

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
