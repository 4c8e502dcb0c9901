"""The waiting room: how many may wait for a member, who has to go, whose turn it is. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from greenroom.actors.request.job import QUEUED, Job
from greenroom.actors.request.waiting_queue import WaitingQueue
from greenroom.actors.routing.routing_table import RoutingTable
from greenroom.actors.routing.selection import UNHEARD, TermsKey
from greenroom.messages.config import PoolConfig
from greenroom.messages.requests import Request


class Shed(NamedTuple):
    """A request for which there is no room, and how many were waiting when it was put out."""

    job: Job
    waiting: int


class Leavers(NamedTuple):
    """Who has just been put out of the room, and is to be told so, in this order."""

    expired: Sequence[Job] = ()
    shed: Sequence[Shed] = ()


NOBODY = Leavers()


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
        leave: called with a request that does not wait any more.
        over_limit: those that were let in above the bound.
    """

    def __init__(self, config: PoolConfig, table: RoutingTable, stays: bool) -> None:
        self.queue = WaitingQueue(config.priority_ageing_s)
        self.leave = self.queue.discard  # each request that waits comes this way: no call more
        self._table = table
        self._alike = table.treats_alike
        self.over_limit: list[Job] = []
        self.configure(config, stays)

    def configure(self, config: PoolConfig, stays: bool) -> None:
        """Go by other settings. Who waits already keeps his place, however few may come in."""
        self._bound = config.max_pending
        # For good: some may wait for one member still when no more do.
        self._alike = self._alike and not stays

    def shuts_out(self, job: Job) -> bool:
        """Whether somebody would have to go, or wait in vain, if this one came in."""
        return job.phase is not QUEUED and self.queue.size >= self._bound

    def enter(self, job: Job, now: float) -> Leavers:
        """Let a request wait; one that is in keeps its place. It may be among those put out."""
        if job.attempts or job.phase is QUEUED:
            self.queue.add(job)
            return NOBODY
        leavers = NOBODY
        # Before the first table (epoch 0) all wait, and nobody can be too many: see `review`.
        if self.queue.size >= self._bound and self._table.epoch:
            leavers = self._make_room(job, now)
        if not (leavers.shed and leavers.shed[0].job is job):
            self.queue.add(job)
            # Above the bound by `room_to_come`, or before the first table.
            if self.queue.size > self._bound:
                self.over_limit.append(job)
        return leavers

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
        # No more than were let in above the bound: others may wait there by right, like those that
        # come back from a failure.
        for _ in range(min(self.queue.size - to_come - self._bound, len(over_limit))):
            last = self.queue.last_untried()
            if last is not None:
                shed.append(Shed(last, self.queue.size))
                self.queue.discard(last)
        # As long as the word is still out for some, the rest of them stays on trial.
        self.over_limit = [job for job in over_limit if job.phase is QUEUED] if to_come else []
        return Leavers(expired, shed)

    def behind(self, first: Job) -> Iterator[Job]:
        """Those that may use the room there is, though the first one could not: they are to be
        offered to the members while there is any. Whoever takes the next one has dealt with the
        last. Where one untried request finds nobody, none does: then only the tried ones are asked.
        """
        asked = {first.id}
        if self._alike and self.queue.has_terms:
            for job in self._by_terms(first):
                asked.add(job.id)
                yield job
                if not self._table.has_room():
                    return
        elif not self._is_stuck(first):
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
            if job.failures and job.id not in asked:
                yield job
                if not self._table.has_room():
                    return

    def _by_terms(self, first: Job) -> Iterator[Job]:
        """The first one of each terms, and the next ones as long as these find somebody."""
        stuck: set[TermsKey | None] = set()
        if self._is_stuck(first):
            stuck.add(None if first.terms is None else first.terms.key)
        while (job := self.queue.first_untried(stuck)) is not None:
            yield job
            if job.phase is QUEUED:
                stuck.add(None if job.terms is None else job.terms.key)

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
