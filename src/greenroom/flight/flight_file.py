"""Recordings as files, plain or compressed: added to, and read from their beginning."""

from __future__ import annotations

import gzip
import importlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from greenroom.flight.flight_lines import FlightError

NEEDS_RECORD = "needs the extra record: pip install 'greenroom[record]'"


class Target(Protocol):
    """Where the lines go; called by one thread."""

    def write(self, text: str) -> None:
        """Take some lines, each with its end."""

    def flush(self) -> None:
        """What was taken shall be there for others to read."""

    def close(self) -> None:
        """Nothing more comes."""


class FileTarget:
    """A file that is added to; by its suffix it is compressed.

    Raises:
        OSError: it cannot be opened.
        ModuleNotFoundError: a `.zst` where nothing is installed that writes one.
    """

    def __init__(self, path: Path) -> None:
        self._file: Any
        raw = _opened(path)
        if path.suffix == ".gz":
            self._raw: BinaryIO | None = raw
            self._file = gzip.GzipFile(fileobj=raw, mode="ab", compresslevel=5)
        elif path.suffix == ".zst":
            self._raw = raw
            try:
                self._file = _zst_writer(raw)
            except BaseException:
                raw.close()
                raise
        else:
            self._raw, self._file = None, raw

    def write(self, text: str) -> None:
        left = memoryview(text.encode("utf-8", "backslashreplace"))
        while left:  # an unbuffered write may take a part only
            left = left[self._file.write(left) or len(left) :]

    def flush(self) -> None:
        # A .gz or .zst is readable up to its last flush, also of a process that was killed.
        self._file.flush()

    def close(self) -> None:
        self._file.close()
        if self._raw is not None:
            self._raw.close()


def _opened(path: Path) -> BinaryIO:
    return cast(BinaryIO, path.open("ab", buffering=0))


def _zst_writer(raw: BinaryIO) -> Any:
    found = _zstd()
    if hasattr(found, "ZstdFile"):  # compression.zstd, of Python 3.14 on
        return _Flushing(found.ZstdFile(raw, "ab"))
    return found.ZstdCompressor(level=3).stream_writer(raw, closefd=False)


class _Flushing:
    """`compression.zstd.ZstdFile`, whose `flush` ends a block only if told so by its mode."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, data: memoryview) -> int:
        return int(self._file.write(data))

    def flush(self) -> None:
        self._file.flush(self._file.FLUSH_BLOCK)

    def close(self) -> None:
        self._file.close()


def _zstd() -> Any:
    for name in ("compression.zstd", "zstandard"):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            continue
    raise ModuleNotFoundError(f"a recording in a .zst {NEEDS_RECORD}", name="zstandard")


def lines_of(path: str | os.PathLike[str]) -> Iterator[str]:
    """The lines of a recording; of one that was cut off, those up to there.

    Raises:
        FlightError: it cannot be read.
        ModuleNotFoundError: a `.zst` where nothing is installed that reads one.
    """
    path = Path(path)
    try:
        with _reader(path) as source:
            yield from _whole(source)
    except OSError as error:
        raise FlightError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise FlightError(f"cannot read {path}: not UTF-8: {error.reason}") from None


def _reader(path: Path) -> io.BufferedIOBase:
    if path.suffix == ".gz":
        return gzip.open(path)
    raw = path.open("rb")
    if path.suffix != ".zst":
        return raw
    try:
        found = _zstd()
        if hasattr(found, "ZstdFile"):
            return cast(io.BufferedIOBase, found.ZstdFile(raw, "r"))
        reader = found.ZstdDecompressor().stream_reader(raw, read_across_frames=True)
        return cast(io.BufferedIOBase, io.BufferedReader(reader, 1 << 20))
    except BaseException:
        raw.close()
        raise


def _whole(source: io.BufferedIOBase) -> Iterator[str]:
    """Line by line; what is behind the last line end is not whole yet."""
    rest = b""
    while True:
        try:
            chunk = source.read1(1 << 20)
        except (EOFError, _zst_error()):  # it was cut off, as by a kill
            return
        if not chunk:
            return
        lines = (rest + chunk).split(b"\n")
        rest = lines.pop()
        for line in lines:
            yield line.decode()


def _zst_error() -> type[Exception]:
    try:
        error: type[Exception] = getattr(_zstd(), "ZstdError", EOFError)
    except ModuleNotFoundError:
        return EOFError
    return error
