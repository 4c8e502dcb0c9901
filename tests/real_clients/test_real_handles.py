"""What clients and frameworks of the dev extra return that is still to be read: the real classes.
Behaviours 243 and 244; the stand-ins of the others are in `test_stream_kinds.py`.
"""

from __future__ import annotations

import gc
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from helpers_pools import WAIT_S, pool_of

from greenroom import FailureKind, Member, Request, answers

httpx2 = pytest.importorskip("httpx2")
openai = pytest.importorskip("openai")
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """What is left open (a loop made in a member's thread) is collected where it is expected."""
    yield
    gc.collect()


QUESTION: Any = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def chunk(text: str, finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": finish}
    about = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return {**about, "choices": [choice]}


EVENTS = [json.dumps(chunk("fi")), json.dumps(chunk("ne", "stop")), "[DONE]"]


def served(_: Any) -> Any:
    """A server that streams an answer."""
    body = "".join(f"data: {each}\n\n" for each in EVENTS)
    return httpx2.Response(200, content=body, headers={"content-type": "text/event-stream"})


def a_client() -> Any:
    http = httpx2.AsyncClient(transport=httpx2.MockTransport(served))
    return openai.AsyncOpenAI(api_key="none", base_url="http://model/v1", http_client=http)


def client() -> Any:
    http = httpx2.Client(transport=httpx2.MockTransport(served))
    return openai.OpenAI(api_key="none", base_url="http://model/v1", http_client=http)


def openai_manager() -> Any:
    return client().chat.completions.stream(**QUESTION)


def openai_async_manager() -> Any:
    return a_client().chat.completions.stream(**QUESTION)


def texts(events: list[Any]) -> str:
    return "".join(each.delta for each in events if each.type == "content.delta")


def pydantic_agent() -> Any:
    module = pytest.importorskip("pydantic_ai")
    from pydantic_ai.models.test import TestModel

    return module.Agent(TestModel(custom_output_text="fine"))


def agents_run() -> Any:
    agents = pytest.importorskip("agents")
    agents.set_tracing_disabled(True)
    model = agents.OpenAIChatCompletionsModel("m", a_client())
    return agents.Runner.run_streamed(agents.Agent(name="assistant", model=model), "hi")


def raw_texts(events: list[Any]) -> str:
    raw = [each.data for each in events if each.type == "raw_response_event"]
    return "".join(each.delta for each in raw if each.type == "response.output_text.delta")


def pieces() -> Iterator[bytes]:
    yield b"fi"
    yield b"ne"


async def a_pieces() -> AsyncIterator[bytes]:
    yield b"fi"
    yield b"ne"


def httpx_stream() -> Any:
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, content=pieces()))
    return httpx2.Client(transport=transport).stream("GET", "http://model/")


def httpx_async_stream() -> Any:
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, content=a_pieces()))
    return httpx2.AsyncClient(transport=transport).stream("GET", "http://model/")


def joined(chunks: list[bytes]) -> str:
    return b"".join(chunks).decode()


RETURNED: dict[str, tuple[Callable[[], Any], Callable[[list[Any]], str], bool]] = {
    "openai, messages.stream": (openai_manager, texts, True),
    "openai, its async twin": (openai_async_manager, texts, False),
    "pydantic-ai, run_stream": (lambda: pydantic_agent().run_stream("hi"), "".join, False),
    "pydantic-ai, run_stream_sync": (
        lambda: pydantic_agent().run_stream_sync("hi"),
        "".join,
        True,
    ),
    "openai-agents, run_streamed": (agents_run, raw_texts, False),
    "httpx, stream": (httpx_stream, joined, True),
    "httpx, its async twin": (httpx_async_stream, joined, False),
}
"""What is returned, its text, and whether it must not be called on a loop."""


