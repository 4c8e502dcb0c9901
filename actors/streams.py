"""Streams: what the router does for one between its first chunk and its last."""

from __future__ import annotations

from typing import Any

from greenroom.actors.jobs import Attempt, Job
from greenroom.actors.races import Races
from greenroom.messages.errors import AttemptTimeoutError
from greenroom.messages.execution import StreamBegun, StreamResumed
from greenroom.messages.status import CancelReason, FailureKind


class Streams(Races):
    """Takes note of first chunks, and ends the streams whose next chunk does not come.

    Chunks do not pass through here: they go from the member's place to the consumer. The router
    looks at the channel once when a chunk could be overdue, not at every chunk.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._chunk_limit_s, self._chunk_limit = _chunk_limit(self.config)
        self.handlers.update(
            {StreamBegun: self._on_stream_begun, StreamResumed: self._on_stream_resumed}
        )

    def _on_stream_begun(self, message: StreamBegun) -> None:
        attempt = self._attempt_of(message)
        if attempt is None:
            return
        attempt.first_chunk_s = message.first_chunk_s
        slot = self._table.get(attempt.member)
        if slot is not None:
            slot.load.measured(message.first_chunk_s, self.clock.now())
        if attempt.job is not None:
            self._answered(attempt.job, attempt, message.first_chunk_s)
            self._watch(attempt, attempt.job)

    def _on_stream_resumed(self, message: StreamResumed) -> None:
        attempt = self._attempt_of(message)
        if attempt is not None and attempt.job is not None:
            self._watch(attempt, attempt.job)

    def _watch(self, attempt: Attempt, job: Job) -> None:
        """Have a look when the next chunk is overdue, if it has not come by then. A producer that
        is held back by its consumer owes nothing: it tells when it goes on.
        """
        if attempt.alarm is not None:
            attempt.alarm.cancel()
            attempt.alarm = None
        since = _owed_since(job)
        if since is None or self._chunk_limit_s is None:
            return
        if since + self._chunk_limit_s <= self.clock.now():
            self._chunk_overdue(attempt, job)
        else:
            due = since + self._chunk_limit_s
            attempt.alarm = self.alarms.at(due, lambda: self._watch(attempt, job))

    def _detach(self, job: Job, attempt: Attempt, reason: CancelReason) -> None:
        """A stream that was told to end, and has not when its next chunk would be overdue, is
        abandoned: a generator that hangs must not keep its slot for ever.
        """
        super()._detach(job, attempt, reason)
        limit_s, limit = self._chunk_limit_s, self._chunk_limit
        if limit_s is None or job.channel is None or job.channel.begun_by != attempt.ticket:
            return
        if attempt.alarm is not None:
            attempt.alarm.cancel()
        attempt.alarm = self.alarms.at(
            self.clock.now() + limit_s, lambda: self._attempt_timed_out(attempt, limit, limit_s)
        )

    def _chunk_overdue(self, attempt: Attempt, job: Job) -> None:
        if attempt.job is None or not self.desk.give_up(attempt.ticket, job):
            return  # it has just ended: the report is on its way
        self._cancel_execution(attempt, CancelReason.ATTEMPT_TIMEOUT)
        error = AttemptTimeoutError(
            f"{attempt.member} sent no further chunk within "
            f"{self._chunk_limit}={self._chunk_limit_s:g}"
        )
        elapsed_s = self.clock.now() - attempt.started_at
        self._attempt_failed(attempt, FailureKind.TIMEOUT, error, elapsed_s, None)
        self._pump()


def _owed_since(job: Job) -> float | None:
    """Since when a chunk is owed; None while none is: then the producer tells when one is.

    The producer says that it goes on before it looks whether somebody watches; here it is the
    other way round, so that one of the two sees the other.
    """
    channel = job.channel
    if channel is None or channel.since is not None:
        return None if channel is None else channel.since
    channel.watched = True
    return channel.since


def _chunk_limit(config: Any) -> tuple[float | None, str]:
    if config.chunk_timeout_s is not None:
        return config.chunk_timeout_s, "chunk_timeout_s"
    return config.request_timeout_s, "request_timeout_s"
