"""The parts of a stream on their own: the channel, the producer's end, pumping and collecting."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, MagicMock

import pytest
from helpers_streams import within
from hypothesis import given
from hypothesis import strategies as st

from greenroom import FailureKind, PoolConfig, Request, RequestCancelledError, Restarted
from greenroom.actors.calls import PlainCall
from greenroom.actors.channel import (
    ANEW,
    EMPTY,
    END,
    RECEIVED_LENGTH,
    RECEIVED_LIMIT,
    Channel,
    Cut,
)
from greenroom.actors.desk import Claim, Desk
from greenroom.actors.flow import acollect, collect, flow, is_async_stream, is_stream, pour
from greenroom.actors.future import StreamFuture
from greenroom.actors.jobs import Job
from greenroom.actors.retry import RetryPolicy
from greenroom.actors.streamjudge import nothing_in
from greenroom.actors.threads import ThreadPlace
from greenroom.actors.writer import ChunkWriter
from greenroom.messages.status import CancelReason
from greenroom.testing import FakeClock


def channel(capacity: int = 4, *chunks: Any) -> Channel:
    made = Channel(capacity)
    for chunk in chunks:
        assert made.put(chunk)
    return made


class Wakes:
    """Counts how often it was called."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


class TestChannel:
    def test_chunks_come_in_order(self) -> None:
        """First in, first out, and EMPTY when there is none yet."""
        chunks = channel(4, 1, 2)
        assert [chunks.take(), chunks.take(), chunks.take()] == [1, 2, EMPTY]
        assert (chunks.taken, list(chunks.received)) == (2, [1, 2])

    def test_it_is_full_at_its_capacity(self) -> None:
        """It does not refuse more: the producer is to ask before it makes one."""
        chunks = channel(2, 1)
        assert not chunks.full()
        assert chunks.put(2)
        assert chunks.full()
        assert chunks.put(3)
        assert len(chunks) == 3

    def test_the_error_comes_after_what_has_arrived(self) -> None:
        """Nothing that lies in the buffer is lost by an error; then it is raised, every time."""
        chunks = channel(4, 1, 2)
        error = ConnectionError("gone")
        chunks.end(error)
        assert [chunks.take(), chunks.take()] == [1, 2]
        for _ in range(2):
            with pytest.raises(ConnectionError) as raised:
                chunks.take()
            assert raised.value is error

    def test_an_error_that_is_raised_often_does_not_grow(self) -> None:
        """Its traceback is as long the tenth time as the first."""
        chunks = channel()
        chunks.end(ConnectionError("gone"))
        lengths = set()
        for _ in range(10):
            with pytest.raises(ConnectionError) as raised:
                chunks.take()
            lengths.add(len(raised.traceback))
        assert len(lengths) == 1

    def test_the_end_is_the_end_every_time(self) -> None:
        """Whoever asks again is told the same."""
        chunks = channel(4, 1)
        chunks.end(None)
        assert chunks.ended
        assert [chunks.take(), chunks.take(), chunks.take()] == [1, END, END]

    def test_nothing_is_taken_in_after_the_seal(self) -> None:
        """One alone may seal it, and that one says the end."""
        chunks = channel(4, 1)
        assert chunks.seal()
        assert not chunks.seal()
        assert not chunks.put(2)
        assert chunks.closed()
        assert not chunks.ended
        chunks.end(None)
        assert [chunks.take(), chunks.take()] == [1, END]

    def test_nothing_is_taken_in_when_the_consumer_has_left(self) -> None:
        """The producer learns it by its next chunk."""
        chunks = channel(4, 1)
        chunks.left = True
        assert chunks.closed()
        assert not chunks.put(2)
        assert not chunks.full()

    def test_who_has_left_early_has_no_more_chunks(self) -> None:
        """Whatever the producer was at: what lies in the buffer is not delivered by chance."""
        chunks = channel(4, 1, 2)
        assert chunks.take() == 1
        chunks.left = True
        with pytest.raises(RequestCancelledError, match="given up by its consumer"):
            chunks.take()
        chunks.end(None)
        assert (len(chunks), len(chunks.received)) == (0, 0)
        with pytest.raises(RequestCancelledError, match="given up by its consumer"):
            chunks.take()

    def test_who_leaves_after_the_end_may_hear_of_it_again(self) -> None:
        """Leaving a loop that has come to its end gives nothing up."""
        chunks = channel(4, 1)
        chunks.end(None)
        assert [chunks.take(), chunks.take()] == [1, END]
        chunks.left = True
        assert chunks.take() is END

    def test_a_reader_is_woken_once(self) -> None:
        """By the next chunk, or at once when there is one, or an end."""
        chunks, early, late, at_the_end = channel(), Wakes(), Wakes(), Wakes()
        chunks.watch_chunks(early)
        assert early.count == 0
        chunks.put(1)
        chunks.put(2)
        assert early.count == 1
        chunks.watch_chunks(late)
        assert late.count == 1
        assert [chunks.take(), chunks.take()] == [1, 2]
        chunks.watch_chunks(at_the_end)
        chunks.end(None)
        assert at_the_end.count == 1
        chunks.watch_chunks(late)
        assert late.count == 2

    def test_who_polls_leaves_no_trail(self) -> None:
        """A wake that was taken back is not called."""
        chunks, wake = channel(), Wakes()
        chunks.watch_chunks(wake)
        chunks.unwatch_chunks(wake)
        chunks.unwatch_chunks(wake)
        chunks.put(1)
        assert wake.count == 0

    @pytest.mark.parametrize(("capacity", "takes"), [(1, 1), (2, 1), (4, 2), (64, 32)])
    def test_a_producer_goes_on_when_half_is_free(self, capacity: int, takes: int) -> None:
        """So that both sides work in batches, and do not wake each other for every chunk."""
        chunks, wake = channel(capacity, *range(capacity)), Wakes()
        chunks.watch_room(wake)
        for _ in range(takes - 1):
            chunks.take()
        assert wake.count == 0
        chunks.take()
        assert wake.count == 1
        while chunks.take() is not EMPTY:
            assert wake.count == 1

    def test_a_producer_with_room_is_not_held(self) -> None:
        """There may have become room between its look and its watch."""
        chunks, wake = channel(2, 1), Wakes()
        chunks.watch_room(wake)
        assert wake.count == 1

    @pytest.mark.parametrize("how", ["ended", "left"])
    def test_a_producer_is_not_held_by_a_stream_that_nobody_reads(self, how: str) -> None:
        """The end wakes who waits, and after it nobody waits."""
        chunks, before, after = channel(1, 1), Wakes(), Wakes()
        chunks.watch_room(before)
        chunks.left = how == "left"
        chunks.end(None)
        chunks.watch_room(after)
        assert (before.count, after.count) == (1, 1)

    def test_what_it_remembers_is_bounded(self) -> None:
        """The last so many chunks taken, and the count of all."""
        chunks = channel(1)
        for number in range(RECEIVED_LIMIT + 10):
            chunks.put(number)
            chunks.take()
        assert chunks.taken == RECEIVED_LIMIT + 10
        assert list(chunks.received) == list(range(10, RECEIVED_LIMIT + 10))

    def test_what_it_remembers_is_bounded_in_length_too(self) -> None:
        """Strings and bytes up to a million in all, but the latest chunk whatever its size."""
        chunks = channel(1)
        for size in (400_000, 500_000, 200_000, 300_000):
            chunks.put("x" * size)
            chunks.take()
        assert [len(chunk) for chunk in chunks.received] == [500_000, 200_000, 300_000]
        chunks.put(bytes(2 * RECEIVED_LENGTH))
        chunks.take()
        assert [len(chunk) for chunk in chunks.received] == [2 * RECEIVED_LENGTH]

    def test_a_good_end_forgets_what_was_received(self) -> None:
        """Only the error of an interruption asks for it."""
        chunks = channel(4, 1)
        assert chunks.take() == 1
        chunks.end(None)
        assert list(chunks.received) == [1]
        assert chunks.take() is END
        assert (chunks.taken, list(chunks.received)) == (1, [])

    def test_its_repr_tells_its_state(self) -> None:
        """As the tests of a fault want to read it."""
        chunks = channel(4, 1)
        assert repr(chunks) == "<Channel not begun, 1/4 chunks>"
        chunks.begun_by = ("r", 1)
        assert repr(chunks) == "<Channel open, 1/4 chunks>"
        chunks.end(None)
        assert repr(chunks) == "<Channel ended, 1/4 chunks>"
        assert (repr(EMPTY), repr(END)) == ("<no chunk yet>", "<the end>")


