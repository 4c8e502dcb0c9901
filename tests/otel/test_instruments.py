"""The metrics: what is counted and measured, and what is looked at when somebody collects."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pykka
import pytest
from helpers_agents import AsyncHeld, Held
from helpers_pools import WAIT_S, ask, echo, ranked
from helpers_telemetry import Telling
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

from greenroom import (
    AgentPool,
    Limit,
    Member,
    PoolFuture,
    PoolSaturatedError,
    PoolStoppedError,
    Request,
    Telemetry,
)
from greenroom.messages import MemberStats, PoolStats
from greenroom.otel.instruments import ANSWER_S, Looks, ObservedPool, instruments_of
from greenroom.otel.telemetry import flush_each
from greenroom.testing import FakeClock


def fails(payload: Any) -> Any:
    raise ConnectionError("it is down")


def key(**attributes: Any) -> tuple[tuple[str, Any], ...]:
    """The attributes of a point, as `Telling.metrics` has them."""
    return tuple(sorted((name.replace("_dot_", "."), value) for name, value in attributes.items()))


ANSWERED = key(attempt_dot_outcome="answered", member="b")
FAILED = key(attempt_dot_outcome="failed", member="a", error_dot_type="unavailable")


def test_requests_and_attempts_are_counted_and_measured() -> None:
    """By how they ended, by member and kind; and how long they took, a request's wait included."""
    telling = Telling()
    with telling.pool(*ranked(a=fails, b=echo)) as pool:
        assert pool.execute("x") == "x"
        found = telling.metrics()
    assert found["greenroom.requests"] == {key(request_dot_outcome="answered"): 1}
    assert found["greenroom.attempts"] == {FAILED: 1, ANSWERED: 1}
    assert found["greenroom.attempt.duration"] == {FAILED: 1, ANSWERED: 1}
    assert found["greenroom.retries"] == {key(member="b"): 1}
    assert found["gen_ai.invoke_agent.duration"] == {key(request_dot_outcome="answered"): 1}
    assert found["greenroom.queue.duration"] == {(): 1}


def test_the_buckets_are_those_of_the_conventions() -> None:
    """Else all that takes longer than ten seconds would be in one."""
    telling = Telling()
    with telling.pool(*ranked(a=echo)) as pool:
        pool.execute("x")
        assert telling.setting.flush(WAIT_S)
        data: Any = telling.reader.get_metrics_data()
    bounds = {
        metric.name: metric.data.data_points[0].explicit_bounds
        for metric in data.resource_metrics[0].scope_metrics[0].metrics
        if hasattr(metric.data.data_points[0], "explicit_bounds")
    }
    assert bounds["gen_ai.invoke_agent.duration"][-1] == 409.6
    assert bounds["greenroom.attempt.duration"][-1] == 300.0


def test_a_hedge_and_a_first_chunk() -> None:
    clock, slow, telling = FakeClock(), AsyncHeld(), Telling()

    def streams(payload: Any) -> Any:
        yield payload

    with telling.pool(*ranked(a=slow, b=streams), clock=clock, hedge_after_s=1.0) as pool:
        answer = ask(pool)
        slow.wait_entered()
        clock.advance(1.0)
        answer.get(timeout=WAIT_S)
        pool.stream(Request("x", only="b")).collect()
        found = telling.metrics()
    assert found["greenroom.hedges"] == {key(member="b"): 1}
    assert found["greenroom.first_chunk.duration"] == {key(member="b"): 1}
    lost = key(attempt_dot_outcome="lost_race", member="a")
    assert found["greenroom.attempts"][lost] == 1


