"""Streams that go well, whoever makes them and however they are read: 48, 49, and the rest."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import io
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, assert_type
from unittest.mock import AsyncMock, MagicMock

import pykka
import pytest
from helpers_agents import Held
from helpers_pools import WAIT_S, pool_of, ranked
from helpers_streams import (
    PRODUCERS,
    READERS,
    After,
    AsyncChunks,
    Chunks,
    Doing,
    Hold,
    Producer,
    Read,
    by_async_for,
    by_for,
    rest,
    take,
    wait_free,
    within,
)

from greenroom import (
    Apply,
    CallContext,
    DeadlineExceededError,
    Drain,
    GetStats,
    LoadBalanceStrategy,
    Member,
    PoolRef,
    PoolSaturatedError,
    PoolStoppedError,
    PoolStream,
    Request,
    StreamInterruptedError,
)
from greenroom.testing import AsyncScriptedAgent, FakeClock, ScriptedAgent

pytestmark = pytest.mark.usefixtures("agents_loop")


def sync_generator(payload: Any) -> Iterator[Any]:
    yield from [payload, 1, 2]


async def async_generator(payload: Any) -> AsyncIterator[Any]:
    for chunk in (payload, 1, 2):
        yield chunk


def iterator(payload: Any) -> Iterator[Any]:
    return iter([payload, 1, 2])


def returns_async(payload: Any) -> AsyncIterator[Any]:
    return async_generator(payload)


async def coroutine_of_async(payload: Any) -> AsyncIterator[Any]:
    return async_generator(payload)


async def coroutine_of_sync(payload: Any) -> Iterator[Any]:
    return sync_generator(payload)


def returns_coroutine(payload: Any) -> Any:
    return coroutine_of_async(payload)


class Streams:
    def stream(self, payload: Any) -> Iterator[Any]:
        return sync_generator(payload)

    def run(self, payload: Any) -> str:
        return "answer"


class AStreams(Streams):
    def astream(self, payload: Any) -> AsyncIterator[Any]:
        return async_generator(payload)

    def stream(self, payload: Any) -> Iterator[Any]:
        raise AssertionError("astream comes first")


class Runs:
    def run(self, payload: Any) -> Iterator[Any]:
        return sync_generator(payload)


class StreamsOnly:
    async def astream(self, payload: Any) -> AsyncIterator[Any]:
        async for chunk in async_generator(payload):
            yield chunk


class Iterating:
    """An iterator by hand, as client libraries have them."""

    def __init__(self, payload: Any) -> None:
        self._chunks = [2, 1, payload]

    def __iter__(self) -> Iterating:
        return self

    def __next__(self) -> Any:
        if not self._chunks:
            raise StopIteration
        return self._chunks.pop()


class AIterating(Iterating):
    def __aiter__(self) -> AIterating:
        return self

    async def __anext__(self) -> Any:
        if not self._chunks:
            raise StopAsyncIteration
        return self._chunks.pop()


AGENTS: list[Any] = [
    sync_generator,
    async_generator,
    iterator,
    returns_async,
    coroutine_of_async,
    coroutine_of_sync,
    returns_coroutine,
    Streams(),
    AStreams(),
    Runs(),
    StreamsOnly(),
    Iterating,
    AIterating,
]


def name_of(agent: Any) -> str:
    return getattr(agent, "__name__", type(agent).__name__)


@pytest.mark.parametrize("read", READERS)
class TestFourWays:
    @pytest.mark.parametrize("agent", AGENTS, ids=name_of)
    def test_b48_every_agent_for_every_reader(self, agent: Any, read: Read) -> None:
        """Sync and async generators and what returns them, read by `for` and by `async for`."""
        with pool_of(Member("a", agent)) as pool:
            stream = pool.stream(Request("x"))
            assert within(read, stream) == ["x", 1, 2]
            assert (stream.member, stream.attempts, stream.errors) == ("a", 1, ())
            stats = pool.stats()
            assert (stats.completed, stats["a"].successes, stats.in_flight) == (1, 1, 0)

    @pytest.mark.parametrize("answer", ["text", "", None, 0, [1, 2], {"a": 1}, range(3)], ids=repr)
    @pytest.mark.parametrize("agent", [ScriptedAgent, AsyncScriptedAgent])
    def test_b48_a_plain_answer(self, agent: Any, answer: Any, read: Read) -> None:
        """It streams as one chunk, also when it is empty, or something to iterate over."""
        with pool_of(Member("a", agent([answer])), stream_buffer=1) as pool:
            assert within(read, pool.stream(Request("x"))) == [answer]

    @pytest.mark.parametrize("agent", PRODUCERS)
    def test_b48_no_chunk_at_all(self, agent: Producer, read: Read) -> None:
        """The end comes at once, and it is a success where no value is a failure."""
        with pool_of(Member("a", agent(endless=())), is_failure=None) as pool:
            stream = pool.stream(Request("x"))
            assert within(read, stream) == []
            assert pool.stats()["a"].successes == 1

    @pytest.mark.parametrize("agent", PRODUCERS)
    def test_b48_nothing_but_empty_chunks(self, agent: Producer, read: Read) -> None:
        """They are the stream where no value is a failure."""
        with pool_of(Member("a", agent("", None)), is_failure=None) as pool:
            stream = pool.stream(Request("x"))
            assert within(read, stream) == ["", None]
            assert stream.member == "a"

    def test_b48_apply(self, read: Read) -> None:
        """A function of the agent streams what it returns, wherever that has to run."""
        with pool_of(Member("a", Streams(), priority=0), Member("b", AStreams(), priority=1)) as p:
            assert within(read, p.stream(Apply(lambda agent: agent.stream("x")))) == ["x", 1, 2]
            p.force_open("a")
            assert within(read, p.stream(Apply(lambda agent: agent.astream("x")))) == ["x", 1, 2]
            assert within(read, p.stream(Apply(lambda agent: agent.run("x")))) == ["answer"]
            assert within(read, p.stream(Apply(coroutine_of_async))) == [p_agent(p), 1, 2]

    def test_b48_an_async_agent_that_is_applied_to(self, read: Read) -> None:
        """A sync function that is run on the loop may return a sync iterator."""
        with pool_of(Member("a", async_generator)) as pool:
            assert within(read, pool.stream(Apply(lambda agent: iter([1, 2])))) == [1, 2]
            assert within(read, pool.stream(Apply(lambda agent: agent("x")))) == ["x", 1, 2]

    def test_b48_an_isolated_member(self, read: Read) -> None:
        """On a loop of its own."""
        with pool_of(Member("a", async_generator, isolated=True)) as pool:
            assert within(read, pool.stream(Request("x"))) == ["x", 1, 2]


def p_agent(pool: PoolRef) -> Any:
    """The agent that is picked now."""
    return pool.apply(lambda agent: agent)


class TestAgents:
    @pytest.mark.parametrize("agent", AGENTS, ids=name_of)
    def test_b48_an_ask_has_all_chunks_in_a_list(self, agent: Any) -> None:
        """Unless the agent has a method for one answer."""
        expected = "answer" if isinstance(agent, Streams) else ["x", 1, 2]
        with pool_of(Member("a", agent)) as pool:
            assert pool.ask(Request("x"), timeout=WAIT_S).value == expected

    def test_b48_an_ask_whose_generator_fails(self) -> None:
        """It may be repeated: nobody has had any of it."""
        a, b = Chunks(1, ConnectionError("gone")), AsyncChunks(2)
        with pool_of(*ranked(a=a, b=b)) as pool:
            assert pool.ask(Request("x"), timeout=WAIT_S).value == [2]

    def test_b48_what_is_iterable_but_no_stream(self, tmp_path: Path) -> None:
        """An open file is an answer, and so is the mock of somebody's test."""
        path = tmp_path / "file"
        path.write_text("a\nb\n")
        with path.open() as file:
            for answer in (file, io.StringIO("a\nb"), MagicMock(), AsyncMock()):
                with pool_of(Member("a", lambda payload, answer=answer: answer)) as pool:
                    assert rest(pool.stream(Request("x"))) == [answer]
                    assert pool.execute("x") is answer

    def test_b48_a_mock_for_an_agent(self) -> None:
        """It is called as ever; what it returns is one chunk."""
        agent = MagicMock(return_value="answer", spec=lambda payload: None)
        with pool_of(Member("a", agent)) as pool:
            assert rest(pool.stream(Request("x"))) == ["answer"]
            agent.assert_called_once_with("x")

    @pytest.mark.parametrize("is_async", [False, True])
    def test_b48_a_generator_may_have_the_context(self, is_async: bool) -> None:
        """Request id, key, metadata, attempt and deadline, as for any agent."""
        clock = FakeClock()

        def tell(context: CallContext) -> list[Any]:
            return [context.request_id, context.key, context.metadata["who"], context.remaining_s]

        def a(payload: Any, context: CallContext) -> Iterator[Any]:
            yield from tell(context)

        async def b(context: CallContext, payload: Any) -> AsyncIterator[Any]:
            for chunk in tell(context):
                yield chunk

        request = Request("x", request_id="r1", key="k", metadata={"who": "me"})
        with pool_of(Member("a", b if is_async else a), clock=clock) as pool:
            assert rest(pool.stream(request, timeout=7)) == ["r1", "k", "me", 7.0]

    def test_b48_the_attempt_limit_is_no_deadline_of_a_stream(self) -> None:
        """`request_timeout_s` is from chunk to chunk; the context knows the deadline alone."""

        def a(payload: Any, context: CallContext) -> Iterator[Any]:
            yield "first"
            yield context.remaining_s

        with pool_of(Member("a", a), request_timeout_s=30.0) as pool:
            assert rest(pool.stream(Request("x"))) == ["first", None]

    def test_b48_a_method_by_name(self) -> None:
        """`method=` wins over what is looked for."""
        with pool_of(Member("a", AStreams(), method="run")) as pool:
            assert rest(pool.stream(Request("x"))) == ["answer"]

    def test_b48_the_stream_of_another_pool(self) -> None:
        """An agent may pass on what another pool streams."""
        with pool_of(Member("inner", sync_generator), name="inner") as inner:

            def outer_agent(payload: Any) -> PoolStream[Any]:
                return inner.stream(Request(payload))

            with pool_of(Member("a", outer_agent)) as outer:
                assert rest(outer.stream(Request("x"))) == ["x", 1, 2]

    def test_b48_leaving_reaches_the_other_pool(self) -> None:
        """Whoever leaves the outer stream closes the inner generator."""
        a = Chunks.counting()
        with pool_of(Member("inner", a), name="inner", stream_buffer=1) as inner:

            def outer_agent(payload: Any) -> PoolStream[Any]:
                return inner.stream(Request(payload))

            with pool_of(Member("a", outer_agent), stream_buffer=1) as outer:
                stream = outer.stream(Request("x"))
                assert take(stream, 2) == [1, 2]
                del stream
                assert a.wait_ended() == "GeneratorExit"

    def test_b48_a_stream_can_be_closed_by_hand(self) -> None:
        """As with `contextlib.closing`; closing one that has ended does nothing."""
        a = Chunks.counting()
        with pool_of(Member("a", a), stream_buffer=1) as pool:
            with contextlib.closing(pool.stream(Request("x"))) as stream:
                assert take(stream, 2) == [1, 2]
            assert a.wait_ended() == "GeneratorExit"
            stream.close()

    def test_b48_a_made_agent_streams(self) -> None:
        """The first stream waits for its factory."""
        with pool_of(Member("a", factory=lambda: AStreams())) as pool:
            assert rest(pool.stream(Request("x"))) == ["x", 1, 2]


