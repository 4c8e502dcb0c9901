"""What stands in the input of a batch: a prompt a line, as text or as JSON. Pure."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePath
from typing import Any

MOST_LINE_BYTES = 64 * 1024 * 1024
"""How long a line may be, of the output as well: it is held in memory."""
LONGEST_ID = 1000
_KEYS = ("id", "prompt", "messages")
_BOM = b"\xef\xbb\xbf"

PromptId = str | int
Payload = str | list[dict[str, Any]]


class BatchError(Exception):
    """A file that a batch cannot use: which, in which line, and why."""


class Format(StrEnum):
    """How prompts are written."""

    AUTO = "auto"
    JSONL = "jsonl"
    TEXT = "text"


@dataclass(frozen=True, slots=True, repr=False)
class Prompt:
    """One line of the input.

    Attributes:
        line: its number, from 1.
        id: as it stands there; the line's number where no line has one.
        payload: what the pool is asked.
        digest: 32 bits of a hash of the payload, by which another prompt of the same id is noticed.
    """

    line: int
    id: PromptId
    payload: Payload
    digest: int

    def __repr__(self) -> str:
        return f"<Prompt {self.id!r}, line {self.line}>"


class Lines:
    """Cuts blocks of bytes into lines.

    Args:
        name: of the file, for the error.

    Attributes:
        count: how many lines have ended.
    """

    def __init__(self, name: str) -> None:
        self.count = 0
        self._name = name
        self._pieces: list[bytes] = []
        self._size = 0

    def feed(self, block: bytes) -> Iterator[bytes]:
        """The lines that end in a block, without their newline.

        Raises:
            BatchError: a line is too long.
        """
        *ends, rest = block.split(b"\n")
        for end in ends:
            self._add(end)
            yield self._whole()
        self._add(rest)

    def rest(self) -> bytes:
        """What follows the last newline."""
        return b"".join(self._pieces)

    def last(self) -> Iterator[bytes]:
        """What follows the last newline as a line, if there is something."""
        if self._size:
            yield self._whole()

    def _add(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > MOST_LINE_BYTES:
            raise BatchError(
                f"{self._name}:{self.count + 1}: must have at most {MOST_LINE_BYTES} bytes"
            )
        self._pieces.append(piece)

    def _whole(self) -> bytes:
        line = b"".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        self.count += 1
        return line


class PromptReader:
    """Reads the prompts of one input, block by block.

    Lines are JSON where the format says so. `AUTO` goes by the file's name (`.jsonl` and `.ndjson`,
    `.txt`), else by the first line that is not blank: JSON if it begins with `{` or `"`.
    Blank lines are passed over, and count.

    Args:
        name: of the file.
        format: how its lines are written.

    Attributes:
        format: what it has turned out to be.
        explicit: whether the lines have ids of their own; None until there was one.
    """

    def __init__(self, name: str, format: Format = Format.AUTO) -> None:
        self.format = _by_name(name) if format is Format.AUTO else format
        self.explicit: bool | None = None
        self._name = name
        self._lines = Lines(name)
        self._first = 0

    def feed(self, block: bytes) -> Iterator[Prompt]:
        """The prompts that end in a block.

        Raises:
            BatchError: a line is none; with the file, the line and the rule.
        """
        for line in self._lines.feed(block):
            yield from self._read(line)

    def end(self) -> Iterator[Prompt]:
        """The prompt of a last line that does not end."""
        for line in self._lines.last():
            yield from self._read(line)

    def _read(self, line: bytes) -> Iterator[Prompt]:
        number = self._lines.count
        if number == 1:
            line = line.removeprefix(_BOM)
        if not line.strip():
            return
        try:
            own, payload = self._parsed(line.removesuffix(b"\r").decode())
            self._keep_to_ids(own, number)
        except UnicodeDecodeError as error:
            raise BatchError(f"{self._name}:{number}: must be UTF-8: {error.reason}") from None
        except ValueError as error:
            raise BatchError(f"{self._name}:{number}: {error}") from None
        yield Prompt(number, number if own is None else own, payload, digest_of(payload))

    def _parsed(self, text: str) -> tuple[PromptId | None, Payload]:
        if self.format is Format.AUTO:
            json_like = text.lstrip().startswith(("{", '"'))
            self.format = Format.JSONL if json_like else Format.TEXT
        return (None, text) if self.format is Format.TEXT else _from_json(text)

    def _keep_to_ids(self, own: PromptId | None, number: int) -> None:
        """All lines have an id, or none: else a number could be an id, or that of a line."""
        explicit = own is not None
        if self.explicit is None:
            self.explicit, self._first = explicit, number
        elif self.explicit is not explicit:
            has, other = ("an id", "none") if explicit else ("no id", "one")
            raise ValueError(
                f"has {has}, line {self._first} has {other}: all prompts must have one, or none"
            )


def digest_of(payload: Payload) -> int:
    """32 bits of a hash of what is asked; the same for a text and for a JSON string."""
    if isinstance(payload, str):
        data = b"p" + payload.encode(errors="surrogatepass")
    else:
        data = b"m" + json.dumps(payload, sort_keys=True, separators=(",", ":")).encode()
    return int.from_bytes(hashlib.blake2b(data, digest_size=4).digest())


def _by_name(name: str) -> Format:
    known = {".jsonl": Format.JSONL, ".ndjson": Format.JSONL, ".txt": Format.TEXT}
    return known.get(PurePath(name).suffix.lower(), Format.AUTO)


def _from_json(text: str) -> tuple[PromptId | None, Payload]:
    try:
        said = json.loads(text)
    except RecursionError:
        raise ValueError("must be JSON that is less deep") from None
    except json.JSONDecodeError as error:
        raise ValueError(
            f"must be JSON: {error.msg} at column {error.colno}; "
            "--format text takes lines as they are"
        ) from None
    if isinstance(said, str):
        return None, _text("prompt", said)
    if not isinstance(said, dict):
        raise ValueError(f"must be an object or a string, got {_kind(said)}")
    for key in said:
        if key not in _KEYS:
            near = difflib.get_close_matches(key, _KEYS, 1)
            meant = f"did you mean {near[0]}? " if near else ""
            raise ValueError(f"{key!r} is no key of a prompt; {meant}those are {', '.join(_KEYS)}")
    if ("prompt" in said) == ("messages" in said):
        given = "both" if "prompt" in said else "neither"
        raise ValueError(f"must have prompt or messages, got {given}")
    own = _id(said["id"]) if "id" in said else None
    if "prompt" in said:
        return own, _text("prompt", said["prompt"])
    return own, _messages(said["messages"])


def _id(value: Any) -> PromptId:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"id must be a string or a whole number, got {_kind(value)}")
    if not 0 < len(str(value)) <= LONGEST_ID:
        raise ValueError(f"id must have 1 to {LONGEST_ID} characters, got {len(str(value))}")
    return value


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name} must be a string, got {_kind(value)}")
    if not value:
        raise ValueError(f"{name} must not be empty")
    return value


def _messages(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not value:
        got = "an empty one" if value == [] else _kind(value)
        raise ValueError(f"messages must be a list of objects, got {got}")
    for at, each in enumerate(value):
        if not isinstance(each, dict):
            raise ValueError(f"messages[{at}] must be an object, got {_kind(each)}")
    return value


def _kind(value: Any) -> str:
    """What a value of JSON is; never the value, which may be a prompt."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "a truth"}
    return "null" if value is None else names.get(type(value), "a number")
