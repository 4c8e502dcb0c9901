"""The input of a batch on disk or in a pipe, and a thread that reads it."""

from __future__ import annotations

import asyncio
import os
import stat
import threading
from collections.abc import Iterator
from queue import SimpleQueue

from greenroom.batch.prompts import BatchError, Prompt, PromptReader

STDIN = "-"
_BLOCK = 1 << 15


class Source:
    """A file, or stdin.

    Args:
        path: of a file; `-` is stdin.

    Attributes:
        name: how messages call it.
        rereadable: whether it can be read twice: a pipe cannot.

    Raises:
        BatchError: it cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self.name = "stdin" if path == STDIN else path
        self._owned = path != STDIN
        try:
            self.fd = os.open(path, os.O_RDONLY) if self._owned else 0
            mode = os.fstat(self.fd).st_mode
        except OSError as error:
            raise BatchError(f"{self.name}: {error.strerror or error}") from error
        if stat.S_ISDIR(mode):
            os.close(self.fd)
            raise BatchError(f"{self.name}: is a directory")
        self.rereadable = stat.S_ISREG(mode)
        self._start = self._at = os.lseek(self.fd, 0, os.SEEK_CUR) if self.rereadable else 0

    def read(self) -> bytes:
        """The next block, as soon as there is something; empty at the end.

        Raises:
            BatchError: the system says no.
        """
        try:
            if not self.rereadable:
                return os.read(self.fd, _BLOCK)
            block = os.pread(self.fd, _BLOCK, self._at)
        except OSError as error:
            raise BatchError(f"{self.name}: {error.strerror or error}") from error
        self._at += len(block)
        return block

    def rewind(self) -> None:
        """Read it from its beginning once more."""
        assert self.rereadable
        self._at = self._start

    def close(self) -> None:
        """Close what was opened."""
        if self._owned:
            os.close(self.fd)


def blocks_of(source: Source, reader: PromptReader) -> Iterator[list[Prompt]]:
    """The prompts of each block, if there are any.

    Raises:
        BatchError: something is no prompt; those before it have come.
    """
    block = b"something"
    while block:
        block = source.read()
        found: list[Prompt] = []
        wrong: BatchError | None = None
        try:
            for each in reader.feed(block) if block else reader.end():
                found.append(each)  # those before a wrong one count
        except BatchError as error:
            wrong = error
        if found:
            yield found
        if wrong is not None:
            raise wrong


class ReadingThread:
    """Goes through blocks of prompts, for a coroutine: to read may be to wait.

    A daemon: nobody waits for the end of a pipe that is silent. It reads nothing ahead.
    """

    def __init__(self, blocks: Iterator[list[Prompt]]) -> None:
        self._blocks = blocks
        self._wanted: SimpleQueue[asyncio.Future[list[Prompt]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="batch-input", daemon=True)
        self._thread.start()

    def next(self) -> asyncio.Future[list[Prompt]]:
        """The next list; an empty one at the end. It is asked for at once."""
        future: asyncio.Future[list[Prompt]] = asyncio.get_running_loop().create_future()
        self._wanted.put(future)
        return future

    def end(self) -> None:
        """Nothing more is wanted. What it is reading now it may go on waiting for."""
        self._wanted.put(None)

    def _work(self) -> None:
        while (future := self._wanted.get()) is not None:
            found: list[Prompt] = []
            wrong: Exception | None = None
            try:
                found = next(self._blocks, [])
            except Exception as error:
                wrong = error
            try:
                future.get_loop().call_soon_threadsafe(_settle, future, found, wrong)
            except RuntimeError:  # the loop has ended: nobody wants it
                return


def _settle(
    future: asyncio.Future[list[Prompt]], found: list[Prompt], wrong: Exception | None
) -> None:
    if future.done():
        return
    if wrong is None:
        future.set_result(found)
    else:
        future.set_exception(wrong)
