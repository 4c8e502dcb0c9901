"""Where the lines of a recording go: a file, plain or compressed, or a function of the app's."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from greenroom.actors.runtime import forks
from greenroom.flight.flight_file import zstd

_GZIP = 31
"""The `wbits` by which zlib writes the header and the end of a gzip member."""


class Target(Protocol):
    """Where the lines go; called by one thread."""

    def write(self, text: str) -> None:
        """Take some lines, each with its end; what is taken is there for others to read.

        Raises:
            TakerError: a function has raised; it has been given each line all the same.
            BaseException: none of the lines can be relied upon to be there.
        """

    def close(self) -> None:
        """Nothing more comes."""


class TakerError(Exception):
    """The function that is given the lines has raised, as its `__cause__` says."""


class CallableTarget:
    """A function of the app's, which gets each line as a text without its end."""

    def __init__(self, function: Callable[[str], Any]) -> None:
        self._function = function

    def write(self, text: str) -> None:
        failure: BaseException | None = None
        for line in text.splitlines():
            try:
                self._function(line)
            except BaseException as error:  # of this line: the others are not lost by it
                failure = failure or error
        if failure is not None:
            raise TakerError from failure

    def close(self) -> None:
        """The function is the app's."""


class FileTarget:
    """A file that is added to; by its suffix it is compressed.

    What cannot be written whole, as on a full disk, is taken back: the next lines stand behind what
    was there before. What is compressed begins anew then, since nothing can be read behind a gap:
    the lines that come next have to begin with one by which `lines_of` knows a beginning.

    Args:
        pool: the name of whose recording it is, for the error of the next one that wants it.

    Raises:
        OSError: it cannot be opened.
        ModuleNotFoundError: a `.zst` where nothing is installed that writes one.
        ValueError: another pool of this process writes to it.
    """

    def __init__(self, path: Path, pool: str = "") -> None:
        self._begin = _COMPRESSED.get(path.suffix)
        self._stream: _Stream | None = None
        if path.suffix == ".zst":
            zstd()  # what is missing is said now
        self._raw = _opened(path)
        try:
            self._file = _claimed(self._raw, path, pool)
        except BaseException:
            self._raw.close()
            raise
        self._on_a_line = self._begin is not None or _ends_a_line(path)

    def write(self, text: str) -> None:
        data = text.encode("utf-8", "backslashreplace")
        if self._begin is not None:
            begun = b""
            if self._stream is None:
                self._stream = self._begin()
                # On its own, since a reader looks for the beginning in a few kilobytes.
                first, end, data = data.partition(b"\n")
                begun = self._stream.flushed(first + end)
            data = begun + self._stream.flushed(data)
        elif not self._on_a_line:
            data = b"\n" + data
        self._add(data)

    def _add(self, data: bytes) -> None:
        before, left = _size(self._raw), memoryview(data)
        try:
            while left:  # an unbuffered write may take a part only
                left = left[self._raw.write(left) or len(left) :]
        except BaseException:
            self._stream = None  # what it has taken is not in the file
            if len(left) < len(data):
                self._take_back(before, len(data) - len(left))
            raise
        self._on_a_line = True

    def _take_back(self, before: int | None, written: int) -> None:
        """Take away the part that was written, unless somebody else has added to the file since;
        else what comes next begins on a line of its own.
        """
        if before is not None and _size(self._raw) == before + written:
            with contextlib.suppress(OSError):
                os.ftruncate(self._raw.fileno(), before)
                return
        self._on_a_line = False

    def close(self) -> None:
        try:
            if self._stream is not None:
                self._add(self._stream.end())
        finally:
            self._raw.close()
            _let_go(self._file)


def target_of(record: Any, pool: str = "") -> Target:
    """Where `record=` says that lines go.

    Args:
        pool: as of `FileTarget`.

    Raises:
        TypeError: it is neither a path nor a function.
        OSError, ModuleNotFoundError, ValueError: as by `FileTarget`.
    """
    if callable(record):
        return CallableTarget(record)
    return FileTarget(Path(record), pool)


def _opened(path: Path) -> BinaryIO:
    return cast(BinaryIO, path.open("ab", buffering=0))


def _size(file: BinaryIO) -> int | None:
    """None of what has none: a pipe, or a terminal."""
    try:
        found = os.fstat(file.fileno())
    except (AttributeError, OSError):
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def _ends_a_line(path: Path) -> bool:
    """Not so where a process was killed as it wrote, or the disk was full."""
    try:
        with path.open("rb") as file:
            if not file.seek(0, os.SEEK_END):
                return True
            file.seek(-1, os.SEEK_END)
            return file.read() == b"\n"
    except OSError:  # a pipe, or what may be written only
        return True


# -- compressed


class _Stream(Protocol):
    """One piece of a compressed file, from a beginning that can be found to its end."""

    def flushed(self, data: bytes) -> bytes:
        """More of it, so that all of the data can be read."""

    def end(self) -> bytes:
        """The rest of it."""


class _Gzip:
    """A member of a gzip file (RFC 1952)."""

    def __init__(self) -> None:
        self._squeeze = zlib.compressobj(5, zlib.DEFLATED, _GZIP)

    def flushed(self, data: bytes) -> bytes:
        return self._squeeze.compress(data) + self._squeeze.flush(zlib.Z_SYNC_FLUSH)

    def end(self) -> bytes:
        return self._squeeze.flush()


class _Zst:
    """A frame of Zstandard (RFC 8878)."""

    def __init__(self) -> None:
        found = zstd()
        made = found.ZstdCompressor(level=3)
        # compression.zstd, of Python 3.14 on, has a mode for each; zstandard an object for a frame.
        self._squeeze: Any = made.compressobj() if hasattr(made, "compressobj") else made
        self._to_a_block = getattr(found, "COMPRESSOBJ_FLUSH_BLOCK", None)
        if self._to_a_block is None:
            self._to_a_block = made.FLUSH_BLOCK

    def flushed(self, data: bytes) -> bytes:
        more: bytes = self._squeeze.compress(data) + self._squeeze.flush(self._to_a_block)
        return more

    def end(self) -> bytes:
        rest: bytes = self._squeeze.flush()
        return rest


_COMPRESSED: Mapping[str, Callable[[], _Stream]] = {".gz": _Gzip, ".zst": _Zst}


# -- whose file it is

_File = tuple[int, int]
"""The device of a file and its number there: whatever path leads to it."""

_lock = threading.Lock()
_claims: dict[_File, str] = {}
"""The files that pools of this process write to, with the name of the pool."""


def _claimed(raw: BinaryIO, path: Path, pool: str) -> _File | None:
    """Have a file for one pool alone; None of what is no file, which any number may write to.

    Raises:
        ValueError: another one has it.
    """
    if _size(raw) is None:
        return None
    found = os.fstat(raw.fileno())
    file = (found.st_dev, found.st_ino)
    with _lock:
        other = _claims.get(file)
        if other is not None:
            raise ValueError(
                f"record must be a file of the pool's own, got {str(path)!r}, which pool {other!r} "
                "writes to: stop that first, or name another file"
            )
        _claims[file] = pool
    return file


def _let_go(file: _File | None) -> None:
    with _lock:
        if file is not None:
            _claims.pop(file, None)


def _renew() -> None:
    """Run in a child of a fork, where nobody writes yet."""
    global _lock
    _lock = threading.Lock()
    _claims.clear()


forks.in_child(_renew)
