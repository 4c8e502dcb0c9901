"""A model behind the endpoint: here another endpoint, by the real client. Behaviours 198, 199."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from helpers_serving import Served, served

from greenroom import CallContext, Member
from greenroom.kinds import OpenAIAgent

USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


class Backend:
    """Answers what it was told to, and keeps what it was asked."""

    def __init__(self) -> None:
        self.answer: Any = "hello"
        self.finish = "stop"
        self.asked: list[Any] = []

    async def arun(self, prompt: Any, context: CallContext) -> Any:
        self.asked.append(prompt)
        context.describe(model="m-1", usage=USAGE, finish_reason=self.finish)
        return self.answer

    async def astream(self, prompt: Any, context: CallContext) -> AsyncIterator[Any]:
        yield await self.arun(prompt, context)


@contextlib.contextmanager
def behind(backend: Backend, **settings: Any) -> Iterator[Served]:
    """A pool of one model whose server is this."""
    with served(Member("backend", backend), name="inner", models=("pool",)) as inner:
        agent = OpenAIAgent("pool", base_url=inner.url, **settings)

        async def close(agent: Any) -> None:
            await agent.aclose()

        with served(Member("model", agent, close=close)) as outer:
            yield outer


def test_parameters_and_messages_reach_the_model() -> None:
    """As they are; those of the member stand where the request says nothing."""
    backend = Backend()
    with behind(backend, params={"temperature": 1, "seed": 7}, system="Be short.") as server:
        server.chat("hi", temperature=0, user="u-1")
        server.post({"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]})
    first, second = backend.asked
    assert dict(first.params) == {"temperature": 0, "seed": 7, "user": "u-1"}
    assert [each["content"] for each in first.messages] == ["Be short.", "hi"]
    assert second.messages[1]["content"] == [{"type": "text", "text": "x"}]


@pytest.mark.parametrize("stream", [False, True])
def test_the_model_that_has_answered_and_its_usage(stream: bool) -> None:
    """Come from its server; of a stream at its end, if the usage was asked for."""
    more = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    with behind(Backend()) as server:
        answer = server.chat(**more)
    said = answer.events[-2] if stream else answer.said
    assert (said["model"], said["usage"]) == ("m-1", USAGE)
    assert stream is (said["choices"] == [])


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_of_the_length_that_was_asked_for_is_whole(stream: bool) -> None:
    """Who sets a limit gets what fits; else it is cut, and another member is asked."""
    backend = Backend()
    backend.finish = "length"
    with behind(backend) as server:
        limited = server.chat(stream=stream, max_tokens=1)
        cut = server.chat()
    last = limited.events[-2] if stream else limited.said
    assert last["choices"][0]["finish_reason"] == "length"
    assert (cut.status, cut.error["code"]) == (400, "context_length_exceeded")


@pytest.mark.parametrize("stream", [False, True])
def test_tool_calls_of_the_model(stream: bool) -> None:
    """Pass through, the tools to it and the calls back."""
    backend = Backend()
    backend.answer = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    tools = [{"type": "function", "function": {"name": "f"}}]
    with behind(backend) as server:
        answer = server.chat(stream=stream, tools=tools)
    assert backend.asked[0].params["tools"] == tools
    if stream:
        assert answer.events[0]["choices"][0]["delta"]["tool_calls"] == [{"index": 0, **CALL}]
    else:
        assert answer.said["choices"][0]["message"]["tool_calls"] == [CALL]


def test_a_key_of_a_cache_keeps_a_client_with_one_member() -> None:
    """It is the routing key, which strategies may go by; without one the user is."""
    seen: list[str | None] = []

    async def agent(prompt: str, context: CallContext) -> str:
        seen.append(context.key)
        return prompt

    with served(Member("m", agent)) as server:
        server.chat(prompt_cache_key="conversation-1", user="u")
        server.chat(user="u")
        server.chat(user="")
    assert seen == ["conversation-1", "u", None]