@pytest.mark.parametrize(("make", "text", "sync"), RETURNED.values(), ids=RETURNED)
def test_what_is_returned_unread_is_read(
    make: Callable[[], Any], text: Callable[[list[Any]], str], sync: bool
) -> None:
    """By `stream` as it comes, by `ask` in a list."""

    async def on_loop(_: Any) -> Any:
        return make()

    def in_thread(_: Any) -> Any:
        return make()

    with pool_of(Member("a", in_thread if sync else on_loop)) as pool:
        assert text(pool.stream(Request("x"), timeout=WAIT_S).collect()) == "fine"
        assert text(pool.execute("x", timeout=WAIT_S)) == "fine"


@pytest.mark.parametrize("method", ["run_stream", "run_stream_sync"])
def test_an_agent_of_pydantic_ai_streams_by_its_own_method(method: str) -> None:
    """As it is, without a function around it."""
    with pool_of(Member("a", pydantic_agent(), method=method)) as pool:
        chunks = pool.stream(Request("x"), timeout=WAIT_S).collect()
        assert "".join(chunks) == "fine"
        assert "".join(pool.execute("x", timeout=WAIT_S)) == "fine"


def test_events_of_pydantic_ai_are_read_by_their_method() -> None:
    """What `run_stream_events` gives has nothing but a way in."""
    agent = pydantic_agent()
    with pool_of(Member("a", agent, method="run_stream_events")) as pool:
        events = pool.stream(Request("x"), timeout=WAIT_S).collect()
    assert events[-1].result.output == "fine"


def adk_event(**values: Any) -> Any:
    pytest.importorskip("google.adk")
    from google.adk.events.event import Event

    return Event(author="assistant", invocation_id="1", **values)


def adk_says(text: str) -> Any:
    pytest.importorskip("google.adk")
    from google.genai import types

    return types.Content(role="model", parts=[types.Part(text=text)])


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("503", "unavailable"),
        ("429", "rate_limited"),
        ("ConnectionError", "unavailable"),
        ("TimeoutError", "timeout"),
        ("RESOURCE_EXHAUSTED", "rate_limited"),
        ("401", "auth"),
        ("MALFORMED_FUNCTION_CALL", "unavailable"),
        ("MAX_TOKENS", "too_large"),
    ],
)
def test_an_error_event_of_adk_is_a_failure_of_its_kind(code: str, kind: str) -> None:
    """By its code, of a server, of a class, or of a model's end; an event without content does not
    begin the stream.
    """

    events = [adk_event(), adk_event(error_code=code, error_message="down")]

    async def agent(_: Any) -> AsyncIterator[Any]:
        for each in events:
            yield each

    with pool_of(Member("a", agent), Member("b", str.upper, priority=1)) as pool:
        reply = pool.ask(Request("x"), timeout=WAIT_S)
        assert (reply.value, reply.errors[0].kind) == ("X", kind)
        assert pool.stream(Request("x"), timeout=WAIT_S).collect() == ["X"]


def test_a_content_filter_in_an_event_of_adk_is_the_callers() -> None:
    """No other member is asked."""
    fault = answers.auto(adk_event(error_code="SAFETY"))
    assert fault is not None
    assert fault.kind is FailureKind.CALLER


def test_events_of_adk_with_content_are_good() -> None:
    """Also one that was cut off at its length: its consumer has had it."""
    said = adk_event(content=adk_says("fine"))
    cut = adk_event(content=adk_says("fi"), error_code="MAX_TOKENS")
    assert answers.auto(said) is None
    assert answers.auto(cut) is None
    assert answers.is_empty_chunk(adk_event())
    assert not answers.is_empty_chunk(said)


def test_a_tool_of_langchain_that_says_it_has_failed_has() -> None:
    """As an MCP tool's result."""
    pytest.importorskip("langchain_core")
    from langchain_core.messages import ToolMessage

    bad = ToolMessage(content="no such city", tool_call_id="1", status="error")
    fault = answers.auto(bad)
    assert fault is not None
    assert fault.reason == "a tool's result that says it is an error"
    assert answers.auto(ToolMessage(content="12 degrees", tool_call_id="1")) is None
