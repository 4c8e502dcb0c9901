"""`PoolModel`: a pool of models that an ADK agent takes for one model."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Iterable
from typing import Any, NoReturn, Self, SupportsIndex, cast

from google.adk.models import BaseLlm, LlmCapabilities
from google.adk.models.base_llm_connection import BaseLlmConnection
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from pydantic import ConfigDict, PrivateAttr

from greenroom.actors.handle.caller_attempts import Attempt
from greenroom.actors.handle.pool_ref import PoolRef
from greenroom.actors.strategies import RoutingStrategy, strategy_for
from greenroom.adk.model_answers import AnswerRules, Turn
from greenroom.adk.model_pool import ModelPool, capabilities_of, members_of, model_name
from greenroom.adk.model_request import request_for
from greenroom.messages import _validate as check
from greenroom.messages.config import PoolConfig
from greenroom.messages.errors import AgentTypeError
from greenroom.messages.member import Member
from greenroom.messages.pickling import refuse
from greenroom.messages.status import LoadBalanceStrategy, StrategyName
from greenroom.pool.agent_pool import of_type


class PoolModel(BaseLlm):
    """A pool of models under one agent of ADK's.

        model = PoolModel(["gemini-2.5-flash", LiteLlm("openai/gpt-4o")])
        agent = LlmAgent(name="writer", model=model)

    Each call of the agent's is a request to the pool, and runs in the agent's own task: context
    variables and spans hold. What a model raises, or answers with an error code, is judged as
    everywhere in greenroom; the next model is asked where another one may help, and who has failed
    is left alone for a while. A stream goes to another model only before its first content. When
    nobody could answer, the agent's `on_model_error_callback` and whoever runs it get an
    `AllPoolMembersFailedError`, a `StreamInterruptedError` where a stream has broken off.

    Each attempt has a copy of the request, with its own model's name: what a model edits in it
    reaches no other one.

    The pool starts with the first request. It ends with `aclose` or `close`, at the end of a `with`
    or `async with`, or when neither the model nor a copy of it is there any more. Copies, also deep
    ones, as of an agent that is cloned, are the same pool. It works from any event loop, one after
    the other or at a time.

    Args:
        members: in order: models, names that ADK's registry knows, or `Member`s, whose agents are
            models or whose factories make them. What a name or a factory stands for is made on each
            event loop where it is used, and ends with it.
        strategy: as of `AgentPool.start`; "failover" is the first of them that works.
        config: the settings of the pool; None: the defaults, with a try of each model. Its
            `is_failure`, `is_empty` and `stream_complete` are given `LlmResponse`s.
        name: how the log and the errors call the pool.
        model: how ADK calls it, in its traces say; None: as its first member's model.

    Raises:
        TypeError, ValueError: a value of the wrong type or out of range, named with its field; a
            name of a model that ADK does not know.
        MemberExistsError: two members of the same name.
    """

    model_config = ConfigDict(extra="forbid")

    _pool: ModelPool = PrivateAttr()
    _rules: AnswerRules = PrivateAttr()

    def __init__(
        self,
        members: Iterable[str | BaseLlm | Member],
        *,
        strategy: LoadBalanceStrategy
        | StrategyName
        | RoutingStrategy = LoadBalanceStrategy.FAILOVER,
        config: PoolConfig | None = None,
        name: str = "models",
        model: str | None = None,
    ) -> None:
        check.text("model", model, optional=True)
        chosen = members_of(members)
        settings = _settings(config, len(chosen))
        pool = ModelPool(name, chosen, strategy_for(strategy), settings)
        super().__init__(model=model or model_name(chosen))
        self._pool = pool
        self._rules = AnswerRules(settings)

    @property
    def pool(self) -> PoolRef:
        """The pool underneath, for its stats, events and resets; started if it was not running.

        Raises:
            PoolStoppedError: closed before it was ever used.
        """
        return self._pool.pool

    @property
    def capabilities(self) -> LlmCapabilities:
        """What every one of the models can, since it is not known which one will answer; of those
        that are still to be made by a factory, nothing is.
        """
        return capabilities_of(self._pool.members)

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        """The answer of the first model that has one.

        Raises:
            AllPoolMembersFailedError: none has; it lists each with its error.
            StreamInterruptedError: a stream has broken off after its first content.
            PoolSaturatedError, DeadlineExceededError, PoolStoppedError: as of `pool.ask`.
            Exception: a model's own, when it says that the request itself is at fault.
        """
        last: list[LlmResponse] = []
        async for attempt in self.pool.attempts(stream=stream):
            async with attempt as agent:
                request = request_for(_model(agent, attempt), llm_request)
                turn = Turn(self._rules, attempt.member, stream, _is_behind_a_tool(llm_request))
                responses = agent.generate_content_async(request, stream)
                async with contextlib.aclosing(responses):
                    async for response in responses:
                        for ready in turn.take(response):
                            if turn.counts(ready):
                                attempt.first()
                            llm_request.model = request.model  # for ADK's trace
                            with attempt.paused():
                                yield ready
                last = turn.end()
                llm_request.model = request.model
        # Outside: the agent's tools run while it has this, and may want this very model.
        for response in last:
            yield response

    def connect(
        self, llm_request: LlmRequest
    ) -> contextlib.AbstractAsyncContextManager[BaseLlmConnection]:
        """There is no live mode: a session belongs to the model that has begun it.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            f"PoolModel {self._pool.name!r} has no live mode: a live session belongs to the model "
            "that has begun it. Give the agent that model itself, or a FallbackModel of ADK's"
        )

    def close(self) -> None:
        """Stop the pool and wait until that is done; a second close does nothing."""
        self._pool.close()

    async def aclose(self) -> None:
        """`close`, without blocking the event loop."""
        await self._pool.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.__exit__()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._pool.__aexit__()

    # -- copies

    def model_copy(self, *, update: Any = None, deep: bool = False) -> Self:
        """The same pool under another name, if one is given.

        Raises:
            ValueError: anything else is to be another in the copy.
        """
        if others := sorted(set(update or ()) - {"model"}):
            raise ValueError(
                f"update must hold nothing but model, got {', '.join(others)}: "
                "make another PoolModel"
            )
        return super().model_copy(update=update)

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return self.__copy__()

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        refuse(
            f"PoolModel {self._pool.name!r}",
            "its pool lives in the process that started it: make one in each process",
        )

    def __repr__(self) -> str:
        names = ", ".join(member.name for member in self._pool.members)
        return f"<PoolModel {self._pool.name}: {names}>"

    __str__ = __repr__


def _settings(config: PoolConfig | None, members: int) -> PoolConfig:
    if config is None:
        config = PoolConfig()
        return PoolConfig(max_retries=max(config.max_retries, members - 1))
    return cast(PoolConfig, of_type("config", config, PoolConfig))


def _model(agent: object, attempt: Attempt) -> BaseLlm:
    if not isinstance(agent, BaseLlm):
        raise AgentTypeError(
            f"factory of member {attempt.member!r} must make a model (BaseLlm), got a "
            f"{type(agent).__name__}"
        )
    return agent


def _is_behind_a_tool(request: LlmRequest) -> bool:
    """Whether the model is to go on with what a tool has returned."""
    parts = request.contents[-1].parts if request.contents else None
    return any(part.function_response for part in parts or ())
