"""How an agent is called: which of its methods, sync or async, with a context or without."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, NoReturn

from greenroom.actors.handle.pool_ref import PoolRef
from greenroom.actors.member import nested_pool
from greenroom.actors.reading.client_look import gives_async, is_for_coroutines
from greenroom.messages.agent_shape import (
    METHODS,
    STREAM_METHODS,
    Method,
    callable_of,
    context_parameter,
    method_of,
    misfit_of,
    parameters_of,
)
from greenroom.messages.call_context import CallContext
from greenroom.messages.errors import AgentTypeError

__all__ = [
    "METHODS",
    "Runner",
    "is_async",
    "is_async_agent",
    "is_async_client",
    "method_of",
    "runner_of",
    "stream_runner_of",
    "takes_argument",
]


class Runner(NamedTuple):
    """A way to run an agent: `call(payload)`, or with a `CallContext` where it wants one."""

    call: Callable[..., Any]
    is_async: bool
    context_name: str | None = None
    context_first: bool = False
    context_by_name: bool = True

    def run(self, payload: Any, context: CallContext) -> Any:
        """Call the agent, with the context where it wants one."""
        if self.context_name is None:
            return self.call(payload)
        if self.context_first:
            return self.call(context, payload)
        if not self.context_by_name:
            return self.call(payload, context)
        return self.call(payload, **{self.context_name: context})


def runner_of(agent: Any, method: Method = None) -> Runner | None:
    """The way to run `agent` for an answer; None for an object without any method to call."""
    return _runner(_callable_of(agent, method, (*METHODS, None, *STREAM_METHODS)))


def stream_runner_of(agent: Any, method: Method = None) -> Runner | None:
    """The same for an answer in chunks: `astream` and `stream` come first."""
    if isinstance(agent, PoolRef) and method is None:
        return _runner(functools.partial(nested_pool.chunks, agent))
    return _runner(_callable_of(agent, method, (*STREAM_METHODS, *METHODS, None)))


def is_async_agent(agent: Any, method: Method = None) -> bool:
    """Whether its calls run on an event loop, many at a time."""
    runner = runner_of(agent, method)
    return (runner is not None and runner.is_async) or is_async_client(agent, method)


def is_async_client(agent: Any, method: Method = None) -> bool:
    """Whether it is for `apply` alone, by `method=False` or since it has no run method, and is made
    for coroutines.

    A `stream` is none here: of a client it wants more than a payload.
    """
    if method:
        return False
    if method is None and _callable_of(agent, None, (*METHODS, None)) is not None:
        return False
    return is_for_coroutines(agent)


def is_async(call: Any) -> bool:
    """Whether calling it gives a coroutine or an async generator, as far as can be seen."""
    while isinstance(call, functools.partial):
        call = call.func
    return gives_async(call) or gives_async(getattr(type(call), "__call__", None))  # noqa: B004


def _runner(call: Callable[..., Any] | None) -> Runner | None:
    if call is None:
        return None
    misfit = misfit_of(call)
    if misfit is not None:  # said by each request: `apply` may use the agent in another way
        return Runner(functools.partial(_cannot_take, misfit.words), is_async(call))
    return Runner(call, is_async(call), *context_parameter(call))


def _cannot_take(words: str, _: Any) -> NoReturn:
    raise AgentTypeError(f"agent {words} (pool.apply can use it all the same)")


def takes_argument(call: Callable[..., Any]) -> bool:
    """Whether a probe wants the agent, or nothing at all."""
    parameters = parameters_of(call)
    if parameters is None:
        return True
    positional = (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.VAR_POSITIONAL,
    )
    return any(parameter.kind in positional for parameter in parameters)


def _callable_of(
    agent: Any, method: Method, names: Iterable[str | None]
) -> Callable[..., Any] | None:
    """Its first method of these names; None among them is the agent itself, if it can be called."""
    if isinstance(agent, PoolRef) and method is None:
        return functools.partial(nested_pool.answer, agent)
    return callable_of(agent, method, names)
