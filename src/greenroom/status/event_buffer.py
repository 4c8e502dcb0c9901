"""Events on their way to one reader, who may be slow."""

from __future__ import annotations

import threading
from collections import deque

from greenroom.messages.events import Event

ROOM = 1_000
"""Events that wait for one reader; what comes on top is lost to it, and it is told how many."""


MOST_TEXT = 1_000_000
"""Characters that the texts of these may have together: an app's ids may be as long as it likes."""


class EventBuffer:
    """Never waits for its reader.

    Args:
        everything: whether its reader wants the events of requests, too.
        room: how many may wait.
        most_text: how many characters their texts may have, all together.
    """

    def __init__(self, everything: bool, room: int = ROOM, most_text: int = MOST_TEXT) -> None:
        self.everything = everything
        self._room = room
        self._most_text = most_text
        self._text = 0
        self._arrived = threading.Condition()
        self._waiting: deque[tuple[float, Event, int]] = deque()
        self._lost = 0
        self._closed = False

    def put(self, at: float, event: Event) -> None:
        """An event of that time, in seconds since the epoch. Any thread may call it."""
        with self._arrived:
            if self._closed:
                return
            text = self._text + event.length()
            if len(self._waiting) >= self._room or text > self._most_text:
                self._lost += 1
                return
            self._text = text
            # With the next one that gets in: so the reader is told where the gap is.
            lost, self._lost = self._lost, 0
            self._waiting.append((at, event, lost))
            self._arrived.notify()

    def take(self, timeout_s: float) -> list[tuple[float, Event, int]] | None:
        """What has come: each with its time, and how many were lost before it. Empty after so many
        seconds; None once it is closed and has been read.
        """
        with self._arrived:
            self._arrived.wait_for(lambda: self._waiting or self._closed, timeout_s)
            taken = list(self._waiting)
            self._waiting.clear()
            self._text = 0
            return taken if taken or not self._closed else None

    @property
    def closed(self) -> bool:
        """Whether nothing more comes."""
        return self._closed

    def close(self) -> None:
        """What is in it can still be read; nothing more comes."""
        with self._arrived:
            self._closed = True
            self._arrived.notify_all()
