"""The chunk channel of a stream: a bounded buffer between one member's place and the consumer."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any

from greenroom.messages.errors import AttemptError, RequestCancelledError
from greenroom.messages.execution import Ticket

RECEIVED_LIMIT = 2000
"""How many of the chunks that its consumer has taken a stream remembers, for the error that tells
of an interruption: a stream of any length fits into a bounded memory."""
RECEIVED_LENGTH = 1_000_000
"""And how long they may be together, strings and bytes; the latest is remembered in any case."""

Wake = Callable[[], object]


class _Sign:
    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


EMPTY = _Sign("<no chunk yet>")
END = _Sign("<the end>")


class Channel:
    """Chunks in order, from whoever produces to whoever consumes, in whatever threads they live.

    Nobody waits in here: who finds it full (or empty) leaves a `wake` to be called. A producer that
    had to wait goes on when half of the buffer is free, so that both sides work in batches.

    Attributes:
        begun_by: the attempt whose chunks these are; None before the first one.
        member: its member.
        attempts: how many attempts the request has taken so far.
        errors: of the members that failed before it began.
        since: from when on the producer has owed the next chunk that counts, on the pool's clock;
            None while it is held back by a full buffer.
        left: whether the consumer has gone; it may be set without a lock, from a finalizer.
        taken: how many chunks the consumer has had.
        watched: whether the router wants to hear when a producer that was held back goes on.
    """

    __slots__ = (
        "_chunks",
        "_error",
        "_length",
        "_lock",
        "_readers",
        "_sealed",
        "_state",
        "_told",
        "_trace",
        "_writer",
        "attempts",
        "begun_by",
        "capacity",
        "errors",
        "left",
        "member",
        "received",
        "since",
        "taken",
        "watched",
    )

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.begun_by: Ticket | None = None
        self.member: str | None = None
        self.attempts = 0
        self.errors: tuple[AttemptError, ...] = ()
        self.since: float | None = None
        self.left = False
        self.taken = 0
        self.watched = False
        self.received: deque[Any] = deque()
        self._length = 0
        self._chunks: deque[Any] = deque()
        self._lock = threading.Lock()
        self._sealed = False
        self._state: _Sign = EMPTY
        self._told = False
        self._error: BaseException | None = None
        self._trace: TracebackType | None = None
        self._readers: list[Wake] = []
        self._writer: Wake | None = None

    def __len__(self) -> int:
        return len(self._chunks)

    # -- the producer

    def put(self, chunk: Any) -> bool:
        """Take a chunk in, also past the capacity; False when nobody wants more."""
        with self._lock:
            if self._sealed or self.left:
                return False
            self._chunks.append(chunk)
            if not self._readers:
                return True
            readers, self._readers = self._readers, []
        for wake in readers:
            wake()
        return True

    def full(self) -> bool:
        """Whether the producer is to wait before it makes another chunk."""
        return len(self._chunks) >= self.capacity

    def closed(self) -> bool:
        """Whether nobody wants more."""
        return self._sealed or self.left

    def watch_room(self, wake: Wake) -> None:
        """Have `wake` called once there is room, or nobody wants more."""
        with self._lock:
            if self.full() and not self.closed():
                self._writer = wake
                return
        wake()

    # -- the end

    def seal(self) -> bool:
        """Take no chunk any more. Whoever gets True owns the end, and must call `end`."""
        with self._lock:
            before, self._sealed = self._sealed, True
        return not before

    def end(self, error: BaseException | None) -> None:
        """There is nothing to come but what lies in the buffer, and then this error."""
        with self._lock:
            self._sealed = True
            self._state, self._error = END, error
            self._trace = None if error is None else error.__traceback__
            if self.left:
                self._chunks.clear()
                self.received.clear()
            wakes, self._readers = self._readers, []
            if self._writer is not None:
                wakes.append(self._writer)
                self._writer = None
        for wake in wakes:
            wake()

    @property
    def ended(self) -> bool:
        """Whether the end has been said; there may be chunks in the buffer still."""
        return self._state is END

    # -- the consumer

    def take(self) -> Any:
        """The next chunk; `EMPTY` when there is none yet, `END` when there will be none.

        Raises:
            RequestCancelledError: the consumer has left before it had heard of the end.
            Exception: the stream ended with it, and all chunks have been taken.
        """
        with self._lock:
            if self.left and not self._told:
                raise RequestCancelledError("the stream was given up by its consumer")
            if not self._chunks:
                return self._last_word()
            chunk = self._chunks.popleft()
            self.taken += 1
            self._remember(chunk)
            writer = self._writer
            if writer is None or 2 * len(self._chunks) > self.capacity:
                return chunk
            self._writer = None
        writer()
        return chunk

    def watch_chunks(self, wake: Wake) -> None:
        """Have `wake` called once there is something to take."""
        with self._lock:
            if not self._chunks and self._state is EMPTY:
                self._readers.append(wake)
                return
        wake()

    def unwatch_chunks(self, wake: Wake) -> None:
        """Take back what `watch_chunks` has been given: who polls must not leave a trail."""
        with self._lock:
            if wake in self._readers:
                self._readers.remove(wake)

    def _remember(self, chunk: Any) -> None:
        received = self.received
        if len(received) == RECEIVED_LIMIT:
            self._length -= _length(received.popleft())
        received.append(chunk)
        self._length += _length(chunk)
        while self._length > RECEIVED_LENGTH and len(received) > 1:
            self._length -= _length(received.popleft())

    def _last_word(self) -> Any:
        self._told = self._state is END
        if self._error is not None:  # it may be raised many times
            raise self._error.with_traceback(self._trace)
        if self._told:  # no error will ask for them
            self.received.clear()
        return self._state

    def __repr__(self) -> str:
        what = "ended" if self.ended else "open" if self.begun_by else "not begun"
        return f"<Channel {what}, {len(self._chunks)}/{self.capacity} chunks>"


def _length(chunk: Any) -> int:
    return len(chunk) if isinstance(chunk, (str, bytes, bytearray)) else 0
