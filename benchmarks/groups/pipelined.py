"""Everything is sent before the first answer is read: calls a second."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from benchmarks import measure
from benchmarks.groups.shared import Prepare
from benchmarks.model import Case, Comparison, Group, Measure, Scale, versus
from benchmarks.peers.base import Peer

Pipe = AbstractContextManager[tuple[measure.Ask, Callable[[Any], Any]]]


def _pipelined(pipe: Callable[[Any, Scale], Pipe]) -> Prepare:
    @contextmanager
    def prepare(peer: Peer, scale: Scale) -> Iterator[Measure]:
        times = scale.pipelined
        with pipe(peer, scale) as (send, read):
            yield lambda: measure.pipelined_per_s(send, read, times)

    return prepare


CASES = (
    Case(
        "pipelined.sync",
        "{scale.pipelined:,} pipelined, sync agents",
        "/s",
        ("greenroom", "pykka", "bare", "threads", "ray"),
        _pipelined(lambda peer, scale: peer.pipeline(scale)),
    ),
    Case(
        "pipelined.async",
        "{scale.pipelined:,} pipelined, async agents",
        "/s",
        ("greenroom", "greenroom-uvloop"),
        _pipelined(lambda peer, scale: peer.async_pipeline(scale)),
    ),
)
COMPARISONS: tuple[Comparison, ...] = (
    *versus("pipelined.sync", ("pykka",), at_least=0.5),
    *versus("pipelined.sync", ("pykka",), peer="bare"),
    *versus("pipelined.async", ("pykka",), other="pipelined.sync", at_least=0.5),
    *versus(
        "pipelined.async",
        ("pykka",),
        peer="greenroom-uvloop",
        other="pipelined.sync",
        at_least=1.0,
    ),
    *versus("pipelined.sync", ("threads", "ray")),
)
GROUP = Group("pipelined", "Pipelined", CASES, COMPARISONS)
