"""A pick and nothing else: the router's table with members of different load, asked to choose.

The one file of the suite that looks behind greenroom's public names, since the rest of a request
hides what a pick costs. The cases `ask among ...` measure it through a pool as well.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any, cast

from greenroom.actors.routing.routing_table import RoutingTable, Slot
from greenroom.actors.strategies import PickContext, strategy_for
from greenroom.messages.limits import Limit
from greenroom.messages.supervision import MemberRoute, RoutingSnapshot

NOW = 1_000.0


KEYS = 1_000


def pick(strategy: str, members: int) -> Callable[[], Any]:
    """One choice among so many members, each of which has answered and has room. Requests have one
    of 1,000 keys, for each of which there has been a request before.
    """
    choose = _pick(strategy, members, itertools.cycle(map(str, range(KEYS))))
    for _ in range(KEYS):
        choose()
    return choose


def pick_for_new_key(members: int) -> Callable[[], Any]:
    """The same by consistent hashing, for a key that was never seen before."""
    return _pick("consistent_hash", members, map(str, itertools.count()))


def pick_limited(members: int, limits: tuple[Limit, ...]) -> Callable[[], Any]:
    """The same by the default strategy, among members with these rate limits."""
    return _pick("adaptive", members, itertools.repeat("key"), limits)


def _pick(
    strategy: str, members: int, keys: Iterator[str], limits: tuple[Limit, ...] = ()
) -> Callable[[], Any]:
    rng = random.Random(1)
    table = RoutingTable(strategy_for(strategy), rng)
    routes = tuple(_route(number, limits) for number in range(members))
    table.apply(RoutingSnapshot(epoch=1, members=routes))
    table.headroom.sync(table, NOW)
    for slot in table:
        for _ in range(5):
            slot.load.succeeded(rng.uniform(0.01, 0.02), NOW)
    nobody: dict[str, Any] = {}

    def choose() -> None:
        key = next(keys)
        if not isinstance(table.pick(nobody, PickContext(NOW, key, key)), Slot):
            raise RuntimeError(f"{strategy} found nobody among {members}")

    return choose


def _route(number: int, limits: tuple[Limit, ...]) -> MemberRoute:
    return MemberRoute(
        f"m{number}",
        index=number,
        incarnation=1,
        ref=cast(Any, object()),
        max_concurrency=100,
        limits=limits,
    )
