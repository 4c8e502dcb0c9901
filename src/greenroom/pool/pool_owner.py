"""What `FallbackChain` and `PoolExecutor` have in common: a pool of their own."""

from __future__ import annotations

import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextvars import copy_context
from dataclasses import replace
from typing import NoReturn, Self, SupportsIndex, Unpack

from greenroom.actors.handle.pool_ref import PoolRef
from greenroom.actors.runtime import forks
from greenroom.actors.runtime.loop_factory import loop_factory
from greenroom.actors.strategies import RoutingStrategy
from greenroom.messages import _validate as check
from greenroom.messages.config import PoolConfig, PoolSettings
from greenroom.messages.errors import PoolStoppedError
from greenroom.messages.member import Member
from greenroom.messages.pickling import refuse
from greenroom.messages.requests import DisableBreaker
from greenroom.pool.agent_pool import AgentPool, of_type
from greenroom.pool.attachments import Along, check_along

MAX_CONCURRENCY = 64
"""Calls that one agent takes at a time, unless its owner is told otherwise."""

PLAIN = PoolConfig(request_timeout_s=None, restart_backoff_s=0.0, loop_replaced_after_s=None)
"""What `config=None` means: no attempt is cut short; the breakers are disabled as well."""


def never_lost(_: BaseException) -> bool:
    """The `Member.lost` of agents that are called again whatever they raise: each run of a chain
    tries them all, and those of a `PoolExecutor` are made anew by rules of its own.
    """
    return False


class PoolOwner(ABC):
    """What has a pool of its own: started on first use, stopped by `close`.

    It is a context manager, sync and async. One that is dropped without `close` lets its pool stop:
    nothing that is handed to the pool may refer to the owner.

    Attributes:
        name: how the log and the errors call the pool.
    """

    def __init__(
        self,
        name: str,
        config: PoolConfig | None,
        max_concurrency: int,
        field: str = "name",
        **along: Unpack[Along],
    ) -> None:
        check.name(field, name)
        check.whole("max_concurrency", max_concurrency, minimum=1)
        check_along(**along)
        if config is None and along.get("shared") is not None:
            raise ValueError(
                "shared must be None where config is: there are no breakers then of which others "
                "could be told"
            )
        self._along = along
        self.name = name
        self._config: PoolConfig = of_type(
            "config", PLAIN if config is None else config, PoolConfig
        )
        loop_factory(self._config.event_loop)  # what is missing is said now, not on first use
        self._max_concurrency = max_concurrency
        self._lock = threading.RLock()
        forks.renew(self)
        self._pool: PoolRef | None = None
        self._closed = False
        # Not that of the first request, with which the pool starts.
        self._context = copy_context()

    @property
    def pool(self) -> PoolRef:
        """The pool underneath, for its stats, events and resets; started if it was not running.

        Raises:
            PoolStoppedError: closed before it was ever used.
        """
        # Looked at twice: once it is started, nobody needs the lock.
        if self._pool is None:
            with self._lock:
                self._check_open()
                if self._pool is None:
                    self._context.copy().run(self._begin)
        assert self._pool is not None
        return self._pool

    def _begin(self) -> None:
        # Kept in here: a signal that breaks in behind the `run` would lose what that returns.
        self._pool = self._start_pool()

    def close(self) -> None:
        """Stop the pool and wait until that is done; a second close does nothing.

        What runs is cancelled (a thread cannot be), its caller gets a `PoolStoppedError`.

        Raises:
            ForkedPoolError: the pool was started before a fork, and this is the child.
            ReentrantAskError: this is a thread of the pool's own, which would wait for itself.
        """
        if self._pool is not None:
            # Before anybody is shut out: a close that is refused leaves the owner as it was.
            self._pool.check_thread()
        self._let_nobody_in()
        if self._pool is not None:
            self._pool.stop()

    async def aclose(self) -> None:
        """`close`, without blocking the event loop."""
        self._let_nobody_in()
        if self._pool is not None:
            await self._pool.stop(block=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # A child that was forked within the block leaves it as well:
        # the pool is its parent's to close.
        if not self._is_elsewhere():
            self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if not self._is_elsewhere():
            await self.aclose()

    @abstractmethod
    def _start_pool(self) -> PoolRef:
        """Start it: called once, under the lock, when it is first needed."""

    def _launch(
        self,
        members: Sequence[Member],
        strategy: RoutingStrategy,
        **changes: Unpack[PoolSettings],
    ) -> PoolRef:
        """Start a pool of them; `changes` go on top of the configuration."""
        config = replace(self._config, **changes)
        if config.event_loop == "auto":
            # Started by whoever comes first, on whatever loop that runs, and used by others on
            # theirs: none of these is its home.
            config = replace(config, event_loop="own")
        pool: PoolRef | None = None
        try:
            pool = AgentPool.start(
                members, strategy=strategy, config=config, name=self.name, **self._along
            )
            # The collector must not wait, and the interpreter's end needs no stop.
            weakref.finalize(self, _let_stop, pool).atexit = False
            for member in members:
                self._settle_breaker(pool, member.name)
            return pool
        except BaseException:  # of a signal handler: nobody would use it
            if pool is not None:
                _let_stop(pool)
            raise

    def _settle_breaker(self, pool: PoolRef, member: str) -> None:
        # By identity: a configuration of the caller's own that equals it has breakers all the same.
        if self._config is PLAIN:
            pool.tell(DisableBreaker(member))

    def _let_nobody_in(self) -> None:
        self._check_process()
        with self._lock:  # a pool that is being started is one to be stopped
            self._closed = True

    def _check_open(self) -> None:
        self._check_process()
        if self._closed:
            raise PoolStoppedError(f"pool {self.name!r} has been closed")

    def _check_process(self) -> None:
        if self._pool is not None:
            self._pool.check_process()

    def _is_elsewhere(self) -> bool:
        """Whether its pool was started before a fork, and this is the child."""
        return self._pool is not None and self._pool.is_elsewhere()

    def renew_locks(self) -> None:
        """Run in a child: one whose pool has not been started yet works there."""
        self._lock = threading.RLock()

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        refuse(
            f"{type(self).__name__} {self.name!r}",
            "its pool lives in the process that started it: make one in each process",
        )


def _let_stop(pool: PoolRef) -> None:
    """Run by the collector, in a child of a fork as well."""
    if not pool.is_elsewhere():
        pool.stop(block=False)
