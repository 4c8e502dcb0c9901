"""Members elsewhere: pool, HTTP or NATS, pool, next to the same library with nothing on top."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager

from benchmarks import measure
from benchmarks.groups.shared import Prepare, in_a_loop
from benchmarks.model import (
    Case,
    Comparison,
    Group,
    Measure,
    NotMeasured,
    Scale,
    versus,
)
from benchmarks.peers.base import Peer, Stream

CALLERS = 64

Way = Callable[[Peer], AbstractAsyncContextManager[tuple[measure.AsyncAsk, Stream]]]


def _call(way: Way) -> Prepare:
    @contextmanager
    def prepare(peer: Peer, scale: Scale) -> Iterator[Measure]:
        with in_a_loop(peer, way(peer)) as (run, (ask, _)):
            yield lambda: run(measure.awaited_us(ask, scale.asks))

    return prepare


def _rate(way: Way) -> Prepare:
    @contextmanager
    def prepare(peer: Peer, scale: Scale) -> Iterator[Measure]:
        with in_a_loop(peer, way(peer)) as (run, (ask, _)):
            yield lambda: run(measure.callers_per_s(ask, CALLERS, 5 * scale.calls))

    return prepare


def _chunk(way: Way) -> Prepare:
    @contextmanager
    def prepare(peer: Peer, scale: Scale) -> Iterator[Measure]:
        count = scale.chunks

        async def one_round(stream: Stream) -> float:
            start, seen = time.perf_counter(), 0
            async for _ in stream(count):
                seen += 1
            if seen < count:
                raise NotMeasured(f"only {seen} of {count} chunks came")
            return (time.perf_counter() - start) / seen * 1e6

        with in_a_loop(peer, way(peer)) as (run, (_, stream)):
            yield lambda: run(one_round(stream))

    return prepare


def _cases(name: str, how: str, bare: str, way: Way) -> tuple[Case, ...]:
    peers = ("greenroom", bare)
    return (
        Case(f"remote.{name}call", f"a call {how}, one at a time", "us", peers, _call(way)),
        Case(f"remote.{name}rate", f"calls {how}, {CALLERS} callers", "/s", peers, _rate(way)),
        Case(
            f"remote.{name}chunk", f"a chunk of {{scale.chunks:,}} {how}", "us", peers, _chunk(way)
        ),
    )


def _comparisons(name: str, bare: str, at_least: float) -> tuple[Comparison, ...]:
    return (
        *versus(f"remote.{name}call", (bare,), at_most=2.0),
        Comparison(f"remote.{name}rate", "greenroom", at_least=at_least),
        *versus(f"remote.{name}rate", (bare,)),
        *versus(f"remote.{name}chunk", (bare,), at_most=1.5),
    )


GROUP = Group(
    "remote",
    "Members elsewhere, over HTTP and by NATS",
    (
        *_cases("", "of another process", "aiohttp", lambda peer: peer.remote()),
        *_cases("nats_", "by NATS", "nats", lambda peer: peer.remote_nats()),
    ),
    (*_comparisons("", "aiohttp", 3_000.0), *_comparisons("nats_", "nats", 6_000.0)),
)
