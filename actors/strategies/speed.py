"""By speed: least latency and adaptive."""

from __future__ import annotations

from random import Random

from greenroom.actors.strategies.cost import TIE, cheapest, latencies, lightest
from greenroom.actors.strategies.protocol import Candidate, Candidates, PickContext
from greenroom.actors.strategies.sample import LOOKED_AT, Sampling

_ABOUT_EQUALLY_FAST = 1.25


class LeastLatency(Sampling):
    """Finagle's peak EWMA: the lowest latency estimate x (calls in flight + 1).

    Of more than twenty candidates it looks at twenty (`Sample`).

    Source: `finagle/loadbalancer/PeakEwma.scala`, over more candidates than two.
    """

    name = "least_latency"

    def pick(self, candidates: Candidates, context: PickContext, rng: Random) -> Candidate:
        if len(candidates) == 1:
            return candidates[0]
        looked_at, costs = self._sample.priced(candidates, _queueing, context.now, rng)
        return rng.choice(cheapest(looked_at, costs, 1.0))


class Adaptive(Sampling):
    """The fastest; those about as fast as the fastest (within a quarter of it) share by load.

    A member's cost is its expected latency x max(1, (calls in flight + 1) / concurrency). The
    quarter is there because estimates jitter: without it the one that was faster by a hair a moment
    ago would take everything until it is full. Of more than twenty candidates it looks at twenty
    (`Sample`).
    """

    name = "adaptive"

    def pick(self, candidates: Candidates, context: PickContext, rng: Random) -> Candidate:
        if len(candidates) == 1:
            return candidates[0]
        if len(candidates) <= LOOKED_AT:
            chosen = _in_good_times(candidates, context.now, rng)
            if chosen is not None:
                return chosen
        looked_at, costs = self._sample.priced(candidates, _full, context.now, rng)
        return lightest(cheapest(looked_at, costs, _ABOUT_EQUALLY_FAST), context.now, rng)


def _in_good_times(candidates: Candidates, now: float, rng: Random) -> Candidate | None:
    """The choice of `Adaptive` where all have answered, none has failed of late and none is full:
    the same as by `priced` and `lightest`, which make 24 calls more, a tenth of a request. None in
    other times.
    """
    costs = []
    for each in candidates:
        latency = each.latency_s(now)
        if latency is None or each.in_flight >= each.max_concurrency or each.error_rate(now):
            return None
        costs.append(latency)
    limit = min(costs) * _ABOUT_EQUALLY_FAST
    fast, shares = [], []
    for each, cost in zip(candidates, costs, strict=True):
        if cost <= limit:
            fast.append(each)
            shares.append((each.in_flight + 1) / each.max_concurrency)
    if len(fast) == 1:
        return fast[0]
    limit = min(shares) * TIE
    alike = []
    for each, share in zip(fast, shares, strict=True):
        if share <= limit:
            alike.append(each)
    return rng.choice(alike)


def _queueing(candidates: Candidates, now: float) -> list[float]:
    """As if every member did one call after the other."""
    return [
        latency * (each.in_flight + 1)
        for each, latency in zip(candidates, latencies(candidates, now), strict=True)
    ]


def _full(candidates: Candidates, now: float) -> list[float]:
    """As if calls beyond its concurrency had to wait."""
    return [
        latency
        if each.in_flight < each.max_concurrency
        else latency * (each.in_flight + 1) / max(1, each.max_concurrency)
        for each, latency in zip(candidates, latencies(candidates, now), strict=True)
    ]
