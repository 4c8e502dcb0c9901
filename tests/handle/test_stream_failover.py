"""Streams that fail: before their first chunk, after it, and by keeping quiet. 43, 44, 45."""

from __future__ import annotations

from typing import Any

import pytest
from helpers_actors import stop_member
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
    failures,
    rest,
    take,
    wait_free,
    within,
)

from greenroom import (
    AllPoolMembersFailedError,
    AttemptTimeoutError,
    CallContext,
    CircuitState,
    DeadlineExceededError,
    Drain,
    FailureKind,
    Member,
    MemberCrashedError,
    PoolStoppedError,
    PoolStream,
    Request,
    SkipReason,
    StreamInterruptedError,
)
from greenroom.actors.runtime.event_bus import observe
from greenroom.messages import AttemptFailed, BreakerOpened, Event, RequestExhausted
from greenroom.testing import EventRecorder, FakeClock, ScriptedAgent, ScriptedHTTPError, http_error

EMPTY: list[Any] = ["", None, b"", [], {}]


def interruption(stream: PoolStream[Any]) -> StreamInterruptedError:
    """The error with which a stream breaks off, after whatever it still has."""
    with pytest.raises(StreamInterruptedError) as raised:
        within(lambda: list(stream))
    return raised.value


@pytest.mark.parametrize("producer", PRODUCERS)
class TestBeforeTheFirstChunk:
    @pytest.mark.parametrize("read", READERS)
    def test_b43_a_member_that_raises(self, producer: Producer, read: Read) -> None:
        """It fails before its first chunk: the answer is another member's stream alone."""
        a, b = producer(*EMPTY, ConnectionError("gone")), producer(1, 2)
        with pool_of(*ranked(a=a, b=b)) as pool:
            stream = pool.stream(Request("x"))
            assert within(read, stream) == [1, 2]
            assert (stream.member, stream.attempts) == ("b", 2)
            (error,) = stream.errors
            assert (error.member, error.kind) == ("a", FailureKind.UNAVAILABLE)
            assert (a.payloads, b.payloads) == (["x"], ["x"])
            assert failures(pool) == 1

    def test_b43_a_member_that_hangs(self, producer: Producer) -> None:
        """Its first chunk does not come in time: another member's stream is the answer."""
        clock, hold = FakeClock(), Hold()
        a, b = producer("", hold, "late"), producer(1, 2)
        with pool_of(*ranked(a=a, b=b), clock=clock, first_chunk_timeout_s=1.0) as pool:
            stream = pool.stream(Request("x"))
            hold.wait_reached()
            clock.advance(1)
            assert rest(stream) == [1, 2]
            assert isinstance(stream.errors[0].error, AttemptTimeoutError)
            assert str(stream.errors[0].error) == (
                "a did not answer within first_chunk_timeout_s=1"
            )
            hold.open()
            assert a.wait_ended() in ("GeneratorExit", "CancelledError")

    def test_b43_a_member_that_crashes(self, producer: Producer) -> None:
        """Its actor ends before the first chunk: another member's stream is the answer."""
        hold = Hold()
        a, b = producer("", hold, "late"), producer(1, 2)
        with pool_of(*ranked(a=a, b=b)) as pool:
            stream = pool.stream(Request("x"))
            hold.wait_reached()
            stop_member(pool, "a")
            assert rest(stream) == [1, 2]
            assert stream.errors[0].kind is FailureKind.CRASHED
            hold.open()
            assert a.wait_ended() in ("GeneratorExit", "CancelledError")

    def test_b43_a_factory_that_fails(self, producer: Producer) -> None:
        """There is no agent to stream: another member's stream is the answer."""

        def make() -> Any:
            raise RuntimeError("no key")

        members = [
            Member("a", factory=make),
            Member("b", factory=lambda: producer(1, 2), priority=1),
        ]
        with pool_of(*members) as pool:
            stream = pool.stream(Request("x"))
            assert rest(stream) == [1, 2]
            assert stream.errors[0].kind is FailureKind.CREATE_FAILED

    def test_b43_a_member_whose_breaker_is_open(self, producer: Producer) -> None:
        """It is not asked at all."""
        a, b = producer(1), producer(2)
        with pool_of(*ranked(a=a, b=b)) as pool:
            pool.force_open("a")
            stream = pool.stream(Request("x"))
            assert rest(stream) == [2]
            assert (stream.attempts, a.calls) == (1, 0)

    @pytest.mark.parametrize("read", READERS)
    def test_all_fail(self, producer: Producer, read: Read) -> None:
        """Iterating raises what ask raises: every member, tried or skipped, with its reason."""
        members = ranked(a=producer(ConnectionError("a")), b=producer(TimeoutError("b")), c=Held())
        with pool_of(*members, max_retries=1) as pool:
            pool.force_open("c")
            stream = pool.stream(Request("x"))
            with pytest.raises(AllPoolMembersFailedError) as raised:
                within(read, stream)
            assert [(each.member, each.kind) for each in raised.value.errors] == [
                ("a", FailureKind.UNAVAILABLE),
                ("b", FailureKind.TIMEOUT),
                ("c", SkipReason.CIRCUIT_OPEN),
            ]
            assert (stream.member, pool.stats().failed) == (None, 1)

    def test_the_requests_own_fault(self, producer: Producer) -> None:
        """A 400 before the first chunk is raised as it is, and nobody else is asked."""
        error = http_error(400)
        a, b = producer("", error), producer(1)
        with pool_of(*ranked(a=a, b=b)) as pool:
            stream = pool.stream(Request("x"))
            with pytest.raises(ScriptedHTTPError) as raised:
                rest(stream)
            assert raised.value is error
            assert (b.calls, failures(pool)) == (0, 0)

    def test_a_budget_of_attempts(self, producer: Producer) -> None:
        """`max_retries` bounds the attempts of a stream, too."""
        a, b = producer(ConnectionError("gone")), producer(1)
        with pool_of(*ranked(a=a, b=b)) as pool:
            stream = pool.stream(Request("x", max_retries=0))
            with pytest.raises(AllPoolMembersFailedError):
                rest(stream)
            assert b.calls == 0

    def test_a_plain_answer_that_is_refused(self, producer: Producer) -> None:
        """`is_failure` judges an answer that does not stream, and no chunk."""
        refused = ScriptedAgent(["bad"])
        with pool_of(
            *ranked(a=refused, b=producer("bad", "good")), is_failure=lambda value: value == "bad"
        ) as pool:
            assert rest(pool.stream(Request("x"))) == ["bad", "good"]
            assert len(refused.calls) == 1


