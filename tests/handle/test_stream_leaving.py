"""Streams whose consumer leaves early, and those whose consumer is slow: behaviours 46 and 47."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import random
import signal
import sys
import threading
import tracemalloc
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from helpers_pools import WAIT_S, pool_of, ranked
from helpers_streams import (
    PRODUCERS,
    After,
    AsyncChunks,
    Chunks,
    Doing,
    Hold,
    Producer,
    rest,
    take,
    wait_free,
    within,
)

from greenroom import (
    AttemptTimeoutError,
    CircuitState,
    Member,
    PoolError,
    PoolRef,
    PoolStream,
    Request,
    RequestCancelledError,
    StreamInterruptedError,
)
from greenroom.actors.runtime.channel import Channel
from greenroom.actors.runtime.future import DeadPoolError, StreamFuture
from greenroom.messages import AttemptFailed, DeadLetter, RequestCompleted, RequestExhausted
from greenroom.testing import EventRecorder, FakeClock, ScriptedAgent, ScriptedHTTPError, http_error

pytestmark = pytest.mark.usefixtures("agents_loop")

Leave = Callable[[PoolRef], None]


def one(agent: Any) -> Member:
    """A member with a single slot: whoever comes next has to wait for it."""
    return Member("a", agent, max_concurrency=1)


def break_for(pool: PoolRef) -> None:
    stream = pool.stream(Request("x"))
    for chunk in stream:
        assert chunk == 1
        break


def break_async_for(pool: PoolRef) -> None:
    async def main() -> None:
        stream = pool.stream(Request("x"))
        async for chunk in stream:
            assert chunk == 1
            break

    asyncio.run(main())


def raise_in_for(pool: PoolRef) -> None:
    kept = []  # the traceback, and with it the frame, is kept alive
    try:
        for chunk in pool.stream(Request("x")):
            raise ValueError(chunk)
    except ValueError as error:
        kept.append(error)
    assert kept


def leave_with(pool: PoolRef) -> None:
    with pool.stream(Request("x")) as stream:
        assert next(stream) == 1


def leave_async_with(pool: PoolRef) -> None:
    async def main() -> None:
        async with pool.stream(Request("x")) as stream:
            assert await anext(stream) == 1

    asyncio.run(main())


def cancel(pool: PoolRef) -> None:
    stream = pool.stream(Request("x"))
    assert next(stream) == 1
    assert stream.cancel()


def cancel_by_id(pool: PoolRef) -> None:
    stream = pool.stream(Request("x", request_id="r1"))
    assert next(stream) == 1
    assert pool.cancel("r1")


def let_go(pool: PoolRef) -> None:
    stream = pool.stream(Request("x"))
    assert next(stream) == 1
    del stream


def let_go_of_its_loop(pool: PoolRef) -> None:
    async def main() -> None:  # nobody else holds the reader while it waits for its chunk
        assert await anext(aiter(pool.stream(Request("x")))) == 1

    asyncio.run(main())


def let_go_in_a_cycle(pool: PoolRef) -> None:
    cycle: list[Any] = [pool.stream(Request("x"))]
    assert next(cycle[0]) == 1
    cycle.append(cycle)
    del cycle
    gc.collect()


def cancel_task(pool: PoolRef) -> None:
    async def main() -> None:
        stream = pool.stream(Request("x"))
        got = asyncio.Event()

        async def read() -> None:
            async for _ in stream:
                got.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(read())
        await got.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


WAYS: list[Leave] = [
    break_for,
    break_async_for,
    raise_in_for,
    leave_with,
    leave_async_with,
    cancel,
    cancel_by_id,
    let_go,
    let_go_of_its_loop,
    let_go_in_a_cycle,
    cancel_task,
]


def assert_uncounted(pool: PoolRef, log: EventRecorder) -> None:
    """It is cancelled, and counts for nothing; no slot is held, and no dead letter is left."""
    stats = pool.stats()
    assert (stats.cancelled, stats.failed, stats.retries) == (1, 0, 0)
    assert (stats.pending, stats.in_flight) == (0, 0)
    member = stats["a"]
    assert (member.in_flight, member.failures, member.circuit) == (0, 0, CircuitState.CLOSED)
    assert not log.named(DeadLetter)
    assert not log.named(RequestExhausted)
    assert not log.named(AttemptFailed)
    assert log.named(RequestCompleted)[0].outcome == "cancelled"


class TestLeaving:
    @pytest.mark.parametrize("producer", PRODUCERS)
    @pytest.mark.parametrize("leave", WAYS)
    def test_b46_a_generator_that_is_held_back(self, producer: Producer, leave: Leave) -> None:
        """The consumer leaves early: the generator is closed where it waits, the slot is free,
        nothing is counted.
        """
        a = producer.counting()
        with EventRecorder() as log, pool_of(one(a), stream_buffer=2) as pool:
            within(leave, pool)
            assert a.wait_ended() in ("GeneratorExit", "CancelledError")
            wait_free(pool)
            assert_uncounted(pool, log)

    @pytest.mark.parametrize("leave", WAYS)
    def test_b46_an_async_generator_at_its_await(self, leave: Leave) -> None:
        """It is cancelled where it waits for whatever makes its chunks."""
        a = AsyncChunks(1, Hold(), 2)
        with EventRecorder() as log, pool_of(one(a)) as pool:
            within(leave, pool)
            assert a.wait_ended() == "CancelledError"
            wait_free(pool)
            assert_uncounted(pool, log)

    @pytest.mark.parametrize("leave", WAYS)
    def test_b46_a_sync_generator_at_work(self, leave: Leave) -> None:
        """Nobody can stop it there: it is closed when it yields next."""
        hold = Hold()
        a = Chunks(1, hold, 2, 3)
        with EventRecorder() as log, pool_of(one(a)) as pool:
            within(leave, pool)
            assert pool.stats().in_flight == 1
            hold.open()
            assert a.wait_ended() == "GeneratorExit"
            assert a.made == 2
            wait_free(pool)
            assert_uncounted(pool, log)

    @pytest.mark.parametrize("producer", PRODUCERS)
    def test_b46_before_the_first_chunk(self, producer: Producer) -> None:
        """Whoever does not even wait for it leaves no dead letter."""
        hold = Hold()
        a = producer("", hold, 1)
        with EventRecorder() as log, pool_of(one(a)) as pool:
            stream = pool.stream(Request("x"))
            hold.wait_reached()
            assert stream.cancel()
            hold.open()
            assert a.wait_ended() in ("GeneratorExit", "CancelledError")
            with pytest.raises(RequestCancelledError):
                rest(stream)
            wait_free(pool)
            assert_uncounted(pool, log)

    def test_b46_while_it_is_queued(self) -> None:
        """A stream that nobody waits for any more is never begun."""
        hold = Hold()
        a = Chunks(hold, 1)
        with pool_of(one(a)) as pool:
            first = pool.stream(Request("first"))
            hold.wait_reached()
            del (second := [pool.stream(Request("second"))])[0]
            hold.open()
            assert rest(first) == [1]
            wait_free(pool)
            assert (a.payloads, second, pool.stats().cancelled) == (["first"], [], 1)

    def test_b46_a_plain_answer_that_comes_late(self) -> None:
        """The late answer of a stream is no dead letter either."""
        hold = Hold()

        def a(payload: Any) -> str:
            hold.block()
            return "late"

        with EventRecorder() as log, pool_of(one(a)) as pool:
            stream = pool.stream(Request("x"))
            hold.wait_reached()
            del stream
            hold.open()
            wait_free(pool)
            assert_uncounted(pool, log)

    @pytest.mark.parametrize("producer", PRODUCERS)
    def test_b46_a_generator_that_fails_to_close(self, producer: Producer) -> None:
        """What it raises at its end is nobody's failure."""

        class Sore(producer):  # type: ignore[misc, valid-type]
            def _note(self, end: str) -> None:
                super()._note(end)
                raise RuntimeError("a clean-up that fails")

        a = Sore.counting()
        with EventRecorder() as log, pool_of(one(a), stream_buffer=1) as pool:
            within(cancel, pool)
            a.wait_ended()
            wait_free(pool)
            assert_uncounted(pool, log)

    @pytest.mark.parametrize("left", ["begun", "not begun", "closing"])
    def test_b46_a_sync_generator_that_hangs_for_ever(self, left: str) -> None:
        """Its thread is abandoned when its next chunk is overdue: the slot is not lost."""
        clock, hold = FakeClock(), Hold()

        def a(payload: Any) -> Iterator[int]:
            try:
                if left == "begun":
                    yield 1
                if left != "closing":
                    hold.block()
                while True:
                    yield 1
            finally:
                if left == "closing":
                    hold.block()

        config: dict[str, Any] = {"chunk_timeout_s": 5.0, "first_chunk_timeout_s": 5.0}
        with pool_of(one(a), clock=clock, stream_buffer=1, **config) as pool:
            stream = pool.stream(Request("x"))
            if left != "not begun":
                assert take(stream, 1) == [1]
            if left != "closing":
                hold.wait_reached()
            stream.cancel()
            if left == "closing":
                hold.wait_reached()
            assert pool.stats().in_flight == 1
            clock.advance(5)
            wait_free(pool)
            assert (pool.stats().cancelled, pool.stats()["a"].failures) == (1, 0)
            hold.open()

    def test_b46_whoever_goes_on_has_an_error(self) -> None:
        """What lay in the buffer is not delivered by chance."""
        a = Chunks(1, 2, 3, Hold())
        with pool_of(one(a)) as pool:
            stream = pool.stream(Request("x"))
            a.wait_made(3)
            assert take(stream, 1) == [1]
            assert stream.cancel()
            for _ in range(2):
                with pytest.raises(RequestCancelledError):
                    take(stream, 1)
            with pytest.raises(RequestCancelledError):
                rest(stream)
            with pytest.raises(RequestCancelledError):
                asyncio.run(anext(stream))

    def test_b46_a_thread_that_waits_for_the_next_chunk(self) -> None:
        """Cancelled by another one, it has the error at once."""
        hold = Hold()
        with pool_of(one(Chunks(1, hold, 2))) as pool:
            stream = pool.stream(Request("x"))
            assert take(stream, 1) == [1]
            waiting = Doing(lambda: next(stream))
            hold.wait_reached()
            stream.cancel()
            with pytest.raises(RequestCancelledError):
                waiting.result()
            hold.open()

    def test_b46_cancelling_at_the_end(self) -> None:
        """There is nothing to give up: False, and the end stays the end."""
        with pool_of(one(Chunks(1))) as pool:
            stream = pool.stream(Request("x"))
            assert rest(stream) == [1]
            assert not stream.cancel()
            with stream:
                assert rest(stream) == []
            assert (pool.stats().completed, pool.stats().cancelled) == (1, 0)

    def test_b46_one_await_alone_can_be_cancelled(self) -> None:
        """A single `anext` with a timeout of its own gives up neither stream nor chunk."""
        hold = Hold()
        with pool_of(one(AsyncChunks(1, hold, 2))) as pool:

            async def main() -> list[int]:
                stream = pool.stream(Request("x"))
                first = await anext(stream)
                waiting = asyncio.ensure_future(anext(stream))
                await asyncio.get_running_loop().run_in_executor(None, hold.wait_reached)
                waiting.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await waiting
                assert stream._channel._readers == []
                hold.open()
                return [first, *await stream.acollect()]

            assert within(lambda: asyncio.run(main())) == [1, 2]

    def test_b46_letting_go_takes_no_lock(self) -> None:
        """A finalizer may run in the thread that holds a lock of the very stream, also when the
        pool has stopped.
        """

        def dead(_: Any) -> None:
            raise DeadPoolError("stopped")

        future = StreamFuture(Channel(1), "r", None, dead)
        stream: PoolStream[int] = PoolStream(future)

        def collected() -> None:
            nonlocal stream
            with future._mutex, future.channel._lock:
                del stream

        within(collected)
        assert future.channel.left
        assert not future.done()

    def test_b46_of_a_pool_that_has_stopped(self) -> None:
        """There is nobody to tell, and nothing to free."""
        with pool_of(one(Chunks(1, 2))) as pool:
            stream = pool.stream(Request("x"))
            pool.stop()
        assert not stream.cancel()
        later = pool.stream(Request("x"))
        with later:
            pass
        del later


