"""Streams that break off after their first chunk: `on_cut`, three ways."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from helpers_actors import stop_member
from helpers_pools import WAIT_S, pool_of, ranked
from helpers_streams import (
    GONE,
    PRODUCERS,
    READERS,
    AsyncChunks,
    Chunks,
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
    AttemptTimeoutError,
    CallContext,
    DeadlineExceededError,
    FailureKind,
    Member,
    PoolRef,
    PoolStoppedError,
    PoolStream,
    Request,
    Restarted,
    StreamInterruptedError,
)
from greenroom.messages import AttemptFailed
from greenroom.testing import EventRecorder, FakeClock, ScriptedAgent, ScriptedHTTPError, http_error


def cut(**options: Any) -> dict[str, Any]:
    """The settings of a pool whose streams start over."""
    return {"on_cut": "restart", **options}


def started_over(member: str, attempt: int, dropped: int, error: str = "gone") -> Restarted:
    return Restarted(member, FailureKind.UNAVAILABLE, f"ConnectionError: {error}", attempt, dropped)


def broken(stream: PoolStream[Any]) -> tuple[list[Any], StreamInterruptedError]:
    """What a stream still has, and the error with which it breaks off."""
    chunks: list[Any] = []

    def read() -> None:
        for chunk in stream:
            chunks.append(chunk)

    with pytest.raises(StreamInterruptedError) as raised:
        within(read)
    return chunks, raised.value


@pytest.mark.parametrize("producer", PRODUCERS)
class TestRestart:
    @pytest.mark.parametrize("read", READERS)
    def test_another_member_starts_over(self, producer: Producer, read: Read) -> None:
        """The consumer is told that what it had is void, and has the whole answer."""
        hold = Hold()
        a, b = producer("", 1, 2, hold, GONE), producer("", 3, 4)
        with pool_of(*ranked(a=a, b=b), **cut()) as pool:
            stream = pool.stream(Request("x"))
            assert take(stream, 3) == ["", 1, 2]
            hold.open()
            assert within(read, stream) == [started_over("a", 2, 3), "", 3, 4]
            assert (stream.member, stream.attempts) == ("b", 2)
            assert [(each.member, each.error) for each in stream.errors] == [("a", GONE)]
            assert (a.payloads, b.payloads) == (["x"], ["x"])
            stats = pool.stats()
            assert (stats["a"].failures, stats.completed, stats.failed, stats.retries) == (
                1,
                1,
                0,
                1,
            )

    @pytest.mark.parametrize("read", READERS)
    def test_what_has_not_been_delivered_is_dropped(self, producer: Producer, read: Read) -> None:
        """The mark takes its place as soon as the other member has its first chunk."""
        hold = Hold()
        a, b = producer(1, 2, 3, 4, hold, GONE), producer(5, 6)
        with pool_of(*ranked(a=a, b=b), **cut()) as pool:
            stream = pool.stream(Request("x"))
            assert take(stream, 1) == [1]
            hold.wait_reached()
            hold.open()
            assert b.wait_ended() == "end"
            assert within(read, stream) == [started_over("a", 2, 1), 5, 6]

    def test_collecting_returns_the_whole_only(self, producer: Producer) -> None:
        """Sync and async, whatever was taken before by hand."""
        for how in (lambda s: s.collect(), lambda s: asyncio.run(s.acollect())):
            hold = Hold()
            a, b = producer(1, 2, hold, GONE), producer(3, 4)
            with pool_of(*ranked(a=a, b=b), **cut()) as pool:
                stream = pool.stream(Request("x"))
                assert take(stream, 1) == [1]
                hold.open()
                assert within(how, stream) == [3, 4]

    def test_an_ask_has_the_whole_only(self, producer: Producer) -> None:
        """As ever: it fails over whenever its agent fails."""
        a, b = producer(1, 2, GONE), producer(3, 4)
        with pool_of(*ranked(a=a, b=b), **cut()) as pool:
            reply = pool.ask(Request("x"), timeout=WAIT_S)
            assert (reply.value, reply.member, reply.attempts) == ([3, 4], "b", 2)
            assert [each.member for each in reply.errors] == ["a"]

    def test_a_chunk_that_does_not_come(self, producer: Producer) -> None:
        """`chunk_timeout_s` is a cut; the late chunk of the one that was cut is nobody's."""
        clock, hold = FakeClock(), Hold()
        a, b = producer(1, hold, "late"), producer(2, 3)
        with pool_of(*ranked(a=a, b=b), clock=clock, **cut(chunk_timeout_s=1.0)) as pool:
            stream = pool.stream(Request("x"))
            assert take(stream, 1) == [1]
            hold.wait_reached()
            clock.advance(1)
            chunks = rest_with_marks(stream)
            assert [type(chunk) for chunk in chunks] == [Restarted, int, int]
            assert (chunks[0].kind, chunks[0].error) == (
                FailureKind.TIMEOUT,
                "AttemptTimeoutError: a sent no further chunk within chunk_timeout_s=1",
            )
            hold.open()
            assert a.wait_ended() in ("GeneratorExit", "CancelledError")

    def test_the_one_that_starts_over_has_the_same_limits(self, producer: Producer) -> None:
        """For its first chunk and for each further one; no longer."""
        clock, hold = FakeClock(), Hold()
        a, b, c = producer(1, hold), producer(hold), producer(2, hold)
        limits: dict[str, Any] = {"first_chunk_timeout_s": 3.0, "chunk_timeout_s": 1.0}
        limits["max_retries"] = 2
        with pool_of(*ranked(a=a, b=b, c=c), clock=clock, **cut(**limits)) as pool:
            stream = pool.stream(Request("x"))
            assert take(stream, 1) == [1]
            hold.wait_reached()
            clock.advance(1)
            hold.wait_reached()
            clock.advance(3)
            assert [type(each) for each in take(stream, 2)] == [Restarted, int]
            hold.wait_reached()
            clock.advance(1)
            _, error = broken(stream)
            assert [str(each.error) for each in error.errors] == [
                "a sent no further chunk within chunk_timeout_s=1",
                "b did not answer within first_chunk_timeout_s=3",
                "c sent no further chunk within chunk_timeout_s=1",
            ]
            assert isinstance(error.__cause__, AttemptTimeoutError)
            hold.open()

    def test_a_member_that_crashes(self, producer: Producer) -> None:
        """Its actor ends between two chunks."""
        hold = Hold()
        a, b = producer(1, hold, "late"), producer(2, 3)
        with pool_of(*ranked(a=a, b=b), **cut()) as pool:
            stream = pool.stream(Request("x"))
            assert take(stream, 1) == [1]
            hold.wait_reached()
            stop_member(pool, "a")
            mark, *chunks = rest_with_marks(stream)
            assert (mark.kind, chunks) == (FailureKind.CRASHED, [2, 3])
            hold.open()
            assert a.wait_ended() in ("GeneratorExit", "CancelledError")

    def test_twice(self, producer: Producer) -> None:
        """One mark for each restart that the consumer has had chunks of."""
        holds = [Hold(), Hold()]
        a = producer(1, 2, holds[0], GONE)
        b = producer(3, holds[1], ConnectionError("too"))
        with pool_of(*ranked(a=a, b=b, c=producer(4, 5)), **cut()) as pool:
            stream = pool.stream(Request("x"))
            assert take(stream, 2) == [1, 2]
            holds[0].open()
            assert take(stream, 2) == [started_over("a", 2, 2), 3]
            holds[1].open()
            assert rest_with_marks(stream) == [started_over("b", 3, 1, "too"), 4, 5]
            assert [each.member for each in stream.errors] == ["a", "b"]

    def test_twice_before_the_consumer_looks(self, producer: Producer) -> None:
        """It is told once, of the last one, and of all that it has had."""
        a, b = producer(1, 2, hold := Hold(), GONE), producer(3, ConnectionError("too"))
        c = producer(4, 5)
        with pool_of(*ranked(a=a, b=b, c=c), **cut()) as pool:
            stream = pool.stream(Request("x"))
            assert take(stream, 2) == [1, 2]
            hold.open()
            assert c.wait_ended() == "end"
            assert rest_with_marks(stream) == [started_over("b", 3, 2, "too"), 4, 5]

    def test_the_other_has_no_chunk_at_all(self, producer: Producer) -> None:
        """Its whole answer is none: the half of the first is void all the same."""
        hold = Hold()
        a, b = producer(1, 2, hold, GONE), producer(endless=())
        with pool_of(*ranked(a=a, b=b), **cut(is_failure=None)) as pool:
            stream = pool.stream(Request("x"))
            assert take(stream, 1) == [1]
            hold.open()
            chunks = rest_with_marks(stream)
            assert chunks[-1] == started_over("a", 2, len(chunks))
            assert stream.collect() == []

    def test_a_plain_answer_starts_over_too(self, producer: Producer) -> None:
        """An agent that does not stream answers with one chunk."""
        with pool_of(*ranked(a=producer(1, GONE), b=ScriptedAgent(["all of it"])), **cut()) as pool:
            assert rest(pool.stream(Request("x"))) == ["all of it"]

    def test_a_cut_after_the_last_chunk_was_delivered(self, producer: Producer) -> None:
        """Whoever waits for the next one is woken by the mark."""
        hold = Hold()
        a, b = producer(1, hold, GONE), producer(2)
        with pool_of(*ranked(a=a, b=b), **cut()) as pool:
            stream = pool.stream(Request("x"))
            assert take(stream, 1) == [1]
            woken = threading.Timer(0, hold.open)
            woken.start()
            assert take(stream, 2) == [started_over("a", 2, 1), 2]

    def test_leaving_while_nobody_has_started_over_yet(self, producer: Producer) -> None:
        """The next one is closed like the first, and nothing more is counted."""
        a, b = producer(1, GONE), producer(hold := Hold(), 2)
        with pool_of(*ranked(a=a, b=b), **cut()) as pool:
            stream = pool.stream(Request("x"))
            hold.wait_reached()
            stream.close()
            hold.open()
            assert b.wait_ended() in ("GeneratorExit", "CancelledError")
            stats = pool.stats()
            assert (stats.cancelled, stats.failed, stats["b"].failures) == (1, 0, 0)


