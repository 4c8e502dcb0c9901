"""Leading empty chunks: none that the winner sent is lost, and none that a loser sent is shown."""

from __future__ import annotations

import asyncio
import gc
import itertools
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from helpers_pools import WAIT_S, pool_of, ranked
from helpers_streams import (
    GONE,
    PRODUCERS,
    READERS,
    After,
    AsyncChunks,
    Chunks,
    Doing,
    Hold,
    Producer,
    Read,
    by_for,
    rest,
    take,
    wait_free,
    within,
)

from greenroom import (
    AllPoolMembersFailedError,
    FailureKind,
    Member,
    Request,
    StreamInterruptedError,
)
from greenroom.testing import FakeClock, ScriptedAgent


class Ping:
    """A keep-alive of which each is an object of its own."""

    def __init__(self, number: int) -> None:
        self.number = number


def is_ping(chunk: Any) -> bool:
    return isinstance(chunk, Ping)


def pings(count: int) -> list[Any]:
    return [Ping(number) for number in range(count)]


@pytest.mark.parametrize("producer", PRODUCERS)
@pytest.mark.parametrize("read", READERS)
class TestNothingIsLost:
    @pytest.mark.parametrize("empty", ["", None, b"", ()])
    @pytest.mark.parametrize("buffer", [1, 2, 64])
    def test_many_that_are_the_same(
        self, producer: Producer, read: Read, empty: Any, buffer: int
    ) -> None:
        """203 sent, 203 delivered."""
        sent = [*[empty] * 200, "Once ", "upon ", "a time"]
        with pool_of(Member("a", producer(*sent)), stream_buffer=buffer) as pool:
            assert within(read, pool.stream(Request("x"))) == sent

    @pytest.mark.parametrize("buffer", [1, 2, 64, 300])
    @pytest.mark.parametrize("on_cut", ["raise", "restart", "hold"])
    def test_many_that_differ(
        self, producer: Producer, read: Read, buffer: int, on_cut: str
    ) -> None:
        """203 sent, 203 delivered: the stream begins without a chunk that counts."""
        sent = [*pings(200), "Once ", "upon ", "a time"]
        options: dict[str, Any] = {"stream_buffer": buffer, "is_empty": is_ping, "on_cut": on_cut}
        with pool_of(Member("a", producer(*sent)), **options) as pool:
            stream = pool.stream(Request("x"))
            assert within(read, stream) == sent
            assert (stream.member, pool.stats()["a"].successes) == ("a", 1)

    def test_nothing_but_empty_ones(self, producer: Producer, read: Read) -> None:
        """All of them are the stream."""
        for sent in ([""] * 200, pings(200)):
            with pool_of(
                Member("a", producer(*sent)), is_empty=lambda chunk: True, is_failure=None
            ) as pool:
                assert within(read, pool.stream(Request("x"))) == sent


@pytest.mark.parametrize("producer", PRODUCERS)
class TestTheOthersAreNotShown:
    def test_the_same_ones_of_a_member_that_fails(self, producer: Producer) -> None:
        """However many: the answer is another member's stream alone."""
        with pool_of(*ranked(a=producer(*[""] * 200, GONE), b=producer(1, 2))) as pool:
            assert rest(pool.stream(Request("x"))) == [1, 2]

    @pytest.mark.parametrize("read", READERS)
    def test_different_ones_of_a_member_that_fails(self, producer: Producer, read: Read) -> None:
        """It fails over as well; what its consumer has had already was empty."""
        hold = Hold()
        a, b = producer(*pings(5), hold, GONE), producer(1, 2)
        with pool_of(*ranked(a=a, b=b), stream_buffer=2, is_empty=is_ping) as pool:
            stream = pool.stream(Request("x"))
            had = take(stream, 5)
            assert [type(chunk) for chunk in had] == [Ping] * 5
            assert not stream.first().done()
            hold.open()
            assert within(read, stream) == [1, 2]
            assert (stream.member, stream.attempts) == ("b", 2)
            assert stream.first().get(timeout=WAIT_S) == "b"
            assert pool.stats()["a"].failures == 1

    def test_collecting_leaves_them_out(self, producer: Producer) -> None:
        """And what an interruption says was received."""
        a, b = producer(*pings(100), GONE), producer(1, 2, GONE)
        with pool_of(*ranked(a=a, b=b), stream_buffer=2, is_empty=is_ping) as pool:
            with pytest.raises(StreamInterruptedError) as raised:
                rest(pool.stream(Request("x")))
            assert (raised.value.received, raised.value.received_count) == ((1, 2), 2)

    def test_nobody_else_has_a_chunk(self, producer: Producer) -> None:
        """Nothing that counts was shown, so nothing broke off."""
        a, b = producer(*pings(100), GONE), producer(GONE)
        options: dict[str, Any] = {"stream_buffer": 2, "is_empty": is_ping, "max_retries": 1}
        with pool_of(*ranked(a=a, b=b), **options) as pool:
            with pytest.raises(AllPoolMembersFailedError) as raised:
                rest(pool.stream(Request("x")))
            assert [each.member for each in raised.value.errors] == ["a", "b"]

    def test_it_may_be_asked_again(self, producer: Producer) -> None:
        """By a retry, as any member that failed before its first chunk that counts."""
        clock = FakeClock()
        outcomes = iter([producer(*pings(100), GONE), producer(1)])
        agent = ScriptedAgent([lambda payload: next(outcomes)(payload)])
        options: dict[str, Any] = {"stream_buffer": 2, "is_empty": is_ping, "on_cut": "restart"}
        with pool_of(Member("a", agent), clock=clock, **options) as pool:
            stream = pool.stream(Request("x"))
            reading = Doing(stream.collect)
            while len(agent.calls) < 2:
                clock.advance(1)
                pool.stats()
            assert reading.result() == [1]


