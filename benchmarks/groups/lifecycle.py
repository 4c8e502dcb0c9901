"""Start and stop: a pool of three members, next to five bare actors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks import measure
from benchmarks.model import Case, Comparison, Group, Measure, Scale, versus
from benchmarks.peers.base import Peer


@contextmanager
def _start_and_stop(peer: Peer, scale: Scale) -> Iterator[Measure]:
    once = peer.start_and_stop()
    yield lambda: measure.latency_us(lambda _: once(), scale.starts)


CASES = (
    Case(
        "lifecycle.start_stop",
        "start and stop (three members; five Pykka actors)",
        "us",
        ("greenroom", "pykka", "threads"),
        _start_and_stop,
    ),
)
COMPARISONS: tuple[Comparison, ...] = (
    *versus("lifecycle.start_stop", ("pykka",), at_most=5.0),
    *versus("lifecycle.start_stop", ("threads",)),
)
GROUP = Group("lifecycle", "Start and stop", CASES, COMPARISONS)
