"""What a stream of raw text says, where its agent passes on the lines of a client's HTTP stream:
server-sent events, or one JSON object a line.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from greenroom.actors.reading.answer_shapes import Reading, bare_error, read

_LIMIT = 64 * 1024
"""Characters of a line without an end after which a stream is taken for plain text."""

_START = re.compile(r"\s*(?:(?:data|event|id|retry):|:|\{|$)")
_NO_DATA = re.compile(r"(?:(?:event|id|retry):|: ?(?:keep-?alive|ping|openrouter\b)|:$)", re.I)


@dataclass(slots=True, eq=False, repr=False)  # what it holds is payload
class EventLines:
    """Reads text as it comes; remembers the line that is not complete yet, and no more.

    Attributes:
        plain: whether the text is none of all that: from then on it need not be fed any more.
    """

    plain: bool = False
    _rest: str = ""
    _events: bool = False  # a line that only events have has come
    _known: bool = False  # and one of a known client

    def feed(self, text: str) -> Reading | None:
        """What the lines say that are complete with this text; None when that is unknown."""
        if self.plain:
            return None
        if not self._known and not self._rest and not _START.match(text):
            self.plain = True
            return None
        # A chunk of a client's may end anywhere in a line.
        *lines, self._rest = (self._rest + text).split("\n")
        if not lines and self._rest == text and _complete(text):
            lines, self._rest = [text], ""  # an agent that sends line by line leaves out the ends
        if len(self._rest) > _LIMIT:
            self.plain, self._rest = True, ""
        whole: Reading | None = None
        for line in lines:
            said = self._line(line.strip())
            if self.plain:  # events of the app's own: what they say is a text
                self._rest = ""
                return None
            if said is not None:
                whole = said if whole is None else _both(whole, said)
        # What is not complete may be a text, and counts as one.
        if whole is not None and self._rest:
            whole.content = True
        return whole

    def end(self) -> Reading | None:
        """The same of what is left at the end."""
        return None if self.plain or not self._rest else self._line(self._rest.strip())

    def _line(self, line: str) -> Reading | None:
        if not line:
            return Reading() if self._events else None
        if _NO_DATA.match(line):
            self._events = True
            return Reading()
        data = line[5:].strip() if line.startswith("data:") else line
        if data == "[DONE]":
            return Reading(marks=True, ended=True)
        parsed = _parsed(data) if data.startswith("{") else None
        reading = read(parsed)
        if reading is None and self._known:
            reading = bare_error(parsed)
        if reading is None:
            # Once known it stays so: one odd line (of a proxy, say) does not make the rest a text.
            self.plain = not self._known
            return None
        self._known = self._events = True
        reading.about = parsed
        return reading


def _complete(line: str) -> bool:
    return not line.strip() or bool(_NO_DATA.match(line)) or line.rstrip().endswith(("}", "[DONE]"))


def _parsed(data: str) -> object:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _both(one: Reading, other: Reading) -> Reading:
    return Reading(
        content=one.content or other.content,
        finish=other.finish or one.finish,
        fault=one.fault or other.fault,
        listed=True,
        marks=one.marks or other.marks,
        ended=one.ended or other.ended,
        refused=one.refused or other.refused,
        about=one.about if one.fault else other.about,
    )
