"""Chance: uniform, and the power of two choices."""

from __future__ import annotations

from random import Random

from greenroom.actors.strategies.cost import lightest
from greenroom.actors.strategies.protocol import BuiltIn, Candidate, Candidates, PickContext


class UniformRandom(BuiltIn):
    """Every candidate is equally likely."""

    name = "random"

    def pick(self, candidates: Candidates, context: PickContext, rng: Random) -> Candidate:
        return rng.choice(candidates)


class PowerOfTwo(BuiltIn):
    """The less loaded of two drawn at random.

    Source: Mitzenmacher, The Power of Two Choices in Randomized Load Balancing (2001).
    """

    name = "power_of_two"

    def pick(self, candidates: Candidates, context: PickContext, rng: Random) -> Candidate:
        return lightest(two_of(candidates, rng), context.now, rng)


def two_of(candidates: Candidates, rng: Random) -> Candidates:
    """Two distinct ones drawn at random, or all if there are no more than two."""
    if len(candidates) <= 2:
        return candidates
    first = rng.randrange(len(candidates))
    second = rng.randrange(len(candidates) - 1)
    return candidates[first], candidates[second + (second >= first)]
