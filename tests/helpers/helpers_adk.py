"""What the tests of `PoolAgent` share: scripted models and agents, and a conversation with one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from google.adk.agents import BaseAgent, LlmAgent
from google.adk.agents.invocation_context import InvocationContext
from google.adk.events.event import Event
from google.adk.events.event_actions import EventActions
from google.adk.models.base_llm import BaseLlm
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.adk.runners import InMemoryRunner
from google.adk.workflow import BaseNode
from google.genai import types
from pydantic import Field

from greenroom import AgentRequest, MemberConfig, PoolConfig
from greenroom.adk import PoolAgent

MEMBERS = [MemberConfig("a"), MemberConfig("b"), MemberConfig("c")]
APP = "tests"

Script = Callable[[InvocationContext], AsyncGenerator[Event, None]]
"""What an agent does in one run."""


def content(text: str, role: str = "model") -> types.Content:
    return types.Content(role=role, parts=[types.Part(text=text)])


def said(ctx: InvocationContext, text: str) -> Event:
    """An answer."""
    return _event(ctx, content=content(text))


def noted(ctx: InvocationContext, **state: Any) -> Event:
    """A change of the session's state, and nothing else."""
    return _event(ctx, actions=EventActions(state_delta=state))


def failed(ctx: InvocationContext, code: str, message: str = "") -> Event:
    """An error in place of content."""
    return _event(ctx, error_code=code, error_message=message or None)


def _event(ctx: InvocationContext, **fields: Any) -> Event:
    assert ctx.agent is not None
    return Event(invocation_id=ctx.invocation_id, author=ctx.agent.name, **fields)


class Scripted(BaseAgent):
    """An agent that does what its script says."""

    script: Script

    async def _run_async_impl(self, ctx: InvocationContext) -> AsyncGenerator[Event, None]:
        async with aclosing(self.script(ctx)) as events:
            async for event in events:
                yield event


def answering(text: str) -> Script:
    async def script(ctx: InvocationContext) -> AsyncGenerator[Event, None]:
        yield said(ctx, text)

    return script


def raising(error: BaseException) -> Script:
    async def script(ctx: InvocationContext) -> AsyncGenerator[Event, None]:
        raise error
        yield  # type: ignore[unreachable]

    return script


class Lab:
    """A creator of scripted agents that writes down whom it has made.

    Args:
        scripts: by the members' names; the others answer with their name.
    """

    def __init__(self, **scripts: Script) -> None:
        self.scripts = scripts
        self.failing: dict[str, Exception] = {}
        self.made: list[str] = []
        self.requests: list[AgentRequest] = []

    def create_agent(self, name: str, request: AgentRequest) -> BaseAgent:
        self.requests.append(request)
        if name in self.failing:
            raise self.failing[name]
        self.made.append(name)
        script = self.scripts.get(name, answering(name))
        return Scripted(name=request.name, script=script)


class ScriptedModel(BaseLlm):
    """A model that gives one answer after the other, or raises it; the last one again and again.

    Attributes:
        seen: the requests, in order.
    """

    model: str = "scripted"
    answers: list[Any] = Field(default_factory=list)
    seen: list[LlmRequest] = Field(default_factory=list)

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        self.seen.append(llm_request)
        answer = self.answers[min(len(self.seen), len(self.answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, types.Part):
            yield LlmResponse(content=types.Content(role="model", parts=[answer]))
        else:
            yield LlmResponse(content=content(answer))

    def turns(self, request: int = -1) -> list[tuple[str | None, str]]:
        """Who has said what, in the words of one of its requests."""
        return [
            (each.role, "".join(part.text or "" for part in each.parts or []))
            for each in self.seen[request].contents
        ]


def call_of(name: str, **arguments: Any) -> types.Part:
    """A model's call of a tool."""
    return types.Part(function_call=types.FunctionCall(name=name, args=arguments))


class ModelLab:
    """A creator of agents over scripted models.

    Args:
        models: by the members' names.
        tools: of every agent.
    """

    def __init__(self, models: Mapping[str, ScriptedModel], *tools: Any) -> None:
        self.models = models
        self.tools = tools

    def create_agent(self, name: str, request: AgentRequest) -> BaseAgent:
        return LlmAgent(name=request.name, model=self.models[name], tools=list(self.tools))


def pool_agent(lab: Any, *names: str, **fields: Any) -> PoolAgent:
    """An agent called writers, over a pool of a and b where nobody says otherwise."""
    members = [MemberConfig(name) for name in names or ("a", "b")]
    config = fields.pop("config", None)
    if isinstance(config, dict):
        config = PoolConfig(**config)
    given: dict[str, Any] = {"name": "writers", "members": members, "agent_creator": lab}
    return PoolAgent(**{**given, "config": config, **fields})


class Chat:
    """A conversation with an agent."""

    def __init__(self, root: BaseNode) -> None:
        self.runner = InMemoryRunner(node=root, app_name=APP)
        self._session_id: str | None = None

    async def session_id(self) -> str:
        if self._session_id is None:
            session = await self.runner.session_service.create_session(app_name=APP, user_id="u")
            self._session_id = session.id
        return self._session_id

    async def run(self, text: str = "hello", **options: Any) -> AsyncGenerator[Event, None]:
        """The events of a turn, as they come."""
        turn = self.runner.run_async(
            user_id="u",
            session_id=await self.session_id(),
            new_message=content(text, "user"),
            **options,
        )
        async with aclosing(turn) as events:
            async for event in events:
                yield event

    async def say(self, text: str = "hello") -> list[Event]:
        """A whole turn."""
        return [event async for event in self.run(text)]

    async def told(self) -> list[Event]:
        """What the session has kept."""
        session = await self.runner.session_service.get_session(
            app_name=APP, user_id="u", session_id=await self.session_id()
        )
        assert session is not None
        return session.events


def texts(events: Sequence[Event]) -> list[str]:
    """What was said in them."""
    return [
        part.text
        for event in events
        for part in (event.content.parts or [] if event.content else [])
        if part.text
    ]
