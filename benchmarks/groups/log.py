"""What it costs to be watched: the log at INFO and at DEBUG, and a subscriber to the events."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import greenroom
from benchmarks import measure
from benchmarks.groups.shared import Prepare
from benchmarks.model import Case, Comparison, Group, Measure, Scale, versus


def _watched(watch: Callable[[Any], Callable[[], None]]) -> Prepare:
    """One caller's asks while somebody watches, which ends with each round."""

    @contextmanager
    def prepare(peer: Any, scale: Scale) -> Iterator[Measure]:
        with peer.watched_call() as (pool, ask):

            def one_round() -> float:
                end = watch(pool)
                try:
                    return measure.latency_us(ask, scale.asks)
                finally:
                    end()

            yield one_round

    return prepare


def _nobody(_: Any) -> Callable[[], None]:
    return lambda: None


def _log(level: str) -> Callable[[Any], Callable[[], None]]:
    return lambda _: greenroom.log(level, sink=lambda line: None)


def _subscriber(pool: Any) -> Callable[[], None]:
    end: Callable[[], None] = pool.on_event(lambda event: None)
    return end


def _case(name: str, title: str, watch: Callable[[Any], Callable[[], None]]) -> Case:
    return Case(name, f"ask, sync agents, {title}", "us", ("greenroom",), _watched(watch))


CASES = (
    _case("log.off", "unwatched", _nobody),
    _case("log.info", "log at INFO", _log("INFO")),
    _case("log.debug", "log at DEBUG", _log("DEBUG")),
    _case("log.subscriber", "a subscriber", _subscriber),
)
COMPARISONS: tuple[Comparison, ...] = tuple(
    line for case in CASES[1:] for line in versus(case.name, ("greenroom",), other="log.off")
)
GROUP = Group("log", "Log and events", CASES, COMPARISONS)
