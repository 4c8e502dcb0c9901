"""10,000 calls in flight on one async member that sleeps for a second: time until all are back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks import measure
from benchmarks.groups.shared import in_a_loop
from benchmarks.model import Case, Comparison, Group, Measure, Scale, versus
from benchmarks.peers.base import Peer

SLEEP_S = 1.0


@contextmanager
def _all_asleep(peer: Peer, scale: Scale) -> Iterator[Measure]:
    count = scale.in_flight
    with in_a_loop(peer, peer.asleep(count, SLEEP_S)) as (run, ask):
        yield lambda: run(_until_all_are_back(ask, count))


async def _until_all_are_back(ask: measure.AsyncAsk, count: int) -> float:
    start = time.perf_counter()
    await asyncio.gather(*(ask(i) for i in range(count)))
    return time.perf_counter() - start


CASES = (
    Case(
        "in_flight.time",
        f"{{scale.in_flight:,}} in flight for {SLEEP_S:g} s",
        "s",
        ("greenroom", "greenroom-own", "greenroom-uvloop", "asyncio"),
        _all_asleep,
    ),
)
COMPARISONS: tuple[Comparison, ...] = (
    Comparison("in_flight.time", "greenroom", at_most=1.6),
    Comparison("in_flight.time", "greenroom-own", at_most=2.0),
    Comparison("in_flight.time", "greenroom-uvloop", at_most=2.0),
    *versus("in_flight.time", ("asyncio",)),
)
GROUP = Group("in_flight", "In flight", CASES, COMPARISONS)
