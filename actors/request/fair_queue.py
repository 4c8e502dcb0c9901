"""The queue of requests that wait, shared out fairly among those whose they are. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterator

from greenroom.actors.policy.deficit_round import DeficitRound
from greenroom.actors.request.job import Job
from greenroom.actors.request.waiting_queue import Lane, WaitingQueue, rank_of
from greenroom.messages.screening import FairKey


def one(job: Job) -> float:
    """What a request costs: as much as any other."""
    return 1.0


class FairQueue:
    """Those of one priority are served by deficit round robin over whose they are, those of one
    among them in order. Which priority is next is decided as in a `WaitingQueue`: each has the
    next of its round stand for it, and waiting counts as priority does; so none starves.

    Each operation on one request takes O(log n), amortised, and the choice of the next one a look
    at the first of one key a priority, as long as somebody can take that.

    Args:
        cost_of: what serving a request costs its key; its share is counted by that.
    """

    def __init__(self, ageing_s: float, cost_of: Callable[[Job], float] = one) -> None:
        self._ageing_s = ageing_s
        self._cost_of = cost_of
        self._levels: dict[int, _Level] = {}
        self.size = 0

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[Job]:
        """The requests that wait, by priority and age; it is safe to add and remove meanwhile."""
        return self._merged([iter(each) for each in self._queues()])

    def tried(self) -> Iterator[Job]:
        """Those of them that a member has had, likewise."""
        return self._merged([each.tried() for each in self._queues()])

    def add(self, job: Job) -> None:
        """Take a request in; one that is in it already keeps its place."""
        if job.cell is not None:
            return
        level = self._levels.get(job.work.priority)
        if level is None:
            level = self._levels[job.work.priority] = _Level(self._ageing_s)
        level.add(job)
        self.size += 1

    def discard(self, job: Job) -> None:
        """Let a request go, if it is in."""
        if job.cell is None:
            return
        level = self._levels[job.work.priority]
        level.discard(job)
        self.size -= 1
        if not level.queues:
            del self._levels[job.work.priority]

    def serve(self, job: Job) -> None:
        """A member is given the request, if it is in: its key has had that much."""
        if job.cell is not None:
            self._levels[job.work.priority].round.served(job.fair_key, self._cost_of(job))
            self.discard(job)

    def first(self, besides: Collection[Lane] = ()) -> Job | None:
        """The request to be served next; it stays in.

        Args:
            besides: lanes whose requests nobody can take just now: others have their turn.
        """
        return self._next(lambda queue: queue.first(besides))

    def first_that(self, may: Callable[[Job], bool]) -> Job | None:
        """The same of those of which that is so. It looks at each that comes before."""
        return self._next(lambda queue: next(filter(may, queue), None))

    def _next(self, first_of: Callable[[WaitingQueue], Job | None]) -> Job | None:
        found = [level.next(first_of, self._cost_of) for level in list(self._levels.values())]
        jobs = [each for each in found if each is not None]
        if len(jobs) < 2:
            return jobs[0] if jobs else None
        return min(jobs, key=lambda job: (rank_of(job, self._ageing_s), job.accepted_at))

    def waiting_of(self, key: FairKey) -> int:
        """How many of that key wait."""
        levels = self._levels.values()
        return sum(each.queues[key].size for each in levels if key in each.queues)

    def waiting(self) -> dict[FairKey, int]:
        """How many wait of each key that has something waiting."""
        found: dict[FairKey, int] = {}
        for level in self._levels.values():
            for key, queue in level.queues.items():
                found[key] = found.get(key, 0) + queue.size
        return found

    @property
    def keys(self) -> int:
        """How many have something waiting; of each priority."""
        return sum(len(each.queues) for each in self._levels.values())

    def last_untried(self) -> Job | None:
        """The request that has to go first, of those that no member has had yet: of the lowest
        priority, of the key with most of them for its weight, the last one; it stays in.
        """
        return self._last_but(None)

    def displaced_by(self, job: Job) -> Job | None:
        """Who has to go, if that is not `job` itself."""
        last = self._last_but(job)
        return None if last is job else last

    def last_of(self, job: Job) -> Job | None:
        """The same among those of the key of `job`: what makes place for it; None if itself has to
        go.
        """
        for priority in sorted(self._levels):
            queue = self._levels[priority].queues.get(job.fair_key)
            last = None if queue is None else queue.last_untried()
            if last is not None:
                return last if priority < job.work.priority else None
        return None

    def last_of_key(self, key: FairKey) -> Job | None:
        """The request of that key to be served last, of those that no member has had yet."""
        for priority in sorted(self._levels):
            queue = self._levels[priority].queues.get(key)
            last = None if queue is None else queue.last_untried()
            if last is not None:
                return last
        return None

    def expired(self, now: float) -> Job | None:
        """A request whose deadline is over; it stays in."""
        for queue in self._queues():
            job = queue.expired(now)
            if job is not None:
                return job
        return None

    def _last_but(self, newcomer: Job | None) -> Job | None:
        priorities = sorted(
            {*self._levels, *(() if newcomer is None else (newcomer.work.priority,))}
        )
        for priority in priorities:
            level = self._levels.get(priority)
            new = newcomer if newcomer is not None and newcomer.work.priority == priority else None
            if level is None:
                return new
            last = level.last(new)
            if last is not None:
                return last
        return None

    def _queues(self) -> list[WaitingQueue]:
        return [queue for level in self._levels.values() for queue in level.queues.values()]

    def _merged(self, each: list[Iterator[Job]]) -> Iterator[Job]:
        def key(job: Job) -> tuple[float, float]:
            return rank_of(job, self._ageing_s), job.accepted_at

        # Read whole: the queues change while it is given out.
        for job in list(heapq.merge(*each, key=key)):
            if job.cell is not None:
                yield job


class _Level:
    """The requests of one priority.

    Attributes:
        queues: by key, of those that have something waiting.
    """

    def __init__(self, ageing_s: float) -> None:
        self._ageing_s = ageing_s
        self.round: DeficitRound[FairKey] = DeficitRound()
        self.queues: dict[FairKey, WaitingQueue] = {}
        self._weights: dict[FairKey, float] = {}

    def add(self, job: Job) -> None:
        key, weight = job.fair_key, job.fair_weight
        queue = self.queues.get(key)
        if queue is None:
            queue = self.queues[key] = WaitingQueue(self._ageing_s)
        queue.add(job)
        self.round.enter(key, weight)
        self._weights[key] = weight

    def discard(self, job: Job) -> None:
        queue = self.queues[job.fair_key]
        queue.discard(job)
        if queue.size == 0:
            del self.queues[job.fair_key], self._weights[job.fair_key]
            self.round.leave(job.fair_key)

    def next(
        self, first_of: Callable[[WaitingQueue], Job | None], cost_of: Callable[[Job], float]
    ) -> Job | None:
        offered: dict[FairKey, Job] = {}

        def cost(key: FairKey) -> float | None:
            job = first_of(self.queues[key])
            if job is None:
                return None
            offered[key] = job
            return cost_of(job)

        return offered.get(self.round.turn(cost))

    def last(self, newcomer: Job | None) -> Job | None:
        """Who has to go, be it the newcomer; None if nobody untried is there."""
        loads = {key: queue.untried / self._weights[key] for key, queue in self.queues.items()}
        if newcomer is not None:
            key = newcomer.fair_key
            before = self.queues[key].untried if key in self.queues else 0
            loads[key] = (before + 1) / newcomer.fair_weight
        heaviest = max(loads, key=loads.__getitem__, default=None) if loads else None
        if not loads or loads[heaviest] == 0:
            return None
        # Within a priority and a key it is the last that has come.
        if newcomer is not None and newcomer.fair_key == heaviest:
            return newcomer
        return self.queues[heaviest].last_untried()
