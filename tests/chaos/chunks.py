"""The chunks of a stream as an agent sends them, and what a consumer may have of them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import dropwhile, takewhile
from typing import Any

from chaos.entry import Call, CallEnd, Entry
from chaos.moves import Move

EMPTIES: tuple[object, ...] = (None, "", b"", [], {})
"""What a keep-alive looks like."""


def is_empty(chunk: object) -> bool:
    """Whether a chunk does not count; it may be one that nobody may look at."""
    return chunk is None or (type(chunk) in (str, bytes, list, tuple, dict) and not chunk)


def chunks_before(entry: Entry, call: Call, number: int) -> list[object]:
    """What a call sends before it does what its move says: a few keep-alives, and what counts."""
    if call.move is Move.EMPTY:
        return [EMPTIES[n % len(EMPTIES)] for n in range(1 + number % 6)]
    empties: list[object] = [EMPTIES[n] for n in range(number % 3)]
    return empties + [(entry.id, call.began, n) for n in range(entry.send.before)]


def those_that_count(chunks: Sequence[object]) -> list[object]:
    """Without the keep-alives at their beginning."""
    return list(dropwhile(is_empty, chunks))


def leading(chunks: Sequence[object]) -> list[object]:
    """The keep-alives at their beginning."""
    return list(takewhile(is_empty, chunks))


def failed_quietly(call: Call) -> bool:
    """Whether it was a stream that came to its end without any content: no answer, whatever made
    it so (a value that is None may be its only chunk).
    """
    quiet = call.end is CallEnd.RAISED and call.result is None
    return quiet and not those_that_count(call.chunks)


def is_start_of(taken: Sequence[Any], given: Sequence[Any]) -> bool:
    """Whether these are the first of those: the very objects, in order."""
    return len(taken) <= len(given) and all(map(lambda a, b: a is b, taken, given))
