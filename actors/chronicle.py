"""The events of attempts, made only when somebody listens where they are made for every request."""

from __future__ import annotations

from greenroom.actors.eventbus import EventBus
from greenroom.actors.jobs import Attempt, Job
from greenroom.messages.errors import summary
from greenroom.messages.events import (
    AttemptFailed,
    AttemptStarted,
    AttemptSucceeded,
    Failover,
    RetryScheduled,
)
from greenroom.messages.status import FailureKind


class Chronicle:
    """Tells the event bus what becomes of a request's attempts."""

    def __init__(self, pool: str, bus: EventBus) -> None:
        self._pool = pool
        self._bus = bus

    def started(self, job: Job, member: str) -> None:
        """A member was given the request, after another had failed it or at first."""
        if job.failed_last not in (None, member):
            self._bus.emit(
                Failover(
                    pool=self._pool,
                    member=job.failed_last,
                    request_id=job.id,
                    attempt=job.attempts,
                    to=member,
                )
            )
        if self._bus.listening():
            self._bus.emit(
                AttemptStarted(
                    pool=self._pool, member=member, request_id=job.id, attempt=job.attempts
                )
            )

    def succeeded(self, attempt: Attempt, elapsed_s: float) -> None:
        """A member answered."""
        if self._bus.listening():
            self._bus.emit(
                AttemptSucceeded(
                    pool=self._pool,
                    member=attempt.member,
                    request_id=attempt.request_id,
                    attempt=attempt.number,
                    elapsed_s=elapsed_s,
                )
            )

    def failed(
        self, attempt: Attempt, kind: FailureKind, error: BaseException, elapsed_s: float
    ) -> None:
        """A member failed."""
        self._bus.emit(
            AttemptFailed(
                pool=self._pool,
                member=attempt.member,
                request_id=attempt.request_id,
                attempt=attempt.number,
                elapsed_s=elapsed_s,
                kind=kind,
                error=summary(error),
            )
        )

    def retry(self, job: Job, member: str, delay_s: float) -> None:
        """The request waits before it is tried again."""
        self._bus.emit(
            RetryScheduled(
                pool=self._pool,
                member=member,
                request_id=job.id,
                attempt=job.attempts + 1,
                delay_s=delay_s,
            )
        )
