"""The pool router: takes requests in, gives each to a member, answers every ask exactly once."""

from __future__ import annotations

import itertools
import random
import threading
from dataclasses import dataclass, replace
from typing import Any

from greenroom.actors.answers import Answers
from greenroom.actors.base import PoolActor, tell
from greenroom.actors.chronicle import Chronicle
from greenroom.actors.clock import Clock
from greenroom.actors.commands import FORWARDED, Commands
from greenroom.actors.desk import Desk, reply
from greenroom.actors.drains import Drains
from greenroom.actors.eventbus import EventBus
from greenroom.actors.future import PENDING, AskTimeoutError, GivenUp, PoolFuture
from greenroom.actors.jobs import Attempt, Job, Work
from greenroom.actors.load import DrainRate
from greenroom.actors.outbox import Outbox
from greenroom.actors.report import account, all_failed, why_unroutable
from greenroom.actors.retry import (
    LASTING,
    GiveUp,
    RaiseAsIs,
    RetryBudget,
    RetryPolicy,
    Situation,
    TryLater,
    TryNow,
    plan_retry,
)
from greenroom.actors.strategies import PickContext, RoutingStrategy, strategy_name
from greenroom.actors.table import NoPick, RoutingTable, Slot
from greenroom.actors.waiting import WaitingQueue
from greenroom.messages.config import PoolConfig
from greenroom.messages.errors import (
    AttemptTimeoutError,
    DeadlineExceededError,
    MemberCrashedError,
    PoolError,
    PoolSaturatedError,
    PoolStoppedError,
    StrategyError,
    summary,
)
from greenroom.messages.events import PoolStopped
from greenroom.messages.execution import (
    CancelExecution,
    Execute,
    Failed,
    Refused,
    SideEffectsStarted,
    Succeeded,
    Ticket,
)
from greenroom.messages.replies import MemberStats, PoolStats
from greenroom.messages.requests import Apply, Cancel, Drain, Request, Subscribe
from greenroom.messages.status import CancelReason, FailureKind, RefusalReason, SkipReason
from greenroom.messages.supervision import (
    CommandDone,
    FailuresSeen,
    MemberDrained,
    RoutingSnapshot,
    TrialStarted,
)

SUPERVISOR_STOP_TIMEOUT_S = 10.0
"""How long the end of a pool waits for its supervisor and members to clean up."""


@dataclass(frozen=True, slots=True)
class Attach:
    """The first message to a router: who supervises its members."""

    supervisor: Any


