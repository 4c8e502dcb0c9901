"""Where a command writes: to a terminal, or plainly to a pipe or a file."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import TextIO

from greenroom.kinds.secrets import without_secrets


class OutputError(OSError):
    """Stdout takes nothing more, as on a disk that is full."""


def is_open(stream: TextIO | None) -> bool:
    """Whether there is such a stream: a process may be started without one (`>&-`)."""
    return stream is not None and not stream.closed


def is_terminal(stream: TextIO | None) -> bool:
    """Whether somebody looks at it: then it may have colours, tables and a bar."""
    if stream is None or stream.closed:
        return False
    return stream.isatty() and os.environ.get("TERM") != "dumb"


@contextmanager
def open_outputs() -> Iterator[None]:
    """Within it there are stdout and stderr: what is said to one that is closed is dropped."""
    _hold_descriptors()
    with ExitStack() as meanwhile:
        for stream, redirect in ((sys.stdout, redirect_stdout), (sys.stderr, redirect_stderr)):
            if not is_open(stream):
                nowhere = meanwhile.enter_context(open(os.devnull, "w", encoding="utf-8"))
                meanwhile.enter_context(redirect(nowhere))
        yield


def _hold_descriptors() -> None:
    """Have no file that is opened later be 0, 1 or 2: what is written to these would be in it."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_WRONLY)  # the lowest that is free; to read 0 stays an error


def say(
    text: str = "", *, end: str = "\n", stream: TextIO | None = None, is_harmless: bool = False
) -> None:
    """Write a text at once, to stdout. What the stream has no character for is escaped; a terminal
    gets nothing that it would carry out (unless the text `is_harmless` as it is, with its colours).
    What stderr does not take is dropped.

    Raises:
        BrokenPipeError: nobody reads it.
        OutputError: it takes nothing more.
    """
    stream = sys.stdout if stream is None else stream
    if not is_harmless and is_terminal(stream):
        text = harmless(text)
    text += end
    try:
        _write(stream, text)
    except BrokenPipeError:
        raise
    except OSError as error:
        if stream is not sys.stderr:
            raise OutputError(error.errno, f"cannot write to stdout: {error.strerror}") from error


def _write(stream: TextIO, text: str) -> None:
    try:
        if text:
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
        drop_what_is_held(sys.stderr)


def complain(what: object) -> None:
    """Say on stderr what is wrong."""
    say(f"greenroom: {without_secrets(str(what))}", stream=sys.stderr)


def drop_what_is_held(*streams: TextIO) -> None:
    """So that what is still buffered does no harm at the exit (Python docs, Note on SIGPIPE)."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        for stream in streams:
            with suppress(AttributeError, OSError):  # there may be none, or none with a file
                os.dup2(nowhere, stream.fileno())
    finally:
        os.close(nowhere)


def drop_what_stderr_holds() -> None:
    """Where it takes nothing more: at the exit that would be another exit code."""
    try:
        sys.stderr.flush()
    except BrokenPipeError:
        raise
    except OSError:
        drop_what_is_held(sys.stderr)


def harmless(text: str) -> str:
    """A text from elsewhere without control characters."""
    return text.translate(_CONTROLS)


_CONTROLS = {code: None for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\n"}
