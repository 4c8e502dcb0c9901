"""How requests end: the answer, the count, the event, or the dead letter."""

from __future__ import annotations

from typing import Any

from greenroom.actors.eventbus import EventBus
from greenroom.actors.future import PoolFuture
from greenroom.actors.jobs import Job
from greenroom.messages.errors import (
    PoolError,
    PoolSaturatedError,
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


class Answers:
    """Resolves the futures of requests and keeps the books.

    Attributes:
        counts: of requests, by how they ended; `accepted` is the sum of the next three and of what
            is under way.
    """

    def __init__(self, pool: str, bus: EventBus) -> None:
        self._pool = pool
        self._bus = bus
        self.counts = dict.fromkeys(COUNTS, 0)

    def value(self, job: Job, member: str, elapsed_s: float, listening: bool) -> None:
        """The request was answered by a member; the asker has the answer already.

        Args:
            listening: whether anybody is to be told.
        """
        self.counts["completed"] += 1
        if listening:
            self._completed(job, "answered", elapsed_s, member)

    def callers_fault(self, job: Job, error: BaseException, elapsed_s: float) -> None:
        """An agent said that the request itself is at fault: its error is passed on as it is."""
        self.counts["failed"] += 1
        try:
            self._completed(job, f"refused by the agent ({summary(error)})", elapsed_s)
        finally:  # whatever hears of it, whoever asks is told
            self._resolve(job, error)

    def cancelled(self, job: Job, error: BaseException, elapsed_s: float) -> None:
        """The caller has given the request up."""
        self.counts["cancelled"] += 1
        try:
            self._completed(job, "cancelled", elapsed_s)
        finally:
            self._resolve(job, error)

    def failure(self, job: Job, error: BaseException, elapsed_s: float) -> None:
        """The pool could not have the request answered."""
        self.counts["failed"] += 1
        try:
            self._bus.emit(
                RequestExhausted(
                    pool=self._pool,
                    request_id=job.id,
                    reason=summary(error),
                    attempts=job.attempts,
                    elapsed_s=elapsed_s,
                )
            )
        finally:
            self._resolve(job, error)

    def shed(self, job: Job, error: PoolSaturatedError) -> None:
        """The request was taken in, but there is no room for it to wait."""
        self.counts["failed"] += 1
        try:
            self._rejected(job.id, error)
        finally:
            self._resolve(job, error)

    def refused(self, job_id: str, future: PoolFuture[Any] | None, error: Exception) -> None:
        """The request was not taken in at all."""
        try:
            self._rejected(job_id, error)
        finally:
            if future is None:
                self.dead_letter(job_id, None, f"rejected: {error}")
            else:
                future.resolve(error=error)

    def dead_letter(self, job_id: str, member: str | None, reason: str) -> None:
        """Something that nobody is left to hear."""
        self._bus.emit(DeadLetter(pool=self._pool, member=member, request_id=job_id, reason=reason))

    def _resolve(self, job: Job, error: BaseException) -> None:
        if job.future is None:
            self.dead_letter(job.id, None, f"nobody asked for this error: {summary(error)}")
            return
        if not isinstance(error, Exception) or isinstance(error, _READ_AS_AN_END):
            # Never throw a SystemExit or its like at the caller, nor what ends a loop in silence.
            wrapped = PoolError(f"the agent raised {summary(error)}")
            wrapped.__cause__ = error
            error = wrapped
        job.future.resolve(error=error)

    def _rejected(self, job_id: str, error: Exception) -> None:
        self._bus.emit(RequestRejected(pool=self._pool, request_id=job_id, reason=str(error)))

    def _completed(
        self, job: Job, outcome: str, elapsed_s: float, member: str | None = None
    ) -> None:
        self._bus.emit(
            RequestCompleted(
                pool=self._pool,
                member=member,
                request_id=job.id,
                outcome=outcome,
                attempts=job.attempts,
                elapsed_s=elapsed_s,
            )
        )
