"""The time limits of streams: for the first chunk, and for each further one."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from greenroom.actors.request.flow_ports import FlowPorts, SeeTo
from greenroom.actors.request.job import Attempt, Job
from greenroom.messages.config import PoolConfig
from greenroom.messages.execution import Ticket

Overdue = Callable[[Attempt, str, float, str], None]
"""An attempt has had its time: which setting says so, its seconds, and what it has not done."""

NO_ANSWER = "did not answer"


class ChunkLimits:
    """Has an alarm for every attempt that owes chunks. Chunks do not pass through the router, they
    go from the member's executor to the consumer: so the alarm looks at the attempt's signs of life
    once when a chunk could be overdue, not at every chunk.

    Args:
        live: the attempts that hold a slot, by ticket; read only.
        overdue: told of each attempt whose next chunk has not come in time.
    """

    def __init__(
        self,
        ports: FlowPorts,
        config: PoolConfig,
        live: Mapping[Ticket, Attempt],
        overdue: Overdue,
        see_to: SeeTo,
    ) -> None:
        self._ports = ports
        self._see_to = see_to
        self._live = live
        self._overdue = overdue
        whole = config.request_timeout_s, "request_timeout_s"
        first = config.first_chunk_timeout_s, "first_chunk_timeout_s"
        further = config.chunk_timeout_s, "chunk_timeout_s"
        self._of_asks = first, further  # as a whole they are timed elsewhere
        # An answer's time limit is one for its first chunk, and for each further one, where no
        # other is set: as a whole a stream may take as long as it likes.
        self._of_streams = (
            whole if first[0] is None else first,
            whole if further[0] is None else further,
        )

    def watch(self, attempt: Attempt) -> None:
        """Have a look when the next chunk is overdue, if it has not come by then. A producer that
        is held back by its consumer owes nothing: it tells when it goes on.
        """
        if attempt.alarm is not None:
            attempt.alarm.cancel()
            attempt.alarm = None
        life_signs = attempt.life_signs
        # An alarm may ring, and a word of the member come, after its end.
        if life_signs is None or self._live.get(attempt.ticket) is not attempt:
            return
        asks = attempt.job is not None and attempt.job.channel is None
        # Indexed by a bool: the limit of the first chunk, then that of each further one.
        limit_s, limit = (self._of_asks if asks else self._of_streams)[life_signs.counts]
        # Not asked without a limit: it has a producer that is held back tell when it goes on.
        since = life_signs.owed_since() if limit_s is not None else None
        if limit_s is None or since is None:
            return
        due = since + limit_s
        if due <= self._ports.now():
            lack = "sent no further chunk" if life_signs.counts else NO_ANSWER
            self._overdue(attempt, limit, limit_s, lack)
        else:
            attempt.alarm = self._ports.at(
                due,
                lambda: self._see_to(attempt.job, "watch a stream", lambda: self.watch(attempt)),
            )

    def told_to_end(self, job: Job, attempt: Attempt) -> None:
        """A stream that was told to end, and has not when its next chunk would be overdue, is
        abandoned: a generator that hangs must not keep its slot for ever.
        """
        limit_s, limit = self._of_streams[True]
        if limit_s is None or job.channel is None or job.channel.begun_by != attempt.ticket:
            return
        if attempt.alarm is not None:
            attempt.alarm.cancel()
        attempt.alarm = self._ports.at(
            self._ports.now() + limit_s, lambda: self._overdue(attempt, limit, limit_s, NO_ANSWER)
        )