@pytest.mark.parametrize("producer", PRODUCERS)
def test_nothing_of_a_stream_waits_for_the_garbage_collector(producer: Producer) -> None:
    """What a stream has brought is free when its consumer lets go of it."""

    class Chunk:
        pass

    def steps() -> Iterator[Chunk]:
        for _ in range(10):
            chunk = Chunk()
            made.append(weakref.ref(chunk))
            yield chunk
            del chunk

    made: list[weakref.ref[Chunk]] = []
    a = producer(endless=steps())
    with pool_of(one(a)) as pool:
        gc.collect()
        gc.disable()
        try:
            assert len(pool.stream(Request("x")).collect()) == 10
            wait_free(pool)
            pool.stats()
            assert len(made) == 10
            assert [ref for ref in made if ref() is not None] == []
        finally:
            gc.enable()


class TestSlowConsumers:
    @pytest.mark.parametrize("producer", PRODUCERS)
    @pytest.mark.parametrize("buffer", [1, 2, 3, 64])
    def test_b47_an_agent_is_ahead_by_its_buffer_at_most(
        self, producer: Producer, buffer: int
    ) -> None:
        """Whatever the pace of its consumer, leading empty chunks included."""
        a = producer(*[""] * 100, *range(1, 300))
        ahead = []
        with pool_of(one(a), stream_buffer=buffer) as pool:
            stream = pool.stream(Request("x"))
            a.watch = lambda: ahead.append(len(stream._channel))
            a.wait_made(100 + 1)
            assert len(rest(stream)) == 100 + 299
            # The one that is being made comes on top of what is in the buffer.
            assert max(ahead) + 1 <= buffer

    @pytest.mark.parametrize("producer", PRODUCERS)
    def test_b47_a_consumer_that_stands_still(self, producer: Producer) -> None:
        """The agent makes what fits, and not one more."""
        a = producer.counting()
        with held_back() as held, pool_of(one(a), stream_buffer=4) as pool:
            stream = pool.stream(Request("x"))
            assert held.acquire(timeout=WAIT_S)
            assert (a.made, len(stream._channel)) == (4, 4)
            assert take(stream, 2) == [1, 2]
            assert held.acquire(timeout=WAIT_S)
            assert (a.made, len(stream._channel)) == (6, 4)
            stream.cancel()

    @pytest.mark.parametrize("producer", PRODUCERS)
    def test_b47_nobody_else_is_held_back(self, producer: Producer) -> None:
        """Another stream flows and another request is answered while a consumer is stuck."""
        a = producer(*range(200))
        with held_back() as held, pool_of(Member("a", a, max_concurrency=2)) as pool:
            stuck = pool.stream(Request("stuck"))
            assert held.acquire(timeout=WAIT_S)
            assert rest(pool.stream(Request("x"))) == list(range(200))
            assert within(lambda: pool.ask(Request("y"), timeout=WAIT_S).value) == list(range(200))
            assert pool.stats().in_flight == 1
            assert rest(stuck) == list(range(200))

    @pytest.mark.parametrize("producer", PRODUCERS)
    def test_b47_memory_is_flat_over_100_000_chunks(self, producer: Producer) -> None:
        """A fast agent and a long stream: at most 5 MiB."""
        chunks = (f"chunk {number:>100}" for number in range(100_000))
        a = producer(endless=chunks)
        with pool_of(one(a)) as pool:
            wait_free(pool)
            tracemalloc.start()
            try:
                stream = pool.stream(Request("x"))
                count = within(lambda: sum(1 for _ in stream))
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            assert count == 100_000
            assert peak < 5 * 2**20

    @pytest.mark.parametrize("producer", PRODUCERS)
    def test_b47_a_held_back_agent_is_not_timed_out(self, producer: Producer) -> None:
        """It owes no chunk while its consumer does not take any; from when it goes on it does."""
        clock, work = FakeClock(), Hold()
        a = producer(1, 2, work, 3)
        with (
            held_back() as held,
            pool_of(one(a), clock=clock, stream_buffer=1, chunk_timeout_s=1.0) as pool,
        ):
            stream = pool.stream(Request("x"))
            for number in (1, 2):
                assert held.acquire(timeout=WAIT_S)
                for _ in range(3):
                    clock.advance(100)
                    assert pool.stats().in_flight == 1
                assert take(stream, 1) == [number]
            work.wait_reached()
            clock.advance(1)
            with pytest.raises(StreamInterruptedError) as raised:
                rest(stream)
            assert isinstance(raised.value.__cause__, AttemptTimeoutError)
            assert raised.value.received == (1, 2)
            work.open()

    @pytest.mark.parametrize("producer", PRODUCERS)
    def test_b47_once_it_goes_on_it_has_its_full_time(self, producer: Producer) -> None:
        """The time that its consumer took is not its own."""
        clock = FakeClock()
        a = producer(1, After(clock, 0.9), 2)
        with (
            held_back() as held,
            pool_of(one(a), clock=clock, stream_buffer=1, chunk_timeout_s=1.0) as pool,
        ):
            stream = pool.stream(Request("x"))
            assert held.acquire(timeout=WAIT_S)
            clock.advance(100)
            assert take(stream, 1) == [1]
            clock.wait_until_sleeping()
            clock.advance(0.9)
            assert rest(stream) == [2]

    def test_b47_a_failure_reaches_a_slow_consumer_in_turn(self) -> None:
        """After what it has not taken yet."""
        error = http_error(503)
        with pool_of(*ranked(a=Chunks(1, 2, error), b=ScriptedAgent(["never"]))) as pool:
            stream = pool.stream(Request("x"))
            assert take(stream, 2) == [1, 2]
            with pytest.raises(StreamInterruptedError) as raised:
                take(stream, 1)
            assert raised.value.__cause__ is error


