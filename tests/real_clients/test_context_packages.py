"""What real packages keep in context variables reaches the agent. Behaviours 129 and 132.

`make test-clients ARGS=context` has all of them; elsewhere what is not installed is skipped.
"""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from helpers_pools import WAIT_S, pool_of, ranked

from greenroom import Member, PoolRef, Request
from greenroom.testing import http_error


def real(package: str) -> Any:
    """The package, or a skip that says where there is one."""
    return pytest.importorskip(
        package, reason=f"{package} is not installed: make test-clients ARGS=context has it"
    )


def in_all_places(look: Callable[[], Any]) -> dict[str, Any]:
    """Agents that answer what a look at the package shows there: a thread, a loop, both, streams.

    Each has the same in its second step as in its first.
    """

    def sync(_: Any) -> Any:
        return look()

    async def asynchronous(_: Any) -> Any:
        await asyncio.sleep(0)
        return look()

    def steps(_: Any) -> Iterator[Any]:
        yield look()
        yield look()

    async def asteps(_: Any) -> AsyncIterator[Any]:
        yield look()
        await asyncio.sleep(0)
        yield look()

    return {
        "sync": sync,
        "async": asynchronous,
        "late": lambda payload: asynchronous(payload),
        "steps": steps,
        "asteps": asteps,
    }


def seen_by(agent: Any) -> set[Any]:
    """What it sees: asked, awaited, streamed, and as the second attempt of a request."""

    def failing(payload: Any) -> Any:
        raise http_error(503)

    async def awaited(pool: PoolRef) -> Any:
        return (await pool.ask(Request(1), block=False)).value

    with pool_of(Member("m", agent)) as pool:
        answers = [pool.execute(1), asyncio.run(awaited(pool)), list(pool.stream(Request(1)))]
    with pool_of(*ranked(first=failing, second=agent)) as pool:
        answers.append(pool.execute(1))
    return {each for answer in answers for each in (answer if type(answer) is list else [answer])}


PLACES = pytest.mark.parametrize("place", in_all_places(lambda: None))


# -- OpenTelemetry


@PLACES
def test_opentelemetrys_current_span_is_the_callers(place: str) -> None:
    """In every place where an agent runs, and nowhere outside of the caller's block."""
    real("opentelemetry.sdk")
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

    tracer = TracerProvider().get_tracer("test")

    def look() -> int:
        return trace.get_current_span().get_span_context().span_id

    agent = in_all_places(look)[place]
    with tracer.start_as_current_span("the caller's") as span:
        assert seen_by(agent) == {span.get_span_context().span_id}
    assert seen_by(agent) == {0}


@pytest.mark.parametrize("asynchronous", [False, True])
def test_opentelemetrys_spans_of_attempts_are_children_of_the_callers(asynchronous: bool) -> None:
    """Each attempt's, side by side: the second is no child of the first, though that was never
    left, and what the agent has as its current span the caller does not have.
    """
    real("opentelemetry.sdk")
    from opentelemetry import context, trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("test")

    def first(_: Any) -> Any:
        span = tracer.start_span("attempt")
        context.attach(trace.set_span_in_context(span))  # and never detached
        span.end()
        raise http_error(503)

    def second(_: Any) -> Any:
        with tracer.start_as_current_span("attempt"):
            return "good"

    async def afirst(_: Any) -> Any:
        return first(_)

    async def asecond(_: Any) -> Any:
        return second(_)

    members = ranked(a=afirst, b=asecond) if asynchronous else ranked(a=first, b=second)
    with pool_of(*members) as pool, tracer.start_as_current_span("the caller's") as span:
        assert pool.execute(1) == "good"
        assert trace.get_current_span() is span
    wanted = span.get_span_context().span_id
    attempts = [each for each in exporter.get_finished_spans() if each.name == "attempt"]
    assert [each.parent.span_id if each.parent else 0 for each in attempts] == [wanted, wanted]


