"""llama-index: `run` wants a loop, and returns a handler of what runs."""

from __future__ import annotations

# recipe
import asyncio
from collections.abc import AsyncIterator
from typing import Any

from llama_index.core.agent.workflow import AgentOutput, AgentStream, FunctionAgent
from llama_index.llms.openai_like import OpenAILike

from greenroom import Member


def agent(url: str, *tools: Any) -> FunctionAgent:
    llm = OpenAILike(
        model="gpt-5",
        api_base=url,
        api_key="...",
        max_retries=0,  # the switch
        is_chat_model=True,
        is_function_calling_model=True,
    )
    return FunctionAgent(llm=llm, tools=list(tools))


def member(name: str, url: str) -> Member:
    made = agent(url)

    async def run(prompt: str) -> AgentOutput:
        handler = made.run(prompt)
        try:
            return await asyncio.shield(handler)
        finally:
            await handler.cancel_run()  # without this a cancelled request runs on

    return Member(name, run)  # its answer: reply.value.response.content


def streaming(name: str, url: str) -> Member:
    made = agent(url)

    async def texts(prompt: str) -> AsyncIterator[str]:
        handler = made.run(prompt)
        try:
            async for event in handler.stream_events():
                if isinstance(event, AgentStream) and event.delta:
                    yield event.delta
            await handler  # raises what has gone wrong
        finally:
            await handler.cancel_run()

    return Member(name, texts)


# end of recipe
from frameworks import case  # noqa: E402


def plain(name: str, url: str) -> Member:
    return Member(name, unswitched_agent(url))


def unswitched_agent(url: str) -> FunctionAgent:
    llm = OpenAILike(
        model="gpt-5",
        api_base=url,
        api_key=case.KEY,
        is_chat_model=True,
        is_function_calling_model=True,
    )
    return FunctionAgent(llm=llm)


def unswitched(name: str, url: str) -> Member:
    made = unswitched_agent(url)

    async def run(prompt: str) -> AgentOutput:
        return await made.run(prompt)

    return Member(name, run)


def tooled(name: str, url: str, tool: case.Tool) -> Member:
    made = agent(url, tool)

    async def run(prompt: str) -> AgentOutput:
        return await made.run(prompt)

    return Member(name, run)


CASE = case.Case(
    package="llama-index-core",
    member=member,
    plain=plain,
    unswitched=unswitched,
    why="`run` wants a running loop, and returns a handler",
    said=lambda value: str(value.response.content),
    streaming=streaming,
    tooled=tooled,
)
