"""An agent's StopIteration never reads as the end of a stream or of a loop."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any, cast

import pytest
from helpers_pools import WAIT_S, pool_of, ranked

from greenroom import FailureKind, FallbackChain, PoolError, Request
from greenroom.messages import DeadLetter
from greenroom.testing import EventRecorder

# Of a coroutine's StopIteration Python makes a RuntimeError by itself.
AN_ERROR = (PoolError, RuntimeError)
SAYS = re.compile("left over|raised Stop")
ENDS = [StopIteration("left over"), StopAsyncIteration("left over")]


def callers(error: BaseException) -> FailureKind:
    return FailureKind.CALLER


class Chunks:
    """An agent that streams, and fails before or after its first chunk."""

    def __init__(self, error: Exception, before: int) -> None:
        self.error = error
        self.before = before

    def stream(self, payload: Any) -> Iterator[str]:
        """No generator: that would make a RuntimeError of it."""
        return iter(Leaking(self.error, self.before))


class Leaking:
    """An iterator whose chunks come by way of a StopIteration of something else's."""

    def __init__(self, error: Exception, before: int) -> None:
        self.error = error
        self.left = before

    def __iter__(self) -> Leaking:
        return self

    def __next__(self) -> str:
        if self.left == 0:
            raise self.error
        self.left -= 1
        return "chunk"


def failing(error: Exception) -> Any:
    def agent(payload: Any) -> Any:
        raise error

    return agent


def failing_coroutine(error: Exception) -> Any:
    async def agent(payload: Any) -> Any:
        raise error

    return agent


@pytest.mark.parametrize("error", ENDS, ids=repr)
@pytest.mark.parametrize("make", [failing, failing_coroutine])
@pytest.mark.parametrize("classify", [None, callers])
class TestEveryWayOfAsking:
    def test_a_blocking_ask_raises(self, error: Exception, make: Any, classify: Any) -> None:
        """The asker sees an error of the pool's, with the agent's as its cause."""
        with (
            pool_of(*ranked(a=make(error)), classify=classify, max_retries=0) as pool,
            pytest.raises(AN_ERROR, match=SAYS),
        ):
            pool.ask(Request("x"), timeout=WAIT_S)

    def test_an_awaited_ask_raises(self, error: Exception, make: Any, classify: Any) -> None:
        """The same from a coroutine, where a StopIteration would be its return."""

        async def main() -> None:
            with pytest.raises(AN_ERROR, match=SAYS):
                await pool.ask(Request("x"), block=False)

        with pool_of(*ranked(a=make(error)), classify=classify, max_retries=0) as pool:
            asyncio.run(asyncio.wait_for(main(), WAIT_S))

    def test_a_loop_over_a_stream_raises(self, error: Exception, make: Any, classify: Any) -> None:
        """`for` would take it for the end of the answer."""
        with pool_of(*ranked(a=make(error)), classify=classify, max_retries=0) as pool:
            with pytest.raises(AN_ERROR, match=SAYS):
                for _ in pool.stream(Request("x")):
                    pass
            with pytest.raises(AN_ERROR, match=SAYS):
                pool.stream(Request("x")).collect()

    def test_an_async_loop_raises(self, error: Exception, make: Any, classify: Any) -> None:
        """`async for` would, too."""

        async def main() -> None:
            with pytest.raises(AN_ERROR, match=SAYS):
                async for _ in pool.stream(Request("x")):
                    pass
            with pytest.raises(AN_ERROR, match=SAYS):
                await pool.stream(Request("x")).acollect()

        with pool_of(*ranked(a=make(error)), classify=classify, max_retries=0) as pool:
            asyncio.run(asyncio.wait_for(main(), WAIT_S))

    def test_apply_raises(self, error: Exception, make: Any, classify: Any) -> None:
        """A function that is run on an agent is no different."""
        with (
            pool_of(*ranked(a=make(error)), classify=classify, max_retries=0) as pool,
            pytest.raises(AN_ERROR, match=SAYS),
        ):
            pool.apply(lambda agent: agent("x"))


def test_it_ends_a_loop_of_the_apps_by_an_error() -> None:
    """An app's generator that asks the pool in passing is not cut short in silence."""
    with (
        pool_of(*ranked(a=failing(StopIteration())), classify=callers) as pool,
        pytest.raises(PoolError),
    ):
        list(map(pool.execute, "xyz"))


def test_told_it_is_a_dead_letter() -> None:
    """With nobody to raise it to, it is told of like any error."""
    with EventRecorder() as log, pool_of(*ranked(a=failing(ENDS[0])), classify=callers) as pool:
        pool.tell(Request("x"))
        log.wait_for(DeadLetter)
        assert "StopIteration" in log.named(DeadLetter)[0].reason


def test_an_async_stream_that_leaks_the_end_of_another_breaks_off() -> None:
    """StopAsyncIteration from within an async generator is made an error by Python already."""

    class Agent:
        async def stream(self, payload: Any) -> AsyncIterator[str]:
            yield "chunk"
            raise StopAsyncIteration

    with (
        pool_of(*ranked(a=cast(Any, Agent())), classify=callers, max_retries=0) as pool,
        pytest.raises(Exception, match="StopAsyncIteration"),
    ):
        pool.stream(Request("x")).collect()


def test_a_chain_raises_it_as_an_error() -> None:
    """What a chain passes on as it is would end the loop around it."""
    with FallbackChain[Any](handled_exceptions=ValueError) as chain:
        chain.add("a", failing(StopIteration("left over")))
        with pytest.raises(PoolError, match="StopIteration"):
            chain.execute(lambda agent: agent("x"))
