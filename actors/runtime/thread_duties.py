"""What the threads of a pool's own are for, so that none of them is made to wait for itself.

Code of the app's runs in them: done callbacks, strategies, sinks of the log, subscribers, close
hooks. It may ask anything, and wait for whatever comes without the thread that it holds; where the
answer needs that very thread, it is told so when it begins to wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextvars import Token
from enum import Enum
from types import CodeType, FrameType
from typing import Any, NamedTuple, Protocol

from greenroom.actors.runtime import forks
from greenroom.actors.runtime.call_ancestry import INSIDE, WAIT
from greenroom.messages.errors import ReentrantAskError
from greenroom.messages.execution import Ancestor, Ticket


class Need(Enum):
    """What is waited for."""

    WORD = "the answer to a command"
    WORK = "what agents do: a request, a stream, a drain, a removal"
    LOOP = "what is done on an event loop, whoever of the agents it is for"
    END = "the pool's end"


_ALL = frozenset(Need)


class Asked(Protocol):
    """The ref of a pool, as far as it matters to who waits for it."""

    @property
    def actor_urn(self) -> str: ...

    @property
    def name(self) -> str: ...

    def tell(self, message: Any) -> None: ...


class ThreadRole(Enum):
    """What a thread does for its pool, and what nobody must wait for in it."""

    ROUTER = "the thread of its router", _ALL
    SUPERVISOR = "the thread of its supervisor", _ALL
    LOOP = "the thread of its event loop", frozenset({Need.WORK, Need.LOOP, Need.END})
    EVENTS = "the thread of its subscribers", frozenset({Need.END})
    WORKER = "a thread of its agents", frozenset[Need]()
    CLOSING = "a close hook of its own", frozenset({Need.END})
    ASKER = "a thread of the app", frozenset[Need]()
    ROUTERS_TURN = "a thread that does its router's work at the moment", _ALL
    MEMBERS_TURN = (
        "a thread that does a member's work",
        frozenset({Need.WORK, Need.LOOP, Need.END}),
    )

    def __init__(self, where: str, holds_up: frozenset[Need]) -> None:
        self.where = where
        self.holds_up = holds_up


class Duty:
    """What one thread is for.

    Args:
        pool: the urn of the pool's router.
        step_out: called before code in it waits for anything: it can do nothing else for a while.

    Attributes:
        closes: the pool of whose agents it runs a close hook.
    """

    __slots__ = ("closes", "pool", "role", "step_out")

    def __init__(
        self, pool: str, role: ThreadRole, step_out: Callable[[], object] = lambda: None
    ) -> None:
        self.pool = pool
        self.role = role
        self.step_out = step_out
        self.closes: str | None = None


class _Here(threading.local):
    duty: Duty | None = None


running_loop = asyncio._get_running_loop
"""The loop that the running thread runs; None if it runs none. (It is written in C.)"""

HERE = _Here()
"""`HERE.duty`: that of the running thread; None in one of the app's, which may wait as it likes
unless it runs the loop of a pool's agents."""


class Held(NamedTuple):
    """A pool that cannot go on until the running code returns, where that is, and what not."""

    pool: str
    where: str
    holds_up: frozenset[Need]
    hint: str = ""


class Home(Protocol):
    """A loop of the app's, on which agents of a pool run."""

    def held(self) -> Held:
        """Asked in the thread that runs it: what cannot be had while that thread waits."""

    def works_for(self, request: tuple[str, str]) -> bool:
        """Whether what runs there was asked for by an attempt of that request of another pool."""


# Each changed and read in single operations: a pool comes and goes in any thread.
_homes: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Home]] = (
    weakref.WeakKeyDictionary()
)
_homes_lock = threading.Lock()


def at_home(loop: asyncio.AbstractEventLoop, pool: str, home: Home) -> None:
    """From now on, who waits in the thread that runs the loop may hold that pool up."""
    with _homes_lock:
        _homes.setdefault(loop, {})[pool] = home


def left_home(loop: asyncio.AbstractEventLoop, pool: str) -> None:
    """End what `at_home` began."""
    with _homes_lock:
        _homes.get(loop, {}).pop(pool, None)


def _no_duty() -> None:
    """Run in a child of a fork: its one thread is no pool's, wherever it was made."""
    global _homes_lock
    HERE.duty = None
    _homes_lock = threading.Lock()
    _homes.clear()


forks.in_child(_no_duty)

Turn = Callable[[Any], Held]

# Filled where modules are imported, and only read from then on.
_TURNS: dict[CodeType, Turn] = {}


def turn(function: Any, role: ThreadRole, pool_of: Callable[[Any], str]) -> None:
    """As long as that method runs, its thread does somebody else's work. Nobody notes so, since it
    is done for most messages: whoever is about to wait looks for it among the frames.

    Args:
        pool_of: the urn of the pool, given the method's `self`.
    """
    _TURNS[function.__code__] = lambda owner: _held_by(pool_of(owner), role)


def _held_by(pool: str, role: ThreadRole) -> Held:
    return Held(pool, role.where, role.holds_up)


_numbers = itertools.count(1)
_waiting: dict[Ticket, frozenset[Need]] = {}
"""Waits that hold a pool up, and for what. Calls that they wait for have them among their
ancestors, and so have the calls that these wait for."""


