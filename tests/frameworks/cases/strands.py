"""strands: an agent keeps its conversation, so each request has one of its own."""

from __future__ import annotations

# recipe
from collections.abc import AsyncIterator
from typing import Any

from strands import Agent
from strands.agent import AgentResult
from strands.models.openai import OpenAIModel

from greenroom import Member


def agent(url: str, *tools: Any) -> Agent:
    client = {"base_url": url, "api_key": "...", "max_retries": 0}  # one switch
    model = OpenAIModel(client_args=client, model_id="gpt-5")
    return Agent(model, tools=[*tools], retry_strategy=None, callback_handler=None)  # the other


def text_of(result: AgentResult) -> str:
    text = str(result).strip()
    if not text:
        raise ConnectionError(f"no answer, or a part of one: {result.stop_reason}")
    return text


def member(name: str, url: str, *tools: Any) -> Member:
    async def ask(prompt: str) -> str:
        return text_of(await agent(url, *tools).invoke_async(prompt))

    return Member(name, ask)


def streaming(name: str, url: str) -> Member:
    async def texts(prompt: str) -> AsyncIterator[str]:
        async for event in agent(url).stream_async(prompt):
            if "data" in event:
                yield event["data"]
            elif "result" in event:
                text_of(event["result"])

    return Member(name, texts)


# end of recipe
from strands import tool as tool_of  # noqa: E402

from frameworks.case import KEY, Case, Tool  # noqa: E402


def own(url: str) -> Agent:
    model = OpenAIModel(client_args={"base_url": url, "api_key": KEY}, model_id="gpt-5")
    return Agent(model, callback_handler=None)


def plain(name: str, url: str) -> Member:
    return Member(name, own(url))


def unswitched(name: str, url: str) -> Member:
    return Member(name, own(url), method="invoke_async")  # said by name it is taken as it is


def tooled(name: str, url: str, tool: Tool) -> Member:
    return member(name, url, tool_of(tool))


CASE = Case(
    package="strands-agents",
    member=member,
    plain=plain,
    unswitched=unswitched,
    said=lambda value: str(value).strip(),
    why="callers share one conversation",
    streaming=streaming,
    tooled=tooled,
)
