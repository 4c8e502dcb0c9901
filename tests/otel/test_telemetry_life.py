"""Telemetry around pools: when there is any, its hook, its thread, its end; nothing harms them."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from helpers_agents import Held
from helpers_pools import WAIT_S, ask, echo, echo_async, ranked
from helpers_telemetry import Telling
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider

from greenroom import AgentPool, Member, PoolRef, Request, Telemetry, TelemetrySpan
from greenroom.otel import backlog
from greenroom.testing import EventRecorder

SECRET = "the-payload-that-nobody-may-see"


# -- whether there is any


def run(code: str) -> str:
    """What a program prints that knows nothing of this process."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=6 * WAIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_without_a_provider_nothing_is_imported() -> None:
    """A pool of a process that has not set up OpenTelemetry has none, and does not load it."""
    assert "False" in run(
        """
        import sys
        from greenroom import AgentPool, Member
        with AgentPool.start([Member("a", str)]) as pool:
            pool.execute("x")
        print(any(name.startswith("opentelemetry") for name in sys.modules))
        """
    )


def test_a_provider_of_the_process_is_used() -> None:
    """Set before the pool starts: then its pools tell it, unless one is told not to."""
    assert run(
        """
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
        from greenroom import AgentPool, Member
        with AgentPool.start([Member("a", str)], name="before") as pool:
            pool.execute("x")
        exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        trace.set_tracer_provider(provider)
        with AgentPool.start([Member("a", str)], name="auto") as pool:
            pool.execute("x")
        with AgentPool.start([Member("a", str)], name="off", telemetry=False) as pool:
            pool.execute("x")
        print([span.name for span in exporter.get_finished_spans()])
        """
    ).split("\n")[0] == str(["attempt a", "invoke_agent auto"])


def test_a_pool_may_start_before_the_provider_is_set() -> None:
    """Where telemetry is asked for, spans and metrics are told from then on."""
    assert run(
        """
        from opentelemetry import metrics, trace
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
        from greenroom import AgentPool, Member
        first = AgentPool.start([Member("a", str)], name="first", telemetry=True)
        first.execute("x")
        exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        trace.set_tracer_provider(provider)
        metrics.set_meter_provider(MeterProvider([reader]))
        second = AgentPool.start([Member("a", str)], name="second")
        first.execute("x")
        data = reader.get_metrics_data()
        pools = {
            point.attributes["greenroom.pool"]
            for metric in data.resource_metrics[0].scope_metrics[0].metrics
            if metric.name == "greenroom.active_requests"
            for point in metric.data.data_points
        }
        first.stop()
        second.stop()
        print([span.name for span in exporter.get_finished_spans()], sorted(pools))
        """
    ).split("\n")[0] == str(["attempt a", "invoke_agent first"]) + " " + str(["first", "second"])


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for, it is an error that says what to install; by itself, there is just none."""
    for name in [each for each in sys.modules if each.startswith("opentelemetry")]:
        monkeypatch.delitem(sys.modules, name)
    for name in [each for each in sys.modules if each.startswith("greenroom.otel.")]:
        if name != "greenroom.otel.telemetry":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(ModuleNotFoundError, match=r"telemetry=.*greenroom\[otel\]"):
        AgentPool.start([Member("a", echo)], telemetry=True)
    with AgentPool.start([Member("a", echo)], telemetry="auto") as pool:
        assert pool.execute("x") == "x"
        assert pool.name == "pool"


@pytest.mark.parametrize("wrong", ["on", None, 1, Telemetry])
def test_another_setting_is_refused(wrong: Any) -> None:
    """With what it may be, before anything is started."""
    with pytest.raises((TypeError, ValueError), match=r"telemetry must be 'auto', a bool or a T"):
        AgentPool.start([Member("a", echo)], telemetry=wrong)


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("attributes", 1),
        ("tracer_provider", "otlp"),
        ("tracer_provider", TracerProvider),
        ("meter_provider", 4),
        ("meter_provider", MeterProvider),
    ],
)
def test_a_wrong_field_of_the_setting_is_named(field: str, wrong: Any) -> None:
    with pytest.raises(TypeError, match=f"{field} must be"):
        Telemetry(**{field: wrong})


def test_what_a_provider_raises_leaves_nothing_behind() -> None:
    """The pool is refused, and its name is free again."""

    class Broken(TracerProvider):
        def get_tracer(self, *args: Any, **kwargs: Any) -> Any:
            raise OSError("no tracer today")

    broken = Telemetry(tracer_provider=Broken(shutdown_on_exit=False))
    with pytest.raises(OSError, match="no tracer today"):
        AgentPool.start([Member("a", echo)], name="refused", telemetry=broken)
    with AgentPool.start([Member("a", echo)], name="refused") as pool:
        assert pool.name == "refused"


# -- the app's hook


def test_an_app_adds_attributes() -> None:
    """It sees what a span is about, the request's metadata among it, once the span has ended."""
    seen: list[TelemetrySpan] = []

    def attributes(span: TelemetrySpan) -> Mapping[str, Any]:
        seen.append(span)
        return {"tenant": span.metadata["tenant"], "greenroom.pool": "another"}

    telling = Telling(attributes)
    with telling.pool(*ranked(a=echo)) as pool:
        ask(pool, metadata={"tenant": "acme"}).get(timeout=WAIT_S)
    about = {span.name: dict(span.attributes or {}) for span in telling.spans}
    assert {each["tenant"] for each in about.values()} == {"acme"}
    assert {each["greenroom.pool"] for each in about.values()} == {"pool"}
    attempt, request = seen
    assert (attempt.kind, attempt.member, attempt.attempt) == ("attempt", "a", 1)
    assert (request.kind, request.outcome, request.pool) == ("request", "answered", "pool")
    assert "acme" not in repr(request)