@dataclass
class Model:
    """A channel in four fields."""

    capacity: int
    buffer: list[int] = field(default_factory=list)
    taken: list[int] = field(default_factory=list)
    sealed: bool = False
    left: bool = False


STEPS = st.lists(st.sampled_from(["put", "put", "take", "take", "seal", "leave"]), max_size=60)


class TestChannelModel:
    @given(STEPS, st.integers(1, 5), st.booleans())
    def test_any_sequence_matches_a_list(
        self, steps: list[str], capacity: int, fails: bool
    ) -> None:
        """Order is kept, a well-behaved producer stays within the capacity, nothing is lost before
        the end, and the error comes last.
        """
        chunks, model = Channel(capacity), Model(capacity)
        waits: list[int] = []
        for number, step in enumerate(steps):
            if step == "put" and not waits:
                taken_in = chunks.put(number)
                assert taken_in is not (model.sealed or model.left)
                model.buffer += [number] * taken_in
                if chunks.full() and not chunks.closed():
                    waits.append(1)
                    chunks.watch_room(waits.clear)
            elif step == "take" and not model.left:
                model.taken += model.buffer[:1]
                assert chunks.take() == next(iter(model.buffer), EMPTY)
                del model.buffer[:1]
            elif step == "seal":
                assert chunks.seal() is not model.sealed
                model.sealed = True
            elif step == "leave":
                chunks.left = model.left = True
            assert len(chunks) == len(model.buffer) <= capacity
        self.check_the_end(chunks, model, fails)
        assert waits == []

    def check_the_end(self, chunks: Channel, model: Model, fails: bool) -> None:
        chunks.end(ConnectionError("gone") if fails else None)
        if model.left:
            with pytest.raises(RequestCancelledError):
                chunks.take()
            return
        assert [chunks.take() for _ in model.buffer] == model.buffer
        assert list(chunks.received) == model.taken + model.buffer
        if fails:
            with pytest.raises(ConnectionError):
                chunks.take()
        else:
            assert chunks.take() is END


