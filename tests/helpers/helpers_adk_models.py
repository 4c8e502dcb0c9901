"""What the tests of models and agents of ADK's share: models that follow a script, and runs."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from google.adk.agents import BaseAgent, LlmAgent
from google.adk.agents.run_config import RunConfig
from google.adk.events import Event
from google.adk.models import BaseLlm, LlmCapabilities
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.adk.runners import InMemoryRunner
from google.genai import types
from pydantic import PrivateAttr

HANG = object()
"""In a script: nothing more comes."""
ANSWER = "the answer"


def whole(*parts: str | types.Part, **said: Any) -> LlmResponse:
    """A whole response."""
    made = [types.Part(text=each) if isinstance(each, str) else each for each in parts]
    said.setdefault("finish_reason", types.FinishReason.STOP)
    return LlmResponse(content=types.Content(role="model", parts=made), **said)


def piece(text: str, **said: Any) -> LlmResponse:
    """A part of one, as they are streamed."""
    return whole(text, partial=True, finish_reason=None, **said)


def thought(text: str) -> types.Part:
    return types.Part(text=text, thought=True)


def call(name: str, **arguments: Any) -> types.Part:
    return types.Part(function_call=types.FunctionCall(name=name, args=arguments))


def error(code: str, message: str = "as it says", **said: Any) -> LlmResponse:
    """A response with an error in it."""
    return LlmResponse(error_code=code, error_message=message, **said)


class ScriptedModel(BaseLlm):
    """A model without a backend.

    Args:
        model: its name.
        turns: what each call gives, the last of them for ever: a text, or a list of responses, of
            errors that are raised, of `HANG`, and of functions, also async ones, that are called
            with the request.
        able: whether it can have tools and an output schema at a time.

    Attributes:
        calls: how often it was asked.
        requests: what it was asked, as it was then.
        tasks: in which tasks it has run.
        closed: how many of its generators have come to their end, by whatever way.
    """

    _turns: list[Any] = PrivateAttr()
    _requests: list[LlmRequest] = PrivateAttr(default_factory=list)
    _tasks: list[Any] = PrivateAttr(default_factory=list)
    _closed: int = PrivateAttr(default=0)
    _able: bool = PrivateAttr()

    def __init__(self, model: str, *turns: Any, able: bool = False) -> None:
        super().__init__(model=model)
        self.follow(*turns or (ANSWER,))
        self._able = able

    def follow(self, *turns: Any) -> None:
        """Another script."""
        self._turns = list(turns)

    @property
    def capabilities(self) -> LlmCapabilities:
        return LlmCapabilities(output_schema_and_tools=self._able)

    @property
    def calls(self) -> int:
        return len(self._requests)

    @property
    def requests(self) -> list[LlmRequest]:
        return self._requests

    @property
    def tasks(self) -> list[Any]:
        return self._tasks

    @property
    def closed(self) -> int:
        return self._closed

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        self._requests.append(llm_request)
        self._tasks.append(asyncio.current_task())
        turn = self._turns.pop(0) if len(self._turns) > 1 else self._turns[0]
        items = turn if isinstance(turn, list) else [turn]
        try:
            for item in items:
                if item is HANG:
                    await asyncio.Event().wait()
                elif isinstance(item, BaseException):
                    raise item
                elif isinstance(item, str):
                    for each in self._said(item, stream):
                        yield each
                elif isinstance(item, LlmResponse):
                    yield item.model_copy(deep=True)
                elif inspect.isawaitable(said := item(llm_request)):
                    await said
        finally:
            self._closed += 1

    def _said(self, text: str, stream: bool) -> list[LlmResponse]:
        last = whole(text, partial=False if stream else None, model_version=self.model)
        if not stream:
            return [last]
        at = len(text) // 2
        return [piece(text[:at]), piece(text[at:]), last]


def request(text: str = "hello", **said: Any) -> LlmRequest:
    """A request to a model."""
    return LlmRequest(contents=[types.UserContent(text)], **said)


async def responses(
    model: BaseLlm, asked: LlmRequest | None = None, stream: bool = False
) -> list[LlmResponse]:
    """All that a model says."""
    given = request() if asked is None else asked
    return [each async for each in model.generate_content_async(given, stream)]


def texts(said: Sequence[LlmResponse]) -> list[str]:
    """Their texts."""
    found = []
    for each in said:
        parts = each.content.parts if each.content is not None else None
        found.append("".join(part.text or "" for part in parts or ()))
    return found


def agent_on(model: BaseLlm, **options: Any) -> LlmAgent:
    """An agent that asks that model."""
    return LlmAgent(name="writer", model=model, **options)


async def turns(agent: BaseAgent, *messages: str, stream: bool = False) -> list[list[Event]]:
    """The events of so many turns of one conversation."""
    runner = InMemoryRunner(agent=agent, app_name="tests")
    session = await runner.session_service.create_session(app_name="tests", user_id="user")
    config = RunConfig.model_validate({"streaming_mode": "sse" if stream else None})
    return [
        [
            event
            async for event in runner.run_async(
                user_id="user",
                session_id=session.id,
                new_message=types.UserContent(message),
                run_config=config,
            )
        ]
        for message in messages
    ]
