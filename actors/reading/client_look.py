"""Whether a client is made for coroutines, told without running any code of its own. Pure.

Clients of providers seldom have a run method: `client.chat.completions.create`, `client.get`. Those
that are for coroutines say so twice, and either will do: by `async with`, which opens and closes
them, where there is no `with`; and by their methods, all of which are coroutine functions. One that
has methods of both kinds says nothing.
"""

from __future__ import annotations

import functools
import inspect
import sys
import types
from typing import Any

from greenroom.messages.agent_shape import is_function

# (`inspect.isroutine` takes a `cached_property` for one, which is a resource mostly.)
_METHODS = (
    types.FunctionType,
    types.MethodType,
    types.BuiltinFunctionType,
    types.MethodDescriptorType,
    functools.partial,
)
_ASYNC = (inspect.iscoroutinefunction, inspect.isasyncgenfunction)
DEPTH = 4
"""How far down resources are looked at: `client.beta.chat.completions` is one of the deepest."""


def is_for_coroutines(client: Any) -> bool:
    """Whether it is; what cannot be looked at is not."""
    try:
        return _is_async(client, DEPTH) is True
    except BaseException:  # a metaclass of somebody's
        return False


def gives_async(function: Any) -> bool:
    """Whether it is a function that gives a coroutine or an async generator."""
    return any(is_function(look, function) for look in _ASYNC)


def _is_async(client: Any, depth: int) -> bool | None:
    """Whether it is; None if it has nothing to call."""
    its = _attributes_of_class(client)
    if _opens_async(its):
        return True
    own = _own(client)
    # An attribute of the object's hides a method of its class.
    public = {name: each for name, each in (its | own).items() if not name.startswith("_")}
    methods = [each for each in public.values() if isinstance(each, _METHODS)]
    if methods:
        return all(map(gives_async, methods))
    if depth == 0:
        return None
    resources = [each for name, each in public.items() if name in own and _may_be_called(each)]
    answers = {_is_async(each, depth - 1) for each in resources} - {None}
    return answers == {True} if answers else None


def _opens_async(its: dict[str, Any]) -> bool:
    if "__aenter__" not in its:
        return False
    if "__enter__" not in its:
        return True
    # aiohttp has a `with` that only says that it must be `async with`.
    return "aclose" not in its and gives_async(its.get("close"))


def _attributes_of_class(thing: Any) -> dict[str, Any]:
    """What its classes define, as it stands there: properties are not run. Class and static methods
    are left out, which are ways to make one.
    """
    attributes: dict[str, Any] = {}
    for kind in reversed(type.__getattribute__(type(thing), "__mro__")[:-1]):
        attributes.update(type.__getattribute__(kind, "__dict__"))
    makers = (classmethod, staticmethod)
    return {name: each for name, each in attributes.items() if not isinstance(each, makers)}


def _own(thing: Any) -> dict[str, Any]:
    try:
        own: dict[str, Any] = object.__getattribute__(thing, "__dict__")
    except AttributeError:  # slots
        return {}
    return dict(own)


def _may_be_called(value: Any) -> bool:
    """Whether it is no class, and no setting, lock or logger: those are the standard library's."""
    if isinstance(value, type):
        return False
    module: Any = type.__getattribute__(type(value), "__module__")
    return str(module).partition(".")[0] not in sys.stdlib_module_names
