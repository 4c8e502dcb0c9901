"""Agents that are made where they are used: one for each event loop of the callers' own."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from contextvars import Context
from typing import Generic, TypeVar

from greenroom.actors.runtime.event_bus import complain


def _told(error: BaseException, name: str) -> BaseException:
    """What a factory has raised, as whoever waits for its agent is told, in a task of the app that
    a SystemExit of a factory must not end. A Ctrl-C is the app's.
    """
    # By its type: an app's error may raise at any look.
    if issubclass(type(error), (Exception, KeyboardInterrupt)):
        return error
    told = RuntimeError(f"the factory of {name} raised {type(error).__name__}")
    told.__cause__ = error
    return told


K = TypeVar("K")
"""What is kept for a loop: an agent."""


class LoopAgents(Generic[K]):
    """What an async factory makes for blocks that run on other loops than the member's.

    A task of each such loop makes its agent, keeps it, and closes it: at the end of its loop, which
    cancels its tasks, or at the member's. So whatever belongs to a task is left in the one that it
    was entered in.

    Args:
        name: of the tasks.
        made: makes an agent, and closes it behind its block.
        context: that of the pool's start, of which each task has a copy; None: an empty one.
        grace_s: how long the end of all is waited for.
        close_s: how long the close of one that is lost may take.
        is_lost: whether one is gone for good.
        remade: is called on its loop when one has been made in the place of a lost one.
    """

    def __init__(
        self,
        name: str,
        made: Callable[[], AbstractAsyncContextManager[K]],
        context: Context | None,
        grace_s: float,
        close_s: float = 5.0,
        is_lost: Callable[[K], bool] = lambda _: False,
        remade: Callable[[], object] = lambda: None,
    ) -> None:
        self._name = name
        self._made = made
        self._context = context
        self._grace_s = grace_s
        # Each loop touches its own; single operations of a dict. A loop that has been closed is
        # forgotten when another one comes.
        self._kept: dict[asyncio.AbstractEventLoop, Kept[K]] = {}
        self._leaving: set[Kept[K]] = set()
        self._lost: set[Kept[K]] = set()
        self._close_s = close_s
        self._is_lost = is_lost
        self._remade = remade
        self._ended = False

    async def get(self) -> K:
        """The agent of the running loop, which is made if there is none.

        Raises:
            BaseException: what the factory raises; the next one who asks has it made again.
        """
        return await self._of_this_loop().agent()

    @contextlib.asynccontextmanager
    async def lent(self) -> AsyncIterator[Kept[K]]:
        """The agent of the running loop, or what is to be it, for a block: what is forgotten there
        is closed when the last such block is left.
        """
        kept = self._of_this_loop()
        kept.users += 1  # before it is there: nobody may close it while this one waits for it
        try:
            yield kept
        finally:
            kept.users -= 1
            if kept.forgotten:
                self._forget(kept)

    def _forget(self, kept: Kept[K]) -> None:
        if self._kept.get(kept.loop) is kept:
            del self._kept[kept.loop]
        if kept not in self._leaving and not kept.task.done():
            self._leaving.add(kept)
            kept.task.add_done_callback(lambda _: self._leaving.discard(kept))
        if not kept.users:
            kept.end(lambda _: None)

    def _of_this_loop(self) -> Kept[K]:
        loop = asyncio.get_running_loop()
        kept = self._kept.get(loop)
        lost = kept is not None and self._has_lost(kept)
        if kept is not None and lost:
            self._lost.add(kept)
        if kept is None or lost or kept.forgotten or kept.task.done():
            for other in [each for each in list(self._kept) if each.is_closed()]:
                self._kept.pop(other, None)
            for over in [each for each in list(self._lost) if each.is_over]:
                self._lost.discard(over)
            # A factory that has failed meanwhile has put nobody in the lost one's place.
            again = lost or (kept is not None and kept.again and kept.there is None)
            kept = self._kept[loop] = Kept(loop, again)
            # Not the context of who happens to come first.
            context = Context() if self._context is None else self._context.copy()
            kept.task = loop.create_task(
                self._keep(kept), name=f"{self._name}:agent", context=context
            )
        return kept

    def _has_lost(self, kept: Kept[K]) -> bool:
        return kept.there is not None and self._is_lost(kept.there)

    @property
    def agents(self) -> list[K]:
        """Those that there are."""
        kept = list(self._kept.values())
        return [each.there for each in kept if each.there is not None and not each.is_over]

    def close_lost(self, is_used: Callable[[K], bool]) -> bool:
        """Close those that are lost, and that nobody uses; whether others of them are left. Any
        thread may do so.
        """
        left = False
        for kept in (*list(self._kept.values()), *list(self._lost)):
            if kept.there is None or not self._is_lost(kept.there) or kept.is_over:
                continue
            if is_used(kept.there):
                left = True
                continue
            with contextlib.suppress(RuntimeError):  # its loop has been closed
                part = functools.partial(kept.part, self._close_s, self._name)
                kept.loop.call_soon_threadsafe(part, context=Context())
        return left

    async def _keep(self, kept: Kept[K]) -> None:
        begun = False
        try:
            async with self._made() as agent:
                begun, kept.there = True, agent
                if not kept.made.cancelled():
                    kept.made.set_result(agent)
                if kept.again:
                    self._remade()
                if not self._ended:
                    await kept.over.wait()
        except asyncio.CancelledError:  # the loop ends
            if not begun:
                kept.made.cancel()
            raise
        except BaseException as error:
            if begun:
                complain(f"closing an agent of {self._name} failed", error)
            elif not kept.made.cancelled():
                kept.made.set_exception(_told(error, self._name))
                kept.made.exception()  # it has been looked at, though nobody may wait any more

    def close(self, then: Callable[[], object]) -> None:
        """Have all of them closed, each on its loop; `then` is called once that is done, or its
        time is over: a loop that does not run is not waited for. Any thread may do so.
        """
        self._ended = True
        kept, self._kept = [*list(self._kept.values()), *list(self._lost), *list(self._leaving)], {}
        once, left = threading.Lock(), threading.Semaphore(len(kept) - 1) if kept else None
        if left is None:
            then()
            return
        timer = threading.Timer(self._grace_s, lambda: act())
        timer.daemon = True

        def act() -> None:
            if once.acquire(blocking=False):  # never given back
                timer.cancel()
                then()

        def ended(_: object = None) -> None:
            if not left.acquire(blocking=False):
                act()

        try:
            timer.start()
        except RuntimeError:  # no thread to wait in: nobody is waited for
            act()
        for each in kept:
            try:
                each.loop.call_soon_threadsafe(functools.partial(each.end, ended))
            except RuntimeError:  # its loop has been closed
                ended()


def running_loop() -> asyncio.AbstractEventLoop:
    """That of this coroutine."""
    return asyncio.get_running_loop()


class Kept(Generic[K]):
    """The agent of one loop.

    Attributes:
        there: the agent; None until it is made.
        users: blocks that it is lent to, or that wait for it.
        forgotten: whether it is given to no further block.
        again: whether it stands in the place of a lost one.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, again: bool = False) -> None:
        self.loop = loop
        self.again = again
        self.users = 0
        self.forgotten = False
        self.made: asyncio.Future[K] = loop.create_future()
        self.there: K | None = None
        self.over = asyncio.Event()
        self.task: asyncio.Task[None]

    async def agent(self) -> K:
        """It, once it has been made.

        Raises:
            BaseException: what the factory raises.
        """
        return await asyncio.shield(self.made)  # others wait for it, too

    def forget(self) -> None:
        """On its loop, in a block that it is lent to: whoever comes next has another one made."""
        self.forgotten = True

    @property
    def is_over(self) -> bool:
        """Whether nothing is left of it."""
        return self.loop.is_closed() or self.task.done()

    def part(self, close_s: float, name: str) -> None:
        """On its loop: it is lost, and closed, for which it has so many seconds."""

        def give_up() -> None:
            error = TimeoutError(f"it takes more than {close_s:g} s")
            complain(f"closing a lost agent of {name} is given up", error)
            self.task.cancel()

        if not self.over.is_set():
            self.over.set()
            timer = self.loop.call_later(close_s, give_up)
            self.task.add_done_callback(lambda _: timer.cancel())

    def end(self, then: Callable[[object], object]) -> None:
        """On its loop."""
        self.over.set()
        if not self.made.done():  # its factory may never return
            self.task.cancel()
        self.task.add_done_callback(then)