def rest_with_marks(stream: PoolStream[Any]) -> list[Any]:
    return within(by_for, stream)


@pytest.mark.parametrize("producer", PRODUCERS)
class TestWhoStartsOver:
    def test_never_the_one_that_was_cut(self, producer: Producer) -> None:
        """Not even where `priority` prefers it and it is the only one left that passes with time:
        nobody is there, so it breaks off as with "raise".
        """
        a = producer(1, 2, GONE)
        with pool_of(Member("a", a), **cut()) as pool:
            chunks, error = broken(pool.stream(Request("x")))
            assert (chunks, error.received, error.received_count) == ([1, 2], (1, 2), 2)
            assert error.__cause__ is GONE
            assert (error.member, [each.member for each in error.errors]) == ("a", ["a"])
            assert (a.calls, pool.stats().failed) == (1, 1)

    def test_one_that_is_busy_is_waited_for(self, producer: Producer) -> None:
        """It will be free before long, and the one that was cut is not asked meanwhile."""
        busy, hold = Hold(), Hold()
        a, b = producer(1, hold, GONE), producer(busy, 2)
        members = [Member("a", a, priority=0), Member("b", b, priority=1, max_concurrency=1)]
        with pool_of(*members, **cut()) as pool:
            stream = pool.stream(Request("x"))
            assert take(stream, 1) == [1]
            pool.force_open("a")
            other = pool.stream(Request("y"))
            busy.wait_reached()
            pool.reset_member("a")
            hold.open()
            assert a.wait_ended() == "ConnectionError"
            busy.open()
            assert rest(other) == [2]
            assert rest_with_marks(stream) == [started_over("a", 2, 1), 2]
            assert a.calls == 1

    def test_one_that_asked_for_a_pause_is_asked_again(self, producer: Producer) -> None:
        """It had failed before its first chunk: it is no one that was cut."""
        clock = FakeClock()
        b = ScriptedAgent([ConnectionError("busy"), "whole"])
        members = ranked(b=b, a=producer(1, GONE))
        with EventRecorder() as log, pool_of(*members, clock=clock, **cut(max_retries=3)) as pool:
            stream = pool.stream(Request("x"))
            log.wait_for(AttemptFailed, count=2)
            assert log.named(AttemptFailed)[1].member == "a"
            pool.stats()
            clock.advance(30)
            assert rest(stream) == ["whole"]
            assert (stream.member, stream.attempts) == ("b", 3)

    def test_nobody_who_works(self, producer: Producer) -> None:
        """All the others fail before a chunk of theirs: what the consumer has, and was to have, of
        the first is not taken away; the error lists all of them.
        """
        a, b = producer(1, 2, 3, GONE), producer(ConnectionError("b"))
        with pool_of(*ranked(a=a, b=b), **cut(max_retries=1)) as pool:
            chunks, error = broken(pool.stream(Request("x")))
            assert (chunks, error.received) == ([1, 2, 3], (1, 2, 3))
            assert (error.member, error.__cause__) == ("a", GONE)
            assert [each.member for each in error.errors] == ["a", "b"]

    def test_an_error_that_cannot_be_looked_at(self, producer: Producer) -> None:
        """Whatever it does when it is compared, counted or printed: the stream ends."""

        class Hostile(Exception):
            def __bool__(self) -> bool:
                raise SystemExit("no")

            def __str__(self) -> str:
                raise SystemExit("no")

        with pool_of(*ranked(a=producer(1, Hostile()), b=producer(Hostile())), **cut()) as pool:
            chunks, error = broken(pool.stream(Request("x", max_retries=1)))
            assert (chunks, type(error.__cause__)) == ([1], Hostile)
        with pool_of(*ranked(a=producer(1, Hostile()), b=producer(2)), **cut()) as pool:
            assert rest(pool.stream(Request("x"))) == [2]

    def test_all_are_cut(self, producer: Producer) -> None:
        """`received` is what came of the last one."""
        hold = Hold()
        a, b = producer(1, 2, hold, GONE), producer(3, ConnectionError("too"))
        with pool_of(*ranked(a=a, b=b), **cut()) as pool:
            stream = pool.stream(Request("x"))
            assert take(stream, 2) == [1, 2]
            hold.open()
            chunks, error = broken(stream)
            assert chunks == [started_over("a", 2, 2), 3]
            assert (error.received, error.received_count, error.member) == ((3,), 1, "b")
            assert [str(each.error) for each in error.errors] == ["gone", "too"]

    def test_collecting_what_all_break_off(self, producer: Producer) -> None:
        """It raises with the chunks of the last one, too."""
        members = ranked(a=producer(1, 2, GONE), b=producer(3, ConnectionError("too")))
        with pool_of(*members, **cut()) as pool:
            with pytest.raises(StreamInterruptedError) as raised:
                rest(pool.stream(Request("x")))
            assert raised.value.received == (3,)

    @pytest.mark.parametrize(
        "options",
        [
            {"max_retries": 0},
            {"retry_budget_ratio": 0.0, "retry_budget_floor": 0.0},
        ],
    )
    def test_within_the_bounds_of_retries(
        self, producer: Producer, options: dict[str, Any]
    ) -> None:
        """A restart is a retry: `max_retries` and the budget bound it."""
        a, b = producer(1, GONE), producer(2)
        with pool_of(*ranked(a=a, b=b), **cut(**options)) as pool:
            chunks, error = broken(pool.stream(Request("x")))
            assert (chunks, error.__cause__, b.calls) == ([1], GONE, 0)

    def test_not_what_must_not_be_repeated(self, producer: Producer) -> None:
        """`idempotent=False` has started."""
        a, b = producer(1, GONE), producer(2)
        with pool_of(*ranked(a=a, b=b), **cut()) as pool:
            _, error = broken(pool.stream(Request("x", idempotent=False)))
            assert (error.__cause__, b.calls) == (GONE, 0)

    def test_not_for_the_requests_own_fault(self, producer: Producer) -> None:
        """No other member would do better; the chunks are out, so it broke off."""
        fault = http_error(400)
        a, b = producer(1, fault), producer(2)
        with pool_of(*ranked(a=a, b=b), **cut()) as pool:
            _, error = broken(pool.stream(Request("x")))
            assert (error.__cause__, b.calls) == (fault, 0)

    def test_not_past_the_deadline(self, producer: Producer) -> None:
        """Which ends a stream, wherever it is."""
        clock, hold = FakeClock(), Hold()
        a, b = producer(1, GONE), producer(hold)
        with pool_of(*ranked(a=a, b=b), clock=clock, **cut()) as pool:
            stream = pool.stream(Request("x"), timeout=2)
            hold.wait_reached()
            clock.advance(2)
            chunks, error = broken(stream)
            assert (chunks, error.received) == ([1], (1,))
            assert isinstance(error.__cause__, DeadlineExceededError)
            hold.open()

    def test_not_in_a_pool_that_stops(self, producer: Producer) -> None:
        """It breaks off with the pool's end as its cause."""
        hold = Hold()
        with pool_of(*ranked(a=producer(1, GONE), b=producer(hold)), **cut()) as pool:
            stream = pool.stream(Request("x"))
            hold.wait_reached()
            stopping = pool.stop(block=False)
            chunks, error = broken(stream)
            assert chunks == [1]
            assert isinstance(error.__cause__, PoolStoppedError)
            hold.open()
            stopping.get(timeout=WAIT_S)

    def test_failover_tries_every_member_once(self, producer: Producer) -> None:
        """Whatever `max_retries` says; none twice."""
        members = [
            Member("a", a := producer(1, GONE)),
            Member("b", b := producer(ConnectionError("b"))),
            Member("c", producer(3)),
        ]
        with pool_of(*members, strategy="failover", **cut(max_retries=0)) as pool:
            assert rest(pool.stream(Request("x"))) == [3]
            assert (a.calls, b.calls) == (1, 1)


