"""pydantic-ai's FallbackModel over three FunctionModels, asked as its agents ask a model.

`FallbackModel.request` and not `Agent.run`: the agent's own graph around it would be added to its
cost. The functions answer with one fixed text, whose tokens it counts. Failover: the first function
raises the error of an HTTP 500.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any

from benchmarks.measure import AsyncAsk
from benchmarks.peers.base import Peer, Stream

_messages: Any = import_module("pydantic_ai.messages")
_models: Any = import_module("pydantic_ai.models")
_function: Any = import_module("pydantic_ai.models.function")
_fallback: Any = import_module("pydantic_ai.models.fallback")
_errors: Any = import_module("pydantic_ai.exceptions")

PROMPT = [_messages.ModelRequest(parts=[_messages.UserPromptPart("hello")])]


async def _works(messages: Any, info: Any) -> Any:
    return _messages.ModelResponse(parts=[_messages.TextPart("hello")])


async def _fails(messages: Any, info: Any) -> Any:
    raise _errors.ModelHTTPError(500, "first")


class PydanticAiFallback(Peer):
    """Three models, tried in order."""

    @asynccontextmanager
    async def async_call(
        self, *, failing: bool = False, members: int = 3
    ) -> AsyncIterator[AsyncAsk]:
        functions = [_fails if failing else _works, *([_works] * (members - 1))]
        model = _fallback.FallbackModel(*(_function.FunctionModel(each) for each in functions))

        async def ask(_: int) -> int:
            await model.request(PROMPT, None, _models.ModelRequestParameters())
            return 1 + failing

        yield ask

    @asynccontextmanager
    async def stream(self) -> AsyncIterator[Stream]:
        wanted = [0]

        async def speak(messages: Any, info: Any) -> AsyncIterator[str]:
            for _ in range(wanted[0]):
                yield "abc"

        model = _fallback.FallbackModel(
            *(_function.FunctionModel(stream_function=speak) for _ in range(3))
        )

        async def chunks(count: int) -> AsyncIterator[Any]:
            wanted[0] = count
            parameters = _models.ModelRequestParameters()
            async with model.request_stream(PROMPT, None, parameters) as response:
                async for event in response:
                    yield event

        yield chunks
