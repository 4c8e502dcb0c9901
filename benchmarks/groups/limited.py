"""What rate limits cost that hold nobody up: a pick, a whole call, the memory of a request."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks import measure
from benchmarks.groups.memory import growth
from benchmarks.groups.shared import Prepare
from benchmarks.model import Case, Comparison, Group, Measure, Scale, versus

GREENROOM = ("greenroom",)
MEMBERS = 100


def _pick(limited: bool) -> Prepare:
    @contextmanager
    def prepare(peer: Any, scale: Scale) -> Iterator[Measure]:
        choose = peer.pick_limited(MEMBERS, limited=limited)
        yield lambda: _cpu_us(choose, scale.asks)

    return prepare


def _cpu_us(choose: Any, times: int) -> float:
    """A mean by the processor's time: a pick is nothing but work."""
    start = time.process_time()
    for _ in range(times):
        choose()
    return (time.process_time() - start) / times * 1e6


def _ask(limited: bool) -> Prepare:
    @contextmanager
    def prepare(peer: Any, scale: Scale) -> Iterator[Measure]:
        with peer.call_limited(MEMBERS, limited=limited) as ask:
            yield lambda: measure.latency_us(ask, scale.asks)

    return prepare


def _pair(name: str, title: str, prepare: Any) -> tuple[Case, Case]:
    return (
        Case(f"limited.{name}", f"{title}, with limits", "us", GREENROOM, prepare(True)),
        Case(f"limited.{name}.not", f"{title}, without limits", "us", GREENROOM, prepare(False)),
    )


GROUP = Group(
    "limited",
    "The cost of limits",
    (*_pair("pick", f"pick among {MEMBERS}", _pick), *_pair("ask", f"ask among {MEMBERS}", _ask)),
    (
        *versus("limited.pick", GREENROOM, other="limited.pick.not", at_most=1.15),
        *versus("limited.ask", GREENROOM, other="limited.ask.not"),
    ),
)
MEMORY = Group(
    "memory.limited",
    "Memory of a request with limits",
    (
        Case(
            "memory.limited.request",
            "a request of {scale.in_flight:,} in flight, with limits",
            "KiB",
            GREENROOM,
            growth(lambda peer, count, seconds: peer.asleep_limited(count, seconds)),
        ),
    ),
    (Comparison("memory.limited.request", "greenroom", at_most=5.0),),
    once=True,
)
