"""Balance by load: least outstanding, by priority, by errors."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import ClassVar

from greenroom.actors.strategies.base import BuiltIn, Candidate, PickContext
from greenroom.actors.strategies.cost import lightest

_SAME_ERROR_RATE = 0.01


class LeastOutstanding(BuiltIn):
    """The fewest calls in flight, relative to what the member takes at a time."""

    name: ClassVar[str] = "least_outstanding"

    def pick(
        self, candidates: Sequence[Candidate], context: PickContext, rng: random.Random
    ) -> Candidate:
        return lightest(candidates, context.now, rng)


class Priority(BuiltIn):
    """The lowest priority number that has a candidate; equals share by load."""

    name: ClassVar[str] = "priority"

    def pick(
        self, candidates: Sequence[Candidate], context: PickContext, rng: random.Random
    ) -> Candidate:
        first = min(each.priority for each in candidates)
        return lightest([each for each in candidates if each.priority == first], context.now, rng)


class LeastErrors(BuiltIn):
    """The lowest recent error rate; rates within a hundredth of it are equal and share by load."""

    name: ClassVar[str] = "least_errors"

    def pick(
        self, candidates: Sequence[Candidate], context: PickContext, rng: random.Random
    ) -> Candidate:
        rates = [each.error_rate(context.now) for each in candidates]
        limit = min(rates) + _SAME_ERROR_RATE
        fewest = [each for each, rate in zip(candidates, rates, strict=True) if rate <= limit]
        return lightest(fewest, context.now, rng)
