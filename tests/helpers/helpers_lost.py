"""What the tests of lost agents share: agents that end for good, and that know of their close."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from helpers_pools import WAIT_S

from greenroom import AgentLostError


class Makers:
    """A factory whose agents are numbered.

    Attributes:
        made: all of them, in order.
    """

    def __init__(self, kind: Callable[[Makers, int], Any]) -> None:
        self.made: list[Any] = []
        self._kind = kind

    def __call__(self) -> Any:
        agent = self._kind(self, len(self.made) + 1)
        self.made.append(agent)
        return agent

    @property
    def closed(self) -> list[int]:
        """The numbers of those that are closed, as often as they were."""
        return [each.number for each in self.made for _ in range(each.closes)]


class Mortal:
    """A sync agent: "end" ends it, and whatever is asked from then on; "hold" waits until it is let
    go; all else is answered with its number.
    """

    def __init__(self, makers: Makers, number: int, error: Any = AgentLostError) -> None:
        self.number = number
        self.closes = 0
        self.error = error
        self.ended = False
        self.closed = threading.Event()
        self.entered = threading.Semaphore(0)
        self.gate = threading.Event()
        self.threads: list[int] = []

    def run(self, payload: Any) -> int:
        self.threads.append(threading.get_ident())
        self.entered.release()
        if payload == "hold":
            assert self.gate.wait(WAIT_S)
            return self.number
        self.ended = self.ended or payload == "end"
        if self.ended:
            raise self.error("the process has ended")
        return self.number

    def close(self) -> None:
        self.threads.append(threading.get_ident())
        self.closes += 1
        self.closed.set()

    def wait_entered(self) -> None:
        assert self.entered.acquire(timeout=WAIT_S)


class AsyncMortal:
    """The same on an event loop, to which it is bound."""

    def __init__(self, makers: Makers, number: int, error: Any = AgentLostError) -> None:
        self.number = number
        self.closes = 0
        self.error = error
        self.ended = False
        self.closed = threading.Event()
        self.entered = threading.Semaphore(0)
        self.loop: asyncio.AbstractEventLoop | None = None
        self._gate = asyncio.Event()

    def _is_here(self) -> None:
        loop = asyncio.get_running_loop()
        self.loop = self.loop or loop
        assert self.loop is loop

    async def arun(self, payload: Any) -> int:
        self._is_here()
        self.entered.release()
        if payload == "hold":
            await self._gate.wait()
            return self.number
        self.ended = self.ended or payload == "end"
        if self.ended:
            raise self.error("the process has ended")
        return self.number

    async def aclose(self) -> None:
        self._is_here()
        await asyncio.sleep(0)
        self.closes += 1
        self.closed.set()

    def wait_entered(self) -> None:
        assert self.entered.acquire(timeout=WAIT_S)

    def let_go(self) -> None:
        """Have what is held answer."""
        assert self.loop is not None
        self.loop.call_soon_threadsafe(self._gate.set)
