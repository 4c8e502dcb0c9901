"""Sends the prompts of a batch through a pool, and writes what comes back."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from greenroom.actors.handle.pool_ref import PoolRef
from greenroom.batch.answer_lines import answer_line, error_line
from greenroom.batch.batch import Batch
from greenroom.batch.patience import Patience, turned_away
from greenroom.batch.prompts import BatchError, Prompt
from greenroom.batch.source import ReadingThread
from greenroom.batch.tally import Tally
from greenroom.kinds.secrets import without_secrets
from greenroom.messages.replies import MapResult


class End(Enum):
    """Why a run has ended."""

    DONE = auto()
    DRAINED = auto()
    NOBODY = auto()
    """For too long nobody has taken a prompt."""


@dataclass(frozen=True, slots=True)
class _Sent:
    prompt: Prompt
    at: float


class BatchRun:
    """One run: from what is still to be asked until all is written, or the end comes sooner.

    Args:
        pool: who is asked.
        batch: what is asked, and where the answers go.
        max_in_flight: prompts under way at a time; None: what suits the pool, as for `map`.
        wait_s: how long it goes on while prompts are turned away and none gets through.
        now: reads the time.

    Attributes:
        tally: how far it is.
        last_error: why a prompt was turned away last.
    """

    def __init__(
        self,
        pool: PoolRef,
        batch: Batch,
        *,
        max_in_flight: int | None = None,
        wait_s: float = 60.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        before = batch.before
        self.tally = Tally(before.total, before.answered + before.failed, now())
        self.last_error: Exception | None = None
        self._pool = pool
        self._batch = batch
        self._max_in_flight = max_in_flight
        self._now = now
        self._patience = Patience(wait_s, now())
        self._sent: dict[int, _Sent] = {}
        self._begun = 0
        self._back: deque[Prompt] = deque()
        self._changed = asyncio.Event()
        self._end = End.DONE
        self._wrong: BatchError | None = None

    async def run(self) -> End:
        """Ask and write. Cancelled, it leaves what is under way to a later run.

        Raises:
            BatchError: an input that could be read only once has a wrong line (what came before it
                is written), or the output cannot be written.
            PoolStoppedError: somebody else has stopped the pool.
        """
        results = self._pool.amap(
            self._prompts(), ordered=False, max_in_flight=self._max_in_flight, errors="return"
        )
        async with aclosing(results):
            async for result in results:
                self._take(result)
                self._changed.set()
        if self._wrong is not None:
            raise self._wrong
        return self._end

    def drain(self) -> None:
        """Ask nothing more; what is under way is waited for, and written."""
        self._end_by(End.DRAINED)

    def _end_by(self, end: End) -> None:
        if self._end is End.DONE:
            self._end = end
        self._changed.set()

    # -- what is asked

    async def _prompts(self) -> AsyncGenerator[Any, None]:
        reading = ReadingThread(self._batch.blocks())
        try:
            async with aclosing(self._queue(reading)) as queue:
                async for prompt in queue:
                    self._sent[self._begun] = _Sent(prompt, self._now())
                    self._begun += 1
                    yield prompt.payload
        finally:
            reading.end()

    async def _queue(self, reading: ReadingThread) -> AsyncGenerator[Prompt, None]:
        """What was put back first, then what stands in the input, until all of it is written."""
        ready: deque[Prompt] = deque()
        coming: asyncio.Future[list[Prompt]] | None = reading.next()
        while self._end is End.DONE:
            self._changed.clear()
            pause = self._patience.until - self._now()
            if pause > 0 and (self._back or ready):
                await self._change(pause)
            elif len(self._sent) >= self._patience.room:
                await self._change(None)
            elif self._back:
                yield self._back.popleft()
            elif ready:
                yield ready.popleft()
            elif coming is not None and coming.done():
                found = self._found(coming)
                ready.extend(found)
                coming = reading.next() if found else None
            elif coming is not None:
                await self._change(None, coming)
            elif self._sent:
                await self._change(None)  # one of them may be put back
            else:
                return

    def _found(self, coming: asyncio.Future[list[Prompt]]) -> list[Prompt]:
        try:
            return coming.result()
        except BatchError as error:
            self._wrong = error  # told when what came before it is written
            return []

    async def _change(
        self, pause: float | None, coming: asyncio.Future[list[Prompt]] | None = None
    ) -> None:
        """Wait for an answer, the end, more input, or so many seconds."""
        changed = asyncio.ensure_future(self._changed.wait())
        either: list[asyncio.Future[Any]] = [changed] if coming is None else [changed, coming]
        try:
            await asyncio.wait(either, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
        finally:
            changed.cancel()

    # -- what comes back

    def _take(self, result: MapResult[Any]) -> None:
        sent = self._sent.pop(result.index)
        if result.error is not None and turned_away(result.error):
            self._put_back(sent.prompt, result.error)
            return
        self._batch.answers.append(self._line(sent, result))

    def _put_back(self, prompt: Prompt, error: Exception) -> None:
        self.tally.sent_back += 1
        self.last_error = error
        self._back.append(prompt)
        # What is still under way may end it all the same.
        goes_on = self._patience.sent_back(error, self._now(), len(self._sent))
        if not (goes_on or self._sent):
            self._end_by(End.NOBODY)

    def _line(self, sent: _Sent, result: MapResult[Any]) -> bytes:
        error = result.error
        if result.reply is not None:
            try:
                line = answer_line(sent.prompt, result.reply)
            except ValueError as wrong:
                error = wrong
            else:
                self._patience.answered()
                self.tally.answered += 1
                self.tally.by_member[result.reply.member] += 1
                return line
        assert error is not None
        self.tally.failed += 1
        return error_line(sent.prompt, error, self._now() - sent.at, without_secrets)
