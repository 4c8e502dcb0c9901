"""ag2: `Agent.ask`, and its text in chunks."""

from __future__ import annotations

# recipe
import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx2
from ag2 import Agent
from ag2.config import OpenAIConfig
from ag2.events import ModelMessageChunk

from greenroom import Member


def agent(url: str, *tools: Any, **settings: Any) -> Agent:
    config = OpenAIConfig("gpt-5", "...", url, max_retries=0, **settings)  # the switch
    return Agent("a", config=config, tools=tools)


def member(name: str, url: str, *tools: Any) -> Member:
    return Member(name, agent(url, *tools), method="ask")  # its answer: reply.value.body


def streaming(name: str, url: str) -> Member:
    async def texts(prompt: str) -> AsyncIterator[str]:
        chunks = asyncio.Queue[ModelMessageChunk | None]()
        async with (
            httpx2.AsyncClient(timeout=31) as http,  # a stream that is left ends with its client
            agent(url, streaming=True, http_client=http).run(prompt) as run,
        ):
            with run.stream.where(ModelMessageChunk).sub_scope(chunks.put):
                result = asyncio.ensure_future(run.result())
                result.add_done_callback(lambda _: chunks.put_nowait(None))
                while chunk := await chunks.get():
                    yield chunk.content
                if (await result).response.finish_reason is None:
                    raise ConnectionError("the stream broke off")

    return Member(name, texts)


# end of recipe
from ag2 import tool as tool_of  # noqa: E402

from frameworks.case import KEY, Case, Tool  # noqa: E402


def own(url: str) -> Agent:
    return Agent("a", config=OpenAIConfig("gpt-5", KEY, url))


def plain(name: str, url: str) -> Member:
    return Member(name, own(url))


def unswitched(name: str, url: str) -> Member:
    return Member(name, own(url), method="ask")


def tooled(name: str, url: str, tool: Tool) -> Member:
    return member(name, url, tool_of(tool))


CASE = Case(
    package="ag2",
    member=member,
    plain=plain,
    said=lambda value: str(value.body),
    unswitched=unswitched,
    streaming=streaming,
    tooled=tooled,
)
