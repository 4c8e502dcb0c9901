"""Turns: round robin, plain and weighted."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import ClassVar

from greenroom.actors.strategies.base import BuiltIn, Candidate, PickContext


class RoundRobin(BuiltIn):
    """Exact turns: the next in the configured order, so that a change of members skips nobody."""

    name: ClassVar[str] = "round_robin"

    def __init__(self) -> None:
        self._last = -1

    def pick(
        self, candidates: Sequence[Candidate], context: PickContext, rng: random.Random
    ) -> Candidate:
        chosen = next((each for each in candidates if each.index > self._last), candidates[0])
        self._last = chosen.index
        return chosen


class Weighted(BuiltIn):
    """nginx's smooth weighted round robin (`ngx_http_upstream_get_peer`).

    Each pick raises every candidate's credit by its weight; the highest credit is picked and pays
    the sum of the weights. 3:1 gives a a b a, not a a a b. A weight of 0 gets nothing.
    """

    name: ClassVar[str] = "weighted"

    def __init__(self) -> None:
        self._credit: dict[str, float] = {}

    def pick(
        self, candidates: Sequence[Candidate], context: PickContext, rng: random.Random
    ) -> Candidate | None:
        weighted = [each for each in candidates if each.weight > 0]
        if not weighted:
            return None
        for each in weighted:
            self._credit[each.name] = self._credit.get(each.name, 0.0) + each.weight
        chosen = max(weighted, key=lambda each: self._credit[each.name])
        self._credit[chosen.name] -= sum(each.weight for each in weighted)
        return chosen

    def members_changed(self, names: Sequence[str]) -> None:
        """Forget the credit of whoever left."""
        present = frozenset(names)
        self._credit = {name: each for name, each in self._credit.items() if name in present}
