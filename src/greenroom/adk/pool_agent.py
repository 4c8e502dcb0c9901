"""`PoolAgent`: several ADK agents behind one, of which one does the work until it fails."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from contextvars import copy_context
from dataclasses import replace
from typing import Annotated, Any, Self

from google.adk.agents.base_agent import BaseAgent
from google.adk.agents.invocation_context import InvocationContext
from google.adk.events.event import Event
from pydantic import ConfigDict, Field, PlainValidator, PrivateAttr, field_validator

from greenroom.actors.handle.pool_ref import PoolRef
from greenroom.adk.abort_watch import ended_by_abort
from greenroom.adk.event_judge import EventJudge
from greenroom.adk.member_agents import MemberAgents, Place
from greenroom.fallback.agent_spec import (
    AgentCreator,
    AgentRequest,
    MemberConfig,
    checked_members,
    checked_request,
    creation,
)
from greenroom.fallback.ring import Ring, creations_told_apart
from greenroom.messages import _validate as check
from greenroom.messages.config import PoolConfig
from greenroom.messages.errors import PoolError
from greenroom.messages.member import Member
from greenroom.messages.status import FailureKind
from greenroom.pool.agent_pool import of_type
from greenroom.pool.pool_owner import MAX_CONCURRENCY, PoolOwner, never_lost

_OF_THE_POOL = (
    "name",
    "description",
    "pool_name",
    "members",
    "request",
    "agent_creator",
    "config",
    "max_concurrency",
)
"""The fields that make the pool: a copy in which one of them differs has a pool of its own."""


def _checked_config(config: object) -> PoolConfig | None:
    return None if config is None else of_type("config", config, PoolConfig)


def _checked_creator(creator: Any) -> Any:
    if not callable(getattr(creator, "create_agent", creator)):
        raise TypeError(
            "agent_creator must have a method create_agent or be callable, "
            f"got a {type(creator).__name__}"
        )
    return creator


class PoolAgent(BaseAgent):
    """An ADK agent that is a pool of them: one member does the work until a run of it fails.

        agent = PoolAgent(name="writer", members=members, agent_creator=make_agent)
        runner = Runner(agent=agent, ...)

    Wherever an agent may be: as the root of a Runner, below a coordinator, in a workflow, as an
    `AgentTool`. The members' agents are made on demand, each under the name of this one, and run
    in the task of whoever runs this. Failover is that of `PoolExecutor`: the first member that can
    be created is in charge; when a run of it fails before its first event with content, the same
    run goes on with the next one, which stays in charge. From that event on what goes wrong is
    raised as a `StreamInterruptedError`.

    The pool is started by the first run, and stopped by `close`, `aclose` or the end of a `with`
    block; one that is dropped stops by itself. A copy (`clone`, `model_copy`) has the same pool,
    unless one of the fields that make the pool differs in it.

    Args:
        name: the name of this agent and of all its members' agents in a conversation.
        description: what it can do, for agents that may transfer to it.
        members: in the order in which they are tried, at least one.
        agent_creator: an `AgentCreator`, or a callable `(name, request) -> agent`, sync or async;
            one that has a parameter named `cfg` is given the member's `cfg` by it. It is called on
            the loop of the run, so a sync one must not block.
        request: what the creator is given, with this agent's name, and its description if it has
            one.
        config: the settings of the pool; its circuit breakers are on then. None: no breakers, and
            no run is cut short. Members run on the loop of whoever runs this agent, whatever its
            `event_loop` says.
        pool_name: how the log and the errors call the pool; None: by this agent's name.
        max_concurrency: runs of one member at a time; further ones wait.

    Raises:
        TypeError, ValueError: a value of the wrong type or out of range, named with its field; a
            ValueError is pydantic's `ValidationError`.
    """

    # A member's configuration may have keys in it.
    model_config = ConfigDict(hide_input_in_errors=True)

    name: str = Field(frozen=True)
    description: str = Field(default="", frozen=True)
    members: Annotated[Sequence[MemberConfig], PlainValidator(checked_members)] = Field(
        frozen=True, exclude=True, repr=False
    )
    agent_creator: Annotated[
        AgentCreator | Callable[..., Any], PlainValidator(_checked_creator)
    ] = Field(frozen=True, exclude=True, repr=False)
    request: Annotated[AgentRequest, PlainValidator(checked_request)] = Field(
        default=AgentRequest(), frozen=True, exclude=True, repr=False
    )
    config: Annotated[PoolConfig | None, PlainValidator(_checked_config)] = Field(
        default=None, frozen=True, exclude=True, repr=False
    )
    pool_name: str | None = Field(default=None, frozen=True)
    max_concurrency: int = Field(default=MAX_CONCURRENCY, frozen=True)
    _owner: _Owner = PrivateAttr()

    @field_validator("sub_agents")
    @classmethod
    def _has_no_sub_agents(cls, value: list[BaseAgent]) -> list[BaseAgent]:
        if value:
            raise ValueError("sub_agents must be empty: a PoolAgent's members have their own")
        return value

    def model_post_init(self, context: Any, /) -> None:
        super().model_post_init(context)
        self._owner = _Owner(self)

    # -- the pool

    @property
    def pool(self) -> PoolRef:
        """The pool underneath, for its stats, events and resets; started if it was not running.

        Raises:
            PoolStoppedError: closed before it was ever used.
        """
        return self._owner.pool

    def close(self) -> None:
        """Stop the pool, close the members' agents with their toolsets, and wait until that is
        done; a second close does nothing. On a loop that has run this agent: `aclose`.
        """
        self._owner.close()

    async def aclose(self) -> None:
        """`close`, without blocking the event loop."""
        await self._owner.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._owner.__exit__(*raised)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self._owner.__aexit__(*raised)

    # -- a run

    async def _run_async_impl(self, ctx: InvocationContext) -> AsyncGenerator[Event, None]:
        """The events of the member that answers.

        Raises:
            AllPoolMembersFailedError: every member failed; it lists each with its error.
            StreamInterruptedError: the one that had begun to answer failed.
            PoolStoppedError: the pool has been closed.
            Exception: the member's own, when it says that the request itself is at fault.
        """
        judge = EventJudge()
        try:
            with ended_by_abort(ctx) as abort:
                async for attempt in self.pool.attempts(stream=True):
                    judge = EventJudge()
                    async with (
                        attempt as agents,
                        agents.lent(attempt) as agent,
                        aclosing(agent.run_async(ctx)) as events,
                        aclosing(_passed_on(events, judge, agents)) as answer,
                    ):
                        async for event in answer:
                            if judge.begun:
                                attempt.first()
                            with abort.paused(), attempt.paused():
                                yield event
        except PoolError:
            if not judge.told:
                raise

    def _run_live_impl(self, ctx: InvocationContext) -> AsyncGenerator[Event, None]:
        raise NotImplementedError(
            f"pool agent {self.name!r} does not run live: a live connection cannot be handed to "
            "another member; use run_async"
        )

    # -- copies

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy, with the same pool unless `update` changes what that is made of."""
        copied = super().model_copy(update=update, deep=deep)
        if any(getattr(copied, field) != getattr(self, field) for field in _OF_THE_POOL):
            copied._owner = _Owner(copied)
        return copied

    def __setattr__(self, name: str, value: Any) -> None:
        # `clone` sets what is a method once more, and a creator may be one.
        if name not in _OF_THE_POOL or value != getattr(self, name):
            super().__setattr__(name, value)

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        # What the pool is made of may hold clients and locks, and is the same for all copies.
        memo = {} if memo is None else memo
        memo.update((id(each), each) for each in (self.members, self.agent_creator, self._owner))
        return super().__deepcopy__(memo)

    def __repr__(self) -> str:
        names = " -> ".join(member.name for member in self.members)
        return f"<PoolAgent {self.name}: {names}>"

    def __str__(self) -> str:
        return repr(self)


