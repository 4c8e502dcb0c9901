"""The time limits of streams: for the first chunk, and for each further one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from greenroom.actors.request.flow_ports import FlowPorts, SeeTo
from greenroom.actors.request.job import Attempt, Job
from greenroom.messages.config import PoolConfig
from greenroom.messages.execution import Ticket

Overdue = Callable[[Attempt, str, float, str], None]
"""An attempt has had its time: which setting says so, its seconds, and what it has not done."""

NO_ANSWER = "did not answer"


@dataclass(slots=True, eq=False, repr=False)
class ChunkLimits:
    """Has an alarm for every attempt that owes chunks. Chunks do not pass through the router, they
    go from the member's executor to the consumer: so the alarm looks at the attempt's signs of life
    once when a chunk could be overdue, not at every chunk.

    Args:
        live: the attempts that hold a slot, by ticket; read only.
        overdue: told of each attempt whose next chunk has not come in time.
    """

    _ports: FlowPorts
    _config: PoolConfig
    _live: Mapping[Ticket, Attempt]
    _overdue: Overdue
    _see_to: SeeTo
    # Those that have begun under other settings, and keep them.
    _former: dict[Attempt, PoolConfig] = field(default_factory=dict)

    def configure(self, config: PoolConfig) -> None:
        """Go by other settings, for attempts that begin from now on."""
        before, former = self._config, self._former
        live = self._live.values()
        self._former = {attempt: former.get(attempt, before) for attempt in live}
        self._config = config

    def _limit(self, attempt: Attempt, streams: bool, further: bool) -> tuple[float | None, str]:
        """For the first chunk, or for each further one: seconds, and the setting that says so."""
        config = self._former.get(attempt, self._config)
        setting = "chunk_timeout_s" if further else "first_chunk_timeout_s"
        # An answer's time limit is one for each chunk, where no other is set: as a whole a stream
        # may take as long as it likes. An ask has it as a whole, and is timed elsewhere.
        if streams and getattr(config, setting) is None:
            setting = "request_timeout_s"
        return getattr(config, setting), setting

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
        limit_s, limit = self._limit(attempt, not asks, life_signs.counts)
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
        if job.channel is None or job.channel.begun_by != attempt.ticket:
            return
        limit_s, limit = self._limit(attempt, True, True)
        if limit_s is None:
            return
        if attempt.alarm is not None:
            attempt.alarm.cancel()
        attempt.alarm = self._ports.at(
            self._ports.now() + limit_s, lambda: self._overdue(attempt, limit, limit_s, NO_ANSWER)
        )
