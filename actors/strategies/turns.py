"""Turns: round robin, plain and weighted."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from greenroom.actors.strategies.order import after
from greenroom.actors.strategies.protocol import BuiltIn, Candidate, Candidates, PickContext
from greenroom.actors.strategies.schedule import Schedule

MANY = 20
"""More candidates than that are given turns by a schedule."""


class RoundRobin(BuiltIn):
    """Exact turns: the next in the configured order, so that a change of members skips nobody."""

    name = "round_robin"
    takes_turns = True

    def __init__(self) -> None:
        self._last = -1

    def pick(self, candidates: Candidates, context: PickContext, rng: Random) -> Candidate:
        last, count = self._last, len(candidates)
        # As `after` does where all are free, and nobody has ever left: everyone's place is its
        # index then.
        if 0 <= last < count and candidates[last].index == last:
            chosen = candidates[last + 1 if last + 1 < count else 0]
        else:
            chosen = after(candidates, last)
        self._last = chosen.index
        return chosen


class Weighted(BuiltIn):
    """nginx's smooth weighted round robin (`ngx_http_upstream_get_peer`).

    Each pick raises every candidate's credit by its weight; the highest credit is picked and pays
    the sum of the weights. 3:1 gives a a b a, not a a a b. A weight of 0 gets nothing.

    With more than twenty candidates a `Schedule` gives the same shares, as evenly spread, without
    a look at each.
    """

    name = "weighted"
    takes_turns = True

    def __init__(self) -> None:
        self._credit: dict[str, float] = {}
        self._schedule = Schedule()

    def pick(self, candidates: Candidates, context: PickContext, rng: Random) -> Candidate | None:
        if len(candidates) > MANY:
            return self._schedule.next(candidates)
        weighted = [each for each in candidates if each.weight > 0]
        return self._most_credited(weighted) if weighted else None

    def _most_credited(self, weighted: Candidates) -> Candidate:
        credit = self._credit
        total = 0.0
        for each in weighted:
            credit[each.name] = credit.get(each.name, 0.0) + each.weight
            total += each.weight
        chosen = max(weighted, key=lambda each: credit[each.name])
        credit[chosen.name] -= total
        return chosen

    def members_changed(self, names: Sequence[str]) -> None:
        """Forget the credit of whoever left."""
        present = frozenset(names)
        self._credit = {name: each for name, each in self._credit.items() if name in present}
        self._schedule.members_changed(present)