@contextlib.contextmanager
def held_back() -> Iterator[threading.Semaphore]:
    """Released whenever a producer begins to wait for its consumer."""
    held = threading.Semaphore(0)
    watch_room = Channel.watch_room

    def spy(self: Channel, *arguments: Any) -> None:
        watch_room(self, *arguments)
        held.release()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Channel, "watch_room", spy)
        yield held


def test_a_ctrl_c_while_waiting_leaves_no_trail() -> None:
    """Whoever is interrupted may go on reading."""

    class Interrupted(Channel):
        """Ctrl-C while it waits for the lock that a chunk would release."""

        def watch_chunks(self, wake: Callable[[], object]) -> None:
            super().watch_chunks(wake)
            signal.raise_signal(signal.SIGINT)

    chunks = Interrupted(4)
    stream: PoolStream[int] = PoolStream(StreamFuture(chunks, "r"))
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)  # it may have been ignored
    try:
        with pytest.raises(KeyboardInterrupt):
            next(stream)
    finally:
        signal.signal(signal.SIGINT, usual)
    assert chunks._readers == []
    chunks.put(1)
    assert next(stream) == 1


class Chance:
    """What a random stream does, drawn from its seed: how many chunks, and how it ends."""

    def __init__(self, seed: int) -> None:
        rng = random.Random(seed)
        self.steps: list[Any] = [""] * rng.randrange(3)
        self.steps += rng.choice([[], ["chunk"] * rng.randrange(1, 12)])
        self.steps += rng.choice([[], [], [OSError("gone")], [http_error(400)]])
        self.taken = rng.choice([0, 1, 3, 100])
        self.way = rng.choice(["for", "async for", "cancel"])

    def sync(self) -> Iterator[Any]:
        for step in self.steps:
            if isinstance(step, BaseException):
                raise step
            yield step

    async def asynchronous(self) -> AsyncIterator[Any]:
        for number, step in enumerate(self.sync()):
            yield step
            if number % 3 == 0:
                await asyncio.sleep(0)

    def read(self, pool: PoolRef, number: int) -> None:
        """Take some, or all, and leave."""
        stream = pool.stream(Request(number))
        with contextlib.suppress(PoolError, OSError, ScriptedHTTPError):
            if self.way == "async for":
                asyncio.run(self._aread(stream))
                return
            for count, _ in enumerate(stream):
                if count >= self.taken:
                    break
            if self.way == "cancel":
                stream.cancel()

    async def _aread(self, stream: PoolStream[Any]) -> None:
        count = 0
        async for _ in stream:
            count += 1
            if count > self.taken:
                break


