"""Trials of half-open members beside the requests that carry them."""

from __future__ import annotations

from dataclasses import dataclass

from greenroom.actors.claims.race import Race
from greenroom.actors.request.attempt_events import AttemptEvents
from greenroom.actors.request.attempt_results import AttemptResults
from greenroom.actors.request.attempts import Attempts
from greenroom.actors.request.chunk_limits import NO_ANSWER, Overdue
from greenroom.actors.request.flow_ports import FlowPorts
from greenroom.actors.request.job import QUEUED, Attempt, Failure, Job
from greenroom.actors.request.waiting_room import WaitingRoom
from greenroom.messages.errors import RequestCancelledError
from greenroom.messages.status import FailureKind


@dataclass(slots=True, eq=False, repr=False)
class Trials:
    """A trial costs its request no wait, and nothing else: while somebody else can take it, now or
    before long, it goes there as if there were no trial, and the trial runs beside.

    If the trial answers first, that is the answer, and the other attempt is cancelled, as in any
    race. If it fails, nothing follows but the count. If it is later than the other one it goes on
    by itself, to its end or its time limit, since the breaker waits for it: it is `Attempt.alone`.
    It is charged to nobody: not to `max_retries`, nor to the budgets of retries and of hedges. A
    request that carries one is not hedged, and what is not idempotent carries none.
    """

    _ports: FlowPorts
    _room: WaitingRoom
    _attempts: Attempts
    _attempt_results: AttemptResults
    _attempt_events: AttemptEvents
    _overdue: Overdue

    # -- it begins

    def count(self, job: Job, now: float) -> int:
        """A trial is to begin beside the request: the number of the attempt. It is counted before
        the other attempt, which may have answered before the trial begins. A request that waits
        counts as tried from now on.
        """
        if job.claim.race is None:
            job.claim.race = Race()
        # Out and in again: the queue keeps the tried ones apart by `attempts`, so that must not
        # change while a request is in it.
        waits = job.phase is QUEUED
        if waits:
            self._room.leave(job)
        # Both: `attempts` numbers the attempts of a request, `extra` is
        # taken off where they are charged.
        job.attempts += 1
        job.extra += 1
        job.promised = True
        if waits:
            self._room.enter(job, now)
        return job.attempts + job.skipped

    def take_back(self, job: Job, now: float) -> None:
        """The trial that was counted last does not begin: it is not counted."""
        waits = job.phase is QUEUED
        if waits:
            self._room.leave(job)
        job.take_back()
        if waits:
            self._room.enter(job, now)

    # -- its request goes on

    def let_go(self, job: Job) -> bool:
        """Let the request do without its trial; False if that has just answered it."""
        attempt = job.trial
        if attempt is None:
            return True
        if not self._attempts.can_leave(job, attempt):
            return False
        job.leave(attempt)
        attempt.alone = True
        # Its time limit goes on as it began: for asks by the one timer of all, for
        # streams by its alarm. Without either, a trial that hangs would hold its slot
        # for good: the request's deadline ends it.
        asked = job.channel is None
        timed = self._attempts.is_timed(attempt) if asked else attempt.alarm is not None
        if not timed and job.deadline is not None:
            limit_s = job.deadline - job.accepted_at
            attempt.alarm = self._ports.at(
                job.deadline,
                lambda: self._overdue(attempt, "the time of its request", limit_s, NO_ANSWER),
            )
        return True

    def await_(self, job: Job) -> None:
        """The trial is all that the request has left, or its answer already."""
        if job.phase is QUEUED:
            self._room.leave(job)
        job.await_trial()

    # -- it ends by itself

    def succeeded(self, attempt: Attempt, elapsed_s: float) -> None:
        """It has come too late for its request, but not for the breaker."""
        ended_at = min(attempt.started_at + elapsed_s, self._ports.now())
        attempt.alone = False
        self._attempt_results.succeeded(attempt, elapsed_s, ended_at, late=True)

    def failed(self, attempt: Attempt, failure: Failure) -> None:
        """The same of a failure; not of one that is there because its request has gone on."""
        attempt.alone = False
        if isinstance(failure.error, RequestCancelledError) or attempt.first_chunk_s is not None:
            self._attempt_results.ignored(attempt)
        else:
            self._attempt_events.failed(attempt, failure)
            self._attempt_results.failed(attempt, None, failure, self._ports.now())

    def reported_failed(self, attempt: Attempt, failure: Failure) -> None:
        """The member says so of one that nobody waits for. Its stream is refused with its first
        chunk, and so is cancelled by itself: as a trial it has succeeded by then.
        """
        if failure.kind is FailureKind.CANCELLED:
            self.succeeded(attempt, failure.elapsed_s)
        else:
            self.failed(attempt, failure)
