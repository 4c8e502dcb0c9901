"""One of three members fails every time: a call that goes on to another, and one that need not.

A pool would soon know better than to ask the failing member, so only the calls that took a second
attempt count: whoever is asked says how many it took.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks import measure
from benchmarks.groups.shared import in_a_loop, one_awaiting_caller, one_caller
from benchmarks.model import Case, Comparison, Group, Measure, NotMeasured, Scale, versus
from benchmarks.peers.base import Peer

SYNC = ("greenroom", "pykka", "threads", "langchain")
ASYNC = ("greenroom", "litellm", "pydantic-ai", "langchain")
PATIENCE = 20
"""Calls for each one that counts, before it is given up."""


class Failovers:
    """The times of those calls that took more than one attempt."""

    def __init__(self, wanted: int) -> None:
        self.times: list[float] = []
        self.wanted = wanted
        self.calls = 0

    def missing(self) -> bool:
        """Whether more are wanted."""
        if self.calls > PATIENCE * self.wanted:
            raise NotMeasured(f"only {len(self.times)} of {self.calls} calls failed over")
        return len(self.times) < self.wanted

    def add(self, elapsed_s: float, attempts: int) -> None:
        self.calls += 1
        if attempts > 1:
            self.times.append(elapsed_s)

    def median_us(self) -> float:
        return statistics.median(self.times) * 1e6


@contextmanager
def _sync_once(peer: Peer, scale: Scale) -> Iterator[Measure]:
    with peer.sync_call(failing=True) as ask:

        def one_round() -> float:
            found = Failovers(scale.asks)
            while found.missing():
                start = time.perf_counter()
                attempts = ask(found.calls)
                found.add(time.perf_counter() - start, attempts)
            return found.median_us()

        yield one_round


@contextmanager
def _async_once(peer: Peer, scale: Scale) -> Iterator[Measure]:
    async def one_round(ask: measure.AsyncAsk) -> float:
        found = Failovers(scale.asks)
        while found.missing():
            start = time.perf_counter()
            attempts = await ask(found.calls)
            found.add(time.perf_counter() - start, attempts)
        return found.median_us()

    with in_a_loop(peer, peer.async_call(failing=True)) as (run, ask):
        yield lambda: run(one_round(ask))


CASES = (
    Case(
        "failover.sync.none",
        "ask, sync agents, none fails",
        "us",
        SYNC,
        one_caller(lambda peer: peer.sync_call()),
    ),
    Case("failover.sync.once", "ask, sync agents, the first fails", "us", SYNC, _sync_once),
    Case(
        "failover.async.none",
        "await, async agents, none fails",
        "us",
        ASYNC,
        one_awaiting_caller(lambda peer: peer.async_call()),
    ),
    Case("failover.async.once", "await, async agents, the first fails", "us", ASYNC, _async_once),
)
COMPARISONS: tuple[Comparison, ...] = (
    *versus("failover.sync.once", ("greenroom",), other="failover.sync.none", at_most=2.0),
    *versus("failover.async.once", ("greenroom",), other="failover.async.none", at_most=2.0),
    *versus("failover.sync.once", SYNC[1:]),
    *versus("failover.async.once", ASYNC[1:]),
)
GROUP = Group("failover", "Failover", CASES, COMPARISONS)
