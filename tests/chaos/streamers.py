"""Agents that answer chunk by chunk: generators, and objects that must be closed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, Self

from chaos.chunks import chunks_before, those_that_count
from chaos.entry import Call, CallEnd, Entry
from chaos.moves import KINDS, Move
from chaos.players import AsyncPlayer, SyncPlayer, number_of, value_of
from chaos.stage import Stage
from greenroom import CallContext


def _give(call: Call, chunk: object) -> object:
    call.chunks.append(chunk)
    return chunk


def _last_of(entry: Entry, call: Call) -> object:
    return "" if call.move is Move.EMPTY else value_of(entry, call)


def _end_of(call: Call) -> CallEnd:
    """A stream without content is a failure, however quietly it ends."""
    return CallEnd.VALUE if those_that_count(call.chunks) else CallEnd.RAISED


def _closed(call: Call) -> None:
    if call.move is Move.CLOSE_RAISES:
        raise RuntimeError("a stream that does not close well")


class SyncStreamer(SyncPlayer):
    """A generator in a thread."""

    def stream(self, entry: Entry, context: CallContext | None = None) -> Any:
        if entry.next_move() is Move.AWAITABLE:
            return AsyncStreamer(self._stage, self.name).astream(entry, context)
        return self._chunks(entry, context)

    def _chunks(self, entry: Entry, context: CallContext | None) -> Iterator[object]:
        call = self._stage.begin(entry, self.name)
        try:
            for chunk in chunks_before(entry, call, number_of(entry)):
                yield _give(call, chunk)
            self._linger(entry, call.move)
            if call.move in KINDS:
                self._fail(entry, call, context)
            yield _give(call, _last_of(entry, call))
            call.ended(_end_of(call))
        except GeneratorExit:
            if call.end is CallEnd.RUNNING and call.move is Move.CLOSE_IGNORED:
                self._stage.leave(entry, call)  # nobody can make it end
                yield "nobody wants this"
            _closed(call)
            raise
        finally:
            self._stage.leave(entry, call)


class AsyncStreamer(AsyncPlayer):
    """A generator on an event loop."""

    async def astream(
        self, entry: Entry, context: CallContext | None = None
    ) -> AsyncIterator[object]:
        call = self._stage.begin(entry, self.name)
        try:
            for chunk in chunks_before(entry, call, number_of(entry)):
                yield _give(call, chunk)
            await self._linger(entry, call)
            if call.move in KINDS:
                self._fail(entry, call, context)
            yield _give(call, _last_of(entry, call))
            call.ended(_end_of(call))
        except GeneratorExit:
            if call.end is CallEnd.RUNNING and call.move is Move.CLOSE_IGNORED:
                self._stage.leave(entry, call)  # nobody can make it end
                yield "nobody wants this"
            _closed(call)
            raise
        finally:
            self._stage.leave(entry, call)


class SyncClient(SyncStreamer):
    """Answers with an object that has to be closed, as a client's response does."""

    def stream(self, entry: Entry, context: CallContext | None = None) -> Any:
        if entry.next_move() is Move.AWAITABLE:
            return AsyncClient(self._stage, self.name).astream(entry, context)
        return Response(self._chunks(entry, context), self._stage)


class AsyncClient(AsyncStreamer):
    """The same on an event loop, where the object has to be awaited first."""

    async def astream(self, entry: Entry, context: CallContext | None = None) -> Any:  # type: ignore[override]
        return AsyncResponse(super().astream(entry, context), self._stage)


class Closeable:
    """What must be closed: the garbage collector's doing does not count."""

    def __init__(self, chunks: Any, stage: Stage) -> None:
        self._chunks = chunks
        self._stage = stage
        self._open = stage.opened()


class Response(Closeable):
    """Chunks for a `for` loop."""

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> object:
        self._stage.read(self._open)
        return next(self._chunks)

    def close(self) -> None:
        self._stage.closed(self._open)
        self._chunks.close()


class AsyncResponse(Closeable):
    """Chunks for an `async for` loop."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> object:
        self._stage.read(self._open)
        return await anext(self._chunks)

    async def aclose(self) -> None:
        self._stage.closed(self._open)
        await self._chunks.aclose()
