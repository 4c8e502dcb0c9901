"""`AdkAgent`: an agent of ADK's as an ordinary member of a pool."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from google.adk.agents import BaseAgent
from google.adk.agents.run_config import RunConfig
from google.adk.apps import App
from google.adk.events import Event
from google.adk.runners import InMemoryRunner

from greenroom.adk.adk_said import Said
from greenroom.adk.adk_words import Conversation, conversation_of
from greenroom.messages import _validate as check
from greenroom.messages.member import CallContext
from greenroom.pool.agent_pool import of_type

_SSE = RunConfig.model_validate({"streaming_mode": "sse"}).streaming_mode
_WHOLE = RunConfig().streaming_mode


class AdkAgent:
    """Runs an agent of ADK's for each request, in a conversation of its own; needs
    `pip install 'greenroom[adk]'`.

        Member("writer", factory=lambda: AdkAgent(writer))

    A payload is a prompt, a `Content` of ADK's, or a conversation that ends with what the user
    says: a list of `Content`s, of messages as `OpenAIAgent` takes them, or a `ChatPrompt` (its
    parameters are not for ADK). Messages that hold more than texts, or come from others than user
    and assistant, are given as one text, each under its role.

    The answer is the text of the last final response, without thoughts; where the last word is the
    output of a workflow's node, or of a tool in the agent's place, that, as JSON if it is no text.
    A stream has what the agent says as it says it (ADK's server-sent events), and so also what it
    says between two tools.
    A run that raises, whose last word is an error, or that ends without a text has failed.

    Each request has sessions, state, artifacts and a memory of its own, which end with it: nothing
    of one caller is seen by another. What the agent itself holds, its tools say, is shared.

    Args:
        agent: an agent, or an `App`, whose plugins and settings hold then.
        app_name: how ADK calls the app; None: as the `App` or the agent is called.
        user_id: how it calls the user.
        run_config: the settings of a run; whether it streams is the pool's to say.

    Raises:
        TypeError, ValueError: a value of the wrong type or out of range, named with its field.
    """

    def __init__(
        self,
        agent: BaseAgent | App,
        *,
        app_name: str | None = None,
        user_id: str = "greenroom",
        run_config: RunConfig | None = None,
    ) -> None:
        if not isinstance(agent, BaseAgent | App):
            raise TypeError(f"agent must be an agent or an App of ADK's, got a {_kind(agent)}")
        check.text("app_name", app_name, optional=True)
        check.text("user_id", user_id)
        config: RunConfig = of_type("run_config", run_config or RunConfig(), RunConfig)
        self._whole = config.model_copy(update={"streaming_mode": _WHOLE})
        self._streamed = config.model_copy(update={"streaming_mode": _SSE})
        self._user_id = user_id
        if isinstance(agent, App):
            self._app, self._app_name = agent, app_name or agent.name
        else:
            self._app_name = app_name or agent.name
            # As its Runner has it of an agent: an App that one makes wants other names.
            self._app = InMemoryRunner(agent=agent, app_name=self._app_name).app

    @property
    def name(self) -> str:
        """The agent's own name."""
        root = self._app.root_agent
        return self._app_name if root is None else root.name

    async def arun(self, payload: Any, context: CallContext | None = None) -> str:
        """The agent's final text. `Reply.metadata` has the `agent` that has given it, the `model`
        as its backend calls it, the `usage` of all of the run's calls, and a `finish_reason` of
        "length" where the text was cut off.

        Raises:
            UnsuccessfulResultError: there is none.
            PayloadError, TypeError: the payload is none for an agent.
            Exception: whatever the run raises.
        """
        said = Said(self.name)
        async with contextlib.aclosing(self._events(payload, self._whole)) as events:
            async for event in events:
                _alive(context)
                said.take(event)
        return _told(said, context)

    async def astream(self, payload: Any, context: CallContext | None = None) -> AsyncIterator[str]:
        """The same piece by piece."""
        said = Said(self.name)
        async with contextlib.aclosing(self._events(payload, self._streamed)) as events:
            async for event in events:
                if piece := said.take(event):
                    yield piece
                else:
                    _alive(context)
        if piece := said.unsaid():
            yield piece
        _told(said, context)

    async def aclose(self) -> None:
        """Close the agent's toolsets, and the plugins of its app."""
        await self._runner().close()

    def __repr__(self) -> str:
        return f"<AdkAgent {self.name}>"

    def _runner(self) -> InMemoryRunner:
        """One with services of its own. It has nothing to close but what all of them share."""
        return InMemoryRunner(app=self._app, app_name=self._app_name)

    async def _events(self, payload: Any, config: RunConfig) -> AsyncGenerator[Event, None]:
        given = conversation_of(payload)
        runner = self._runner()
        session_id = await self._new_session(runner, given)
        run = runner.run_async(
            user_id=self._user_id,
            session_id=session_id,
            new_message=given.message,
            run_config=config,
        )
        async with contextlib.aclosing(run) as events:
            async for event in events:
                yield event

    async def _new_session(self, runner: InMemoryRunner, given: Conversation) -> str:
        sessions = runner.session_service
        session = await sessions.create_session(app_name=runner.app_name, user_id=self._user_id)
        for content in given.before:
            author = "user" if content.role == "user" else self.name
            await sessions.append_event(session, Event(author=author, content=content))
        return session.id


def _alive(context: CallContext | None) -> None:
    if context is not None:
        context.alive()


def _told(said: Said, context: CallContext | None) -> str:
    text = said.end()
    if context is not None:
        context.describe(**said.metadata)
    return text


def _kind(value: object) -> str:
    return f"class {value.__name__}" if isinstance(value, type) else type(value).__name__
