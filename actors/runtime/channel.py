"""The chunk channel of a stream: a bounded buffer between a member's agent and the consumer."""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, NamedTuple

from greenroom.actors.runtime.deferral import undisturbed
from greenroom.messages.errors import AttemptError, RequestCancelledError
from greenroom.messages.execution import Ticket
from greenroom.messages.replies import NO_METADATA, Restarted
from greenroom.messages.status import FailureKind

RECEIVED_LIMIT = 2000
"""How many of the chunks that its consumer has taken a stream remembers, for the error that tells
of an interruption: a stream of any length fits into a bounded memory."""
RECEIVED_LENGTH = 1_000_000
"""And how long they may be together, strings and bytes; the latest is remembered in any case."""
_SHORT = RECEIVED_LENGTH // RECEIVED_LIMIT
"""As long as all are that short, so many of them are never too long together: nobody measures."""

Wake = Callable[[], object]
"""To be called once at least: a second time it does nothing."""


class _Sign:
    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


EMPTY = _Sign("<no chunk yet>")
END = _Sign("<the end>")
ANEW = _Sign("<what came before is void>")
"""What a consumer takes between the empty chunks of a member that failed and the next stream."""


class Run:
    """The same chunk many times: an agent's keep-alives, which take no memory however many."""

    __slots__ = ("chunk", "count")

    def __init__(self, chunk: Any) -> None:
        self.chunk = chunk
        self.count = 1


_MEASURED = (str, bytes, bytearray)
_SPECIAL = frozenset({Run, Restarted, _Sign})


class Cut(NamedTuple):
    """How a stream broke off that another member is to start over: see `Restarted`."""

    member: str
    kind: FailureKind
    error: str


