"""What the tests of a machine without resources share: threads and loops that are refused."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import threading
from collections.abc import Iterator
from typing import Any

import pytest

REFUSED = "can't start new thread"
"""What CPython says when the system refuses one."""


class Machine:
    """Refuses threads and descriptors to whoever's names begin with `greenroom-`.

    Attributes:
        refused: how often it has refused something.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.refused = 0
        self._threads = self._descriptors = False
        self._left = 0
        start, new_loop = threading.Thread.start, asyncio.new_event_loop

        def guarded_start(thread: threading.Thread) -> None:
            if self._threads and thread.name.startswith("greenroom-"):
                if self._left <= 0:
                    self.refused += 1
                    raise RuntimeError(REFUSED)
                self._left -= 1
            start(thread)

        def guarded_loop() -> asyncio.AbstractEventLoop:
            if self._descriptors:
                self.refused += 1
                raise OSError(errno.EMFILE, "Too many open files")
            return new_loop()

        patch.setattr(threading.Thread, "start", guarded_start)
        patch.setattr(asyncio, "new_event_loop", guarded_loop)

    @contextlib.contextmanager
    def without(
        self, *, threads: bool = False, descriptors: bool = False, left: int = 0
    ) -> Iterator[Machine]:
        """Refuse these inside of the block, threads after the next `left` of them."""
        self._threads, self._descriptors, self._left = threads, descriptors, left
        try:
            yield self
        finally:
            self._threads = self._descriptors = False


def tree_of(error: BaseException) -> list[BaseException]:
    """The error and all that its attempts raised, further in as well."""
    found: list[BaseException] = [error]
    attempts: Any = getattr(error, "errors", ())
    for each in attempts:
        if each.error is not None:
            found += tree_of(each.error)
    return found