ANEWS = st.lists(
    st.sampled_from(["begin", "begin empty", "put", "keep alive", "take", "take", "fail"]),
    max_size=60,
)


class TestRestartModel:
    @given(ANEWS, st.integers(1, 4), st.booleans(), st.booleans())
    def test_after_all_restarts_its_consumer_has_one_whole_answer(
        self, steps: list[str], capacity: int, holds: bool, ends_well: bool
    ) -> None:
        """Whatever the attempts have sent and whenever it looks: what it has had since the last
        mark is a beginning of one attempt's chunks, and at a good end all of the last one's.
        """
        chunks, consumer = Channel(capacity, holds), Consumer()
        sent: dict[int, list[Any]] = {0: []}
        number, ticket = 0, None
        for step, what in enumerate([*steps, "begin"]):
            if what.startswith("begin") and ticket is None:
                number += 1
                ticket, sent[number] = ("r", number), []
                chunks.begun_by, chunks.member, chunks.attempts = ticket, f"m{number}", number
                chunks.start_over()
                assert chunks.put((number, step), ticket, counts=what == "begin")
                sent[number].append((number, step))
            elif what in ("put", "keep alive") and ticket is not None:
                assert not chunks.put("late", ("r", number - 1))
                assert chunks.put((number, step), ticket, what == "put" and not chunks.counted)
                sent[number].append((number, step))
            elif what == "fail" and ticket is not None:
                assert chunks.seal(ticket)
                kind = FailureKind.UNKNOWN
                chunks.reopen(Cut(f"m{number}", kind, "cut") if chunks.counted else None)
                assert chunks.closed(ticket)
                ticket = None
            elif what == "take":
                consumer.take(chunks, sent)
        assert chunks.seal(ticket)
        chunks.end(None if ends_well else ConnectionError("gone"))
        consumer.read(chunks, sent)
        if ends_well:
            assert consumer.had == sent[number]
        assert consumer.received == (None if ends_well else consumer.had)