class Channel:
    """Chunks in order, from whoever produces to whoever consumes, in whatever threads they live.

    Nobody waits in here: who finds it full (or empty) leaves a `wake` to be called. A producer that
    had to wait goes on when half of the buffer is free, so that both sides work in batches.

    Where a stream is to start over, its chunks go on to be delivered until another attempt has its
    first one, which takes the place of those that are left: if none has, nothing was lost.

    Args:
        capacity: chunks that the buffer holds.
        holds: nothing is delivered before the end, and after an error nothing at all; the buffer
            has no bound then.

    Attributes:
        begun_by: the attempt whose chunks these are; None before the first one, and while nobody
            has begun to start over.
        member: its member; that of the last one while nobody has begun to start over.
        counted: whether a chunk of that attempt counts.
        attempts: how many attempts the request has taken so far.
        errors: of the members that failed before it began.
        cut: the members whose streams broke off: they get the request no more.
        left: whether the consumer has gone; it may be set without a lock, from a finalizer.
        taken: how many chunks the consumer has had, since it was started over.
    """

    __slots__ = (
        "_anew",
        "_chunks",
        "_error",
        "_first",
        "_firsts",
        "_length",
        "_lock",
        "_measures",
        "_readers",
        "_room",
        "_sealed",
        "_state",
        "_told",
        "_trace",
        "_writer",
        "attempts",
        "begun_by",
        "capacity",
        "counted",
        "cut",
        "errors",
        "holds",
        "left",
        "member",
        "metadata",
        "received",
        "taken",
    )

    def __init__(self, capacity: int, holds: bool = False) -> None:
        self.capacity = capacity
        self.holds = holds
        self.begun_by: Ticket | None = None
        self.member: str | None = None
        self.counted = False
        self.attempts = 0
        self.errors: tuple[AttemptError, ...] = ()
        self.metadata = NO_METADATA
        self.cut: frozenset[str] = frozenset()
        self.left = False
        self.taken = 0
        self.received: deque[Any] = deque(maxlen=RECEIVED_LIMIT)
        self._room = sys.maxsize if holds else capacity
        self._measures = False
        self._length = 0
        self._chunks: deque[Any] = deque()
        # Held for a few lines only, and never while a wake is called: that may run into a loop, or
        # into code of the app's, which may take from this very channel.
        self._lock = threading.Lock()
        self._sealed = False
        self._state: _Sign = EMPTY
        self._told = False
        self._error: BaseException | None = None
        self._trace: TracebackType | None = None
        # Who waits is written down under the lock, where it has just been seen that there is
        # nothing to take (no room): who brings something looks there under the same lock, so none
        # is missed.
        self._readers: list[Wake] = []
        self._writer: Wake | None = None
        self._anew: Cut | _Sign | None = None
        self._first: str | None = None
        self._firsts: list[Wake] = []

    def __len__(self) -> int:
        return len(self._chunks)

    # -- the producer

    def put(
        self,
        chunk: Any,
        ticket: Ticket | None = None,
        counts: bool = False,
        later: list[Wake] | None = None,
    ) -> bool:
        """Take a chunk of that attempt in, also past the capacity; False when nobody wants more.

        Args:
            counts: it is its first one that counts.
            later: is given who is to be woken, by a caller that holds a lock; None to wake here.
        """
        wakes: Sequence[Wake] = ()
        try:
            with self._lock:
                # Under the lock, as `seal` is: whoever has sealed it knows that no chunk comes
                # after that.
                begun_by = self.begun_by
                ours = begun_by is ticket or begun_by == ticket  # mostly it is the same object
                if self._sealed or self.left or not ours:
                    return False
                self._chunks.append(chunk)
                if counts:
                    self.counted = True
                if self.holds or not (counts or self._readers):
                    return True
                wakes, self._readers = self._readers, []
                if counts and self._first is None:
                    self._first = self.member
                    wakes += self._firsts
                    self._firsts = []
            return True
        finally:
            if wakes and later is not None:
                later += wakes
            elif wakes:
                call_each(wakes)

    def void(self, marker: Restarted, ticket: Ticket | None = None) -> bool:
        """The attempt itself says that all it has brought so far is void, as a pool does whose
        member was cut; False when nobody wants more.
        """
        cut = Cut(marker.member, marker.kind, marker.error)
        readers: Sequence[Wake] = ()
        try:
            with self._lock:
                if self._sealed or self.left or self.begun_by != ticket:
                    return False
                self._anew = cut
                self._start_over(marker.attempt)
                if not self.holds:
                    readers, self._readers = self._readers, []
            return True
        finally:
            call_each(readers)

    def full(self) -> bool:
        """Whether the producer is to wait before it makes another chunk."""
        # No lock: only the one that asks adds chunks. What is taken meanwhile makes it too careful
        # for a moment, and `watch_room` looks again under the lock.
        return len(self._chunks) >= self._room

    def closed(self, ticket: Ticket | None = None) -> bool:
        """Whether nobody wants more of that attempt."""
        return self._sealed or self.left or self.begun_by != ticket

    def watch_room(self, wake: Wake, ticket: Ticket | None = None) -> None:
        """Have `wake` called once there is room, or nobody wants more."""
        with self._lock:
            if self.full() and not self.closed(ticket):
                # A consumer that leaves without a lock wakes nobody. Its word to the router has the
                # attempt sealed, and then `end` or `reopen` calls this.
                self._writer = wake
                return
        wake()

    # -- the end, and a new beginning

    def seal(self, ticket: Ticket | None = None) -> bool:
        """Take no chunk of that attempt any more. Whoever gets True owns the end: it must call
        `end`, or `reopen`.
        """
        with self._lock:
            if self.begun_by != ticket:
                return False
            # A producer that waits for room is not woken here: `end` and `reopen` do that, of which
            # one must follow.
            before, self._sealed = self._sealed, True
        return not before

    def reopen(self, cut: Cut | None = None) -> None:
        """The attempt whose stream it was has failed, and another one may begin its own.

        Args:
            cut: what its consumer is told then; None where it has had nothing that counts.
        """
        writers: Sequence[Wake] = ()
        try:
            with self._lock:
                self._sealed = False
                self.begun_by = None
                self.counted = False
                if cut is not None:
                    self._anew = cut
                elif self._anew is None:
                    self._anew = ANEW
                if self._writer is not None:
                    writers, self._writer = (self._writer,), None
        finally:
            call_each(writers)

    def start_over(self) -> None:
        """An attempt begins. If it is not the first: what lies in the buffer is void, and so is
        what its consumer has had. The first chunk must follow, or the end.
        """
        if self._anew is not None:
            with self._lock:
                self._start_over(self.attempts)

    def end(self, error: BaseException | None) -> None:
        """There is nothing to come but what lies in the buffer, and then this error."""
        wakes: Sequence[Wake] = ()
        try:
            with self._lock:
                self._sealed = True
                if error is None and self._anew is not None:  # the whole stream has no chunk
                    self._start_over(self.attempts)
                self._state, self._error = END, error
                self._trace = None if error is None else error.__traceback__
                if self.left or (self.holds and error is not None):
                    self._chunks = deque()
                    self.received.clear()
                wakes, self._readers, self._firsts = self._readers + self._firsts, [], []
                if self._writer is not None:
                    wakes += [self._writer]
                    self._writer = None
        finally:
            call_each(wakes)

    @property
    def ended(self) -> bool:
        """Whether the end has been said; there may be chunks in the buffer still."""
        return self._state is END

    # -- the consumer

    def take(self) -> Any:
        """The next chunk; `EMPTY` when there is none yet, `END` when there will be none. Where the
        stream has started over, a `Restarted`, or `ANEW` if what came before was empty anyway.

        Raises:
            RequestCancelledError: the consumer has left before it had heard of the end.
            Exception: the stream ended with it, and all chunks have been taken.
        """
        # In the main thread the handler of a signal may wait for the very pool, whose router waits
        # for this lock: no call is made in it, or all handlers are put off meanwhile.
        chunks, took = self._chunks, EMPTY
        if not chunks:
            if self._state is EMPTY and not self.left:
                return EMPTY  # who waits then looks again, in the lock
            return self._take_with_care()
        if self.holds or self.left or self._measures:
            return self._take_with_care()
        try:
            chunk = chunks[0]
        except IndexError:  # another consumer has it
            return EMPTY
        kind = type(chunk)
        length = len(chunk) if kind is str else _length(chunk, kind)
        if length > _SHORT or kind in _SPECIAL:
            return self._take_with_care()
        last = (chunk,)  # out here: to make something may run a finalizer
        try:
            with self._lock:
                if self._chunks is not chunks or not chunks or chunks[0] is not chunk:
                    return EMPTY  # as above
                took = chunk
                del chunks[0]
                self.taken += 1
                self.received += last
                writer = self._writer
            if writer is not None and 2 * len(chunks) <= self.capacity:
                self._go_on(writer)
            return took
        except BaseException:  # of a signal handler: whoever goes on has it next
            if took is not EMPTY:
                undisturbed(self._put_back, [took, chunks])
            raise

    def _take_with_care(self) -> Any:
        """The same for whatever comes."""
        taken: list[Any] = []
        try:
            undisturbed(self._take, taken)
            return taken[0]
        except BaseException:  # as above
            if taken[1:]:
                undisturbed(self._put_back, taken)
            raise

    def _take(self, taken: list[Any]) -> bool:
        """What is taken becomes the first of `taken`; where it could be put back, the second."""
        with self._lock:
            if self.left and not self._told:
                raise self._given_up()
            # Kept by name: it is replaced where the stream starts over, and what is put back then
            # would be a chunk of the old one (`_put_back`).
            chunks = self._chunks
            if not chunks or (self.holds and self._state is EMPTY):
                taken.append(self._last_word())
                return True
            chunk, run = chunks[0], None
            kind = type(chunk)
            if kind in _SPECIAL:
                if kind is not Run:
                    self._forget()
                    del chunks[0]
                    taken += [chunk, chunks]
                    return True
                run, chunk = chunk, chunk.chunk
                kind = type(chunk)
            length = _length(chunk, kind)
            measures = self._measures or length > _SHORT
            if measures:
                self._make_room(length)
                self._length += length
            if run is None or run.count == 1:
                del chunks[0]
            else:
                run.count -= 1
            self.taken += 1
            self.received.append(chunk)
            taken += [chunk, chunks]
            writer = self._writer
        if writer is not None and 2 * len(chunks) <= self.capacity:
            self._go_on(writer)
        return True

    def _go_on(self, writer: Wake) -> None:
        """Outside of the lock: a loop is told, which takes its own locks, or a thread goes on."""
        writer()
        undisturbed(self._forget_writer, writer)  # only now: it is woken twice rather than never

    def _forget_writer(self, writer: Wake) -> bool:
        with self._lock:
            if self._writer is writer:
                self._writer = None
        return True

    def watch_chunks(self, wake: Wake) -> None:
        """Have `wake` called once there is something to take."""
        with self._lock:
            if (self.holds or not self._chunks) and self._state is EMPTY:
                self._readers += (wake,)
                return
        wake()

    def unwatch_chunks(self, wake: Wake) -> None:
        """Take back what `watch_chunks` has been given: who polls must not leave a trail."""
        undisturbed(self._unwatch_chunks, wake)

    def _unwatch_chunks(self, wake: Wake) -> bool:
        with self._lock:
            if wake in self._readers:
                self._readers.remove(wake)
        return True

    def watch_first(self, wake: Wake) -> None:
        """Have `wake` called once `first` can tell."""
        with self._lock:
            if self._first is None and self._state is EMPTY and not self.left:
                self._firsts += (wake,)
                return
        wake()

    def first(self) -> str | None:
        """Whose stream it was when its consumer could have the first chunk that counts; None of one
        that ended without any chunk.

        Raises:
            RequestCancelledError: the consumer has left before that.
            Exception: it ended with it before that.
        """
        with self._lock:
            first, error, state, member = self._first, self._error, self._state, self.member
        if first is not None:
            return first
        if error is not None:
            raise error.with_traceback(self._trace)
        if state is EMPTY:
            raise self._given_up()
        return member

    def _start_over(self, attempt: int) -> None:
        cut, self._anew = self._anew, None
        told = next((each for each in self._chunks if type(each) is Restarted), None)
        self._chunks = deque()  # what has just been taken from the old one is not put back into it
        if self.holds:
            return
        if isinstance(cut, Cut):
            member, kind, error = cut
            self._chunks.append(Restarted(member, kind, error, attempt, self.taken))
        elif told is not None:  # its consumer has still to hear of that
            self._chunks.append(replace(told, attempt=attempt))
        elif self.taken:
            self._chunks.append(ANEW)

    def _make_room(self, length: int) -> None:
        """For a chunk of that length among those that are remembered."""
        received = self.received
        if not self._measures:
            self._length = sum(_length(each, type(each)) for each in received)
            self._measures = True
        while received and (
            len(received) >= RECEIVED_LIMIT or self._length + length > RECEIVED_LENGTH
        ):
            chunk = received.popleft()
            self._length -= _length(chunk, type(chunk))

    def _put_back(self, taken: list[Any]) -> bool:
        """The consumer was hit before it could have the chunk."""
        chunk, chunks = taken
        with self._lock:
            if self._chunks is not chunks:  # void by now
                return True
            chunks.appendleft(chunk)
            if type(chunk) not in _SPECIAL:
                self.taken -= 1
                if self.received:
                    self.received.pop()
                    self._length -= _length(chunk, type(chunk))
        return True

    def _forget(self) -> None:
        self.received.clear()
        self._measures = False
        self.taken = 0

    def _last_word(self) -> Any:
        self._told = self._state is END
        if self._error is not None:  # it may be raised many times
            raise self._error.with_traceback(self._trace)
        if self._told:  # no error will ask for them
            self.received.clear()
        return self._state

    def _given_up(self) -> RequestCancelledError:
        return RequestCancelledError("the stream was given up by its consumer")

    def __repr__(self) -> str:
        what = "ended" if self.ended else "open" if self.begun_by else "not begun"
        return f"<Channel {what}, {len(self._chunks)}/{self.capacity} chunks>"


def call_each(wakes: Sequence[Wake]) -> None:
    """Call all of them, though an error break in: that one again then."""
    for place, wake in enumerate(wakes):
        try:
            wake()
        except BaseException:
            for each in wakes[place:]:
                each()
            raise


def _length(chunk: Any, kind: type) -> int:
    """What it takes as what it is at bottom, whatever its own class makes of `len`."""
    if kind is str:
        return len(chunk)
    if not issubclass(kind, _MEASURED):
        return 0
    return next(each.__len__(chunk) for each in _MEASURED if issubclass(kind, each))
