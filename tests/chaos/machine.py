"""A machine that gives no thread or no descriptor for a while: to the members of pools alone."""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

MEMBERS_THREADS = "greenroom-chaos"
"""How the names of worker threads and of loops begin; those of actors do not."""


class Machine:
    """What it refuses is set by the driver.

    Attributes:
        threads, descriptors: whether it has any.
    """

    def __init__(self, count: Callable[[str], None]) -> None:
        self.threads = self.descriptors = True
        self._count = count

    def mend(self) -> None:
        """It has everything again."""
        self.threads = self.descriptors = True

    @contextmanager
    def mended(self) -> Iterator[None]:
        """It has everything meanwhile."""
        before = self.threads, self.descriptors
        self.mend()
        yield
        self.threads, self.descriptors = before

    @contextmanager
    def in_charge(self) -> Iterator[None]:
        """Every thread and every loop of the process comes from it meanwhile."""
        start, new_loop = threading.Thread.start, asyncio.new_event_loop

        def guarded_start(thread: threading.Thread) -> None:
            name = thread.name
            if not self.threads and name.startswith(MEMBERS_THREADS):
                self._count("thread refused")
                raise RuntimeError("can't start new thread")
            start(thread)

        def guarded_loop() -> asyncio.AbstractEventLoop:
            if not self.descriptors:
                self._count("descriptor refused")
                raise OSError(errno.EMFILE, "Too many open files")
            return new_loop()

        patched: Any = threading.Thread
        patched.start = guarded_start
        asyncio.new_event_loop = guarded_loop
        try:
            yield
        finally:
            patched.start = start
            asyncio.new_event_loop = new_loop
