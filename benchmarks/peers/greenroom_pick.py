"""A pick and nothing else: the router's table with members of different load, asked to choose.

The one file of the suite that looks behind greenroom's public names, since the rest of a request
hides what a pick costs. The cases `ask among ...` measure it through a pool as well.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from typing import Any

from greenroom.actors.strategies import PickContext, strategy_for
from greenroom.actors.table import RoutingTable, Slot
from greenroom.messages.supervision import MemberRoute, RoutingSnapshot

NOW = 1_000.0


def pick(strategy: str, members: int) -> Callable[[], Any]:
    """One choice among so many members, each of which has answered and has room."""
    rng = random.Random(1)
    table = RoutingTable(strategy_for(strategy), rng)
    table.apply(RoutingSnapshot(epoch=1, members=tuple(map(_route, range(members)))))
    for slot in table:
        for _ in range(5):
            slot.load.succeeded(rng.uniform(0.01, 0.02), NOW)
    keys = itertools.cycle([str(i) for i in range(1_000)])
    nobody: dict[str, Any] = {}

    def choose() -> None:
        key = next(keys)
        if not isinstance(table.pick(nobody, PickContext(NOW, key, key)), Slot):
            raise RuntimeError(f"{strategy} found nobody among {members}")

    return choose


def _route(number: int) -> MemberRoute:
    return MemberRoute(f"m{number}", index=number, incarnation=1, ref=object(), max_concurrency=100)
