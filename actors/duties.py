"""What the threads of a pool's own are for, so that none of them is made to wait for itself.

Code of the app's runs in them: done callbacks, strategies, sinks of the log, subscribers, close
hooks. It may ask anything, and wait for whatever comes without the thread that it holds; where the
answer needs that very thread, it is told so when it begins to wait.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from enum import Enum
from types import CodeType, FrameType
from typing import Any

from greenroom.messages.errors import ReentrantAskError


class Role(Enum):
    """What a thread does for its pool."""

    ROUTER = "the thread of its router"
    SUPERVISOR = "the thread of its supervisor"
    LOOP = "the thread of its event loop"
    EVENTS = "the thread of its subscribers"
    WORKER = "a thread of its agents"


class Need(Enum):
    """What is waited for, by the threads that must go on until it comes."""

    WORD = frozenset({Role.ROUTER, Role.SUPERVISOR})
    """The answer to a command."""
    WORK = frozenset({Role.ROUTER, Role.SUPERVISOR, Role.LOOP})
    """What agents do: a request, a stream, a drain, a removal."""
    END = frozenset({Role.ROUTER, Role.SUPERVISOR, Role.LOOP, Role.EVENTS})
    """The pool's end."""


class Duty:
    """What one thread is for.

    Args:
        pool: the urn of the pool's router.
        step_out: called before code in it waits for anything: it can do nothing else for a while.

    Attributes:
        closes: the pool of whose agents it runs a close hook; its end waits for that.
    """

    __slots__ = ("closes", "pool", "role", "step_out")

    def __init__(
        self, pool: str, role: Role, step_out: Callable[[], object] = lambda: None
    ) -> None:
        self.pool = pool
        self.role = role
        self.step_out = step_out
        self.closes: str | None = None


class _Here(threading.local):
    duty: Duty | None = None


HERE = _Here()
"""`HERE.duty`: that of the running thread; None in one of the app's, which may wait as it likes."""

TURNS: set[CodeType] = set()
"""The functions whose `self` is a member's mailbox, and in which its actor handles messages: as
long as one of them runs, nobody else can. `actors.inline` puts them in.
"""


def before_waiting(pool: Any, need: Need) -> None:
    """Called where `HERE.duty` is set, before that thread waits for something.

    Args:
        pool: the ref of the pool that is to bring it; None for what is no pool's.

    Raises:
        ReentrantAskError: it can only come when the code that would wait has returned.
    """
    duty = HERE.duty
    if duty is None:
        return
    where = None if pool is None else _needed_here(pool, need, duty)
    if where is None:
        duty.step_out()
    elif need is Need.END:
        raise ReentrantAskError(
            f"pool {pool.name!r} cannot be stopped and waited for in {where}: its end waits for "
            "this code to return; use stop(block=False)"
        )
    else:
        raise ReentrantAskError(
            f"pool {pool.name!r} was asked in {where}, which would wait for itself: the answer can "
            "only come when this code has returned; tell, ask with block=False and do not wait, or "
            "wait in a thread of your own"
        )


def _needed_here(pool: Any, need: Need, duty: Duty) -> str | None:
    """Why the running thread is needed for that; None if it is not."""
    if duty.pool == pool.actor_urn and duty.role in need.value:
        return duty.role.value
    if pool.actor_inbox.is_borrowed_here():
        return "a thread that does its router's work at the moment"
    if need is Need.END and duty.closes == pool.actor_urn:
        return "a close hook of its own"
    if need is not Need.WORD and _in_a_members_turn(pool):
        return "a thread that does a member's work at the moment"
    return None


def _in_a_members_turn(pool: Any) -> bool:
    """Whether a member's actor is handling a message in this thread. Nobody notes who handles one,
    since that is done with each: so the frames are looked through, by those who are about to wait.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code in TURNS:
            actor = frame.f_locals["self"].handle.__self__
            if actor.around.router == pool:
                return True
        frame = frame.f_back
    return False
