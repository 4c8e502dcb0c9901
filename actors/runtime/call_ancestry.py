"""From inside which calls something is asked.

A pool that is asked by its own agent may have to wait for the very call that waits for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextvars import ContextVar

from greenroom.messages.execution import Ancestor, Ticket

INSIDE: ContextVar[tuple[Ancestor, ...]] = ContextVar("greenroom_inside", default=())
"""The calls in which the code runs, the outermost first; of whatever pools they are. Set where an
agent's code begins, in the context of that call alone; it goes along to the tasks that the agent
starts, but not to threads of its own: who asks from there is not recognised.
"""


WAIT = ""
"""In place of a request's id: no call, but the wait of a thread that holds the pool up. See
`thread_duties`.
"""


def tickets_of(pool: str, inside: tuple[Ancestor, ...]) -> Iterator[Ticket]:
    """Which of those calls are attempts of that pool.

    Args:
        pool: the urn of its router.
    """
    return (ticket for urn, ticket in inside if urn == pool and ticket[0] != WAIT)


def waiting_tickets(pool: str, inside: tuple[Ancestor, ...]) -> list[Ticket]:
    """Which attempts of that pool wait while code inside of these calls does: the innermost one,
    and those that have asked another pool, which is not known to tell. One whose own request to
    this pool the next call is says itself whether it waits for that.
    """
    inside = tuple(each for each in inside if each[1][0] != WAIT)
    last = len(inside) - 1
    return [
        ticket
        for place, (urn, ticket) in enumerate(inside)
        if urn == pool and (place == last or inside[place + 1][0] != pool)
    ]
