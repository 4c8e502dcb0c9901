"""For tests of what is built on a pool: a clock moved by hand, scripted agents, recorded events.

    clock = FakeClock()
    flaky = ScriptedAgent.failing(2, then="hello")
    with EventRecorder() as events, AgentPool.start([Member("a", flaky)], clock=clock) as pool:
        future = pool.ask(Request("hi"), block=False)
        clock.advance(events.wait_for(RetryScheduled).delay_s)

Nothing here sleeps: whatever waits is woken by what it waits for, and raises a TimeoutError that
says what was seen instead. With pytest, the fixture `greenroom_events` is an `EventRecorder`.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import inspect
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from types import SimpleNamespace
from typing import Any, Self, TypeVar, overload

from greenroom.messages import _validate as check
from greenroom.messages.events import CATALOGUE, Event

TIMEOUT_S = 5.0
"""How long the helpers here wait by default, in real seconds: only a failing test needs them."""

_EventT = TypeVar("_EventT", bound=Event)


# -- time


class FakeClock:
    """A clock that stands still until `advance`. Give it to `AgentPool.start(clock=...)`.

    Agents may wait on it as well: `sleep` (async) and `block` (in a thread) end when it is moved
    past their time. Any thread may use it.

    Args:
        start: what it shows at first, in seconds.
    """

    def __init__(self, start: float = 1000.0) -> None:
        check.number("start", start)
        self._changed = threading.Condition()
        self._now = start
        self._wakes: list[Callable[[], None]] = []
        self._sleepers: list[_Sleeper] = []
        self._sequence = itertools.count()

    def now(self) -> float:
        """Seconds, from `start`."""
        return self._now

    def wall(self) -> float:
        """The same: this clock knows no epoch."""
        return self._now

    def wait_s(self, when: float) -> float | None:
        """No real time passes: whoever waits is woken by `advance`."""
        return None

    def register(self, wake: Callable[[], None]) -> None:
        """Have `wake` called at every `advance`."""
        with self._changed:
            self._wakes.append(wake)

    def unregister(self, wake: Callable[[], None]) -> None:
        """End what `register` began."""
        with self._changed:
            if wake in self._wakes:
                self._wakes.remove(wake)

    def advance(self, seconds: float) -> None:
        """Let time pass, and wake whoever waits for a moment that has come.

        Raises:
            TypeError, ValueError: not a finite number of at least 0: time does not go back.
        """
        check.number("seconds", seconds)
        with self._changed:
            self._now += seconds
            due = []
            while self._sleepers and self._sleepers[0].when <= self._now:
                due.append(heapq.heappop(self._sleepers).wake)
            wakes = list(self._wakes)
            self._changed.notify_all()
        for wake in (*due, *wakes):
            wake()

    async def sleep(self, seconds: float) -> None:
        """Wait, in a coroutine, until the clock has moved that far."""
        done = asyncio.get_running_loop().create_future()
        sleeper = self._fall_asleep(seconds, _resolver(done))
        try:
            await done
        finally:
            self._forget(sleeper)

    def block(self, seconds: float) -> None:
        """Wait, in a thread, until the clock has moved that far."""
        done = threading.Event()
        self._fall_asleep(seconds, done.set)
        done.wait()

    @property
    def waiting(self) -> int:
        """How many are in `sleep` or `block` right now."""
        with self._changed:
            return len(self._sleepers)

    def wait_until_sleeping(self, n: int = 1, timeout: float = TIMEOUT_S) -> None:
        """Wait until at least n are in `sleep` or `block`: then `advance` will wake them.

        Args:
            timeout: real seconds.

        Raises:
            TimeoutError: fewer are asleep.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._sleepers) >= n, timeout):
                raise TimeoutError(f"{len(self._sleepers)} of {n} asleep after {timeout:g} s")

    def _fall_asleep(self, seconds: float, wake: Callable[[], None]) -> _Sleeper:
        check.number("seconds", seconds)
        with self._changed:
            sleeper = _Sleeper(self._now + seconds, next(self._sequence), wake)
            if seconds > 0:
                heapq.heappush(self._sleepers, sleeper)
                self._changed.notify_all()
                return sleeper
        wake()
        return sleeper

    def _forget(self, sleeper: _Sleeper) -> None:
        with self._changed:
            if sleeper in self._sleepers:
                self._sleepers.remove(sleeper)
                heapq.heapify(self._sleepers)
                self._changed.notify_all()

    def __repr__(self) -> str:
        return f"FakeClock(now={self._now:g}, waiting={self.waiting})"


