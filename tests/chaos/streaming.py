"""Streams, and those who consume them: to the end, slowly, or not that far."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Coroutine
from typing import Any

from chaos.entry import End, Entry, end_of
from chaos.ledger import Ledger
from chaos.steps import Reading
from chaos.traffic import ByLoop, ByThreads, Sender, work_of
from greenroom import PoolFuture, PoolRef, PoolStream, Restarted


class StreamByThreads(ByThreads):
    """`for`, by threads. It is under way, and is held back, before a thread has time for it."""

    def send(self, pool: PoolRef, ledger: Ledger, entry: Entry) -> None:
        stream = pool.stream(work_of(entry))
        entry.hold = weakref.ref(stream)  # the consumer alone keeps it: it may let go of it
        self._waiting.put(functools.partial(self._consume, [stream], ledger, entry))

    def cancel(self, pool: PoolRef, entry: Entry) -> PoolFuture[bool] | None:
        if entry.send.cancel_by_id:
            return Sender.cancel(self, pool, entry)
        stream = entry.hold()
        if stream is not None:
            stream.cancel()
        return None

    @staticmethod
    def _consume(stream: list[PoolStream[Any]], ledger: Ledger, entry: Entry) -> None:
        ledger.heard(entry, consume(stream.pop(), entry))


class StreamByLoop(ByLoop):
    """`async for`, by tasks of an event loop."""

    def _asking(self, pool: PoolRef, entry: Entry) -> Coroutine[Any, Any, End]:
        return aconsume(pool.stream(work_of(entry)), entry)


def consume(stream: PoolStream[Any], entry: Entry) -> End:
    """Take what the plan says, and tell how it ended; the stream is let go of."""
    if entry.send.reading is Reading.DROP:
        return End.LEFT
    try:
        for chunk in stream:
            if _has_had_enough(entry, chunk):
                return End.LEFT
            if _pauses(entry):
                _gate(entry).wait()
    except Exception as error:
        return _over(stream, entry, end_of(error), _next_end(stream))
    return _over(stream, entry, End.VALUE, _next_end(stream))


async def aconsume(stream: PoolStream[Any], entry: Entry) -> End:
    """The same in a coroutine."""
    if entry.send.reading is Reading.DROP:
        return End.LEFT
    try:
        async for chunk in stream:
            if _has_had_enough(entry, chunk):
                return End.LEFT
            if _pauses(entry):
                await _gate(entry).passed()
    except Exception as error:
        return _over(stream, entry, end_of(error), await _anext_end(stream))
    return _over(stream, entry, End.VALUE, await _anext_end(stream))


def _has_had_enough(entry: Entry, chunk: object) -> bool:
    if type(chunk) is Restarted:  # a chunk may raise where its class is asked for
        entry.chunks.clear()
        entry.marks += 1
        return False
    entry.chunks.append(chunk)
    return entry.send.reading is Reading.LEAVE and len(entry.chunks) >= entry.send.take


def _pauses(entry: Entry) -> bool:
    slow = entry.send.reading is Reading.SLOW and entry.marks == 0
    return slow and len(entry.chunks) == entry.send.take


def _gate(entry: Entry) -> Any:
    assert entry.pause is not None
    return entry.pause()


def _over(stream: PoolStream[Any], entry: Entry, end: End, again: End) -> End:
    entry.member, entry.again = stream.member, again
    return end


def _next_end(stream: PoolStream[Any]) -> End:
    try:
        next(stream)
    except StopIteration:
        return End.VALUE
    except Exception as error:
        return end_of(error)
    return End.OTHER


async def _anext_end(stream: PoolStream[Any]) -> End:
    try:
        await anext(stream)
    except StopAsyncIteration:
        return End.VALUE
    except Exception as error:
        return end_of(error)
    return End.OTHER
