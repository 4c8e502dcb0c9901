"""The parts of a stream on their own: the channel, the producer's end, pumping and collecting."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import pytest
from helpers_streams import Consumer
from hypothesis import given
from hypothesis import strategies as st

from greenroom import FailureKind, RequestCancelledError, Restarted
from greenroom.actors.runtime.channel import (
    EMPTY,
    END,
    RECEIVED_LENGTH,
    RECEIVED_LIMIT,
    Channel,
    Cut,
)
from greenroom.actors.runtime.deferral import DEFERRAL


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

    def test_what_was_short_counts_once_something_long_comes(self) -> None:
        """Nobody measures short chunks, which cannot be too long together; from the first long one
        on all count, those that came before it too.
        """
        chunks = channel(1)
        short = RECEIVED_LENGTH // RECEIVED_LIMIT
        for size in [short] * (RECEIVED_LIMIT + 10) + [5 * short, short]:
            chunks.put("x" * size)
            chunks.take()
        kept = [len(chunk) for chunk in chunks.received]
        assert kept == [short] * (RECEIVED_LIMIT - 6) + [5 * short, short]
        assert sum(kept) == RECEIVED_LENGTH

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


@pytest.mark.parametrize("chunks", [["a", "b", "c"], [b"a", object(), {}], ["a" * 1_000, "b", ""]])
def test_no_handler_of_a_signal_breaks_in_on_a_consumer_that_holds_the_lock(
    chunks: list[Any],
) -> None:
    """It may stop the pool and wait for that, and the router waits for this lock: wherever one may
    come, the lock is free, or all of them are put off.
    """
    held: list[str] = []
    seen: set[str] = set()

    def look(frame: FrameType, event: str, argument: Any) -> None:
        if event in ("call", "c_return") and frame.f_globals.get("__name__") == Channel.__module__:
            seen.add(frame.f_code.co_name)
            if stream._lock.locked() and not DEFERRAL.on:
                held.append(f"{frame.f_code.co_qualname}, line {frame.f_lineno}")

    def wake() -> None:
        pass

    stream = channel(4)
    stream.member = "a"
    for chunk in chunks:
        stream.put(chunk, counts=True)
    sys.setprofile(look)
    try:
        took = [stream.take() for _ in chunks]
        assert stream.take() is EMPTY
        stream.watch_chunks(wake)
        stream.unwatch_chunks(wake)
        stream.watch_first(wake)
        stream.first()
    finally:
        sys.setprofile(None)
    stream.end(None)
    sys.setprofile(look)
    try:
        assert stream.take() is END
    finally:
        sys.setprofile(None)
    assert took == chunks
    assert {"take", "_last_word", "_unwatch_chunks"} <= seen
    assert held == []
