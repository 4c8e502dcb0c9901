"""Where a command writes: to a terminal, or plainly to a pipe or a file."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from greenroom.kinds.secrets import without_secrets


def is_terminal(stream: TextIO) -> bool:
    """Whether somebody looks at it: then it may have colours, tables and a bar."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def say(text: str = "", *, end: str = "\n", stream: TextIO | None = None) -> None:
    """Write a text at once, to stdout. What the stream has no character for is escaped; a terminal
    gets nothing that it would carry out.
    """
    stream = sys.stdout if stream is None else stream
    text = (harmless(text) if is_terminal(stream) else text) + end
    try:
        stream.write(text)
    except UnicodeEncodeError:  # a stream that knows only ASCII, or the like
        stream.write(text.encode("ascii", "backslashreplace").decode())
    stream.flush()


class Discreet:
    """A stream that keeps the keys of the environment to itself."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str, /) -> int:
        return self._stream.write(without_secrets(text))

    def flush(self) -> None:
        self._stream.flush()

    def isatty(self) -> bool:
        return self._stream.isatty()


@contextmanager
def aside() -> Iterator[None]:
    """Within it something is written to stderr that nobody has to read: where it cannot be, as in a
    pipe whose reader has ended, it goes nowhere, as does all that comes there later.
    """
    try:
        yield
    except OSError:
        write_nowhere(sys.stderr)


def write_nowhere(*streams: TextIO) -> None:
    """So that what is still buffered does no harm at the exit (Python docs, Note on SIGPIPE)."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        for stream in streams:
            with suppress(AttributeError, OSError):  # there may be none, or none with a file
                os.dup2(nowhere, stream.fileno())
    finally:
        os.close(nowhere)


def complain(what: object) -> None:
    """Say on stderr what is wrong."""
    say(f"greenroom: {without_secrets(str(what))}", stream=sys.stderr)


def harmless(text: str) -> str:
    """A text from elsewhere without control characters."""
    return text.translate(_CONTROLS)


_CONTROLS = {code: None for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\n"}
