"""What an agent sets in its context is seen by no other call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar
from typing import Any

import pytest

from greenroom import AgentPool, Member, Request

SEEN: ContextVar[Any] = ContextVar("seen", default=None)


def look_and_set(payload: Any) -> Any:
    before = SEEN.get()
    SEEN.set(payload)
    return before, SEEN.get()


async def alook_and_set(payload: Any) -> Any:
    before = SEEN.get()
    SEEN.set(payload)
    await asyncio.sleep(0)
    return before, SEEN.get()


def returned(payload: Any) -> Any:
    """A sync callable that sets, and returns what is to be awaited and looks."""
    before = SEEN.get()
    SEEN.set(payload)

    async def look() -> Any:
        return before, SEEN.get()

    return look()


def steps(payload: Any) -> Iterator[Any]:
    before = SEEN.get()
    SEEN.set(payload)
    yield before
    yield SEEN.get()


async def asteps(payload: Any) -> AsyncIterator[Any]:
    before = SEEN.get()
    SEEN.set(payload)
    yield before
    await asyncio.sleep(0)
    yield SEEN.get()


@pytest.mark.parametrize("agent", [look_and_set, alook_and_set, returned])
def test_a_call_sees_nothing_that_another_has_set(agent: Any) -> None:
    """Nor anything that its asker has: each call has a context of its own, thread or loop."""
    token = SEEN.set("the asker's")
    try:
        with AgentPool.start([Member("m", agent)]) as pool:
            for number in range(3):
                assert pool.ask(Request(number)).value == (None, number)
    finally:
        SEEN.reset(token)


@pytest.mark.parametrize("agent", [steps, asteps])
def test_each_step_of_a_stream_is_in_the_context_of_its_call(agent: Any) -> None:
    """A generator finds what it has set, and nothing that another has."""
    with AgentPool.start([Member("m", agent)]) as pool:
        for number in range(3):
            assert list(pool.stream(Request(number))) == [None, number]


def test_factories_probes_and_close_hooks_have_contexts_of_their_own() -> None:
    """What a factory sets, no call sees; what a call sets, no close hook sees."""
    seen = list[Any]()

    def factory() -> Any:
        SEEN.set("the factory's")
        return look_and_set

    def close(_: Any) -> None:
        seen.append(SEEN.get())

    with AgentPool.start([Member("m", factory=factory, close=close)]) as pool:
        assert pool.ask(Request(1)).value == (None, 1)
    assert seen == [None]
