"""Who ranks highest for a key, remembered for the keys of late. Pure."""

from __future__ import annotations

import hashlib
import heapq
import math
from collections import OrderedDict
from collections.abc import Iterable, Sequence

from greenroom.actors.strategies.protocol import Candidate

REMEMBERED_KEYS = 10_000
"""Of so many keys the ranking is remembered, those not asked for the longest are forgotten."""
RANKS = 8
"""So many members of a key's ranking are remembered: the first of them that is free is taken."""

_BITS = 52  # so that (hash + 1/2) / 2**52 is exact, and neither 0 nor 1


class Ranking:
    """The members that rank highest for each of the last `REMEMBERED_KEYS` keys.

    Every member has a score for a key, w / -ln(h) with h in (0, 1) a hash of both. A key that is
    not remembered costs a hash for every member: about half a microsecond each.

    Args:
        everybody: all members of a pool, by index. They and their weights do not change.
    """

    def __init__(self, everybody: Sequence[Candidate]) -> None:
        self.everybody = everybody
        self.weighted = all(each.weight > 0 for each in everybody)
        """Whether everybody can have a key."""
        self._groups: dict[float, list[tuple[bytes, Candidate]]] = {}
        for each in everybody:
            if each.weight > 0:
                self._groups.setdefault(each.weight, []).append((to_bytes(each.name), each))
        self._best: OrderedDict[bytes, list[int]] = OrderedDict()

    def best(self, key: str) -> list[int]:
        """The indices of those that score highest, the best one first."""
        hashed = digest(to_bytes(key))  # what is remembered of a long key is no longer than this
        known = self._best.get(hashed)
        if known is None:
            known = self._best[hashed] = self._ranked(hashed)
            if len(self._best) > REMEMBERED_KEYS:
                self._best.popitem(last=False)
        else:
            self._best.move_to_end(hashed)
        return known

    def _ranked(self, key: bytes) -> list[int]:
        scored = [
            (-score(number, member.weight), member.index)
            for group in self._groups.values()
            for number, member in _highest(key, group)
        ]
        return [index for _, index in sorted(scored)[:RANKS]]


def highest(candidates: Iterable[Candidate], key: str) -> Candidate:
    """The one that scores highest for a key, the first of equals. All weigh more than 0."""
    hashed = digest(to_bytes(key))
    return max(
        candidates,
        key=lambda each: score(digest(hashed + to_bytes(each.name)), each.weight),
    )


def score(hashed: bytes, weight: float) -> float:
    """w / -ln(h), with h in (0, 1) of the eight bytes of a hash."""
    number = int.from_bytes(hashed, "big") >> (64 - _BITS)
    return weight / -math.log((number + 0.5) / 2.0**_BITS)


def digest(data: bytes) -> bytes:
    """Eight bytes that are the same in every process."""
    return hashlib.blake2b(data, digest_size=8).digest()


def to_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _highest(key: bytes, group: Sequence[tuple[bytes, Candidate]]) -> list[tuple[bytes, Candidate]]:
    """Those of a group of equal weight whose hashes are the highest, for so are their scores.

    A hash that has begun with the key is copied for each: half the time of one from the start, and
    this is the loop that a key costs.
    """
    begun = hashlib.blake2b(key, digest_size=8)
    hashes = []
    for name, _ in group:
        hashing = begun.copy()
        hashing.update(name)
        hashes.append(hashing.digest())
    first: Iterable[int] = range(len(group))
    if len(group) > RANKS:
        first = heapq.nlargest(RANKS, first, key=hashes.__getitem__)
    return [(hashes[i], group[i][1]) for i in first]
