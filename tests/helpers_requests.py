"""What the tests of requests share: pools on a fake clock, agents held by hand, an event log."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

import pykka

from greenroom import AgentPool, Member, PoolConfig, PoolRef
from greenroom.actors.eventbus import observe
from greenroom.actors.member import AgentActor
from greenroom.messages import Event
from greenroom.testing import FakeClock

WAIT_S = 10.0
"""How long a test waits for what must come; it fails then."""

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
        assert self._gate.acquire(timeout=6 * WAIT_S)
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


Agent = Callable[..., Any]


@contextlib.contextmanager
def pool_of(
    *members: Member,
    clock: FakeClock | None = None,
    strategy: Any = "priority",
    seed: int = 1,
    name: str = "pool",
    **config: Any,
) -> Iterator[PoolRef]:
    """A pool with a seeded generator, stopped at the end."""
    pool = AgentPool.start(
        members,
        clock=clock,
        rng=random.Random(seed),
        strategy=strategy,
        name=name,
        config=PoolConfig(**config),
    )
    try:
        yield pool
    finally:
        pool.stop()


def ranked(**agents: Agent) -> list[Member]:
    """Members that the strategy `priority` prefers in this order."""
    return [Member(name, agent, priority=i) for i, (name, agent) in enumerate(agents.items())]


def http_error(status: int, retry_after: float | None = None) -> Exception:
    """What a client raises for that status."""
    error = RuntimeError(f"HTTP {status}")
    error.status_code = status  # type: ignore[attr-defined]
    if retry_after is not None:
        error.retry_after = retry_after  # type: ignore[attr-defined]
    return error


def crash(pool: PoolRef, member: str) -> None:
    """Stop a member's actor behind the supervisor's back."""
    for ref in pykka.ActorRegistry.get_by_class(AgentActor):
        actor = cast(AgentActor, ref._actor)  # type: ignore[attr-defined]
        if (actor.around.pool, actor.member.name) == (pool.name, member):
            ref.stop(block=False)
