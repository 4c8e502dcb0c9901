"""What a member actor is given to work with, and what is known of a member before it works."""

from __future__ import annotations

from contextvars import Context
from dataclasses import dataclass

from greenroom.actors.claims.claims import Claims
from greenroom.actors.member import agent_methods
from greenroom.actors.runtime.clock import Clock
from greenroom.actors.runtime.event_bus import EventBus
from greenroom.actors.runtime.loop_thread import AgentLoop
from greenroom.actors.runtime.pool_actor import JoinableRef
from greenroom.messages.config import PoolConfig
from greenroom.messages.member import Member

SYNC_CONCURRENCY = 1
ASYNC_CONCURRENCY = 100
SYNC_CEILING = 64
"""The most that `"auto"` comes to of an agent whose calls take a thread each."""
ASYNC_CEILING = 1000


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the members of a pool are given to work with.

    Attributes:
        context: that of the pool's start; None where contexts are not carried.
    """

    pool: str
    config: PoolConfig
    clock: Clock
    router: JoinableRef
    supervisor: JoinableRef
    bus: EventBus
    loop: AgentLoop
    claims: Claims
    context: Context | None = None


@dataclass(frozen=True, slots=True)
class LoopSilent:
    """The supervisor's word that the member's loop has stalled."""


@dataclass(frozen=True, slots=True)
class LoopGone:
    """The supervisor's word that the app's loop has ended: what the member does in coroutines runs
    on that one from now on.
    """

    fresh: AgentLoop


@dataclass(frozen=True, slots=True)
class LoopLost:
    """The supervisor's word that the member's loop has been given up.

    Attributes:
        fresh: the loop to go on with; None: the agent cannot leave the lost one, and so the actor
            ends: with `reason`, or to be told to `Leave` if that is None.
        guilty: whether it was this member that blocked the loop.
    """

    fresh: AgentLoop | None = None
    reason: str | None = None
    guilty: bool = False


def default_concurrency(member: Member, is_async: bool | None = None) -> int:
    """`max_concurrency`, or what it is by default: 100 for an async agent, 1 for any other. Of a
    member whose own the router finds out, it is the most that this may be.

    Args:
        is_async: whether the agent is, where there is one; None: as far as the member shows it.
    """
    chosen = member.max_concurrency
    if chosen == "auto" and member.max_concurrency_ceiling is not None:
        return member.max_concurrency_ceiling
    if isinstance(chosen, int):
        return chosen
    if is_async is None:
        made = member.factory is None
        is_async = made and agent_methods.is_async_agent(member.agent, member.method)
    if chosen == "auto":
        return ASYNC_CEILING if is_async else SYNC_CEILING
    return ASYNC_CONCURRENCY if is_async else SYNC_CONCURRENCY


def is_as_wide(before: Member, after: Member) -> bool:
    """Whether both are given as many calls at a time."""
    chosen, ceiling = after.max_concurrency, after.max_concurrency_ceiling
    return (chosen, ceiling) == (before.max_concurrency, before.max_concurrency_ceiling)


def needs_loop(member: Member) -> bool:
    """Whether an event loop runs its agent, or makes it: as far as is known before it is made."""
    if member.factory is not None:
        return agent_methods.is_async(member.factory)
    return agent_methods.is_async_agent(member.agent, member.method)
