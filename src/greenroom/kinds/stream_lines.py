"""Lines of a stream of events, from its bytes. Pure."""

from __future__ import annotations

import re

_ENDS = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"


class StreamLines:
    """Cuts at CR, LF and CRLF, as the standard of server-sent events has it, and nowhere else: what
    clients cut by, `str.splitlines`, also cuts at U+2028 and U+0085, which stand in texts of models
    as they are.

    Args:
        longest: bytes of a line that are enough: what is longer comes in pieces.
    """

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._rest = b""
        self._begun = False

    def feed(self, data: bytes) -> list[str]:
        """The lines that are complete with these bytes, without their ends."""
        data = self._rest + data
        if not self._begun:
            if len(data) < len(_BOM) and _BOM.startswith(data):
                self._rest = data
                return []
            self._begun = True
            data = data.removeprefix(_BOM)
        held = b"\r" if data.endswith(b"\r") else b""  # the half of a CRLF, maybe
        *lines, rest = _ENDS.split(data.removesuffix(held) if held else data)
        self._rest = rest + held
        if len(self._rest) > self._longest:
            lines.append(self._rest)
            self._rest = b""
        return [_text(line) for line in lines]

    def end(self) -> list[str]:
        """What is left."""
        rest, self._rest = self._rest, b""
        return [_text(line) for line in _ENDS.split(rest) if line]


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace")
