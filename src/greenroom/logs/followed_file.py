"""The lines of a file that is still written to, also where it is rotated meanwhile."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable, Iterator
from io import BufferedIOBase
from pathlib import Path

CHUNK = 1 << 16
"""How many bytes are read at a time, at the most: what has come by a pipe is not waited with."""


def whole_lines(source: BufferedIOBase) -> Iterator[str]:
    """The lines of what has an end; the last of them may have no line end."""
    reader = _Reader(source)
    yield from reader.more()
    yield from reader.rest()


def lines_of(path: Path) -> Iterator[str]:
    """The lines of a file, which may be compressed (`.gz`).

    Raises:
        OSError: it cannot be read.
    """
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as source:
        yield from whole_lines(source)


def followed(path: Path, wait: Callable[[], object]) -> Iterator[str | None]:
    """The lines of a file as they come, without end; None each time there is no further one yet.

    Where another file takes its place (rotation by renaming), what is left of the old one comes
    first; where it is made shorter (rotation by copying), it begins anew.

    Args:
        wait: called after each None.

    Raises:
        OSError: it cannot be read at the start. Later it may be gone for a while.
    """
    source: BufferedIOBase = path.open("rb")
    try:
        reader = _Reader(source)
        while True:
            yield from reader.more()
            if _is_cut(source):
                source.seek(0)
                reader = _Reader(source)
                continue
            # Looked at before the last read of the old one: what was written up to then is in it.
            fresh = _successor(path, source)
            if fresh is not None:
                yield from reader.more()
                yield from reader.rest()
                source.close()
                source, reader = fresh, _Reader(fresh)
                continue
            yield None
            wait()
    finally:
        source.close()


def _is_cut(source: BufferedIOBase) -> bool:
    return os.fstat(source.fileno()).st_size < source.tell()


def _successor(path: Path, source: BufferedIOBase) -> BufferedIOBase | None:
    """The file that has the name now, if it is another one."""
    try:
        fresh = path.open("rb")
    except OSError:
        return None
    if os.path.samestat(os.fstat(fresh.fileno()), os.fstat(source.fileno())):
        fresh.close()
        return None
    return fresh


class _Reader:
    """Cuts what comes into lines."""

    def __init__(self, source: BufferedIOBase) -> None:
        self._source = source
        self._parts: list[bytes] = []

    def more(self) -> Iterator[str]:
        """The lines that have ended by now."""
        while chunk := self._source.read1(CHUNK):
            first, *others = chunk.split(b"\n")
            self._parts.append(first)
            for part in others:
                yield self._taken()
                self._parts.append(part)

    def rest(self) -> Iterator[str]:
        """The last line, if no line end is to come any more."""
        if any(self._parts):
            yield self._taken()

    def _taken(self) -> str:
        line = b"".join(self._parts)
        self._parts.clear()
        return line.decode("utf-8", "replace")
