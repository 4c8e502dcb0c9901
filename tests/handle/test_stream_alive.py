"""Signs of life: `CallContext.alive()`, and the limits of chunks for an ask."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from helpers_actors import stop_member
from helpers_pools import WAIT_S, pool_of, ranked
from helpers_streams import PRODUCERS, After, Chunks, Doing, Hold, Producer, rest, take

from greenroom import (
    Apply,
    AttemptTimeoutError,
    CallContext,
    DeadlineExceededError,
    FailureKind,
    Member,
    PoolRef,
    Request,
    StreamInterruptedError,
)
from greenroom.actors.claims.claims import Claims
from greenroom.testing import FakeClock, ScriptedAgent


class Thinks:
    """A generator that says that it is alive every 0.9 s; `made` of it is a member's agent.

    Args:
        before, after: how often before its first chunk, and after it.
    """

    def __init__(self, clock: FakeClock, before: int = 0, after: int = 0) -> None:
        self.clock = clock
        self.before = before
        self.after = after

    def sync(self, payload: Any, context: CallContext) -> Iterator[Any]:
        for chunk, times in ((1, self.before), (2, self.after)):
            for _ in range(times):
                self.clock.block(0.9)
                context.alive()
            yield chunk

    async def asynchronous(self, payload: Any, context: CallContext) -> AsyncIterator[Any]:
        for chunk, times in ((1, self.before), (2, self.after)):
            for _ in range(times):
                await self.clock.sleep(0.9)
                context.alive()
            yield chunk

    def made(self, is_async: bool) -> Any:
        return self.asynchronous if is_async else self.sync


def advance(clock: FakeClock, times: int, seconds: float = 0.9) -> None:
    for _ in range(times):
        clock.wait_until_sleeping()
        clock.advance(seconds)


@pytest.mark.parametrize("is_async", [False, True])
class TestAlive:
    @pytest.mark.parametrize("limit", ["first_chunk_timeout_s", "request_timeout_s"])
    def test_before_the_first_chunk(self, is_async: bool, limit: str) -> None:
        """Whatever bounds the wait for it begins anew, and the stream does not begin."""
        clock = FakeClock()
        agent = Thinks(clock, before=9).made(is_async)
        config: dict[str, Any] = {limit: 1.0}
        with pool_of(*ranked(a=agent, b=Chunks("b")), clock=clock, **config) as pool:
            stream = pool.stream(Request("x"))
            advance(clock, 8)
            clock.wait_until_sleeping()
            assert not stream.first().done()
            clock.advance(0.9)
            assert rest(stream) == [1, 2]
            assert (stream.member, stream.attempts) == ("a", 1)

    @pytest.mark.parametrize("limit", ["chunk_timeout_s", "request_timeout_s"])
    def test_between_chunks(self, is_async: bool, limit: str) -> None:
        """The same for each further one."""
        clock = FakeClock()
        agent = Thinks(clock, after=9).made(is_async)
        config: dict[str, Any] = {limit: 1.0}
        with pool_of(Member("a", agent), clock=clock, **config) as pool:
            stream = pool.stream(Request("x"))
            assert take(stream, 1) == [1]
            advance(clock, 9)
            assert rest(stream) == [2]

    def test_it_buys_no_more_than_its_time(self, is_async: bool) -> None:
        """Who has said it once and hangs then is left when the limit is over."""
        clock, hold = FakeClock(), Hold()

        def sync(payload: Any, context: CallContext) -> Iterator[Any]:
            clock.block(0.9)
            context.alive()
            hold.block()
            yield 1

        async def asynchronous(payload: Any, context: CallContext) -> AsyncIterator[Any]:
            await clock.sleep(0.9)
            context.alive()
            await hold.pause()
            yield 1

        agent: Any = asynchronous if is_async else sync
        limits: dict[str, Any] = {"first_chunk_timeout_s": 1.0}
        with pool_of(*ranked(a=agent, b=Chunks("b")), clock=clock, **limits) as pool:
            stream = pool.stream(Request("x"))
            advance(clock, 1)
            hold.wait_reached()
            clock.advance(0.9)
            assert pool.stats().in_flight == 1
            clock.advance(0.1)
            assert rest(stream) == ["b"]
            assert stream.errors[0].kind is FailureKind.TIMEOUT
            hold.open()

    def test_an_ask_that_collects(self, is_async: bool) -> None:
        """It counts there, too, if a limit of chunks is set."""
        clock = FakeClock()
        agent = Thinks(clock, before=3, after=3).made(is_async)
        limits: dict[str, Any] = {"first_chunk_timeout_s": 1.0, "chunk_timeout_s": 1.0}
        with pool_of(Member("a", agent), clock=clock, **limits) as pool:
            future = pool.ask(Request("x"), block=False)
            advance(clock, 6)
            assert future.get(timeout=WAIT_S).value == [1, 2]

    def test_it_puts_off_no_limit_of_an_ask(self, is_async: bool) -> None:
        """`request_timeout_s` is for the whole attempt, a deadline for the whole request."""
        clock = FakeClock()
        agent = Thinks(clock, before=9).made(is_async)
        members = ranked(a=agent, b=ScriptedAgent(["b"]))
        with pool_of(*members, clock=clock, request_timeout_s=2.0) as pool:
            future = pool.ask(Request("x"), block=False)
            advance(clock, 2)
            clock.wait_until_sleeping()
            clock.advance(0.2)
            assert future.get(timeout=WAIT_S).value == "b"
            clock.advance(0.9)
        with pool_of(Member("a", agent), clock=clock) as pool:
            stream = pool.stream(Request("x"), timeout=2)
            advance(clock, 2)
            clock.wait_until_sleeping()
            clock.advance(0.2)
            with pytest.raises(DeadlineExceededError):
                rest(stream)
            clock.advance(0.9)

    def test_it_reaches_the_outer_pool(self, is_async: bool) -> None:
        """Through a pool in a pool in a pool, for a stream and for an ask."""
        clock = FakeClock()
        agent = Thinks(clock, before=4, after=4).made(is_async)
        limits: dict[str, Any] = {"first_chunk_timeout_s": 1.0, "chunk_timeout_s": 1.0}
        with (
            pool_of(Member("a", agent), clock=clock, name="inner") as inner,
            pool_of(Member("inner", inner), clock=clock, name="middle", **limits) as middle,
            pool_of(Member("middle", middle), clock=clock, name="outer", **limits) as outer,
        ):
            stream = outer.stream(Request("x"))
            advance(clock, 4)
            assert take(stream, 1) == [1]
            advance(clock, 4)
            assert rest(stream) == [2]
            future = outer.ask(Request("x"), block=False)
            advance(clock, 8)
            assert future.get(timeout=WAIT_S).value == [1, 2]

    @pytest.mark.parametrize("streams", [False, True])
    def test_in_a_call_that_was_given_up(self, is_async: bool, streams: bool) -> None:
        """There is nothing left to work for: RequestCancelledError."""
        told: list[str] = []
        hold, done = Hold(), threading.Event()

        def say(context: CallContext) -> None:
            try:
                context.alive()
            except BaseException as error:
                told.append(type(error).__name__)
                raise
            finally:
                done.set()

        def sync(payload: Any, context: CallContext) -> Iterator[Any]:
            if streams:
                yield 1
            hold.block()
            say(context)
            yield 2

        async def asynchronous(payload: Any, context: CallContext) -> AsyncIterator[Any]:
            if streams:
                yield 1
            try:
                await hold.pause()
            finally:
                say(context)
            yield 2

        agent: Any = asynchronous if is_async else sync
        with pool_of(Member("a", agent)) as pool:
            if streams:
                stream = pool.stream(Request("x"))
                assert take(stream, 1) == [1]
                hold.wait_reached()
                stream.cancel()
            else:
                future = pool.ask(Request("x"), block=False)
                hold.wait_reached()
                future.cancel()
                pool.stats()
            hold.open()
            assert done.wait(WAIT_S)
            assert told == ["RequestCancelledError"]

    def test_where_nobody_watches(self, is_async: bool) -> None:
        """A plain agent, a tell: it does nothing."""

        def sync(payload: Any, context: CallContext) -> Any:
            for _ in range(1000):
                context.alive()
            return payload

        async def asynchronous(payload: Any, context: CallContext) -> Any:
            return sync(payload, context)

        agent: Any = asynchronous if is_async else sync
        with pool_of(Member("a", agent)) as pool:
            assert pool.execute("x", timeout=WAIT_S) == "x"
            assert rest(pool.stream(Request("y"))) == ["y"]
            pool.tell(Request("z"))
            assert pool.drain(timeout=WAIT_S)
            assert pool.stats().completed == 3


def test_from_another_thread_while_the_consumer_holds_it_back() -> None:
    """A held back agent owes nothing; it may say that it is alive all the same."""
    clock = FakeClock()
    contexts: list[CallContext] = []

    def agent(payload: Any, context: CallContext) -> Iterator[Any]:
        contexts.append(context)
        yield from (1, 2)
        clock.block(0.9)
        yield 3

    with pool_of(Member("a", agent), clock=clock, chunk_timeout_s=1.0, stream_buffer=2) as pool:
        stream = pool.stream(Request("x"))
        stream.first().get(timeout=WAIT_S)
        clock.advance(5)
        contexts[0].alive()
        clock.advance(5)
        assert take(stream, 2) == [1, 2]
        clock.wait_until_sleeping()
        clock.advance(0.9)
        assert rest(stream) == [3]


def test_a_context_of_ones_own_needs_nobody_to_hear() -> None:
    """As in a test of an agent."""
    context = CallContext(request_id="r", member="m", now=lambda: 0.0, on_side_effects=lambda: None)
    context.alive()


@pytest.mark.parametrize("producer", PRODUCERS)
class TestAskLimits:
    def test_a_first_chunk_that_does_not_come(self, producer: Producer) -> None:
        """An ask collects: a silent generator is left for another member."""
        clock, hold = FakeClock(), Hold()
        a, b = producer("", hold, "late"), producer(1, 2)
        with pool_of(*ranked(a=a, b=b), clock=clock, first_chunk_timeout_s=1.0) as pool:
            future = pool.ask(Request("x"), block=False)
            hold.wait_reached()
            clock.advance(1)
            reply = future.get(timeout=WAIT_S)
            assert (reply.value, reply.member) == ([1, 2], "b")
            assert str(reply.errors[0].error) == "a did not answer within first_chunk_timeout_s=1"
            hold.open()
            assert a.wait_ended() in ("GeneratorExit", "CancelledError")

    def test_a_further_chunk_that_does_not_come(self, producer: Producer) -> None:
        """Nor does an empty one buy time."""
        clock, hold = FakeClock(), Hold()
        a = producer(1, After(clock, 0.6), "", hold, "late")
        with pool_of(*ranked(a=a, b=producer(2)), clock=clock, chunk_timeout_s=1.0) as pool:
            future = pool.ask(Request("x"), block=False)
            clock.wait_until_sleeping()
            clock.advance(0.6)
            hold.wait_reached()
            clock.advance(0.4)
            reply = future.get(timeout=WAIT_S)
            assert reply.value == [2]
            assert isinstance(reply.errors[0].error, AttemptTimeoutError)
            assert str(reply.errors[0].error) == "a sent no further chunk within chunk_timeout_s=1"
            hold.open()
            assert a.wait_ended() in ("GeneratorExit", "CancelledError")

    def test_chunks_in_time(self, producer: Producer) -> None:
        """The limits are from chunk to chunk; that of the attempt is `request_timeout_s`."""
        clock = FakeClock()
        steps = [step for number in range(10) for step in (After(clock, 0.9), number)]
        limits: dict[str, Any] = {"first_chunk_timeout_s": 1.0, "chunk_timeout_s": 1.0}
        members = ranked(a=producer(*steps), b=ScriptedAgent(["b"]))
        with pool_of(*members, clock=clock, **limits) as pool:
            future = pool.ask(Request("x"), block=False)
            advance(clock, 10)
            assert future.get(timeout=WAIT_S).value == list(range(10))
        with pool_of(*members, clock=clock, request_timeout_s=5.0, **limits) as pool:
            future = pool.ask(Request("x"), block=False)
            advance(clock, 5)
            clock.wait_until_sleeping()
            clock.advance(0.6)
            reply = future.get(timeout=WAIT_S)
            assert (reply.value, str(reply.errors[0].error)) == (
                "b",
                "a did not answer within request_timeout_s=5",
            )
            clock.advance(0.3)

    def test_they_are_not_for_an_answer_that_does_not_stream(self, producer: Producer) -> None:
        """It has `request_timeout_s`."""
        clock = FakeClock()

        def sync(payload: Any) -> Any:
            clock.block(9)
            return "answer"

        async def asynchronous(payload: Any) -> Any:
            await clock.sleep(9)
            return "answer"

        limits: dict[str, Any] = {"first_chunk_timeout_s": 1.0, "chunk_timeout_s": 1.0}
        for agent in (sync, asynchronous):
            with pool_of(Member("a", agent), clock=clock, **limits) as pool:
                future = pool.ask(Request("x"), block=False)
                clock.wait_until_sleeping()
                clock.advance(9)
                assert future.get(timeout=WAIT_S).value == "answer"

    def test_an_apply_and_a_tell(self, producer: Producer) -> None:
        """They collect, too."""
        clock, hold = FakeClock(), Hold()
        a, b = producer(1, hold), producer(2)

        def call(agent: Any) -> Any:
            return agent("x")

        with pool_of(*ranked(a=a, b=b), clock=clock, chunk_timeout_s=1.0) as pool:
            future = pool.ask(Apply(call), block=False)
            hold.wait_reached()
            clock.advance(1)
            assert future.get(timeout=WAIT_S).value == [2]
            pool.force_open("a")
            pool.tell(Request("x"))
            assert pool.drain(timeout=WAIT_S)
            assert b.calls == 2
            hold.open()

    def test_a_member_that_ends_meanwhile(self, producer: Producer) -> None:
        """Half a list is no answer: the request goes to another member, or has all of it."""
        hold = Hold()
        a, b = producer(1, hold, 2), producer(3)
        limits: dict[str, Any] = {"first_chunk_timeout_s": 9.0, "chunk_timeout_s": 9.0}
        with pool_of(*ranked(a=a, b=b), clock=FakeClock(), **limits) as pool:
            future = pool.ask(Request("x"), block=False)
            hold.wait_reached()
            stop_member(pool, "a")
            hold.open()
            assert future.get(timeout=WAIT_S).value in ([1, 2], [3])

    def test_an_inner_pool(self, producer: Producer) -> None:
        """The inner pool's limits are for its own agents."""
        clock, hold = FakeClock(), Hold()
        members = ranked(a=producer(1, hold), b=producer(2))
        with (
            pool_of(*members, clock=clock, name="inner", chunk_timeout_s=1.0) as inner,
            pool_of(Member("inner", inner), clock=clock) as outer,
        ):
            future = outer.ask(Request("x"), block=False)
            hold.wait_reached()
            clock.advance(1)
            assert future.get(timeout=WAIT_S).value == [2]
            hold.open()

    def test_what_has_ended_in_time_is_not_looked_at(self, producer: Producer) -> None:
        """Nothing goes off later, though an id is used again."""
        clock, agent = FakeClock(), producer(1)
        limits: dict[str, Any] = {"first_chunk_timeout_s": 1.0, "chunk_timeout_s": 1.0}
        with pool_of(Member("a", agent), clock=clock, **limits) as pool:
            for _ in range(3):
                assert ask_as(pool, "r") == [1]
                clock.advance(5)
            assert pool.stats()["a"].failures == 0