def test_the_mark_of_a_restart_outlives_an_attempt_without_a_chunk_that_counts() -> None:
    """It names the attempt that follows it in the end."""
    chunks = channel(4, "a")
    assert chunks.take() == "a"
    chunks.reopen(Cut("m1", FailureKind.UNKNOWN, "cut"))
    for chunks.attempts, ping in ((2, "ping"), (3, "b")):
        chunks.start_over()
        chunks.put(ping)
        if ping == "ping":
            chunks.reopen()
    assert [chunks.take(), chunks.take()] == [
        Restarted("m1", FailureKind.UNKNOWN, "cut", 3, 1),
        "b",
    ]


class Consumer:
    """What one has had since the last mark; `received` is what the error at the end would say."""

    def __init__(self) -> None:
        self.had: list[Any] = []
        self.received: list[Any] | None = None

    def take(self, chunks: Channel, sent: dict[int, list[Any]]) -> bool:
        """Whether there was something to take."""
        chunk = chunks.take()
        if chunk in (EMPTY, END):
            return False
        if chunk is ANEW or isinstance(chunk, Restarted):
            if isinstance(chunk, Restarted):
                assert (chunk.dropped, chunk.attempt) == (len(self.had), max(sent))
            self.had = []
        else:
            self.had.append(chunk)
            assert self.had == sent[chunk[0]][: len(self.had)]
        return True

    def read(self, chunks: Channel, sent: dict[int, list[Any]]) -> None:
        try:
            while self.take(chunks, sent):
                pass
        except ConnectionError:
            self.received = list(chunks.received)


class Desked:
    """A writer with all that it needs around it: a desk, a job, a call that has begun."""

    def __init__(self, **config: Any) -> None:
        self.clock = FakeClock()
        self.settings = PoolConfig(**config)
        self.channel = Channel(self.settings.stream_buffer)
        future = StreamFuture(self.channel, "r")
        policy = RetryPolicy.from_config(self.settings)
        self.claim = Job("r", Request("payload"), future, 0.0, None, policy).claim
        self.claim.attempts = 2
        self.desk = Desk()
        self.ticket = ("r", 2)
        self.desk.open(self.ticket, self.claim)
        self.begun: list[float] = []
        self.resumed = 0
        self.refuses: BaseException | None = None
        place = ThreadPlace("place", self.clock)
        self.call = PlainCall("call", place, lambda _: None, lambda *_: None)
        self.call.begin(self.clock.now())
        self.writer = self.make_writer()
        self.writer.start(self.call)

    def make_writer(self) -> ChunkWriter:
        return ChunkWriter(
            self.ticket,
            "member",
            self.desk,
            self.clock,
            self.settings,
            self.begun.append,
            self._resume,
            self._accept,
        )

    def _resume(self) -> None:
        self.resumed += 1

    def _accept(self, answer: Any) -> None:
        if self.refuses is not None:
            raise self.refuses

    def arrived(self) -> list[Any]:
        chunks = []
        while (chunk := self.channel.take()) not in (EMPTY, END):
            chunks.append(chunk)
        return chunks


