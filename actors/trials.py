"""Trials of half-open members beside the requests that carry them."""

from __future__ import annotations

from greenroom.actors.failures import Failures
from greenroom.actors.jobs import Attempt, Job, Race
from greenroom.actors.strategies import PickContext
from greenroom.actors.table import NoPick, Slot
from greenroom.messages.errors import RequestCancelledError
from greenroom.messages.execution import Failed, Succeeded
from greenroom.messages.status import FailureKind


class Trials(Failures):
    """A trial costs its request no wait, and nothing else: while somebody else can take it, now or
    before long, it goes there as if there were no trial, and the trial runs beside.

    If the trial answers first, that is the answer, and the other attempt is cancelled, as in any
    race. If it fails, nothing follows but the count. If it is later than the other one it goes on
    by itself, to its end or its time limit, since the breaker waits for it: it is `Attempt.alone`.
    It is charged to nobody: not to `max_retries`, nor to the budgets of retries and of hedges. A
    request that carries one is not hedged, and what is not idempotent carries none.
    """

    # -- it begins

    def _spare(
        self, job: Job, trial: Slot, context: PickContext
    ) -> tuple[Slot | NoPick, Slot | None]:
        """Whom to give it to in place of a half-open member, and whether to try that one beside.

        Raises:
            StrategyError: as by `RoutingTable.pick`.
        """
        table = self._table
        if table.one_at_a_time:
            return trial, None
        other = table.pick({*job.taken, *table.half_open}, context, exhaustive=True)
        full = job.cell is None and self._queue.size >= self.config.max_pending
        if other is NoPick.UNROUTABLE or (other is NoPick.BUSY and full):
            return trial, None
        if not job.work.idempotent or job.trial is not None:
            return other, None
        if job.race is None:
            job.race = Race()
        self._count_beside(job)
        return other, trial

    def _count_beside(self, job: Job) -> None:
        """The trial is counted before the other attempt, which may have answered before the trial
        begins. A request that waits counts as tried from now on.
        """
        waits = job.cell is not None
        if waits:
            self._queue.discard(job)
        job.attempts += 1
        job.extra += 1
        if waits:
            self._queue.add(job)

    def _try_beside(self, job: Job, slot: Slot, number: int, now: float) -> None:
        if self._jobs.get(job.id) is job and slot.is_free:
            self._dispatch(job, slot, now, beside=number)

    # -- its request goes on

    def _let_trial_go_on(self, job: Job) -> bool:
        """Let the request do without its trial; False if that has just answered it."""
        attempt = job.trial
        if attempt is None:
            return True
        if not self._can_leave(job, attempt):
            return False
        job.leave(attempt)
        attempt.alone = True
        timed = self._timeouts is not None if job.channel is None else attempt.alarm is not None
        if not timed and job.deadline is not None:
            limit_s = job.deadline - job.accepted_at
            attempt.alarm = self.alarms.at(
                job.deadline,
                lambda: self._end_overdue(attempt, "the time of its request", limit_s),
            )
        return True

    def _await_trial(self, job: Job) -> None:
        """The trial is all that the request has left, or its answer already."""
        job.await_trial()
        job.bound = None
        if job.cell is not None:
            self._queue.discard(job)
        if job.alarm is not None:
            job.alarm.cancel()
            job.alarm = None

    def _fail(self, job: Job, error: BaseException) -> None:
        """Not as long as the trial may still answer it."""
        if job.trial is None:
            super()._fail(job, error)
        else:
            self._await_trial(job)

    def _expire(self, job: Job, now: float) -> None:
        if self._let_trial_go_on(job):
            super()._expire(job, now)
        elif job.cell is not None:  # it has just been answered: the report is on its way
            self._queue.discard(job)

    # -- it ends by itself

    def _trial_succeeded(self, attempt: Attempt, elapsed_s: float) -> None:
        """It has come too late for its request, but not for the breaker."""
        attempt.alone = False
        ended_at = min(attempt.started_at + elapsed_s, self.clock.now())
        slot = self._table.get(attempt.member)
        if slot is not None:
            slot.load.succeeded(elapsed_s, ended_at)
        if self._table.learns:
            self._table.record(attempt.member, True)
        self._outbox.succeeded(attempt, elapsed_s, ended_at)
        if self.bus.listening():
            self._chronicle.succeeded(attempt, elapsed_s)

    def _trial_failed(
        self,
        attempt: Attempt,
        kind: FailureKind,
        error: BaseException,
        elapsed_s: float,
        retry_after_s: float | None = None,
        opens_at_once: bool = False,
    ) -> None:
        """The same of a failure; not of one that is there because its request has gone on."""
        attempt.alone = False
        if isinstance(error, RequestCancelledError) or attempt.first_chunk_s is not None:
            self._outbox.ignored(attempt, self.clock.now())
            return
        self._chronicle.failed(attempt, kind, error, elapsed_s)
        self._count_failure(attempt, None, kind, error, elapsed_s, retry_after_s, opens_at_once)

    def _trial_reported(self, attempt: Attempt, message: Succeeded | Failed) -> None:
        """The member's report of a trial that nobody waits for. Its stream is refused with its
        first chunk, and so is cancelled by itself: as a trial it has succeeded by then.
        """
        refused = isinstance(message, Failed) and message.kind is FailureKind.CANCELLED
        if isinstance(message, Succeeded) or refused:
            self._trial_succeeded(attempt, message.elapsed_s)
        else:
            elapsed_s, after_s = message.elapsed_s, message.retry_after_s
            at_once = message.opens_at_once
            self._trial_failed(attempt, message.kind, message.error, elapsed_s, after_s, at_once)

    def _lost(
        self,
        job: Job,
        attempt: Attempt,
        kind: FailureKind,
        error: BaseException,
        elapsed_s: float,
        retry_after_s: float | None,
    ) -> None:
        """An attempt that has lost its race has failed: nobody minds, but for a trial."""
        if attempt is job.trial:
            job.leave(attempt)
            self._trial_failed(attempt, kind, error, elapsed_s, retry_after_s)
        else:
            self._ignore(job, attempt)
            self._heed(attempt, kind, retry_after_s)
