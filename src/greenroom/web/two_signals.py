"""The two signals of a server in the foreground: the first has it drain, the second hurry."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

ENDS = (signal.SIGTERM, signal.SIGINT)


class TwoSignals:
    """Hears SIGTERM and SIGINT while it runs. All of it is for one event loop.

    Args:
        stopping: set by the first; who sets it in its place says the same. None: one of its own.

    Attributes:
        hurry: set by the second.
        first: which it was; None if there was none.
    """

    def __init__(self, stopping: asyncio.Event | None) -> None:
        self.stopping = stopping or asyncio.Event()
        self.hurry = asyncio.Event()
        self.first: signal.Signals | None = None

    @contextlib.contextmanager
    def heard(self) -> Iterator[None]:
        """Have them heard in this block, where this thread may have any."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()

        def told(number: int, _: FrameType | None) -> None:
            loop.call_soon_threadsafe(self._hear, number)

        before = {number: signal.signal(number, told) for number in ENDS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _hear(self, number: int) -> None:
        if self.stopping.is_set():
            self.hurry.set()
            return
        self.first = signal.Signals(number)
        self.stopping.set()
