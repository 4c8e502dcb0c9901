"""Several processes that share: what a request costs meanwhile, and how long news take."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks import measure
from benchmarks.groups.shared import Prepare, one_caller
from benchmarks.model import Case, Comparison, Group, Measure, Scale, versus

NEWS = 20
"""How many words are waited for in each round."""
SOON_US = 50_000.0


def _news(peer: Any, scale: Scale) -> Any:
    @contextmanager
    def prepared() -> Iterator[Measure]:
        with peer.neighbours() as hear:
            yield lambda: measure.latency_us(hear, NEWS)

    return prepared()


def _case(name: str, title: str, prepare: Prepare | Callable[[Any, Scale], Any]) -> Case:
    return Case(name, title, "us", ("greenroom",), prepare)


CASES = (
    _case("sharing.alone", "ask, sync agents, alone", one_caller(lambda p: p.shared_call(False))),
    _case("sharing.file", "ask, sync agents, sharing", one_caller(lambda p: p.shared_call(True))),
    _case(
        "sharing.limit.own",
        "ask, with a rate limit of its own",
        one_caller(lambda p: p.limited_call(False)),
    ),
    _case(
        "sharing.limit",
        "ask, with a rate limit that is shared",
        one_caller(lambda p: p.limited_call(True)),
    ),
    _case("sharing.news", "a rest of one pool, until the other has it", _news),
)
COMPARISONS: tuple[Comparison, ...] = (
    *versus("sharing.file", ("greenroom",), other="sharing.alone", at_most=1.15),
    *versus("sharing.limit", ("greenroom",), other="sharing.limit.own", at_most=1.15),
    Comparison("sharing.news", "greenroom", at_most=SOON_US),
)
GROUP = Group("sharing", "Several processes that share", CASES, COMPARISONS)
