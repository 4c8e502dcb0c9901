"""Where a command writes: to a terminal, or plainly to a pipe or a file."""

from __future__ import annotations

import os
import sys
from typing import TextIO


def is_terminal(stream: TextIO) -> bool:
    """Whether somebody looks at it: then it may have colours, tables and a bar."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def say(text: str = "", *, end: str = "\n", stream: TextIO | None = None) -> None:
    """Write a text at once, to stdout; what the stream has no character for is escaped."""
    stream = sys.stdout if stream is None else stream
    try:
        stream.write(text + end)
    except UnicodeEncodeError:  # a stream that knows only ASCII, or the like
        stream.write((text + end).encode("ascii", "backslashreplace").decode())
    stream.flush()


def complain(what: object) -> None:
    """Say on stderr what is wrong."""
    say(f"greenroom: {what}", stream=sys.stderr)


def harmless(text: str) -> str:
    """A text from elsewhere without control characters, which a terminal would carry out."""
    return text.translate(_CONTROL)


_CONTROL = {code: None for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\n"}
