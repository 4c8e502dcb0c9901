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


def tickets_of(pool: str, inside: tuple[Ancestor, ...]) -> Iterator[Ticket]:
    """Which of those calls are attempts of that pool.

    Args:
        pool: the urn of its router.
    """
    return (ticket for urn, ticket in inside if urn == pool)