@pytest.mark.parametrize("producer", PRODUCERS)
class TestLatency:
    def test_b49_a_stream_is_as_fast_as_its_first_chunk(self, producer: Producer) -> None:
        """What members and strategies know of its latency is the time to the first chunk."""
        clock = FakeClock()
        a = producer("", After(clock, 0.5), 1, After(clock, 10), 2)
        with pool_of(*ranked(a=a), clock=clock) as pool:
            stream = pool.stream(Request("x"))
            clock.wait_until_sleeping()
            clock.advance(0.5)
            assert take(stream, 2) == ["", 1]
            clock.wait_until_sleeping()
            clock.advance(10)
            assert rest(stream) == [2]
            stats = pool.stats()["a"]
            assert (stats.latency_p50_s, stats.latency_p95_s) == (0.5, 0.5)

    def test_b49_known_while_it_flows(self, producer: Producer) -> None:
        """The strategy does not wait for the end of a stream to know how fast it began."""
        clock, hold = FakeClock(), Hold()
        slow, fast = producer(After(clock, 5), "slow", hold), producer("fast", hold)
        members = [Member("slow", slow, max_concurrency=9), Member("fast", fast, max_concurrency=9)]
        strategy = LoadBalanceStrategy.LEAST_LATENCY
        with pool_of(*members, clock=clock, strategy=strategy) as pool:
            first, second = pool.stream(Request(1)), pool.stream(Request(2))
            clock.wait_until_sleeping()
            clock.advance(5)
            assert sorted(take(first, 1) + take(second, 1)) == ["fast", "slow"]
            for number in range(3):
                assert take(pool.stream(Request(number)), 1) == ["fast"]
            hold.open()

    def test_b49_a_long_stream_that_breaks_off(self, producer: Producer) -> None:
        """It does not make its member slow: a failure late in a stream is no slow answer."""
        clock = FakeClock()
        a = producer(1, After(clock, 600), OSError("gone"))
        b = producer(After(clock, 60), 2)
        members = [Member("a", a), Member("b", b)]
        config: dict[str, Any] = {"chunk_timeout_s": 1000.0, "first_chunk_timeout_s": 1000.0}
        strategy = LoadBalanceStrategy.LEAST_LATENCY
        with pool_of(*members, clock=clock, strategy=strategy, **config) as pool:
            broken, other = pool.stream(Request("x")), pool.stream(Request("y"))
            clock.wait_until_sleeping(2)
            clock.advance(600)
            assert rest(other) == [2]
            with pytest.raises(StreamInterruptedError) as raised:
                rest(broken)
            assert raised.value.errors[0].elapsed_s == 600
            pool.stats()
            assert take(pool.stream(Request("z")), 1) == [1]