def test_who_had_no_room_and_who_was_turned_away() -> None:
    """Both are requests, each with an outcome of its own."""
    held, telling = Held(), Telling()
    with telling.pool(Member("a", held, max_concurrency=1), max_pending=1) as pool:
        answers = [ask(pool) for _ in range(2)]
        held.wait_entered()
        with pytest.raises(PoolSaturatedError):
            pool.execute("x")
        drained = pool.drain(0.0)
        assert not drained
        with pytest.raises(PoolStoppedError):
            pool.execute("x")
        found = telling.metrics()["greenroom.requests"]
        held.let_go(2)
        for each in answers:
            with pytest.raises(PoolStoppedError):
                each.get(timeout=WAIT_S)
    outcomes = {dict(about)["request.outcome"]: count for about, count in found.items()}
    assert outcomes == {"rejected": 1, "turned_away": 1, "failed": 2}
    errors = {dict(about)["error.type"] for about in found}
    assert errors == {"greenroom.PoolSaturatedError", "greenroom.PoolStoppedError"}


def test_breakers_restarts_and_headroom() -> None:
    """What changes is counted, what is so is looked at."""
    telling = Telling()
    limited = Member("b", echo, limits=[Limit(5, per_s=60.0)])
    with telling.pool(Member("a", echo), limited) as pool:
        pool.execute("x", only="b")
        pool.force_open("a")
        pool.reset_member("a")
        pool.force_open("a")
        found = telling.metrics()
    moved = found["greenroom.breaker.transitions"]
    opened = key(member="a", breaker_dot_circuit="open", breaker_dot_observed=False)
    assert moved[opened] == 2
    state = found["greenroom.breaker.state"]
    assert state[key(member="a", breaker_dot_circuit="forced_open")] == 1
    assert state[key(member="a", breaker_dot_circuit="closed")] == 0
    assert state[key(member="b", breaker_dot_circuit="closed")] == 1
    assert found["greenroom.member.available"] == {key(member="a"): 0, key(member="b"): 1}
    ((about, left),) = found["greenroom.limit.headroom"].items()
    assert (dict(about), left) == (
        {"member": "b", "limit.cost": "requests", "limit.period": 60.0},
        4,
    )


def test_what_runs_and_what_waits_is_looked_at() -> None:
    held, telling = Held(), Telling()
    with telling.pool(Member("a", held, max_concurrency=1)) as pool:
        answers = [ask(pool) for _ in range(3)]
        held.wait_entered()
        found = telling.metrics()
        assert found["greenroom.active_requests"] == {(): 3}
        assert found["greenroom.queue.depth"] == {(): 2}
        assert found["greenroom.active_attempts"] == {key(member="a"): 1}
        held.let_go(3)
        for each in answers:
            each.get(timeout=WAIT_S)
        found = telling.metrics()
    assert found["greenroom.active_requests"] == {(): 0}
    assert found["greenroom.queue.depth"] == {(): 0}


def test_an_abandoned_thread_is_looked_at() -> None:
    clock, held, telling = FakeClock(), Held(), Telling()
    with telling.pool(Member("a", held), clock=clock, request_timeout_s=1.0, max_retries=0) as pool:
        answer = ask(pool)
        held.wait_entered()
        clock.advance(1.0)
        with pytest.raises(Exception, match="within request_timeout_s"):
            answer.get(timeout=WAIT_S)
        found = telling.metrics()
        held.let_go()
    assert found["greenroom.member.abandoned_threads"] == {key(member="a"): 1}
    assert telling.balance.is_even


def test_several_pools_of_one_provider_until_each_ends() -> None:
    """A second instrument of the same name would never be asked: they share one."""
    telling = Telling()

    def pools() -> set[str]:
        data: Any = telling.reader.get_metrics_data()
        return {
            point.attributes["greenroom.pool"]
            for scope in (data.resource_metrics[0].scope_metrics if data else ())
            for metric in scope.metrics
            if metric.name == "greenroom.queue.depth"
            for point in metric.data.data_points
        }

    with telling.pool(*ranked(a=echo), name="one"):
        with telling.pool(*ranked(a=echo), name="two"):
            assert pools() == {"one", "two"}
        assert pools() == {"one"}
    assert pools() == set()


def answered(stats: PoolStats) -> PoolFuture[PoolStats]:
    future: PoolFuture[PoolStats] = PoolFuture()
    future.set(stats)
    return future