@pytest.mark.parametrize("place", ["steps", "asteps", "late"])
def test_opentelemetrys_span_around_a_stream_is_left_where_it_was_entered(
    place: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A generator that holds a span over its steps closes it without "Failed to detach context"."""
    real("opentelemetry.sdk")
    from opentelemetry.sdk.trace import TracerProvider

    tracer, closed = TracerProvider().get_tracer("test"), threading.Event()

    def steps(_: Any) -> Iterator[int]:
        try:
            with tracer.start_as_current_span("stream"):
                while True:
                    yield 1
        finally:
            closed.set()

    async def asteps(_: Any) -> AsyncIterator[int]:
        try:
            with tracer.start_as_current_span("stream"):
                while True:
                    yield 1
        finally:
            closed.set()

    agents: dict[str, Any] = {"steps": steps, "asteps": asteps, "late": lambda _: asteps(_)}
    with pool_of(Member("m", agents[place])) as pool:
        with pool.stream(Request(1)) as stream:
            assert next(stream) == 1
        assert closed.wait(WAIT_S)
    assert caplog.records == []


# -- logging


@PLACES
def test_loguru_says_in_the_agents_lines_what_its_caller_has_bound(place: str) -> None:
    """`logger.contextualize`."""
    from loguru import logger

    def look() -> Any:
        extras = list[Any]()
        sink = logger.add(lambda line: extras.append(line.record["extra"].get("tenant", "nobody")))
        logger.info("the agent says")
        logger.remove(sink)
        return extras[-1]

    agent = in_all_places(look)[place]
    with logger.contextualize(tenant="ann's"):
        assert seen_by(agent) == {"ann's"}
    assert seen_by(agent) == {"nobody"}


@PLACES
def test_structlog_says_in_the_agents_lines_what_its_caller_has_bound(place: str) -> None:
    """`structlog.contextvars`, merged into each line."""
    structlog = real("structlog")

    def look() -> Any:
        merged: Any = structlog.contextvars.merge_contextvars(None, "info", {"event": "said"})
        structlog.contextvars.bind_contextvars(mine=True)
        return merged.get("tenant", "nobody")

    agent = in_all_places(look)[place]
    with structlog.contextvars.bound_contextvars(tenant="ann's"):
        assert seen_by(agent) == {"ann's"}
        assert "mine" not in structlog.contextvars.get_contextvars()
    assert seen_by(agent) == {"nobody"}


# -- frameworks


def pydantic_agent() -> Any:
    real("pydantic_ai")
    from pydantic_ai import Agent
    from pydantic_ai.models.test import TestModel

    return Agent(TestModel(custom_output_text="production"))


# `run_sync` leaves the loop open that it has made in a member's thread.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("method", ["run", "run_sync"])
def test_pydantic_ais_override_has_its_effect(method: str) -> None:
    """`with agent.override(model=...)` around the ask, on the loop and in a thread."""
    agent = pydantic_agent()
    from pydantic_ai.models.test import TestModel

    def output(pool: PoolRef) -> Any:
        return pool.ask(Request("hello"), timeout=WAIT_S).value.output

    with pool_of(Member("m", agent, method=method)) as pool:
        with agent.override(model=TestModel(custom_output_text="a test's")):
            assert output(pool) == "a test's"
        assert output(pool) == "production"
    gc.collect()  # here, where it is expected, and not in the middle of another test


def test_pydantic_ais_override_has_its_effect_through_apply() -> None:
    """In an `Apply` that streams its text."""
    agent = pydantic_agent()
    from pydantic_ai.models.test import TestModel

    async def texts(agent: Any) -> AsyncIterator[str]:
        async with agent.run_stream("hello") as result:
            async for text in result.stream_text(delta=True, debounce_by=None):
                yield text

    from greenroom import Apply

    with pool_of(Member("m", agent)) as pool:
        with agent.override(model=TestModel(custom_output_text="a test's")):
            stream = pool.stream(Apply(texts))
        assert "".join(stream) == "a test's"
        assert "".join(pool.stream(Apply(texts))) == "production"


@pytest.mark.parametrize("asynchronous", [False, True])
def test_dspys_context_reaches_its_program(asynchronous: bool) -> None:
    """`with dspy.context(lm=...)` around the ask."""
    dspy = real("dspy")
    from dspy.utils import DummyLM

    program = dspy.Predict("question -> answer")

    async def arun(payload: Any) -> Any:
        return (await program.acall(question=payload)).answer

    def run(payload: Any) -> Any:
        return program(question=payload).answer

    with pool_of(Member("m", arun if asynchronous else run)) as pool:
        for name in ("ann's", "bob's"):
            with dspy.context(lm=DummyLM([{"answer": name}])):
                assert pool.execute("hello", timeout=WAIT_S) == name


@pytest.mark.parametrize("asynchronous", [False, True])
def test_langchains_outer_callbacks_hear_the_agents_model(asynchronous: bool) -> None:
    """A pool that is asked inside of a chain: its agent's runs are children of the chain's."""
    real("langchain_core")
    from langchain_core.callbacks import BaseCallbackHandler
    from langchain_core.language_models import FakeListChatModel
    from langchain_core.runnables import RunnableLambda

    class Heard(BaseCallbackHandler):
        def __init__(self) -> None:
            self.parents = list[Any]()
            self.chain: Any = None

        def on_chain_start(self, *_: Any, run_id: Any, **__: Any) -> None:
            self.chain = run_id

        def on_chat_model_start(self, *_: Any, parent_run_id: Any = None, **__: Any) -> None:
            self.parents.append(parent_run_id)

    model, heard = FakeListChatModel(responses=["good"]), Heard()
    member = Member("m", model, method="ainvoke" if asynchronous else "invoke")
    with pool_of(member) as pool:
        chain: Any = RunnableLambda(lambda text: pool.execute(text, timeout=WAIT_S).content)
        assert chain.invoke("hello", config={"callbacks": [heard]}) == "good"
    assert heard.chain is not None
    assert heard.parents == [heard.chain]