class TestPool:
    def test_a_stopped_pool(self) -> None:
        """Iterating raises PoolStoppedError, and Pykka's own error for a dead actor."""
        with pool_of(Member("a", sync_generator)) as pool:
            pass
        for read in READERS:
            with pytest.raises(PoolStoppedError) as raised:
                within(read, pool.stream(Request("x")))
            assert isinstance(raised.value, pykka.ActorDeadError)

    def test_a_draining_pool(self) -> None:
        """It waits for the streams that flow, and takes no new one."""
        hold = Hold()
        with pool_of(Member("a", Chunks(1, hold, 2))) as pool:
            stream = pool.stream(Request("x"))
            assert take(stream, 1) == [1]
            draining = pool.ask(Drain(None), block=False)
            with pytest.raises(PoolStoppedError, match="draining"):
                rest(pool.stream(Request("y")))
            assert not draining.done()
            hold.open()
            assert rest(stream) == [2]
            assert draining.get(timeout=WAIT_S)

    def test_what_has_arrived_outlives_the_pool(self) -> None:
        """A stream that has come to its end can be read after the stop."""
        a = Chunks(1, 2)
        with pool_of(Member("a", a)) as pool:
            stream = pool.stream(Request("x"))
            assert a.wait_ended() == "end"
            assert pool.drain(timeout=WAIT_S)
        assert rest(stream) == [1, 2]

    def test_a_saturated_pool(self) -> None:
        """Iterating raises what ask raises."""
        agent = Held()
        with pool_of(Member("a", agent), max_pending=0) as pool:
            pool.tell(Request("x"))
            agent.wait_entered()
            with pytest.raises(PoolSaturatedError):
                rest(pool.stream(Request("y")))
            agent.let_go()

    def test_a_stream_waits_its_turn(self) -> None:
        """For a free slot, like any request."""
        hold = Hold()
        with pool_of(Member("a", Chunks(hold, 1), max_concurrency=1)) as pool:
            first, second = pool.stream(Request("x")), pool.stream(Request("y"))
            hold.wait_reached()
            assert pool.stats().pending == 1
            hold.open()
            assert rest(first) == rest(second) == [1]

    @pytest.mark.parametrize("read", READERS)
    def test_a_deadline_before_the_first_chunk(self, read: Read) -> None:
        """A `DeadlineExceededError`, which is a TimeoutError, as for an ask."""
        clock, hold = FakeClock(), Hold()
        with pool_of(Member("a", Chunks(hold, 1)), clock=clock) as pool:
            stream = pool.stream(Request("x"), timeout=2)
            hold.wait_reached()
            clock.advance(2)
            with pytest.raises(DeadlineExceededError) as raised:
                within(read, stream)
            assert isinstance(raised.value, TimeoutError)
            hold.open()

    @pytest.mark.parametrize("message", ["x", None, GetStats(), Drain(None)], ids=repr)
    def test_messages_that_cannot_stream(self, message: Any) -> None:
        """Only a request can; said at once, with what was given."""
        with (
            pool_of(Member("a", sync_generator)) as pool,
            pytest.raises(TypeError, match="message must be a Request or an Apply, got"),
        ):
            pool.stream(message)

    @pytest.mark.parametrize("timeout", [-1, "1", True, float("nan")])
    def test_timeouts_that_are_none(self, timeout: Any) -> None:
        """Said at once, with the field."""
        with (
            pool_of(Member("a", sync_generator)) as pool,
            pytest.raises((TypeError, ValueError), match="timeout must be"),
        ):
            pool.stream(Request("x"), timeout=timeout)

    def test_a_request_id_that_is_taken(self) -> None:
        """Iterating raises the ValueError; the stream that has the id flows on."""
        hold = Hold()
        with pool_of(Member("a", Chunks(1, hold, 2), max_concurrency=2)) as pool:
            stream = pool.stream(Request("x", request_id="r1"))
            assert take(stream, 1) == [1]
            with pytest.raises(ValueError, match="request_id must be unique"):
                rest(pool.stream(Request("x", request_id="r1")))
            hold.open()
            assert rest(stream) == [2]


