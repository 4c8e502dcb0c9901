"""How loaded and how slow a member is, in one place: lesser is better."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import cast

from greenroom.actors.strategies.protocol import Candidate, Candidates

TIE = 1.01
_LEAST_SUCCESS_RATE = 0.01
_UNKNOWN_LATENCY_S = 1.0


def loads(candidates: Candidates, now: float) -> list[float]:
    """Each one's share of its concurrency in use with one more request, over the expected success
    rate, which keeps a member that fails at once, so is always idle, from drawing everything.
    """
    shares = [(each.in_flight + 1) / (each.max_concurrency or 1) for each in candidates]
    return over_success_rates(shares, candidates, now)


def over_success_rates(costs: list[float], candidates: Candidates, now: float) -> list[float]:
    """Each cost over the expected success rate of its candidate."""
    rates = [each.error_rate(now) for each in candidates]
    if not any(rates):  # as in good times
        return costs
    return [
        cost / max(_LEAST_SUCCESS_RATE, 1.0 - rate) for cost, rate in zip(costs, rates, strict=True)
    ]


def success_rate(member: Candidate, now: float) -> float:
    """The expected share of successes, never 0: the inverse is the number of attempts for one."""
    rate = 1.0 - member.error_rate(now)
    return rate if rate > _LEAST_SUCCESS_RATE else _LEAST_SUCCESS_RATE


def lightest(candidates: Candidates, now: float, rng: Random) -> Candidate:
    """The least loaded; ties (within 1%) by chance, so that sequential traffic spreads too."""
    if len(candidates) == 1:
        return candidates[0]
    return light(candidates, loads(candidates, now), rng)


def light(candidates: Candidates, costs: Sequence[float], rng: Random) -> Candidate:
    """One of those that cost least, ties (within 1%) by chance."""
    return rng.choice(cheapest(candidates, costs, TIE))


def cheapest(candidates: Candidates, costs: Sequence[float], slack: float) -> list[Candidate]:
    """All whose cost is at most `slack` times the lowest."""
    limit = min(costs) * slack
    return [each for each, cost in zip(candidates, costs, strict=True) if cost <= limit]


def latencies(candidates: Candidates, now: float) -> list[float]:
    """The seconds that an answer from each is expected to take, failed attempts included.

    Unmeasured and idle counts as 0, so that it is measured first. Unmeasured with calls in flight
    counts as twice the slowest one known: nobody herds onto a newcomer, and failing at once is not
    preferred to not having answered yet.
    """
    measured = [each.latency_s(now) for each in candidates]
    if None not in measured:  # as soon as each has answered once
        return over_success_rates(cast("list[float]", measured), candidates, now)
    slowest = max((each for each in measured if each is not None), default=0.0)
    presumed = 2.0 * max(slowest, _UNKNOWN_LATENCY_S)
    return [
        latency / success_rate(each, now)
        if latency is not None
        else presumed * (each.in_flight > 0)
        for each, latency in zip(candidates, measured, strict=True)
    ]