@pytest.mark.parametrize("producer", PRODUCERS)
class TestAfterTheFirstChunk:
    @pytest.mark.parametrize("read", READERS)
    def test_b44_a_member_that_raises(self, producer: Producer, read: Read) -> None:
        """It fails after its first chunk: StreamInterruptedError with what was received, nobody
        else is called, and it counts.
        """
        error = ConnectionError("gone")
        a, b = producer("", 1, 2, error), producer(3)
        with (
            EventRecorder() as log,
            pool_of(*ranked(a=a, b=b), circuit_failure_threshold=1) as pool,
        ):
            stream = pool.stream(Request("x"))
            with pytest.raises(StreamInterruptedError) as raised:
                within(read, stream)
            broken = raised.value
            assert (broken.received, broken.received_count) == (("", 1, 2), 3)
            assert broken.__cause__ is error
            assert (broken.pool_name, broken.member) == ("pool", "a")
            assert [(each.member, each.kind) for each in broken.errors] == [
                ("a", FailureKind.UNAVAILABLE)
            ]
            assert str(broken) == (
                "pool 'pool': the stream of 'a' broke off after 3 chunks: ConnectionError: gone"
            )
            assert (a.calls, b.calls) == (1, 0)
            assert log.wait_for(BreakerOpened).member == "a"
            assert pool.stats()["a"].circuit is not CircuitState.CLOSED
            assert (failures(pool), pool.stats().failed, pool.stats().retries) == (1, 1, 0)

    def test_b44_an_error_of_a_whole_stack(self, producer: Producer) -> None:
        """The members that failed before it are among its errors."""
        a, b = producer(ConnectionError("a")), producer(1, ConnectionError("b"))
        with pool_of(*ranked(a=a, b=b)) as pool:
            broken = interruption(pool.stream(Request("x")))
            assert [each.member for each in broken.errors] == ["a", "b"]
            assert broken.received == (1,)

    def test_b44_a_consumer_that_stands_back(self, producer: Producer) -> None:
        """What has arrived is delivered before the error; `received` is what was taken."""
        a = producer(1, 2, 3, ConnectionError("gone"))
        with EventRecorder() as log, pool_of(*ranked(a=a)) as pool:
            stream = pool.stream(Request("x"))
            log.wait_for(RequestExhausted)
            (exhausted,) = log.named(RequestExhausted)
            assert "the stream of 'a' broke off after 0 chunks" in exhausted.reason
            assert take(stream, 2) == [1, 2]
            broken = interruption(stream)
            assert (broken.received, broken.received_count) == ((1, 2, 3), 3)

    def test_b44_the_log_says_how_far_it_had_come(self, producer: Producer) -> None:
        """The chunks that the consumer had had when it broke off."""
        hold = Hold()
        with EventRecorder() as log, pool_of(*ranked(a=producer(1, hold, OSError("gone")))) as pool:
            stream = pool.stream(Request("x"))
            assert take(stream, 1) == [1]
            hold.open()
            interruption(stream)
            log.wait_for(RequestExhausted)
            (exhausted,) = log.named(RequestExhausted)
            assert "broke off after 1 chunk: OSError: gone" in exhausted.reason

    def test_b44_a_very_long_stream(self, producer: Producer) -> None:
        """The error remembers the last 2,000 chunks and counts all; `collect` has all of them."""
        steps = (*range(3000), ConnectionError("gone"))
        with pool_of(*ranked(a=producer(*steps))) as pool:
            broken = interruption(pool.stream(Request("x")))
            assert broken.received == tuple(range(1000, 3000))
            assert broken.received_count == 3000
            with pytest.raises(StreamInterruptedError) as raised:
                rest(pool.stream(Request("x")))
            assert raised.value.received == tuple(range(3000))

    def test_b44_the_requests_own_fault(self, producer: Producer) -> None:
        """A 400 in the midst of a stream is the cause of its end, and is not counted."""
        error = http_error(400)
        with pool_of(*ranked(a=producer(1, error), b=producer(2))) as pool:
            broken = interruption(pool.stream(Request("x")))
            assert broken.__cause__ is error
            assert broken.errors[0].kind is FailureKind.CALLER
            assert failures(pool) == 0

    @pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
    def test_b44_an_error_of_the_process(self, producer: Producer, error: BaseException) -> None:
        """Whatever a generator raises, only its stream ends."""
        with pool_of(*ranked(a=producer(1, error), b=ScriptedAgent(["b"]))) as pool:
            broken = interruption(pool.stream(Request("x")))
            assert type(broken.__cause__) is type(error)
            assert pool.execute("x") is not None

    def test_b44_a_member_that_crashes(self, producer: Producer) -> None:
        """Its actor ends in the midst of the stream."""
        hold = Hold()
        a, b = producer(1, hold, 2), producer(3)
        with pool_of(*ranked(a=a, b=b)) as pool:
            stream = pool.stream(Request("x"))
            assert take(stream, 1) == [1]
            hold.wait_reached()
            stop_member(pool, "a")
            broken = interruption(stream)
            assert isinstance(broken.__cause__, MemberCrashedError)
            assert (broken.received, b.calls) == ((1,), 0)
            hold.open()
            assert a.wait_ended() in ("GeneratorExit", "CancelledError")

    def test_b44_a_member_that_crashes_while_it_is_held_back(self, producer: Producer) -> None:
        """The generator is closed where it waits, and what has arrived is delivered."""
        a = producer.counting()
        with pool_of(*ranked(a=a), stream_buffer=2) as pool:
            stream = pool.stream(Request("x"))
            a.wait_made(2)
            stop_member(pool, "a")
            assert a.wait_ended() in ("GeneratorExit", "CancelledError")
            broken = interruption(stream)
            assert broken.received == tuple(range(1, broken.received_count + 1))
            assert isinstance(broken.__cause__, MemberCrashedError)

    def test_b44_the_deadline(self, producer: Producer) -> None:
        """The time of the whole stream is over; a member whose stream flowed is not to blame."""
        clock, hold = FakeClock(), Hold()
        a = producer(1, hold, 2)
        with pool_of(*ranked(a=a, b=producer(3)), clock=clock) as pool:
            stream = pool.stream(Request("x"), timeout=5)
            assert take(stream, 1) == [1]
            hold.wait_reached()
            clock.advance(5)
            broken = interruption(stream)
            assert isinstance(broken.__cause__, DeadlineExceededError)
            assert isinstance(broken.__cause__, TimeoutError)
            assert failures(pool) == 0
            hold.open()
            assert a.wait_ended() in ("GeneratorExit", "CancelledError")

    def test_b44_the_deadline_of_the_request(self, producer: Producer) -> None:
        """`timeout_s` of a request is the limit of its stream, held back or not."""
        clock = FakeClock()
        a = producer.counting()
        with pool_of(*ranked(a=a), clock=clock, stream_buffer=1) as pool:
            stream = pool.stream(Request("x", timeout_s=5))
            a.wait_made(1)
            clock.advance(5)
            assert a.wait_ended() in ("GeneratorExit", "CancelledError")
            broken = interruption(stream)
            assert isinstance(broken.__cause__, DeadlineExceededError)
            assert broken.received == (1,)

    def test_b44_the_end_of_the_pool(self, producer: Producer) -> None:
        """A stop breaks off what streams; what has arrived can still be read."""
        hold = Hold()
        a = producer(1, 2, hold, 3)
        with pool_of(*ranked(a=a)) as pool:
            stream = pool.stream(Request("x"))
            assert take(stream, 1) == [1]
            hold.wait_reached()
            pool.stop(block=False)
            broken = interruption(stream)
            assert isinstance(broken.__cause__, PoolStoppedError)
            assert (broken.received, broken.errors) == ((1, 2), ())
            hold.open()
            assert a.wait_ended() in ("GeneratorExit", "CancelledError")

    def test_b44_a_drain_that_takes_too_long(self, producer: Producer) -> None:
        """Past its limit the streams that are left break off, and say why."""
        clock, hold = FakeClock(), Hold()
        with pool_of(*ranked(a=producer(1, hold)), clock=clock) as pool:
            stream = pool.stream(Request("x"))
            assert take(stream, 1) == [1]
            draining = pool.ask(Drain(5), block=False)
            assert pool.stats().draining
            clock.advance(5)
            assert not draining.get(timeout=WAIT_S)
            broken = interruption(stream)
            assert "drain" in str(broken.__cause__)
            hold.open()

    def test_b44_iterating_on_after_it(self, producer: Producer) -> None:
        """The same error again."""
        with pool_of(*ranked(a=producer(1, ConnectionError("gone")))) as pool:
            stream = pool.stream(Request("x"))
            assert interruption(stream) is interruption(stream)
            with pytest.raises(StreamInterruptedError):
                rest(stream)