class TestSideEffects:
    @pytest.mark.parametrize("on_cut", ["restart", "hold"])
    @pytest.mark.parametrize("when", ["before", "after"])
    @pytest.mark.parametrize("is_async", [False, True])
    def test_nothing_is_repeated_after_them(self, on_cut: str, when: str, is_async: bool) -> None:
        """Said before the first chunk or after it."""

        def sync(payload: Any, context: CallContext) -> Iterator[Any]:
            if when == "before":
                context.started_side_effects()
            yield 1
            if when == "after":
                context.started_side_effects()
            raise GONE

        async def asynchronous(payload: Any, context: CallContext) -> AsyncIterator[Any]:
            for chunk in sync(payload, context):
                yield chunk

        b = Chunks(2)
        agent: Any = asynchronous if is_async else sync
        with pool_of(*ranked(a=agent, b=b), on_cut=on_cut) as pool:
            expected = StreamInterruptedError if on_cut == "restart" else AllPoolMembersFailedError
            with pytest.raises(expected):
                rest(pool.stream(Request("x")))
            assert b.calls == 0

    def test_they_do_not_start_in_a_stream_that_is_cut_off(self) -> None:
        """Another member has started over: whoever asks for leave now is refused."""
        clock, hold, outcome = FakeClock(), Hold(), []

        def a(payload: Any, context: CallContext) -> Any:
            yield 1
            hold.block()
            try:
                context.started_side_effects()
            except BaseException as error:
                outcome.append(type(error).__name__)
                raise
            yield 2

        b = Chunks(3)
        with pool_of(*ranked(a=a, b=b), clock=clock, **cut(chunk_timeout_s=1.0)) as pool:
            stream = pool.stream(Request("x"))
            assert take(stream, 1) == [1]
            hold.wait_reached()
            clock.advance(1)
            assert rest(stream) == [3]
            hold.open()
            pool.stop()
        assert outcome in ([], ["RequestCancelledError"])

    @pytest.mark.parametrize("on_cut", ["restart", "hold"])
    def test_they_reach_the_outer_pool(self, on_cut: str) -> None:
        """Though the inner one would not repeat the request in any case."""

        def a(payload: Any, context: CallContext) -> Any:
            yield 1
            context.started_side_effects()
            raise GONE

        b = Chunks(2)
        with (
            pool_of(Member("a", a), name="inner") as inner,
            pool_of(Member("inner", inner), Member("b", b, priority=1), on_cut=on_cut) as outer,
        ):
            with pytest.raises((StreamInterruptedError, AllPoolMembersFailedError)):
                rest(outer.stream(Request("x")))
            assert b.calls == 0


