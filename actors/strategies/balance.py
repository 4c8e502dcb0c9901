"""Balance by load: least outstanding, by priority, by cost, by errors."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from operator import attrgetter
from random import Random

from greenroom.actors.strategies.cost import light, lightest, loads
from greenroom.actors.strategies.free_members import foremost
from greenroom.actors.strategies.protocol import BuiltIn, Candidate, Candidates, PickContext
from greenroom.actors.strategies.sample import Sampling

_SAME_ERROR_RATE = 0.01
_PRIORITY = attrgetter("priority")
_COST = attrgetter("cost")


class LeastOutstanding(Sampling):
    """The fewest calls in flight, relative to what the member takes at a time.

    Of more than twenty candidates it looks at twenty (`Sample`).
    """

    name = "least_outstanding"

    def pick(self, candidates: Candidates, context: PickContext, rng: Random) -> Candidate:
        if len(candidates) == 1:
            return candidates[0]
        return light(*self._sample.priced(candidates, loads, context.now, rng), rng)


class Priority(BuiltIn):
    """The lowest priority number that has a candidate; equals share by load.

    Of more than twenty equals it looks at twenty (`Sample`); the number is always the lowest.
    """

    name = "priority"

    def __init__(self) -> None:
        self._equals = LeastOutstanding()

    def pick(self, candidates: Candidates, context: PickContext, rng: Random) -> Candidate:
        return self._equals.pick(foremost(candidates), context, rng)

    def preferred(self, members: Candidates, context: PickContext) -> Iterator[Candidates]:
        """The members of each priority number, the lowest first."""
        ranked = sorted(members, key=_PRIORITY)
        return (list(equals) for _, equals in groupby(ranked, key=_PRIORITY))


class Cheapest(BuiltIn):
    """The lowest `Member.cost` that has room; equals share by load.

    Of more than twenty equals it looks at twenty (`Sample`); the cost is always the lowest.
    """

    name = "cheapest"

    def __init__(self) -> None:
        self._equals = LeastOutstanding()

    def pick(self, candidates: Candidates, context: PickContext, rng: Random) -> Candidate:
        costs = list(map(_COST, candidates))
        lowest = min(costs)
        # Not by its `__eq__`, as of priorities: a whole number knows nothing of floats.
        equals = [each for each, cost in zip(candidates, costs, strict=True) if cost == lowest]
        return self._equals.pick(equals, context, rng)


class LeastErrors(Sampling):
    """The lowest recent error rate; rates within a hundredth of it are equal and share by load.

    Of more than twenty candidates it looks at twenty (`Sample`).
    """

    name = "least_errors"

    def pick(self, candidates: Candidates, context: PickContext, rng: Random) -> Candidate:
        looked_at, rates = self._sample.priced(candidates, _error_rates, context.now, rng)
        limit = min(rates) + _SAME_ERROR_RATE
        fewest = [each for each, rate in zip(looked_at, rates, strict=True) if rate <= limit]
        return lightest(fewest, context.now, rng)


def _error_rates(candidates: Candidates, now: float) -> list[float]:
    return [each.error_rate(now) for each in candidates]
