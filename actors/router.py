"""The pool router: takes requests in, gives each to a member, answers every ask exactly once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from greenroom.actors.base import tell
from greenroom.actors.commands import FORWARDED, Commands
from greenroom.actors.future import PENDING, GivenUp, PoolFuture
from greenroom.actors.jobs import Answered, Attempt, Job, Work
from greenroom.actors.retry import RetryPolicy
from greenroom.actors.strategies import strategy_name
from greenroom.actors.streams import Streams
from greenroom.actors.table import Slot
from greenroom.messages.errors import (
    AttemptTimeoutError,
    PoolError,
    PoolStoppedError,
    RequestCancelledError,
    not_begun,
    summary,
)
from greenroom.messages.events import PoolStopped
from greenroom.messages.execution import Failed, Refused, Succeeded
from greenroom.messages.pickling import fit_to_look_at
from greenroom.messages.replies import MemberStats, PoolStats
from greenroom.messages.requests import (
    Apply,
    Cancel,
    Drain,
    Request,
    RequestOptions,
    ResetAll,
    ResetMember,
    Subscribe,
)
from greenroom.messages.status import CancelReason, FailureKind
from greenroom.messages.supervision import (
    CommandDone,
    FailuresSeen,
    RoutingSnapshot,
    TableWanted,
)

SUPERVISOR_STOP_TIMEOUT_S = 10.0
"""How long the end of a pool waits for its supervisor and members to clean up."""


@dataclass(frozen=True, slots=True)
class Attach:
    """The first message to a router: who supervises its members."""

    supervisor: Any


class PoolRouter(Streams):
    """Owns the requests in flight, the waiting queue, in-flight counts, load estimates, the retry
    budget. It runs no user code but the strategy's, never waits, and changes no breaker.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._commands = Commands(self.name, self._stats)
        self.mailbox.hurried = self._awaits_reports
        self.handlers.update(
            {
                Attach: self._on_attach,
                Request: self._on_work,
                Apply: self._on_work,
                Cancel: self._on_cancel,
                GivenUp: self._on_given_up,
                RoutingSnapshot: self._on_snapshot,
                FailuresSeen: self._on_failures_seen,
                CommandDone: self._commands.done,
                Drain: self._on_drain,
                Subscribe: self._on_subscribe,
                **dict.fromkeys(FORWARDED, self._on_command),
            }
        )

    def _actor_loop(self) -> None:
        try:
            super()._actor_loop()
        finally:  # whatever has ended it: this thread is the last of the pool's
            self.ended.set()

    def _on_attach(self, message: Attach) -> None:
        self._supervisor = self._outbox.supervisor = message.supervisor

    def _awaits_reports(self) -> bool:
        """Whether something hangs on the next slot that is given back."""
        return self._closed or self._queue.size > 0 or self._table.draining

    # -- a request comes in

    def _on_work(self, work: Work) -> Any:
        future = self.mailbox.reply_to
        now = self.clock.now()
        job_id = (future.request_id if future is not None else None) or work.request_id
        job_id = job_id or f"{self.name}-t{next(self._numbers)}"
        if self._closed or job_id in self._jobs:
            self._answers.refused(job_id, future, self._refusal(job_id))
            return PENDING
        policy = self._policy
        if work.max_retries is not None:
            policy = RetryPolicy.from_config(self.config, work.max_retries, self._exhaustive)
        deadline = self._deadline(work, future, now)
        job = self._jobs[job_id] = Job(job_id, work, future, now, deadline, policy)
        self._answers.counts["accepted"] += 1
        self._budget.deposit(now)
        if self.config.hedge_after_s is not None:
            self._hedges.deposit()
        if deadline is not None:
            if deadline <= now:  # it has lain in the mailbox for too long
                self._out_of_time(job)
                return PENDING
            job.deadline_alarm = self.alarms.at(
                deadline, lambda: self._see_to(job, "end a request in time", self._out_of_time)
            )
        if future is not None and future.waits:
            self._circles.waits(job, future.waits)
        try:
            self._give(job, now)
        except BaseException as error:
            self._fail_by_fault(job, "give a request to a member", error)
        return PENDING

    def on_fault(self, message: Any, error: BaseException) -> bool:
        """What a message was about is not lost by what its handling has raised: the request has
        failed by that, unless it has its answer; the slot of an attempt whose end it was is given
        back; the supervisor's word is heeded.
        """
        what = f"handle a {type(message).__name__}"
        job, ended = self._concerned(message), self._ended_by(message)
        if ended is not None:
            self._release(ended)
        if job is not None:
            self._fail_by_fault(job, what, error, self._has_answered(message, job))
        if isinstance(message, RoutingSnapshot):
            self._ask_for_table()
        self._table.mend()
        if isinstance(message, FailuresSeen):
            self._on_failures_seen(message)
        elif isinstance(message, CommandDone):
            self._commands.failed(message.ticket, not_begun("the command", error))
        self._pump()
        return job is not None

    def _fail_by_fault(
        self, job: Job, what: str, error: BaseException, answered: bool = False
    ) -> None:
        self.bus.complain_of(f"it failed to {what}", error)
        failure = PoolError(f"pool {self.name!r} failed at request {job.id}: {summary(error)}")
        failure.__cause__ = fit_to_look_at(error)
        known = self._jobs.get(job.id) is job
        answered = answered or (job.future is not None and job.future.done())
        try:
            for attempt in list(job.running()):
                runs = self._attempts.get(attempt.ticket) is attempt
                if not self._can_leave(job, attempt) and runs:
                    return  # it has just answered the request: the report is on its way
                self._outbox.ignored(attempt, self.clock.now())
                self._detach(job, attempt, CancelReason.STOPPING)
            if known:
                self._end(job, answered)
            if not answered:
                self._answers.failure(job, failure, self.clock.now() - job.accepted_at)
            elif known:
                self._answers.counts["completed"] += 1
            self._check_idle()
        except BaseException as again:  # what is broken is broken: but whoever asks is told
            self.bus.complain_of("it could not even let a request fail", again)
            if known:
                self._jobs.pop(job.id, None)
            if job.future is not None and not answered:
                job.future.resolve(error=failure)

    def _has_answered(self, message: Any, job: Job) -> bool:
        """Whether the call whose end a message reports has answered the request, or is about to."""
        if isinstance(message, Answered):
            return True
        if not isinstance(message, Succeeded):
            return False
        attempt = job.attempt_of((message.request_id, message.attempt))
        return attempt is not None and not self._unanswered(attempt, job)

    def _ended_by(self, message: Any) -> Attempt | None:
        """The attempt whose end a message reports, if it still holds its slot."""
        if isinstance(message, Answered):
            attempt: Attempt | None = message.attempt
        elif isinstance(message, Succeeded | Failed | Refused):
            attempt = self._attempt_of(message)
        else:
            return None
        if attempt is None or self._attempts.get(attempt.ticket) is not attempt:
            return None
        return attempt

    def _ask_for_table(self) -> None:
        tell(self._supervisor, TableWanted())

    def _concerned(self, message: Any) -> Job | None:
        """The request that a message is or reports of."""
        if isinstance(message, Answered):
            return message.attempt.job
        future = self.mailbox.reply_to
        if future is not None and isinstance(message, RequestOptions):
            return self._jobs.get(future.request_id or "")
        request_id = getattr(message, "request_id", None)
        return self._jobs.get(request_id) if isinstance(request_id, str) else None

    def _refusal(self, job_id: str) -> Exception:
        if self._closed:
            reason = f"pool {self.name!r} is draining and takes no more requests"
            return PoolStoppedError(reason, refused=True)
        return ValueError(f"request_id must be unique among the requests in flight, got {job_id!r}")

    def _deadline(self, work: Work, future: PoolFuture[Any] | None, now: float) -> float | None:
        if work.timeout_s is None and self.config.deadline_s is None:
            return None if future is None else future.deadline
        limits = [now + limit for limit in (work.timeout_s, self.config.deadline_s) if limit]
        if future is not None and future.deadline is not None:
            limits.append(future.deadline)
        return min(limits, default=None)

    # -- its time is over, or its caller has left

    def _out_of_time(self, job: Job) -> None:
        """The deadline of the whole request is over."""
        now = self.clock.now()
        for attempt in (job.current, job.hedge):
            if attempt is None:
                continue
            if not self._can_leave(job, attempt):
                return  # it has just been answered: the report is on its way
            self._cut_short(job, attempt, now)
        self._expire(job, now)
        self._pump()

    def _cut_short(self, job: Job, attempt: Attempt, now: float) -> None:
        """A member that took longer than it usually does has timed out; one that was cut short
        has not: a caller in a hurry must not open the breaker of a healthy member. Nor has one
        whose stream was flowing, or that has lost a race.
        """
        elapsed_s = now - attempt.started_at
        excused = job.begun or self._lost_race(attempt, job)
        slot = None if excused else self._table.get(attempt.member)
        error = AttemptTimeoutError(f"{attempt.member} had not answered by the deadline")
        if slot is not None and slot.load.overdue(elapsed_s, now):
            self._count_failure(attempt, job, FailureKind.TIMEOUT, error, elapsed_s)
        else:
            self._outbox.ignored(attempt, now)
        job.failed(attempt, FailureKind.TIMEOUT, error, elapsed_s)
        self._detach(job, attempt, CancelReason.DEADLINE)

    def _on_cancel(self, message: Cancel) -> bool:
        job = self._jobs.get(message.request_id)
        return job is not None and self._cancel(job)

    def _on_given_up(self, message: GivenUp) -> None:
        job = self._jobs.get(message.future.request_id or "")
        if job is not None and job.future is message.future and self._cancel(job):
            message.future.let_asker_go()

    def _cancel(self, job: Job) -> bool:
        now = self.clock.now()
        if not self._abort(job, CancelReason.CALLER):
            return False
        self._end(job)
        error = RequestCancelledError(f"request {job.id} was cancelled by its caller")
        self._tell_asker(job, error, self._answers.cancelled, now - job.accepted_at)
        self._check_idle()
        self._pump()
        return True

    # -- the supervisor's word

    def _on_snapshot(self, snapshot: RoutingSnapshot) -> None:
        if not self._table.apply(snapshot):
            if self._table.misses(snapshot):
                self._ask_for_table()
            return
        for attempt in [each for each in self._attempts.values() if not self._stands(each)]:
            self._crashed(attempt)
        for slot in self._table if snapshot.since is None else self._changed(snapshot):
            self._check_drained(slot)
        for job in self._queue:  # who waits may be served now, or would wait in vain
            self._route(job)
        self._review_guests()

    def _changed(self, snapshot: RoutingSnapshot) -> list[Slot]:
        slots = (self._table.get(route.name) for route in snapshot.members)
        return [slot for slot in slots if slot is not None]

    def _stands(self, attempt: Attempt) -> bool:
        slot = self._table.get(attempt.member)
        if slot is None or slot.index != attempt.index or slot.route.ref is None:
            return False
        return slot.route.incarnation == attempt.incarnation

    def _on_failures_seen(self, message: FailuresSeen) -> None:
        slot = self._table.get(message.member)
        if slot is not None and slot.route.incarnation == message.incarnation:
            slot.failures_judged(message.count)
            self._pump()
            self._review_guests()

    # -- commands

    def _on_command(self, command: Any) -> Any:
        self._outbox.flush()  # what the supervisor is asked about shall be what has happened
        if isinstance(command, ResetMember | ResetAll):
            self._forget_rests(command)
        self._commands.forward(self._supervisor, command, self.mailbox.reply_to)
        return PENDING

    def _forget_rests(self, command: ResetMember | ResetAll) -> None:
        """A member that is reset by hand takes requests as before, too."""
        for slot in self._table:
            if isinstance(command, ResetAll) or slot.name == command.name:
                if slot.rest.announced:
                    self._chronicle.rested(slot.name)
                slot.forget_rest()

    def _stats(self, members: tuple[MemberStats, ...]) -> PoolStats:
        complete = []
        now = self.clock.now()
        for stats in members:
            slot = self._table.get(stats.name)
            if slot is not None:
                free = slot.skip_reason() is None
                stats = replace(stats, in_flight=slot.in_flight, available=free)
                if slot.rest.until:
                    back_at = slot.back_at()
                    back_in_s = None if back_at is None else max(0.0, back_at - now)
                    stats = replace(stats, health=replace(stats.health, reopens_in_s=back_in_s))
            complete.append(stats)
        return PoolStats(
            self.name,
            strategy=strategy_name(self._table.strategy),
            members=tuple(complete),
            available=tuple(each.name for each in complete if each.available),
            pending=sum(job.current is None for job in self._jobs.values()),
            in_flight=len(self._attempts),
            draining=self._closed,
            **self._answers.counts,
        )

    def _on_subscribe(self, message: Subscribe) -> Any:
        return self.bus.subscribe(message.subscriber)

    # -- the end

    def _on_drain(self, message: Drain) -> Any:
        self._closed = True
        self._drains.add(self.mailbox.reply_to)
        if message.timeout_s is not None:
            timeout_s = message.timeout_s
            when = self.clock.now() + timeout_s
            self.alarms.at(when, lambda: self._drain_timed_out(timeout_s))
        self._check_idle()
        return PENDING

    def _drain_timed_out(self, timeout_s: float) -> None:
        if self._jobs:
            self._drains.failed = True
            self._fail_all(f"the drain of pool {self.name!r} timed out after {timeout_s:g} s")

    def _fail_all(self, reason: str) -> None:
        for job in list(self._jobs.values()):
            if not self._abort(job, CancelReason.STOPPING):
                continue
            self._fail(job, PoolStoppedError(reason))

    def on_stop(self) -> None:
        super().on_stop()
        self._wind_up(f"pool {self.name!r} was stopped")

    def on_failure(self, *exc_info: Any) -> None:
        super().on_failure(*exc_info)
        self._wind_up(f"pool {self.name!r} failed: {summary(exc_info[1])}")

    def _wind_up(self, reason: str) -> None:
        """Admission has ended; then the members, by way of the supervisor; then the pool itself."""
        self._closed = True
        self._drains.failed = self._drains.failed or bool(self._jobs)
        unfinished = len(self._jobs)
        self._fail_all(reason)
        unfinished -= len(self._jobs)  # those left have been answered on the spot
        self._drains.done()
        self._commands.fail_all(PoolStoppedError(reason))
        self._stop_supervisor()
        self.bus.emit(PoolStopped(pool=self.name, unfinished=unfinished))
        self.bus.close()

    def _stop_supervisor(self) -> None:
        if self._supervisor is None:
            return
        try:
            self._supervisor.stop(block=True, timeout=SUPERVISOR_STOP_TIMEOUT_S)
            self._supervisor.join(SUPERVISOR_STOP_TIMEOUT_S)
        except Exception as error:
            self.bus.complain_of("its supervisor did not stop in time", error)