@pytest.mark.parametrize("returned", [ValueError("no"), SystemExit(3), "none of it", None, {1: 2}])
def test_a_hook_that_raises_harms_nothing(returned: Any, log: EventRecorder) -> None:
    """Nor does one that returns what is no mapping: spans are told as if there were none."""

    def attributes(span: TelemetrySpan) -> Any:
        if isinstance(returned, BaseException):
            raise returned
        return returned

    telling = Telling(attributes)
    with telling.pool(*ranked(a=echo)) as pool:
        assert pool.execute("x") == "x"
        assert pool.execute("y") == "y"
    assert len(telling.spans) == 4
    assert telling.balance.is_even


class Stuck(SpanProcessor):
    """An exporter whose server does not answer."""

    def __init__(self) -> None:
        self.gate = threading.Event()

    def on_end(self, span: ReadableSpan) -> None:
        self.gate.wait(3 * WAIT_S)


def test_an_exporter_that_hangs_does_not_hold_up_the_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has ended is told in a thread of its own, and the pool's end waits for it in vain only
    for a while.
    """
    monkeypatch.setattr(backlog, "CLOSE_TIMEOUT_S", 0.05)
    telling, stuck = Telling(), Stuck()
    telling.traces.add_span_processor(stuck)
    try:
        with telling.pool(*ranked(a=echo)) as pool:
            for number in range(100):
                assert pool.execute(number) == number
            assert not telling.setting.flush(0.05)
    finally:
        stuck.gate.set()


def test_what_waits_for_an_exporter_is_bounded(
    monkeypatch: pytest.MonkeyPatch, log: EventRecorder
) -> None:
    """What comes on top is not told."""
    monkeypatch.setattr(backlog, "BACKLOG", 10)
    monkeypatch.setattr(backlog, "CLOSE_TIMEOUT_S", 2 * WAIT_S)
    telling, stuck = Telling(), Stuck()
    telling.traces.add_span_processor(stuck)
    with telling.pool(*ranked(a=echo)) as pool:
        for number in range(100):
            assert pool.execute(number) == number
        stuck.gate.set()
    assert len(telling.exporter.get_finished_spans()) < 30


def test_a_processor_that_raises_at_the_beginning_harms_nothing() -> None:
    class Raises(SpanProcessor):
        def on_start(self, span: Any, parent_context: Any = None) -> None:
            raise OSError("no")

    telling = Telling()
    telling.traces.add_span_processor(Raises())
    with telling.pool(*ranked(a=echo)) as pool:
        assert pool.execute("x") == "x"
        assert telling.setting.flush(WAIT_S)


# -- in which context agents run


async def current_async(payload: Any) -> Any:
    await asyncio.sleep(0)
    return _current()


def current(payload: Any) -> Any:
    return _current()


def current_chunks(payload: Any) -> Iterator[Any]:
    yield _current()
    yield _current()


def _current() -> str:
    span = trace.get_current_span()
    return span.name if isinstance(span, ReadableSpan) else "none"


@pytest.mark.parametrize("event_loop", ["own", "auto"])
@pytest.mark.parametrize("agent", [current, current_async])
def test_the_attempts_span_is_the_agents_current_one(agent: Any, event_loop: Any) -> None:
    """In a worker's thread, on the pool's own loop, on the app's; the caller keeps its own."""
    telling = Telling()

    async def main() -> None:
        with telling.pool(*ranked(a=agent), event_loop=event_loop) as pool:
            with telling.tracer.start_as_current_span("the caller"):
                reply = await pool.aask(Request("x"))
                assert reply.value == "attempt a"
                assert _current() == "the caller"
            await asyncio.to_thread(pool.stop)

    asyncio.run(main())
    assert telling.balance.is_even


