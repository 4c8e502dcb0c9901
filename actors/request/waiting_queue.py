"""The queue of requests that wait for a member: by priority and by age. Pure."""

from __future__ import annotations

import heapq
import math
from collections.abc import Collection, Iterator

from greenroom.actors.request.job import PLACING, QUEUED, Job
from greenroom.actors.routing.selection import TermsKey

Lane = TermsKey | str | None
"""Those that can be given to the same members, as far as can be told: the untried ones of the same
terms (None: without any), and each of the others, by its id.
"""

Cell = list[Job | None]
Key = tuple[float, float, int]

# So many are taken off a heap one by one before the rest of it
# is sorted; one with fewer is not swept.
_FEW = 64


class WaitingQueue:
    """A higher `priority` is served first, and waiting counts as priority does.

    The order is that of `accepted_at - priority * ageing_s`, the smallest first, ties in order of
    arrival. All requests age alike, so the order of two of them never changes, and a heap will do.
    Equal priorities are served in order, and a request is overtaken only by what was accepted less
    than (difference in priority) * `ageing_s` seconds after it: none starves.

    Each operation on one request takes O(log n), amortised: what leaves stays in the heaps, empty,
    until the empty ones are the majority.

    Args:
        ageing_s: the seconds of waiting that count as much as one level of priority.

    Attributes:
        size: how many wait; set by the queue only.
    """

    def __init__(self, ageing_s: float) -> None:
        self._ageing_s = ageing_s
        self._arrivals = 0
        self.size = 0
        self._ranked = _Heap()
        self._tried = _Heap()  # those that a member has had
        self._tried_live = 0
        self._limited = _Heap()  # those with a deadline, the earliest first
        # Those that no member has had yet, the last one first; None until somebody asks for it.
        self._untried: _Heap | None = None
        # The untried ones by their terms, from the first on that has any until nobody waits.
        self._lanes: dict[TermsKey | None, _Heap] | None = None

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[Job]:
        """The requests that wait, in order; it is safe to add and remove meanwhile."""
        return self._ranked.in_order()

    def add(self, job: Job) -> None:
        """Take a request in; one that is in it already keeps its place."""
        if job.cell is not None:
            return
        cell: Cell = [job]
        job.cell = cell
        job.phase = QUEUED
        self.size += 1
        self._arrivals += 1
        key = self._key(job)
        self._ranked.push(key, cell)
        if job.attempts > 0:
            self._tried.push(key, cell)
            self._tried_live += 1
        if job.deadline is not None:
            self._limited.push((job.deadline, 0.0, self._arrivals), cell)
        # It is made on the first overflow; most pools never have one,
        # and need not keep a heap for it.
        if self._untried is not None and job.attempts == 0:
            self._untried.push(_reversed(key), cell)
        if (self._lanes is not None or job.terms is not None) and job.attempts == 0:
            self._to_lane(job, key, cell)

    def _to_lane(self, job: Job, key: Key, cell: Cell) -> None:
        if self._lanes is None:  # it is among the others there already
            self._lanes = self._ranked.by_terms()
        else:
            lane = None if job.terms is None else job.terms.key
            self._lanes.setdefault(lane, _Heap()).push(key, cell)

    def discard(self, job: Job) -> None:
        """Let a request go, if it is in."""
        if job.cell is None:
            return
        # Emptied, not removed: to find an entry in a heap takes O(n). `first` and `sweep` drop it.
        job.cell[0] = None
        job.cell = None
        job.phase = PLACING
        self.size -= 1
        self._ranked.sweep(self.size)
        if job.attempts > 0:
            self._tried_live -= 1
            self._tried.sweep(self._tried_live)
        self._limited.sweep(self.size)
        if self._untried is not None:
            self._untried.sweep(self.size)
            # A queue that has been empty begins anew, without it.
            self._untried = self._untried if self.size else None
        if self._lanes is not None:
            if self.size == 0:
                self._lanes = None
            elif job.attempts == 0:
                lane = self._lanes.get(None if job.terms is None else job.terms.key)
                if lane is not None:
                    lane.sweep(self.size)

    def tried(self) -> Iterator[Job]:
        """Those of them that a member has had, in order; it is safe to add and remove meanwhile."""
        return self._tried.in_order()

    def first(self, besides: Collection[Lane] = ()) -> Job | None:
        """The request to be served next; it stays in.

        Args:
            besides: lanes whose requests nobody can take just now.
        """
        return self._first_but(besides) if besides else self._ranked.first()

    def _first_but(self, besides: Collection[Lane]) -> Job | None:
        untried: Job | None = None
        if self._lanes is not None:
            untried = self.first_untried(besides)
        elif None not in besides:
            untried = next((each for each in self._ranked.in_order() if not each.attempts), None)
        tried = next((each for each in self._tried.in_order() if each.id not in besides), None)
        if untried is None or tried is None:
            return tried or untried
        ageing_s = self._ageing_s
        sooner = rank_of(tried, ageing_s) <= rank_of(untried, ageing_s)
        return tried if sooner else untried

    @property
    def untried(self) -> int:
        """How many of them no member has had yet."""
        return self.size - self._tried_live

    @property
    def has_terms(self) -> bool:
        """Whether some of them can be given to other members than others."""
        return self._lanes is not None

    def first_untried(self, besides: Collection[Lane]) -> Job | None:
        """The first of those that no member has had yet, and of other terms than these; it stays
        in. To be asked where the queue `has_terms`.
        """
        lanes, best, best_key = self._lanes or {}, None, None
        for terms in list(lanes):
            if terms in besides:
                continue
            job = lanes[terms].first()
            if job is None:
                del lanes[terms]
            elif best_key is None or lanes[terms].first_key() < best_key:
                best, best_key = job, lanes[terms].first_key()
        return best

    def last_untried(self) -> Job | None:
        """The request to be served last, of those that no member has had yet; it stays in."""
        if self._untried is None:
            self._untried = self._ranked.last_first()
        return self._untried.first()

    def displaced_by(self, job: Job) -> Job | None:
        """The last of those that no member has had yet, if `job` would be served before it."""
        # For its key, too: `first_key` is that of what `first` has just found.
        last = self.last_untried()
        if last is None or self._untried is None:
            return None
        return last if self._key(job) < _reversed(self._untried.first_key()) else None

    def expired(self, now: float) -> Job | None:
        """A request whose deadline is over, the earliest one first; it stays in."""
        job = self._limited.first()
        return job if job is not None and self._limited.first_key()[0] <= now else None

    def _key(self, job: Job) -> Key:
        # The number makes the key unique, so that a heap never compares two cells.
        return rank_of(job, self._ageing_s), job.accepted_at, self._arrivals


