"""`greenroom.testing.ScriptedAgent` and its async twin: agents that do what a test tells them."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Self

from greenroom.actors.runtime import forks
from greenroom.messages import _validate as check
from greenroom.testing.fake_clock import FakeClock
from greenroom.testing.scripted_errors import http_error
from greenroom.testing.waits import TIMEOUT_S, on_loop_hint, resolver


@dataclass(frozen=True, slots=True)
class Hang:
    """A step that goes on until `release` of its agent, then answers `then`."""

    then: Any = None


@dataclass(frozen=True, slots=True)
class Slow:
    """A step that answers `then` once the clock has moved on by that many seconds."""

    clock: FakeClock
    seconds: float
    then: Any = None

    def __post_init__(self) -> None:
        check.number("seconds", self.seconds)


class Streamed:
    """A step that answers chunk by chunk: an exception among the chunks is raised in its turn,
    which cuts the stream off, and a `Hang` or a `Slow` is waited for, and sends what comes then.

        ScriptedAgent([Streamed("Once ", "upon ", ConnectionError("cut")), Streamed("whole")])
    """

    __slots__ = ("chunks",)

    def __init__(self, *chunks: Any) -> None:
        self.chunks = chunks

    def __repr__(self) -> str:
        return f"Streamed({', '.join(map(repr, self.chunks))})"


class _Script:
    """The part of scripted agents that is neither sync nor async. Any thread may use it."""

    def __init__(self, steps: Iterable[Any]) -> None:
        self._steps = tuple(steps)
        if not self._steps:
            raise ValueError("steps must hold at least one step, got none")
        self._changed = threading.Condition()
        forks.renew(self)
        self._calls: list[Any] = []
        self._cancelled: list[Any] = []
        self._hanging: list[Callable[[], None]] = []
        self._released = False

    def renew_locks(self) -> None:
        """Run in a child of a fork."""
        self._changed = threading.Condition()

    @classmethod
    def failing(cls, n: int, error: Any = None, then: Any = "value") -> Self:
        """Fails n times, then answers `then` (any step).

        Args:
            error: an exception or its class; None is a ConnectionError.

        Raises:
            TypeError, ValueError: n is not a whole number of at least 0.
        """
        check.whole("n", n)
        failure = ConnectionError("scripted failure") if error is None else error
        return cls([*[failure] * n, then])

    @classmethod
    def hanging(cls, then: Any = "value") -> Self:
        """Hangs until `release`, then answers `then`."""
        return cls([Hang(then)])

    @classmethod
    def slow(cls, clock: FakeClock, seconds: float, then: Any = "value") -> Self:
        """Answers `then` when the clock has moved on by that many seconds since the call."""
        return cls([Slow(clock, seconds, then)])

    @classmethod
    def rate_limited(
        cls, times: int = 1, retry_after_s: float | None = 1.0, then: Any = "value"
    ) -> Self:
        """Fails so many times with a 429 that says when to come back, then answers `then`."""
        return cls.failing(times, http_error(429, retry_after_s), then)

    @property
    def calls(self) -> list[Any]:
        """The payloads of the calls that have begun, in order."""
        with self._changed:
            return list(self._calls)

    @property
    def cancelled(self) -> list[Any]:
        """The payloads of the async calls that were cancelled, in order."""
        with self._changed:
            return list(self._cancelled)

    def wait_for_calls(self, n: int = 1, timeout: float = TIMEOUT_S) -> list[Any]:
        """Wait until n calls have begun; returns the payloads of all that have.

        Args:
            timeout: real seconds.

        Raises:
            TimeoutError: there were fewer.
        """
        return self._wait_for(self._calls, "begun", n, timeout)

    def wait_for_cancelled(self, n: int = 1, timeout: float = TIMEOUT_S) -> list[Any]:
        """The same for async calls that were cancelled."""
        return self._wait_for(self._cancelled, "cancelled", n, timeout)

    def release(self) -> None:
        """Let every call that hangs go on, now and from now on."""
        with self._changed:
            self._released = True
            hanging, self._hanging = self._hanging, []
        for wake in hanging:
            wake()

    def _wait_for(self, seen: list[Any], what: str, n: int, timeout: float) -> list[Any]:
        with self._changed:
            if not self._changed.wait_for(lambda: len(seen) >= n, timeout):
                raise TimeoutError(
                    f"{len(seen)} of {n} calls {what} after {timeout:g} s{on_loop_hint()}"
                )
            return list(seen)

    def _begin(self, payload: Any) -> Any:
        """Note the call down; returns its step."""
        with self._changed:
            step = self._steps[min(len(self._calls), len(self._steps) - 1)]
            self._calls.append(payload)
            self._changed.notify_all()
            return step

    def _note_cancelled(self, payload: Any) -> None:
        with self._changed:
            self._cancelled.append(payload)
            self._changed.notify_all()

    def _hang(self, wake: Callable[[], None]) -> None:
        with self._changed:
            # Under the lock, so that a `release` at this moment does not miss it.
            if not self._released:
                self._hanging.append(wake)
                return
        wake()

    def _stop_hanging(self, wake: Callable[[], None]) -> None:
        with self._changed:
            if wake in self._hanging:
                self._hanging.remove(wake)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self._steps)!r}, calls={len(self._calls)})"


class ScriptedAgent(_Script):
    """A sync agent that follows a script, one step for each call; the last one is repeated.

    A step is a value to answer, an exception (or its class) to raise, a callable that is given the
    payload and whose result is answered, a `Hang`, a `Slow`, or a `Streamed`. The class methods are
    the usual scripts. Members that share an agent share its script.

    Args:
        steps: at least one.

    Raises:
        ValueError: no step.
    """

    def __call__(self, payload: Any) -> Any:
        return self._play(self._begin(payload), payload)

    def _play(self, step: Any, payload: Any) -> Any:
        if isinstance(step, Hang):
            done = threading.Event()
            self._hang(done.set)
            done.wait()
            return self._play(step.then, payload)
        if isinstance(step, Slow):
            step.clock.block(step.seconds)
            return self._play(step.then, payload)
        if isinstance(step, Streamed):
            # A generator: an exception among the chunks is raised when it is read up to there.
            return (self._play(chunk, payload) for chunk in step.chunks)
        return _outcome(step, payload)


class AsyncScriptedAgent(_Script):
    """The same as a coroutine: it can be cancelled, also while it hangs, which `cancelled` records.

    A callable step may be a coroutine function.
    """

    async def __call__(self, payload: Any) -> Any:
        step = self._begin(payload)
        try:
            return await self._play(step, payload)
        except asyncio.CancelledError:
            self._note_cancelled(payload)
            raise

    async def _play(self, step: Any, payload: Any) -> Any:
        if isinstance(step, Hang):
            done = asyncio.get_running_loop().create_future()
            wake = resolver(done)
            self._hang(wake)
            try:
                await done
            finally:
                self._stop_hanging(wake)
            return await self._play(step.then, payload)
        if isinstance(step, Slow):
            await step.clock.sleep(step.seconds)
            return await self._play(step.then, payload)
        if isinstance(step, Streamed):
            return self._stream(step, payload)
        value = _outcome(step, payload)
        return await value if inspect.isawaitable(value) else value

    async def _stream(self, step: Streamed, payload: Any) -> AsyncIterator[Any]:
        try:
            for chunk in step.chunks:
                yield await self._play(chunk, payload)
        except (asyncio.CancelledError, GeneratorExit):
            self._note_cancelled(payload)
            raise


def _outcome(step: Any, payload: Any) -> Any:
    if isinstance(step, BaseException):
        raise step.with_traceback(None)  # it may be raised many times
    if isinstance(step, type) and issubclass(step, BaseException):
        raise step
    return step(payload) if callable(step) else step