class TestReading:
    @pytest.mark.parametrize("read", READERS)
    def test_again_after_the_end(self, read: Read) -> None:
        """It can be read once: the second time there is nothing."""
        with pool_of(Member("a", sync_generator)) as pool:
            stream = pool.stream(Request("x"))
            assert within(read, stream) == ["x", 1, 2]
            assert within(read, stream) == rest(stream) == []

    def test_collecting(self) -> None:
        """All chunks that have not been taken yet, sync and async."""
        with pool_of(Member("a", sync_generator)) as pool:
            stream = pool.stream(Request("x"))
            assert take(stream, 1) == ["x"]
            assert within(stream.collect) == [1, 2]
            other = pool.stream(Request("y"))
            assert take(other, 2) == ["y", 1]
            assert within(lambda: asyncio.run(other.acollect())) == [2]

    def test_collecting_what_breaks_off(self) -> None:
        """The error has all the chunks, however many."""
        with pool_of(Member("a", Chunks(*range(2500), OSError("gone")))) as pool:
            stream = pool.stream(Request("x"))
            with pytest.raises(StreamInterruptedError) as raised:
                within(lambda: asyncio.run(stream.acollect()))
            assert raised.value.received == tuple(range(2500))
            assert raised.value.received_count == 2500

    @pytest.mark.parametrize("readers", [[by_for] * 2, [by_async_for] * 2, [by_for, by_async_for]])
    def test_two_threads_read_one_stream(self, readers: list[Read]) -> None:
        """No chunk is lost, and none comes twice; each of them has its own in order."""
        with pool_of(Member("a", Chunks(*range(2000))), stream_buffer=8) as pool:
            stream = pool.stream(Request("x"))
            reading = [Doing(functools.partial(read, stream)) for read in readers]
            parts = [each.result() for each in reading]
            assert sorted(parts[0] + parts[1]) == list(range(2000))
            assert all(part == sorted(part) for part in parts)

    def test_200_streams_at_once(self) -> None:
        """Each has its own chunks, sync and async ones together."""

        def sync(payload: int) -> Iterator[int]:
            yield from range(payload, payload + 50)

        async def asynchronous(payload: int) -> AsyncIterator[int]:
            for number in range(payload, payload + 50):
                yield number
                if number % 7 == 0:
                    await asyncio.sleep(0)

        members = [
            Member("sync", sync, max_concurrency=20),
            Member("async", asynchronous, max_concurrency=100),
        ]
        with pool_of(*members, strategy="adaptive", stream_buffer=4) as pool:

            async def read(number: int) -> tuple[str, list[int]]:
                stream = pool.stream(Request(number))
                chunks = [chunk async for chunk in stream]
                return stream.member or "", chunks

            async def main() -> list[tuple[str, list[int]]]:
                return await asyncio.gather(*(read(number) for number in range(200)))

            answers = Doing(lambda: asyncio.run(main())).result()
            assert [chunks for _, chunks in answers] == [list(range(n, n + 50)) for n in range(200)]
            assert set(Counter(member for member, _ in answers)) == {"sync", "async"}
            stats = pool.stats()
            assert (stats.completed, stats.failed, stats.in_flight) == (200, 0, 0)

    def test_threads_and_slots_of_many_streams_come_back(self) -> None:
        """After streams that ended, broke off, and were left."""
        a = Chunks(endless=(n for n in iter(int, 1)))
        with pool_of(Member("a", a, max_concurrency=1), name="own", stream_buffer=2) as pool:
            for _ in range(50):
                for chunk in pool.stream(Request("x")):
                    assert chunk == 0
                    break
            wait_free(pool)
            ours = [t for t in threading.enumerate() if t.name.startswith("greenroom-own-a")]
            assert len(ours) == 1
            assert pool.stats().cancelled == 50

    def test_its_repr_reads_well(self) -> None:
        """Whose it is, how far it has come."""
        hold = Hold()
        with pool_of(Member("a", Chunks(hold, 1))) as pool:
            stream = pool.stream(Request("x", request_id="r1"))
            assert stream.request_id == "r1"
            assert repr(stream) == "<PoolStream r1, not begun, 0 chunks taken>"
            hold.open()
            assert take(stream, 1) == [1]
            assert rest(stream) == []
            assert repr(stream) == "<PoolStream r1 of a, ended, 1 chunks taken>"


