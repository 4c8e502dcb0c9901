"""agno: a run that failed is a value with a status, an event in a stream."""

from __future__ import annotations

# recipe
from collections.abc import AsyncIterator
from typing import Any

from agno.agent import Agent
from agno.models.openai import OpenAIChat
from agno.run import RunStatus
from agno.run.agent import RunContentEvent, RunErrorEvent, RunOutput

from greenroom import Member


def agent(url: str, *tools: Any) -> Agent:
    model = OpenAIChat(id="gpt-5", base_url=url, api_key="...", max_retries=0)  # the switch
    return Agent(model=model, tools=list(tools), telemetry=False)


def member(name: str, url: str) -> Member:
    made = agent(url)

    async def run(prompt: str) -> RunOutput:
        output = await made.arun(prompt)
        if output.status is RunStatus.error:
            raise RuntimeError(output.content)
        return output

    return Member(name, run)  # its answer: reply.value.content


def streaming(name: str, url: str) -> Member:
    made = agent(url)

    async def texts(prompt: str) -> AsyncIterator[str]:
        async for event in made.arun(prompt, stream=True):
            if isinstance(event, RunErrorEvent):
                raise RuntimeError(event.content)
            if isinstance(event, RunContentEvent):
                yield event.content

    return Member(name, texts)


# end of recipe
from frameworks import case  # noqa: E402


def plain(name: str, url: str) -> Member:
    model = OpenAIChat(id="gpt-5", base_url=url, api_key=case.KEY)
    return Member(name, Agent(model=model, telemetry=False))


def tooled(name: str, url: str, tool: case.Tool) -> Member:
    return Member(name, agent(url, tool))


CASE = case.Case(
    package="agno",
    member=member,
    plain=plain,
    why="a failed run is an answer",
    said=lambda value: str(value.content),
    streaming=streaming,
    tooled=tooled,
)