@pytest.mark.parametrize("producer", PRODUCERS)
class TestHold:
    @pytest.mark.parametrize("read", READERS)
    def test_nothing_is_shown_before_the_end(self, producer: Producer, read: Read) -> None:
        """More than the buffer holds; then all of it."""
        hold = Hold()
        a = producer(*range(200), hold, 200)
        with pool_of(*ranked(a=a), on_cut="hold", stream_buffer=4) as pool:
            stream = pool.stream(Request("x"))
            hold.wait_reached()
            assert (a.made, stream._channel.take().__repr__()) == (200, "<no chunk yet>")
            hold.open()
            assert within(read, stream) == list(range(201))
            assert (stream.member, stream.attempts) == ("a", 1)

    @pytest.mark.parametrize("read", READERS)
    def test_every_failure_fails_over(self, producer: Producer, read: Read) -> None:
        """Without a mark: the answer is the other member's alone."""
        a, b = producer("", 1, 2, 3, GONE), producer(4, 5)
        with pool_of(*ranked(a=a, b=b), on_cut="hold") as pool:
            stream = pool.stream(Request("x"))
            assert within(read, stream) == [4, 5]
            assert [each.error for each in stream.errors] == [GONE]
            assert (stream.member, stream.attempts) == ("b", 2)

    def test_the_same_member_again(self, producer: Producer) -> None:
        """It is as with an ask: where there is nobody else, after a pause."""
        clock = FakeClock()
        outcomes = iter([producer(1, GONE), producer(2, 3)])
        agent = ScriptedAgent([lambda payload: next(outcomes)(payload)])
        settings: dict[str, Any] = {"on_cut": "hold", "same_member_retries": 0}
        with EventRecorder() as log, pool_of(Member("a", agent), clock=clock, **settings) as pool:
            stream = pool.stream(Request("x"))
            log.wait_for(AttemptFailed)
            pool.stats()
            clock.advance(1)
            assert rest(stream) == [2, 3]

    def test_all_fail(self, producer: Producer) -> None:
        """Nothing was shown, so nothing broke off: the error is that of an ask."""
        members = ranked(a=producer(1, GONE), b=producer(ConnectionError("b")))
        with pool_of(*members, on_cut="hold", max_retries=1) as pool:
            stream = pool.stream(Request("x"))
            with pytest.raises(AllPoolMembersFailedError) as raised:
                rest(stream)
            assert [each.member for each in raised.value.errors] == ["a", "b"]
            with pytest.raises(AllPoolMembersFailedError):
                stream.first().get(timeout=WAIT_S)

    def test_the_requests_own_fault(self, producer: Producer) -> None:
        """It is raised as it is, though chunks have been made."""
        fault = http_error(400)
        with pool_of(*ranked(a=producer(1, fault), b=producer(2)), on_cut="hold") as pool:
            with pytest.raises(ScriptedHTTPError) as raised:
                rest(pool.stream(Request("x")))
            assert raised.value is fault

    def test_the_limits_of_chunks_hold(self, producer: Producer) -> None:
        """A silent member is left after `first_chunk_timeout_s`, or `chunk_timeout_s`."""
        clock, hold = FakeClock(), Hold()
        a, b, c = producer("", hold), producer(1, hold), producer(2)
        limits: dict[str, Any] = {"first_chunk_timeout_s": 3.0, "chunk_timeout_s": 1.0}
        with pool_of(*ranked(a=a, b=b, c=c), clock=clock, on_cut="hold", **limits) as pool:
            stream = pool.stream(Request("x"))
            hold.wait_reached()
            clock.advance(3)
            hold.wait_reached()
            clock.advance(1)
            assert rest(stream) == [2]
            assert [str(each.error) for each in stream.errors] == [
                "a did not answer within first_chunk_timeout_s=3",
                "b sent no further chunk within chunk_timeout_s=1",
            ]
            hold.open()

    def test_the_deadline(self, producer: Producer) -> None:
        """Nothing is shown of what is not whole."""
        clock, hold = FakeClock(), Hold()
        with pool_of(*ranked(a=producer(1, hold)), clock=clock, on_cut="hold") as pool:
            stream = pool.stream(Request("x"), timeout=2)
            hold.wait_reached()
            clock.advance(2)
            with pytest.raises(DeadlineExceededError):
                rest(stream)
            hold.open()

    def test_leaving(self, producer: Producer) -> None:
        """The generator is closed, the slot free."""
        a = producer.counting()
        with pool_of(*ranked(a=a), on_cut="hold") as pool:
            stream = pool.stream(Request("x"))
            a.wait_made(500)
            stream.close()
            assert a.wait_ended() in ("GeneratorExit", "CancelledError")
            wait_free(pool)
            assert pool.stats().cancelled == 1