class PoolRouter(PoolActor):
    """Owns the requests in flight, the waiting queue, in-flight counts, load estimates, the retry
    budget. It runs no user code but the strategy's, never waits, and changes no breaker.
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
        desk: Desk,
    ) -> None:
        super().__init__(clock)
        self.name = name
        self.config = config
        self.bus = bus
        self.desk = desk
        self.ended = threading.Event()
        self._rng = rng
        self._supervisor: Any = None
        self._table = RoutingTable(strategy, rng)
        self._exhaustive = bool(getattr(strategy, "exhaustive", False))
        self._policy = RetryPolicy.from_config(config, exhaustive=self._exhaustive)
        self._budget = RetryBudget(config.retry_budget_ratio, config.retry_budget_floor)
        self._outbox = Outbox(config, self.alarms)
        self._answers = Answers(name, bus)
        self._chronicle = Chronicle(name, bus)
        self._commands = Commands(name, self._stats)
        self._drain_rate = DrainRate()
        self._jobs: dict[str, Job] = {}
        self._queue = WaitingQueue()
        self._attempts: dict[Ticket, Attempt] = {}
        self._numbers = itertools.count(1)
        self._closed = False
        self._drains = Drains()
        self.mailbox.hurried = self._awaits_reports
        self.handlers.update(
            {
                Attach: self._on_attach,
                Request: self._on_work,
                Apply: self._on_work,
                Cancel: self._on_cancel,
                GivenUp: self._on_given_up,
                Succeeded: self._on_succeeded,
                Failed: self._on_failed,
                Refused: self._on_refused,
                SideEffectsStarted: self._on_side_effects,
                RoutingSnapshot: self._on_snapshot,
                FailuresSeen: self._on_failures_seen,
                CommandDone: self._commands.done,
                Drain: self._on_drain,
                Subscribe: self._on_subscribe,
                **dict.fromkeys(FORWARDED, self._on_command),
            }
        )

    def _on_attach(self, message: Attach) -> None:
        self._supervisor = self._outbox.supervisor = message.supervisor

    def _awaits_reports(self) -> bool:
        """Whether something hangs on the next slot that is given back."""
        return self._closed or len(self._queue) > 0 or self._table.draining

    # -- a request comes in

    def _on_work(self, work: Work) -> Any:
        future = self.mailbox.reply_to
        now = self.clock.now()
        job_id = (future.request_id if future is not None else None) or work.request_id
        job_id = job_id or f"{self.name}-t{next(self._numbers)}"
        refusal = self._refusal(job_id)
        if refusal is not None:
            self._answers.refused(job_id, future, refusal)
            return PENDING
        policy = self._policy
        if work.max_retries is not None:
            policy = RetryPolicy.from_config(self.config, work.max_retries, self._exhaustive)
        job = Job(job_id, work, future, now, self._deadline(work, future, now), policy)
        self._jobs[job_id] = job
        self._answers.counts["accepted"] += 1
        self._budget.deposit(now)
        if job.deadline is not None:
            if job.deadline <= now:  # it has lain in the mailbox for too long
                self._out_of_time(job)
                return PENDING
            job.deadline_alarm = self.alarms.at(job.deadline, lambda: self._out_of_time(job))
        self._route(job)
        return PENDING

    def _refusal(self, job_id: str) -> Exception | None:
        if self._closed:
            return PoolStoppedError(f"pool {self.name!r} is draining and takes no more requests")
        if job_id in self._jobs:
            return ValueError(
                f"request_id must be unique among the requests in flight, got {job_id!r}"
            )
        return None

    def _deadline(self, work: Work, future: PoolFuture[Any] | None, now: float) -> float | None:
        if work.timeout_s is None and self.config.deadline_s is None:
            return None if future is None else future.deadline
        limits = [now + limit for limit in (work.timeout_s, self.config.deadline_s) if limit]
        if future is not None and future.deadline is not None:
            limits.append(future.deadline)
        return min(limits, default=None)

    # -- whom it is given to

    def _route(self, job: Job) -> None:
        """Give the request to a member, or let it wait, or fail it."""
        now = self.clock.now()
        context = PickContext(now, job.work.key, job.id)
        try:
            choice = self._table.pick(job.failures, context, job.policy.exhaustive)
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
        reopening = self._table.earliest_reopening()
        if reopening is not None and reopening <= now:
            return True  # its time has come: the supervisor's word is on its way
        if self.config.when_unavailable != "wait":
            return False
        if self._table.trial_running():
            return True
        return reopening is not None and (job.deadline is None or reopening < job.deadline)

    def _enqueue(self, job: Job, now: float) -> None:
        if job.attempts == 0 and job.cell is None and self._is_full():
            pending = len(self._queue)
            wait_s = self._drain_rate.retry_after_s(max(pending, 1), now)
            self._forget(job)
            self._answers.shed(job, PoolSaturatedError(self.name, pending, wait_s))
        else:
            self._queue.add(job)

    def _is_full(self) -> bool:
        """Whether nobody more may wait for a slot. Who waits only until the supervisor has spoken,
        at the start or after a failure, is not counted.
        """
        if len(self._queue) < self.config.max_pending or self._table.epoch == 0:
            return False
        return len(self._queue) - self._table.room_to_come() >= self.config.max_pending

    def _pump(self) -> None:
        """Give waiting requests, the first ones first, to whoever has become free."""
        while (job := self._queue.first()) is not None and self._table.has_room():
            self._route(job)
            if job.cell is not None:  # it cannot use the room there is: others may
                self._pump_past(job)
                return

    def _pump_past(self, first: Job) -> None:
        alike = self._table.treats_alike  # then where one untried request finds nobody, none does
        stuck = alike and not first.failures
        for job in self._queue:
            if job is first or (stuck and not job.failures):
                continue
            self._route(job)
            stuck = stuck or (alike and job.cell is not None and not job.failures)
            if not self._table.has_room():
                return

    def _dispatch(self, job: Job, slot: Slot, now: float) -> None:
        self._queue.discard(job)
        route = slot.route
        trial = route.trial_permits is not None
        job.attempts += 1
        attempt = Attempt(job, slot.name, slot.index, route.incarnation, route.epoch, trial, now)
        while attempt.ticket in self._attempts:
            attempt.renumber()
        job.current = attempt
        self._attempts[attempt.ticket] = attempt
        self.desk.open(attempt.ticket, job)
        slot.in_flight += 1
        if trial:
            slot.trials_started += 1
            started = TrialStarted(
                member=slot.name, incarnation=route.incarnation, epoch=route.epoch, at=now
            )
            tell(self._supervisor, started)
        if job.attempts > 1:
            self._answers.counts["retries"] += 1
        self._chronicle.started(job, slot.name)
        self._send(job, attempt, slot, now)

    def _send(self, job: Job, attempt: Attempt, slot: Slot, now: float) -> None:
        deadline = job.deadline
        if self.config.request_timeout_s is not None:
            timeout_at = now + self.config.request_timeout_s
            attempt.alarm = self.alarms.at(timeout_at, lambda: self._attempt_timed_out(attempt))
            deadline = timeout_at if deadline is None else min(deadline, timeout_at)
        work = job.work
        message = Execute(
            request_id=job.id,
            attempt=attempt.number,
            incarnation=attempt.incarnation,
            payload=work.payload if isinstance(work, Request) else None,
            function=work.function if isinstance(work, Apply) else None,
            deadline=deadline,
            key=work.key,
            priority=work.priority,
            metadata=work.metadata,
        )
        if not tell(slot.route.ref, message):
            # Its actor has ended and the supervisor has not said so yet: it never started.
            slot.route = replace(slot.route, ref=None, blocked=SkipReason.STARTING)
            self.desk.claim(attempt.ticket)
            self._release(attempt)
            self._never_started(attempt, MemberCrashedError(f"{slot.name} has ended"))

    # -- how an attempt ends

    def _on_succeeded(self, message: Succeeded) -> None:
        attempt = self._reported(message)
        job = attempt.job if attempt is not None else None
        if attempt is None or job is None:
            self._answers.dead_letter(message.request_id, message.member, "a late result")
        else:
            now = self.clock.now()
            ended_at = min(now, attempt.started_at + message.elapsed_s)  # it may have lain aside
            slot = self._table.get(attempt.member)
            if slot is not None:
                slot.load.succeeded(message.elapsed_s, ended_at)
            self._table.record(attempt.member, True)
            self._outbox.succeeded(attempt, message.elapsed_s, ended_at)
            self._chronicle.succeeded(attempt, message.elapsed_s)
            if self.desk.claim(attempt.ticket) is not None:  # nobody has answered on the spot
                reply(job, message.value, attempt.member, now - job.accepted_at)
            self._end(job, now)
            self._answers.value(job, attempt.member, now - job.accepted_at)
            self._check_idle()
        self._pump()

    def _on_failed(self, message: Failed) -> None:
        attempt = self._reported(message)
        if attempt is not None and attempt.job is not None:
            self.desk.claim(attempt.ticket)
            attempt.side_effects = attempt.side_effects or message.side_effects
            self._attempt_failed(
                attempt, message.kind, message.error, message.elapsed_s, message.retry_after_s
            )
        self._pump()

    def _on_refused(self, message: Refused) -> None:
        attempt = self._reported(message)
        if attempt is not None:
            self.desk.claim(attempt.ticket)
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
            self._release(attempt)
        return attempt

    def _attempt_of(
        self, message: Succeeded | Failed | Refused | SideEffectsStarted
    ) -> Attempt | None:
        """The attempt that a message is about; None for one that ended with its member's actor."""
        attempt = self._attempts.get((message.request_id, message.attempt))
        if attempt is None:
            return None
        sender = (message.member, message.incarnation)
        return attempt if (attempt.member, attempt.incarnation) == sender else None

    def _release(self, attempt: Attempt) -> None:
        """The member has let go of the attempt: its slot is free."""
        self._attempts.pop(attempt.ticket, None)
        if attempt.alarm is not None:
            attempt.alarm.cancel()
        slot = self._table.get(attempt.member)
        if slot is not None and slot.route.incarnation == attempt.incarnation:
            slot.in_flight = max(0, slot.in_flight - 1)
            self._check_drained(slot)

    def _check_drained(self, slot: Slot) -> None:
        if slot.in_flight == 0 and slot.route.blocked is SkipReason.DRAINING:
            tell(self._supervisor, MemberDrained(slot.name))

    def _attempt_timed_out(self, attempt: Attempt) -> None:
        """The attempt has had its time; whoever asks must not wait for the member to notice."""
        attempt.alarm = None
        if attempt.job is not None and self.desk.claim(attempt.ticket) is None:
            return  # it has just been answered: the report is on its way
        self._cancel_execution(attempt, CancelReason.ATTEMPT_TIMEOUT)
        if attempt.job is not None:
            elapsed_s = self.clock.now() - attempt.started_at
            error = AttemptTimeoutError(
                f"{attempt.member} did not answer within request_timeout_s="
                f"{self.config.request_timeout_s:g}"
            )
            self._attempt_failed(attempt, FailureKind.TIMEOUT, error, elapsed_s, None)
            self._pump()

    def _crashed(self, attempt: Attempt) -> None:
        """The member's actor is gone, and the attempt with it."""
        if attempt.job is not None and self.desk.claim(attempt.ticket) is None:
            return  # it has just been answered: the report is on its way
        self._release(attempt)
        if attempt.job is not None:
            elapsed_s = self.clock.now() - attempt.started_at
            error = MemberCrashedError(f"{attempt.member} ended while it worked on the request")
            self._attempt_failed(attempt, FailureKind.CRASHED, error, elapsed_s, None)

    def _attempt_failed(
        self,
        attempt: Attempt,
        kind: FailureKind,
        error: BaseException,
        elapsed_s: float,
        retry_after_s: float | None,
    ) -> None:
        """An attempt ended badly and its request still waits: count it, and see what follows."""
        job = attempt.job
        assert job is not None
        self._chronicle.failed(attempt, kind, error, elapsed_s)
        self._count_failure(attempt, kind, error, elapsed_s, retry_after_s)
        job.failed(attempt, kind, error, elapsed_s)
        self._follow_up(job, attempt, kind, error, retry_after_s, started=True)

    def _count_failure(
        self,
        attempt: Attempt,
        kind: FailureKind,
        error: BaseException,
        elapsed_s: float,
        retry_after_s: float | None = None,
    ) -> None:
        now = self.clock.now()
        slot = self._table.get(attempt.member)
        if kind.counts_for_breaker:
            if slot is not None:
                slot.load.failed(elapsed_s, now)
            self._table.record(attempt.member, False)
        self._outbox.failed(attempt, slot, kind, error, elapsed_s, retry_after_s, now)

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
        if kind is FailureKind.CREATE_FAILED:
            self._table.record(attempt.member, False)
        job.failed(attempt, kind, error, self.clock.now() - attempt.started_at)
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
        job.current = None
        attempt.detach()
        now = self.clock.now()
        situation = Situation(
            kind=kind,
            started=started,
            side_effects=attempt.side_effects,
            retry_after_s=retry_after_s,
            attempts=job.attempts,
            backoffs=job.backoffs,
            idempotent=job.work.idempotent,
            untried=self._table.could_take(job.failures),
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
                self._end(job, now)
                self._answers.callers_fault(job, error, now - job.accepted_at)
                self._check_idle()

    def _could_recover(self, job: Job) -> bool:
        return any(
            failure.kind not in LASTING and self._table.get(name) is not None
            for name, failure in job.failures.items()
        )

    def _retry_later(self, job: Job, member: str, delay_s: float, now: float) -> None:
        job.backoffs += 1
        self._chronicle.retry(job, member, delay_s)
        job.alarm = self.alarms.at(now + delay_s, lambda: self._route(job))

    # -- how a request ends

    def _end(self, job: Job, now: float) -> None:
        """The request is done with; its answer follows."""
        self._drain_rate.completed(now)
        self._forget(job)

    def _forget(self, job: Job) -> None:
        """The request leaves the router's books."""
        self._jobs.pop(job.id, None)
        self._queue.discard(job)
        job.cancel_alarms()

    def _check_idle(self) -> None:
        """Once the last request has been answered, whoever drains the pool is told."""
        if self._closed and not self._jobs:
            self._drains.done()

    def _fail(self, job: Job, error: Exception) -> None:
        now = self.clock.now()
        self._end(job, now)
        self._answers.failure(job, error, now - job.accepted_at)
        self._check_idle()

    def _fail_unroutable(self, job: Job, now: float) -> None:
        waits = self.config.when_unavailable == "wait"
        reason = why_unroutable(job, self._table, waits, now)
        self._fail(job, all_failed(self.name, job, self._table, reason, now))

    def _out_of_time(self, job: Job) -> None:
        """The deadline of the whole request is over."""
        now = self.clock.now()
        if job.current is not None:
            if self.desk.claim(job.current.ticket) is None:
                return  # it has just been answered: the report is on its way
            self._cut_short(job, job.current, now)
        own = job.future is not None and job.future.deadline == job.deadline
        kind = AskTimeoutError if own else DeadlineExceededError
        errors = account(job.failures.values(), self._table, now)
        self._fail(job, kind(self.name, now - job.accepted_at, errors))
        self._pump()

    def _cut_short(self, job: Job, attempt: Attempt, now: float) -> None:
        """A member that took longer than it usually does has timed out; one that was cut short
        has not: a caller in a hurry must not open the breaker of a healthy member.
        """
        elapsed_s = now - attempt.started_at
        slot = self._table.get(attempt.member)
        error = AttemptTimeoutError(f"{attempt.member} had not answered by the deadline")
        if slot is not None and slot.load.overdue(elapsed_s, now):
            self._count_failure(attempt, FailureKind.TIMEOUT, error, elapsed_s)
        else:
            self._outbox.ignored(attempt, now)
        job.failed(attempt, FailureKind.TIMEOUT, error, elapsed_s)
        self._detach(job, attempt, CancelReason.DEADLINE)

    def _on_cancel(self, message: Cancel) -> bool:
        job = self._jobs.get(message.request_id)
        return job is not None and self._cancel(job)

    def _on_given_up(self, message: GivenUp) -> None:
        job = self._jobs.get(message.future.request_id or "")
        if job is not None and job.future is message.future:
            self._cancel(job)

    def _cancel(self, job: Job) -> bool:
        now = self.clock.now()
        if job.current is not None:
            if self.desk.claim(job.current.ticket) is None:
                return False  # it has just been answered: the report is on its way
            self._outbox.ignored(job.current, now)
            self._detach(job, job.current, CancelReason.CALLER)
        self._end(job, now)
        self._answers.cancelled(job, now - job.accepted_at)
        self._check_idle()
        self._pump()
        return True

    def _detach(self, job: Job, attempt: Attempt, reason: CancelReason) -> None:
        """The request leaves its attempt behind; the member frees the slot when it has ended."""
        job.current = None
        attempt.detach()
        self._cancel_execution(attempt, reason)

    def _cancel_execution(self, attempt: Attempt, reason: CancelReason) -> None:
        slot = self._table.get(attempt.member)
        if slot is None or slot.route.ref is None:
            return  # its actor has ended, and has cancelled what it had
        if slot.route.incarnation == attempt.incarnation:
            message = CancelExecution(
                request_id=attempt.request_id, attempt=attempt.number, reason=reason
            )
            tell(slot.route.ref, message)

    # -- the supervisor's word

    def _on_snapshot(self, snapshot: RoutingSnapshot) -> None:
        if not self._table.apply(snapshot):
            return
        for attempt in [each for each in self._attempts.values() if not self._stands(each)]:
            self._crashed(attempt)
        for slot in self._table:
            self._check_drained(slot)
        for job in self._queue:  # who waits may be served now, or would wait in vain
            self._route(job)

    def _stands(self, attempt: Attempt) -> bool:
        slot = self._table.get(attempt.member)
        if slot is None or slot.index != attempt.index or slot.route.ref is None:
            return False
        return slot.route.incarnation == attempt.incarnation

    def _on_failures_seen(self, message: FailuresSeen) -> None:
        slot = self._table.get(message.member)
        if slot is not None and slot.route.incarnation == message.incarnation:
            slot.failures_seen = max(slot.failures_seen, message.count)
            self._pump()

    # -- commands

    def _on_command(self, command: Any) -> Any:
        self._outbox.flush()  # what the supervisor is asked about shall be what has happened
        self._commands.forward(self._supervisor, command, self.mailbox.reply_to)
        return PENDING

    def _stats(self, members: tuple[MemberStats, ...]) -> PoolStats:
        complete = []
        for stats in members:
            slot = self._table.get(stats.name)
            if slot is not None:
                free = slot.skip_reason() is None
                stats = replace(stats, in_flight=slot.in_flight, available=free)
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
            if job.current is not None:
                if self.desk.claim(job.current.ticket) is None:
                    continue  # it has just been answered: the report is on its way
                self._outbox.ignored(job.current, self.clock.now())
                self._detach(job, job.current, CancelReason.STOPPING)
            self._fail(job, PoolStoppedError(reason))

    def on_stop(self) -> None:
        super().on_stop()
        self._wind_up(f"pool {self.name!r} was stopped")

    def on_failure(self, *exc_info: Any) -> None:
        super().on_failure(*exc_info)
        self._wind_up(f"pool {self.name!r} failed: {summary(exc_info[1])}")

    def _wind_up(self, reason: str) -> None:
        """Admission has ended; then the members, by way of the supervisor; then the pool itself."""
        try:
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
        finally:
            self.ended.set()

    def _stop_supervisor(self) -> None:
        if self._supervisor is None:
            return
        try:
            self._supervisor.stop(block=True, timeout=SUPERVISOR_STOP_TIMEOUT_S)
            self._supervisor.join(SUPERVISOR_STOP_TIMEOUT_S)
        except Exception as error:
            self.bus.complain_of("its supervisor did not stop in time", error)
