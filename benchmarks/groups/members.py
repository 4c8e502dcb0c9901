"""A pick among few members and among many, for every strategy; and whole calls with that pick."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks import measure
from benchmarks.groups.shared import Prepare
from benchmarks.model import FULL, Case, Comparison, Group, Measure, Scale, versus
from greenroom import LoadBalanceStrategy

STRATEGIES = tuple(strategy.value for strategy in LoadBalanceStrategy)
CONSTANT = ("round_robin", "random", "power_of_two", "failover")
"""Strategies that need not look at every member."""
LIMITS = {strategy: 2.0 if strategy in CONSTANT else 10.0 for strategy in STRATEGIES}
ROUTERS = {"litellm": "random", "litellm-latency": "least_latency"}
"""LiteLLM's strategies, and those of greenroom that are like them."""
FEW, MANY = 0, len(FULL.members) - 1


def _pick(strategy: str, position: int) -> Prepare:
    @contextmanager
    def prepare(peer: Any, scale: Scale) -> Iterator[Measure]:
        members = scale.members[position]
        choose = peer.pick(strategy, members)
        yield lambda: _mean_us(choose, max(10, scale.asks // 5))

    return prepare


def _pick_for_new_key(position: int) -> Prepare:
    @contextmanager
    def prepare(peer: Any, scale: Scale) -> Iterator[Measure]:
        choose = peer.pick_for_new_key(scale.members[position])
        yield lambda: _mean_us(choose, max(10, scale.asks // 5))

    return prepare


def _mean_us(choose: Any, times: int) -> float:
    """A mean: one pick is too short for the clock."""
    start = time.perf_counter()
    for _ in range(times):
        choose()
    return (time.perf_counter() - start) / times * 1e6


def _ask(strategy: str, position: int) -> Prepare:
    @contextmanager
    def prepare(peer: Any, scale: Scale) -> Iterator[Measure]:
        members = scale.members[position]
        with peer.call_among(strategy, members) as ask:
            yield lambda: measure.latency_us(ask, max(10, scale.asks // 5))

    return prepare


def _case(strategy: str, position: int) -> Case:
    peers = ("greenroom", *(each for each, like in ROUTERS.items() if like == strategy))
    members = FULL.members[position]
    return Case(
        f"pick.{strategy}.{members}",
        f"pick among {{scale.members[{position}]:,}}, {strategy}",
        "us",
        peers,
        _pick(strategy, position),
    )


def _new_key(position: int) -> Case:
    return Case(
        f"pick.new_key.{FULL.members[position]}",
        f"pick among {{scale.members[{position}]:,}}, consistent_hash, a key not seen before",
        "us",
        ("greenroom",),
        _pick_for_new_key(position),
    )


def _asked(strategy: str, position: int) -> Case:
    members = FULL.members[position]
    return Case(
        f"ask.{strategy}.{members}",
        f"ask among {{scale.members[{position}]:,}}, {strategy}",
        "us",
        ("greenroom",),
        _ask(strategy, position),
    )


CASES = (
    *(_case(name, position) for name in STRATEGIES for position in range(len(FULL.members))),
    *(_new_key(position) for position in range(len(FULL.members))),
    *(_asked(name, position) for name in STRATEGIES for position in (FEW, MANY)),
)


def _comparisons() -> Iterator[Comparison]:
    few, many = FULL.members[FEW], FULL.members[MANY]
    for name in STRATEGIES:
        for members in FULL.members[1:]:
            limit = LIMITS[name] if members == many else None
            case, other = f"pick.{name}.{members}", f"pick.{name}.{few}"
            yield from versus(case, ("greenroom",), other=other, at_most=limit)
        yield from versus(f"ask.{name}.{many}", ("greenroom",), other=f"ask.{name}.{few}")
    for members in FULL.members[1:]:
        yield from versus(f"pick.new_key.{members}", ("greenroom",), other=f"pick.new_key.{few}")
    for peer, like in ROUTERS.items():
        for members in (few, many):
            yield from versus(f"pick.{like}.{members}", (peer,))


GROUP = Group("members", "Members", CASES, tuple(_comparisons()))
