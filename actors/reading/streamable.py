"""What an agent returns: an answer, or a stream that is still to be read. Pure.

An iterator, sync or async, streams. What can only be iterated over (`__iter__` or `__aiter__`
without a `__next__`) is a stream as well, since it holds nothing: botocore's `EventStream`, an
output that is still being made, pages that are fetched one by one. A container or a record is no
stream though it has an `__iter__`: it can be asked for its length or for an item, or it is a
dataclass, an attrs class, a pydantic model, whose fields it yields. A re-iterable object of an app
that has none of this is read; give it a `__len__` to have it taken as it is.

An HTTP response that has not been read is no answer either: it is read as bytes, and each client
says in its own way whether it has been. What can only be entered is entered, and what that gives is
read within. So are the handles of runs that hand out their stream by a method. What is none of
these, and still holds an answer that nobody has fetched, is refused: nothing that nobody has read
counts as a success.
"""

from __future__ import annotations

import contextlib
import inspect
import io
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Generator,
    Iterable,
    Iterator,
)
from types import CoroutineType
from typing import Any, NamedTuple

from greenroom.messages.errors import AgentTypeError

PLAIN = frozenset({str, bytes, int, float, bool, dict, list, tuple, type(None)})
"""Types of answers that need no second look: nearly all there are."""

_HOLDS = ("__len__", "__getitem__", "__contains__")
"""What a container can do, and a stream cannot."""
_RECORD = (
    "__dataclass_fields__", "__attrs_attrs__", "__struct_fields__", "__pydantic_complete__",
    "__fields__",
)  # fmt: skip
"""The marks of a class whose `__iter__` yields its fields, or whose `__aiter__` further pages."""
_UNOPENED = ("StreamManager", "ResponseContextManager")
"""How clients call what makes its request in a `with` block and streams there."""
_MADE_BY_DECORATOR = (
    contextlib._GeneratorContextManager,
    contextlib._AsyncGeneratorContextManager,
)
_SAYS_MORE = frozenset({
    "__call__", "__len__", "__getitem__", "__contains__", "__iter__", "__next__", "__aiter__",
    "__anext__", "__await__", "__getattr__", "__getattribute__", "__str__", "__repr__", "__eq__",
})  # fmt: skip
"""By these an object without any public name may be more than a way into a `with` block."""
_CLOSES = frozenset({"close", "aclose"})


class _Handle(NamedTuple):
    """A run that is under way, or has not begun, and hands out its stream by a method.

    Args:
        method: hands it out; its classes have it.
        is_unread: says of a value that nobody has read it.
        is_async: whether its chunks are for an `async for`.
        chunks: gives its chunks.
    """

    method: str
    is_unread: Callable[[Any], bool]
    is_async: Callable[[Any], bool]
    chunks: Callable[[Any], Any]


def _is_incomplete(run: Any) -> bool:
    return getattr(run, "is_complete", None) is False


def _generators_in(answer: Any) -> list[Any]:
    """Those that one of llama-index's holds in place of its text."""
    held = (answer.__dict__.get(name) for name in ("response_gen", "achat_stream", "chat_stream"))
    return [each for each in held if isinstance(each, Generator | AsyncGenerator)]


def _texts_of(answer: Any) -> Any:
    """What it gives them out by: the `achat_stream` of a chat is read by others as well."""
    if "response_gen" in answer.__dict__ or answer.__dict__.get("achat_stream") is None:
        return answer.response_gen
    return answer.async_response_gen()


_HANDLES = (
    _Handle(  # openai-agents
        "stream_events", _is_incomplete, lambda _: True, lambda run: run.stream_events()
    ),
    _Handle(  # pydantic-ai
        "stream_text",
        _is_incomplete,
        lambda run: inspect.isasyncgenfunction(type(run).stream_text),
        lambda run: run.stream_text(delta=True, debounce_by=None),
    ),
    _Handle(  # llama-index
        "print_response_stream",
        lambda answer: bool(_generators_in(answer)),
        lambda answer: isinstance(_generators_in(answer)[0], AsyncGenerator),
        _texts_of,
    ),
)


