"""How requests end: the answer, the count, the event, or the dead letter."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from greenroom.actors.policy.throughput import Throughput
from greenroom.actors.request.attempt_results import AttemptResults
from greenroom.actors.request.flow_observer import Ended
from greenroom.actors.request.flow_ports import FlowPorts
from greenroom.actors.request.job import QUEUED, Job
from greenroom.actors.request.waiting_room import WaitingRoom
from greenroom.actors.runtime.future import PoolFuture
from greenroom.messages.errors import (
    PoolError,
    PoolSaturatedError,
    PoolStoppedError,
    RequestCancelledError,
    summary,
)
from greenroom.messages.events import (
    DeadLetter,
    RequestCompleted,
    RequestExhausted,
    RequestRejected,
)

_READ_AS_AN_END = (StopIteration, StopAsyncIteration)

COUNTS = ("accepted", "completed", "failed", "cancelled", "retries", "hedges")


@dataclass(slots=True, eq=False, repr=False)
class Endings:
    """The requests in flight, until each has its end: it leaves the books, what it says of the
    members is settled, it is counted, and whoever asks and whoever listens is told. In that order:
    the next request of who is told shall find the pool as it is.

    Args:
        idle: called once the pool is closed and nothing is in flight any more.

    Attributes:
        jobs: the requests in flight, by id. Only `RequestFlow` puts them in.
        counts: of requests, by how they ended; `accepted` is the sum of the next three and of what
            is under way.
        closed: whether no more requests are taken in.
    """

    _ports: FlowPorts
    _pool: str
    _room: WaitingRoom
    _attempt_results: AttemptResults
    _throughput: Throughput
    _idle: Callable[[], object]
    jobs: dict[str, Job] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTS, 0))
    closed: bool = False

    def answered(self, job: Job, member: str | None) -> None:
        """A member has answered; the asker has the answer already.

        Args:
            member: None if it is not known which one.
        """
        elapsed_s = self._end(job, "completed", "answered", member=member)
        if self._ports.events.listening():
            self._completed(job, "answered", elapsed_s, member)
        self.check_idle()

    def callers_fault(self, job: Job, error: BaseException) -> None:
        """An agent said that the request itself is at fault: its error is passed on as it is."""
        with self._telling(job, error):
            elapsed_s = self._end(job, "failed", "failed", error)
            self._completed(job, f"refused by the agent ({summary(error)})", elapsed_s)

    def cancelled(self, job: Job) -> None:
        """The caller has given the request up."""
        error = RequestCancelledError(f"request {job.id} was cancelled by its caller")
        with self._telling(job, error):
            elapsed_s = self._end(job, "cancelled", "cancelled", error)
            self._completed(job, "cancelled", elapsed_s)

    def failed(self, job: Job, error: BaseException) -> None:
        """The pool could not have the request answered."""
        with self._telling(job, error):
            elapsed_s = self._end(job, "failed", "failed", error)
            self._ports.events.emit(
                RequestExhausted(
                    pool=self._pool,
                    request_id=job.id,
                    reason=summary(error),
                    attempts=job.attempts,
                    elapsed_s=elapsed_s,
                )
            )

    def shed(self, job: Job, waiting: int, reopening: float | None, of_key: bool = False) -> None:
        """The request was taken in, but there is no room for it to wait.

        Args:
            waiting: how many were in its way.
            reopening: when the first member is back; None if there is one, or nobody says.
            of_key: whether those of its key alone are meant.
        """
        now = self._ports.now()
        # At least one has to go before: with max_pending=0 nobody waits, and yet there is no room.
        wait_s = self._throughput.retry_after_s(max(waiting, 1), now)
        if reopening is not None:
            wait_s = max(wait_s, reopening - now)
        reason: Literal["max_pending", "max_pending_per_key"] = "max_pending"
        if of_key:
            reason = "max_pending_per_key"
        error = PoolSaturatedError(self._pool, waiting, wait_s, reason)
        with self._telling(job, error):
            # Not `_end`: it has had no slot, so it says nothing of the
            # pace, and no failure of it is to settle.
            self.forget(job, "failed", "rejected", error)
            self._rejected(job.id, error)

    def close(self) -> None:
        """Take no more requests in."""
        self.closed = True
        self.check_idle()

    def check_idle(self) -> None:
        """Whoever waits for the last request to end is told."""
        if self.closed and not self.jobs:
            self._idle()

    @contextmanager
    def _telling(self, job: Job, error: BaseException) -> Iterator[None]:
        """Whatever comes of its end, whoever asks is told then: it is in no book any more, so
        nobody else would.
        """
        try:
            yield
        finally:
            try:
                self._resolve(job, error)
            except BaseException:
                # Without the dead letter and all else that may have raised.
                self._ports.fail(job, error)
                raise

    def _end(
        self,
        job: Job,
        count: str,
        how: Ended,
        error: BaseException | None = None,
        member: str | None = None,
    ) -> float:
        """Have done with it; how long it has taken, in seconds."""
        try:
            # Who was never given to a member (cancelled in the queue) says
            # nothing of how long requests take.
            if job.attempts > job.promised:
                self._throughput.ended()
            if job.blame is not None:
                self._attempt_results.settle(job, job.blame, how == "answered")
        finally:
            self.forget(job, count, how, error, member)
        return self._ports.now() - job.accepted_at

    def forget(
        self,
        job: Job,
        count: str,
        how: Ended,
        error: BaseException | None = None,
        member: str | None = None,
    ) -> None:
        """It is in the books no more, but for the count of those that ended like that."""
        # An id may have been given away again, and a second end of the same request counts once.
        if self.jobs.get(job.id) is job:
            del self.jobs[job.id]
            self.counts[count] += 1
            if (observer := self._ports.observer) is not None:
                observer.ended(job, how, error, member, self._ports.now())
        # Cancelled or out of time while it waits; who was given to a
        # member has left the queue before.
        if job.phase is QUEUED:
            self._room.leave(job)
        if job.promised:
            job.take_back()
        job.end()

    def refused(self, job_id: str, future: PoolFuture[Any] | None) -> None:
        """The request was not taken in at all: the pool is closed, or another one has its id."""
        error: Exception
        if self.closed:
            reason = f"pool {self._pool!r} is draining and takes no more requests"
            error = PoolStoppedError(reason, refused=True)
        else:
            rule = "request_id must be unique among the requests in flight"
            error = ValueError(f"{rule}, got {job_id!r}")
        if self._ports.observer is not None:
            self._ports.observer.turned_away(job_id, error, self._ports.now())
        try:
            self._rejected(job_id, error)
        finally:
            if future is None:
                self.dead_letter(job_id, None, f"rejected: {error}")
            else:
                future.resolve(error=error)

    def dead_letter(self, job_id: str, member: str | None, reason: str) -> None:
        """Something that nobody is left to hear."""
        self._ports.events.emit(
            DeadLetter(pool=self._pool, member=member, request_id=job_id, reason=reason)
        )

    def _resolve(self, job: Job, error: BaseException) -> None:
        raised = error
        if not isinstance(error, Exception) or isinstance(error, _READ_AS_AN_END):
            # Never throw a SystemExit or its like at the caller, nor what ends a loop in silence.
            raised = PoolError(f"the agent raised {summary(error)}")
            raised.__cause__ = error
        if not self._ports.fail(job, raised):
            self.dead_letter(job.id, None, f"nobody asked for this error: {summary(error)}")
        self.check_idle()

    def _rejected(self, job_id: str, error: Exception) -> None:
        self._ports.events.emit(
            RequestRejected(pool=self._pool, request_id=job_id, reason=str(error))
        )

    def _completed(
        self, job: Job, outcome: str, elapsed_s: float, member: str | None = None
    ) -> None:
        self._ports.events.emit(
            RequestCompleted(
                pool=self._pool,
                member=member,
                request_id=job.id,
                outcome=outcome,
                attempts=job.attempts,
                elapsed_s=elapsed_s,
            )
        )
