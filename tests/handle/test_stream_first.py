"""`stream.first()`: whether a stream begins, known before any of it is taken."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Any, assert_type

import pykka
import pytest
from helpers_pools import WAIT_S, pool_of, ranked
from helpers_streams import (
    GONE,
    PRODUCERS,
    After,
    Chunks,
    Doing,
    Hold,
    Producer,
    by_for,
    rest,
    take,
    within,
)

from greenroom import (
    AllPoolMembersFailedError,
    Member,
    PoolFuture,
    PoolStoppedError,
    PoolStream,
    Request,
    RequestCancelledError,
    Restarted,
    StreamInterruptedError,
)
from greenroom.testing import FakeClock, ScriptedAgent, ScriptedHTTPError, http_error

Wait = Callable[[PoolStream[Any]], str | None]


def by_get(stream: PoolStream[Any]) -> str | None:
    return stream.first().get(timeout=WAIT_S)


def by_await(stream: PoolStream[Any]) -> str | None:
    async def main() -> str | None:
        return await stream.first()

    return asyncio.run(main())


WAITS = [by_get, by_await]


@pytest.mark.parametrize("producer", PRODUCERS)
@pytest.mark.parametrize("wait", WAITS)
class TestFirst:
    def test_it_waits_for_the_first_chunk_that_counts(self, producer: Producer, wait: Wait) -> None:
        """It says whose it is, and takes none."""
        hold = Hold()
        with pool_of(*ranked(a=producer(GONE), b=producer("", hold, 1, 2))) as pool:
            stream = pool.stream(Request("x"))
            hold.wait_reached()
            waiting = Doing(lambda: wait(stream))
            assert not stream.first().done()
            hold.open()
            assert waiting.result() == "b"
            assert within(wait, stream) == "b"
            assert rest(stream) == ["", 1, 2]

    def test_it_raises_what_iterating_raises(self, producer: Producer, wait: Wait) -> None:
        """Where nobody has a chunk that counts; each time, and iterating after it, too."""
        with pool_of(*ranked(a=producer("", GONE), b=producer(GONE)), max_retries=1) as pool:
            stream = pool.stream(Request("x"))
            for _ in range(2):
                with pytest.raises(AllPoolMembersFailedError) as raised:
                    within(wait, stream)
                assert [each.member for each in raised.value.errors] == ["a", "b"]
            with pytest.raises(AllPoolMembersFailedError) as again:
                rest(stream)
            assert again.value is raised.value

    def test_the_requests_own_fault(self, producer: Producer, wait: Wait) -> None:
        """A 400 is raised as it is."""
        fault = http_error(400)
        with pool_of(Member("a", producer(fault))) as pool:
            with pytest.raises(ScriptedHTTPError) as raised:
                within(wait, pool.stream(Request("x")))
            assert raised.value is fault

    def test_a_failure_after_it_is_for_who_iterates(self, producer: Producer, wait: Wait) -> None:
        """The stream has begun; that it broke off comes after its chunks."""
        with pool_of(Member("a", a := producer(1, GONE))) as pool:
            stream = pool.stream(Request("x"))
            assert a.wait_ended() == "ConnectionError"
            assert within(wait, stream) == "a"
            with pytest.raises(StreamInterruptedError) as raised:
                rest(stream)
            assert raised.value.received == (1,)
            assert within(wait, stream) == "a"

    def test_an_empty_stream(self, producer: Producer, wait: Wait) -> None:
        """It has ended well: None where nobody had a chunk, else whose the empty ones are."""
        taken: dict[str, Any] = {"is_empty": None, "is_failure": None}
        with pool_of(Member("a", producer(endless=())), **taken) as pool:
            assert within(wait, pool.stream(Request("x"))) is None
        with pool_of(Member("a", producer("", None)), **taken) as pool:
            stream = pool.stream(Request("x"))
            assert within(wait, stream) == "a"
            assert rest(stream) == ["", None]

    def test_a_plain_answer(self, producer: Producer, wait: Wait) -> None:
        """It is the first chunk, and the last."""
        with pool_of(Member("a", ScriptedAgent(["answer"]))) as pool:
            stream = pool.stream(Request("x"))
            assert within(wait, stream) == "a"
            assert rest(stream) == ["answer"]

    def test_after_the_end(self, producer: Producer, wait: Wait) -> None:
        """It still knows."""
        with pool_of(Member("a", producer(1))) as pool:
            stream = pool.stream(Request("x"))
            assert rest(stream) == [1]
            assert within(wait, stream) == "a"

    def test_of_a_stream_that_was_given_up(self, producer: Producer, wait: Wait) -> None:
        """Before it began: RequestCancelledError. After it: it had begun."""
        hold = Hold()
        with pool_of(Member("a", producer(hold, 1), max_concurrency=2)) as pool:
            stream = pool.stream(Request("x"))
            waiting = Doing(lambda: wait(stream))
            hold.wait_reached()
            stream.cancel()
            with pytest.raises(RequestCancelledError):
                waiting.result()
            with pytest.raises(RequestCancelledError):
                within(wait, stream)
            hold.open()
            begun = pool.stream(Request("y"))
            assert take(begun, 1) == [1]
            begun.cancel()
            assert within(wait, begun) == "a"

    def test_of_a_pool_that_stops(self, producer: Producer, wait: Wait) -> None:
        """PoolStoppedError, before and after the stop."""
        hold = Hold()
        with pool_of(Member("a", producer(hold, 1))) as pool:
            stream = pool.stream(Request("x"))
            hold.wait_reached()
            waiting = Doing(lambda: wait(stream))
            stopping = pool.stop(block=False)
            with pytest.raises(PoolStoppedError):
                waiting.result()
            hold.open()
            stopping.get(timeout=WAIT_S)
            with pytest.raises(PoolStoppedError):
                within(wait, pool.stream(Request("y")))

    def test_with_hold_it_begins_at_its_end(self, producer: Producer, wait: Wait) -> None:
        """Nothing is sure before that."""
        hold = Hold()
        a, b = producer(1, GONE), producer(2, hold, 3)
        with pool_of(*ranked(a=a, b=b), on_cut="hold") as pool:
            stream = pool.stream(Request("x"))
            hold.wait_reached()
            assert not stream.first().done()
            hold.open()
            assert within(wait, stream) == "b"
            assert rest(stream) == [2, 3]

    def test_with_restart_it_has_begun_once(self, producer: Producer, wait: Wait) -> None:
        """A stream that starts over does not begin anew for it."""
        hold = Hold()
        a, b = producer(1, hold, GONE), producer(hold, 2)
        with pool_of(*ranked(a=a, b=b), on_cut="restart") as pool:
            stream = pool.stream(Request("x"))
            assert within(wait, stream) == "a"
            assert take(stream, 1) == [1]
            hold.open()
            assert [type(each) for each in within(by_for, stream)] == [Restarted, int]
            assert within(wait, stream) == "a"


def test_who_stops_waiting_gives_nothing_up() -> None:
    """Neither a timeout of `get` nor a cancelled await ends the stream."""
    hold = Hold()
    with pool_of(Member("a", Chunks(hold, 1))) as pool:
        stream = pool.stream(Request("x"))
        hold.wait_reached()
        with pytest.raises(pykka.Timeout):
            stream.first().get(timeout=0)

        async def main() -> None:
            waiting = asyncio.ensure_future(stream.first())
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting

        within(lambda: asyncio.run(main()))
        hold.open()
        assert within(by_get, stream) == "a"
        assert rest(stream) == [1]


def test_it_does_not_keep_a_stream_that_nobody_holds() -> None:
    """Whoever lets go of the stream leaves it, and who waits for its beginning hears of that."""
    hold = Hold()
    with pool_of(Member("a", Chunks(hold, 1))) as pool:
        first = pool.stream(Request("x")).first()
        gc.collect()
        with pytest.raises(RequestCancelledError):
            first.get(timeout=WAIT_S)
        hold.open()


def test_a_deadline_before_it() -> None:
    """A web handler can answer 503 or 504 instead of 200."""
    clock = FakeClock()
    with pool_of(Member("a", Chunks(After(clock, 9), 1)), clock=clock) as pool:
        stream = pool.stream(Request("x"), timeout=2)
        clock.wait_until_sleeping()
        clock.advance(2)
        with pytest.raises(TimeoutError):
            within(by_get, stream)
        clock.advance(9)


def test_types() -> None:
    """What a type checker knows: `mypy` on this file is the test."""
    with pool_of(Member("a", Chunks(1))) as pool:
        stream = pool.stream(Request("x"))
        assert_type(stream.first(), PoolFuture[str | None])
        assert_type(stream.first().get(timeout=WAIT_S), str | None)
        assert rest(stream) == [1]