@pytest.mark.parametrize("producer", PRODUCERS)
class TestRaces:
    def test_the_winner_of_a_race_is_cut(self, producer: Producer) -> None:
        """A third member starts over; the loser stays beaten."""
        clock, slow, hold = FakeClock(), Hold(), Hold()
        a = producer(slow, "slow")
        b, c = producer(1, hold, GONE), producer(2, 3)
        options = cut(hedge_after_s=1.0)
        with pool_of(*ranked(a=a, b=b, c=c), clock=clock, **options) as pool:
            stream = pool.stream(Request("x"))
            slow.wait_reached()
            clock.advance(1)
            assert take(stream, 1) == [1]
            pool.force_open("a")
            slow.open()
            assert a.wait_ended() in ("GeneratorExit", "CancelledError", "end")
            hold.open()
            assert rest_with_marks(stream) == [started_over("b", 3, 1), 2, 3]
            stats = pool.stats()
            assert (stats.completed, stats.hedges, stats["a"].failures) == (1, 1, 0)

    @pytest.mark.parametrize("on_cut", ["restart", "hold"])
    def test_many_races_that_are_cut(self, producer: Producer, on_cut: str) -> None:
        """Each stream has the whole answer of one of them."""

        def agent(name: str, cuts: bool) -> Any:
            chunks = [f"{name}{number}" for number in range(20)]
            return producer(*chunks[:10], *([GONE] if cuts else chunks[10:]))

        agents = {name: agent(name, name in "abc") for name in "abcd"}
        members = [
            Member(name, each, priority=i, max_concurrency=50)
            for i, (name, each) in enumerate(agents.items())
        ]
        config: dict[str, Any] = {
            "hedge_after_s": 1e-6,
            "on_cut": on_cut,
            "retry_budget_floor": 1000.0,
            "max_retries": 9,
        }
        with pool_of(*members, **config) as pool:
            for name in agents:
                pool.disable_breaker(name)
            streams = [pool.stream(Request(number)) for number in range(40)]
            for stream in streams:
                assert rest(stream) == [f"d{number}" for number in range(20)]
            assert pool.stats().completed == 40


