"""Whom a strategy looks at that would look at all, if all were not too many. Pure."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from greenroom.actors.strategies.order import at
from greenroom.actors.strategies.protocol import BuiltIn, Candidates

LOOKED_AT = 20
"""So many candidates are looked at, all of them where there are no more."""
DRAWN = 16
"""So many of them are drawn at random where there are more."""
KEPT = LOOKED_AT - DRAWN
"""So many are the cheapest of the pick before."""


class Sampling(BuiltIn):
    """A strategy that looks at a `Sample` of the candidates."""

    def __init__(self) -> None:
        self._sample = Sample()


class Sample:
    """Every candidate up to `LOOKED_AT` of them. From more, `DRAWN` at random and the `KEPT`
    cheapest of the last look, so that a pick costs no more among thousands.

    The best of d drawn at random is nearly the best of all where most are alike; where few are
    good, remembering the best of the last draw finds them, and stays with them as long as they are
    the best. Among equals the newly drawn are remembered, so nobody is favoured. Whoever has
    something about it that all would prefer, as who is not measured yet, is found with the chance
    of DRAWN / n a pick.

    Sources: Mitzenmacher, The Power of Two Choices in Randomized Load Balancing (2001), for d
    choices; Mitzenmacher, Prabhakar and Shah, Load Balancing with Memory (2002).
    """

    def __init__(self) -> None:
        self._kept: list[int] = []

    def priced(
        self,
        candidates: Candidates,
        costs_of: Callable[[Candidates, float], list[float]],
        now: float,
        rng: Random,
    ) -> tuple[Candidates, list[float]]:
        """Those looked at, and what each of them costs by `costs_of(candidates, now)`."""
        if len(candidates) <= LOOKED_AT:
            return candidates, costs_of(candidates, now)
        looked_at = rng.choices(candidates, k=DRAWN)
        kept = (at(candidates, index) for index in self._kept)
        looked_at += [each for each in kept if each is not None]
        costs = costs_of(looked_at, now)
        by_cost = sorted(range(len(costs)), key=costs.__getitem__)  # of equals, the drawn first
        self._kept = list(dict.fromkeys([looked_at[i].index for i in by_cost]))[:KEPT]
        return looked_at, costs