def test_types() -> None:
    """What a type checker knows: `mypy` on this file is the test."""

    class Agent:
        def tokens(self, payload: object = None) -> Iterator[str]:
            yield "a"

        async def atokens(self) -> AsyncIterator[bytes]:
            yield b"a"

    def tokens(agent: Agent) -> Iterator[str]:
        return agent.tokens()

    def atokens(agent: Agent) -> AsyncIterator[bytes]:
        return agent.atokens()

    async def coroutine_of_bytes(agent: Agent) -> AsyncIterator[bytes]:
        return agent.atokens()

    async def coroutine_of_floats(agent: Agent) -> Iterator[float]:
        return iter([1.0])

    def plain(agent: Agent) -> int:
        return 1

    async def plain_coroutine(agent: Agent) -> complex:
        return 1j

    with pool_of(Member("a", Agent(), method="tokens")) as pool:
        assert_type(pool.stream(Request("x")), PoolStream[Any])
        stream = pool.stream(Apply(tokens))
        assert_type(stream, PoolStream[str])
        assert_type(pool.stream(Apply(atokens)), PoolStream[bytes])
        for chunk in stream:
            assert_type(chunk, str)
        assert_type(stream.collect(), list[str])
        with pool.stream(Apply(tokens)) as opened:
            assert_type(next(opened), str)
        assert_type(pool.stream(Apply(coroutine_of_bytes)), PoolStream[bytes])
        assert_type(pool.stream(Apply(coroutine_of_floats)), PoolStream[float])
        assert_type(pool.stream(Apply(plain)), PoolStream[int])
        assert_type(pool.stream(Apply(plain_coroutine)), PoolStream[complex])
