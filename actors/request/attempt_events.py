"""The events of attempts, made only when somebody listens where they are made for every request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from greenroom.actors.policy.client_retries import HINT, ClientRetries
from greenroom.actors.request.flow_ports import Events
from greenroom.actors.request.job import Attempt, Failure, Job
from greenroom.actors.request.logged_metadata import logged_metadata
from greenroom.messages.errors import summary
from greenroom.messages.events import (
    AttemptFailed,
    AttemptLost,
    AttemptStarted,
    AttemptSucceeded,
    Event,
    Failover,
    HedgeStarted,
    MemberRested,
    MemberResting,
    RetryScheduled,
)
from greenroom.messages.status import FailureKind


class AttemptEvents:
    """Tells the event bus what becomes of a request's attempts."""

    def __init__(self, pool: str, bus: Events) -> None:
        self._pool = pool
        self._bus = bus
        self._client_retries = ClientRetries()

    def started(self, job: Job, attempt: Attempt) -> None:
        """A member was given the request: at first, after another had failed it, or beside one."""
        member = attempt.member
        if attempt is not job.hedge and not self._bus.listening(Failover.level):
            return  # nor does anybody hear of a beginning, which is said in a lower voice
        if attempt is job.hedge and (first := job.current) is not None:
            after_s, beside = attempt.started_at - first.started_at, first.member
            self._emit(HedgeStarted, member, job, job.attempts, beside=beside, after_s=after_s)
        # A trial runs beside: the request has not gone from one member to another by it.
        elif attempt is not job.trial and job.failed_last not in (None, member):
            self._emit(Failover, job.failed_last, job, job.attempts, to=member)
        if self._bus.listening():
            self._emit(AttemptStarted, member, job, attempt.number)

    def lost(self, attempt: Attempt) -> None:
        """Another attempt was faster."""
        self._of(AttemptLost, attempt)

    def succeeded(self, attempt: Attempt, elapsed_s: float) -> None:
        """A member answered; only to be told while somebody listens."""
        self._of(AttemptSucceeded, attempt, elapsed_s=elapsed_s)

    def failed(self, attempt: Attempt, failure: Failure) -> None:
        """A member failed."""
        if self._bus.listening(AttemptFailed.level):
            self._of(
                AttemptFailed,
                attempt,
                elapsed_s=failure.elapsed_s,
                kind=failure.kind,
                error=summary(failure.error),
            )

    def slow_to_fail(self, attempt: Attempt, failure: Failure, usual_s: float | None) -> None:
        """Say once for each member that its client seems to retry by itself."""
        if attempt.first_chunk_s is not None:  # no client begins anew behind what was read of it
            return
        kind, elapsed_s = failure.kind, failure.elapsed_s
        if self._client_retries.suspects(attempt.member, kind, elapsed_s, usual_s):
            self._bus.hint(
                HINT.format(
                    pool=self._pool,
                    member=attempt.member,
                    kind=kind.value,
                    elapsed_s=elapsed_s,
                    usual_s=usual_s,
                )
            )

    def resting(
        self, member: str, kind: FailureKind, rests_s: float, until: float, heard: bool
    ) -> None:
        """A member is left alone for a while."""
        self._bus.emit(
            MemberResting(
                pool=self._pool, member=member, kind=kind, rests_s=rests_s, until=until, heard=heard
            )
        )

    def rested(self, member: str) -> None:
        """A member that rested takes requests again."""
        self._bus.emit(MemberRested(pool=self._pool, member=member))

    def retry(self, job: Job, member: str, delay_s: float) -> None:
        """The request waits before it is tried again."""
        self._emit(RetryScheduled, member, job, job.attempts + 1, delay_s=delay_s)

    def _emit(
        self, event: Callable[..., Event], member: str | None, job: Job, number: int, **more: Any
    ) -> None:
        """An event of an attempt: its member, its request, its number, and what else it has."""
        self._bus.emit(
            event(
                pool=self._pool,
                member=member,
                request_id=job.id,
                attempt=number,
                metadata=logged_metadata(job),
                **more,
            )
        )

    def _of(self, event: Callable[..., Event], attempt: Attempt, **more: Any) -> None:
        """The same of an attempt whose request may have ended."""
        request, number = attempt.ticket
        self._bus.emit(
            event(
                pool=self._pool,
                member=attempt.member,
                request_id=request,
                attempt=number,
                metadata=logged_metadata(attempt.job),
                **more,
            )
        )