class Wait:
    """A wait of a thread that holds pools up; they are named to whatever it is for."""

    _token: Token[Any]

    def __init__(self, held: list[Held]) -> None:
        self._ancestors: list[Ancestor] = []
        for each in held:
            ticket = (WAIT, next(_numbers))
            # Before it is named below: whoever finds the name looks here for what is waited for.
            _waiting[ticket] = each.holds_up
            self._ancestors.append((each.pool, ticket))

    def step_in(self) -> None:
        """What is asked for from here to `step_out`, in the same context, is waited for."""
        self._token = INSIDE.set((*INSIDE.get(), *self._ancestors))

    def step_out(self) -> None:
        """End what `step_in` began; what was asked for is waited for all the same, until `end`."""
        INSIDE.reset(self._token)

    def end(self) -> None:
        """It is over. A finalizer may call this, in whatever thread: no lock is taken."""
        for _, ticket in self._ancestors:
            _waiting.pop(ticket, None)


def wait_for(pool: Asked, need: Need) -> Wait | None:
    """Called before anything is sent that this thread is to wait for, where `HERE.duty` is set or a
    loop runs. None: it holds nobody up.

    Raises:
        ReentrantAskError: the wait would be refused: nobody is to work for an answer.
    """
    held = before_waiting(pool, need)
    return Wait(held) if held else None


_waited_for: dict[tuple[str, str], list[Held]] = {}
_on_the_loop: set[tuple[str, str]] = set()
"""Requests, by pool and id: those that a thread waits for which runs a loop, with whom that holds
up; those whose call has a thread, and needs the loop of the agents all the same. Whoever adds to
one looks into the other then, so that one of two sees the other. None is in there for long.
"""


@contextlib.contextmanager
def waits_for(pool: Asked | None, request_id: str | None, held: list[Held]) -> Iterator[None]:
    """A thread that runs a loop is about to wait for a request, and holds those pools up.

    Raises:
        ReentrantAskError: its call waits for that loop.
    """
    if pool is None or request_id is None:
        yield
        return
    request = (pool.actor_urn, request_id)
    _waited_for[request] = held
    try:
        loop = running_loop()
        homes = () if loop is None else tuple(_homes.get(loop, {}).values())
        if request in _on_the_loop or any(home.works_for(request) for home in homes):
            raise ReentrantAskError(_LOOP_WAITS)
        yield
    finally:
        _waited_for.pop(request, None)


@contextlib.contextmanager
def needs_loop(pool: str, request_id: str) -> Iterator[None]:
    """A call in a thread is about to wait for a turn of the app's loop.

    Raises:
        ReentrantAskError: the thread that runs the loop waits for this request.
    """
    if is_held_up(pool, Need.LOOP, INSIDE.get()):
        raise ReentrantAskError(_LOOP_WAITS)
    request = (pool, request_id)
    _on_the_loop.add(request)
    try:
        if request in _waited_for:
            raise ReentrantAskError(_LOOP_WAITS)
        yield
    finally:
        _on_the_loop.discard(request)


_LOOP_WAITS = (
    "it was asked in the thread of the event loop that its agent needs, which waits for it: await "
    "what ask(..., block=False) returns, read streams by async for, or wait in another thread"
)


def before_waiting(pool: Asked | None, need: Need) -> list[Held]:
    """Called where `HERE.duty` is set or a loop runs, before that thread waits for something.

    Args:
        pool: the ref of the pool that is to bring it; None for what is no pool's.

    Returns:
        What it holds up meanwhile.

    Raises:
        ReentrantAskError: it can only come when the code that would wait has returned.
    """
    duty, loop = HERE.duty, running_loop()
    # All of them: a worker that does the router's part may do so below a member's, and each holds
    # up somebody else.
    held = [] if duty is None else list(_held_here(duty))
    if loop is not None and (homes := _homes.get(loop)):
        held.extend(home.held() for home in list(homes.values()))
    if pool is not None:
        for each in held:
            if each.pool == pool.actor_urn and need in each.holds_up:
                raise _refusal(pool, need, each.where, each.hint)
        check_chain(pool, need)
    # Last: a wait that is refused never begins, and this thread goes on with what it does.
    if duty is not None:
        duty.step_out()
    return held


def check_chain(pool: Asked, need: Need) -> None:
    """The same for the waits that the running call is a part of.

    Raises:
        ReentrantAskError: one of them holds the pool up until this call has ended.
    """
    if is_held_up(pool.actor_urn, need, INSIDE.get()):
        raise _refusal(pool, need, "a call that one of its own threads waits for")


def is_held_up(pool: str, need: Need, inside: tuple[Ancestor, ...]) -> bool:
    """Whether one of those calls is a wait that keeps a pool from it.

    Args:
        pool: the urn of its router.
    """
    if any(urn == pool and need in _waiting.get(ticket, ()) for urn, ticket in inside):
        return True
    return bool(_waited_for) and any(
        held.pool == pool and need in held.holds_up
        for urn, ticket in inside
        for held in _waited_for.get((urn, ticket[0]), ())
    )


def _held_here(duty: Duty) -> Iterator[Held]:
    if duty.role.holds_up:
        yield _held_by(duty.pool, duty.role)
    if duty.closes is not None:
        yield _held_by(duty.closes, ThreadRole.CLOSING)
    # A walk up the stack is dear, but waits in threads of a pool's are few; to note each turn would
    # cost something for every message.
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        its_turn = _TURNS.get(frame.f_code)
        if its_turn is not None:
            yield its_turn(frame.f_locals["self"])
        frame = frame.f_back


def _refusal(pool: Asked, need: Need, where: str, hint: str = "") -> ReentrantAskError:
    if need is Need.END:
        return ReentrantAskError(
            f"pool {pool.name!r} cannot be stopped and waited for in {where}: its end waits for "
            f"this code to return; use {hint and 'await pool.'}stop(block=False)"
            f"{hint and ', or leave it by async with'}"
        )
    return ReentrantAskError(
        f"pool {pool.name!r} was asked in {where}, which would wait for itself: the answer can "
        "only come when this code has returned; "
        + (hint or "tell, ask with block=False and do not wait, or wait in a thread of your own")
    )
