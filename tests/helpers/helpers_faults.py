"""Faults of a runtime: something raises at the entry of one of greenroom's functions, once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

Where = tuple[str, str]
"""A module and the qualified name of a function in it."""


class Faults:
    """Looks at every call of greenroom's functions in the threads that are started after it, and
    raises at one of them.

    Attributes:
        seen: the functions that were called while `watched`.
        raised: how often it has raised.
    """

    def __init__(self) -> None:
        self.seen: set[Where] = set()
        self.raised = 0
        self._watches = False
        self._at: Where | None = None
        self._left = 0
        self._error: Callable[[], BaseException] = MemoryError

    @contextmanager
    def installed(self) -> Iterator[Faults]:
        """Look at the threads that are started meanwhile."""
        before = threading.gettrace()
        threading.settrace(self._look)
        try:
            yield self
        finally:
            threading.settrace(before)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Note which functions are called meanwhile."""
        self._watches = True
        try:
            yield
        finally:
            self._watches = False

    @contextmanager
    def at(self, where: Where, error: Callable[[], BaseException], time: int = 1) -> Iterator[None]:
        """Raise there, at that call of it."""
        self.raised, self._left, self._error, self._at = 0, time, error, where
        try:
            yield
        finally:
            self._at = None

    def _look(self, frame: FrameType, event: str, _: Any) -> None:
        if event != "call" or (self._at is None and not self._watches):
            return
        name = frame.f_globals.get("__name__", "")
        if self._watches:
            if name.startswith("greenroom."):
                self.seen.add((name, frame.f_code.co_qualname))
        elif self._at == (name, frame.f_code.co_qualname):
            self._left -= 1
            if self._left == 0:
                self.raised += 1
                raise self._error()