@dataclass(frozen=True, slots=True, order=True)
class _Sleeper:
    when: float
    sequence: int
    wake: Callable[[], None]


def _resolver(future: asyncio.Future[None]) -> Callable[[], None]:
    """What ends, from any thread, somebody's wait for the future."""
    loop = future.get_loop()

    def resolve() -> None:
        if not future.done():
            future.set_result(None)

    def wake() -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed, and with it who waited
            loop.call_soon_threadsafe(resolve)

    return wake


# -- agents


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


class ScriptedHTTPError(Exception):
    """What an HTTP client raises, as far as a pool looks at it. Made by `http_error`.

    Attributes:
        status_code: the HTTP status.
        headers: with `retry-after` in seconds, where there is one.
        response: has the same two.
    """

    def __init__(self, status: int, retry_after_s: float | None = None) -> None:
        super().__init__(status, retry_after_s)
        self.status_code = status
        self.headers = {} if retry_after_s is None else {"retry-after": f"{retry_after_s:g}"}
        self.response = SimpleNamespace(status_code=status, headers=self.headers)

    def __str__(self) -> str:
        try:
            return f"{self.status_code} {HTTPStatus(self.status_code).phrase}"
        except ValueError:
            return str(self.status_code)


def http_error(status: int, retry_after_s: float | None = None) -> ScriptedHTTPError:
    """An error as HTTP clients raise it, for a script.

    Args:
        status: 400 to 599.
        retry_after_s: seconds for its `retry-after` header; None for no such header.

    Raises:
        TypeError, ValueError: no such status or number of seconds.
    """
    check.whole("status", status, minimum=400)
    check.number("status", status, maximum=599)
    check.number("retry_after_s", retry_after_s, optional=True)
    return ScriptedHTTPError(status, retry_after_s)


class _Script:
    """The part of scripted agents that is neither sync nor async. Any thread may use it."""

    def __init__(self, steps: Iterable[Any]) -> None:
        self._steps = tuple(steps)
        if not self._steps:
            raise ValueError("steps must hold at least one step, got none")
        self._changed = threading.Condition()
        self._calls: list[Any] = []
        self._cancelled: list[Any] = []
        self._hanging: list[Callable[[], None]] = []
        self._released = False

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
                raise TimeoutError(f"{len(seen)} of {n} calls {what} after {timeout:g} s")
            return list(seen)

    def _begin(self, payload: Any) -> Any:
        """Note the call down; returns its step."""
        with self._changed:
            step = self._steps[min(len(self._calls), len(self._steps) - 1)]
            self._calls.append(payload)
            self._changed.notify_all()
            return step

    def _hang(self, wake: Callable[[], None]) -> None:
        with self._changed:
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
    payload and whose result is answered, a `Hang`, or a `Slow`. The class methods are the usual
    scripts. Members that share an agent share its script.

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
            with self._changed:
                self._cancelled.append(payload)
                self._changed.notify_all()
            raise

    async def _play(self, step: Any, payload: Any) -> Any:
        if isinstance(step, Hang):
            done = asyncio.get_running_loop().create_future()
            wake = _resolver(done)
            self._hang(wake)
            try:
                await done
            finally:
                self._stop_hanging(wake)
            return await self._play(step.then, payload)
        if isinstance(step, Slow):
            await step.clock.sleep(step.seconds)
            return await self._play(step.then, payload)
        value = _outcome(step, payload)
        return await value if inspect.isawaitable(value) else value


def _outcome(step: Any, payload: Any) -> Any:
    if isinstance(step, BaseException):
        raise step.with_traceback(None)  # it may be raised many times
    if isinstance(step, type) and issubclass(step, BaseException):
        raise step
    return step(payload) if callable(step) else step


# -- events