@pytest.mark.parametrize("seed", range(3))
def test_b46_every_stream_ends_once_whatever_happens(seed: int) -> None:
    """Streams that fail, are left, or come to their end, many at once: the books add up, and every
    slot comes back.
    """

    def sync(payload: int) -> Iterator[Any]:
        return Chance(payload).sync()

    async def asynchronous(payload: int) -> AsyncIterator[Any]:
        async for chunk in Chance(payload).asynchronous():
            yield chunk

    members = [
        Member("sync", sync, max_concurrency=4),
        Member("async", asynchronous, max_concurrency=4),
    ]
    config: dict[str, Any] = {"circuit_failure_threshold": 10_000, "circuit_failure_rate": 1.0}
    with pool_of(*members, strategy="random", stream_buffer=2, retry_delay_s=0, **config) as pool:

        def read(first: int) -> None:
            for number in range(first, first + 40):
                Chance(number).read(pool, number)

        for each in [Doing(functools.partial(read, 1000 * seed + 40 * i)) for i in range(6)]:
            each.result()
        assert pool.drain(timeout=WAIT_S)
        stats = pool.stats()
        assert stats.accepted == stats.completed + stats.failed + stats.cancelled == 240
        for member in members:  # which waits for all that it has at hand
            pool.remove_member(member.name, timeout=WAIT_S)
        assert pool.stats().in_flight == 0


