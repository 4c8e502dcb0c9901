"""pydantic-ai: `Agent.run`, and its text in chunks."""

from __future__ import annotations

# recipe
from collections.abc import AsyncIterator
from typing import Any

from openai import AsyncOpenAI
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.profiles.openai import OpenAIModelProfile
from pydantic_ai.providers.openai import OpenAIProvider

from greenroom import Member


def agent(url: str, *tools: Any) -> Agent:
    client = AsyncOpenAI(base_url=url, api_key="...", max_retries=0)  # the switch
    ends = OpenAIModelProfile(openai_chat_streaming_requires_finish_reason=True)
    provider = OpenAIProvider(openai_client=client)
    return Agent(OpenAIChatModel("gpt-5", provider=provider, profile=ends), tools=tools)


def member(name: str, url: str) -> Member:
    return Member(name, agent(url))  # its answer: reply.value.output


def streaming(name: str, url: str) -> Member:
    made = agent(url)

    async def texts(prompt: str) -> AsyncIterator[str]:
        async with made.run_stream(prompt) as result:
            async for text in result.stream_text(delta=True, debounce_by=None):
                yield text

    return Member(name, texts)


# end of recipe
from frameworks.case import KEY, Case, Tool  # noqa: E402


def plain(name: str, url: str) -> Member:
    provider = OpenAIProvider(base_url=url, api_key=KEY)
    return Member(name, Agent(OpenAIChatModel("gpt-5", provider=provider)))


def tooled(name: str, url: str, tool: Tool) -> Member:
    return Member(name, agent(url, tool))


CASE = Case(
    package="pydantic-ai-slim",
    member=member,
    plain=plain,
    said=lambda value: str(value.output),
    streaming=streaming,
    tooled=tooled,
)