def test_b44_a_stream_that_ends_while_its_member_is_being_stopped() -> None:
    """The member has been told to end, and the router does not know yet: the stream ends well."""
    work, news = Hold(), Hold()

    def hold_up(event: Event) -> None:
        if isinstance(event, BreakerOpened):  # in the supervisor's thread
            news.block()

    with pool_of(*ranked(a=Chunks(1, work, 2), z=ScriptedAgent(["never"]))) as pool:
        stream = pool.stream(Request("x"))
        assert take(stream, 1) == [1]
        end = observe(hold_up)
        forcing = Doing(lambda: pool.force_open("z"))
        news.wait_reached()
        stop_member(pool, "a")
        work.open()
        assert rest(stream) == [2]
        end()
        news.open()
        forcing.result()
        assert (stream.member, pool.stats().completed) == ("a", 1)


class TestKeepAlives:
    @pytest.mark.parametrize("producer", PRODUCERS)
    def test_b45_before_the_first_chunk(self, producer: Producer) -> None:
        """first_chunk_timeout_s 1 s against an empty chunk every 0.4 s: fails over within 1.2 s."""
        clock = FakeClock()
        life_signs = [After(clock, 0.4), ""]
        a, b = producer(*life_signs * 50), producer("b")
        with pool_of(*ranked(a=a, b=b), clock=clock, first_chunk_timeout_s=1.0) as pool:
            began = clock.now()
            stream = pool.stream(Request("x"))
            for _ in range(2):
                clock.wait_until_sleeping()
                clock.advance(0.4)
            clock.wait_until_sleeping()
            clock.advance(0.2)
            assert rest(stream) == ["b"]
            assert clock.now() - began <= 1.2
            assert stream.errors[0].kind is FailureKind.TIMEOUT
            clock.advance(0.4)
            assert a.wait_ended() in ("GeneratorExit", "CancelledError")

    @pytest.mark.parametrize("producer", PRODUCERS)
    def test_b45_between_chunks(self, producer: Producer) -> None:
        """chunk_timeout_s 1 s against an empty chunk every 0.4 s: broken off within 1.2 s."""
        clock = FakeClock()
        life_signs = [After(clock, 0.4), ""]
        a, b = producer("a", *life_signs * 50), producer("b")
        with pool_of(*ranked(a=a, b=b), clock=clock, chunk_timeout_s=1.0) as pool:
            stream = pool.stream(Request("x"))
            assert take(stream, 1) == ["a"]
            began = clock.now()
            for _ in range(2):
                clock.wait_until_sleeping()
                clock.advance(0.4)
                assert take(stream, 1) == [""]
            clock.wait_until_sleeping()
            clock.advance(0.2)
            broken = interruption(stream)
            assert clock.now() - began <= 1.2
            assert isinstance(broken.__cause__, AttemptTimeoutError)
            assert str(broken.__cause__) == "a sent no further chunk within chunk_timeout_s=1"
            assert (broken.received, b.calls) == (("a", "", ""), 0)
            assert (broken.errors[0].kind, failures(pool)) == (FailureKind.TIMEOUT, 1)
            clock.advance(0.4)
            assert a.wait_ended() in ("GeneratorExit", "CancelledError")

    @pytest.mark.parametrize("producer", PRODUCERS)
    def test_b45_a_chunk_in_time_buys_time(self, producer: Producer) -> None:
        """A chunk that counts every 0.9 s: the stream may last as long as it likes."""
        clock = FakeClock()
        steps = [step for number in range(10) for step in (After(clock, 0.9), number)]
        limits = ("first_chunk_timeout_s", "chunk_timeout_s", "request_timeout_s")
        config: dict[str, Any] = dict.fromkeys(limits, 1.0)
        with pool_of(*ranked(a=producer(*steps)), clock=clock, **config) as pool:
            stream = pool.stream(Request("x"))
            for number in range(10):
                clock.wait_until_sleeping()
                clock.advance(0.9)
                assert take(stream, 1) == [number]
            assert rest(stream) == []

    @pytest.mark.parametrize("producer", PRODUCERS)
    def test_b45_without_settings_of_their_own(self, producer: Producer) -> None:
        """`request_timeout_s` bounds the wait for the first chunk and for each further one."""
        clock, hold = FakeClock(), Hold()
        members = ranked(a=producer(hold), b=producer(1, hold))
        with pool_of(*members, clock=clock, request_timeout_s=1.0) as pool:
            stream = pool.stream(Request("x"))
            hold.wait_reached()
            clock.advance(1)
            assert take(stream, 1) == [1]
            hold.wait_reached()
            clock.advance(1)
            broken = interruption(stream)
            assert [str(each.error) for each in broken.errors] == [
                "a did not answer within request_timeout_s=1",
                "b sent no further chunk within request_timeout_s=1",
            ]
            hold.open()

    def test_b45_without_any_limit(self) -> None:
        """A stream may then keep quiet for as long as it likes."""
        clock, hold = FakeClock(), Hold()
        with pool_of(*ranked(a=Chunks(1, hold, 2)), clock=clock, request_timeout_s=None) as pool:
            stream = pool.stream(Request("x"))
            assert take(stream, 1) == [1]
            hold.wait_reached()
            clock.advance(10_000)
            assert pool.stats().in_flight == 1
            hold.open()
            assert rest(stream) == [2]

    def test_b45_what_is_empty_is_for_the_app_to_say(self) -> None:
        """`is_empty` replaces the rule: here a keep-alive has a type of its own."""
        a, b = Chunks("ping", "ping", OSError("gone")), Chunks("ping", "", "pong")
        with pool_of(*ranked(a=a, b=b), is_empty=lambda chunk: chunk == "ping") as pool:
            stream = pool.stream(Request("x"))
            assert rest(stream) == ["ping", "", "pong"]
            assert stream.member == "b"

    @pytest.mark.parametrize("producer", PRODUCERS)
    @pytest.mark.parametrize("error", [ValueError("no text"), SystemExit(1)])
    def test_b45_a_rule_that_raises(self, producer: Producer, error: BaseException) -> None:
        """Before the first chunk the member has failed, after it the stream breaks off."""

        def is_empty(chunk: Any) -> bool:
            if chunk == "odd":
                raise error
            return False

        a, b = producer("odd", 1), producer("even", "odd")
        with pool_of(*ranked(a=a, b=b), is_empty=is_empty) as pool:
            stream = pool.stream(Request("x"))
            broken = interruption(stream)
            assert broken.__cause__ is error
            assert [each.member for each in broken.errors] == ["a", "b"]
            assert broken.received == ("even",)
            assert (a.wait_ended(), b.wait_ended()) == ("GeneratorExit", "GeneratorExit")

    def test_b45_an_endless_run_of_empty_chunks(self) -> None:
        """It is bounded in memory, and ends when it is given up."""
        with pool_of(*ranked(a=(a := Chunks(endless=iter(lambda: "", 1))))) as pool:
            stream = pool.stream(Request("x"))
            a.wait_made(1000)
            assert stream.cancel()
            assert a.wait_ended() == "GeneratorExit"
            wait_free(pool)