def new_pool_agent(
    pool_name: str,
    members: Iterable[MemberConfig],
    request: AgentRequest | None,
    agent_creator: AgentCreator | Callable[..., Any],
    *,
    config: PoolConfig | None = None,
) -> PoolAgent:
    """A `PoolAgent` of that request: its name and description are the agent's own; without a name
    in it that is the pool's.

    Raises:
        TypeError, ValueError: as of `PoolAgent`.
        MemberExistsError: two members of the same name.
    """
    check.name("pool_name", pool_name)
    request = checked_request(request)
    if not request.name and not pool_name.isidentifier():
        raise ValueError(
            "pool_name must be a Python identifier where request has no name, since ADK takes "
            f"no other for an agent, got {pool_name!r}"
        )
    return PoolAgent(
        name=request.name or pool_name,
        description=request.description,
        members=checked_members(members),
        agent_creator=agent_creator,
        request=request,
        config=config,
        pool_name=pool_name,
    )


class _Owner(PoolOwner):
    """The pool of an agent and of its copies. Nothing in here refers to any of these, so that the
    last one that is dropped takes the pool along.
    """

    def __init__(self, agent: PoolAgent) -> None:
        pool_name = agent.name if agent.pool_name is None else agent.pool_name
        super().__init__(pool_name, agent.config, agent.max_concurrency, field="pool_name")
        self._agent_name = agent.name
        request = checked_request(agent.request)
        description = agent.description or request.description
        request = replace(request, name=agent.name, description=description)
        # Checked once more: a copy takes its changes as they come.
        self._creations = {
            each.name: creation(agent.agent_creator, each, request)
            for each in checked_members(agent.members)
        }

    def _start_pool(self) -> PoolRef:
        ring = Ring()
        # Not that of the request which happens to start it: see `PoolOwner`.
        context = copy_context() if self._config.propagate_context else None
        agents = [
            MemberAgents(
                Place(name, f"greenroom-{self.name}-{name}", self._agent_name),
                create,
                self._config,
                context,
                ring.lost.append,
            )
            for name, create in self._creations.items()
        ]
        members = [
            Member(
                each.place.member,
                each,
                close=MemberAgents.close,
                lost=never_lost,
                max_concurrency=self._max_concurrency,
            )
            for each in agents
        ]
        classify = creations_told_apart(agents, self._config.classify)
        # No agent runs on a loop of the pool's.
        return self._launch(members, ring, classify=classify, event_loop="own")

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


async def _passed_on(
    events: AsyncGenerator[Event, None], judge: EventJudge, agents: MemberAgents
) -> AsyncGenerator[Event, None]:
    """What is to be passed on of a run.

    Raises:
        UnsuccessfulResultError: it has ended without an answer.
    """
    async for event in events:
        for each in judge.take(event):
            yield each
    failure = judge.failure(agents.place.member)
    if failure is None:
        return
    if judge.begun or agents.kind_of(failure) is FailureKind.CALLER:
        for each in judge.held():  # nobody could do better: it is the answer
            yield each
        judge.told = True
    raise failure
