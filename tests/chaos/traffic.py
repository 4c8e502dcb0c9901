"""The ways of sending a request for one answer."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import queue
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from chaos import rest
from chaos.entry import End, Entry, end_of
from chaos.ledger import Ledger
from chaos.players import perform
from chaos.steps import Way
from greenroom import Apply, Cancel, PoolFuture, PoolRef, PoolStoppedError, Request

CALLERS = 4
"""Threads that ask and wait: as many blocking asks run at a time."""


def work_of(entry: Entry) -> Request[Any] | Apply[Any]:
    """The message that asks for the entry's call."""
    send = entry.send
    options: dict[str, Any] = {
        "request_id": entry.id,
        "timeout_s": None if send.way is Way.BLOCKING else send.timeout_s,
        "idempotent": send.idempotent,
        "max_retries": send.max_retries,
        "key": send.key,
    }
    if send.applied:
        return Apply(functools.partial(perform, entry), **options)
    return Request(entry, **options)


class Sender:
    """Sends by one way, and gives up what it has sent.

    What it starts is its own, not of any pool: it lives for the whole run.
    """

    def send(self, pool: PoolRef, ledger: Ledger, entry: Entry) -> None:
        """Send without waiting; `ledger.heard` is told when the asker hears the answer."""
        raise NotImplementedError

    def cancel(self, pool: PoolRef, entry: Entry) -> PoolFuture[bool] | None:
        """Give it up; by its id, unless the way has one of its own."""
        future: PoolFuture[bool] = pool.ask(Cancel(entry.id), block=False)
        return future

    def close(self) -> None:
        """End what it has started."""


class ByFuture(Sender):
    """`ask(block=False)` and a done callback."""

    def send(self, pool: PoolRef, ledger: Ledger, entry: Entry) -> None:
        future = pool.ask(work_of(entry), block=False)
        entry.hold = future

        def hear(answered: PoolFuture[Any]) -> None:
            ledger.heard(entry, _heard(functools.partial(answered.get, timeout=0)))
            if entry.send.shouts:
                raise RuntimeError("a done callback that raises")

        future.add_done_callback(hear)

    def cancel(self, pool: PoolRef, entry: Entry) -> PoolFuture[bool] | None:
        if entry.send.cancel_by_id:
            return super().cancel(pool, entry)
        entry.hold.cancel()
        return None


class ByTell(Sender):
    """`tell`: nobody hears of it."""

    def send(self, pool: PoolRef, ledger: Ledger, entry: Entry) -> None:
        with contextlib.suppress(PoolStoppedError):
            pool.tell(work_of(entry))


class ByThreads(Sender):
    """By threads that wait for their answers."""

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"chaos-caller-{n}", daemon=True)
            for n in range(CALLERS)
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            thread.join(rest.PATIENCE_S)  # one whose answer has been lost waits for ever

    def _work(self) -> None:
        while (work := self._waiting.get()) is not None:
            work()
            del work


class Blocking(ByThreads):
    """`ask`, by threads."""

    def send(self, pool: PoolRef, ledger: Ledger, entry: Entry) -> None:
        self._waiting.put(functools.partial(self._ask, pool, ledger, entry))

    @staticmethod
    def _ask(pool: PoolRef, ledger: Ledger, entry: Entry) -> None:
        ask = functools.partial(pool.ask, work_of(entry), timeout=entry.send.timeout_s)
        ledger.heard(entry, _heard(ask))


class ByLoop(Sender):
    """By tasks of an event loop: one of its own, or one that somebody else runs, and ends."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._loop = asyncio.new_event_loop() if loop is None else loop
        self._thread: threading.Thread | None = None
        if loop is None:
            self._thread = threading.Thread(
                target=self._loop.run_forever, name="chaos-loop", daemon=True
            )
            self._thread.start()

    def send(self, pool: PoolRef, ledger: Ledger, entry: Entry) -> None:
        self._in_loop(functools.partial(self._start, pool, ledger, entry))

    def cancel(self, pool: PoolRef, entry: Entry) -> PoolFuture[bool] | None:
        if entry.send.cancel_by_id:
            return super().cancel(pool, entry)
        self._in_loop(lambda: entry.hold is not None and entry.hold.cancel())
        return None

    def close(self) -> None:
        if self._thread is None:
            return
        asyncio.run_coroutine_threadsafe(_cancel_all(), self._loop).result()
        self._in_loop(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _in_loop(self, action: Callable[[], object]) -> None:
        self._loop.call_soon_threadsafe(action)

    def _start(self, pool: PoolRef, ledger: Ledger, entry: Entry) -> None:
        task = entry.hold = self._loop.create_task(self._asking(pool, entry))

        def hear(_: object) -> None:
            entry.hold = None  # a cancelled task holds what it was cancelled in, a stream for one
            ledger.heard(entry, End.CANCELLED if task.cancelled() else task.result())

        task.add_done_callback(hear)

    def _asking(self, pool: PoolRef, entry: Entry) -> Coroutine[Any, Any, End]:
        """Send it, and have what waits for the answer."""
        raise NotImplementedError


class Awaited(ByLoop):
    """`await ask(block=False)`."""

    def _asking(self, pool: PoolRef, entry: Entry) -> Coroutine[Any, Any, End]:
        return _wait_for(pool.ask(work_of(entry), block=False))


async def _cancel_all() -> None:
    """End the tasks whose answer has been lost."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _wait_for(future: PoolFuture[Any]) -> End:
    try:
        await future
    except Exception as error:
        return end_of(error)
    return End.VALUE


def _heard(answer: Callable[[], object]) -> End:
    try:
        answer()
    except Exception as error:
        return end_of(error)
    return End.VALUE
