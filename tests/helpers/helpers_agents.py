"""Agents that a test holds one call at a time; those of `greenroom.testing` do all the rest."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from helpers_pools import WAIT_S


class _Calls:
    def __init__(self, value: Any = "held") -> None:
        self.value = value
        self.payloads: list[Any] = []
        self._entered = threading.Semaphore(0)

    @property
    def calls(self) -> int:
        return len(self.payloads)

    def wait_entered(self, calls: int = 1) -> None:
        """Until that many further calls have begun."""
        for _ in range(calls):
            assert self._entered.acquire(timeout=WAIT_S), "no call began"

    def _enter(self, payload: Any) -> None:
        self.payloads.append(payload)
        self._entered.release()

    def _answer(self) -> Any:
        if isinstance(self.value, BaseException):
            raise self.value
        return self.value


class Held(_Calls):
    """A sync agent whose every call waits until `let_go`, which it may be for good."""

    def __init__(self, value: Any = "held") -> None:
        super().__init__(value)
        self._gate = threading.Semaphore(0)

    def __call__(self, payload: Any) -> Any:
        self._enter(payload)
        assert self._gate.acquire(timeout=3 * WAIT_S)
        return self._answer()

    def let_go(self, calls: int = 1) -> None:
        self._gate.release(calls)


class AsyncHeld(_Calls):
    """The same as a coroutine; it notes who was cancelled.

    Args:
        stubborn: swallows its cancellation and answers all the same.
    """

    def __init__(self, value: Any = "held", *, stubborn: bool = False) -> None:
        super().__init__(value)
        self.stubborn = stubborn
        self.cancelled: list[Any] = []
        self._left = threading.Semaphore(0)
        self._gates: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def __call__(self, payload: Any) -> Any:
        gate = asyncio.Event()
        self._gates.append((asyncio.get_running_loop(), gate))
        self._enter(payload)
        try:
            await gate.wait()
        except asyncio.CancelledError:
            self.cancelled.append(payload)
            self._left.release()
            if not self.stubborn:
                raise
        return self._answer()

    def wait_cancelled(self, calls: int = 1) -> None:
        for _ in range(calls):
            assert self._left.acquire(timeout=WAIT_S), "no call was cancelled"

    def let_go(self) -> None:
        """Have every call that has begun answer."""
        for loop, gate in self._gates:
            loop.call_soon_threadsafe(gate.set)


def raising(error: Any) -> Callable[..., Any]:
    def fail(*_: Any) -> Any:
        raise error

    return fail


def raising_async(error: Any) -> Callable[..., Any]:
    async def fail(*_: Any) -> Any:
        raise error

    return fail
