"""A context manager that a factory has made: it is entered, and left where it was entered."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from greenroom.actors.runtime.call_ancestry import INSIDE

_CONTEXTLIB = (contextlib._GeneratorContextManager, contextlib._AsyncGeneratorContextManager)


Begun = Callable[[Any], object]
"""Told the agent that entering has given."""

Post = Callable[[Callable[[], object]], bool]
"""False where the loop will not do it, or nobody can tell when."""


def entered_on_loop(made: Any) -> bool | None:
    """Whether what a factory has made is to be entered: where that takes a loop, True.

    What has `__aenter__` is, whatever it has besides: many a client is connected by that alone, and
    of the others leaving is closing. What has `__enter__` alone is if it has no `close`. With one
    it is open from the start (a `requests.Session`, an `OpenAI`), and a block is not always its
    life: of a connection to a database it is a transaction.

    Returns:
        False for a thread; None where nothing is to be entered.
    """
    kind = type(made)
    if _has(kind, "__aenter__") and _has(kind, "__aexit__"):
        return True
    if _has(kind, "__enter__") and _has(kind, "__exit__") and not _has(kind, "close"):
        return False
    return None


def _has(kind: type, name: str) -> bool:
    try:
        return hasattr(kind, name)
    except BaseException:  # of its metaclass
        return False


def _agent_of(manager: Any, given: Any) -> Any:
    # A class of the app's may have forgotten to return itself.
    return manager if given is None and not isinstance(manager, _CONTEXTLIB) else given


async def enter(manager: Any, stack: contextlib.AsyncExitStack) -> tuple[Any, bool]:
    """Enter it in the running task.

    Args:
        stack: leaves it again.

    Returns:
        The agent, or None; and False where it is to be taken as it is: somebody has entered it
        before, or used it.
    """
    if not entered_on_loop(manager):
        return _agent_of(manager, stack.enter_context(manager)), True
    turned = list[bool]()
    asyncio.get_running_loop().call_soon(turned.append, True)
    try:
        given = await stack.enter_async_context(manager)
    except RuntimeError as error:
        # Said before it has waited for anything, as httpx's client does: it is open already.
        if turned or type(error) is not RuntimeError or isinstance(manager, _CONTEXTLIB):
            raise
        return manager, False
    return _agent_of(manager, given), True


class Thread(Protocol):
    """A thread that has entered something."""

    def begin(self) -> None:
        """Called in it, before anybody hears of what it has entered."""

    def stay(self) -> None:
        """Called in it: returns when it is to leave; at once after that."""

    def step_back(self) -> None:
        """What is not for its own agent is no more for it."""

    def close(self) -> None:
        """It is to leave, once what it has been given is done; called from anywhere."""


class Idle:
    """One that has nothing else to do."""

    def __init__(self) -> None:
        self._over = threading.Event()

    def begin(self) -> None:
        """It has nothing to prepare."""

    def stay(self) -> None:
        """Wait."""
        self._over.wait()

    def step_back(self) -> None:
        """It takes nothing as it is."""

    def close(self) -> None:
        """End the wait."""
        self._over.set()


class Stay:
    """What one task, or one thread, does for an agent: it enters the manager, waits for the end of
    the agent, and leaves. A cancel scope can be left in no other task, many a thing in no other
    thread.

    Attributes:
        takes_loop: whether a loop's task does it.
        agent: what entering has given; None before that.
        asked: whether it is to end.
        manager: what the factory has made.
        thread: that which has entered it; None where a task has.
        cut: has its task or its thread given up on, however far it is.
    """

    def __init__(self, manager: Any, takes_loop: bool) -> None:
        self.takes_loop = takes_loop
        self.agent: Any = None
        self.asked = False
        self.manager = manager
        self.thread: Thread | None = None
        self.cut: Callable[[], object] = lambda: None
        self._ended = False
        self._signal: Callable[[], bool]
        # Whoever takes it out calls it: `leave`, or the end that it waits for.
        self._then: deque[Callable[[], object]] = deque()

    async def on_loop(self, begun: Begun, post: Post) -> Any:
        """Run by a task that has nothing else to do.

        Args:
            post: brings something to its loop.

        Returns:
            None once it is over, or where entering gave nothing; else the manager, which is to be
            taken as it is: somebody has entered it before, or used it.
        """
        over = asyncio.Event()
        self._signal = lambda: post(over.set)
        async with contextlib.AsyncExitStack() as stack:
            given, entered = await enter(self.manager, stack)
            if not entered:
                return given
            if self._begin(given, begun):
                await over.wait()
                INSIDE.set(())
        return None

    def in_thread(self, begun: Begun, ends: Callable[[], object], thread: Thread) -> None:
        """Run by a thread, the same.

        Args:
            ends: called there before it leaves.
            thread: what it does meanwhile.
        """

        def signal() -> bool:
            thread.close()
            return True

        self._signal = signal
        self.thread = thread
        with self.manager as given:
            thread.begin()
            try:
                if self._begin(_agent_of(self.manager, given), begun):
                    thread.stay()
            finally:  # it may have been given calls by now, whatever has been raised
                thread.close()
                thread.stay()
            INSIDE.set(())
            ends()

    def _begin(self, given: Any, begun: Begun) -> bool:
        if given is not None:
            self.agent = given
            begun(given)
        return given is not None

    def leave(self, then: Callable[[], object]) -> None:
        """Have it end; `then` is called when it has, or at once where its loop will not answer."""
        self.asked = True
        self._then.append(then)
        if self._ended or not self._signal():
            self._go_on()

    def ended(self) -> None:
        """Called where it ended."""
        self._ended = True
        self._go_on()

    def _go_on(self) -> None:
        try:
            then = self._then.popleft()
        except IndexError:
            return
        then()


def fault(error: BaseException | None) -> BaseException | None:
    """What a stay has ended by, but for a cancellation: that was its loop's end, or somebody's."""
    # By its type: what leaving raises may raise again when it is asked for its class.
    return None if issubclass(type(error), asyncio.CancelledError) else error
