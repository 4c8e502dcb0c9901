"""How an agent is called: which of its methods, sync or async, with a context or without."""

from __future__ import annotations

import functools
import inspect
import re
import types
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Union, get_args, get_origin

from greenroom.actors.handle.pool_ref import PoolRef
from greenroom.actors.member import nested_pool
from greenroom.actors.reading.client_look import gives_async, is_for_coroutines
from greenroom.messages.member import CallContext

METHODS = ("arun", "ainvoke", "run", "invoke", "kickoff", "execute", "complete")
"""The run methods looked for on an object, in this order; `__call__` is the last resort."""
STREAM_METHODS = ("astream", "stream")
"""What is looked for first where chunks are wanted, and last where one answer is."""

_OPTIONAL = re.compile(r"(?:\w+\.)?Optional\[(.+)\]")


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


def runner_of(agent: Any, method: str | None = None) -> Runner | None:
    """The way to run `agent` for an answer; None for an object without any method to call."""
    return _runner(_callable_of(agent, method, (*METHODS, None, *STREAM_METHODS)))


def stream_runner_of(agent: Any, method: str | None = None) -> Runner | None:
    """The same for an answer in chunks: `astream` and `stream` come first."""
    if isinstance(agent, PoolRef) and method is None:
        return _runner(functools.partial(nested_pool.chunks, agent))
    return _runner(_callable_of(agent, method, (*STREAM_METHODS, *METHODS, None)))


def is_async_agent(agent: Any, method: str | None = None) -> bool:
    """Whether its calls run on an event loop, many at a time."""
    runner = runner_of(agent, method)
    return (runner is not None and runner.is_async) or is_async_client(agent, method)


def is_async_client(agent: Any, method: str | None = None) -> bool:
    """Whether it is an object without a run method, for `apply` alone, that is made for coroutines.

    A `stream` is none here: of a client it wants more than a payload.
    """
    if method is not None or _callable_of(agent, None, (*METHODS, None)) is not None:
        return False
    return is_for_coroutines(agent)


def is_async(call: Any) -> bool:
    """Whether calling it gives a coroutine or an async generator, as far as can be seen."""
    while isinstance(call, functools.partial):
        call = call.func
    return gives_async(call) or gives_async(getattr(type(call), "__call__", None))  # noqa: B004


def _runner(call: Callable[..., Any] | None) -> Runner | None:
    return None if call is None else Runner(call, is_async(call), *_context_parameter(call))


def method_of(agent: Any, name: str) -> Callable[..., Any] | None:
    """That method of the agent, if it has one; an attribute that raises is none."""
    try:
        found = getattr(agent, name, None)
    except BaseException:  # a lazy client's property; actors look here, and must live
        return None
    return found if callable(found) else None


def takes_argument(call: Callable[..., Any]) -> bool:
    """Whether a probe wants the agent, or nothing at all."""
    parameters = _parameters(call)
    if parameters is None:
        return True
    positional = (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.VAR_POSITIONAL,
    )
    return any(parameter.kind in positional for parameter in parameters)


def _callable_of(
    agent: Any, method: str | None, names: Iterable[str | None]
) -> Callable[..., Any] | None:
    """Its first method of these names; None among them is the agent itself, if it can be called."""
    if method is not None:
        return method_of(agent, method)
    if isinstance(agent, PoolRef):
        return functools.partial(nested_pool.answer, agent)
    if inspect.isroutine(agent) or inspect.isclass(agent) or isinstance(agent, functools.partial):
        return agent
    for name in names:
        found = method_of(agent, name) if name is not None else agent
        if callable(found):
            return found
    return None


def _parameters(call: Callable[..., Any]) -> list[inspect.Parameter] | None:
    """None where nobody can tell them, as for a builtin."""
    try:
        return list(inspect.signature(call).parameters.values())
    except Exception:
        return None


def _context_parameter(call: Callable[..., Any]) -> tuple[str | None, bool, bool]:
    """Its name, whether it is the first one, whether it can be given by name."""
    for position, parameter in enumerate(_parameters(call) or ()):
        if _is_context(parameter.annotation):
            first = position == 0 and parameter.kind is not inspect.Parameter.KEYWORD_ONLY
            return parameter.name, first, parameter.kind is not inspect.Parameter.POSITIONAL_ONLY
    return None, False, True


def _is_context(annotation: Any) -> bool:
    """Whether it says `CallContext`, or that or None; postponed annotations are strings."""
    if isinstance(annotation, str):
        text = annotation.replace(" ", "")
        optional = _OPTIONAL.fullmatch(text)
        parts = (optional[1] if optional else text).split("|")
        return any(part.rsplit(".", 1)[-1] == "CallContext" for part in parts)
    if get_origin(annotation) in (Union, types.UnionType):
        return any(_is_context(part) for part in get_args(annotation))
    return annotation is CallContext
