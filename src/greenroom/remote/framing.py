"""Frames in a body of HTTP: JSON one a line, msgpack each behind its length. Pure.

An empty one is a beat: it says nothing but that somebody is there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from greenroom.remote.codec import ProtocolError

LENGTH_BYTES = 4


class Framing(Protocol):
    """How one format's frames follow each other."""

    beat: bytes

    def framed(self, data: bytes) -> bytes:
        """A frame as it stands in a body."""

    def splitter(self, most_bytes: int) -> Splitter:
        """What takes the frames of a body apart."""


class Splitter(Protocol):
    """Takes one body apart."""

    def feed(self, data: bytes) -> Iterator[bytes | bytearray]:
        """The frames that are whole by now, without beats.

        Raises:
            ProtocolError: one is longer than may be.
        """


class Lines:
    """One a line."""

    beat = b"\n"

    def framed(self, data: bytes) -> bytes:
        return data + b"\n"

    def splitter(self, most_bytes: int) -> Splitter:
        return _LineSplitter(most_bytes)


class _LineSplitter:
    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._begun = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes | bytearray]:
        if not self._begun and data.find(b"\n") == len(data) - 1:  # in most cases
            if len(data) > 1:
                yield data[:-1]
            return
        *lines, rest = data.split(b"\n")
        for line in lines:
            whole: bytes | bytearray = line
            if self._begun:
                self._begun += line
                whole, self._begun = self._begun, bytearray()
            if whole:
                _check(len(whole), self._most_bytes)
                yield whole
        self._begun += rest
        _check(len(self._begun), self._most_bytes)


class Lengths:
    """Each behind its length, as four bytes, the highest first."""

    beat = bytes(LENGTH_BYTES)

    def framed(self, data: bytes) -> bytes:
        return len(data).to_bytes(LENGTH_BYTES) + data

    def splitter(self, most_bytes: int) -> Splitter:
        return _LengthSplitter(most_bytes)


class _LengthSplitter:
    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._begun = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes | bytearray]:
        self._begun += data
        at = 0
        while len(self._begun) - at >= LENGTH_BYTES:
            length = int.from_bytes(self._begun[at : at + LENGTH_BYTES])
            _check(length, self._most_bytes)
            end = at + LENGTH_BYTES + length
            if len(self._begun) < end:
                break
            if length:
                yield self._begun[at + LENGTH_BYTES : end]
            at = end
        del self._begun[:at]


def _check(length: int, most_bytes: int) -> None:
    if length > most_bytes:
        raise ProtocolError(f"a frame must have at most {most_bytes} bytes")


def framing_of(name: str) -> Framing:
    """That of the format of a name."""
    return Lengths() if name == "msgpack" else Lines()
