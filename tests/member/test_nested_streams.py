"""A stream through a pool of pools: behaviour 53 with 43, 44 and 46."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator

import pytest
from helpers_pools import WAIT_S, pool_of

from greenroom import Member, Request, StreamInterruptedError
from greenroom.messages import RequestCompleted
from greenroom.testing import EventRecorder


def words(prompt: str) -> Iterator[str]:
    yield from ("one", "two")


def down(prompt: str) -> Iterator[str]:
    yield ""
    raise ConnectionError("down")


def cut(prompt: str) -> Iterator[str]:
    yield "one"
    raise ConnectionError("cut")


def test_b53_a_stream_fails_over_from_one_inner_pool_to_the_next() -> None:
    """No chunk that counts has come from the first: the answer is the second one's alone."""
    with (
        pool_of(Member("a", down), name="eu", max_retries=0) as eu,
        pool_of(Member("b", words), name="us") as us,
        pool_of(Member("eu", eu, priority=1), Member("us", us, priority=2)) as front,
    ):
        stream = front.stream(Request("x"))
        assert stream.collect() == ["one", "two"]
        assert (stream.member, stream.attempts) == ("us", 2)
        assert [error.member for error in stream.errors[0].errors] == ["a"]


def test_b53_a_stream_that_breaks_off_in_an_inner_pool_breaks_off() -> None:
    """Nobody takes it over on either level; the causes lead down to the agent's error."""
    with (
        pool_of(Member("a", cut), name="eu") as eu,
        pool_of(Member("b", words), name="us") as us,
        pool_of(Member("eu", eu, priority=1), Member("us", us, priority=2)) as front,
    ):
        with pytest.raises(StreamInterruptedError) as caught:
            front.stream(Request("x")).collect()
        assert caught.value.received == ("one",)
        inner = caught.value.__cause__
        assert isinstance(inner, StreamInterruptedError)
        assert (caught.value.member, inner.member) == ("eu", "a")
        assert isinstance(inner.__cause__, ConnectionError)


def test_b53_who_leaves_the_outer_stream_closes_the_innermost_generator() -> None:
    """The agent's `finally` runs, and the inner request counts as cancelled."""
    closed = threading.Event()

    async def endless(prompt: str) -> AsyncIterator[str]:
        try:
            while True:
                yield "chunk"
        finally:
            closed.set()

    with (
        EventRecorder() as events,
        pool_of(Member("a", endless), name="eu") as eu,
        pool_of(Member("eu", eu)) as front,
    ):
        for chunk in front.stream(Request("x")):
            assert chunk == "chunk"
            break
        assert closed.wait(WAIT_S)
        events.wait_for(RequestCompleted, count=2)
        ended = {event.pool: event.outcome for event in events.named(RequestCompleted)}
        assert ended == {"pool": "cancelled", "eu": "cancelled"}
        assert eu.stats().cancelled == 1
