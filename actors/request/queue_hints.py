"""Hints that requests wait for members which may be able to take more than they are given. Pure."""

from __future__ import annotations

import math

from greenroom.actors.request.flow_ports import Events
from greenroom.actors.routing.routing_table import RoutingTable
from greenroom.messages.events import MemberQueueing

QUEUE = 8
"""Requests that wait when there is something to say: fewer come and go with any burst."""
LOOK_S = 10.0
"""Time between two looks at all members: requests that wait may come by the thousand."""


class QueueHints:
    """Says once of each member that it takes one call at a time, because nobody has said otherwise,
    while requests wait. The default is right for code that is not made for several threads; of an
    object with methods of both kinds, or a function that is, the pool cannot know.
    """

    def __init__(self, pool: str, events: Events, table: RoutingTable) -> None:
        self._pool = pool
        self._events = events
        self._table = table
        self._said: set[str] = set()
        self._look_at = -math.inf

    def queued(self, waiting: int, now: float) -> None:
        """A request has to wait, and so many do."""
        if waiting < QUEUE or now < self._look_at:
            return
        self._look_at = now + LOOK_S
        if not self._events.listening(MemberQueueing.level):  # it is said to whoever comes later
            return
        for slot in self._table:
            narrow = slot.route.by_default and slot.max_concurrency == 1 and slot.in_flight > 0
            if narrow and slot.name not in self._said:
                self._said.add(slot.name)
                hint = MemberQueueing(pool=self._pool, member=slot.name, waiting=waiting)
                self._events.emit(hint)
