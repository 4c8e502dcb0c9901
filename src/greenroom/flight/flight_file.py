"""Recordings as files, plain or compressed, read from their beginning."""

from __future__ import annotations

import gzip
import importlib
import io
import mmap
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from greenroom.flight.flight_lines import FlightError

_MAGIC = {".gz": b"\x1f\x8b\x08", ".zst": b"\x28\xb5\x2f\xfd"}
"""How what is compressed begins, by the suffix of its file."""
_FIRST = (b'{"flight":', b'{"lost":')
"""How what is compressed begins anew: with a recording, each time that a file is opened, and behind
what could not be written."""
_LOOKED_AT = 4096

NEEDS_RECORD = "needs the extra record: pip install 'greenroom[record]'"


def zstd() -> Any:
    """What reads and writes Zstandard.

    Raises:
        ModuleNotFoundError: there is nothing; it names the extra.
    """
    for name in ("compression.zstd", "zstandard"):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            continue
    raise ModuleNotFoundError(f"a recording in a .zst {NEEDS_RECORD}", name="zstandard")


def lines_of(path: str | os.PathLike[str]) -> Iterator[str]:
    """The lines of a recording; of one that was cut off, those up to there, and what another pool
    has added behind.

    Raises:
        FlightError: it cannot be read.
        ModuleNotFoundError: a `.zst` where nothing is installed that reads one.
    """
    path = Path(path)
    try:
        with path.open("rb") as raw:
            for part in _parts(raw, path.suffix):
                with _reader(part, path.suffix) as source:
                    yield from _whole(source)
    except OSError as error:
        raise FlightError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise FlightError(f"cannot read {path}: not UTF-8: {error.reason}") from None


def _reader(raw: BinaryIO, suffix: str) -> io.BufferedIOBase:
    if suffix == ".gz":
        return gzip.GzipFile(fileobj=raw)
    if suffix != ".zst":
        return cast(io.BufferedIOBase, raw)
    found = zstd()
    if hasattr(found, "ZstdFile"):
        return cast(io.BufferedIOBase, found.ZstdFile(raw, "r"))
    reader = found.ZstdDecompressor().stream_reader(raw, read_across_frames=True)
    return cast(io.BufferedIOBase, io.BufferedReader(reader, 1 << 20))


def _parts(raw: BinaryIO, suffix: str) -> Iterator[BinaryIO]:
    """Each recording of a compressed file for itself, since one that was cut off has no end that
    tells where the next one begins.
    """
    if suffix not in _MAGIC or not raw.seek(0, os.SEEK_END):
        raw.seek(0)
        yield raw
        return
    with mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ) as data:
        begin = 0
        while begin < len(data):
            end = _next(data, begin + 1, suffix)
            yield cast(BinaryIO, io.BufferedReader(_Part(data, begin, end), 1 << 16))
            begin = end


def _next(data: mmap.mmap, start: int, suffix: str) -> int:
    """Where the next recording begins."""
    while (found := data.find(_MAGIC[suffix], start)) >= 0:
        if _begins(data[found : found + _LOOKED_AT], suffix):
            return found
        start = found + 1
    return len(data)


def _begins(data: bytes, suffix: str) -> bool:
    try:
        with _reader(io.BytesIO(data), suffix) as source:
            return source.read1(len(_FIRST[0])).startswith(_FIRST)
    except (EOFError, OSError, zlib.error, _zst_error()):
        return False


class _Part(io.RawIOBase):
    """A piece of a file."""

    def __init__(self, data: mmap.mmap, begin: int, end: int) -> None:
        self._data, self._at, self._end = data, begin, end

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._data[self._at : min(self._end, self._at + len(buffer))]
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)


def _whole(source: io.BufferedIOBase) -> Iterator[str]:
    """Line by line; what is behind the last line end is not whole yet."""
    rest, some = b"", False
    while True:
        try:
            chunk = source.read1(1 << 20)
        except (EOFError, zlib.error, _zst_error()):  # it was cut off, as by a kill, or is damaged
            return
        except gzip.BadGzipFile:
            if not some:
                raise
            return
        if not chunk:
            return
        lines = (rest + chunk).split(b"\n")
        rest = lines.pop()
        for line in lines:
            yield line.decode("utf-8", "replace" if some else "strict")
            some = True


def _zst_error() -> type[Exception]:
    try:
        error: type[Exception] = getattr(zstd(), "ZstdError", EOFError)
    except ModuleNotFoundError:
        return EOFError
    return error
