"""Many calls at once on agents that end every few calls: what behaviours 255 and 256 come to."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from helpers_attempts import run
from helpers_pools import WAIT_S, ask, echo, pool_of

from greenroom import AgentLostError, Member, PoolRef
from greenroom.messages import MemberAgentLost, MemberAgentRemade
from greenroom.testing import EventRecorder

ASKERS, EACH, LIFE = 8, 40, 9


class Books:
    """All agents of a factory, and what must not be."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.made: list[Short] = []
        self.wrong: list[str] = []


class Short:
    """An agent that ends with its ninth call, whatever else it has by then.

    Attributes:
        running: calls that it has.
    """

    def __init__(self, books: Books) -> None:
        self.books = books
        self.calls = self.running = self.closes = 0
        with books.lock:
            books.made.append(self)

    def begin(self) -> None:
        with self.books.lock:
            if self.closes:
                self.books.wrong.append("a call begins on an agent that has been closed")
            self.calls += 1
            self.running += 1

    def end(self) -> None:
        with self.books.lock:
            self.running -= 1
            if self.calls >= LIFE:
                raise AgentLostError("it has ended")

    def shut(self) -> None:
        with self.books.lock:
            if self.running:
                self.books.wrong.append(f"it is closed under {self.running} calls")
            self.closes += 1


class Sync(Short):
    def run(self, payload: Any) -> Any:
        self.begin()
        self.end()
        return payload

    def close(self) -> None:
        self.shut()


class Async(Short):
    async def arun(self, payload: Any) -> Any:
        self.begin()
        await asyncio.sleep(0)
        self.end()
        return payload

    async def aclose(self) -> None:
        await asyncio.sleep(0)
        self.shut()


def made_by(kind: Callable[[Books], Short], books: Books) -> Callable[[], Any]:
    async def factory() -> Any:
        return kind(books)

    return factory if kind is Async else lambda: kind(books)


@pytest.mark.usefixtures("agents_loop")
@pytest.mark.parametrize("isolated", [False, True], ids=["", "isolated"])
@pytest.mark.parametrize("kind", [Sync, Async])
def test_b256_agents_that_end_under_many_calls(
    kind: Any, isolated: bool, log: EventRecorder
) -> None:
    """Each is closed once, when nothing runs on it; one is made for one that is lost; every request
    has its answer.
    """
    books, numbers = Books(), itertools.count()
    settings: dict[str, Any] = {"max_retries": 99, "retry_budget_floor": 1e6, "retry_delay_s": 0.0}
    lazy = Member("lazy", factory=made_by(kind, books), max_concurrency=6, isolated=isolated)
    with pool_of(lazy, Member("b", echo, priority=1), **settings) as pool:
        pool.disable_breaker("lazy")

        def asker() -> None:
            for _ in range(EACH):
                payload = next(numbers)
                assert ask(pool, payload).get(timeout=WAIT_S).value == payload

        with ThreadPoolExecutor(ASKERS) as executor:
            for each in [executor.submit(asker) for _ in range(ASKERS)]:
                each.result()
        lost = pool.stats()["lazy"].agents_lost
    assert books.wrong == []
    assert [each.closes for each in books.made] == [1] * len(books.made)
    assert lost == len(log.named(MemberAgentLost)) > 3
    assert len(books.made) - lost in (0, 1)
    assert len(log.named(MemberAgentRemade)) == len(books.made) - 1


def test_b259_agents_of_a_callers_loop_that_end_under_many_blocks() -> None:
    """The same of blocks in tasks."""
    books = Books()

    async def used(pool: PoolRef) -> None:
        for _ in range(EACH):
            async for attempt in pool.attempts(max_retries=99):
                async with attempt as agent:
                    assert await agent.arun("x") == "x"

    lazy = Member("lazy", factory=made_by(Async, books), max_concurrency=6)
    settings: dict[str, Any] = {"retry_budget_floor": 1e6, "retry_delay_s": 0.0}
    with pool_of(lazy, event_loop="own", **settings) as pool:
        pool.disable_breaker("lazy")

        async def main() -> None:
            await asyncio.gather(*[used(pool) for _ in range(ASKERS)])
            await pool.stop(block=False)

        run(main)
    assert books.wrong == []
    assert len(books.made) > 3
    assert [each.closes for each in books.made] == [1] * len(books.made)
