"""autogen: an agent keeps its conversation, so each request has one of its own."""

from __future__ import annotations

# recipe
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.messages import ModelClientStreamingChunkEvent
from autogen_ext.models.openai import OpenAIChatCompletionClient

from greenroom import Member


@asynccontextmanager
async def client(url: str) -> AsyncIterator[OpenAIChatCompletionClient]:
    made = OpenAIChatCompletionClient(
        model="gpt-5", base_url=url, api_key="...", max_retries=0
    )  # the switch
    try:
        yield made
    finally:
        await made.close()


def member(name: str, url: str, *tools: Any) -> Member:
    @asynccontextmanager
    async def agent() -> AsyncIterator[Any]:
        async with client(url) as model:

            async def ask(prompt: str) -> str:
                fresh = AssistantAgent("a", model, tools=[*tools], reflect_on_tool_use=True)
                result = await fresh.run(task=prompt)
                return str(result.messages[-1].to_text())

            yield ask

    return Member(name, factory=agent)


def streaming(name: str, url: str) -> Member:
    async def texts(prompt: str) -> AsyncIterator[str]:
        async with client(url) as model:  # one for each: a stream that is left ends with its client
            fresh = AssistantAgent("a", model, model_client_stream=True)
            async for event in fresh.run_stream(task=prompt):
                if isinstance(event, ModelClientStreamingChunkEvent):
                    yield event.content

    return Member(name, texts)


# end of recipe
from frameworks.case import KEY, Case, Tool  # noqa: E402


def own(url: str) -> AssistantAgent:
    return AssistantAgent("a", OpenAIChatCompletionClient(model="gpt-5", base_url=url, api_key=KEY))


def plain(name: str, url: str) -> Member:
    return Member(name, own(url))


def unswitched(name: str, url: str) -> Member:
    agent = own(url)

    async def ask(prompt: str) -> str:
        return str((await agent.run(task=prompt)).messages[-1].to_text())

    return Member(name, ask)


def tooled(name: str, url: str, tool: Tool) -> Member:
    async def look() -> str:
        """Look at the weather."""
        return tool()

    return member(name, url, look)


CASE = Case(
    package="autogen-agentchat",
    member=member,
    plain=plain,
    said=str,
    unswitched=unswitched,
    why="`run` takes its task by name only, and callers share one conversation",
    streaming=streaming,
    tooled=tooled,
)
