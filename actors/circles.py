"""Circles: calls that wait for a request which waits for the slots that they hold. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from greenroom.actors.ancestry import waiting_tickets
from greenroom.actors.jobs import Job
from greenroom.messages.execution import Ancestor, Ticket

_FEW = 64


class Circles:
    """Which of a pool's calls wait for which of its requests, as far as they have said so.

    Args:
        pool: the urn of its router.
        jobs: its requests in flight, by id; read only.
    """

    def __init__(self, pool: str, jobs: Mapping[str, Job]) -> None:
        self._pool = pool
        self._jobs = jobs
        # With the time of acceptance: an id may be used again. No request is held by this.
        self._waits: dict[str, tuple[float, list[Ticket]]] = {}

    def waits(self, job: Job, inside: tuple[Ancestor, ...]) -> None:
        """Code that runs inside these calls waits for the request."""
        if len(self._waits) > _FEW + 2 * len(self._jobs):
            self._waits = {id: each for id, each in self._waits.items() if self._live(id)}
        if tickets := waiting_tickets(self._pool, inside):
            known = self.waiting_for(job)
            self._waits[job.id] = (job.accepted_at, [*known, *tickets])

    def waits_no_more(self, job: Job, inside: tuple[Ancestor, ...]) -> None:
        """That code has lost its patience."""
        left = list(self.waiting_for(job))
        for ticket in waiting_tickets(self._pool, inside):
            if ticket in left:
                left.remove(ticket)
        if left:
            self._waits[job.id] = (job.accepted_at, left)
        else:
            self._waits.pop(job.id, None)

    def waiting_for(self, job: Job) -> Iterable[Ticket]:
        """The calls that wait for the request."""
        accepted_at, tickets = self._waits.get(job.id, (None, ()))
        return tickets if accepted_at == job.accepted_at else ()

    def queued(self) -> list[Job]:
        """The requests in the waiting queue that calls wait for, the last one that came first."""
        live = filter(None, map(self._live, list(self._waits)))
        return [job for job in live if job.cell is not None][::-1]

    def blocked(self, job: Job | None = None) -> set[Ticket]:
        """The calls that cannot go on until a slot becomes free: they wait for a request that is in
        the queue, or is run by such calls only.

        Args:
            job: one that is about to queue.
        """
        blocked: set[Ticket] = set()
        live = [each for each in map(self._live, list(self._waits)) if each is not None]
        while live:
            stuck = [each for each in live if each is job or self._is_stuck(each, blocked)]
            if not stuck:
                break
            for each in stuck:
                blocked.update(self.waiting_for(each))
            live = [each for each in live if each not in stuck]
        return blocked

    @staticmethod
    def _is_stuck(job: Job, blocked: set[Ticket]) -> bool:
        running = [attempt.ticket for attempt in job.running()]
        return blocked.issuperset(running) if running else job.cell is not None

    def _live(self, id: str) -> Job | None:
        job = self._jobs.get(id)
        return job if job is not None and self._waits[id][0] == job.accepted_at else None