def test_in_a_stream_it_is_the_current_one_for_each_chunk() -> None:
    telling = Telling()
    with telling.pool(*ranked(a=current_chunks)) as pool:
        assert pool.stream(Request("x")).collect() == ["attempt a"] * 2


def test_who_carries_no_context_begins_a_trace_of_its_own() -> None:
    """The agent sees its attempt's span, and nothing of the caller's."""
    telling = Telling()
    pool_of, caller = telling.pool, telling.tracer.start_as_current_span
    with pool_of(*ranked(a=current), propagate_context=False) as pool, caller("the caller"):
        assert pool.execute("x") == "attempt a"
    (request,) = telling.named("invoke_agent pool")
    assert request.parent is None


def test_a_tell_is_a_span_as_well() -> None:
    telling = Telling()
    with telling.pool(*ranked(a=echo)) as pool:
        with telling.tracer.start_as_current_span("the caller"):
            pool.tell(Request("x"))
        assert pool.drain(WAIT_S)
    assert telling.tree()[1:] == ["  invoke_agent pool -> answered", "    attempt a #1 -> answered"]


# -- blocks in the caller's own task


def test_in_a_block_the_span_is_the_current_one() -> None:
    """Of a thread or a task, and of it alone: behind it there is what was there before."""
    telling = Telling()

    async def main(pool: PoolRef) -> list[str]:
        seen = [_current()]
        async with pool.acquire():
            seen.append(_current())
        return [*seen, _current()]

    with telling.pool(*ranked(a=echo)) as pool:
        assert asyncio.run(main(pool)) == ["none", "attempt a", "none"]
        with telling.tracer.start_as_current_span("the caller"):
            for attempt in pool.attempts():
                with attempt:
                    assert _current() == "attempt a"
            assert _current() == "the caller"


def test_a_consumer_has_its_own_span_while_the_attempt_is_paused() -> None:
    """A generator that yields in its block shares its context with whoever reads it."""
    telling = Telling()

    async def unpaused(pool: PoolRef) -> Any:
        async with pool.acquire():
            yield "chunk"

    async def paused(pool: PoolRef) -> Any:
        attempt = pool.acquire()
        async with attempt:
            for chunk in ("a", "b"):
                assert _current() == "attempt a"
                with attempt.paused():
                    yield chunk
            assert _current() == "attempt a"

    async def main(pool: PoolRef) -> None:
        with telling.tracer.start_as_current_span("the consumer"):
            async for _ in paused(pool):
                assert _current() == "the consumer"
            assert _current() == "the consumer"
            async with contextlib.aclosing(unpaused(pool)) as chunks:
                async for _ in chunks:
                    assert _current() == "attempt a"
                    break
            assert _current() == "the consumer"

    with telling.pool(*ranked(a=echo)) as pool:
        asyncio.run(main(pool))
    assert telling.balance.is_even


def test_a_block_left_in_another_context_leaves_it_alone() -> None:
    """A generator that the loop closes in a task of its own, say."""
    telling = Telling()

    async def produced(pool: PoolRef) -> Any:
        async with pool.acquire():
            yield "chunk"

    async def main(pool: PoolRef) -> None:
        chunks = produced(pool)
        assert await anext(chunks) == "chunk"
        await asyncio.create_task(chunks.aclose())
        assert _current() in ("attempt a", "none")

    with telling.pool(*ranked(a=echo)) as pool:
        asyncio.run(main(pool))
    assert telling.balance.is_even


