"""By speed: least latency and adaptive."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import ClassVar

from greenroom.actors.strategies.base import BuiltIn, Candidate, PickContext
from greenroom.actors.strategies.cost import cheapest, latencies, lightest

_ABOUT_EQUALLY_FAST = 1.25


class LeastLatency(BuiltIn):
    """Finagle's peak EWMA: the lowest latency estimate x (calls in flight + 1).

    Source: `finagle/loadbalancer/PeakEwma.scala`, over all candidates instead of two.
    """

    name: ClassVar[str] = "least_latency"

    def pick(
        self, candidates: Sequence[Candidate], context: PickContext, rng: random.Random
    ) -> Candidate:
        if len(candidates) == 1:
            return candidates[0]
        expected = latencies(candidates, context.now)
        costs = [
            latency * (each.in_flight + 1)
            for each, latency in zip(candidates, expected, strict=True)
        ]
        return rng.choice(cheapest(candidates, costs, 1.0))


class Adaptive(BuiltIn):
    """The fastest; those about as fast as the fastest (within a quarter of it) share by load.

    A member's cost is its expected latency x max(1, (calls in flight + 1) / concurrency). The
    quarter is there because estimates jitter: without it the one that was faster by a hair a moment
    ago would take everything until it is full.
    """

    name: ClassVar[str] = "adaptive"

    def pick(
        self, candidates: Sequence[Candidate], context: PickContext, rng: random.Random
    ) -> Candidate:
        if len(candidates) == 1:
            return candidates[0]
        expected = latencies(candidates, context.now)
        costs = [
            latency * max(1.0, (each.in_flight + 1) / max(1, each.max_concurrency))
            for each, latency in zip(candidates, expected, strict=True)
        ]
        return lightest(cheapest(candidates, costs, _ABOUT_EQUALLY_FAST), context.now, rng)
