"""Clients that nobody here wrote use a served pool as they use OpenAI. Behaviour 197.

`make test-clients ARGS=serve` has all of them; elsewhere what is not installed is skipped.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from helpers_pools import WAIT_S
from helpers_serving import KEY, Served, served

from greenroom import CallContext, Member
from greenroom.testing import http_error

USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}


class Model:
    """A member that answers by word, or as the prompt wants."""

    async def arun(self, prompt: Any, context: CallContext) -> Any:
        if "wrong" in prompt:
            raise http_error(429, retry_after_s=9)
        context.describe(model="m-1", usage=USAGE)
        if prompt.params.get("tools") and prompt.messages[-1]["role"] == "user":
            return {"role": "assistant", "content": None, "tool_calls": [CALL]}
        return "one two"

    async def astream(self, prompt: Any, context: CallContext) -> AsyncIterator[str]:
        if "wrong" in prompt:
            raise http_error(429, retry_after_s=9)
        context.describe(model="m-1", usage=USAGE)
        yield "one "
        if "cut" in prompt:
            raise ConnectionError
        yield "two"


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served(Member("m", Model()), key=KEY, config={"max_retries": 0}) as server:
        yield server


def real(package: str) -> Any:
    """The package, or a skip that says where there is one."""
    return pytest.importorskip(
        package, reason=f"{package} is not installed: make test-clients ARGS=serve has it"
    )


def messages(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


# -- openai


@pytest.fixture
def openai(server: Served) -> Iterator[Any]:
    client = real("openai").OpenAI(base_url=server.url, api_key=KEY, max_retries=0, timeout=WAIT_S)
    with client:
        yield client


def test_openai_asks(openai: Any) -> None:
    """An answer, its model and its usage."""
    answer = openai.chat.completions.create(model="pool", messages=messages("hi"), temperature=0)
    assert answer.choices[0].message.content == "one two"
    assert (answer.model, answer.usage.total_tokens) == ("m-1", 5)
    assert answer._request_id == answer.id


def test_openai_streams(openai: Any) -> None:
    """Chunks, the usage at the end."""
    stream = openai.chat.completions.create(
        model="pool", messages=messages("hi"), stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    texts = [each.choices[0].delta.content for each in chunks if each.choices]
    assert [text for text in texts if text] == ["one ", "two"]
    assert chunks[-1].usage.total_tokens == 5
    assert chunks[-2].choices[0].finish_reason == "stop"


def test_openai_streams_with_its_helper(openai: Any) -> None:
    """Which puts a whole answer together of the events."""
    with openai.chat.completions.stream(model="pool", messages=messages("hi")) as stream:
        assert stream.get_final_completion().choices[0].message.content == "one two"


def test_openai_gets_tool_calls(openai: Any) -> None:
    """As it sends them back."""
    answer = openai.chat.completions.create(model="pool", messages=messages("hi"), tools=[TOOL])
    choice = answer.choices[0]
    assert (choice.finish_reason, choice.message.tool_calls[0].function.name) == (
        "tool_calls",
        "add",
    )


def test_openai_lists_models(openai: Any) -> None:
    """And finds one."""
    assert [each.id for each in openai.models.list()] == ["pool", "greenroom"]
    assert openai.models.retrieve("pool").owned_by == "greenroom"


def test_openai_raises_what_it_raises_of_openai(openai: Any, server: Served) -> None:
    """Each error as its own class, with the code and the wait."""
    package = real("openai")
    create = openai.chat.completions.create
    with pytest.raises(package.RateLimitError) as limited:
        create(model="pool", messages=messages("wrong"))
    assert limited.value.code == "rate_limit_exceeded"
    assert int(limited.value.response.headers["retry-after"]) >= 8
    with pytest.raises(package.RateLimitError):
        create(model="pool", messages=messages("wrong"), stream=True)
    server.pool.reset_all()
    with pytest.raises(package.NotFoundError) as unknown:
        create(model="other", messages=messages("hi"))
    assert unknown.value.code == "model_not_found"
    with pytest.raises(package.BadRequestError) as bad:
        create(model="pool", messages=[])
    assert bad.value.param == "messages"
    with pytest.raises(package.AuthenticationError):
        openai.with_options(api_key="other").models.list()


def test_openai_raises_where_a_stream_breaks_off(openai: Any) -> None:
    """Instead of taking what has come for the whole."""
    stream = openai.chat.completions.create(model="pool", messages=messages("cut"), stream=True)
    assert next(stream).choices[0].delta.content == "one "
    with pytest.raises(real("openai").APIError) as broken:
        list(stream)
    assert broken.value.code == "stream_interrupted"


# -- pydantic-ai


@asynccontextmanager
async def agent(server: Served) -> AsyncIterator[Any]:
    """One of pydantic-ai's."""
    real("pydantic_ai")
    from openai import AsyncOpenAI
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    async with AsyncOpenAI(base_url=server.url, api_key=KEY, max_retries=0) as client:
        yield Agent(OpenAIChatModel("pool", provider=OpenAIProvider(openai_client=client)))


def test_pydantic_ai_runs_with_a_tool(server: Served) -> None:
    """The model calls it, is told what came of it, and answers."""
    called: list[int] = []

    def add(a: int) -> int:
        called.append(a)
        return a + 1

    async def main() -> Any:
        async with agent(server) as made:
            made.tool_plain(add)
            return (await made.run("hi")).output

    assert (asyncio.run(main()), called) == ("one two", [1])


def test_pydantic_ai_streams(server: Served) -> None:
    """By its own events."""

    async def main() -> str:
        async with agent(server) as made, made.run_stream("hi") as result:
            return "".join([text async for text in result.stream_text(delta=True)])

    assert asyncio.run(main()) == "one two"


def test_pydantic_ai_raises(server: Served) -> None:
    """What it raises of a provider that throttles."""

    async def main() -> None:
        async with agent(server) as made:
            await made.run("wrong")

    with pytest.raises(Exception, match="status_code: 429"):
        asyncio.run(main())
    server.pool.reset_all()


# -- curl


def curl(server: Served, *arguments: str, text: str = "hi", **more: Any) -> str:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    body = json.dumps({"model": "pool", "messages": messages(text), **more})
    done = subprocess.run(
        ["curl", "-sS", "--noproxy", "*", "-m", str(WAIT_S), f"{server.url}/chat/completions",
         "-H", "content-type: application/json", "-H", f"authorization: Bearer {KEY}",
         "-d", body, *arguments],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout


def test_curl_asks(server: Served) -> None:
    """With the line that stands in everybody's documentation."""
    assert json.loads(curl(server))["choices"][0]["message"]["content"] == "one two"


def test_curl_streams(server: Served) -> None:
    """The events, to the end."""
    events = curl(server, "-N", stream=True).strip().split("\n\n")
    assert events[-1] == "data: [DONE]"
    assert '"content":"one "' in events[0]
