"""openai-agents: an `Agent` has no method that runs it, `Runner` has."""

from __future__ import annotations

# recipe
from collections.abc import AsyncIterator
from typing import Final

from agents import Agent, OpenAIChatCompletionsModel, Runner, RunResult, Tool
from openai import AsyncOpenAI

from greenroom import Member

TEXT: Final = "response.output_text.delta"


def agent(url: str, *tools: Tool) -> Agent:
    client = AsyncOpenAI(base_url=url, api_key="...", max_retries=0)  # the switch
    model = OpenAIChatCompletionsModel("gpt-5", client)
    return Agent("writer", model=model, tools=list(tools))


def member(name: str, url: str) -> Member:
    made = agent(url)

    async def run(prompt: str) -> RunResult:
        return await Runner.run(made, prompt)

    return Member(name, run)  # its answer: reply.value.final_output


def streaming(name: str, url: str) -> Member:
    made = agent(url)

    async def texts(prompt: str) -> AsyncIterator[str]:
        result = Runner.run_streamed(made, prompt)
        try:
            async for event in result.stream_events():
                if event.type == "raw_response_event" and event.data.type == TEXT:
                    yield event.data.delta
        finally:
            result.cancel()  # whoever leaves early ends the run

    return Member(name, texts)


# end of recipe
from agents import function_tool  # noqa: E402

from frameworks import case  # noqa: E402


def plain(name: str, url: str) -> Member:
    return Member(name, agent(url))


def unswitched(name: str, url: str) -> Member:
    client = AsyncOpenAI(base_url=url, api_key=case.KEY)
    made = Agent("writer", model=OpenAIChatCompletionsModel("gpt-5", client))
    return Member(name, lambda prompt: Runner.run(made, prompt))


def tooled(name: str, url: str, tool: case.Tool) -> Member:
    made = agent(url, function_tool(tool))
    return Member(name, lambda prompt: Runner.run(made, prompt))


CASE = case.Case(
    package="openai-agents",
    member=member,
    plain=plain,
    unswitched=unswitched,
    why="it is `Runner` that runs it",
    said=lambda value: str(value.final_output),
    streaming=streaming,
    tooled=tooled,
)
