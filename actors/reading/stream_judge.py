"""The judge of a stream: which of its chunks count, and whether it came whole.

It sees each chunk once and remembers a few facts, however long the stream is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from greenroom.actors.reading.answer_judgement import (
    found_by,
    includes_auto,
    is_empty_chunk,
    nothing_in,
    refusal_of,
)
from greenroom.actors.reading.answer_shapes import (
    CUT_SHORT,
    NO_ROOM,
    Fault,
    Reading,
    bare_error,
    read,
)
from greenroom.actors.reading.sse_lines import EventLines
from greenroom.messages.config import PoolConfig
from greenroom.messages.errors import UnsuccessfulResultError
from greenroom.messages.status import FailureKind

_EMPTY = Fault("a stream without content")
_CUT = Fault("a stream that ended without the mark of its end", FailureKind.UNAVAILABLE)


def emptiness(config: PoolConfig) -> Callable[[Any], bool]:
    """What tells an empty chunk in a pool, by the chunk alone."""
    own = config.is_empty
    return nothing_in if own is None else own if callable(own) else is_empty_chunk


class StreamJudge:
    """Judges one attempt's chunks by `is_empty`, `stream_complete` and `is_failure`.

    - A chunk is empty if `is_empty` says so. With "auto" the mark of the end is no content either:
      a stream of which nothing else came is empty. After content it is no keep-alive.
    - With `is_failure` "auto" (or `answers.auto` in an `any_of`) an error in a chunk, or the word
      of a content filter, is a failure at once, and a stream without content at its end. That it
      was cut off at its length is none: its consumer has had it, and may have asked for no more.
    - Any other `is_failure` is asked at the end with an empty list, if nothing came that counts. It
      sees no chunk of a stream; of what `ask` collects it sees the list.
    - With `stream_complete="auto"` a stream that has shown to be of a kind that ends with a mark is
      cut if it ends without one. A function is asked of each chunk until it says yes, and a stream
      of which it never does is cut.

    Attributes:
        fault: why the stream is a failure already; None as long as it is none.
    """

    __slots__ = (
        "_auto", "_complete", "_config", "_content", "_ended", "_faulty", "_is_empty",
        "_is_failure", "_lines", "_marks", "_no_room", "_plain", "_reads", "_strict", "fault",
    )  # fmt: skip

    def __init__(self, config: PoolConfig) -> None:
        self._config = config
        own, complete, is_failure = config.is_empty, config.stream_complete, config.is_failure
        self._is_empty = nothing_in if own is None else own if callable(own) else None
        self._complete = complete if callable(complete) else None
        self._auto = complete == "auto"
        self._strict = includes_auto(is_failure)
        self._is_failure = is_failure if callable(is_failure) else None
        self._reads = self._is_empty is None or self._strict or self._auto
        self._lines: EventLines | None = None
        self._marks = self._complete is not None
        self._ended = False
        self._content = False
        self._plain = False
        self._no_room = False
        self._faulty: Any = None
        self.fault: Fault | None = None

    def add(self, chunk: Any) -> bool:
        """Take note of a chunk: True if it is empty. It raises what a function of the app's does.

        If it sets `fault`, the chunk is not to be passed on.
        """
        # The usual case of a stream of texts, from its second
        # chunk on: nothing can be read from it.
        if self._plain and type(chunk) is str and chunk:
            return False
        if self._complete is not None and not self._ended and self._complete(chunk):
            self._ended = True
        reading = self._read(chunk) if self._reads else None
        if reading is not None:
            self._note(chunk, reading)
        if self._is_empty is not None:
            empty = bool(self._is_empty(chunk))
        elif reading is not None:
            empty = not reading.content
        else:
            empty = nothing_in(chunk)
        if not empty:
            self._content = True
            lines = self._lines
            judged = self._is_empty is not None or self._complete is not None
            self._plain = lines is not None and lines.plain and not judged
            return False
        # The mark of the end is the last that a stream has to say: no keep-alive.
        return not (self._content and reading is not None and reading.ended)

    def answered(self) -> None:
        """What comes is no stream but one answer, which `is_failure` has judged."""
        self._strict = self._auto = self._marks = False
        self._complete = self._is_failure = None

    def anew(self) -> StreamJudge:
        """One that has seen nothing: what came so far is void, and the stream starts over."""
        return StreamJudge(self._config)

    def end(self) -> None:
        """There is no further chunk: `fault` is the last word. It raises what `is_failure` does."""
        rest = None if self._lines is None else self._lines.end()
        if rest is not None:
            self._note(None, rest)
        if self.fault is None:
            self.fault = self._of_the_end()

    def error(self, member: str, wall_now: float) -> UnsuccessfulResultError:
        """The error that tells of the fault."""
        fault = self.fault or _CUT
        return refusal_of(fault, self._faulty, member, wall_now)

    def _of_the_end(self) -> Fault | None:
        """What is wrong with a stream that has ended like this."""
        if self._marks and not self._ended:
            return _CUT
        if self._content:
            return None
        if self._strict:
            return NO_ROOM if self._no_room else _EMPTY
        return None if self._is_failure is None else found_by(self._is_failure, [])

    def _read(self, chunk: Any) -> Reading | None:
        kind = type(chunk)
        if kind is str:
            return self._text(chunk)
        if kind is bytes:
            return self._text(chunk.decode("utf-8", "replace"))
        reading = read(chunk)
        return bare_error(chunk) if reading is None and self._marks else reading

    def _text(self, text: str) -> Reading | None:
        lines = self._lines
        if lines is None:
            if not text:
                return None
            lines = self._lines = EventLines()
        return None if lines.plain else lines.feed(text)

    def _note(self, chunk: Any, reading: Reading) -> None:
        self._no_room = self._no_room or reading.finish in CUT_SHORT
        if self._auto:
            self._marks = self._marks or reading.marks
            self._ended = self._ended or reading.ended
        if self._strict and reading.fault is not None and self.fault is None:
            self.fault = reading.fault
            self._faulty = chunk if reading.about is None else reading.about
