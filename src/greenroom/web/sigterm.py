"""SIGTERM in an app whose server would shut its door at once: first the pool is drained."""

from __future__ import annotations

import asyncio
import contextlib
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
    Retry-After, where a closed door would be an error of the network's. A second SIGTERM goes on
    at once. Where nobody handles it in Python, or in a thread that is not the main one, the block
    changes nothing.

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
    delay = _Delay(pool, drain_s, ends)

    def heard(number: int, _: FrameType | None) -> None:
        loop.call_soon_threadsafe(delay.hear, number)

    signal.signal(signal.SIGTERM, heard)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is heard:  # whoever has set another one keeps it
            signal.signal(signal.SIGTERM, ends)
        delay.leave()


class _Delay:
    """What a signal is held up by."""

    def __init__(self, pool: PoolRef, drain_s: float, ends: Handler) -> None:
        self._pool = pool
        self._drain_s = drain_s
        self._ends = ends
        self._draining: asyncio.Task[None] | None = None

    def hear(self, number: int) -> None:
        if self._draining is None:
            self._draining = asyncio.ensure_future(self._drain(number))
        else:
            self._ends(number, None)

    def leave(self) -> None:
        if self._draining is not None:
            self._draining.cancel()

    async def _drain(self, number: int) -> None:
        try:
            with contextlib.suppress(PoolStoppedError):
                await self._pool.adrain(self._drain_s)
        finally:  # be it an error that nobody thought of: who was told to end ends
            self._ends(number, None)
