"""Successes in bulk: the supervisor judges them as if it had been told of each one alone."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pykka.messages import ProxyGetAttr

from greenroom.actors.claims.claims import Claims
from greenroom.actors.claims.local_messages import Attach
from greenroom.actors.runtime.event_bus import EventBus
from greenroom.messages import (
    AttemptOutcome,
    DisableBreaker,
    Event,
    FailureKind,
    ForceOpen,
    Forwarded,
    Member,
    Outcomes,
    PoolConfig,
    RequestSettled,
    ResetMember,
    RoutingSnapshot,
    Successes,
    TrialStarted,
)
from greenroom.supervisors.policy.breaker import BreakerPolicy
from greenroom.supervisors.pool_supervisor import PoolSupervisor
from greenroom.testing import FakeClock

CONFIG = PoolConfig(
    circuit_failure_threshold=3,
    circuit_success_threshold=2,
    circuit_window=6,
    circuit_min_calls=4,
    circuit_failure_rate=0.5,
    circuit_slow_rate=0.5,
    circuit_slow_call_s=2.0,
    health_check_interval_s=1e6,
)
SLOW_S = 3.0
Told = AttemptOutcome | Successes | RequestSettled | TrialStarted | float | type


class Router:
    """Notes what it is told, without the refs, which differ from pool to pool."""

    actor_urn = "urn"

    def __init__(self) -> None:
        self.actor_stopped = threading.Event()
        self.actor_inbox = self
        self.told: list[Any] = []

    def put(self, envelope: Any) -> None:
        message = envelope.message
        if isinstance(message, RoutingSnapshot):
            members = tuple(replace(route, ref=None) for route in message.members)
            message = replace(message, members=members)
        if not isinstance(message, Attach):
            self.told.append(message)


class Bus(EventBus):
    """Notes what happens."""

    def __init__(self) -> None:
        super().__init__("p")
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)


class Bench:
    """A supervisor of one member, and all that can be seen of it."""

    def __init__(self) -> None:
        self.clock, self.router, self.bus = FakeClock(0.0), Router(), Bus()
        self.ref: Any = PoolSupervisor.start(
            pool="p",
            router=cast(Any, self.router),
            claims=Claims(),
            config=CONFIG,
            clock=self.clock,
            rng=random.Random(7),
            bus=self.bus,
            members=[Member("a", len)],
        )
        records: Any = self.ref.ask(ProxyGetAttr(attr_path=("_records",)))
        self.record = records["a"]
        self.record.crashes_in_a_row = 5

    def tell(self, told: Told) -> None:
        if isinstance(told, float):
            self._pass_through()
            self.clock.advance(told)
        elif isinstance(told, AttemptOutcome | Successes | RequestSettled):
            self.ref.tell(Outcomes((told,)))
        elif isinstance(told, TrialStarted):
            self.ref.tell(told)
        else:
            self.ref.tell(Forwarded(1, told("a")))

    def seen(self) -> list[Any]:
        self._pass_through()
        record = self.record
        return [
            self.router.told,
            self.bus.events,
            record.status,
            record.crashes_in_a_row,
            inside(record.breaker),
            inside(record.health),
        ]

    def _pass_through(self) -> None:
        """Wait until it has handled all that it was told before."""
        with pytest.raises(TypeError):
            self.ref.ask("no message of any actor")


def inside(thing: Any) -> Any:
    """All that an object with slots consists of, but for what it draws from."""
    if not hasattr(type(thing), "__slots__") or isinstance(thing, BreakerPolicy):
        return thing
    names = [name for cls in type(thing).__mro__ for name in getattr(cls, "__slots__", ())]
    return type(thing), {name: inside(getattr(thing, name)) for name in names if name != "_rng"}


@contextmanager
def benches(count: int) -> Iterator[list[Bench]]:
    each = [Bench() for _ in range(count)]
    try:
        yield each
    finally:
        for bench in each:
            bench.ref.stop()


def run(epoch: int, elapsed_s: list[float]) -> Successes:
    at = tuple(float(i) / 8 for i in range(len(elapsed_s)))
    return Successes("a", incarnation=1, epoch=epoch, at=at, elapsed_s=tuple(elapsed_s))


def outcome(
    epoch: int, kind: FailureKind | None, elapsed_s: float, at: float, request_id: str = "r"
) -> AttemptOutcome:
    return AttemptOutcome(
        member="a",
        incarnation=1,
        epoch=epoch,
        request_id=request_id,
        attempt=1,
        at=at,
        elapsed_s=elapsed_s,
        kind=kind,
        error=None if kind is None else "E",
        retry_after_s=1.0 if kind is FailureKind.RATE_LIMITED else None,
        opens_at_once=kind is not None and kind.opens_at_once,
    )


def failure(epoch: int, kind: FailureKind, request_id: str = "r") -> AttemptOutcome:
    return outcome(epoch, kind, 0.5, 0.5, request_id)


def trial(epoch: int) -> TrialStarted:
    return TrialStarted(member="a", incarnation=1, epoch=epoch, at=0.0)


EPOCHS = st.integers(1, 4)
TIMES = st.sampled_from([0.1, 0.5, 1.0, SLOW_S])
REQUESTS = st.sampled_from(["r", "s", "t", "u"])
STEPS = st.one_of(
    st.builds(run, EPOCHS, st.lists(TIMES, min_size=1, max_size=30)),
    st.builds(run, EPOCHS, st.lists(st.just(0.1), min_size=1, max_size=9)),
    st.builds(failure, EPOCHS, st.sampled_from(list(FailureKind)), REQUESTS),
    st.builds(
        RequestSettled,
        request_id=REQUESTS,
        kind=st.sampled_from([None, FailureKind.UNKNOWN, FailureKind.TIMEOUT]),
        everywhere=st.booleans(),
    ),
    st.builds(trial, EPOCHS),
    st.sampled_from([1.0, 30.0, 100.0]),
    st.sampled_from([DisableBreaker, ForceOpen, ResetMember]),
)
FAILED, AGAIN, ONCE_MORE = [failure(1, FailureKind.UNKNOWN, each) for each in "rst"]
AT_FAULT = RequestSettled(request_id="s", kind=FailureKind.UNKNOWN)


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(st.lists(STEPS, max_size=12))
@example([FAILED, AGAIN, run(1, [0.1] * 9)])  # the fourth call makes a rate: it opens
@example([run(1, [0.1] * 9), FAILED, run(1, [0.1] * 3), AGAIN, ONCE_MORE])
@example([FAILED, AGAIN, ONCE_MORE, 100.0, trial(3), run(3, [0.1] * 3)])  # they close it
@example([FAILED, AGAIN, ONCE_MORE, AT_FAULT, run(3, [0.1] * 3)])  # closed again before them
@example([FAILED, AGAIN, AT_FAULT, run(1, [0.1] * 9), ONCE_MORE])
def test_successes_in_bulk_are_judged_as_if_one_by_one(steps: list[Told]) -> None:
    """Breaker, health, status, routing, news: all is the same after whatever has come before."""
    with benches(2) as (bulk, single):
        for step in steps:
            bulk.tell(step)
            if not isinstance(step, Successes):
                single.tell(step)
                continue
            alone = [
                outcome(step.epoch, None, elapsed_s, at)
                for at, elapsed_s in zip(step.at, step.elapsed_s, strict=True)
            ]
            single.ref.tell(Outcomes(tuple(alone)))
        assert bulk.seen() == single.seen()