def lane_of(job: Job) -> Lane:
    """The one that it waits in."""
    if job.attempts > 0:
        return job.id
    return None if job.terms is None else job.terms.key


def rank_of(job: Job, ageing_s: float) -> float:
    """The lower, the sooner it is served."""
    priority = job.work.priority
    try:
        return job.accepted_at - priority * ageing_s
    except OverflowError:  # a whole number that no float can hold
        return -math.inf if priority > 0 else math.inf


class _Heap:
    """Cells by a unique key, the smallest first; the empty ones among them are passed over."""

    __slots__ = ("_entries",)

    def __init__(self) -> None:
        self._entries: list[tuple[float, float, int, Cell]] = []

    def push(self, key: Key, cell: Cell) -> None:
        heapq.heappush(self._entries, (*key, cell))

    def first(self) -> Job | None:
        """What the first cell holds that is not empty."""
        entries = self._entries
        while entries and entries[0][3][0] is None:
            heapq.heappop(entries)
        return entries[0][3][0] if entries else None

    def first_key(self) -> Key:
        """The key of `first`, right after it has found something."""
        return self._entries[0][:3]

    def in_order(self) -> Iterator[Job]:
        """What the cells of this moment hold when it is their turn. Who needs the first few only,
        as most do, does not pay for the order of the others.
        """
        # A copy: whoever reads gives requests away meanwhile, which
        # empties cells and sweeps the heaps.
        entries = self._entries.copy()
        for _ in range(min(_FEW, len(entries))):
            job = heapq.heappop(entries)[3][0]
            if job is not None:
                yield job
        entries.sort()
        for entry in entries:
            job = entry[3][0]
            if job is not None:
                yield job

    def by_terms(self) -> dict[TermsKey | None, _Heap]:
        """Those that no member has had yet, each terms' in a heap of its own."""
        lanes: dict[TermsKey | None, _Heap] = {}
        for entry in sorted(self._entries):  # what is sorted is a heap
            job = entry[3][0]
            if job is not None and job.attempts == 0:
                terms = None if job.terms is None else job.terms.key
                lanes.setdefault(terms, _Heap())._entries.append(entry)
        return lanes

    def last_first(self) -> _Heap:
        """The same the other way round, without those that a member has had."""
        other = _Heap()
        other._entries = [
            (*_reversed(entry[:3]), entry[3])
            for entry in self._entries
            if entry[3][0] is not None and entry[3][0].attempts == 0
        ]
        heapq.heapify(other._entries)
        return other

    def sweep(self, live: int) -> None:
        """Drop the empty cells, when they are the majority; `live`: how many are not."""
        if len(self._entries) > max(_FEW, 2 * live):
            self._entries = [entry for entry in self._entries if entry[3][0] is not None]
            heapq.heapify(self._entries)


def _reversed(key: Key) -> Key:
    return -key[0], -key[1], -key[2]
