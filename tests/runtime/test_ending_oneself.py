"""Code inside of a call that would wait for the end of that very call, and factories that ask."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from helpers_actors import no_thread_left
from helpers_pools import WAIT_S, pool_of

from greenroom import Drain, Member, PoolRef, ReentrantAskError, RemoveMember, Request

pytestmark = pytest.mark.usefixtures("agents_loop")

SYNC: dict[str, Callable[[PoolRef], Any]] = {
    "drain": lambda pool: pool.drain(),
    "drain for a time": lambda pool: pool.drain(timeout=WAIT_S),
    "remove": lambda pool: pool.remove_member("a"),
    "get": lambda pool: pool.ask(RemoveMember("a"), block=False).get(),
}


@pytest.mark.parametrize("way", SYNC)
def test_a_sync_agent_that_would_wait_for_its_own_end_is_told(way: str) -> None:
    """At once, with what to do instead."""

    def agent(payload: Any) -> Any:
        if payload == "end":
            SYNC[way](pool)
        return payload

    with no_thread_left(), pool_of(Member("a", agent), Member("b", agent)) as pool:
        with pytest.raises(ReentrantAskError, match="block=False"):
            pool.execute("end", timeout=WAIT_S)
        if way != "get":
            assert pool.execute("x", timeout=WAIT_S) == "x"


@pytest.mark.parametrize("message", [Drain(), RemoveMember("a")])
def test_an_async_agent_that_would_wait_for_its_own_end_is_told(message: Any) -> None:
    """Where it begins to wait; what it has asked for is done when it has returned."""

    async def agent(payload: Any) -> Any:
        if payload == "end":
            await pool.ask(message, block=False)
        return payload

    with (
        no_thread_left(),
        pool_of(Member("a", agent)) as pool,
        pytest.raises(ReentrantAskError, match="waits for this code to return"),
    ):
        pool.execute("end", timeout=WAIT_S)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_an_agent_may_have_its_pool_drained_and_stopped(kind: str) -> None:
    """Without waiting for it: its own request is answered before."""

    def end() -> None:
        pool.ask(Drain(), block=False).add_done_callback(lambda _: pool.stop(block=False))

    def agent(payload: Any) -> Any:
        end()
        return payload

    async def aagent(payload: Any) -> Any:
        end()
        return payload

    member = Member("a", agent if kind == "sync" else aagent)
    with no_thread_left(), pool_of(member) as pool:
        assert pool.execute("x", timeout=WAIT_S) == "x"


def test_an_agent_may_wait_for_the_removal_of_another_member() -> None:
    """That does not hang on its own call."""

    def agent(payload: Any) -> Any:
        if payload == "remove":
            pool.remove_member("b")
        return payload

    members = [Member("a", agent), Member("b", agent, priority=1)]
    with no_thread_left(), pool_of(*members) as pool:
        assert pool.execute("remove", timeout=WAIT_S) == "remove"
        assert [each.name for each in pool.stats().members] == ["a"]


@pytest.mark.parametrize("slots", [1, 2])
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_factory_that_asks_for_what_only_its_own_agent_could_do_is_told(
    kind: str, slots: int
) -> None:
    """Be there a slot for it or none: there is no agent before it has returned."""

    def answer(payload: Any) -> Any:
        return payload

    def make() -> Any:
        pool.execute("first")
        return answer

    async def amake() -> Any:
        await pool.ask(Request("first"), block=False)
        return answer

    factory = make if kind == "sync" else amake
    member = Member("a", factory=factory, max_concurrency=slots)
    with no_thread_left(), pool_of(member, max_retries=0) as pool:
        with pytest.raises(Exception, match="would wait for") as caught:
            pool.execute("x", timeout=WAIT_S)
        assert "Reentrant" in str(caught.value)


def test_a_factory_is_served_by_another_member() -> None:
    """What it asks for is not given to the member that it makes the agent of."""

    def answer(payload: Any) -> Any:
        return payload

    def make() -> Any:
        seen.append(pool.execute("first", timeout=WAIT_S))
        return answer

    seen: list[Any] = []
    members = [Member("a", factory=make, max_concurrency=2), Member("b", answer, priority=1)]
    with no_thread_left(), pool_of(*members) as pool:
        assert asyncio.run(asyncio.to_thread(pool.execute, "x", timeout=WAIT_S)) == "x"
        assert seen == ["first"]


@pytest.mark.parametrize("served_by", ["async", "sync"])
def test_an_async_agent_that_blocks_its_loop_for_its_own_pool_is_told(served_by: str) -> None:
    """Whoever would serve it: a retry might need the loop that it blocks."""

    async def agent(payload: Any) -> Any:
        return pool.execute("inner") if payload == "outer" else payload

    def sync(payload: Any) -> Any:
        return payload

    other = Member("b", sync if served_by == "sync" else agent, priority=1)
    with no_thread_left(), pool_of(Member("a", agent, max_concurrency=1), other) as pool:
        with pytest.raises(ReentrantAskError, match="event loop"):
            pool.execute("outer", timeout=WAIT_S)
        assert pool.execute("x", timeout=WAIT_S) == "x"
