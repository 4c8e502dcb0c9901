"""How an agent's answer flows: chunk by chunk into a writer, or collected into one list.

What streams (see `streamable`) is always closed in the end, in the place where it ran; whatever
else it is counts as one chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from greenroom.actors.reading.streamable import (
    PLAIN,
    achunks_of,
    chunks_of,
    is_async_stream,
    is_awaitable,
    is_stream,
)
from greenroom.actors.runtime.event_bus import complain
from greenroom.actors.runtime.loop_thread import spare_this_task
from greenroom.messages.replies import Restarted

__all__ = [
    "PLAIN",
    "Heard",
    "Writer",
    "aclose",
    "acollect",
    "collect",
    "flow",
    "is_async_stream",
    "is_awaitable",
    "is_stream",
    "pour",
]

Heard = Callable[[Any], object]
"""Told of each chunk that is collected; raises when nobody wants more."""


class Writer(Protocol):
    """The producer's end of a stream."""

    def write(self, chunk: Any) -> bool:
        """Pass a chunk on; False when nobody wants more."""

    def accept(self, answer: Any) -> None:
        """Pass on an answer that does not stream."""

    def has_room(self) -> bool:
        """Whether the next chunk may be made at once: then nobody need wait for it."""

    def wait_for_room(self) -> bool:
        """Wait, in a worker thread, until the next chunk may be made; False when it need not be."""

    async def room(self) -> bool:
        """The same on a loop."""


def pour(answer: Any, writer: Writer) -> None:
    """In a worker thread: pass an answer on, chunk by chunk if it streams."""
    if not is_stream(answer):
        writer.accept(answer)
        return
    chunks = None
    try:
        chunks = chunks_of(answer)
        for chunk in chunks:
            # Room is waited for before the next chunk is made: that one may never be wanted.
            if not writer.write(chunk) or not (writer.has_room() or writer.wait_for_room()):
                break
    finally:
        _close(chunks, answer)


async def flow(answer: Any, writer: Writer) -> None:
    """On a loop: pass an answer on, chunk by chunk if it streams."""
    if is_awaitable(answer):
        answer = await answer
    if not is_stream(answer):
        writer.accept(answer)
        return
    chunks: Any = None
    try:
        if is_async_stream(answer):
            chunks = achunks_of(answer)
            async for chunk in chunks:
                if not writer.write(chunk) or not (writer.has_room() or await writer.room()):
                    break
        else:
            chunks = chunks_of(answer)
            for chunk in chunks:
                if not writer.write(chunk) or not (writer.has_room() or await writer.room()):
                    break
    finally:
        await _aclose(chunks, answer)


def collect(answer: Any, heard: Heard | None = None) -> list[Any]:
    """In a worker thread: all chunks of an answer that streams."""
    chunks = None
    try:
        chunks = chunks_of(answer)
        if heard is None:
            # Nobody wants to hear of each chunk, so it is left to `list`: quicker than a loop.
            return _whole(list(chunks))
        made = []
        for chunk in chunks:
            heard(chunk)
            made.append(chunk)
        return _whole(made)
    finally:
        _close(chunks, answer)


async def acollect(answer: Any, heard: Heard | None = None) -> list[Any]:
    """On a loop: all chunks of an answer that streams."""
    if not is_async_stream(answer):
        return await _acollect_sync(answer, heard)
    chunks: Any = None
    try:
        chunks = achunks_of(answer)
        if heard is None:
            return _whole([chunk async for chunk in chunks])
        made = []
        async for chunk in chunks:
            heard(chunk)
            made.append(chunk)
        return _whole(made)
    finally:
        await _aclose(chunks, answer)


async def _acollect_sync(answer: Any, heard: Heard | None) -> list[Any]:
    chunks: Any = None
    try:
        chunks = chunks_of(answer)
        made = []
        for chunk in chunks:
            if heard is not None:
                heard(chunk)
            made.append(chunk)
        return _whole(made)
    finally:
        await _aclose(chunks, answer)


def _whole(chunks: list[Any]) -> list[Any]:
    """What an inner pool has started over is the whole answer."""
    for place in range(len(chunks) - 1, -1, -1):
        if type(chunks[place]) is Restarted:
            return chunks[place + 1 :]
    return chunks


def _close(chunks: Any, answer: Any) -> None:
    """Close what was read and what it was made of. What that raises costs nobody anything: the
    chunks are out, or another error is.
    """
    for each in _both(chunks, answer):
        close = _hook(each, "close")
        try:
            if close is not None:
                close()
        except BaseException as error:
            complain("closing a stream failed", error)


async def _aclose(chunks: Any, answer: Any) -> None:
    for each in _both(chunks, answer):
        await aclose(each)


async def aclose(answer: Any) -> None:
    """On a loop: close what streams, undisturbed. What that raises costs nobody anything."""
    # First: from here on the clean-up is what the task has left, and a cancellation, which comes
    # once, would cut it short.
    if not spare_this_task():
        return
    close = _hook(answer, "aclose") or _hook(answer, "close")
    try:
        closing = close() if close is not None else None
        if closing is not None and is_awaitable(closing):
            await closing
    except BaseException as error:
        complain("closing a stream failed", error)


def _both(chunks: Any, answer: Any) -> Iterable[Any]:
    return (answer,) if chunks is None or chunks is answer else (chunks, answer)


def _hook(answer: Any, name: str) -> Callable[[], Any] | None:
    try:
        found = getattr(answer, name, None)
    except BaseException:
        return None
    return found if callable(found) else None
