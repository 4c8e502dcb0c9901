"""The members of a pool: of every kind there is, and guests that come and go."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from chaos.innerpools import INNER, InnerPools
from chaos.players import AsyncPlayer, Player, SyncPlayer
from chaos.stage import FACTORY_MODES, Stage
from chaos.streamers import AsyncClient, AsyncStreamer, SyncClient, SyncStreamer
from greenroom import Member

CORE = ("brisk", "plain", "bound", "maker", "lazy", "probed", "checked", "alone")
GUESTS = ("guest-a", "guest-b", "guest-c")
NAMES = CORE + GUESTS


class Company:
    """Makes the members of one pool.

    Args:
        nested: whether some of them are pools.

    Attributes:
        inner: those pools.
    """

    def __init__(self, stage: Stage, nested: bool = False) -> None:
        self._stage = stage
        self.inner = InnerPools(stage)
        self._nested = nested
        self._closed = self._left = 0

    def member(self, name: str) -> Member:
        """The member of that name, anew."""
        stage = self._stage
        if self._nested and name in INNER:
            return self.inner.member(name)
        match name:
            case "brisk":
                return Member(name, AsyncStreamer(stage, name), max_concurrency=6, weight=3.0)
            case "plain":
                return Member(name, SyncPlayer(stage, name), max_concurrency=2)
            case "bound":
                return Member(name, AsyncPlayer(stage, name).arun, max_concurrency=3)
            case "maker":
                return self._made(name, SyncClient, 2, close=self._close)
            case "lazy":
                return self._made(name, AsyncClient, 4, close=self._aclose)
            case "probed":
                agent = AsyncPlayer(stage, name)
                return Member(name, agent, probe=agent.probe, max_concurrency=4)
            case "checked":
                checked = SyncStreamer(stage, name)
                return Member(name, checked, probe=checked.probe, max_concurrency=2, priority=1)
            case "alone":
                return Member(name, AsyncStreamer(stage, name), isolated=True, max_concurrency=3)
            case "guest-b":
                return Member(name, factory=lambda: self._async_stay(name), max_concurrency=2)
            case "guest-c":
                stay = functools.partial(self._stay, name)
                return Member(name, factory=stay, close=self._close, lost=self._is_lost)
            case _:
                return self._made(name, SyncStreamer, 2, close=self._close)

    def _made(
        self, name: str, kind: type[Player], slots: int, close: Callable[[Any], Any]
    ) -> Member:
        make = self._make if issubclass(kind, SyncPlayer) else self._amake
        factory = functools.partial(make, kind, name)
        return Member(name, factory=factory, max_concurrency=slots, close=close)

    def _make(self, kind: type[Player], name: str) -> Player | None:
        mode = self._stage.factory_mode
        self._stage.count(f"factory: {mode}")
        if mode == "fail":
            raise ConnectionError("the factory is closed")
        if mode == "exit":
            raise SystemExit(4)
        return None if mode == "return None" else kind(self._stage, name)

    async def _amake(self, kind: type[Player], name: str) -> Player | None:
        return self._make(kind, name)

    @contextlib.contextmanager
    def _stay(self, name: str) -> Iterator[Player | None]:
        """Its calls run in the thread that has entered, as far as that is free."""
        with self._stage.stay(name):
            yield self._make(SyncPlayer, name)
            self._leave_badly(name)

    @contextlib.asynccontextmanager
    async def _async_stay(self, name: str) -> AsyncIterator[Player | None]:
        """With a task group, which has to be left in its own task."""
        with self._stage.stay(name):
            async with asyncio.TaskGroup() as tasks:
                reader = tasks.create_task(asyncio.Event().wait())
                try:
                    yield self._make(AsyncPlayer, name)
                finally:
                    reader.cancel()
            self._leave_badly(name)

    def _is_lost(self, error: BaseException) -> bool:
        """Of a member that takes one call at a time: what fails beside a loss, on the same agent,
        is of another kind than it was told to fail with.
        """
        if type(error) is ValueError:
            self._stage.count("agent that is lost")
            return True
        return False

    def _leave_badly(self, name: str) -> None:
        """Every third one raises when it is left."""
        self._left += 1
        if self._left % 3 == 0:
            self._stage.count("leaving that raises")
            raise RuntimeError(f"{name} does not end well")

    def _close(self, agent: Player) -> None:
        """Every third close hook raises."""
        self._closed += 1
        if self._closed % 3 == 0:
            self._stage.count("close hook that raises")
            raise RuntimeError(f"{agent.name} does not close well")
        self._stage.count("close hook")

    async def _aclose(self, agent: Player) -> None:
        self._close(agent)


def factory_mode(number: int) -> str:
    """One of the modes, by any number."""
    return FACTORY_MODES[number % len(FACTORY_MODES)]
