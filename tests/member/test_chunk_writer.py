"""The producer's end of a stream: a writer that may have to wait, pumping, and collecting."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, MagicMock

import pytest
from helpers_streams import within

from greenroom import PoolConfig, Request
from greenroom.actors.claims.claims import Claim, Claims
from greenroom.actors.executors.agent_output import (
    acollect,
    collect,
    flow,
    is_async_stream,
    is_stream,
    pour,
)
from greenroom.actors.executors.call import PlainCall
from greenroom.actors.executors.thread_executor import ThreadExecutor
from greenroom.actors.member.chunk_writer import ChunkWriter
from greenroom.actors.policy.retry_plan import RetryPolicy
from greenroom.actors.reading.answer_judgement import nothing_in
from greenroom.actors.request.job import Job
from greenroom.actors.runtime.channel import EMPTY, END, Channel
from greenroom.actors.runtime.future import StreamFuture
from greenroom.messages.status import CancelReason
from greenroom.testing import FakeClock


class Claimed:
    """A writer with all that it needs around it: claims, a job, a call that has begun."""

    def __init__(self, **config: Any) -> None:
        self.clock = FakeClock()
        self.settings = PoolConfig(**config)
        self.channel = Channel(self.settings.stream_buffer)
        future = StreamFuture(self.channel, "r")
        policy = RetryPolicy.from_config(self.settings)
        self.claim = Job("r", Request("payload"), future, 0.0, None, policy).claim
        self.claim.attempts = 2
        self.claims = Claims()
        self.ticket = ("r", 2)
        self.claims.open(self.ticket, self.claim)
        self.begun: list[float] = []
        self.resumed = 0
        self.refuses: BaseException | None = None
        place = ThreadExecutor("place", self.clock)
        self.call = PlainCall("call", place, lambda _: None, lambda *_: None)
        self.call.begin(self.clock.now())
        self.writer = self.make_writer()
        self.writer.start(self.call)

    def make_writer(self) -> ChunkWriter:
        return ChunkWriter(
            self.ticket,
            "member",
            self.claims,
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
        """It is claimed, the channel says whose it is, and how long it took is told."""
        at = Claimed()
        at.clock.advance(0.5)
        assert at.writer.write("a")
        assert (at.begun, at.writer.first_chunk_s) == ([0.5], 0.5)
        assert at.channel.begun_by == at.ticket
        assert (at.channel.member, at.channel.attempts) == ("member", 2)
        assert not at.claims.is_open(at.ticket)
        assert at.writer.write("b")
        assert at.begun == [0.5]
        assert at.arrived() == ["a", "b"]

    def test_who_ends_a_stream_that_has_begun_finds_its_first_chunk_in_it(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nothing is broken off before its consumer can have what it is said to have had."""
        at = Claimed()
        begin = at.claims.begin

        def begin_and_be_given_up(*arguments: Any) -> Claim | None:
            claim = begin(*arguments)
            assert at.claims.give_up(at.ticket, at.claim)
            return claim

        monkeypatch.setattr(at.claims, "begin", begin_and_be_given_up)
        assert at.writer.write("")
        assert at.writer.write("a")
        assert not at.writer.write("b")
        assert at.arrived() == ["", "a"]

    def test_leading_empty_chunks_wait_for_it(self) -> None:
        """They come before it if it comes, and are seen by nobody until then."""
        at = Claimed()
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
        at = Claimed(stream_buffer=buffer, is_empty=lambda chunk: chunk < 100)
        for number in range(buffer):
            assert at.writer.write(number)
        assert (at.channel.begun_by, len(at.channel)) == (None, 0)
        for number in range(buffer, 10):
            assert at.writer.write(number)
        assert (at.channel.begun_by, at.channel.counted) == (at.ticket, False)
        assert not at.writer.life_signs.counts
        assert at.channel.full()
        assert at.writer.write(100)
        assert at.channel.counted
        assert (at.writer.life_signs.counts, at.resumed) == (True, 1)
        assert at.arrived() == [*range(10), 100]

    def test_the_same_empty_chunk_again_and_again_takes_no_room(self) -> None:
        """It is kept once with a count, and comes as often as it was sent."""
        at = Claimed(stream_buffer=2)
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
        at = Claimed(stream_buffer=1, is_failure=None)
        at.writer.write("")
        at.writer.flush()
        at.writer.flush()
        assert len(at.begun) == 1
        assert at.arrived() == [""]

    def test_a_stream_without_any_chunk_does_not_begin(self) -> None:
        """There is nothing to say whose it is."""
        at = Claimed(is_failure=None)
        at.writer.flush()
        assert at.begun == []
        assert at.writer.finish() is None

    def test_a_plain_answer_is_the_only_chunk(self) -> None:
        """Also one that counts as empty."""
        answers: list[Any] = ["answer", "", None, []]
        for answer in answers:
            at = Claimed()
            at.writer.accept(answer)
            assert at.arrived() == [answer]

    def test_a_plain_answer_may_be_refused(self) -> None:
        """Then nothing has been sent."""
        at = Claimed()
        at.refuses = ValueError("no good")
        with pytest.raises(ValueError, match="no good"):
            at.writer.accept("answer")
        assert at.begun == []

    def test_nothing_begins_that_has_been_given_up(self) -> None:
        """Whoever took the attempt from the claims has the say."""
        at = Claimed()
        assert at.claims.withdraw(at.ticket)
        assert not at.writer.write("a")
        assert (at.begun, at.writer.stopped, len(at.channel)) == ([], True, 0)

    @pytest.mark.parametrize("chunk", ["", "a"])
    def test_nothing_begins_in_a_cancelled_call(self, chunk: str) -> None:
        """An endless run of empty chunks ends, too."""
        at = Claimed()
        at.call.cancelled = CancelReason.CALLER
        assert not at.writer.write(chunk)
        assert (at.begun, at.writer.stopped) == ([], True)

    def test_what_was_kept_back_is_not_sent_when_it_was_given_up(self) -> None:
        """The end of an agent that had nothing but empty chunks comes too late."""
        at = Claimed(is_failure=None)
        at.writer.write("")
        at.claims.withdraw(at.ticket)
        at.writer.flush()
        assert (at.begun, at.writer.stopped) == ([], True)

    def test_one_alone_ends_a_stream(self) -> None:
        """The producer, unless the router or the consumer was faster."""
        at = Claimed()
        at.writer.write("a")
        assert at.writer.finish() is at.claim
        assert at.writer.finish() is None
        sealed = Claimed()
        sealed.writer.write("a")
        assert sealed.claims.give_up(sealed.ticket, sealed.claim)
        assert not sealed.claims.give_up(sealed.ticket, sealed.claim)
        assert sealed.writer.finish() is None
        left = Claimed()
        left.writer.write("a")
        left.channel.left = True
        assert left.writer.finish() is None

    def test_the_router_does_not_end_what_another_attempt_has_begun(self) -> None:
        """The stream is the winner's."""
        at = Claimed()
        at.writer.write("a")
        assert not at.claims.give_up(("r", 1), at.claim)

    def test_since_when_a_chunk_is_owed(self) -> None:
        """Since the last one that counts; an empty one buys no time."""
        at = Claimed()
        at.writer.write("a")
        at.clock.advance(1)
        at.writer.write("")
        assert at.writer.life_signs.owed_since() == at.clock.now() - 1
        at.writer.write("b")
        assert at.writer.life_signs.owed_since() == at.clock.now()

    def test_a_producer_that_is_held_back_owes_nothing(self) -> None:
        """From when it goes on it does again, and who watches is told."""
        at = Claimed(stream_buffer=1)
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
        assert at.writer.life_signs.owed_since() is None
        at.clock.advance(5)
        assert at.channel.take() == "a"
        held.join(10)
        assert (at.resumed, at.writer.life_signs.watched) == (1, False)
        assert at.writer.life_signs.owed_since() == at.clock.now()

    def test_with_room_nobody_waits(self) -> None:
        """Neither in a thread nor on a loop."""
        at = Claimed()
        assert at.writer.wait_for_room()
        at.writer.write("a")
        assert at.writer.wait_for_room()
        assert asyncio.run(at.writer.room())

    @pytest.mark.parametrize("where", ["thread", "loop"])
    def test_a_producer_that_is_held_back_hears_of_the_end(self, where: str) -> None:
        """It makes no further chunk in vain."""
        at = Claimed(stream_buffer=1)
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
        at = Claimed()
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

    def has_room(self) -> bool:
        return False

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
