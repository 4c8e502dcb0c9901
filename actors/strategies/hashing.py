"""Consistent hashing: requests of one key go to one member."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from greenroom.actors.strategies.chance import two_of
from greenroom.actors.strategies.cost import lightest
from greenroom.actors.strategies.free_members import FreeMembers
from greenroom.actors.strategies.order import at
from greenroom.actors.strategies.protocol import BuiltIn, Candidate, Candidates, PickContext
from greenroom.actors.strategies.ranking import Ranking, highest


class ConsistentHash(BuiltIn):
    """Weighted rendezvous hashing on `Request.key`; without a key, the power of two choices.

    Every member has a score for a key, w / -ln(h) with h in (0, 1) a hash of both; the highest
    takes the request. Whoever is full or unroutable is no candidate, so its keys, and only those,
    go to the next highest of each. A weight of 0 gets nothing.

    A pool remembers who ranks highest for its last 10,000 keys (`Ranking`), until members or
    weights change. A key that it does not remember costs a hash for every member.

    Sources: Thaler and Ravishankar, Using Name-Based Mappings to Increase Hit Rates (1998);
    Schindelhauer and Schomaker, Weighted Distributed Hash Tables (2005), for the weights.
    """

    name = "consistent_hash"

    def __init__(self) -> None:
        self._ranking = Ranking(())

    def pick(self, candidates: Candidates, context: PickContext, rng: Random) -> Candidate | None:
        if isinstance(candidates, FreeMembers):
            self._follow(candidates.everybody)
            if context.key is not None:
                chosen = self._remembered(candidates, context.key)
                if chosen is not None:
                    return chosen
            elif self._ranking.weighted:
                return lightest(two_of(candidates, rng), context.now, rng)
        return self._among_all(candidates, context, rng)

    def preferred(self, members: Candidates, context: PickContext) -> Iterator[Candidates]:
        """Those that score highest for the key, one by one; nobody without a key."""
        if context.key is None:
            return iter(())
        self._follow(members)
        ranked = (at(members, index) for index in self._ranking.best(context.key))
        return ([member] for member in ranked if member is not None)

    def _follow(self, everybody: Candidates) -> None:
        if self._ranking.everybody is not everybody:
            self._ranking = Ranking(everybody)

    def _remembered(self, candidates: Candidates, key: str) -> Candidate | None:
        """The first of those that rank highest who is free."""
        for index in self._ranking.best(key):
            member = at(candidates, index)
            if member is not None:
                return member
        return None

    def _among_all(
        self, candidates: Candidates, context: PickContext, rng: Random
    ) -> Candidate | None:
        weighted = [each for each in candidates if each.weight > 0]
        if not weighted:
            return None
        if context.key is None:
            return lightest(two_of(weighted, rng), context.now, rng)
        return highest(weighted, context.key)
