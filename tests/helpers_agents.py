"""Agents that a test holds one call at a time; those of `greenroom.testing` do all the rest."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from helpers_pools import WAIT_S

from greenroom.actors.eventbus import observe
from greenroom.messages import Event

E = TypeVar("E", bound=Event)


class EventLog:
    """Every event of every pool, as soon as it is emitted."""

    def __init__(self) -> None:
        self._all: list[Event] = []
        self._news = threading.Condition()  # re-entrant: `of` is asked from within `wait_for`

    def __call__(self, event: Event) -> None:
        with self._news:
            self._all.append(event)
            self._news.notify_all()

    def of(self, kind: type[E]) -> list[E]:
        with self._news:
            return [event for event in self._all if isinstance(event, kind)]

    def wait_for(self, kind: type[E], count: int = 1) -> list[E]:
        """The events of that kind, once there are as many."""
        with self._news:
            enough = self._news.wait_for(lambda: len(self.of(kind)) >= count, WAIT_S)
            assert enough, f"no {count} {kind.__name__} among {[e.name for e in self._all]}"
            return self.of(kind)


@contextlib.contextmanager
def recorded() -> Iterator[EventLog]:
    log = EventLog()
    end = observe(log)
    try:
        yield log
    finally:
        end()


class Scripted:
    """A sync agent that takes one step a call, the last one for ever: raise it, call it, return it.

    It is called from one thread at a time unless the test says otherwise.
    """

    def __init__(self, *steps: Any) -> None:
        self.steps = steps
        self.payloads: list[Any] = []

    @property
    def calls(self) -> int:
        return len(self.payloads)

    def __call__(self, payload: Any) -> Any:
        self.payloads.append(payload)
        return self._take(payload)

    def _take(self, payload: Any) -> Any:
        step = self.steps[min(self.calls, len(self.steps)) - 1]
        if isinstance(step, BaseException):
            raise step
        return step(payload) if callable(step) else step


class AsyncScripted(Scripted):
    """The same as a coroutine function."""

    async def __call__(self, payload: Any) -> Any:
        self.payloads.append(payload)
        return self._take(payload)


class Held:
    """A sync agent whose every call waits until `let_go`, which it may be for good."""

    def __init__(self, value: Any = "held") -> None:
        self.value = value
        self.payloads: list[Any] = []
        self._entered = threading.Semaphore(0)
        self._gate = threading.Semaphore(0)

    @property
    def calls(self) -> int:
        return len(self.payloads)

    def __call__(self, payload: Any) -> Any:
        self.payloads.append(payload)
        self._entered.release()
        assert self._gate.acquire(timeout=3 * WAIT_S)
        if isinstance(self.value, BaseException):
            raise self.value
        return self.value

    def wait_entered(self, calls: int = 1) -> None:
        """Until that many further calls have begun."""
        for _ in range(calls):
            assert self._entered.acquire(timeout=WAIT_S), "no call began"

    def let_go(self, calls: int = 1) -> None:
        self._gate.release(calls)


class AsyncHeld:
    """The same as a coroutine; it notes who was cancelled.

    Args:
        stubborn: swallows its cancellation and answers all the same.
    """

    def __init__(self, value: Any = "held", *, stubborn: bool = False) -> None:
        self.value = value
        self.stubborn = stubborn
        self.payloads: list[Any] = []
        self.cancelled: list[Any] = []
        self._entered = threading.Semaphore(0)
        self._left = threading.Semaphore(0)
        self._gates: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    @property
    def calls(self) -> int:
        return len(self.payloads)

    async def __call__(self, payload: Any) -> Any:
        gate = asyncio.Event()
        self.payloads.append(payload)
        self._gates.append((asyncio.get_running_loop(), gate))
        self._entered.release()
        try:
            await gate.wait()
        except asyncio.CancelledError:
            self.cancelled.append(payload)
            self._left.release()
            if not self.stubborn:
                raise
        if isinstance(self.value, BaseException):
            raise self.value
        return self.value

    def wait_entered(self, calls: int = 1) -> None:
        for _ in range(calls):
            assert self._entered.acquire(timeout=WAIT_S), "no call began"

    def wait_cancelled(self, calls: int = 1) -> None:
        for _ in range(calls):
            assert self._left.acquire(timeout=WAIT_S), "no call was cancelled"

    def let_go(self) -> None:
        """Have every call that has begun answer."""
        for loop, gate in self._gates:
            loop.call_soon_threadsafe(gate.set)


def http_error(status: int, retry_after: float | None = None) -> Exception:
    """What a client raises for that status."""
    error = RuntimeError(f"HTTP {status}")
    error.status_code = status  # type: ignore[attr-defined]
    if retry_after is not None:
        error.retry_after = retry_after  # type: ignore[attr-defined]
    return error


def raising(error: Any) -> Callable[..., Any]:
    def fail(*_: Any) -> Any:
        raise error

    return fail


def raising_async(error: Any) -> Callable[..., Any]:
    async def fail(*_: Any) -> Any:
        raise error

    return fail
