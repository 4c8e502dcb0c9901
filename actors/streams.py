"""Streams: what the router does for one between its first chunk and its last."""

from __future__ import annotations

from typing import Any

from greenroom.actors.jobs import Attempt, Collecting, Job
from greenroom.actors.races import Races
from greenroom.messages.config import PoolConfig
from greenroom.messages.execution import StreamBegun, StreamResumed
from greenroom.messages.status import CancelReason

Limit = tuple[float | None, str]
"""Seconds, or None, and the setting that says so."""


class Streams(Races):
    """Takes note of first chunks, and ends the attempts whose next chunk does not come.

    Chunks do not pass through here: they go from the member's place to the consumer. The router
    looks at the attempt's pulse once when a chunk could be overdue, not at every chunk.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._first_limit, self._chunk_limit = _limits(self.config)
        self.handlers.update(
            {
                StreamBegun: self._on_stream_begun,
                StreamResumed: self._on_stream_resumed,
                Collecting: self._on_collecting,
            }
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
            self._watch(attempt)

    def _on_stream_resumed(self, message: StreamResumed) -> None:
        attempt = self._attempt_of(message)
        if attempt is not None and attempt.job is not None:
            self._watch(attempt)

    def _on_collecting(self, message: Collecting) -> None:
        """An ask whose agent streams: its chunks are collected where they are made."""
        attempt = self._attempt_of(message)
        if attempt is not None and attempt.job is not None:
            attempt.pulse = message.pulse
            self._watch(attempt)

    def _watch(self, attempt: Attempt) -> None:
        """Have a look when the next chunk is overdue, if it has not come by then. A producer that
        is held back by its consumer owes nothing: it tells when it goes on.
        """
        if attempt.alarm is not None:
            attempt.alarm.cancel()
            attempt.alarm = None
        pulse = attempt.pulse
        limit_s, limit = self._limit_of(attempt)
        if limit_s is None or pulse is None or self._attempts.get(attempt.ticket) is not attempt:
            return
        since = pulse.owed_since()
        if since is None:
            return
        due = since + limit_s
        if due <= self.clock.now():
            lack = "sent no further chunk" if pulse.counts else "did not answer"
            self._attempt_timed_out(attempt, limit, limit_s, lack)
        else:
            attempt.alarm = self.alarms.at(due, lambda: self._watch_by_timer(attempt))

    def _watch_by_timer(self, attempt: Attempt) -> None:
        job = attempt.job
        try:
            self._watch(attempt)
        except BaseException as error:
            if job is None:
                raise
            self._fail_by_fault(job, "watch a stream", error)

    def _limit_of(self, attempt: Attempt) -> Limit:
        """What the attempt has to keep to next. The limit of an ask as a whole is not seen to here,
        and none stands in for another.
        """
        job, counts = attempt.job, attempt.pulse is not None and attempt.pulse.counts
        if job is None or job.channel is not None:
            return self._chunk_limit if counts else self._first_limit
        if counts:
            return self.config.chunk_timeout_s, "chunk_timeout_s"
        return self.config.first_chunk_timeout_s, "first_chunk_timeout_s"

    def _detach(self, job: Job, attempt: Attempt, reason: CancelReason) -> None:
        """A stream that was told to end, and has not when its next chunk would be overdue, is
        abandoned: a generator that hangs must not keep its slot for ever.
        """
        super()._detach(job, attempt, reason)
        limit_s, limit = self._chunk_limit
        if limit_s is None or job.channel is None or job.channel.begun_by != attempt.ticket:
            return
        if attempt.alarm is not None:
            attempt.alarm.cancel()
        attempt.alarm = self.alarms.at(
            self.clock.now() + limit_s, lambda: self._end_overdue(attempt, limit, limit_s)
        )


def _limits(config: PoolConfig) -> tuple[Limit, Limit]:
    """That of the first chunk of a stream, and that of each further one."""
    whole = config.request_timeout_s, "request_timeout_s"
    first_s, further_s = config.first_chunk_timeout_s, config.chunk_timeout_s
    first = whole if first_s is None else (first_s, "first_chunk_timeout_s")
    further = whole if further_s is None else (further_s, "chunk_timeout_s")
    return first, further
