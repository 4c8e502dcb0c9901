"""The metrics: what is counted and measured, and what is looked at whenever somebody collects.

A provider has each instrument once, whatever pools there are: of a second one of the same name the
callbacks would never be called. So the pools whose state is looked at are kept beside it.
"""

from __future__ import annotations

import contextlib
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

from opentelemetry.context import Context
from opentelemetry.metrics import (
    CallbackOptions,
    Meter,
    MeterProvider,
    Observation,
    get_meter_provider,
)

from greenroom.actors.request.job import AttemptRole
from greenroom.actors.runtime import forks
from greenroom.messages.events import (
    BreakerClosed,
    BreakerHalfOpened,
    BreakerOpened,
    Event,
    MemberRestarted,
)
from greenroom.messages.replies import MemberStats, PoolStats
from greenroom.messages.status import CircuitState
from greenroom.otel import conventions as names
from greenroom.otel.span_book import AttemptSpan, RequestSpan
from greenroom.otel.tracing import error_type_of

ANSWER_S = 2.0
"""How long who collects waits for the word of all pools together."""
READ_ONCE_S = 1.0
"""For so long one look at the pools may serve all instruments of one collection."""

TOLD: tuple[type[Event], ...] = (BreakerOpened, BreakerHalfOpened, BreakerClosed, MemberRestarted)
"""The events that are counted."""

_CIRCUITS: dict[type[Event], CircuitState] = {
    BreakerOpened: CircuitState.OPEN,
    BreakerHalfOpened: CircuitState.HALF_OPEN,
    BreakerClosed: CircuitState.CLOSED,
}


class Asked(Protocol):
    """A pool's statistics, which come some time."""

    def done(self) -> bool: ...

    def get(self, *, timeout: float | None = None) -> PoolStats: ...


AskStats = Callable[[], Asked | None]
"""Asks a pool for its statistics, without waiting; None where there are none to be had."""


class ObservedPool:
    """A pool whose state is looked at.

    Args:
        ask: called in whatever thread collects.
    """

    def __init__(self, name: str, ask: AskStats) -> None:
        self.name = name
        self._ask = ask
        self._asked: Asked | None = None

    def ask(self) -> Asked | None:
        """The answer to come: to a pool that is stuck no more than one question is sent."""
        if self._asked is None or self._asked.done():
            self._asked = self._ask()
        return self._asked


class Looks:
    """The states of pools, looked at once for each collection: all are asked, and then waited for
    together, so that several which are stuck cost no more than one.
    """

    def __init__(self) -> None:
        self._seen: list[tuple[ObservedPool, PoolStats]] = []
        self._served: set[str] = set()
        self._read_at = 0.0
        self.renew_locks()
        forks.renew(self)

    def renew_locks(self) -> None:
        """Run at first, and in a child of a fork."""
        self._lock = threading.Lock()

    def at(
        self, pools: Sequence[ObservedPool], instrument: str
    ) -> list[tuple[ObservedPool, PoolStats]]:
        """Those that have answered, for that instrument. What asks a second time begins another
        collection.
        """
        with self._lock:
            now = time.monotonic()
            if instrument in self._served or now - self._read_at > READ_ONCE_S or not self._served:
                self._served.clear()
                self._seen = _seen(pools, now + ANSWER_S)
                # Behind the look: what is stuck is waited for once, not by each instrument.
                self._read_at = time.monotonic()
            self._served.add(instrument)
            return [each for each in self._seen if each[0] in pools]


def _seen(pools: Sequence[ObservedPool], until: float) -> list[tuple[ObservedPool, PoolStats]]:
    asked = [(pool, pool.ask()) for pool in pools]
    seen = []
    for pool, answer in asked:
        if answer is not None:
            # It does not answer in time, or ends, or this is a thread of its own.
            with contextlib.suppress(Exception):
                left = max(0.0, until - time.monotonic())
                seen.append((pool, answer.get(timeout=left)))
    return seen