def is_awaitable(value: Any) -> bool:
    """Whether it is to be awaited; what cannot be looked at is not."""
    try:
        return inspect.isawaitable(value)
    except BaseException:
        return False


def is_async_stream(value: Any) -> bool:
    """Whether it yields chunks to an `async for`."""
    kind = type(value)
    try:
        if hasattr(kind, "__anext__"):
            return True
    except BaseException:  # a metaclass of somebody's
        return False
    if not is_stream(value):
        return False
    if hasattr(kind, "__aiter__"):
        return True
    if _is_manager(value, kind):
        return hasattr(kind, "__aenter__")
    handle = _handle_of(value, kind)
    if handle is not None:
        return handle.is_async(value)
    return (_is_httpx(value) and _async_body(value)) or _is_aiohttp(value)


def is_stream(value: Any) -> bool:
    """Whether an answer comes in chunks.

    An open file is an answer, though it is an iterator; so is the MagicMock of somebody's test,
    which has every method there is, and what raises when it is looked at.

    Raises:
        AgentTypeError: it is a run that nobody has entered, or a future that nobody has waited for.
    """
    kind = type(value)
    if kind in PLAIN:
        return False
    try:
        streams = _streams(value, kind)
    except BaseException:  # a metaclass or a `__getattribute__` of somebody's
        return False
    if isinstance(streams, str):
        if kind is CoroutineType:
            value.close()  # else Python complains that it was never awaited
        raise AgentTypeError(f"the agent returned a {kind.__name__} {streams}")
    return streams


def _streams(value: Any, kind: type) -> bool | str:
    """Whether it comes in chunks; why it is no answer, and what to do, if it holds one that nobody
    has fetched.
    """
    # A class has the methods of its instances, and is none of them.
    if isinstance(value, type) or kind.__module__ == "unittest.mock":
        return False
    if isinstance(value, io.IOBase):
        return _is_unread_body(value)
    # Files come before this: they are iterators as well.
    if hasattr(kind, "__next__") or hasattr(kind, "__anext__"):
        return True
    if _is_httpx(value):
        return value.is_stream_consumed is False
    if _is_aiohttp(value):
        return value._body is None and not value.content.at_eof()
    if _is_requests(value):
        return value._content_consumed is False
    if _is_manager(value, kind) or _handle_of(value, kind) is not None:
        return True
    if _is_unopened_run(kind):
        return "that was not opened: enter it by `async with` in the agent, and return its result"
    if _only_iterates(kind):
        return True
    if hasattr(kind, "__await__"):  # what an agent returns has been awaited once by now
        return "that nobody has awaited: await it in the agent, and return its result"
    if _is_future(kind):
        return "that nobody has waited for: wait for it in the agent, and return its result"
    return False


def chunks_of(value: Any) -> Iterator[Any]:
    """The chunks of what `is_stream`, sync."""
    kind = type(value)
    chunks: Iterable[Any] = value
    if hasattr(kind, "__next__"):
        pass
    elif _is_httpx(value):
        chunks = value.iter_bytes()
    elif _is_manager(value, kind):
        chunks = _entered(value)
    elif (handle := _handle_of(value, kind)) is not None:
        chunks = handle.chunks(value)
    return iter(chunks)


def achunks_of(value: Any) -> AsyncIterator[Any]:
    """The chunks of what `is_async_stream`."""
    kind = type(value)
    chunks: AsyncIterable[Any] = value
    if hasattr(kind, "__anext__"):
        pass
    elif _is_manager(value, kind):
        chunks = _aentered(value)
    elif (handle := _handle_of(value, kind)) is not None:
        chunks = handle.chunks(value)
    elif _is_httpx(value):
        chunks = value.aiter_bytes()
    elif _is_aiohttp(value):
        chunks = value.content.iter_any()
    return aiter(chunks)


def _only_iterates(kind: type) -> bool:
    is_async = hasattr(kind, "__aiter__")
    if not is_async and not hasattr(kind, "__iter__"):
        return False
    if any(hasattr(kind, name) for name in _RECORD):
        return any(callable(getattr(kind, name, None)) for name in ("close", "aclose"))
    if is_async:
        return True
    return not hasattr(kind, "__await__") and not any(hasattr(kind, name) for name in _HOLDS)