# -- when it is told


def test_the_last_answer_is_told_without_another_request() -> None:
    """Its report lies aside, for as long as nothing else happens: the pool is made to look."""
    telling = Telling()
    with telling.pool(*ranked(a=echo)) as pool:
        assert pool.execute("x") == "x"
        until = time.monotonic() + WAIT_S
        while len(telling.exporter.get_finished_spans()) < 2:
            assert time.monotonic() < until
            threading.Event().wait(0.01)


def test_the_end_of_a_pool_tells_all_that_is_left() -> None:
    """Requests without an answer among it, and threads that do not end."""
    telling, held = Telling(), Held()
    with telling.pool(Member("a", held, max_concurrency=1)) as pool:
        answers = [ask(pool) for _ in range(3)]
        held.wait_entered()
        pool.stop(block=False)
        held.let_go(3)
        for each in answers:
            with contextlib.suppress(Exception):
                each.get(timeout=WAIT_S)
    assert telling.balance.is_even
    assert telling.balance.begun >= 4


def test_the_end_of_the_process_tells_what_lies_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that the router has not read of, since nothing else has happened in the pool."""
    monkeypatch.setattr(backlog, "LOOK_S", 10 * WAIT_S)  # so it has not looked by itself either
    telling = Telling()
    with telling.pool(Member("a", echo)) as pool:
        for number in range(1, 6):
            pool.execute("x")
            backlog._flush_all()
            assert len(telling.exporter.get_finished_spans()) == 2 * number


@pytest.mark.parametrize(
    ("telemetry", "later"),
    [("Telemetry(tracer_provider=provider)", ""), ("True", "trace.set_tracer_provider(provider)")],
)
def test_the_end_of_the_process_tells_a_provider_that_came_late(telemetry: str, later: str) -> None:
    """Made after another pool has told of itself, or set after this one has started."""
    code = f"""
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
        from greenroom import AgentPool, Member, Telemetry
        AgentPool.start([Member("a", str)], telemetry=True).stop()
        provider = TracerProvider()
        exporter = ConsoleSpanExporter(formatter=lambda span: span.name + "; ")
        provider.add_span_processor(BatchSpanProcessor(exporter))
        pool = AgentPool.start([Member("a", str)], telemetry={telemetry})
        {later}
        pool.execute("x")
        """
    assert run(code) == "attempt a; invoke_agent pool; "


def test_spans_do_not_pile_up() -> None:
    """Nothing is kept of requests that have ended."""
    telling = Telling()
    with telling.pool(*ranked(a=echo)) as pool:
        kept: list[weakref.ref[Any]] = []

        class Payload:
            pass

        for _ in range(50):
            payload = Payload()
            kept.append(weakref.ref(payload))
            pool.execute(payload)
            del payload
        assert telling.setting.flush(WAIT_S)
        assert telling.balance.open == 0
        gc.collect()
        assert sum(each() is not None for each in kept) <= 1


def test_no_payload_no_key_no_secret_is_told() -> None:
    """Not of what is asked, answered or raised, nor of who asks."""
    token = "sk-" + "a1B2" * 10

    def fails(payload: Any) -> Any:
        raise ConnectionError(f"401 with api_key={token}")

    def answers(payload: Any) -> Any:
        return SECRET

    telling = Telling()
    with telling.pool(
        *ranked(a=fails, b=answers), fair_by=lambda request: "the-fair-key", max_retries=3
    ) as pool:
        ask(pool, SECRET, key="the-routing-key", metadata={"m": "the-metadata"}).get(timeout=WAIT_S)
    said = "".join(span.to_json() for span in telling.spans)
    said += str(telling.reader.get_metrics_data())
    for secret in (SECRET, token, "the-routing-key", "the-fair-key", "the-metadata"):
        assert secret not in said
    assert "api_key=***" in said


def test_behind_the_end_there_is_nothing_to_flush() -> None:
    telling = Telling()
    with telling.pool(*ranked(a=echo_async)) as pool:
        pool.execute("x")
        assert telling.setting.flush(WAIT_S)
    assert telling.setting.flush(0.0)


def test_the_setting_says_what_it_has() -> None:
    assert repr(Telemetry()) == "<Telemetry with the global providers>"
    assert "tracer_provider" in repr(Telling().setting)
