"""What an agent returns: an answer, or a stream that is still to be read. Pure.

An iterator, sync or async, streams. What can only be iterated over (`__iter__` or `__aiter__`
without a `__next__`) is a stream as well, since it holds nothing: botocore's `EventStream`, an
output that is still being made, pages that are fetched one by one. A container or a record is no
stream though it has an `__iter__`: it can be asked for its length or for an item, or it is a
dataclass, an attrs class, a pydantic model, whose fields it yields. A re-iterable object of an app
that has none of this is read; give it a `__len__` to have it taken as it is.

An HTTP response that has not been read is no answer either: it is read as bytes, and each client
says in its own way whether it has been. What would only become a stream in a `with` block is
refused: nothing that nobody has read counts as a success.
"""

from __future__ import annotations

import inspect
import io
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Any

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
    return (_is_httpx(value) and _async_body(value)) or _is_aiohttp(value)


def is_stream(value: Any) -> bool:
    """Whether an answer comes in chunks.

    An open file is an answer, though it is an iterator; so is the MagicMock of somebody's test,
    which has every method there is, and what raises when it is looked at.

    Raises:
        TypeError: it is a stream that has not been opened.
    """
    kind = type(value)
    if kind in PLAIN:
        return False
    try:
        streams = _streams(value, kind)
    except BaseException:  # a metaclass or a `__getattribute__` of somebody's
        return False
    if streams is None:
        raise TypeError(
            f"the agent returned a {kind.__name__} that was not opened: "
            f"enter it by `with` in the agent, and yield its chunks"
        )
    return streams


def _streams(value: Any, kind: type) -> bool | None:
    """Whether it comes in chunks; None of a stream that has not been opened."""
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
    return None if _is_unopened(kind) else _only_iterates(kind)


def chunks_of(value: Any) -> Iterator[Any]:
    """The chunks of what `is_stream`, sync."""
    chunks: Iterable[Any] = value.iter_bytes() if _is_httpx(value) else value
    return iter(chunks)


def achunks_of(value: Any) -> AsyncIterator[Any]:
    """The chunks of what `is_async_stream`."""
    chunks: AsyncIterable[Any] = value
    if hasattr(type(value), "__anext__"):
        pass
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


def _is_unopened(kind: type) -> bool:
    return kind.__name__.endswith(_UNOPENED) and (
        hasattr(kind, "__enter__") or hasattr(kind, "__aenter__")
    )