class TestWriter:
    def test_the_first_chunk_that_counts_begins_the_stream(self) -> None:
        """It is claimed at the desk, the channel says whose it is, and how long it took is told."""
        at = Desked()
        at.clock.advance(0.5)
        assert at.writer.write("a")
        assert (at.begun, at.writer.first_chunk_s) == ([0.5], 0.5)
        assert at.channel.begun_by == at.ticket
        assert (at.channel.member, at.channel.attempts) == ("member", 2)
        assert not at.desk.is_open(at.ticket)
        assert at.writer.write("b")
        assert at.begun == [0.5]
        assert at.arrived() == ["a", "b"]

    def test_who_ends_a_stream_that_has_begun_finds_its_first_chunk_in_it(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nothing is broken off before its consumer can have what it is said to have had."""
        at = Desked()
        begin = at.desk.begin

        def begin_and_be_given_up(*arguments: Any) -> Claim | None:
            claim = begin(*arguments)
            assert at.desk.give_up(at.ticket, at.claim)
            return claim

        monkeypatch.setattr(at.desk, "begin", begin_and_be_given_up)
        assert at.writer.write("")
        assert at.writer.write("a")
        assert not at.writer.write("b")
        assert at.arrived() == ["", "a"]

    def test_leading_empty_chunks_wait_for_it(self) -> None:
        """They come before it if it comes, and are seen by nobody until then."""
        at = Desked()
        assert at.writer.write("")
        assert at.writer.write(None)
        assert (at.begun, len(at.channel), at.channel.begun_by) == ([], 0, None)
        assert at.writer.write("a")
        assert at.arrived() == ["", None, "a"]

    @pytest.mark.parametrize("buffer", [1, 2, 4])
    def test_with_more_leading_ones_than_fit_it_begins_without_one_that_counts(
        self, buffer: int
    ) -> None:
        """None is dropped: from there on its consumer holds the agent back."""
        at = Desked(stream_buffer=buffer, is_empty=lambda chunk: chunk < 100)
        for number in range(buffer):
            assert at.writer.write(number)
        assert (at.channel.begun_by, len(at.channel)) == (None, 0)
        for number in range(buffer, 10):
            assert at.writer.write(number)
        assert (at.channel.begun_by, at.channel.counted) == (at.ticket, False)
        assert not at.writer.pulse.counts
        assert at.channel.full()
        assert at.writer.write(100)
        assert at.channel.counted
        assert (at.writer.pulse.counts, at.resumed) == (True, 1)
        assert at.arrived() == [*range(10), 100]

    def test_the_same_empty_chunk_again_and_again_takes_no_room(self) -> None:
        """It is kept once with a count, and comes as often as it was sent."""
        at = Desked(stream_buffer=2)
        for chunk in ("", None):
            for _ in range(1000):
                assert at.writer.write(chunk)
        assert len(at.channel) == 0
        assert at.writer.write("a")
        assert len(at.channel) == 3
        assert at.arrived() == [""] * 1000 + [None] * 1000 + ["a"]
        assert at.channel.taken == 2001

    def test_a_stream_of_empty_chunks_alone_is_one_all_the_same(self) -> None:
        """When the agent has nothing to add, what was kept back is the stream."""
        at = Desked(stream_buffer=1, is_failure=None)
        at.writer.write("")
        at.writer.flush()
        at.writer.flush()
        assert len(at.begun) == 1
        assert at.arrived() == [""]

    def test_a_stream_without_any_chunk_does_not_begin(self) -> None:
        """There is nothing to say whose it is."""
        at = Desked(is_failure=None)
        at.writer.flush()
        assert at.begun == []
        assert at.writer.finish() is None

    def test_a_plain_answer_is_the_only_chunk(self) -> None:
        """Also one that counts as empty."""
        answers: list[Any] = ["answer", "", None, []]
        for answer in answers:
            at = Desked()
            at.writer.accept(answer)
            assert at.arrived() == [answer]

    def test_a_plain_answer_may_be_refused(self) -> None:
        """Then nothing has been sent."""
        at = Desked()
        at.refuses = ValueError("no good")
        with pytest.raises(ValueError, match="no good"):
            at.writer.accept("answer")
        assert at.begun == []

    def test_nothing_begins_that_has_been_given_up(self) -> None:
        """Whoever took the attempt from the desk has the say."""
        at = Desked()
        assert at.desk.withdraw(at.ticket)
        assert not at.writer.write("a")
        assert (at.begun, at.writer.stopped, len(at.channel)) == ([], True, 0)

    @pytest.mark.parametrize("chunk", ["", "a"])
    def test_nothing_begins_in_a_cancelled_call(self, chunk: str) -> None:
        """An endless run of empty chunks ends, too."""
        at = Desked()
        at.call.cancelled = CancelReason.CALLER
        assert not at.writer.write(chunk)
        assert (at.begun, at.writer.stopped) == ([], True)

    def test_what_was_kept_back_is_not_sent_when_it_was_given_up(self) -> None:
        """The end of an agent that had nothing but empty chunks comes too late."""
        at = Desked(is_failure=None)
        at.writer.write("")
        at.desk.withdraw(at.ticket)
        at.writer.flush()
        assert (at.begun, at.writer.stopped) == ([], True)

    def test_one_alone_ends_a_stream(self) -> None:
        """The producer, unless the router or the consumer was faster."""
        at = Desked()
        at.writer.write("a")
        assert at.writer.finish() is at.claim
        assert at.writer.finish() is None
        sealed = Desked()
        sealed.writer.write("a")
        assert sealed.desk.give_up(sealed.ticket, sealed.claim)
        assert not sealed.desk.give_up(sealed.ticket, sealed.claim)
        assert sealed.writer.finish() is None
        left = Desked()
        left.writer.write("a")
        left.channel.left = True
        assert left.writer.finish() is None

    def test_the_router_does_not_end_what_another_attempt_has_begun(self) -> None:
        """The stream is the winner's."""
        at = Desked()
        at.writer.write("a")
        assert not at.desk.give_up(("r", 1), at.claim)

    def test_since_when_a_chunk_is_owed(self) -> None:
        """Since the last one that counts; an empty one buys no time."""
        at = Desked()
        at.writer.write("a")
        at.clock.advance(1)
        at.writer.write("")
        assert at.writer.pulse.owed_since() == at.clock.now() - 1
        at.writer.write("b")
        assert at.writer.pulse.owed_since() == at.clock.now()

    def test_a_producer_that_is_held_back_owes_nothing(self) -> None:
        """From when it goes on it does again, and who watches is told."""
        at = Desked(stream_buffer=1)
        at.writer.write("a")
        held = threading.Thread(target=at.writer.wait_for_room)
        watched = threading.Event()
        watch_room = at.channel.watch_room

        def spy(*arguments: Any) -> None:
            watch_room(*arguments)
            watched.set()

        at.channel = at.writer._channel = Spied(at.channel, spy)  # type: ignore[assignment]
        held.start()
        assert watched.wait(10)
        assert at.writer.pulse.owed_since() is None
        at.clock.advance(5)
        assert at.channel.take() == "a"
        held.join(10)
        assert (at.resumed, at.writer.pulse.watched) == (1, False)
        assert at.writer.pulse.owed_since() == at.clock.now()

    def test_with_room_nobody_waits(self) -> None:
        """Neither in a thread nor on a loop."""
        at = Desked()
        assert at.writer.wait_for_room()
        at.writer.write("a")
        assert at.writer.wait_for_room()
        assert asyncio.run(at.writer.room())

    @pytest.mark.parametrize("where", ["thread", "loop"])
    def test_a_producer_that_is_held_back_hears_of_the_end(self, where: str) -> None:
        """It makes no further chunk in vain."""
        at = Desked(stream_buffer=1)
        at.writer.write("a")
        threading.Timer(0, at.channel.end, [None]).start()
        wanted = (
            within(at.writer.wait_for_room)
            if where == "thread"
            else within(lambda: asyncio.run(at.writer.room()))
        )
        assert not wanted
        assert at.writer.stopped

    def test_after_its_release_it_takes_nothing(self) -> None:
        """A thread that was given up on finds out when it writes next."""
        at = Desked()
        at.writer.write("a")
        at.writer.release()
        for chunk in ("", "b"):
            assert not at.writer.write(chunk)
        assert not at.writer.wanted()
        assert at.arrived() == ["a"]

    @pytest.mark.parametrize("chunk", [None, "", b"", bytearray(), [], (), {}])
    def test_what_counts_as_empty(self, chunk: Any) -> None:
        """None, and strings and containers with nothing in them."""
        assert nothing_in(chunk)

    @pytest.mark.parametrize("chunk", [0, False, 0.0, " ", [None], {"a": 1}, object()])
    def test_what_does_not_count_as_empty(self, chunk: Any) -> None:
        """A number that is 0 is a chunk."""
        assert not nothing_in(chunk)


class Spied:
    """A channel with another `watch_room`."""

    def __init__(self, chunks: Channel, watch_room: Callable[..., None]) -> None:
        object.__setattr__(self, "_chunks", chunks)
        object.__setattr__(self, "watch_room", watch_room)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._chunks, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._chunks, name, value)