class TestSideEffects:
    @pytest.mark.parametrize("when", ["before", "after"])
    def test_b48_a_stream_with_side_effects_is_not_repeated(self, when: str) -> None:
        """Said before the first chunk, it ends the failover; after it there is none anyway."""

        def a(payload: Any, context: CallContext) -> Any:
            yield from [1] if when == "after" else [""]
            context.started_side_effects()
            raise ConnectionError("gone")

        b = Chunks(2)
        with EventRecorder() as log, pool_of(*ranked(a=a, b=b)) as pool:
            expected = StreamInterruptedError if when == "after" else AllPoolMembersFailedError
            with pytest.raises(expected):
                rest(pool.stream(Request("x")))
            assert b.calls == 0
            assert log.named(AttemptFailed)[0].member == "a"

    def test_b48_side_effects_do_not_start_in_a_stream_that_is_over(self) -> None:
        """Whoever asks for leave after the consumer has gone is refused."""
        hold, outcome = Hold(), []

        def a(payload: Any, context: CallContext) -> Any:
            yield 1
            hold.block()
            try:
                context.started_side_effects()
            except BaseException as error:
                outcome.append(type(error).__name__)
                raise
            yield 2

        with pool_of(*ranked(a=a)) as pool:
            stream = pool.stream(Request("x"))
            assert take(stream, 1) == [1]
            hold.wait_reached()
            stream.cancel()
            hold.open()
            wait_free(pool)
            assert outcome == ["RequestCancelledError"]


def test_an_async_generator_ends_where_it_waits() -> None:
    """An attempt whose time is over is cancelled at its await."""
    clock, hold = FakeClock(), Hold()
    a = AsyncChunks(hold)
    with pool_of(*ranked(a=a), clock=clock, first_chunk_timeout_s=1.0, max_retries=0) as pool:
        stream = pool.stream(Request("x"))
        hold.wait_reached()
        clock.advance(1)
        with pytest.raises(AllPoolMembersFailedError):
            rest(stream)
        assert a.wait_ended() == "CancelledError"