class EventRecorder:
    """Keeps events. Within a `with` block: those of every pool of the process, DEBUG ones included.

    It is a callable as well: `pool.on_event(recorder)` records one pool alone.
    """

    def __init__(self) -> None:
        self._arrived = threading.Condition()
        self._events: list[Event] = []
        self._end: Callable[[], None] | None = None

    def __enter__(self) -> Self:
        from greenroom.actors.eventbus import observe

        self._end = observe(self)
        return self

    def __exit__(self, *_: object) -> None:
        if self._end is not None:
            self._end()
            self._end = None

    def __call__(self, event: Event) -> None:
        """Record one."""
        with self._arrived:
            self._events.append(event)
            self._arrived.notify_all()

    @property
    def all(self) -> tuple[Event, ...]:
        """Everything recorded so far, in order."""
        with self._arrived:
            return tuple(self._events)

    def names(self) -> list[str]:
        """The names of all of them, in order."""
        return [event.name for event in self.all]

    @overload
    def named(
        self, name: type[_EventT], member: str | None = None, pool: str | None = None
    ) -> list[_EventT]: ...
    @overload
    def named(
        self, name: str, member: str | None = None, pool: str | None = None
    ) -> list[Event]: ...
    def named(
        self, name: str | type[Event], member: str | None = None, pool: str | None = None
    ) -> Any:
        """Those of that name (`"breaker.opened"`, or the class `BreakerOpened`), in order.

        Args:
            member, pool: only those of this member, of this pool; None: whosever they are.

        Raises:
            ValueError: the catalogue has no such event.
        """
        wanted = _checked_name(name)
        with self._arrived:
            return self._matching(wanted, member, pool)

    @overload
    def wait_for(
        self,
        name: type[_EventT],
        member: str | None = None,
        pool: str | None = None,
        count: int = 1,
        timeout: float = TIMEOUT_S,
    ) -> _EventT: ...
    @overload
    def wait_for(
        self,
        name: str,
        member: str | None = None,
        pool: str | None = None,
        count: int = 1,
        timeout: float = TIMEOUT_S,
    ) -> Event: ...
    def wait_for(
        self,
        name: str | type[Event],
        member: str | None = None,
        pool: str | None = None,
        count: int = 1,
        timeout: float = TIMEOUT_S,
    ) -> Any:
        """The count-th such event: one that was recorded already, else wait until it happens.

        Args:
            name, member, pool: as for `named`.
            count: 1 is the first since the start or the last `clear`.
            timeout: real seconds.

        Raises:
            TimeoutError: it has not happened; the message lists what has.
            TypeError, ValueError: no such event, or a count below 1.
        """
        wanted = _checked_name(name)
        check.whole("count", count, minimum=1)
        with self._arrived:
            if not self._arrived.wait_for(
                lambda: len(self._matching(wanted, member, pool)) >= count, timeout
            ):
                raise TimeoutError(self._missing(wanted, member, pool, count, timeout))
            return self._matching(wanted, member, pool)[count - 1]

    def clear(self) -> None:
        """Forget what has been recorded."""
        with self._arrived:
            self._events.clear()

    def __iter__(self) -> Iterator[Event]:
        return iter(self.all)

    def __len__(self) -> int:
        return len(self._events)

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"EventRecorder({', '.join(self.names())})"

    def _matching(self, name: str, member: str | None, pool: str | None) -> list[Event]:
        return [
            event
            for event in self._events
            if event.name == name
            and (member is None or event.member == member)
            and (pool is None or event.pool == pool)
        ]

    def _missing(
        self, name: str, member: str | None, pool: str | None, count: int, timeout: float
    ) -> str:
        of = "".join(
            f" of {what} {who!r}" for what, who in (("member", member), ("pool", pool)) if who
        )
        found = len(self._matching(name, member, pool))
        seen = "".join(f"\n  {event}" for event in self._events) or " nothing"
        return f"{found} of {count} {name}{of} after {timeout:g} s; seen:{seen}"


def _checked_name(name: str | type[Event]) -> str:
    wanted = name if isinstance(name, str) else name.name
    known = [event.name for event in CATALOGUE]
    if wanted not in known:
        raise ValueError(f"name must be one of {', '.join(known)}, got {wanted!r}")
    return wanted