def test_a_ctrl_c_at_any_line_of_a_streams_making_leaves_nothing() -> None:
    """No complaint by a finalizer, no slot that stays taken; the next stream works."""

    def numbers(payload: Any) -> Iterator[int]:
        yield from range(payload)

    with pool_of(Member("a", numbers, max_concurrency=1), max_retries=0) as pool:
        lines = 0
        gc.freeze()  # what other tests have left need not be looked through each time
        for fails_at in range(1, 400):
            stream = _made_up_to(pool, fails_at)
            if stream is not None:
                assert list(stream) == [0, 1, 2]
                lines = fails_at
                break
            gc.collect()
        gc.unfreeze()
        assert lines > 10
        assert list(pool.stream(Request(3), timeout=WAIT_S)) == [0, 1, 2]
        assert pool.stats()["a"].in_flight == 0


def _made_up_to(pool: PoolRef, count: int) -> Any:
    """A stream; None if that many lines of its making are too few."""
    left = count

    def trace(frame: Any, event: str, _: Any) -> Any:
        nonlocal left
        name = frame.f_code.co_filename
        if not name.endswith(
            (
                "actors/handle/pool_stream.py",
                "actors/handle/asking_ref.py",
                "actors/runtime/future.py",
            )
        ):
            return None
        if event == "line" and frame.f_code.co_name not in ("_leave", "__del__", "let_go"):
            left -= 1
            if left == 0:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        return pool.stream(Request(3), timeout=WAIT_S)
    except KeyboardInterrupt:
        return None
    finally:
        sys.settrace(before)
