"""`greenroom.testing.EventRecorder`: what happened, and waiting until it does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any, Self, TypeVar, overload

from greenroom.actors.runtime import forks
from greenroom.messages import _validate as check
from greenroom.messages.events import CATALOGUE, Event
from greenroom.testing.waits import TIMEOUT_S, on_loop_hint, resolver

_EventT = TypeVar("_EventT", bound=Event)


class EventRecorder:
    """Keeps events. Within a `with` block: those of every pool of the process, DEBUG ones included.

    It is a callable as well: `pool.on_event(recorder)` records one pool alone.
    """

    def __init__(self) -> None:
        self._arrived = threading.Condition()
        forks.renew(self)
        self._events: list[Event] = []
        self._wakes: list[Callable[[], None]] = []
        self._end: Callable[[], None] | None = None

    def renew_locks(self) -> None:
        """Run in a child of a fork."""
        self._arrived = threading.Condition()

    def __enter__(self) -> Self:
        from greenroom.actors.runtime.event_bus import observe

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
            wakes, self._wakes = self._wakes, []
        for wake in wakes:
            wake()

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
        """The count-th such event: one that was recorded already, else wait until it happens. In a
        coroutine `await_for` waits, which lets the loop go on that is to bring it.

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
                missing = self._missing(wanted, member, pool, count, timeout)
                raise TimeoutError(missing + on_loop_hint())
            return self._matching(wanted, member, pool)[count - 1]

    @overload
    async def await_for(
        self,
        name: type[_EventT],
        member: str | None = None,
        pool: str | None = None,
        count: int = 1,
        timeout: float = TIMEOUT_S,
    ) -> _EventT: ...
    @overload
    async def await_for(
        self,
        name: str,
        member: str | None = None,
        pool: str | None = None,
        count: int = 1,
        timeout: float = TIMEOUT_S,
    ) -> Event: ...
    async def await_for(
        self,
        name: str | type[Event],
        member: str | None = None,
        pool: str | None = None,
        count: int = 1,
        timeout: float = TIMEOUT_S,
    ) -> Any:
        """`wait_for`, without holding up the event loop: `await events.await_for("failover")`.

        Args:
            name, member, pool, count, timeout: as for `wait_for`.

        Raises:
            TimeoutError, TypeError, ValueError: as by `wait_for`.
        """
        wanted = _checked_name(name)
        check.whole("count", count, minimum=1)
        try:
            async with asyncio.timeout(timeout):
                return await self._coming(wanted, member, pool, count)
        except TimeoutError:
            with self._arrived:
                missing = self._missing(wanted, member, pool, count, timeout)
            raise TimeoutError(missing) from None

    async def _coming(self, name: str, member: str | None, pool: str | None, count: int) -> Event:
        while True:
            # Each time a future of its own: who has been woken for another event waits again.
            future = asyncio.get_running_loop().create_future()
            wake = resolver(future)
            with self._arrived:
                found = self._matching(name, member, pool)
                if len(found) >= count:
                    return found[count - 1]
                self._wakes.append(wake)
            try:
                await future
            finally:
                with self._arrived:
                    self._wakes = [each for each in self._wakes if each is not wake]

    def clear(self) -> None:
        """Forget what has been recorded."""
        with self._arrived:
            self._events.clear()

    def __iter__(self) -> Iterator[Event]:
        return iter(self.all)

    def __len__(self) -> int:
        return len(self._events)

    def __bool__(self) -> bool:
        # Without it an empty recorder would be false, by its
        # `__len__`: `recorder or EventRecorder()`.
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
