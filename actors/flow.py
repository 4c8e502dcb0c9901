"""How an agent's answer flows: chunk by chunk into a writer, or collected into one list.

An answer streams if it is an iterator, sync or async; whatever else it is counts as one chunk.
What streams is always closed in the end, in the place where it ran.
"""

from __future__ import annotations

import inspect
import io
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Protocol, cast

from greenroom.actors.eventbus import complain
from greenroom.actors.loopthread import spare_this_task

PLAIN = frozenset({str, bytes, int, float, bool, dict, list, tuple, type(None)})
"""Types of answers that need no second look: nearly all there are."""


class Writer(Protocol):
    """The producer's end of a stream."""

    def write(self, chunk: Any) -> bool:
        """Pass a chunk on; False when nobody wants more."""

    def accept(self, answer: Any) -> None:
        """Pass on an answer that does not stream."""

    def wait_for_room(self) -> bool:
        """Wait, in a worker thread, until the next chunk may be made; False when it need not be."""

    async def room(self) -> bool:
        """The same on a loop."""


def is_async_stream(value: Any) -> bool:
    """Whether it yields chunks to an `async for`."""
    return hasattr(type(value), "__anext__")


def is_stream(value: Any) -> bool:
    """Whether an answer comes in chunks.

    An open file is an answer, though it is an iterator; so is the MagicMock of somebody's test,
    which has every method there is.
    """
    kind = type(value)
    if kind in PLAIN:
        return False
    if not hasattr(kind, "__next__") and not hasattr(kind, "__anext__"):
        return False
    return not isinstance(value, io.IOBase) and kind.__module__ != "unittest.mock"


def pour(answer: Any, writer: Writer) -> None:
    """In a worker thread: pass an answer on, chunk by chunk if it streams."""
    if not is_stream(answer):
        writer.accept(answer)
        return
    try:
        for chunk in answer:
            if not writer.write(chunk) or not writer.wait_for_room():
                break
    finally:
        _close(answer)


async def flow(answer: Any, writer: Writer) -> None:
    """On a loop: pass an answer on, chunk by chunk if it streams."""
    if inspect.isawaitable(answer):
        answer = await answer
    if not is_stream(answer):
        writer.accept(answer)
        return
    try:
        if not is_async_stream(answer):
            await _flow_sync(answer, writer)
            return
        async for chunk in cast(AsyncIterator[Any], answer):
            if not writer.write(chunk) or not await writer.room():
                break
    finally:
        await aclose(answer)


async def _flow_sync(answer: Iterator[Any], writer: Writer) -> None:
    for chunk in answer:
        if not writer.write(chunk) or not await writer.room():
            break


def collect(answer: Iterator[Any]) -> list[Any]:
    """In a worker thread: all chunks of an answer that streams."""
    try:
        return list(answer)
    finally:
        _close(answer)


async def acollect(answer: Any) -> list[Any]:
    """On a loop: all chunks of an answer that streams."""
    try:
        if is_async_stream(answer):
            return [chunk async for chunk in answer]
        return list(answer)
    finally:
        await aclose(answer)


def _close(answer: Any) -> None:
    """What closing raises costs nobody anything: the chunks are out, or another error is."""
    close = _hook(answer, "close")
    try:
        if close is not None:
            close()
    except BaseException as error:
        complain("closing a stream failed", error)


async def aclose(answer: Any) -> None:
    """On a loop: close what streams, undisturbed. What that raises costs nobody anything."""
    spare_this_task()
    close = _hook(answer, "aclose") or _hook(answer, "close")
    try:
        closing = close() if close is not None else None
        if inspect.isawaitable(closing):
            await closing
    except BaseException as error:
        complain("closing a stream failed", error)


def _hook(answer: Any, name: str) -> Callable[[], Any] | None:
    try:
        found = getattr(answer, name, None)
    except BaseException:
        return None
    return found if callable(found) else None
