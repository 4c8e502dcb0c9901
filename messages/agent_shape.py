"""What can be seen of an agent before it is asked anything: its method, and whether that can be
called as a pool calls it. Pure.

Refused is only what is certain to fail. A signature is believed where Python itself goes by it, of
plain functions and their methods; of proxies, mocks, builtins and whatever has a `__signature__`
nobody can tell what they take, and a decorator may hand on more than it is given.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import inspect
import re
import sys
import types
import typing
from collections.abc import Callable, Iterable
from typing import Annotated, Any, ForwardRef, Literal, NamedTuple, Union, get_args, get_origin

from greenroom.messages import _validate as check
from greenroom.messages.call_context import CallContext
from greenroom.messages.errors import AgentTypeError
from greenroom.messages.framework_agents import Trap, trap_of

Method = str | Literal[False] | None
"""The name of the method to call; None: the first of `METHODS`; False: none, whatever it has."""

_OF_AGENTS = ("arun", "ainvoke", "run", "invoke", "kickoff")
"""Whatever has one of these means to be run."""
METHODS = (*_OF_AGENTS, "execute", "complete")
"""The run methods looked for on an object, in this order; `__call__` is the last resort."""
STREAM_METHODS = ("astream", "stream")
"""What is looked for first where chunks are wanted, and last where one answer is."""

_PLAIN_DATA = (str, bytes, bytearray, int, float, complex, list, tuple, dict, set, frozenset)
_PARTS_THAT_COUNT = {"Optional": 1, "Annotated": 1, "Union": sys.maxsize}
"""Of what stands in the brackets of an annotation, how much says what the parameter takes."""
_ALIAS: type | tuple[()] = getattr(typing, "TypeAliasType", ())  # since Python 3.12
_CONTEXT_NAMES = re.compile(r"(?:.*_)?(?:call|context|ctx)")
_MANAGERS = (contextlib._GeneratorContextManager, contextlib._AsyncGeneratorContextManager)
_DECORATORS: tuple[Any, ...] = (contextlib.contextmanager, contextlib.asynccontextmanager)
# All that one of them decorates has the same code.
_MANAGER_MAKERS = tuple(decorate(iter).__code__ for decorate in _DECORATORS)
_MADE_BY_CALLING = {
    types.CoroutineType: "a coroutine",
    types.GeneratorType: "a generator",
    types.AsyncGeneratorType: "an async generator",
}
_MUST = "must take one argument, the payload"
_FOR_APPLY = "method=False, if apply and attempts alone are to use it"
_BY_POSITION = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
    inspect.Parameter.VAR_POSITIONAL,
)
_PAYLOAD = object()
_CONTEXT = object()


class ContextParameter(NamedTuple):
    """Where an agent wants its `CallContext`: no name, nowhere."""

    name: str | None = None
    first: bool = False
    by_name: bool = True


# -- what is called


def method_of(agent: Any, name: str) -> Callable[..., Any] | None:
    """That method of the agent, if it has one; an attribute that raises is none."""
    try:
        found = getattr(agent, name, None)
    except BaseException:  # a lazy client's property; actors look here, and must live
        return None
    return found if callable(found) else None


def callable_of(
    agent: Any, method: Method, names: Iterable[str | None]
) -> Callable[..., Any] | None:
    """Its first method of these names; None among them is the agent itself, if it can be called."""
    if method is False:
        return None
    if method is not None:
        return method_of(agent, method)
    if is_called_itself(agent):
        found: Callable[..., Any] = agent
        return found
    for name in names:
        call = method_of(agent, name) if name is not None else agent
        if callable(call) and (name is None or not _gives_manager(call)):
            return call
    return None


def _gives_manager(method: Any) -> bool:
    """Whether it gives what is to be entered, as httpx's `stream` does: that is no answer, and its
    signature does not say what it takes. What else wraps a generator function may well give one.
    """
    try:
        return _is_manager_maker(inspect.unwrap(method, stop=_is_manager_maker))
    except Exception:
        return False


def _is_manager_maker(function: Any) -> bool:
    return getattr(function, "__code__", None) in _MANAGER_MAKERS


def is_called_itself(agent: Any) -> bool:
    """Whether nobody looks for a method of it: a function, a class, a partial."""
    return (
        inspect.isroutine(agent) or inspect.isclass(agent) or isinstance(agent, functools.partial)
    )


def is_function(look: Callable[[Any], bool], thing: Any) -> bool:
    """Whether it is a function of the kind that this look of `inspect` is for. A mock that passes
    for a function is none: its code is a mock as well, in which every flag may seem to be set.
    """
    try:
        if not look(thing):
            return False
        while isinstance(thing, functools.partial):
            thing = thing.func
        return isinstance(getattr(getattr(thing, "__code__", None), "co_flags", 0), int)
    except Exception:
        return False


def parameters_of(call: Callable[..., Any]) -> list[inspect.Parameter] | None:
    """None where nobody can tell them, as for a builtin."""
    try:
        return list(inspect.signature(call).parameters.values())
    except Exception:
        return None


def context_parameter(call: Callable[..., Any]) -> ContextParameter:
    """Its name, whether it is the first one, whether it can be given by name."""
    parameters = parameters_of(call) or ()
    names = _names_where_written(call) if parameters else {}
    for position, each in enumerate(parameters):
        if _is_context(_meant(each.annotation, names)):
            first = position == 0 and each.kind is not inspect.Parameter.KEYWORD_ONLY
            by_name = each.kind is not inspect.Parameter.POSITIONAL_ONLY
            return ContextParameter(each.name, first, by_name)
    return ContextParameter()


def _names_where_written(call: Any) -> dict[str, Any]:
    """What the annotations of its signature can name; nothing if nobody can tell."""
    try:
        names: dict[str, Any] = _written(call).__globals__
        return names
    except Exception:
        return {}


def _written(call: Any) -> Any:
    """The function that shows its parameters, below partials, decorators and bound methods."""
    if isinstance(call, functools.partial):
        return _written(call.func)
    if inspect.isclass(call):
        own = _of_class(call, "__init__")
        return _written(_of_class(call, "__new__") if own is None else own)
    if not inspect.isroutine(call) and not hasattr(call, "__wrapped__"):
        return _written(type(call).__call__)
    below = inspect.unwrap(call)
    return below if inspect.isfunction(below) else _written(getattr(below, "__func__", below))


def _meant(annotation: Any, names: dict[str, Any]) -> Any:
    """What an annotation stands for, with all that is quoted in it; as it is where that cannot be
    found out, as of names that only a type checker imports.
    """
    if type(annotation) is type:
        return annotation
    try:
        one = types.SimpleNamespace(__annotations__={"it": annotation})
        return typing.get_type_hints(one, names)["it"]
    except BaseException:  # code of anybody's; actors look here, and must live
        return annotation


def _is_context(annotation: Any) -> bool:
    """Whether it says `CallContext`, or that or something else; what is quoted goes by its name."""
    if isinstance(annotation, ForwardRef):
        annotation = annotation.__forward_arg__
    if isinstance(annotation, str):
        return _text_is_context(annotation)
    kind = get_origin(annotation)
    if kind is Annotated:
        return _is_context(annotation.__origin__)
    if isinstance(annotation, _ALIAS):
        return _alias_is_context(annotation)
    if kind in (Union, types.UnionType):
        return any(_is_context(part) for part in get_args(annotation))
    return annotation is CallContext


def _alias_is_context(alias: Any) -> bool:
    try:
        return _is_context(alias.__value__)
    except Exception:  # it is evaluated here, and may hold itself
        return False


def _text_is_context(text: str) -> bool:
    try:
        return _code_is_context(ast.parse(text.strip(), mode="eval").body)
    except Exception:  # no code, or too much of it
        return False


def _code_is_context(code: ast.expr) -> bool:
    match code:
        case ast.Constant(value=str(quoted)):
            return _text_is_context(quoted)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _code_is_context(left) or _code_is_context(right)
        case ast.Subscript(value=kind, slice=inner):
            parts = inner.elts if isinstance(inner, ast.Tuple) else [inner]
            known = _PARTS_THAT_COUNT.get(_last_name(kind), 0)
            return any(_code_is_context(part) for part in parts[:known])
    return _last_name(code) == CallContext.__name__


def _last_name(code: ast.expr) -> str:
    match code:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


# -- what is refused


def is_plain_data(agent: Any, method: Method) -> bool:
    """Whether it is a text, a number or a collection, and no kind of them that has a method of its
    own to call.
    """
    kind = type(agent)
    if kind in _PLAIN_DATA or not issubclass(kind, _PLAIN_DATA):
        return kind in _PLAIN_DATA
    names = (*METHODS, None, *STREAM_METHODS)
    return method is None and callable_of(agent, None, names) is None


def check_agent(whose: str, agent: Any, method: Method) -> None:
    """Refuse what can be seen to be no agent.

    Args:
        whose: the agent in words, with which the error begins: "agent of member 'a'".
        method: the name of the method that is to be called; False: none is, so it is not looked at.

    Raises:
        AgentTypeError: it is none, or cannot be called with a payload.
    """
    _check_kind(whose, agent)
    if method is False:
        return
    trap = trap_of(agent)
    if trap is not None and (method is None or trap.even_named):
        raise AgentTypeError(f"{whose} {_trap_in_words(agent, trap)}")
    if method is not None and method_of(agent, method) is None:
        raise AgentTypeError(
            f"method must name a method of the {whose}, got {method!r} "
            f"({type(agent).__name__} has none)"
        )
    call = callable_of(agent, method, (*METHODS, None))
    misfit = None if call is None else misfit_of(call)
    if _is_class(agent) and _instance_was_meant(agent, method, call, misfit):
        name = agent.__qualname__
        raise AgentTypeError(
            f"{whose} must be an instance, got the class {name}: write {name}(...), "
            f"or factory={name} to have the pool make it"
        )
    if misfit is None:
        return
    if method is not None or call is agent or misfit.lacks_annotation:
        raise AgentTypeError(f"{whose} {misfit.words}")
    # Clients call other things so: MCP's `complete(ref, argument)` is no run, and `apply` uses it.
    if callable_of(agent, None, _OF_AGENTS) is not None:
        raise AgentTypeError(f"{whose} {misfit.words}; or {_FOR_APPLY}")


def _trap_in_words(agent: Any, trap: Trap) -> str:
    return (
        f"cannot be asked as it is: {type(agent).__name__} ({trap.package}) {trap.why}. "
        f"Write {trap.write}; or {trap.unless}"
    )


def _check_kind(whose: str, agent: Any) -> None:
    made = _made_by_calling(agent)
    if made is not None:
        raise AgentTypeError(f"{whose} must be what is called for each request, got {made}")
    if type(agent) in _MANAGERS:
        raise AgentTypeError(
            f"{whose} must be ready to be called, got a context manager: have the pool enter it, "
            f"by factory={_name_of(agent.func)}"
        )
    if type(agent) is object:
        raise AgentTypeError(
            f"{whose} must be a callable, or an object with a method to call, got an object()"
        )


def _made_by_calling(given: Any) -> str | None:
    """What it is, and what to write, if somebody has called the function that was meant."""
    kind = _MADE_BY_CALLING.get(type(given))
    if kind is None:
        return None
    if inspect.iscoroutine(given) and inspect.getcoroutinestate(given) == inspect.CORO_CREATED:
        given.close()  # else Python complains that it was never awaited
    return f"{kind}: leave the call out, and write {_name_of(given)}"


def _is_class(agent: Any) -> bool:
    """Whether it is one, and none in disguise, nor a class of classes."""
    kind = type(agent)
    return issubclass(kind, type) and not issubclass(agent, type)


def _instance_was_meant(kind: type, method: Method, call: Any, misfit: Misfit | None) -> bool:
    if method is None:
        return misfit is not None or _has_run_method(kind)
    # A method that nobody is bound to would take the payload for its instance.
    return misfit is not None and type(call) is types.FunctionType


def _has_run_method(kind: type) -> bool:
    return any(type(_of_class(kind, name)) is types.FunctionType for name in (*METHODS, "__call__"))


def check_factory(member: str, factory: Any) -> None:
    """Refuse what can be seen to make no agent.

    Raises:
        TypeError: it cannot be called.
        AgentTypeError: it cannot be called with nothing, or makes a generator.
    """
    whose = f"factory of member {member!r}"
    made = _made_by_calling(factory)
    if made is None and type(factory) in _MANAGERS:
        made = f"a context manager: leave the call out, and write {_name_of(factory.func)}"
    if made is not None:
        raise AgentTypeError(f"{whose} must be what is called for each agent, got {made}")
    check.function("factory", factory, secret=True)
    for look, decorator in (
        (inspect.isgeneratorfunction, "contextmanager"),
        (inspect.isasyncgenfunction, "asynccontextmanager"),
    ):
        if is_function(look, factory):
            raise AgentTypeError(
                f"{whose} must return an agent, got the generator function {_name_of(factory)}: "
                f"decorate it with @contextlib.{decorator}"
            )
    signature = _signature(factory)
    if signature is not None and not _takes(signature):
        wanted = ", ".join(_wanted(signature, 0)) or "something"
        raise AgentTypeError(
            f"{whose} must be called with nothing, got {_shown(factory, signature)}, which wants "
            f"{wanted}: write factory=functools.partial({_name_of(factory)}, ...)"
        )


class Misfit(NamedTuple):
    """Why a call with a payload is certain to fail.

    Attributes:
        lacks_annotation: it would take the payload, but for a parameter that looks like that of a
            `CallContext`, and is not annotated.
    """

    words: str
    lacks_annotation: bool = False


def misfit_of(call: Callable[..., Any]) -> Misfit | None:
    """Why it cannot take a payload; None where it can, or nobody can tell."""
    signature = _signature(call)
    if signature is None:
        return None
    context = context_parameter(call)
    if _takes(signature, *_arguments(context), **_by_name(context)):
        return None
    words = f"{_MUST}, got {_shown(call, signature)}, which"
    if not any(each.kind in _BY_POSITION for each in signature.parameters.values()):
        if not signature.parameters:
            return Misfit(f"{words} takes none")
        return Misfit(f"{words} takes none by position{_by_keyword(call, signature)}")
    given = _arguments(context)
    wanted = [name for name in _wanted(signature, len(given)) if name != context.name]
    if not wanted:
        return Misfit(f"{words} does not take the call that it is annotated with")
    words = f"{words} wants {', '.join(wanted)} as well"
    first = signature.parameters[wanted[0]]
    if first.annotation is not inspect.Parameter.empty or context.name is not None:
        return Misfit(f"{words}: give it a default, or bind it by functools.partial")
    return Misfit(
        f"{words}: annotate it if it is to be told of the call, {first.name}: CallContext; else "
        "give it a default",
        _CONTEXT_NAMES.fullmatch(first.name) is not None and len(wanted) == 1,
    )


def _by_keyword(call: Any, signature: inspect.Signature) -> str:
    """How it may be called instead, if that can be told."""
    kind = inspect.Parameter.KEYWORD_ONLY
    named = [each.name for each in signature.parameters.values() if each.kind is kind]
    if not named or type(call) is functools.partial:
        return ""
    wanted = _wanted(signature, 0) or named[:1]
    given = "payload" if len(wanted) == 1 else "..."
    name = call.__name__ if type(call) is types.FunctionType else f"agent.{call.__name__}"
    return f": write lambda payload: {name}({', '.join(f'{each}={given}' for each in wanted)})"


def _arguments(context: ContextParameter) -> tuple[object, ...]:
    """What it is called with by position: see `Runner.run`."""
    if context.name is None or (context.by_name and not context.first):
        return (_PAYLOAD,)
    return (_CONTEXT, _PAYLOAD) if context.first else (_PAYLOAD, _CONTEXT)


def _by_name(context: ContextParameter) -> dict[str, object]:
    if context.name is None or context.first or not context.by_name:
        return {}
    return {context.name: _CONTEXT}


def _takes(signature: inspect.Signature, *arguments: object, **named: object) -> bool:
    try:
        signature.bind(*arguments, **named)
        return True
    except TypeError:
        return False


def _wanted(signature: inspect.Signature, given: int) -> list[str]:
    """The parameters without a default, but for so many that are given by position."""
    parameters = list(signature.parameters.values())
    without = [each for each in parameters if each.default is inspect.Parameter.empty]
    by_position = [each.name for each in without if each.kind in _BY_POSITION[:2]]
    by_name = [each.name for each in without if each.kind is inspect.Parameter.KEYWORD_ONLY]
    return by_position[given:] + by_name


def _signature(call: Any) -> inspect.Signature | None:
    """What it takes, where that is certain: of the function that is called, not of one that it
    wraps.
    """
    try:
        plain = _plain(call)
        return None if plain is None else inspect.signature(plain, follow_wrapped=False)
    except Exception:
        return None


def _plain(call: Any) -> Callable[..., Any] | None:
    """The function or method that Python calls, if it is a plain one."""
    kind = type(call)
    if kind is functools.partial:
        return None if _plain(call.func) is None else call
    if kind is types.MethodType:
        return None if _plain(call.__func__) is None else call
    if kind is types.FunctionType:
        return None if "__signature__" in call.__dict__ else call
    if inspect.isclass(call):
        return _maker(call)
    own = _of_class(kind, "__call__")
    return types.MethodType(own, call) if type(own) is types.FunctionType else None


def _maker(kind: type) -> Callable[..., Any] | None:
    """What takes the arguments when the class is called, if nothing else has a say in it."""
    if type(kind) is not type or _of_class(kind, "__new__") is not None:
        return None
    if "__signature__" in vars(kind):
        return None
    init = _of_class(kind, "__init__")
    if init is None:
        return _takes_nothing
    return types.MethodType(init, kind) if type(init) is types.FunctionType else None


def _of_class(kind: type, name: str) -> Any:
    """What the classes of it say themselves, above `object`."""
    return next((vars(base)[name] for base in kind.__mro__[:-1] if name in vars(base)), None)


def _takes_nothing() -> None:
    """In the place of a class that has no `__init__`."""


def _name_of(call: Any) -> str:
    while type(call) is functools.partial:
        call = call.func
    name = getattr(call, "__qualname__", type(call).__qualname__)
    return str(name).rpartition("<locals>.")[2]


def _shown(call: Any, signature: inspect.Signature) -> str:
    """Its name and its parameters, without defaults: those may be secret."""
    return f"{_name_of(call)}({', '.join(signature.parameters)})"