def _is_httpx(value: Any) -> bool:
    """An `httpx.Response`, read or not; the first look is at the class, which runs no code."""
    kind = type(value)
    return hasattr(kind, "aiter_bytes") and _has(value, "is_stream_consumed")


def _async_body(response: Any) -> bool:
    body = type(response.stream)
    return hasattr(body, "__aiter__") and not hasattr(body, "__iter__")


def _is_aiohttp(value: Any) -> bool:
    """An `aiohttp.ClientResponse`."""
    if not hasattr(type(value), "start") or not _has(value, "_body"):
        return False
    return hasattr(type(getattr(value, "content", None)), "iter_any")


def _is_requests(value: Any) -> bool:
    """A `requests.Response`, which yields its body where that has not been read."""
    return hasattr(type(value), "iter_content") and _has(value, "_content_consumed")


def _has(value: Any, name: str) -> bool:
    try:
        return hasattr(value, name)
    except BaseException:  # a lazy client's property may raise anything
        return False


def _is_unread_body(value: Any) -> bool:
    """Whether it is no file but the body of an HTTP response, of which something is to come: of the
    standard library, of urllib3, or botocore's `StreamingBody`.
    """
    if inspect.ismethod(getattr(value, "isclosed", None)) and _has(value, "headers"):
        return not value.isclosed() and getattr(value, "length", None) != 0
    if hasattr(type(value), "set_socket_timeout") and _has(value, "_amount_read"):
        return str(value._amount_read) != str(value._content_length)
    return False


def _is_manager(value: Any, kind: type) -> bool:
    """Whether it is good for nothing but to be entered: an answer says something by itself."""
    if not hasattr(kind, "__enter__") and not hasattr(kind, "__aenter__"):
        return False
    if isinstance(value, _MADE_BY_DECORATOR) or kind.__name__.endswith(_UNOPENED):
        return True
    names = {*getattr(value, "__dict__", ()), *(n for cls in kind.__mro__[:-1] for n in vars(cls))}
    public = {name for name in names if not name.startswith("_")}
    return public <= _CLOSES and names.isdisjoint(_SAYS_MORE)


def _entered(manager: Any) -> Iterator[Any]:
    """The chunks of what entering gives; it is left where they are read."""
    with manager as inside:
        if not is_stream(inside) or is_async_stream(inside):
            raise _no_stream(manager, inside)
        yield from chunks_of(inside)


async def _aentered(manager: Any) -> AsyncIterator[Any]:
    async with manager as inside:
        if not is_stream(inside):
            raise _no_stream(manager, inside)
        if not is_async_stream(inside):
            for chunk in chunks_of(inside):
                yield chunk
            return
        chunks = achunks_of(inside)
        try:
            async for chunk in chunks:
                yield chunk
        finally:
            if isinstance(chunks, AsyncGenerator):  # before what it reads from is left
                await chunks.aclose()


def _no_stream(manager: Any, inside: Any) -> AgentTypeError:
    return AgentTypeError(
        f"the agent returned a {type(manager).__name__} that was not opened, and what it gives is "
        f"no stream, but a {type(inside).__name__}: enter it in the agent, and return its answer"
    )


def _handle_of(value: Any, kind: type) -> _Handle | None:
    for handle in _HANDLES:
        if hasattr(kind, handle.method) and handle.is_unread(value):
            return handle
    return None


_OF_FUTURES = (
    {"result", "done", "add_done_callback"},  # concurrent.futures, and what follows it
    {"get", "ready", "successful", "wait"},  # multiprocessing, Celery
)


def _is_future(kind: type) -> bool:
    """Whether its result comes later, to who asks for that."""
    return any(all(hasattr(kind, name) for name in names) for names in _OF_FUTURES)


def _is_unopened_run(kind: type) -> bool:
    """Whether it brings its result only where it has been entered."""
    return hasattr(kind, "__aenter__") and inspect.iscoroutinefunction(
        getattr(kind, "result", None)
    )