def test_one_look_serves_all_instruments_of_a_collection() -> None:
    """Who asks a second time begins the next one."""
    asked: list[int] = []

    def ask_it() -> PoolFuture[PoolStats]:
        asked.append(1)
        members = (MemberStats("a", in_flight=len(asked)),)
        return answered(PoolStats("pool", strategy="priority", members=members))

    looks, pool = Looks(), ObservedPool("pool", ask_it)
    for round_ in (1, 2, 3):
        for instrument in ("depth", "active", "state"):
            ((_, stats),) = looks.at([pool], instrument)
            assert stats.members[0].in_flight == round_
    assert len(asked) == 3


class Silent:
    """A pool that never answers: who waits for it has the time go by."""

    def __init__(self) -> None:
        self.now, self.asked = 100.0, 0

    def ask(self) -> Silent:
        self.asked += 1
        return self

    def done(self) -> bool:
        return False

    def get(self, *, timeout: float | None = None) -> PoolStats:
        self.now += timeout or 0.0
        raise pykka.Timeout


def test_b417_pools_that_are_stuck_are_waited_for_once_and_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not by each instrument, nor one after the other: a collection of the SDK gives up all of it
    after ten seconds. The others are looked at, whoever comes first; and questions do not pile up.
    """
    silent = Silent()
    monkeypatch.setattr("greenroom.otel.instruments.time.monotonic", lambda: silent.now)
    well = ObservedPool("well", lambda: answered(PoolStats("well", strategy="priority")))
    pools = [*(ObservedPool(f"stuck-{number}", silent.ask) for number in range(7)), well]
    looks = Looks()
    for collection in (1, 2, 3):
        for instrument in ("depth", "active", "state"):
            assert [pool for pool, _ in looks.at(pools, instrument)] == [well]
        assert silent.now == 100.0 + ANSWER_S * collection
    assert silent.asked == 7


def test_b417_a_flush_asks_all_before_it_waits_for_any() -> None:
    """So one that is stuck takes nothing from the others: they tell meanwhile."""
    told = threading.Event()

    class Watches(SpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            if span.parent is None:
                told.set()

    class Stuck:
        def flushing(self) -> Callable[[float], bool]:
            return self.waits

        def waits(self, timeout_s: float) -> bool:
            assert told.wait(timeout_s)
            return False

    telling = Telling()
    telling.traces.add_span_processor(Watches())
    with telling.pool(*ranked(a=echo)) as pool:
        pool.execute("x")
        (tells,) = telling.setting._pools
        assert not flush_each([Stuck(), tells], WAIT_S)


def test_a_pool_that_does_not_answer_has_nothing_to_be_looked_at() -> None:
    """What collects is not held up by a pool that has ended, nor by its own thread."""
    telling = Telling()
    with telling.pool(*ranked(a=echo)) as pool:
        pool.execute("x")
        pool.stop()
        found = telling.metrics()
    assert "greenroom.queue.depth" not in found
    assert found["greenroom.requests"]


def test_metrics_alone_and_spans_alone() -> None:
    """Either provider may be one that keeps nothing."""
    from opentelemetry.metrics import NoOpMeterProvider
    from opentelemetry.trace import NoOpTracerProvider

    telling = Telling()
    quiet = Telemetry(tracer_provider=NoOpTracerProvider(), meter_provider=telling.meters)
    with AgentPool.start([Member("a", echo)], telemetry=quiet) as pool:
        assert pool.execute("x") == "x"
    quiet = Telemetry(tracer_provider=telling.traces, meter_provider=NoOpMeterProvider())
    with AgentPool.start([Member("a", echo)], telemetry=quiet) as pool:
        assert pool.execute("x") == "x"
    assert telling.metrics()["greenroom.requests"] == {key(request_dot_outcome="answered"): 1}
    assert len(telling.spans) == 2


def test_a_provider_that_is_let_go_of_takes_its_instruments_along() -> None:
    provider = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
    instruments_of(provider, "1")
    gone = weakref.ref(provider)
    provider.shutdown()
    del provider
    gc.collect()
    assert gone() is None