@pytest.mark.parametrize("producer", PRODUCERS)
class TestEndless:
    def test_the_same_one_for_ever_ends_at_the_first_chunk_limit(self, producer: Producer) -> None:
        """An empty chunk buys no time, whether somebody reads or not."""
        clock = FakeClock()
        life_signs = [After(clock, 0.1), ""]
        a, b = producer(*life_signs * 500), producer("b")
        with pool_of(*ranked(a=a, b=b), clock=clock, first_chunk_timeout_s=20.0) as pool:
            stream = pool.stream(Request("x"))
            for _ in range(200):
                clock.wait_until_sleeping()
                clock.advance(0.1)
            assert rest(stream) == ["b"]
            assert stream.errors[0].kind is FailureKind.TIMEOUT
            clock.advance(0.1)
            assert a.wait_ended() in ("GeneratorExit", "CancelledError")

    def test_different_ones_for_ever_end_at_the_first_chunk_limit(self, producer: Producer) -> None:
        """Shown or not; the time in which the consumer held the agent back is not the agent's."""
        clock = FakeClock()
        life_signs = itertools.chain.from_iterable((After(clock, 0.1), Ping(n)) for n in range(500))
        a, b = producer(*life_signs), producer("b")
        options: dict[str, Any] = {"stream_buffer": 4, "is_empty": is_ping}
        members = ranked(a=a, b=b)
        with pool_of(*members, clock=clock, first_chunk_timeout_s=2.0, **options) as pool:
            stream = pool.stream(Request("x"))
            reading = Doing(lambda: by_for(stream))
            for _ in range(20):
                clock.wait_until_sleeping()
                clock.advance(0.1)
            chunks = reading.result()
            assert chunks[-1:] == ["b"]
            assert [type(chunk) for chunk in chunks[:-1]] == [Ping] * (len(chunks) - 1)
            assert str(stream.errors[0].error) == (
                "a did not answer within first_chunk_timeout_s=2"
            )
            clock.advance(0.1)
            assert a.wait_ended() in ("GeneratorExit", "CancelledError")

    def test_after_the_first_that_counts_the_limit_is_the_other_one(
        self, producer: Producer
    ) -> None:
        """Also where the stream had begun before it."""
        clock, hold, later = FakeClock(), Hold(), Hold()
        a = producer(*pings(5), hold, 1, later)
        limits: dict[str, Any] = {"first_chunk_timeout_s": 60.0, "chunk_timeout_s": 1.0}
        options: dict[str, Any] = {"stream_buffer": 2, "is_empty": is_ping}
        with pool_of(Member("a", a), clock=clock, **limits, **options) as pool:
            stream = pool.stream(Request("x"))
            assert len(take(stream, 5)) == 5
            hold.wait_reached()
            clock.advance(30)
            assert pool.stats()["a"].failures == 0
            hold.open()
            assert take(stream, 1) == [1]
            later.wait_reached()
            clock.advance(1)
            with pytest.raises(StreamInterruptedError, match="chunk_timeout_s=1"):
                rest(stream)
            later.open()

    def test_memory_stays_bounded(self, producer: Producer) -> None:
        """The same one takes none; different ones wait for their consumer."""
        with pool_of(Member("a", a := producer(endless=itertools.repeat("")))) as pool:
            stream = pool.stream(Request("x"))
            a.wait_made(1000)
            tracemalloc.start()
            try:
                a.wait_made(1000)
                gc.collect()
                before, _ = tracemalloc.get_traced_memory()
                a.wait_made(20_000)
                gc.collect()
                after, _ = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            assert after - before < 200_000
            assert len(stream._channel) == 0
            stream.cancel()
            wait_free(pool)

    def test_the_agent_is_held_back(self, producer: Producer) -> None:
        """By a consumer who does not read, from the first one that is shown."""
        a = producer(endless=(Ping(n) for n in itertools.count()))
        options: dict[str, Any] = {"stream_buffer": 8, "is_empty": is_ping}
        with pool_of(Member("a", a), **options) as pool:
            stream = pool.stream(Request("x"))
            a.wait_made(9)
            assert len(take(stream, 100)) == 100
            assert a.made <= 100 + 2 * 9
            stream.close()
            assert a.wait_ended() in ("GeneratorExit", "CancelledError")


class TestRaces:
    def test_one_that_shows_its_empty_chunks_has_won(self) -> None:
        """There is one consumer: its rival is cancelled, and it can still fail over."""
        clock, slow, hold = FakeClock(), Hold(), Hold()
        a = AsyncChunks(slow, "slow")
        b = AsyncChunks(*pings(5), hold, GONE)
        options: dict[str, Any] = {"stream_buffer": 2, "is_empty": is_ping, "hedge_after_s": 1.0}
        members = ranked(a=a, b=b, c=Chunks(1, 2))
        with pool_of(*members, clock=clock, **options) as pool:
            stream = pool.stream(Request("x"))
            slow.wait_reached()
            clock.advance(1)
            assert len(take(stream, 5)) == 5
            assert a.wait_ended() == "CancelledError"
            pool.force_open("a")
            hold.open()
            assert rest(stream) == [1, 2]


def test_an_ask_has_all_of_them() -> None:
    """A list of 203."""

    def sync(payload: Any) -> Iterator[Any]:
        yield from [*[""] * 200, 1, 2, 3]

    async def asynchronous(payload: Any) -> AsyncIterator[Any]:
        for chunk in sync(payload):
            yield chunk
            await asyncio.sleep(0)

    for agent in (sync, asynchronous):
        with pool_of(Member("a", agent)) as pool:
            assert len(pool.execute("x", timeout=WAIT_S)) == 203
