"""SIGTERM in an app whose server would shut its door at once: first the pool is drained."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from greenroom.actors.handle.pool_ref import PoolRef
from greenroom.messages import _validate as check
from greenroom.messages.errors import PoolStoppedError

Handler = Callable[[int, FrameType | None], object]


@contextlib.contextmanager
def drain_on_sigterm(pool: PoolRef, drain_s: float = 30.0) -> Iterator[None]:
    """Within this block SIGTERM drains the pool, and then goes on to whom it would have ended.

    So a server that handles it by `signal.signal` and runs its app's lifespan after that (uvicorn,
    alone or as a worker of gunicorn's) goes on listening meanwhile: what is at hand is answered,
    and what comes is refused with a `PoolStoppedError`, which `problem_of` makes a 503 with a
    Retry-After, where a closed door would be an error of the network's. A second SIGTERM goes on at
    once, past all such blocks, though the event loop be blocked. Where nobody handles it in Python,
    or in a thread that is not the main one, the block changes nothing.

    Args:
        pool: to be drained; it stays its caller's to stop.
        drain_s: seconds; what is not answered by then fails with a `PoolStoppedError`. Less than
            what whoever sends SIGTERM leaves until SIGKILL.

    Raises:
        TypeError, ValueError: a value of the wrong type or out of range, named with its field.
        RuntimeError: no event loop runs here.
    """
    if not isinstance(pool, PoolRef):
        raise check.misfit("pool must be a PoolRef", pool)
    check.number("drain_s", drain_s)
    loop = asyncio.get_running_loop()
    ends = signal.getsignal(signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread() or not callable(ends):
        yield
        return
    delay = _Delay(pool, drain_s, ends, loop)
    signal.signal(signal.SIGTERM, delay)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is delay:  # whoever has set another one keeps it
            signal.signal(signal.SIGTERM, ends)
        delay.leave()


class _Delay:
    """What a signal is held up by: its handler meanwhile."""

    def __init__(
        self, pool: PoolRef, drain_s: float, ends: Handler, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._pool = pool
        self._drain_s = drain_s
        self._ends = ends
        self._loop = loop
        self._heard = False
        # A signal comes between any two steps of the main thread, within an agent's call on this
        # loop, say: what begins in that call's context would be taken for a part of it.
        self._context = contextvars.copy_context()
        self._draining: asyncio.Task[None] | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Runs between any two steps of the main thread, which may be at work on the loop."""
        if self._heard:
            self._go_on(number, frame)
            return
        self._heard = True
        try:
            self._loop.call_soon_threadsafe(self._begin, number, context=self._context)
        except RuntimeError:  # the loop has been closed, and the block was never left
            self._ends(number, frame)

    def _go_on(self, number: int, frame: FrameType | None) -> None:
        """Past the blocks around this one, too."""
        self._heard = True
        ends = self._ends
        if isinstance(ends, _Delay):
            ends._go_on(number, frame)
        else:
            ends(number, frame)

    def _begin(self, number: int) -> None:
        self._draining = self._loop.create_task(self._drain(number))

    def leave(self) -> None:
        if self._draining is not None:
            self._draining.cancel()

    async def _drain(self, number: int) -> None:
        try:
            with contextlib.suppress(PoolStoppedError):
                await self._pool.adrain(self._drain_s)
        finally:  # be it an error that nobody thought of: who was told to end ends
            self._ends(number, None)
