"""agno: a run that failed is a value with a status, an event in a stream."""

from __future__ import annotations

# recipe
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Any

from agno.agent import Agent
from agno.models.openai import OpenAIChat
from agno.models.response import ModelResponse
from agno.run import RunStatus
from agno.run.agent import RunContentEvent, RunErrorEvent, RunOutput

from greenroom import Member

ERRORS: ContextVar[list[Exception]] = ContextVar("errors")  # of one run


class Model(OpenAIChat):
    """Keeps its errors, of which an agent keeps no more than the text."""

    async def ainvoke(self, *args: Any, **settings: Any) -> ModelResponse:
        try:
            return await super().ainvoke(*args, **settings)
        except Exception as error:
            ERRORS.get().append(error)
            raise

    async def ainvoke_stream(self, *args: Any, **settings: Any) -> AsyncIterator[ModelResponse]:
        try:
            async for response in super().ainvoke_stream(*args, **settings):
                yield response
        except Exception as error:
            ERRORS.get().append(error)
            raise


def agent(url: str, *tools: Any) -> Agent:
    model = Model(id="gpt-5", base_url=url, api_key="...", max_retries=0)  # the switch
    return Agent(model=model, tools=list(tools), telemetry=False)


def failure(text: Any) -> Exception:
    errors = ERRORS.get()
    return errors[-1] if errors else RuntimeError(str(text))


def member(name: str, url: str, *tools: Any) -> Member:
    made = agent(url, *tools)

    async def run(prompt: str) -> RunOutput:
        ERRORS.set([])
        output = await made.arun(prompt)
        if output.status is RunStatus.error:
            raise failure(output.content)
        return output

    return Member(name, run)  # its answer: reply.value.content


def streaming(name: str, url: str) -> Member:
    made = agent(url)

    async def texts(prompt: str) -> AsyncIterator[str]:
        ERRORS.set([])
        async for event in made.arun(prompt, stream=True):
            if isinstance(event, RunErrorEvent):
                raise failure(event.content)
            if isinstance(event, RunContentEvent):
                yield event.content

    return Member(name, texts)


# end of recipe
from frameworks import case  # noqa: E402


def plain(name: str, url: str) -> Member:
    model = OpenAIChat(id="gpt-5", base_url=url, api_key=case.KEY)
    return Member(name, Agent(model=model, telemetry=False))


CASE = case.Case(
    package="agno",
    member=member,
    plain=plain,
    why="a failed run keeps no more of its error than the text",
    said=lambda value: str(value.content),
    streaming=streaming,
    tooled=member,
)
