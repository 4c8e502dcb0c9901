"""What of many requests is under way, and which answer comes next. Pure."""

from __future__ import annotations

from collections import deque

from greenroom.messages.replies import PoolStats

AHEAD = 2
"""Payloads that are pulled for one answer that lies ready: one takes its place, one more lets the
window grow. More would keep the answer waiting for as long as a slow input takes."""


class Window:
    """Counts payloads from 0, in the order in which they begin. A payload has a place in it from
    its beginning until its answer has been taken: so neither an endless input nor a slow consumer
    makes it grow.

    Args:
        limit: how many places it has; None: twice what the pool's members take at a time, so that a
            slow first answer, or a slow consumer, leaves none of them idle, but no more than may
            wait in the pool. It has none until `capacity_is` has been told.
        ordered: whether answers are taken in the order of their payloads, or as they come.
    """

    def __init__(self, limit: int | None, ordered: bool) -> None:
        self.limit = limit or 0
        self.begun = 0
        self.taken = 0
        self._by_capacity = limit is None
        self._look_at = 0
        self._ordered = ordered
        self._in_order: set[int] = set()
        self._as_they_came: deque[int] = deque()

    @property
    def has_room(self) -> bool:
        """Whether another payload may begin."""
        return self.begun - self.taken < self.limit

    @property
    def is_ready(self) -> bool:
        """Whether an answer can be taken."""
        return self.taken in self._in_order if self._ordered else bool(self._as_they_came)

    @property
    def is_empty(self) -> bool:
        """Whether all that has begun has been taken."""
        return self.begun == self.taken

    def may_pull(self, pulled: int) -> bool:
        """Whether to pull a payload, after so many since the last answer was taken."""
        return self.has_room and (pulled < AHEAD or not self.is_ready)

    def begin(self) -> int:
        """The number of the payload that begins."""
        self.begun += 1
        return self.begun - 1

    def ended(self, number: int) -> None:
        """The answer to that payload has come."""
        if self._ordered:
            self._in_order.add(number)
        else:
            self._as_they_came.append(number)

    def take(self) -> int:
        """The number of the payload whose answer is taken now; it must be ready."""
        number = self.taken if self._ordered else self._as_they_came.popleft()
        self._in_order.discard(number)
        self.taken += 1
        return number

    @property
    def wants_capacity(self) -> bool:
        """Whether to look at the pool: at first, and each time as many answers as it has places
        have been taken. Members come and go, and a factory's takes more once it has been made.
        """
        return self._by_capacity and self.taken >= self._look_at

    def capacity_is(self, stats: PoolStats, max_pending: int) -> None:
        """The pool as it is now."""
        at_a_time = sum(each.max_concurrency for each in stats.members)
        self.limit = max(1, at_a_time + min(at_a_time, max_pending))
        self._look_at = self.taken + self.limit