class Instruments:
    """Those of one provider."""

    def __init__(self, meter: Meter) -> None:
        self._pools: tuple[ObservedPool, ...] = ()
        self._looks = Looks()
        self._meter = meter
        self._requests = meter.create_counter(
            names.REQUESTS, "{request}", "Requests that have ended, or were turned away."
        )
        self._attempts = meter.create_counter(
            names.ATTEMPTS, "{attempt}", "Attempts that have ended."
        )
        self._retries = meter.create_counter(
            names.RETRIES, "{attempt}", "Attempts that were made since others had failed."
        )
        self._hedges = meter.create_counter(
            names.HEDGED, "{attempt}", "Attempts that joined one which took its time."
        )
        self._transitions = meter.create_counter(
            names.TRANSITIONS, "{transition}", "Changes of the state of a breaker."
        )
        self._restarts = meter.create_counter(
            names.RESTARTS, "{restart}", "Members whose actor was replaced."
        )
        self._request_s = meter.create_histogram(
            names.GEN_AI_INVOKE_AGENT_DURATION,
            "s",
            "How long requests took, with all their attempts.",
            explicit_bucket_boundaries_advisory=names.GEN_AI_INVOKE_AGENT_BUCKETS,
        )
        self._attempt_s, self._queue_s, self._first_chunk_s = (
            meter.create_histogram(
                name, "s", says, explicit_bucket_boundaries_advisory=names.SHORT_BUCKETS
            )
            for name, says in (
                (names.ATTEMPT_DURATION, "How long attempts took."),
                (names.QUEUE_DURATION, "How long requests waited for members."),
                (names.FIRST_CHUNK_DURATION, "How long the first chunks of streams took."),
            )
        )
        self._look_at(names.QUEUE_DEPTH, "{request}", "Requests that wait.", _queue_depth)
        self._look_at(names.ACTIVE_REQUESTS, "{request}", "Requests without an end.", _active)
        self._look_at(
            names.ACTIVE_ATTEMPTS, "{attempt}", "Attempts that hold a slot of a member.", _attempts
        )
        self._look_at(
            names.AVAILABLE,
            "{member}",
            "1 where a member could be given a request now.",
            _available,
        )
        self._look_at(
            names.BREAKER_STATE, "{member}", "1 for the state that a breaker is in.", _breakers
        )
        self._look_at(
            names.ABANDONED_THREADS, "{thread}", "Threads given up on that still run.", _abandoned
        )
        self._look_at(names.HEADROOM, "{unit}", "What is left of a rate limit.", _headroom)

    def _look_at(
        self,
        name: str,
        unit: str,
        says: str,
        look: Callable[[PoolStats], Iterable[tuple[float, dict[str, Any]]]],
    ) -> None:
        def observe(_: CallbackOptions) -> Iterator[Observation]:
            for pool, stats in self._looks.at(self._pools, name):
                for value, about in look(stats):
                    yield Observation(value, {names.POOL: pool.name, **about})

        self._meter.create_observable_gauge(name, [observe], unit, says)

    # -- the pools

    def watch(self, pool: ObservedPool) -> None:
        """Look at it from now on."""
        with _lock:
            self._pools = (*self._pools, pool)

    def forget(self, pool: ObservedPool) -> None:
        """It has ended."""
        with _lock:
            self._pools = tuple(each for each in self._pools if each is not pool)

    # -- what has happened

    def count(
        self, pool: str, ended: RequestSpan | AttemptSpan, context: Context | None = None
    ) -> None:
        """A request or an attempt has ended.

        Args:
            context: where its span is the current one.
        """
        assert ended.ended_at is not None
        took_s = ended.ended_at - ended.began_at
        error_type = error_type_of(ended)
        failed = {} if error_type is None else {names.ERROR_TYPE: error_type}
        if isinstance(ended, RequestSpan):
            outcome = {names.REQUEST_OUTCOME: ended.outcome, **failed}
            self._requests.add(1, {names.POOL: pool, **outcome}, context)
            self._request_s.record(took_s, {names.GEN_AI_AGENT_NAME: pool, **outcome}, context)
            self._queue_s.record(ended.waited_s, {names.POOL: pool}, context)
            return
        where = {names.POOL: pool, names.MEMBER: ended.member}
        outcome = {**where, names.ATTEMPT_OUTCOME: ended.outcome, **failed}
        self._attempts.add(1, outcome, context)
        self._attempt_s.record(took_s, outcome, context)
        if ended.first_chunk is not None:
            self._first_chunk_s.record(ended.first_chunk[1], where, context)
        if ended.is_retry:
            self._retries.add(1, where, context)
        if ended.role is AttemptRole.HEDGE:
            self._hedges.add(1, where, context)

    def count_turned_away(self, pool: str, error: BaseException) -> None:
        """A request was not taken in."""
        turned_away = RequestSpan("", False, None, 0.0, outcome="rejected", error=error)
        kind = error_type_of(turned_away) or "_OTHER"
        said = {names.POOL: pool, names.REQUEST_OUTCOME: "turned_away", names.ERROR_TYPE: kind}
        self._requests.add(1, said)

    def count_event(self, event: Event) -> None:
        """One of `TOLD`."""
        where: dict[str, Any] = {names.POOL: event.pool, names.MEMBER: event.member or ""}
        circuit = _CIRCUITS.get(type(event))
        if circuit is None:
            self._restarts.add(1, where)
            return
        observed = bool(getattr(event, "observed", False))
        said = {**where, names.CIRCUIT: circuit.value, names.OBSERVED: observed}
        self._transitions.add(1, said)


