"""A pool for whatever forks: each process starts its own, on first use."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import NoReturn, SupportsIndex

from greenroom.actors.handle.pool_ref import PoolRef
from greenroom.actors.runtime import forks
from greenroom.messages import _validate as check
from greenroom.messages.errors import PoolStoppedError
from greenroom.messages.pickling import refuse


class PoolPerProcess:
    """A pool that each process starts for itself, on first use, whoever forks before or after.

        POOL = PoolPerProcess(lambda: AgentPool.start(MEMBERS, name="web"))

        def view(text: str) -> str:
            return POOL().execute(text)

    It is made where the app is imported, be that before a fork (gunicorn's `preload_app`, a worker
    of Celery's, multiprocessing), and called wherever a pool is wanted, from any thread. A child
    of a process that has a pool has none yet, and starts its own.

    A pool whose config says `event_loop="auto"` is at home on the event loop that runs where it is
    first used: where sync and async code share it, say `event_loop="own"`.

    Args:
        start: starts a pool and returns its ref; called once in a process, in the thread that asks
            first, while others that ask wait. What it raises goes to who has asked, and the next
            one tries again.
    """

    def __init__(self, start: Callable[[], PoolRef]) -> None:
        check.function("start", start)
        self._start = start
        self._lock = threading.RLock()
        self._pool: PoolRef | None = None
        self._starting = False
        self._stopped = False
        forks.renew(self)

    def __call__(self) -> PoolRef:
        """The pool of this process.

        Raises:
            PoolStoppedError: `stop` was called before there was one.
            RuntimeError: `start` asks for the pool that it is to start.
            TypeError: what `start` returned is no pool.
            Exception: what `start` raised.
        """
        if self._pool is None:  # looked at twice: once it is there, nobody needs the lock
            with self._lock:
                if self._pool is None:
                    self._begin()
        assert self._pool is not None
        return self._pool

    def _begin(self) -> None:
        self._refuse_if_stopped()
        # Only the thread that starts it comes by here: the lock is its own.
        if self._starting:
            raise RuntimeError("start must not ask for the pool that it is to start")
        self._starting = True
        try:
            pool = self._start()
        finally:
            self._starting = False
        if not isinstance(pool, PoolRef):
            raise check.misfit("start must return a PoolRef", pool)
        try:
            self._refuse_if_stopped()  # by `start`, or by a signal's handler that broke in
        except PoolStoppedError:
            pool.stop()
            raise
        self._pool = pool

    def _refuse_if_stopped(self) -> None:
        if self._stopped:
            raise PoolStoppedError("the pool of this process has been stopped", refused=True)

    def stop(self, drain_s: float = 0.0) -> None:
        """Stop the pool of this process, if it has one; from then on there is none here.

        Args:
            drain_s: seconds for what is at hand to be answered first.

        Raises:
            TypeError, ValueError: `drain_s` of the wrong type or out of range.
            ReentrantAskError: this is a thread of the pool's own, which would wait for itself.
        """
        check.number("drain_s", drain_s)
        with self._lock:  # one that is being started is one to be stopped
            self._stopped = True
            pool = self._pool
        if pool is None:
            return
        with contextlib.suppress(PoolStoppedError):
            if drain_s:
                pool.drain(drain_s)
        pool.stop()

    def renew_locks(self) -> None:
        """Run in a child: the pool is its parent's, and so is its end."""
        self._lock = threading.RLock()
        self._pool = None
        self._starting = False
        self._stopped = False

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        refuse("a PoolPerProcess", "it is made where each process imports it: refer to it by name")

    def __repr__(self) -> str:
        return f"<PoolPerProcess: {self._pool or 'not started here'}>"
