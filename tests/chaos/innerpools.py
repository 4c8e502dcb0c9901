"""Pools that are members of the pool under test: one handed over ready, one made by a factory."""

from __future__ import annotations

import contextlib
import functools
import random

from chaos.plan import INNER_SETTINGS
from chaos.players import SyncPlayer
from chaos.stage import Stage
from chaos.streamers import AsyncStreamer
from greenroom import AgentPool, Member, PoolConfig, PoolRef, PoolStoppedError

INNER = ("bound", "alone")
"""The members that are pools, where pools are members."""
SLOTS = 3
"""What the outer pool gives each of them at a time: less than there is inside."""


class InnerPools:
    """The pools inside one pool. Their agents perform under the name of their outer member."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._ready: PoolRef | None = None
        self._made: list[PoolRef] = []

    def member(self, name: str) -> Member:
        """A member that is a pool."""
        can_serve = PoolRef.can_serve
        if name == "bound":
            self._ready = self._ready or self._start(name)
            return Member(name, self._ready, probe=can_serve, max_concurrency=SLOTS)
        factory = functools.partial(self._start, name)
        return Member(name, factory=factory, probe=can_serve, max_concurrency=SLOTS)

    def running(self) -> list[PoolRef]:
        """Those that have not ended."""
        self._made = [pool for pool in self._made if pool.is_alive()]
        return list(self._made)

    def at_rest(self) -> bool:
        """Whether none of them has anything to do."""
        return all(map(_is_at_rest, self.running()))

    def reset(self) -> None:
        """Every member of every one of them is brought back."""
        for pool in self.running():
            with contextlib.suppress(PoolStoppedError):  # it has ended with its member just now
                pool.reset_all()

    def close(self) -> None:
        """End the one that was handed over ready; the others end with their members, unless there
        was no thread for the hook that ends them.
        """
        if self._ready is not None:
            self._ready.stop()
        if self._stage.performed["thread refused"]:
            for pool in self.running():
                pool.stop()

    def _start(self, name: str) -> PoolRef:
        stage = self._stage
        self._stage.count("inner pool started")
        pool: PoolRef = AgentPool.start(
            [
                Member("first", AsyncStreamer(stage, name), max_concurrency=4),
                Member("second", SyncPlayer(stage, name), max_concurrency=2),
            ],
            strategy="round_robin",
            config=PoolConfig(**INNER_SETTINGS),
            name=f"chaos-{name}",
            clock=stage.clock,
            rng=random.Random(name),
        )
        self._made.append(pool)
        return pool


def _is_at_rest(pool: PoolRef) -> bool:
    try:
        stats = pool.stats()
    except PoolStoppedError:  # it has ended with its member since it was looked up
        return True
    return stats.pending == stats.in_flight == 0