Looked = Iterable[tuple[float, dict[str, Any]]]


def _queue_depth(stats: PoolStats) -> Looked:
    return [(stats.pending, {})]


def _active(stats: PoolStats) -> Looked:
    return [(stats.accepted - stats.completed - stats.failed - stats.cancelled, {})]


def _attempts(stats: PoolStats) -> Looked:
    return [(each.in_flight, _of(each)) for each in stats.members]


def _available(stats: PoolStats) -> Looked:
    return [(int(each.available), _of(each)) for each in stats.members]


def _breakers(stats: PoolStats) -> Looked:
    return [
        (int(each.circuit is circuit), {**_of(each), names.CIRCUIT: circuit.value})
        for each in stats.members
        for circuit in CircuitState
    ]


def _abandoned(stats: PoolStats) -> Looked:
    return [(each.abandoned, _of(each)) for each in stats.members]


def _headroom(stats: PoolStats) -> Looked:
    return [
        (limit.headroom, {**_of(each), names.COST: limit.cost, **_period(limit.per_s)})
        for each in stats.members
        for limit in each.limits
    ]


def _of(member: MemberStats) -> dict[str, Any]:
    return {names.MEMBER: member.name}


def _period(per_s: float | None) -> dict[str, Any]:
    return {} if per_s is None else {names.LIMIT_PERIOD: per_s}


_lock = threading.Lock()
_by_provider: weakref.WeakKeyDictionary[MeterProvider, Instruments] = weakref.WeakKeyDictionary()
_of_global: Instruments | None = None
"""Those of the global provider, which may have been asked for before there was one."""


def _renew_lock() -> None:
    global _lock
    _lock = threading.Lock()


forks.in_child(_renew_lock)


def instruments_of(provider: MeterProvider | None, version: str) -> Instruments:
    """The instruments of a provider, None for the global one; made when first asked for."""
    global _of_global
    with _lock:
        everyones = get_meter_provider()
        chosen = everyones if provider is None else provider
        known = _by_provider.get(chosen)
        if known is None and chosen is everyones:
            known = _of_global
        if known is None:
            known = _by_provider[chosen] = Instruments(chosen.get_meter(names.SCOPE, version))
        if chosen is everyones:
            _of_global = known
        return known
