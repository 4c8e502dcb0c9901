"""The lines of server-sent events, out of the bytes as they come. Pure.

The lines that HTTP clients make of a text end at more characters than those of events do: at U+2028
and U+0085, say, which may stand within an event's JSON.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator

_END = re.compile(rb"\r\n|\r|\n")


class EventLines:
    """Takes in bytes, and gives the lines that they complete; they are UTF-8 by definition.

    Attributes:
        unfinished: bytes of the line that has no end yet.
    """

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._after_return = False
        self._begun = False
        self.unfinished = 0

    def feed(self, data: bytes) -> Iterator[str]:
        """Take in a piece; the lines that are whole with it, without their ends."""
        if not data:
            return
        # A line may be given away before it is known whether its end is one character or two.
        if self._after_return:
            data = data.removeprefix(b"\n")
        self._after_return = data.endswith(b"\r")
        first, *others = _END.split(data)
        self._add(first)
        for piece in others:
            yield self._taken()
            self._add(piece)

    def end(self) -> Iterator[str]:
        """The rest, if there is any: a line without an end."""
        if self.unfinished:
            yield self._taken()

    def _add(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self.unfinished += len(piece)

    def _taken(self) -> str:
        line = b"".join(self._pieces)
        self._pieces.clear()
        self.unfinished = 0
        if not self._begun:
            line, self._begun = line.removeprefix(codecs.BOM_UTF8), True
        return line.decode("utf-8", "replace")
