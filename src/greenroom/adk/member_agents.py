"""The ADK agents of one member of a `PoolAgent`: made on demand, one a loop, closed at the end."""

from __future__ import annotations

import contextlib
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import Context
from dataclasses import dataclass
from typing import Any

from google.adk.agents.base_agent import BaseAgent
from google.adk.tools.base_toolset import BaseToolset

from greenroom.actors.executors.loop_agents import Kept, LoopAgents
from greenroom.actors.handle.caller_attempts import Attempt
from greenroom.actors.member.agent_methods import method_of
from greenroom.actors.reading.classify import classify
from greenroom.actors.runtime.event_bus import complain
from greenroom.messages.config import PoolConfig
from greenroom.messages.status import CancelReason, FailureKind


@dataclass(frozen=True, slots=True)
class Place:
    """Where the agents of a member are to be at work.

    Args:
        member: its name.
        label: how the log calls it.
        agent_name: the name of the pool's agent, which each of them has.
    """

    member: str
    label: str
    agent_name: str


class MemberAgents:
    """What a member of the pool has as its agent: it lends the real one to each run.

    The creator is called by a task of the run's own loop, which keeps what it makes, and closes it:
    when a run of it has failed, at the end of that loop, or of the pool. So what is bound to a loop
    or to a task stays there.

    Args:
        create: makes an agent, sync or async.
        config: says which failures speak against an agent.
        context: see `LoopAgents`.
        on_create_failed: told the member's name when `create` fails, before whoever waits for it.

    Attributes:
        create_error: what the last creation raised; None when it succeeded.
    """

    def __init__(
        self,
        place: Place,
        create: Callable[[], Any],
        config: PoolConfig,
        context: Context | None,
        on_create_failed: Callable[[str], object],
    ) -> None:
        self.place = place
        self.create_error: BaseException | None = None
        self._create = create
        self._config = config
        self._on_create_failed = on_create_failed
        self._loops: LoopAgents[BaseAgent] = LoopAgents(
            place.label, self._made, context, config.cancel_grace_s
        )

    @contextlib.asynccontextmanager
    async def lent(self, attempt: Attempt) -> AsyncIterator[BaseAgent]:
        """The agent of the running loop for the block of an attempt; made if there is none. One
        whose run fails is given to nobody else.

        Raises:
            Exception: what the creator has raised.
        """
        async with self._loops.lent() as kept:
            try:
                yield await self._agent_of(kept)
            except BaseException as error:
                if self._speaks_against_it(error, attempt):
                    kept.forget()
                raise

    async def _agent_of(self, kept: Kept[BaseAgent]) -> Any:
        try:
            agent = await kept.agent()
        except Exception as error:
            self.create_error = error
            self._on_create_failed(self.place.member)
            raise
        self.create_error = None
        return agent

    def _speaks_against_it(self, error: BaseException, attempt: Attempt) -> bool:
        if isinstance(error, Exception):
            return self.kind_of(error).counts_for_breaker
        return attempt.given_up is CancelReason.ATTEMPT_TIMEOUT

    def kind_of(self, error: Exception) -> FailureKind:
        """What it means, by the pool's configuration."""
        return classify(error, self._config.classify).kind

    def close(self) -> None:
        """Close whatever was made, each on its loop; it waits for that, in a thread of the pool's,
        but not for a loop that does not run.
        """
        over = threading.Event()
        self._loops.close(over.set)
        over.wait()

    @contextlib.asynccontextmanager
    async def _made(self) -> AsyncIterator[BaseAgent]:
        made = self._create()
        agent = self._named(await made if inspect.isawaitable(made) else made)
        try:
            yield agent
        finally:
            await self._end(agent)

    def _named(self, agent: object) -> BaseAgent:
        """The agent under the name of the pool's, so that it has the conversation for its own,
        whichever member has held it before.
        """
        if not isinstance(agent, BaseAgent):
            raise TypeError(
                f"agent_creator must return an agent of ADK's (a BaseAgent) for "
                f"{self.place.member!r}, got a {type(agent).__name__}"
            )
        if agent.name == self.place.agent_name:
            return agent
        return agent.clone(update={"name": self.place.agent_name})

    async def _end(self, agent: BaseAgent) -> None:
        hooks = [method_of(agent, "aclose") or method_of(agent, "close")]
        hooks += [toolset.close for toolset in _toolsets_of(agent)]
        for hook in hooks:
            if hook is None:
                continue
            try:
                closing = hook()
                if inspect.isawaitable(closing):
                    await closing
            except Exception as error:
                complain(f"closing the agent of {self.place.label} failed", error)


def _toolsets_of(agent: BaseAgent) -> Iterator[BaseToolset]:
    """Its own, and those of all agents below it, each once: those that a Runner closes."""
    found: set[int] = set()
    agents = [agent]
    while agents:
        each = agents.pop()
        agents += each.sub_agents
        for tool in getattr(each, "tools", None) or ():
            if isinstance(tool, BaseToolset) and id(tool) not in found:
                found.add(id(tool))
                yield tool
