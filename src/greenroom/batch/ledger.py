"""What of a batch is done, in a few bytes a prompt. Pure.

A prompt has a mark of 16 bits: 15 of its digest if it is answered, else none of them; and one that
says whether it stands in the input. Lines without ids take two bytes each. Ids are kept as hashes
of 8 bytes: at most 30 bytes each, whatever they are.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from enum import Enum, auto
from typing import Protocol

from greenroom.batch.prompts import PromptId

_SEEN = 1 << 15
_CHECKS = _SEEN - 1
_PAGE = 1 << 14
_SMALLEST = 1 << 10
_EMPTY = 0


class Seen(Enum):
    """What a prompt of the input is to the ledger."""

    OPEN = auto()
    DONE = auto()
    TWICE = auto()
    OTHER = auto()
    """That id is answered, and it was another prompt."""


class Marks(Protocol):
    """A mark for each key, 0 where there was none."""

    def get(self, key: int) -> int: ...

    def put(self, key: int, mark: int) -> None: ...


class LineMarks:
    """For keys that are numbers of lines: pages of an array. A number out of all proportion, of a
    file that is none of ours, costs one page.
    """

    def __init__(self) -> None:
        self._pages: dict[int, array[int]] = {}

    def get(self, key: int) -> int:
        page = self._pages.get(key // _PAGE)
        return 0 if page is None else page[key % _PAGE]

    def put(self, key: int, mark: int) -> None:
        page = self._pages.get(key // _PAGE)
        if page is None:
            page = self._pages[key // _PAGE] = array("H", bytes(2 * _PAGE))
        page[key % _PAGE] = mark


class HashMarks:
    """For keys that are hashes of 64 bits: open addressing, never more than two thirds full."""

    def __init__(self) -> None:
        self._size = _SMALLEST
        self._used = 0
        self._keys = array("Q", bytes(8 * self._size))
        self._marks = array("H", bytes(2 * self._size))

    def get(self, key: int) -> int:
        key = key or 1  # 0 is the free place
        at = self._place(key)
        return self._marks[at] if self._keys[at] == key else 0

    def put(self, key: int, mark: int) -> None:
        key = key or 1
        at = self._place(key)
        if self._keys[at] == _EMPTY:
            if 3 * (self._used + 1) > 2 * self._size:
                self._grow()
                at = self._place(key)
            self._keys[at] = key
            self._used += 1
        self._marks[at] = mark

    def _place(self, key: int) -> int:
        """Where a key is, or would be."""
        keys, last = self._keys, self._size - 1
        at = key & last
        while keys[at] != key and keys[at] != _EMPTY:
            at = (at + 1) & last
        return at

    def _grow(self) -> None:
        keys, marks = self._keys, self._marks
        self._size *= 2
        self._keys = array("Q", bytes(8 * self._size))
        self._marks = array("H", bytes(2 * self._size))
        for key, mark in zip(keys, marks, strict=True):
            if key != _EMPTY:
                at = self._place(key)
                self._keys[at], self._marks[at] = key, mark


class Ledger:
    """Which prompts are answered, which stand in the input, and which are still to be asked.

    Two ids with one hash, one pair in 1.8e19, are never taken for one where that would lose
    a prompt: in a file the second is refused as given twice before anything is asked; if one of
    them is answered already, the other's digest differs (but for one time in 32,767).

    Args:
        explicit: whether prompts have ids of their own; else those are numbers of lines.

    Attributes:
        explicit: as given.
        answered: how many are.
        matched: how many of them stand in the input, as far as that has been read.
    """

    def __init__(self, explicit: bool) -> None:
        self.answered = 0
        self.matched = 0
        self.explicit = explicit
        self._marks: Marks = HashMarks() if explicit else LineMarks()

    def key_of(self, id: PromptId) -> int:
        """What an id is kept as."""
        if not self.explicit:
            assert isinstance(id, int)
            return id
        data = json.dumps(id).encode()  # "7" and 7 are two ids
        return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest())

    def note_answer(self, id: PromptId, digest: int) -> bool:
        """The output has a line of that id; False if it had one before."""
        key = self.key_of(id)
        if self._marks.get(key) & _CHECKS:
            return False
        self._marks.put(key, _check(digest))
        self.answered += 1
        return True

    def see(self, id: PromptId, digest: int) -> Seen:
        """The input has a prompt of that id."""
        key = self.key_of(id)
        mark = self._marks.get(key)
        if mark & _SEEN:
            return Seen.TWICE
        self._marks.put(key, mark | _SEEN)
        if not mark:
            return Seen.OPEN
        self.matched += 1
        return Seen.DONE if mark == _check(digest) else Seen.OTHER

    def is_seen(self, id: PromptId) -> bool:
        """Whether the input has it."""
        return bool(self._marks.get(self.key_of(id)) & _SEEN)

    def take(self, id: PromptId) -> bool:
        """Whether a prompt that was seen is to be asked now: it is not answered, and nobody has
        taken it before.
        """
        key = self.key_of(id)
        if self._marks.get(key) != _SEEN:
            return False
        self._marks.put(key, _SEEN | _CHECKS)
        return True


def _check(digest: int) -> int:
    """15 bits of a digest, never 0."""
    return 1 + digest % _CHECKS
