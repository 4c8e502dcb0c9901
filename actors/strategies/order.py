"""Candidates stand by index: how to find one of many without a look at each. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from operator import attrgetter
from typing import TypeVar

from greenroom.actors.strategies.protocol import Candidate

C = TypeVar("C", bound=Candidate)

INDEX = attrgetter("index")


def at(candidates: Sequence[C], index: int) -> C | None:
    """The candidate of that index, or None. O(log n)."""
    place = _place_past(candidates, index) - 1
    if place >= 0:
        found = candidates[place]
        return found if found.index == index else None
    return None


def after(candidates: Sequence[C], index: int) -> C:
    """The first candidate past that index; the first of all where there is none. O(log n)."""
    place = _place_past(candidates, index)
    return candidates[place if place < len(candidates) else 0]


def _place_past(candidates: Sequence[C], index: int) -> int:
    """Where those past that index begin. O(1) as long as nobody has ever left and all are free, for
    then everyone's place is its index.
    """
    if 0 <= index < len(candidates) and candidates[index].index == index:
        return index + 1
    return bisect_right(candidates, index, key=INDEX)
