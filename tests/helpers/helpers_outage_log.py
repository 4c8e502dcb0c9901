"""An hour of the log of a simulated outage drill, as `greenroom.log(format="json")` writes it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from greenroom import PoolConfig, Request
from greenroom.events import Event, PoolStarted
from greenroom.logs.lines import json_line
from greenroom.logs.log import _record
from greenroom.messages import FailureKind
from greenroom.simulate.agenda import Agenda
from greenroom.simulate.faults import Failing, Fault, Hanging, RateLimit
from greenroom.simulate.latency import LogNormal
from greenroom.simulate.scenario import Load, MemberSpec, Scenario
from greenroom.simulate.simulated_pool import SimPool

HOUR_S = 3600.0
BEGAN = datetime(2026, 11, 1, 10, tzinfo=UTC)
DOWN = Fault(Failing(after_s=0.05), 1200, 1500)
HANGS = Fault(Hanging(), 2400, 2520)
FLAKY = Fault(Failing(rate=0.01, after_s=0.1), 0, HOUR_S)
THROTTLED = Fault(RateLimit(0.2, retry_after_s=2.0, after_s=0.05), 3000, 3060)


def answering(mean_s: float, sigma: float = 0.5) -> LogNormal:
    return LogNormal.of_mean(mean_s, sigma)


def member(name: str, *faults: Fault, mean_s: float = 0.8, **more: Any) -> MemberSpec:
    return MemberSpec(
        name=name, latency=answering(mean_s), concurrency=50, faults=tuple(faults), **more
    )


@dataclass(slots=True)
class JsonLog:
    """What is logged of a simulated pool, at DEBUG."""

    agenda: Agenda
    pool: str
    lines: list[tuple[float, str]] = field(default_factory=list)

    def listening(self, level: str = "DEBUG") -> bool:
        return True

    def emit(self, event: Event) -> None:
        self._write(event.severity(), replace(event, pool=self.pool))

    def hint(self, what: str) -> None:
        self._write("WARNING", what.replace("'simulated'", repr(self.pool)))

    def complain_of(self, what: str, error: BaseException) -> None:
        raise error

    def _write(self, level: str, said: Event | str) -> None:
        now = self.agenda.now
        at = BEGAN + timedelta(seconds=now)
        self.lines.append((now, json_line(_record(at, level, "greenroom.actors", said, {}))))


class _Nobody:
    def called(self, *_: Any) -> None:
        pass

    answered = failed = throttled = called


def log_of(
    name: str,
    strategy: str,
    members: Sequence[MemberSpec],
    seed: int,
    rate_per_s: float = 1.0,
    **settings: Any,
) -> list[tuple[float, str]]:
    """The lines of an hour of a pool, each with its time."""
    config = PoolConfig(**settings)
    agenda = Agenda()
    scenario = Scenario(
        name=name,
        members=tuple(members),
        load=Load(rate_per_s=rate_per_s),
        duration_s=HOUR_S,
        config=config,
    )
    log = JsonLog(agenda, name)
    log.emit(
        PoolStarted(
            pool=name,
            members=tuple(each.name for each in members),
            strategy=strategy,
            request_timeout_s=config.request_timeout_s,
            deadline_s=config.deadline_s,
            max_retries=config.max_retries,
        )
    )

    def chance(what: str) -> random.Random:
        return random.Random(f"{seed}: {name}: {what}")

    pool = SimPool(scenario, strategy, agenda, chance, _Nobody(), log)
    arrivals = chance("arrivals")
    request: Request[Any] = Request(None)

    def arrive(_: Any) -> None:
        when = agenda.now + arrivals.expovariate(rate_per_s)
        if when < HOUR_S:
            agenda.at(when, arrive)
        pool.take(request)

    agenda.at(0.0, arrive)
    agenda.run(HOUR_S)
    return log.lines


def merged(*logs: list[tuple[float, str]]) -> list[str]:
    """The logs of several pools in one file, by time."""
    return [line for _, line in sorted((each for log in logs for each in log), key=_at)]


def _at(entry: tuple[float, str]) -> float:
    return entry[0]


PLANTED = {
    ("one-kind", "writers", ("keyless",)),
    ("client-retries", "writers", ("stubborn",)),
    ("never-used", "writers", ("idle",)),
    ("short-timeout", "readers", ("slow",)),
    ("unread-values", "readers", ("slow", "fast")),
}
"""The five mistakes of `drill`: by which rule each is found, and of whom."""


def drill(seed: int) -> list[str]:
    """Two members are out for minutes, one hangs, one is throttled; five mistakes are planted."""
    refused = partial(Failing, kind=FailureKind.AUTH, after_s=0.05)
    slow_refusals = Failing(rate=0.05, after_s=6.0)
    writers = (
        member("steady", DOWN, FLAKY, weight=2.0),
        member("stubborn", Fault(slow_refusals, 0, HOUR_S)),
        member("hanging", HANGS, THROTTLED),
        member("keyless", Fault(refused(), 0, HOUR_S)),
        member("idle", weight=0.0),
    )
    readers = (
        member("slow", DOWN, mean_s=1.8, weight=1.0),
        member("fast", FLAKY, mean_s=0.4, weight=3.0),
    )
    return merged(
        log_of("writers", "weighted", writers, seed),
        log_of("readers", "round_robin", readers, seed, request_timeout_s=3.0),
    )


def clean(seed: int) -> list[str]:
    """The same drill with pools that are set up well."""
    writers = (
        member("steady", DOWN, FLAKY, weight=2.0),
        member("other", Fault(Failing(rate=0.05, after_s=0.2), 0, HOUR_S)),
        member("hanging", HANGS, THROTTLED),
    )
    readers = (
        member("slow", DOWN, mean_s=1.6),
        member("fast", FLAKY, mean_s=0.4),
        member("reserve", priority=1, mean_s=0.4),
    )
    return merged(
        log_of("writers", "weighted", writers, seed),
        log_of("readers", "priority", readers, seed),
    )
