"""Members elsewhere: pool, NATS, pool, next to the bare requests of the same library."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks import measure
from benchmarks.groups.shared import in_a_loop
from benchmarks.model import Case, Comparison, Measure, NotMeasured, Scale, versus
from benchmarks.peers.base import Peer, Stream

CALLERS = 64
PEERS = ("greenroom", "nats")


@contextmanager
def _call(peer: Peer, scale: Scale) -> Iterator[Measure]:
    with in_a_loop(peer, peer.remote_nats()) as (run, (ask, _)):
        yield lambda: run(measure.awaited_us(ask, scale.asks))


@contextmanager
def _rate(peer: Peer, scale: Scale) -> Iterator[Measure]:
    with in_a_loop(peer, peer.remote_nats()) as (run, (ask, _)):
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

    with in_a_loop(peer, peer.remote_nats()) as (run, (_, stream)):
        yield lambda: run(one_round(stream))


CASES = (
    Case("remote.nats_call", "a call by NATS, one at a time", "us", PEERS, _call),
    Case("remote.nats_rate", f"calls by NATS, {CALLERS} callers", "/s", PEERS, _rate),
    Case("remote.nats_chunk", "a chunk of {scale.chunks:,} by NATS", "us", PEERS, _chunk),
)
COMPARISONS: tuple[Comparison, ...] = (
    *versus("remote.nats_call", ("nats",), at_most=2.0),
    Comparison("remote.nats_rate", "greenroom", at_least=6_000.0),
    *versus("remote.nats_rate", ("nats",)),
    *versus("remote.nats_chunk", ("nats",), at_most=1.5),
)
