"""An actor's inbox with an alarm: a timer becomes a `Tick` message, without a thread of its own."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from greenroom.actors.clock import SYSTEM_CLOCK, Clock

LONGEST_WAIT_S = 3600.0


class Tick:
    """The message that a mailbox delivers when its alarm goes off."""

    __slots__ = ()


class Letter:
    """As much of Pykka's envelope as its actor loop reads, and quicker to make."""

    __slots__ = ("message", "reply_to")

    def __init__(self, message: Any, reply_to: Any = None) -> None:
        self.message = message
        self.reply_to = reply_to


def _never() -> bool:
    return False


_TICK = Letter(Tick())
_WAKE = Letter(None)


class Mailbox:
    """A queue that any thread may put into, read by one actor alone.

    `SimpleQueue` nearly doubles the throughput of the default inbox. An alarm that is due is
    delivered before anything else, so that a flood of messages cannot hold back a deadline.

    A message that decides nothing, such as the report of a request that has been answered, may be
    put aside with `leave`: it does not wake the owner, and is delivered before whatever comes next.
    That saves the dearest part of a message, and the asker does not share its core with the books.

    Attributes:
        alarm: when to deliver the next `Tick`, on the clock; set by the owner only.
        reply_to: the future of the message being handled, None for a tell.
        hurried: asked before the owner goes to sleep: whether what is put aside shall wake it.
    """

    __slots__ = (
        "_aside",
        "_clock",
        "_ended",
        "_held",
        "_lock",
        "_queue",
        "_read",
        "_wanted",
        "alarm",
        "hurried",
        "reply_to",
    )

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._aside: deque[Letter] = deque()
        self._held: Any = None
        self._read: Any = None
        self._lock = threading.Lock()
        self._wanted = False
        self.hurried: Callable[[], bool] = _never
        self._clock: Clock = SYSTEM_CLOCK
        self._ended = False
        self.alarm: float | None = None
        self.reply_to: Any = None

    def follow(self, clock: Clock) -> None:
        """Read the time from `clock` from now on."""
        self._clock = clock
        clock.register(self.wake)

    def unfollow(self) -> None:
        """The owner ends: let the clock forget this mailbox, and deliver no alarm any more.

        From here on `get` does not wait: Pykka reads a mailbox until it is empty, and must not be
        held up by a wake, which is nothing to be delivered.
        """
        self._clock.unregister(self.wake)
        self._ended = True

    def wake(self) -> None:
        """Look at the alarm again: the clock has moved."""
        self._queue.put(_WAKE)

    def put(self, envelope: Any, /) -> None:
        self._queue.put(envelope)

    def leave(self, letter: Letter) -> bool:
        """Put aside what need not wake the owner; whether it sleeps in a hurry, and is to be woken
        all the same.
        """
        with self._lock:
            self._aside.append(letter)
            return self._wanted

    def get(self) -> Any:
        if self._ended:
            return self._queue.get()
        if (read := self._read) is not None:  # Pykka's loop holds it for as long as this waits
            read.message = read.reply_to = self._read = self.reply_to = None
        while True:
            if self._aside:
                try:
                    letter = self._aside.popleft()
                except IndexError:  # somebody has helped out: see `LendingMailbox.serve`
                    continue
            elif self._held is not None:
                letter, self._held = self._held, None
            else:
                letter = self._take()
                if letter is None or letter is _WAKE:
                    continue
                if self._aside:  # put before this one was
                    self._held = letter
                    continue
            self.reply_to = letter.reply_to
            if letter is not _TICK:
                self._read = letter
            return letter

    def empty(self) -> bool:
        return self._queue.empty()

    def _take(self) -> Any:
        """What comes next but for what lies aside; None to look again."""
        if not self._queue.empty():  # nobody else takes anything out: there is something to be had
            if self.alarm is None or self._clock.now() < self.alarm:
                return self._queue.get()
        elif self._may_not_sleep():
            return None
        return self._queue.get() if self.alarm is None else self._get_until(self.alarm)

    def _may_not_sleep(self) -> bool:
        """Something has been put aside after all. The lock makes sure that it is seen here, or
        that who puts it aside from now on sees what is wanted.
        """
        with self._lock:
            self._wanted = self.hurried()
            return bool(self._aside)

    def _get_until(self, alarm: float) -> Any:
        """The next letter, or a tick once the alarm is due; None to look again."""
        wait_s = self._clock.wait_s(alarm)
        if wait_s is None:  # a clock that is moved by hand wakes this mailbox itself
            wait_s = LONGEST_WAIT_S if self._clock.now() < alarm else 0.0
        if wait_s <= 0.0:
            self.alarm = None
            return _TICK
        try:
            return self._queue.get(timeout=min(wait_s, LONGEST_WAIT_S))
        except queue.Empty:
            return None
