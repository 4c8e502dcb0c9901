"""Deadlocks: calls that wait for a request which waits for the slots that they hold. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from greenroom.actors.request.job import QUEUED, Attempt, Job
from greenroom.actors.routing.routing_table import RoutingTable, Slot
from greenroom.actors.runtime.call_ancestry import waiting_tickets
from greenroom.actors.runtime.future import Waits
from greenroom.messages.execution import Ancestor, Ticket

_FEW = 64


@dataclass(slots=True, eq=False, repr=False)
class Deadlocks:
    """Which of a pool's calls wait for which of its requests, as far as they have said so.

    Args:
        pool: the urn of its router.
        jobs: its requests in flight, by id; read only.
        live: its attempts that hold a slot, by ticket; read only.
    """

    _pool: str
    _jobs: Mapping[str, Job]
    _live_attempts: Mapping[Ticket, Attempt]
    _table: RoutingTable
    # With the time of acceptance: an id may be used again. No request is held by this.
    _waits: dict[str, tuple[float, list[Ticket]]] = field(default_factory=dict)

    def waits(self, job: Job, inside: tuple[Ancestor, ...]) -> None:
        """Code that runs inside these calls waits for the request."""
        # Entries of requests that have ended are not taken out one by
        # one: nobody tells of their end here.
        if len(self._waits) > _FEW + 2 * len(self._jobs):
            self._waits = {id: each for id, each in self._waits.items() if self._live(id)}
        if tickets := waiting_tickets(self._pool, inside):
            # A list, not a set: two threads of one call may wait for the
            # same request, and one may give up.
            known = self._waiting_for(job)
            self._waits[job.id] = (job.accepted_at, [*known, *tickets])

    def _waits_no_more(self, job: Job, inside: tuple[Ancestor, ...]) -> None:
        """That code has lost its patience."""
        left = list(self._waiting_for(job))
        for ticket in waiting_tickets(self._pool, inside):
            if ticket in left:
                left.remove(ticket)
        if left:
            self._waits[job.id] = (job.accepted_at, left)
        else:
            self._waits.pop(job.id, None)

    def closed_by(self, job: Job) -> bool:
        """Whether calls of this pool wait for the request that is about to queue, and every slot
        that could become free is held by such calls: nobody would ever give one back.

        Calls of other pools in between are seen through. Not seen: two requests that wait for each
        other by way of two pools; their time limits end that.
        """
        if not self._waiting_for(job):
            return False
        if self._some_have_terms(job):
            return job not in self._those_that_go_on([*self._all_live(), job], job)
        return self._is_dead_locked(job)

    def heard(self, message: Waits) -> Job | None:
        """Code inside a call of this pool begins to wait for a request, or ends that: which one in
        the queue has to fail, so that the call that waits for it gives its slot back; None if none.
        """
        future = message.future
        job = self._jobs.get(future.request_id or "")
        # It may have ended by now, and its id be another's.
        if job is None or job.future is not future:
            return None
        if message.over:
            self._waits_no_more(job, message.inside)
            return None
        self.waits(job, message.inside)
        # The last one that came first.
        queued = [each for each in self._all_live() if each.phase is QUEUED][::-1]
        if self._some_have_terms():
            going_on = self._those_that_go_on(self._all_live())
            queued = [each for each in queued if each not in going_on]
            if not queued:
                return None
            return job if job in queued else queued[0]
        if not queued or not self._is_dead_locked():
            return None
        # Who has just begun to wait is told, if its request is in the
        # queue: it has closed the circle.
        return job if job.phase is QUEUED else queued[0]

    def _is_dead_locked(self, job: Job | None = None) -> bool:
        live, table = self._live_attempts, self._table
        # Somebody runs who waits for nobody here: he will end, and give a slot back.
        if not live or table.epoch == 0 or live.keys() - self._blocked(job):
            return False
        # A member will be back by time alone, and bring a slot.
        if table.earliest_reopening() is not None:
            return False
        # There is room, and what waits all the same waits for headroom, which time brings.
        if table.headroom.weighs and table.has_room():
            return False
        return not any(self._brings_slot(slot) for slot in table)

    def _some_have_terms(self, job: Job | None = None) -> bool:
        """Whether a member that becomes free need not be of use to all that wait."""
        if job is not None and job.terms is not None:
            return True
        return any(each.terms is not None for each in self._all_live())

    def _those_that_go_on(self, jobs: list[Job], queueing: Job | None = None) -> list[Job]:
        """Those of the requests that calls wait for which will come to an end, where not every
        member may have each of them.

        A call goes on that waits for none but such; a request whose call goes on, or for which a
        member brings a slot, or a call that goes on holds one.

        Args:
            queueing: the one of them that is about to queue.
        """
        table, live = self._table, self._live_attempts
        if table.epoch == 0:
            return jobs
        waits = {each: set(self._waiting_for(each)) for each in jobs}
        going_on: list[Job] = []
        while True:
            held = set[Ticket]().union(*(waits[each] for each in jobs if each not in going_on))
            free = {each.member for ticket, each in live.items() if ticket not in held}
            more = [
                each
                for each in jobs
                if each not in going_on
                and self._goes_on(each, each is queueing or each.phase is QUEUED, held, free)
            ]
            if not more:
                return going_on
            going_on += more

    def _goes_on(self, job: Job, queued: bool, held: set[Ticket], free: set[str]) -> bool:
        running = [attempt.ticket for attempt in job.running()]
        if running or not queued:
            return not running or not held.issuperset(running)
        barred = self._table.eligible(job.terms).barred
        # A member will be back by time alone, and bring a slot.
        if self._table.earliest_reopening(barred) is not None:
            return True
        may = [slot for slot in self._table if slot.name not in barred]
        return any(slot.name in free or self._brings_slot(slot) for slot in may)

    @staticmethod
    def _brings_slot(slot: Slot) -> bool:
        """Whether a member takes a request before long, whatever becomes of what runs on it."""
        if slot.route.replaced and slot.in_flight:  # the next of its name comes behind all of that
            return False
        return slot.is_awaited() and slot.in_flight < slot.limit

    def _waiting_for(self, job: Job) -> Iterable[Ticket]:
        """The calls that wait for the request."""
        accepted_at, tickets = self._waits.get(job.id, (None, ()))
        return tickets if accepted_at == job.accepted_at else ()

    def _blocked(self, job: Job | None = None) -> set[Ticket]:
        """The calls that cannot go on until a slot becomes free: they wait for a request that is in
        the queue, or is run by such calls only.

        Args:
            job: one that is about to queue.
        """
        blocked: set[Ticket] = set()
        live = self._all_live()
        # To a fixed point: a request that is run by stuck calls only is stuck as well, and blocks
        # the calls that wait for it.
        while live:
            stuck = [each for each in live if each is job or self._is_stuck(each, blocked)]
            if not stuck:
                break
            for each in stuck:
                blocked.update(self._waiting_for(each))
            live = [each for each in live if each not in stuck]
        return blocked

    @staticmethod
    def _is_stuck(job: Job, blocked: set[Ticket]) -> bool:
        running = [attempt.ticket for attempt in job.running()]
        return blocked.issuperset(running) if running else job.phase is QUEUED

    def _all_live(self) -> list[Job]:
        """The requests in flight that calls wait for."""
        return list(filter(None, map(self._live, list(self._waits))))

    def _live(self, id: str) -> Job | None:
        job = self._jobs.get(id)
        return job if job is not None and self._waits[id][0] == job.accepted_at else None
