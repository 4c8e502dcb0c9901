"""Admission to the waiting queue: its bound, who gives way to whom, who has waited too long."""

from __future__ import annotations

from typing import Any

from greenroom.actors.ancestry import tickets_of
from greenroom.actors.books import Books
from greenroom.actors.circles import Circles
from greenroom.actors.future import AskTimeoutError, Waits
from greenroom.actors.jobs import Job
from greenroom.actors.report import account
from greenroom.messages.errors import DeadlineExceededError, PoolSaturatedError, ReentrantAskError


class Admission(Books):
    """Lets requests wait, `max_pending` of them. Where there are more, the expired ones go first,
    then the one that would be served last. One that a member has had already never has to go.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._guests: list[Job] = []
        self._circles = Circles(self.actor_urn, self._jobs)
        self.handlers[Waits] = self._on_waits

    def _enqueue(self, job: Job, now: float) -> None:
        """Let the request wait, or turn one away: another that ranks behind it, else itself."""
        if job.future is not None and job.future.inside and self._closes_a_circle(job):
            self._fail(job, self._reentrant(job))
            return
        newcomer = job.attempts == 0 and job.cell is None
        if newcomer and self._is_full(now):
            last = self._queue.displaced_by(job)
            self._shed(last or job, now)
            if last is None:
                return
        self._queue.add(job)
        if newcomer and len(self._queue) > self.config.max_pending:
            self._guests.append(job)

    def _closes_a_circle(self, job: Job) -> bool:
        """Whether calls of this pool wait for the request that is about to queue, and every slot
        that could become free is held by such calls: nobody would ever give one back.

        Calls of other pools in between are seen through. Not seen: two requests that wait for each
        other by way of two pools; their time limits end that.
        """
        return bool(self._circles.waiting_for(job)) and self._is_dead_locked(job)

    def _is_dead_locked(self, job: Job | None = None) -> bool:
        if not self._attempts or self._table.epoch == 0:
            return False
        if self._attempts.keys() - self._circles.blocked(job):
            return False
        if self._table.earliest_reopening() is not None:
            return False
        return not any(slot.is_awaited() and slot.in_flight < slot.limit for slot in self._table)

    def _on_waits(self, message: Waits) -> None:
        """Code inside a call of this pool begins to wait for a request, or ends that."""
        future = message.future
        job = self._jobs.get(future.request_id or "")
        if job is None or job.future is not future:
            return
        if message.over:
            self._circles.waits_no_more(job, message.inside)
            return
        self._circles.waits(job, message.inside)
        queued = self._circles.queued()
        if queued and self._is_dead_locked():  # one that is told will free its caller's slot
            last = job if job.cell is not None else queued[0]
            self._fail(last, self._reentrant(last))

    def _reentrant(self, job: Job) -> ReentrantAskError:
        inside = job.future.inside if job.future is not None else ()
        asking = ", ".join(ticket[0] for ticket in tickets_of(self.actor_urn, inside))
        return ReentrantAskError(
            f"pool {self.name!r} was asked from inside its own request {asking}, which holds the "
            f"slot that {job.id} would wait for: give the member more max_concurrency, ask another "
            f"pool, or tell instead of ask"
        )

    def _is_full(self, now: float) -> bool:
        """Whether nobody more may wait for a slot. Who waits only until the supervisor has spoken,
        at the start or after a failure, is not counted.
        """
        if len(self._queue) < self.config.max_pending or self._table.epoch == 0:
            return False
        self._drop_expired(now)
        return len(self._queue) - self._table.room_to_come() >= self.config.max_pending

    def _review_guests(self) -> None:
        """The supervisor has spoken: where those that were let in until then have found no member,
        as many have to go as are too many.
        """
        if not self._guests:
            return
        now = self.clock.now()
        self._drop_expired(now)
        guests = [job for job in self._guests if job.cell is not None]
        to_come = self._table.room_to_come()
        too_many = len(self._queue) - to_come - self.config.max_pending
        for _ in range(min(too_many, len(guests))):
            last = self._queue.last_untried()
            if last is not None:
                self._shed(last, now)
        self._guests = [job for job in guests if job.cell is not None] if to_come else []

    def _shed(self, job: Job, now: float) -> None:
        error = PoolSaturatedError(self.name, len(self._queue), self._room_in_s(now))
        self._forget(job)
        self._answers.shed(job, error)
        self._check_idle()

    def _room_in_s(self, now: float) -> float:
        """How long until those that wait will have been given to members."""
        wait_s = self._drain_rate.retry_after_s(max(len(self._queue), 1), now)
        reopening = None if self._attempts else self._table.earliest_reopening()
        return wait_s if reopening is None else max(wait_s, reopening - now)

    def _drop_expired(self, now: float) -> None:
        """Fail whoever has waited past its deadline, though its alarm has not gone off yet."""
        while (job := self._queue.expired(now)) is not None:
            self._expire(job, now)

    def _expire(self, job: Job, now: float) -> None:
        """The request, which no member has at this moment, has run out of time."""
        own = job.future is not None and job.future.deadline == job.deadline
        kind = AskTimeoutError if own else DeadlineExceededError
        errors = account(job.failures.values(), self._table, now)
        self._fail(job, kind(self.name, now - job.accepted_at, errors, job.failed_alike))