class TestNested:
    @pytest.mark.parametrize("outer_cut", ["raise", "restart"])
    @pytest.mark.parametrize("read", READERS)
    def test_the_mark_of_an_inner_pool_passes_through(self, outer_cut: str, read: Read) -> None:
        """It says how many of the chunks that the outer consumer has had are void."""
        hold = Hold()
        a, b = AsyncChunks(1, 2, hold, GONE), Chunks(3, 4)
        with (
            pool_of(*ranked(a=a, b=b), name="inner", **cut()) as inner,
            pool_of(Member("inner", inner), on_cut=outer_cut) as outer,
        ):
            stream = outer.stream(Request("x"))
            assert take(stream, 2) == [1, 2]
            hold.open()
            assert within(read, stream) == [started_over("a", 2, 2), 3, 4]
            assert (stream.member, stream.attempts, stream.errors) == ("inner", 1, ())

    def test_collecting_and_asking_the_outer_pool(self) -> None:
        """They return the whole only."""
        with (
            pool_of(*ranked(a=Chunks(1, GONE), b=Chunks(3, 4)), name="inner", **cut()) as inner,
            pool_of(Member("inner", inner)) as outer,
        ):
            assert rest(outer.stream(Request("x"))) == [3, 4]
            assert outer.execute("x", timeout=WAIT_S) == [3, 4]

    @pytest.mark.parametrize("is_async", [False, True])
    def test_asking_an_agent_that_passes_a_stream_on(self, is_async: bool) -> None:
        """Its list is the whole only, wherever it is collected."""
        with pool_of(*ranked(a=Chunks(1, GONE), b=Chunks(3, 4)), name="inner", **cut()) as inner:

            def agent(payload: Any) -> Any:
                yield from inner.stream(Request(payload))

            async def aagent(payload: Any) -> Any:
                async for chunk in inner.stream(Request(payload)):
                    yield chunk

            with pool_of(Member("a", aagent if is_async else agent)) as outer:
                assert outer.execute("x", timeout=WAIT_S) == [3, 4]
                assert rest(outer.stream(Request("x"))) == [3, 4]

    def test_an_outer_pool_that_holds(self) -> None:
        """It shows no mark."""
        with (
            pool_of(*ranked(a=Chunks(1, GONE), b=Chunks(3, 4)), name="inner", **cut()) as inner,
            pool_of(Member("inner", inner), on_cut="hold") as outer,
        ):
            assert rest_with_marks(outer.stream(Request("x"))) == [3, 4]

    def test_the_requests_own_fault_in_an_inner_pool(self) -> None:
        """It broke the inner stream off; of an outer pool that holds nothing was shown, so it is
        raised as it is.
        """
        fault = http_error(400)
        with (
            pool_of(Member("a", Chunks(1, fault)), name="inner") as inner,
            pool_of(Member("inner", inner), name="middle", on_cut="hold") as middle,
            pool_of(Member("middle", middle), on_cut="hold") as outer,
        ):
            for pool in (middle, outer):
                with pytest.raises(ScriptedHTTPError) as raised:
                    rest(pool.stream(Request("x")))
                assert raised.value is fault

    def test_the_outer_pool_starts_over_what_the_inner_one_cannot(self) -> None:
        """The inner stream breaks off: that is a cut of the outer one's."""
        hold, b = Hold(), Chunks(2, 3)
        with (
            pool_of(Member("a", Chunks(1, hold, GONE)), name="inner") as inner,
            pool_of(Member("inner", inner), Member("b", b, priority=1), **cut()) as outer,
        ):
            stream = outer.stream(Request("x"))
            assert take(stream, 1) == [1]
            hold.open()
            mark, *chunks = rest_with_marks(stream)
            assert (mark.member, mark.dropped, chunks) == ("inner", 1, [2, 3])


