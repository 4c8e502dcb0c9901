"""A stream of 10,000 chunks: what one chunk costs, next to what one ask costs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.groups.shared import in_a_loop, one_awaiting_caller, one_caller
from benchmarks.model import Case, Comparison, Group, Measure, NotMeasured, Scale, versus
from benchmarks.peers.base import Peer, Stream

SHARE = 1 / 4
PEERS = ("asyncio", "litellm", "pydantic-ai", "langchain")


@contextmanager
def _async_chunk(peer: Peer, scale: Scale) -> Iterator[Measure]:
    count = scale.chunks

    async def one_round(stream: Stream) -> float:
        start, seen = time.perf_counter(), 0
        async for _ in stream(count):
            seen += 1
        return _a_chunk_us(start, seen, count)

    with in_a_loop(peer, peer.stream()) as (run, stream):
        yield lambda: run(one_round(stream))


@contextmanager
def _sync_chunk(peer: Any, scale: Scale) -> Iterator[Measure]:
    count = scale.chunks
    with peer.sync_stream() as stream:

        def one_round() -> float:
            start, seen = time.perf_counter(), 0
            for _ in stream(count):
                seen += 1
            return _a_chunk_us(start, seen, count)

        yield one_round


def _a_chunk_us(start: float, seen: int, count: int) -> float:
    elapsed_s = time.perf_counter() - start
    if seen < count:
        raise NotMeasured(f"only {seen} of {count} chunks came")
    return elapsed_s / seen * 1e6


CASES = (
    Case(
        "stream.async",
        "a chunk of {scale.chunks:,}, async",
        "us",
        ("greenroom", *PEERS),
        _async_chunk,
    ),
    Case("stream.sync", "a chunk of {scale.chunks:,}, sync", "us", ("greenroom",), _sync_chunk),
    Case(
        "stream.await",
        "await, async agents",
        "us",
        ("greenroom",),
        one_awaiting_caller(lambda peer: peer.async_call()),
    ),
    Case(
        "stream.ask",
        "ask, sync agents",
        "us",
        ("greenroom",),
        one_caller(lambda peer: peer.sync_call()),
    ),
)
COMPARISONS: tuple[Comparison, ...] = (
    *versus("stream.async", ("greenroom",), other="stream.await", at_most=SHARE),
    *versus("stream.sync", ("greenroom",), other="stream.ask", at_most=SHARE),
    *versus("stream.async", PEERS),
)
GROUP = Group("streams", "Streams", CASES, COMPARISONS)
