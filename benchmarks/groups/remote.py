"""Members elsewhere: pool, HTTP, pool, next to the bare HTTP of the same library."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks import measure
from benchmarks.groups import remote_nats
from benchmarks.groups.shared import in_a_loop
from benchmarks.model import Case, Comparison, Group, Measure, NotMeasured, Scale, versus
from benchmarks.peers.base import Peer, Stream

CALLERS = 64
PEERS = ("greenroom", "aiohttp")


@contextmanager
def _call(peer: Peer, scale: Scale) -> Iterator[Measure]:
    with in_a_loop(peer, peer.remote()) as (run, (ask, _)):
        yield lambda: run(measure.awaited_us(ask, scale.asks))


@contextmanager
def _rate(peer: Peer, scale: Scale) -> Iterator[Measure]:
    with in_a_loop(peer, peer.remote()) as (run, (ask, _)):
        yield lambda: run(measure.callers_per_s(ask, CALLERS, 5 * scale.calls))


@contextmanager
def _chunk(peer: Peer, scale: Scale) -> Iterator[Measure]:
    count = scale.chunks

    async def one_round(stream: Stream) -> float:
        start, seen = time.perf_counter(), 0
        async for _ in stream(count):
            seen += 1
        if seen < count:
            raise NotMeasured(f"only {seen} of {count} chunks came")
        return (time.perf_counter() - start) / seen * 1e6

    with in_a_loop(peer, peer.remote()) as (run, (_, stream)):
        yield lambda: run(one_round(stream))


CASES = (
    Case("remote.call", "a call of another process, one at a time", "us", PEERS, _call),
    Case("remote.rate", f"calls of another process, {CALLERS} callers", "/s", PEERS, _rate),
    Case("remote.chunk", "a chunk of {scale.chunks:,} of another process", "us", PEERS, _chunk),
)
COMPARISONS: tuple[Comparison, ...] = (
    *versus("remote.call", ("aiohttp",), at_most=2.0),
    Comparison("remote.rate", "greenroom", at_least=3_000.0),
    *versus("remote.rate", ("aiohttp",)),
    *versus("remote.chunk", ("aiohttp",), at_most=1.5),
)
GROUP = Group(
    "remote",
    "Members elsewhere, over HTTP and by NATS",
    (*CASES, *remote_nats.CASES),
    (*COMPARISONS, *remote_nats.COMPARISONS),
)
