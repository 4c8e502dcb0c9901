"""semantic-kernel: `get_response`, and its text in chunks."""

from __future__ import annotations

# recipe
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from openai import AsyncOpenAI
from semantic_kernel.agents import ChatCompletionAgent
from semantic_kernel.connectors.ai.open_ai import OpenAIChatCompletion

from greenroom import Member


@asynccontextmanager
async def agent(url: str, *plugins: Any) -> AsyncIterator[ChatCompletionAgent]:
    async with AsyncOpenAI(base_url=url, api_key="...", max_retries=0) as client:  # the switch
        service = OpenAIChatCompletion("gpt-5", async_client=client)
        yield ChatCompletionAgent(name="a", service=service, plugins=[*plugins])


def member(name: str, url: str, *plugins: Any) -> Member:
    # its answer: str(reply.value)
    return Member(name, factory=lambda: agent(url, *plugins), method="get_response")


def streaming(name: str, url: str) -> Member:
    async def texts(prompt: str) -> AsyncIterator[str]:
        async with agent(url) as made:  # one for each: a stream that is left ends with its client
            async for item in made.invoke_stream(prompt):
                yield str(item)

    return Member(name, texts)


# end of recipe
from semantic_kernel.functions import kernel_function  # noqa: E402

from frameworks.case import KEY, Case, Tool  # noqa: E402


def own(url: str) -> ChatCompletionAgent:
    client = AsyncOpenAI(base_url=url, api_key=KEY)
    service = OpenAIChatCompletion("gpt-5", async_client=client)
    return ChatCompletionAgent(name="a", service=service)


def plain(name: str, url: str) -> Member:
    return Member(name, own(url))


def unswitched(name: str, url: str) -> Member:
    return Member(name, own(url), method="get_response")


def tooled(name: str, url: str, tool: Tool) -> Member:
    class Looking:
        look = staticmethod(kernel_function(tool))

    return member(name, url, Looking())


CASE = Case(
    package="semantic-kernel",
    member=member,
    plain=plain,
    said=str,
    unswitched=unswitched,
    why="`invoke` streams messages: the answer is a list",
    streaming=streaming,
    tooled=tooled,
)
