"""What an agent returns: an answer, or a stream that is still to be read. Pure.

An iterator, sync or async, streams. What can only be iterated over (`__iter__` or `__aiter__`
without a `__next__`) is a stream as well, since it holds nothing: botocore's `EventStream`, an
output that is still being made, pages that are fetched one by one. A container or a record is no
stream though it has an `__iter__`: it can be asked for its length or for an item, or it is a
dataclass, an attrs class, a pydantic model, whose fields it yields. A re-iterable object of an app
that has none of this is read; give it a `__len__` to have it taken as it is.

An HTTP response that has not been read is no answer either; each client says so in its own way.
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
    "__dataclass_fields__",
    "__attrs_attrs__",
    "__struct_fields__",
    "__pydantic_complete__",
    "__fields__",
)
"""The marks of a class whose `__iter__` yields its fields, or whose `__aiter__` further pages."""


def is_async_stream(value: Any) -> bool:
    """Whether it yields chunks to an `async for`."""
    kind = type(value)
    if hasattr(kind, "__anext__"):
        return True
    if not is_stream(value):
        return False
    if hasattr(kind, "__aiter__"):
        return True
    return (_is_httpx(value) and _async_body(value)) or _is_aiohttp(value)


def is_stream(value: Any) -> bool:
    """Whether an answer comes in chunks.

    An open file is an answer, though it is an iterator; so is the MagicMock of somebody's test,
    which has every method there is.
    """
    kind = type(value)
    if kind in PLAIN:
        return False
    if isinstance(value, type) or kind.__module__ == "unittest.mock":
        return False
    if isinstance(value, io.IOBase):
        return _is_unread_file(value)
    if hasattr(kind, "__next__") or hasattr(kind, "__anext__"):
        return True
    if _is_httpx(value):
        return value.is_stream_consumed is False
    if _is_aiohttp(value):
        return value._body is None
    if _is_requests(value):
        return value._content_consumed is False
    return _only_iterates(kind)


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


def _is_unread_file(value: io.IOBase) -> bool:
    """Whether it is an HTTP response of the standard library or of urllib3 with a body to come."""
    isclosed = getattr(value, "isclosed", None)
    return inspect.ismethod(isclosed) and hasattr(value, "headers") and not isclosed()