class Sink:
    """A writer that notes what comes and stops after so many chunks."""

    def __init__(self, limit: int = 100, rooms: int = 100) -> None:
        self.chunks: list[Any] = []
        self.answers: list[Any] = []
        self._limit = limit
        self._rooms = rooms

    def write(self, chunk: Any) -> bool:
        self.chunks.append(chunk)
        return len(self.chunks) < self._limit

    def accept(self, answer: Any) -> None:
        self.answers.append(answer)

    def wait_for_room(self) -> bool:
        self._rooms -= 1
        return self._rooms >= 0

    async def room(self) -> bool:
        return self.wait_for_room()


class Source:
    """Generators that note how they were closed."""

    def __init__(self, *steps: Any) -> None:
        self.steps = steps
        self.made = 0
        self.closed: list[str] = []

    def sync(self) -> Iterator[Any]:
        try:
            for step in self.steps:
                self.made += 1
                yield self._step(step)
        except BaseException as error:
            self.closed.append(type(error).__name__)
            raise

    async def asynchronous(self) -> AsyncIterator[Any]:
        try:
            for step in self.steps:
                self.made += 1
                yield self._step(step)
        except BaseException as error:
            self.closed.append(type(error).__name__)
            raise

    def _step(self, step: Any) -> Any:
        if isinstance(step, BaseException):
            raise step
        return step


