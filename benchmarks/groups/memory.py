"""Resident memory: of a request in flight, and of a member that has nothing to do.

What a process has once had it seldom gives back, so every process measures once, and the two are
groups of their own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any

from benchmarks import measure
from benchmarks.groups.shared import Prepare, in_a_loop
from benchmarks.model import Case, Comparison, Group, Measure, NotMeasured, Scale, versus
from benchmarks.peers.base import Peer

SLEEP_S = 600.0
"""The calls sleep for that long, and are given up once they have been counted."""
PATIENCE_S = 120.0
"""How long until the agent must have begun all of them."""
WARM = 100
Asleep = AbstractAsyncContextManager[measure.AsyncAsk]


def growth(asleep: Callable[[Any, int, float], Asleep]) -> Prepare:
    """What the process has grown by with each of many calls of what sleeps."""

    @contextmanager
    def prepare(peer: Peer, scale: Scale) -> Iterator[Measure]:
        count = scale.in_flight
        with in_a_loop(peer, asleep(peer, count + WARM, SLEEP_S)) as (run, ask):
            yield lambda: run(_growth_kib(peer, ask, count))

    return prepare


async def _growth_kib(peer: Peer, ask: measure.AsyncAsk, count: int) -> float:
    """A first hundred pays for what is bought once: threads, arenas, code.

    A request that still waits to be dispatched is smaller than one that runs, so nothing is read
    before the agent itself has begun every one of them.
    """
    calls = [asyncio.ensure_future(_awaited(ask, i)) for i in range(WARM)]
    await _until_asleep(peer, WARM)
    before = measure.rss_kib()
    calls += [asyncio.ensure_future(_awaited(ask, i)) for i in range(count)]
    await _until_asleep(peer, WARM + count)
    grown = measure.rss_kib() - before
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    return grown / count


async def _until_asleep(peer: Peer, count: int) -> None:
    patience = time.monotonic() + PATIENCE_S
    while peer.sleeper.asleep < count:
        if time.monotonic() > patience:
            raise NotMeasured(f"only {peer.sleeper.asleep} of {count} calls had begun")
        await asyncio.sleep(0.1)


async def _awaited(ask: measure.AsyncAsk, i: int) -> Any:
    """The caller's own task is part of it, for everybody alike."""
    return await ask(i)


@contextmanager
def _member(peer: Peer, scale: Scale) -> Iterator[Measure]:
    count = scale.members[-1]
    with peer.idle(3):
        pass  # pays for what is bought once

    def one_round() -> float:
        before = measure.rss_kib()
        with peer.idle(count):
            return (measure.rss_kib() - before) / count

    yield one_round


REQUEST = Group(
    "memory.requests",
    "Memory of a request",
    (
        Case(
            "memory.request",
            "a request of {scale.in_flight:,} in flight",
            "KiB",
            ("greenroom", "greenroom-own", "greenroom-uvloop", "asyncio"),
            growth(lambda peer, count, seconds: peer.asleep(count, seconds)),
        ),
    ),
    (
        Comparison("memory.request", "greenroom", at_most=4.0),
        Comparison("memory.request", "greenroom-own", at_most=6.0),
        Comparison("memory.request", "greenroom-uvloop", at_most=6.0),
        *versus("memory.request", ("asyncio",)),
    ),
    once=True,
)
MEMBER = Group(
    "memory.members",
    "Memory of a member",
    (
        Case(
            "memory.member",
            "a member of {scale.members[3]:,}",
            "KiB",
            ("greenroom", "pykka", "litellm"),
            _member,
        ),
    ),
    versus("memory.member", ("pykka", "litellm")),
    once=True,
)