@pytest.mark.parametrize("on_cut", ["restart", "hold"])
@pytest.mark.parametrize("seed", range(3))
def test_every_stream_is_one_whole_answer(on_cut: str, seed: int) -> None:
    """Members that break off wherever they like, sync and async, slow readers and fast ones: after
    the last mark come all chunks of one member, in order, or an error.
    """
    rng = random.Random(seed)
    lock = threading.Lock()

    def plan() -> int:
        with lock:
            return rng.choice([0, 1, 5, 70, 100, 100, 100])

    def sync(name: str) -> Any:
        def agent(payload: Any) -> Iterator[Any]:
            upto = plan()
            for number in range(upto):
                yield (name, number)
            if upto < 100:
                raise GONE

        return agent

    def asynchronous(name: str) -> Any:
        async def agent(payload: Any) -> AsyncIterator[Any]:
            for chunk in sync(name)(payload):
                yield chunk
                if chunk[1] % 13 == 0:
                    await asyncio.sleep(0)

        return agent

    makers = {"a": sync, "b": asynchronous, "c": sync, "d": asynchronous}
    members = [Member(name, make(name), max_concurrency=8) for name, make in makers.items()]
    config: dict[str, Any] = {
        "on_cut": on_cut,
        "stream_buffer": 4,
        "retry_budget_floor": 10_000.0,
        "circuit_failure_threshold": 10_000,
        "circuit_min_calls": 20,
        "circuit_failure_rate": 1.0,
        "max_retries": 3,
        "retry_delay_s": 0.0,
    }
    ends: list[str] = []
    with pool_of(*members, strategy="round_robin", seed=seed, **config) as pool:

        def read(number: int) -> None:
            stream = pool.stream(Request(number))
            chunks: list[Any] = []
            try:
                for chunk in stream:
                    if isinstance(chunk, Restarted):
                        assert chunk.dropped == len(chunks)
                        chunks.clear()
                    else:
                        chunks.append(chunk)
            except (StreamInterruptedError, AllPoolMembersFailedError) as error:
                whole = tuple(chunks) == getattr(error, "received", ())
                ends.append("error" if whole else "odd")
            else:
                (name,) = {name for name, _ in chunks}
                assert (name, [number for _, number in chunks]) == (stream.member, list(range(100)))
                ends.append("end")

        def read_all(numbers: range) -> None:
            for number in numbers:
                read(number)

        readers = [
            threading.Thread(target=read_all, args=[range(i * 20, i * 20 + 20)], daemon=True)
            for i in range(6)
        ]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(60)
        assert (len(ends), ends.count("odd")) == (120, 0)
        assert ends.count("end") > 90
        stats = pool.stats()
        assert (stats.completed + stats.failed, stats.in_flight, stats.pending) == (120, 0, 0)


def test_a_restart_is_for_the_consumer_to_tell_apart() -> None:
    """What a type checker knows: `mypy` on this file is the test."""

    def words(pool: PoolRef) -> list[str]:
        shown: list[str] = []
        stream: PoolStream[str] = pool.stream(Request("x"))
        for chunk in stream:
            if isinstance(chunk, Restarted):
                shown.clear()
            else:
                shown.append(chunk)
        return shown

    with pool_of(*ranked(a=Chunks("a", GONE), b=Chunks("b", "c")), **cut()) as pool:
        assert within(words, pool) == ["b", "c"]
