"""The waiting room: how many may wait for a member, who has to go, whose turn it is. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from greenroom.actors.request.fair_queue import FairQueue
from greenroom.actors.request.job import QUEUED, Job
from greenroom.actors.request.waiting_queue import Lane, WaitingQueue, lane_of
from greenroom.actors.routing.routing_table import RoutingTable
from greenroom.actors.routing.selection import UNHEARD
from greenroom.messages.config import PoolConfig
from greenroom.messages.requests import Request


class Shed(NamedTuple):
    """A request for which there is no room, and how many were waiting when it was put out.

    Attributes:
        of_key: whether those of its key are meant alone, of which no more may wait.
    """

    job: Job
    waiting: int
    of_key: bool = False


class Leavers(NamedTuple):
    """Who has just been put out of the room, and is to be told so, in this order."""

    expired: Sequence[Job] = ()
    shed: Sequence[Shed] = ()


NOBODY = Leavers()


def _price(job: Job) -> float:
    """What serving it costs its key: the largest of its costs, which is the estimate of the rate
    limits; without one, one.
    """
    costs = job.work.cost
    return float(max(1, *costs.values())) if costs else 1.0


class WaitingRoom:
    """Lets requests wait, `max_pending` of them. Where there are more, the expired ones go first,
    then the one that would be served last. One that a member has had already never has to go.

    Who waits only until the supervisor has spoken, at the start or after a failure, is over the
    limit: he is let in above the bound, and has to go if that has brought him no member (see
    `review`).

    Args:
        stays: whether requests may wait for one member while others have room.

    Attributes:
        queue: those that wait, in the order in which they are served. Read only.
        fair: the same, if it is shared out among keys; else None.
        leave: called with a request that does not wait any more.
        serve: called with one that a member is given.
        over_limit: those that were let in above the bound.
    """

    def __init__(self, config: PoolConfig, table: RoutingTable, stays: bool) -> None:
        ageing_s = config.priority_ageing_s
        self.fair = FairQueue(ageing_s, _price) if config.fair_by is not None else None
        # Not by its truth: an empty one has none.
        fair = self.fair
        self.queue: WaitingQueue | FairQueue = WaitingQueue(ageing_s) if fair is None else fair
        self.leave = self.queue.discard
        # Each request that waits comes this way: no call more.
        self.serve = self.leave if self.fair is None else self.fair.serve
        self._table = table
        self._alike = table.treats_alike
        self.over_limit: list[Job] = []
        self.configure(config, stays)

    def configure(self, config: PoolConfig, stays: bool) -> None:
        """Go by other settings. Who waits already keeps his place, however few may come in."""
        self._bound = config.max_pending
        self._bound_of_key = config.max_pending_per_key
        # For good: some may wait for one member still when no more do.
        self._alike = self._alike and not stays

    def shuts_out(self, job: Job) -> bool:
        """Whether somebody would have to go, or wait in vain, if this one came in."""
        if job.phase is QUEUED:
            return False
        return self.queue.size >= self._bound or self._waiting_of_key(job) is not None

    def _waiting_of_key(self, job: Job) -> int | None:
        """How many of its key wait, if that is as many as may; None if another one may come in."""
        if self.fair is None or self._bound_of_key is None or not self._table.epoch:
            return None
        waiting = self.fair.waiting_of(job.fair_key)
        return waiting if waiting >= self._bound_of_key else None

    def enter(self, job: Job, now: float) -> Leavers:
        """Let a request wait; one that is in keeps its place. It may be among those put out."""
        if job.attempts or job.phase is QUEUED:
            self.queue.add(job)
            return NOBODY
        leavers = NOBODY
        if self._bound_of_key is not None and self._waiting_of_key(job) is not None:
            leavers = self._make_room_of_key(job, now)
            if leavers.shed:
                if leavers.shed[0].job is not job:
                    self.queue.add(job)
                return leavers
        # Before the first table (epoch 0) all wait, and nobody can be too many: see `review`.
        if self.queue.size >= self._bound and self._table.epoch:
            expired, leavers = leavers.expired, self._make_room(job, now)
            leavers = Leavers((*expired, *leavers.expired), leavers.shed)
        if not (leavers.shed and leavers.shed[0].job is job):
            self.queue.add(job)
            # Above the bound by `room_to_come`, or before the first table.
            if self.queue.size > self._bound or self._is_over_its_key(job):
                self.over_limit.append(job)
        return leavers

    def _is_over_its_key(self, job: Job) -> bool:
        bound = self._bound_of_key
        if bound is None or self.fair is None:
            return False
        return self.fair.waiting_of(job.fair_key) > bound

    def _make_room_of_key(self, job: Job, now: float) -> Leavers:
        """The same among those of its key alone."""
        expired = self.expired(now)
        waiting = self._waiting_of_key(job)
        if self.fair is None or waiting is None:
            return Leavers(expired)
        last = self.fair.last_of(job) or job
        self.queue.discard(last)
        return Leavers(expired, (Shed(last, waiting, True),))

    def _make_room(self, job: Job, now: float) -> Leavers:
        """Those that wait for nothing but the supervisor's word, on its way, do not count."""
        expired = self.expired(now)
        waiting = self.queue.size
        if waiting - self._table.room_to_come() < self._bound:
            return Leavers(expired)
        # By rank: a request of higher priority takes the place of the last one, instead of being
        # turned away at the door.
        last = self.queue.displaced_by(job) or job
        self.queue.discard(last)
        return Leavers(expired, (Shed(last, waiting),))

    def expired(self, now: float) -> list[Job]:
        """Put out whose deadline is over, though the alarm has not gone off yet."""
        expired = []
        while (job := self.queue.expired(now)) is not None:
            self.queue.discard(job)
            expired.append(job)
        return expired

    def review(self, now: float) -> Leavers:
        """The supervisor has spoken: where those over the limit have found no member by now, as
        many have to go as are too many.
        """
        expired = self.expired(now)
        over_limit = [job for job in self.over_limit if job.phase is QUEUED]
        to_come = self._table.room_to_come()
        shed = []
        for job in over_limit if self.fair is not None and not to_come else ():
            if self.fair is not None and self._is_over_its_key(job):
                key_last = self.fair.last_of_key(job.fair_key) or job
                shed.append(Shed(key_last, self.fair.waiting_of(job.fair_key), True))
                self.queue.discard(key_last)
        # No more than were let in above the bound: others may wait there by right, like those that
        # come back from a failure.
        for _ in range(min(self.queue.size - to_come - self._bound, len(over_limit))):
            newest = self.queue.last_untried()
            if newest is not None:
                shed.append(Shed(newest, self.queue.size))
                self.queue.discard(newest)
        # As long as the word is still out for some, the rest of them stays on trial.
        self.over_limit = [job for job in over_limit if job.phase is QUEUED] if to_come else []
        return Leavers(expired, shed)

    def behind(self, first: Job) -> Iterator[Job]:
        """Those that may use the room there is, though the first one could not: they are to be
        offered to the members while there is any. Whoever takes the next one has dealt with the
        last. Where one untried request finds nobody, none does: then only the tried ones are asked.
        """
        asked = {first.id}
        if self._alike and self.fair is not None:
            yield from self._in_turn(self.fair, first)
            return
        if self._alike and isinstance(self.queue, WaitingQueue) and self.queue.has_terms:
            for job in self._by_terms(first):
                asked.add(job.id)
                yield job
                if not self._table.has_room():
                    return
        elif self.fair is not None or not self._is_stuck(first):
            for job in self.queue:
                if job.id in asked:
                    continue
                asked.add(job.id)
                yield job
                if not self._table.has_room():
                    return
                if self._is_stuck(job):
                    break
            else:
                return
        for job in self.queue.tried():
            if job.id not in asked:
                yield job
                if not self._table.has_room():
                    return

    def _in_turn(self, queue: FairQueue, first: Job) -> Iterator[Job]:
        """The next one in turn, as long as it finds somebody, or somebody may be found by others
        than those that have found nobody.
        """
        stuck = {lane_of(first)}
        while self._table.has_room() and (job := queue.first(stuck)) is not None:
            yield job
            if job.phase is QUEUED:
                stuck.add(lane_of(job))

    def _by_terms(self, first: Job) -> Iterator[Job]:
        """The first one of each terms, and the next ones as long as these find somebody."""
        assert isinstance(self.queue, WaitingQueue)
        stuck: set[Lane] = {lane_of(first)} if self._is_stuck(first) else set()
        while (job := self.queue.first_untried(stuck)) is not None:
            yield job
            if job.phase is QUEUED:
                stuck.add(lane_of(job))

    def screen(self) -> None:
        """Members have come that want to be asked about payloads, of which they have never heard:
        who waits already is not theirs.
        """
        for job in list(self.queue):
            if job.terms is None and isinstance(job.work, Request):
                self.queue.discard(job)
                job.terms = UNHEARD
                self.queue.add(job)

    def _is_stuck(self, job: Job) -> bool:
        """Whether it has found nobody, and so no other untried request would."""
        if job.phase is not QUEUED or job.failures or job.trial is not None:
            return False
        return self._alike
