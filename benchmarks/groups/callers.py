"""Many coroutines on one loop, each of which awaits call after call: calls a second."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks import measure
from benchmarks.groups.shared import Prepare, in_a_loop
from benchmarks.model import FULL, Case, Comparison, Group, Measure, Scale, versus
from benchmarks.peers.base import Peer

ROUTERS = ("litellm", "litellm-latency")
PEERS = ("greenroom", "greenroom-uvloop", "asyncio", *ROUTERS, "pydantic-ai", "langchain")


def _callers(position: int) -> Prepare:
    @contextmanager
    def prepare(peer: Peer, scale: Scale) -> Iterator[Measure]:
        callers = scale.callers[position]
        calls = scale.calls
        with in_a_loop(peer, peer.async_call()) as (run, ask):
            yield lambda: run(measure.callers_per_s(ask, callers, calls))

    return prepare


def _name(callers: int) -> str:
    return f"callers.{callers}"


CASES = tuple(
    Case(
        _name(callers),
        f"{{scale.callers[{position}]:,}} asyncio callers",
        "/s",
        PEERS,
        _callers(position),
    )
    for position, callers in enumerate(FULL.callers)
)
FEWEST, SOME, MOST = (_name(callers) for callers in FULL.callers)
COMPARISONS: tuple[Comparison, ...] = (
    *versus(MOST, ROUTERS, at_least=100.0),
    *versus(MOST, ("greenroom",), other=FEWEST, at_least=1.0),
    *versus(MOST, ("greenroom-uvloop",), peer="greenroom-uvloop", other=FEWEST, at_least=1.0),
    *(
        line
        for name in (FEWEST, SOME, MOST)
        for line in versus(name, ("asyncio", "pydantic-ai", "langchain"))
    ),
    *(line for name in (FEWEST, SOME) for line in versus(name, ROUTERS)),
)
GROUP = Group("callers", "Concurrent callers", CASES, COMPARISONS)
