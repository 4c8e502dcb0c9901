"""A router, a worker and nothing else: no strategy, no limits, no breaker, no books.

It hands over as often as greenroom does, by the cheapest means that Python has. What greenroom
takes on top is the price of what it does; below this no pool with a router in a thread of its own
can get. A sync member gets its next request when it has reported the last one, as greenroom's do.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib import import_module
from typing import Any

from benchmarks.measure import Ask, AsyncAsk
from benchmarks.model import Scale
from benchmarks.peers import agents
from benchmarks.peers.base import NewLoop, Peer

Inbox = queue.SimpleQueue[Any]


class Answer:
    """A future with a lock for a bell."""

    __slots__ = ("_bell", "_value")

    def __init__(self) -> None:
        self._bell = threading.Lock()
        self._bell.acquire()
        self._value: Any = None

    def set(self, value: Any) -> None:
        self._value = value
        self._bell.release()

    def get(self) -> Any:
        self._bell.acquire()
        return self._value


def _in_a_thread(run: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


_DONE = object()


class SyncPool:
    """A thread that routes, a thread that answers one request at a time."""

    def __init__(self) -> None:
        self._inbox: Inbox = queue.SimpleQueue()
        self._work: Inbox = queue.SimpleQueue()
        self._threads = [_in_a_thread(self._route), _in_a_thread(self._answer)]

    def send(self, payload: int) -> Answer:
        answer = Answer()
        self._inbox.put((payload, answer))
        return answer

    def ask(self, payload: int) -> Any:
        return self.send(payload).get()

    def stop(self) -> None:
        self._inbox.put(None)
        for thread in self._threads:
            thread.join()

    def _route(self) -> None:
        waiting: deque[Any] = deque()
        busy = False
        while (letter := self._inbox.get()) is not None:
            if letter is _DONE:
                busy = False
            else:
                waiting.append(letter)
            if waiting and not busy:
                busy = True
                self._work.put(waiting.popleft())
        self._work.put(None)

    def _answer(self) -> None:
        while (letter := self._work.get()) is not None:
            payload, answer = letter
            value = agents.echo(payload)
            self._inbox.put(_DONE)
            answer.set(value)


class AsyncPool:
    """A thread that routes, a loop whose tasks answer."""

    def __init__(self, new_loop: NewLoop) -> None:
        self._inbox: Inbox = queue.SimpleQueue()
        self._loop = new_loop()
        self._threads = [_in_a_thread(self._loop.run_forever), _in_a_thread(self._route)]
        self._tasks: set[asyncio.Task[None]] = set()

    def ask(self, payload: int) -> asyncio.Future[Any]:
        """To be awaited by whoever asks."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        self._inbox.put((payload, loop, answer))
        return answer

    def stop(self) -> None:
        self._inbox.put(None)
        self._threads[1].join()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._threads[0].join()
        self._loop.close()

    def _route(self) -> None:
        while (letter := self._inbox.get()) is not None:
            self._loop.call_soon_threadsafe(self._start, *letter)

    def _start(self, payload: int, loop: asyncio.AbstractEventLoop, answer: Any) -> None:
        task = self._loop.create_task(self._run(payload, loop, answer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, payload: int, loop: asyncio.AbstractEventLoop, answer: Any) -> None:
        value = await agents.aecho(payload)
        loop.call_soon_threadsafe(answer.set_result, value)


class BareRouter(Peer):
    """What a call costs before anybody has decided anything."""

    @contextmanager
    def sync_call(self, *, failing: bool = False, members: int = 3) -> Iterator[Ask]:
        if failing:
            self._lacks("failover")
        pool = SyncPool()
        try:
            yield pool.ask
        finally:
            pool.stop()

    @asynccontextmanager
    async def async_call(
        self, *, failing: bool = False, members: int = 3
    ) -> AsyncIterator[AsyncAsk]:
        if failing:
            self._lacks("failover")
        pool = AsyncPool(self.new_loop or asyncio.new_event_loop)
        try:
            yield pool.ask
        finally:
            pool.stop()

    @contextmanager
    def pipeline(self, scale: Scale) -> Iterator[tuple[Ask, Callable[[Any], Any]]]:
        pool = SyncPool()
        try:
            yield pool.send, lambda answer: answer.get()
        finally:
            pool.stop()


class BareRouterUvloop(BareRouter):
    """The same with uvloop, for both loops."""

    def __init__(self) -> None:
        self.new_loop: NewLoop = import_module("uvloop").new_event_loop
