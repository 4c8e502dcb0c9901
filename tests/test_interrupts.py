"""A signal handler that raises, at any place of any hand-over, leaves nothing behind.

Celery's soft time limit and a notebook's stop are such handlers: the call that they break in on
raises their error, and all else goes on. `helpers_interrupts` says where they may break in.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
from helpers_interrupts import LINES, SIGNALS, Limit, interrupt_each
from helpers_requests import WAIT_S
from pykka import ActorRegistry

from greenroom import AgentPool, FallbackChain, Member, PoolConfig, PoolExecutor, PoolRef, Request

EVERYWHERE = pytest.mark.parametrize("how", [SIGNALS, LINES])
ERRORS = pytest.mark.parametrize("error", [Limit, KeyboardInterrupt])
CHUNKS = [1, 2, 3, 4]


def answer(payload: Any) -> Any:
    return payload


async def async_answer(payload: Any) -> Any:
    return payload


def chunks(payload: Any) -> Iterator[int]:
    yield from CHUNKS


async def async_chunks(payload: Any) -> AsyncIterator[int]:
    for each in CHUNKS:
        yield each


class Stage:
    """A pool, and a loop of the app's in this thread, that must serve whatever has happened."""

    def __init__(self, *agents: Any) -> None:
        members = [Member(f"m{at}", agent) for at, agent in enumerate(agents)]
        config = PoolConfig(stream_buffer=2, request_timeout_s=None)
        self.pool = AgentPool.start(members, config=config)
        self.loop = asyncio.new_event_loop()
        self.exact = True

    def interrupt(
        self, hand_over: Callable[[], object], how: str, error: type[BaseException] = Limit
    ) -> set[str]:
        """Do it interrupted at each place in turn; afterwards all must be served."""
        self.exact = how == SIGNALS  # a letter is counted and put where no signal is looked for
        return interrupt_each(hand_over, self.serves, how, error)

    def serves(self) -> None:
        """Every ask and await from here on is answered, and nothing counts as under way."""
        assert self.pool.ask(Request("later"), timeout=WAIT_S).member == "m0"
        self.run(self._awaits())
        self.settled()

    def settled(self) -> None:
        deadline = time.monotonic() + WAIT_S
        actor: Any = self.pool._actor_weakref()
        while True:
            stats = self.pool.stats()
            members = sum(each.in_flight for each in stats.members)
            open_ = stats.pending + stats.in_flight + members
            unread = len(actor.mailbox._unread) if self.exact else 0
            if not open_ and not unread:
                break
            assert time.monotonic() < deadline, f"{stats}, {unread} unread"
        assert stats.accepted == stats.completed + stats.failed + stats.cancelled

    async def _awaits(self) -> None:
        futures = [self.pool.ask(Request(number), block=False) for number in range(3)]
        await asyncio.gather(*(self._read(future) for future in futures))

    @staticmethod
    async def _read(future: Any) -> Any:
        return (await future).value

    def run(self, coroutine: Any) -> Any:
        """Run it to its end on the app's loop, be it that an error ends the loop's run half way."""
        task = self.loop.create_task(coroutine)
        patience = self.loop.call_later(WAIT_S, task.cancel)
        try:
            return self.loop.run_until_complete(task)
        except BaseException:
            if task.done():
                task.cancelled() or task.exception()  # it has been read
                raise
            return self.loop.run_until_complete(task)  # it was hit elsewhere, and goes on
        finally:
            patience.cancel()

    def close(self) -> None:
        self.pool.stop()
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()


@pytest.fixture
def stage(request: Any) -> Iterator[Stage]:
    made = Stage(*getattr(request, "param", (answer,)))
    yield made
    made.close()


def agents_are(*several: Any) -> Any:
    return pytest.mark.parametrize("stage", several, indirect=True)


@EVERYWHERE
@ERRORS
def test_an_ask(stage: Stage, how: str, error: type[BaseException]) -> None:
    """A blocking ask that is broken off anywhere."""
    stage.interrupt(lambda: stage.pool.ask(Request("x")), how, error)


@EVERYWHERE
@ERRORS
def test_an_await(stage: Stage, how: str, error: type[BaseException]) -> None:
    """An ask that is awaited on a loop of the app's, where callbacks of the pool's run as well."""

    async def main() -> None:
        future = stage.pool.ask(Request("x"), block=False)
        assert (await future).value == "x"

    stage.interrupt(lambda: stage.run(main()), how, error)


@EVERYWHERE
def test_a_start(how: str) -> None:
    """Of a pool, with its actors and threads: either there is one, or nothing is left of it."""
    actors, threads = set(ActorRegistry.get_all()), set(threading.enumerate())

    started: list[PoolRef] = []

    def check() -> None:
        while started:
            started.pop().stop()
        deadline = time.monotonic() + WAIT_S
        for thread in set(threading.enumerate()) - threads:
            thread.join(max(0.0, deadline - time.monotonic()))
            assert not thread.is_alive(), thread
        assert set(ActorRegistry.get_all()) == actors

    def start() -> None:
        started.append(AgentPool.start([Member("a", answer)], name="begun"))

    interrupt_each(start, check, how)
