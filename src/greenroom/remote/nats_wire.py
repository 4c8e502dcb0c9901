"""Frames as messages of NATS: what stands before them, and how large ones go in parts. Pure.

All begin with `g`, a letter for what it is, and one for the format of the frame. To a worker, `F`
or `P`: who sends (8 bytes), the how-manieth connection of its that is (4), the worker's own time as
it was last heard from it, the seconds since then. To a caller, `F` or `P`, or `O`: a pong, with the
worker's time and the subject that is its own. Then, of a part (`P`), its number and how many there
are; then the frame, or the part of it. Numbers are big-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

FRAME, PART, PONG = b"gF", b"gP", b"gO"
RESERVE = 1024
"""Bytes of a message that are not the frame's: what stands before it, and the server's own."""

FORMATS = {"json": b"j", "msgpack": b"m"}
"""Letters of formats, by the names of their codecs. Pings and pongs are JSON for all."""

_NAMES = {letter: name for name, letter in FORMATS.items()}
_TO_WORKER = struct.Struct(">2ss8sIdd")
_PONG = struct.Struct(">2ssdB")
_HEAD = 3
_PART = struct.Struct(">II")


class Sender(NamedTuple):
    """Who sends something to a worker, and how long it has been on its way at most.

    Attributes:
        caller: 8 bytes: one caller's, whatever connections it has.
        session: the how-manieth connection; what an older one brings is late.
        stamp: what the worker's clock said in the last pong that had come.
        since_s: how long ago that was, less the seconds for which the sender has been waiting for
            the server to say that it is there: so much sooner it will give up what it sends now.
    """

    caller: bytes
    session: int
    stamp: float
    since_s: float

    def age_s(self, now: float) -> float:
        """How many seconds ago it was sent, at most, by the worker's clock alone: that of the pong
        is counted in.
        """
        return now - self.stamp - self.since_s


class Told(NamedTuple):
    """What a pong tells beside its frame."""

    stamp: float
    private: str


class Part(NamedTuple):
    """One of so many."""

    number: int
    total: int


class WireError(ValueError):
    """It is no message of these."""


class TooLongWireError(WireError):
    """A frame in parts is longer than may be."""


def to_worker(sender: Sender, data: bytes, most: int, format: str = "json") -> list[bytes]:
    """A frame to a worker, as messages of at most so many bytes."""
    letter = FORMATS[format]
    if len(data) + RESERVE <= most:
        return [_TO_WORKER.pack(FRAME, letter, *sender) + data]
    return list(_parts(_TO_WORKER.pack(PART, letter, *sender), data, most))


def to_caller(data: bytes, most: int, format: str = "json") -> list[bytes]:
    """The same to a caller."""
    letter = FORMATS[format]
    if len(data) + RESERVE <= most:
        return [FRAME + letter + data]
    return list(_parts(PART + letter, data, most))


def pong(told: Told, data: bytes) -> bytes:
    """A pong, which is short, and JSON."""
    private = told.private.encode()
    return _PONG.pack(PONG, FORMATS["json"], told.stamp, len(private)) + private + data


def _parts(head: bytes, data: bytes, most: int) -> Iterator[bytes]:
    size = max(1, most - RESERVE)
    count = -(-len(data) // size)
    for index in range(count):
        yield head + _PART.pack(index, count) + data[index * size : (index + 1) * size]


def read_to_worker(message: bytes) -> tuple[Sender, Part | None, str, bytes]:
    """Who sends, which part it is if it is one, its format, and what it brings.

    Raises:
        WireError: it is none of these.
    """
    if len(message) < _TO_WORKER.size:
        raise WireError("too short")
    kind, letter, caller, session, stamp, since_s = _TO_WORKER.unpack_from(message)
    sender, format = Sender(caller, session, stamp, since_s), _format(letter)
    if kind == FRAME:
        return sender, None, format, message[_TO_WORKER.size :]
    if kind == PART:
        part, data = _read_part(message, _TO_WORKER.size)
        return sender, part, format, data
    raise WireError("of another kind")


def read_to_caller(message: bytes) -> tuple[Part | Told | None, str, bytes]:
    """Which part it is if it is one, what a pong tells, its format, and what it brings.

    Raises:
        WireError: it is none of these.
    """
    kind, letter = message[:2], message[2:_HEAD]
    if kind == FRAME:
        return None, _format(letter), message[_HEAD:]
    if kind == PART:
        part, data = _read_part(message, _HEAD)
        return part, _format(letter), data
    if kind != PONG or len(message) < _PONG.size:
        raise WireError("of another kind")
    _, _, stamp, length = _PONG.unpack_from(message)
    end = _PONG.size + length
    try:
        return Told(stamp, message[_PONG.size : end].decode()), _format(letter), message[end:]
    except UnicodeDecodeError:
        raise WireError("an unreadable subject") from None


def _format(letter: bytes) -> str:
    try:
        return _NAMES[letter]
    except KeyError:
        raise WireError("of another format") from None


def _read_part(message: bytes, at: int) -> tuple[Part, bytes]:
    if len(message) < at + _PART.size:
        raise WireError("too short")
    part = Part(*_PART.unpack_from(message, at))
    if part.number >= part.total:
        raise WireError("a part that there cannot be")
    return part, message[at + _PART.size :]


class Whole:
    """Puts the parts of one frame together, which come one after another or not at all.

    Args:
        most: bytes; what is longer is dropped.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._parts: list[bytes] = []
        self.size = 0

    def add(self, part: Part, data: bytes) -> bytes | None:
        """The whole of it, if that was the last part.

        Raises:
            WireError: a part is missing, or it is too long.
        """
        if part.number == 0:
            self._parts, self.size = [], 0
        if part.number != len(self._parts):
            raise WireError("a part is missing")
        self.size += len(data)
        if self.size > self._most:
            raise TooLongWireError(f"longer than {self._most} bytes")
        self._parts.append(data)
        if len(self._parts) < part.total:
            return None
        whole = b"".join(self._parts)
        self._parts, self.size = [], 0
        return whole


@dataclass(slots=True)
class _Begun:
    whole: Whole
    at: float


class Parts:
    """Frames of which not all parts have come, of many senders: bounded in bytes, number and time.

    Args:
        most: bytes of one frame; four times as many of all together.
    """

    MOST_BEGUN = 1000
    LONGEST_S = 10.0

    def __init__(self, most: int) -> None:
        self._most = most
        self._begun: dict[str, _Begun] = {}

    def __len__(self) -> int:
        return len(self._begun)

    def add(self, key: str, part: Part, data: bytes, now: float) -> bytes | None:
        """The whole frame, if that was the last part of it.

        Raises:
            WireError: a part is missing, or there is too much.
        """
        begun = self._begun.pop(key, None)
        if begun is None:
            if part.number:
                raise WireError("a part is missing")
            begun = _Begun(Whole(self._most), now)
        self._make_room(now, len(data) + begun.whole.size)
        whole = begun.whole.add(part, data)
        if whole is None:
            begun.at = now
            self._begun[key] = begun  # at the end: the first is the one that waits longest
        return whole

    def _make_room(self, now: float, size: int) -> None:
        size += sum(each.whole.size for each in self._begun.values())
        while self._begun:
            key, oldest = next(iter(self._begun.items()))
            few = len(self._begun) < self.MOST_BEGUN and size <= 4 * self._most
            if few and now < oldest.at + self.LONGEST_S:
                return
            size -= oldest.whole.size
            del self._begun[key]
