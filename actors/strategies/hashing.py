"""Consistent hashing: requests of one key go to one member."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Sequence
from typing import ClassVar

from greenroom.actors.strategies.base import BuiltIn, Candidate, PickContext
from greenroom.actors.strategies.chance import two_of
from greenroom.actors.strategies.cost import lightest

_BITS = 52  # so that (hash + 1/2) / 2**52 is exact, and neither 0 nor 1


class ConsistentHash(BuiltIn):
    """Weighted rendezvous hashing on `Request.key`; without a key, the power of two choices.

    Every member has a score for a key, w / -ln(h) with h in (0, 1) a hash of both; the highest
    takes the request. Whoever is full or unroutable is no candidate, so its keys, and only those,
    go to the next highest of each. A weight of 0 gets nothing.

    Sources: Thaler and Ravishankar, Using Name-Based Mappings to Increase Hit Rates (1998);
    Schindelhauer and Schomaker, Weighted Distributed Hash Tables (2005), for the weights.
    """

    name: ClassVar[str] = "consistent_hash"

    def pick(
        self, candidates: Sequence[Candidate], context: PickContext, rng: random.Random
    ) -> Candidate | None:
        weighted = [each for each in candidates if each.weight > 0]
        if not weighted:
            return None
        if context.key is None:
            return lightest(two_of(weighted, rng), context.now, rng)
        key = _digest(_bytes(context.key))
        return max(weighted, key=lambda each: each.weight / -math.log(_hash(key, each.name)))


def _hash(key: bytes, name: str) -> float:
    """A number in (0, 1) that is the same in every process."""
    number = int.from_bytes(_digest(key + _bytes(name)), "big") >> (64 - _BITS)
    return (number + 0.5) / 2.0**_BITS


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=8).digest()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