def flowing(answer: Callable[[], Any], sink: Sink) -> None:
    async def main() -> None:
        await flow(answer(), sink)

    asyncio.run(main())


def pumps(source: Source) -> list[tuple[str, Callable[[Sink], None]]]:
    return [
        ("pour", lambda sink: pour(source.sync(), sink)),
        ("flow sync", lambda sink: flowing(source.sync, sink)),
        ("flow async", lambda sink: flowing(source.asynchronous, sink)),
    ]


PUMPS = range(3)


class TestFlow:
    @pytest.mark.parametrize("which", PUMPS)
    def test_every_chunk_is_passed_on(self, which: int) -> None:
        """In order, up to the end."""
        source, sink = Source(1, 2, 3), Sink()
        pumps(source)[which][1](sink)
        assert (sink.chunks, sink.answers, source.closed) == ([1, 2, 3], [], [])

    @pytest.mark.parametrize("which", PUMPS)
    def test_when_nobody_wants_more_the_generator_is_closed(self, which: int) -> None:
        """Where it waits: at its yield."""
        source, sink = Source(1, 2, 3), Sink(limit=2)
        pumps(source)[which][1](sink)
        assert (sink.chunks, source.made, source.closed) == ([1, 2], 2, ["GeneratorExit"])

    @pytest.mark.parametrize("which", PUMPS)
    def test_after_a_wait_in_vain_it_makes_no_further_chunk(self, which: int) -> None:
        """The consumer may leave while the producer is held back."""
        source, sink = Source(1, 2, 3), Sink(rooms=1)
        pumps(source)[which][1](sink)
        assert (sink.chunks, source.made, source.closed) == ([1, 2], 2, ["GeneratorExit"])

    @pytest.mark.parametrize("which", PUMPS)
    @pytest.mark.parametrize("error", [ConnectionError("gone"), SystemExit(3)])
    def test_its_error_is_raised_after_its_chunks(self, which: int, error: BaseException) -> None:
        """Whatever it is."""
        source, sink = Source(1, error), Sink()
        with pytest.raises(type(error)):
            pumps(source)[which][1](sink)
        assert sink.chunks == [1]

    @pytest.mark.parametrize("error", [ValueError("close"), SystemExit(3), KeyboardInterrupt()])
    def test_what_closing_raises_costs_nothing(self, error: BaseException) -> None:
        """The chunks are out."""

        class Stubborn:
            def __init__(self) -> None:
                self.left = [2, 1]

            def __iter__(self) -> Stubborn:
                return self

            def __next__(self) -> int:
                if not self.left:
                    raise StopIteration
                return self.left.pop()

            def close(self) -> None:
                raise error

        sink = Sink()
        pour(Stubborn(), sink)
        flowing(Stubborn, sink)
        assert sink.chunks == [1, 2, 1, 2]
        assert collect(iter(Stubborn())) == [1, 2]
        assert asyncio.run(acollect(Stubborn())) == [1, 2]

    def test_an_iterator_that_cannot_be_closed(self) -> None:
        """It need not be a generator; its `close` may be no method, or not be readable."""

        class Odd:
            def __next__(self) -> int:
                raise StopIteration

            def __iter__(self) -> Odd:
                return self

            @property
            def close(self) -> Any:
                raise SystemExit(1)

        sink = Sink()
        pour(iter([1, 2]), sink)
        pour(Odd(), sink)
        flowing(Odd, sink)
        assert sink.chunks == [1, 2]

    def test_what_does_not_stream_is_an_answer(self, tmp_path: Path) -> None:
        """A list, a string, an open file, a mock with every method there is."""
        path = tmp_path / "file"
        path.write_text("a\nb\n")
        with path.open() as file:
            answers: list[Any] = [[1, 2], "text", None, range(3), file, MagicMock(), AsyncMock()]
            for answer in answers:
                sink = Sink()
                pour(answer, sink)
                assert (sink.chunks, sink.answers) == ([], [answer])
                assert not is_stream(answer)
                assert is_async_stream(answer) is hasattr(type(answer), "__anext__")

    def test_on_a_loop_an_awaitable_is_awaited_first(self) -> None:
        """A coroutine that returns an answer, or an async iterator."""

        async def answers() -> str:
            return "answer"

        async def streams() -> AsyncIterator[int]:
            return Source(1, 2).asynchronous()

        sink = Sink()
        flowing(answers, sink)
        flowing(streams, sink)
        assert (sink.answers, sink.chunks) == (["answer"], [1, 2])

    def test_what_streams(self) -> None:
        """Iterators, sync and async."""
        source = Source()
        for answer in (source.sync(), source.asynchronous(), iter([]), map(str, [])):
            assert is_stream(answer)

    def test_collecting_takes_all_and_closes(self) -> None:
        """An ask wants all chunks at once."""
        source = Source(1, 2)
        assert collect(source.sync()) == [1, 2]
        assert asyncio.run(acollect(source.asynchronous())) == [1, 2]
        assert asyncio.run(acollect(source.sync())) == [1, 2]

    def test_collecting_raises_what_the_agent_raises(self) -> None:
        """There is no half an answer."""
        source = Source(1, ConnectionError("gone"))
        with pytest.raises(ConnectionError):
            collect(source.sync())
        with pytest.raises(ConnectionError):
            asyncio.run(acollect(source.asynchronous()))
