"""How an agent is called: which of its methods, sync or async, with a context or without."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

from greenroom.messages.member import CallContext

METHODS = ("arun", "ainvoke", "run", "invoke", "kickoff", "execute", "complete")
"""The run methods looked for on an object, in this order; `__call__` is the last resort."""


class Runner(NamedTuple):
    """A way to run an agent: `call(payload)`, or with a `CallContext` where it wants one."""

    call: Callable[..., Any]
    is_async: bool
    context_name: str | None = None
    context_first: bool = False

    def run(self, payload: Any, context: CallContext) -> Any:
        """Call the agent, with the context where it wants one."""
        if self.context_name is None:
            return self.call(payload)
        if self.context_first:
            return self.call(context, payload)
        return self.call(payload, **{self.context_name: context})


def runner_of(agent: Any, method: str | None = None) -> Runner | None:
    """The way to run `agent`; None for an object without any method to call."""
    call = _callable_of(agent, method)
    if call is None:
        return None
    name, first = _context_parameter(call)
    return Runner(call, is_async(call), name, first)


def is_async(call: Any) -> bool:
    """Whether calling it gives a coroutine, as far as can be seen without calling it."""
    while isinstance(call, functools.partial):
        call = call.func
    if inspect.iscoroutinefunction(call):
        return True
    return inspect.iscoroutinefunction(getattr(type(call), "__call__", None))  # noqa: B004


def takes_argument(call: Callable[..., Any]) -> bool:
    """Whether a probe wants the agent, or nothing at all."""
    try:
        parameters = inspect.signature(call).parameters.values()
    except (TypeError, ValueError):
        return True
    positional = (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.VAR_POSITIONAL,
    )
    return any(parameter.kind in positional for parameter in parameters)


def _callable_of(agent: Any, method: str | None) -> Callable[..., Any] | None:
    if method is not None:
        found = getattr(agent, method, None)
        return found if callable(found) else None
    if inspect.isroutine(agent) or inspect.isclass(agent) or isinstance(agent, functools.partial):
        return agent
    for name in METHODS:
        found = getattr(agent, name, None)
        if callable(found):
            return found  # type: ignore[no-any-return]
    return agent if callable(agent) else None


def _context_parameter(call: Callable[..., Any]) -> tuple[str | None, bool]:
    try:
        parameters = list(inspect.signature(call).parameters.values())
    except (TypeError, ValueError):
        return None, False
    for position, parameter in enumerate(parameters):
        if _is_context(parameter.annotation):
            keyword = parameter.kind is not inspect.Parameter.POSITIONAL_ONLY
            return parameter.name, position == 0 or not keyword
    return None, False


def _is_context(annotation: Any) -> bool:
    if isinstance(annotation, str):
        return annotation.replace(" ", "").split("|")[0].rsplit(".", 1)[-1] == "CallContext"
    return annotation is CallContext