def ask_as(pool: PoolRef, request_id: str) -> Any:
    future = Doing(lambda: pool.ask(Request("x", request_id=request_id), timeout=WAIT_S).value)
    return future.result()


def test_a_stream_that_was_alive_and_then_broke_off() -> None:
    """The error says what the limit was."""
    clock, hold = FakeClock(), Hold()

    def agent(payload: Any, context: CallContext) -> Iterator[Any]:
        yield 1
        clock.block(0.9)
        context.alive()
        hold.block()

    with pool_of(Member("a", agent), clock=clock, chunk_timeout_s=1.0) as pool:
        stream = pool.stream(Request("x"))
        assert take(stream, 1) == [1]
        advance(clock, 1)
        hold.wait_reached()
        clock.advance(1)
        with pytest.raises(StreamInterruptedError, match="chunk_timeout_s=1"):
            rest(stream)
        hold.open()


@pytest.mark.parametrize("say", [CallContext.alive, CallContext.started_side_effects])
def test_who_has_just_begun_a_stream_has_not_been_given_up(
    monkeypatch: pytest.MonkeyPatch, say: Callable[[CallContext], None]
) -> None:
    """Of a pool as an agent, the inner one's agent may say something while the outer one is still
    about to note that the stream is its own: its consumer has the first chunk by then.
    """
    contexts: list[CallContext] = []
    begin = Claims.begin

    def agent(payload: Any, context: CallContext) -> Iterator[int]:
        contexts.append(context)
        yield 1
        yield 2

    def begin_and_say(*args: Any) -> Any:
        begun = begin(*args)
        say(contexts[0])
        return begun

    monkeypatch.setattr(Claims, "begin", begin_and_say)
    with pool_of(Member("a", agent), max_retries=0, chunk_timeout_s=60.0) as pool:
        assert list(pool.stream(Request("x"), timeout=WAIT_S)) == [1, 2]
