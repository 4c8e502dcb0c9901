"""Many requests, a window of them under way at a time: `PoolRef.map` and `amap`."""

from __future__ import annotations

import contextlib
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Iterable,
    Iterator,
)
from queue import SimpleQueue
from typing import Any

from greenroom.actors.handle.map_window import Window
from greenroom.actors.runtime.beside import beside, give_way
from greenroom.actors.runtime.event_bus import complain
from greenroom.actors.runtime.future import PoolFuture
from greenroom.actors.runtime.thread_duties import HERE, running_loop, waits_for
from greenroom.actors.runtime.waker import Bell
from greenroom.messages.errors import PoolStoppedError
from greenroom.messages.replies import MapResult, PoolStats, Reply

_OVER: Any = object()


class Flight:
    """The requests of one map.

    Args:
        send: asks the pool, without waiting.
        check: raises where nothing will come any more, in a child of a fork.
        max_pending: how many requests may wait in it.
        returns: whether an error is a result.

    Attributes:
        bell: rung when an answer has come.
        left: whether nobody takes any more.
    """

    def __init__(
        self,
        window: Window,
        send: Callable[[Any], PoolFuture[Reply[Any]]],
        check: Callable[[], None],
        max_pending: int,
        returns: bool,
    ) -> None:
        self.window = window
        self.bell = Bell()
        self.left = False
        self._send = send
        self._check = check
        self._max_pending = max_pending
        self._returns = returns
        self._futures: dict[int, PoolFuture[Reply[Any]]] = {}
        self._arrived: SimpleQueue[int] = SimpleQueue()

    def capacity_is(self, stats: PoolStats) -> None:
        """The pool as it is now."""
        self.window.capacity_is(stats, self._max_pending)

    def send(self, payload: Any) -> None:
        """Ask for one more."""
        number = self.window.begin()
        future = self._futures[number] = self._send(payload)
        future.add_done_callback(lambda _: self._arrive(number))

    def _arrive(self, number: int) -> None:
        """Runs wherever the answer comes from."""
        self._arrived.put(number)
        self.bell.ring()

    def wait(self) -> None:
        """Wait, in this thread, for the next answer."""
        self._check()
        with contextlib.ExitStack() as waits:
            if running_loop() is not None:  # as a future's own wait
                for future in self._futures.values():
                    future.may_wait()
                    waits.enter_context(waits_for(future._pool(), future.request_id))
            elif HERE.duty is not None:
                next(iter(self._futures.values())).may_wait()
            self.window.ended(self._arrived.get())

    async def arrival(self) -> None:
        """The same in a coroutine, which may be called for another reason: see `bell`."""
        self._check()
        if HERE.duty is not None and self._futures:
            next(iter(self._futures.values())).may_await()
        await self.bell.rung()

    def note_arrivals(self) -> None:
        """Take down which answers have come."""
        while not self._arrived.empty():
            self.window.ended(self._arrived.get())

    def take(self) -> Any:
        """The next result.

        Raises:
            Exception: the error in its place, unless errors are results.
            PoolStoppedError: nobody is left to answer what follows, either.
        """
        number = self.window.take()
        future = self._futures.pop(number)
        if not self._returns:
            return future.get().value
        try:
            return MapResult(number, reply=future.get())
        except PoolStoppedError:
            raise
        except Exception as error:
            return MapResult(number, error=error)

    def leave(self) -> None:
        """Nobody takes any more. A finalizer may run this: no lock is taken here."""
        self.left = True
        for future in self._futures.values():
            future.let_go()


def results(
    source: Iterator[Any], flight: Flight, look: Callable[[], PoolStats]
) -> Generator[Any, None, None]:
    """What `map` returns. Payloads are pulled in the consumer's thread."""
    window, over = flight.window, False
    broken: Exception | None = None
    try:
        while True:
            if window.wants_capacity:
                flight.capacity_is(look())
            pulled = 0
            while not over and window.may_pull(pulled):
                try:
                    payload = next(source, _OVER)
                except Exception as error:
                    payload, broken = _OVER, error
                over = payload is _OVER
                if not over:
                    flight.send(payload)
                    pulled += 1
                flight.note_arrivals()
            if window.is_ready:
                yield flight.take()
            elif window.is_empty:
                break
            else:
                flight.wait()
        if broken is not None:
            raise broken
    finally:
        broken = None  # its traceback leads back here
        flight.leave()
        if isinstance(source, Generator):
            source.close()


async def aresults(
    payloads: Iterable[Any] | AsyncIterable[Any],
    flight: Flight,
    look: Callable[[], Awaitable[PoolStats]],
) -> AsyncGenerator[Any, None]:
    """What `amap` returns. Payloads are pulled in a task beside the consumer's, which they are read
    and closed in: so an answer need not wait for the next of them.
    """
    window, room = flight.window, Bell()
    broken: BaseException | None = None
    over = False

    async def begin(payload: Any) -> bool:
        """Whether there is room for another one, and somebody who wants it."""
        flight.send(payload)
        await give_way()  # an input that is always ready must not hold up the loop
        while not (window.has_room or flight.left):
            await room.rung()
        return not flight.left

    async def feed() -> None:
        nonlocal broken, over
        try:
            if isinstance(payloads, AsyncIterable):
                await _pull_async(aiter(payloads), begin)
            else:
                await _pull(iter(payloads), begin)
        except BaseException as error:
            if not flight.left:
                broken = error
            elif isinstance(error, Exception):
                complain("closing the input of a map failed", error)
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
        finally:
            over = True
            flight.bell.ring()

    if window.wants_capacity:
        flight.capacity_is(await look())
    async with beside(feed()):
        try:
            while True:
                flight.note_arrivals()
                if window.is_ready:
                    result = flight.take()
                    room.ring()
                    yield result
                elif over and window.is_empty:
                    break
                elif window.wants_capacity:
                    flight.capacity_is(await look())
                    room.ring()
                else:
                    await flight.arrival()
            if broken is not None:
                raise broken
        finally:
            broken = None
            flight.leave()
            room.ring()


async def _pull(source: Iterator[Any], begin: Callable[[Any], Awaitable[bool]]) -> None:
    try:
        for payload in source:
            if not await begin(payload):
                break
    finally:
        if isinstance(source, Generator):
            source.close()


async def _pull_async(source: AsyncIterator[Any], begin: Callable[[Any], Awaitable[bool]]) -> None:
    try:
        async for payload in source:
            if not await begin(payload):
                break
    finally:
        if isinstance(source, AsyncGenerator):
            await source.aclose()
