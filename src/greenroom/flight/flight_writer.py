"""The thread that writes a recording. It never holds a pool up: what is too much is dropped."""

from __future__ import annotations

import atexit
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

from greenroom.actors.runtime.event_bus import say
from greenroom.flight.flight_lines import (
    Header,
    Line,
    LostLine,
    MembersLine,
    RestLine,
    SettingsLine,
    StateLine,
)
from greenroom.flight.flight_target import TakerError, Target
from greenroom.flight.line_text import written, written_request
from greenroom.flight.raw_requests import Brief, Raw
from greenroom.messages.errors import summary

BACKLOG = 20_000
"""So many lines may wait to be written; what comes on top is dropped, and counted in the file."""
CLOSE_TIMEOUT_S = 5.0
"""How long the end of a pool waits for what is still to be written."""
PAUSE_S = 0.2
"""How long the writer lets lines gather: who records wakes it once in that time at most."""
SAID_EVERY_S = 60.0
"""How long it is not said again that lines cannot be written, if they can be meanwhile."""
OWED = 10_000
"""Of the lines that could not be written so many are tried again: those that hold on."""
_AT_A_TIME = 256
_HOLD_ON = (MembersLine, StateLine, RestLine, SettingsLine)


class FlightWriter:
    """Writes what is put, in a thread of its own that begins with the first line.

    While nothing can be written, as on a full disk, requests are lost and counted in the file; what
    says who is in the pool, and in what state, is written as soon as that goes again.

    Args:
        target: where to.
        header: the first line.
        pause_s: between two looks at what has been put.
        now: seconds of a clock that is not set.
    """

    def __init__(
        self,
        target: Target,
        header: Header,
        pause_s: float = PAUSE_S,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._target = target
        self._header: Header | None = header
        self._pool = header.pool
        self._pause_s = pause_s
        self._now = now
        self._waiting: deque[Raw | Brief | Line] = deque()
        self._put = self._waiting.append
        self._lost = 0
        self._dropped = 0
        # Of lines that could not be written: how many are lost, and which are still to be written.
        self._gap = False
        self._missing = 0
        self._owed: deque[str] = deque(maxlen=OWED)
        self._awake = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._told_at: float | None = None
        self._is_told = False
        self._complained = False

    @property
    def lost(self) -> int:
        """How many lines have been dropped so far."""
        return self._dropped

    def put(self, line: Raw | Brief | Line) -> None:
        """Have a line written some time; in the router's turn, so quick."""
        waiting = self._waiting
        if len(waiting) >= BACKLOG:
            self._lost += 1
            self._dropped += 1
            return
        if self._lost:
            lost, self._lost = self._lost, 0
            self._put(LostLine(count=lost))
        self._put(line)
        if not self._awake.is_set() and (self._thread is not None or self._begins()):
            self._awake.set()

    def _begins(self) -> bool:
        """Whether the machine has a thread for it; if not, the next line tries."""
        thread = threading.Thread(target=self._run, name="greenroom-flight", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            return False
        atexit.register(self.close)  # a pool may never be stopped
        self._thread = thread
        return True

    def close(self) -> None:
        """Write what is left. Whoever calls it waits for that, but not for long."""
        atexit.unregister(self.close)
        self._closing.set()
        self._awake.set()
        if self._thread is None and not self._begins():
            self._run()
        elif self._thread is not threading.current_thread() and self._thread is not None:
            self._thread.join(CLOSE_TIMEOUT_S)

    def _run(self) -> None:
        while not self._closing.is_set():
            self._awake.wait()
            self._closing.wait(self._pause_s)
            # Before the look: what is put from now on sets it anew.
            self._awake.clear()
            self._write_all()
        self._write_all()
        self._write([LostLine(count=self._lost)] if self._lost else [])
        try:
            self._target.close()
        except BaseException as error:
            self._cannot(error)

    def _write_all(self) -> None:
        for lines in self._batches():
            self._write(lines)

    def _batches(self) -> Iterator[list[Raw | Brief | Line]]:
        waiting = self._waiting
        while waiting:
            lines: list[Raw | Brief | Line] = []
            while waiting and len(lines) < _AT_A_TIME:
                lines.append(waiting.popleft())
            yield lines

    def _write(self, lines: list[Raw | Brief | Line]) -> None:
        """Write some lines, and before them what could not be written until now."""
        texts = [*map(self._text, lines)]
        first = [] if self._header is None else [written(self._header)]
        if self._gap:
            first += [written(LostLine(count=self._missing)), *self._owed]
        if not first and not texts:
            return
        try:
            self._target.write("\n".join([*first, *texts, ""]))
        except TakerError as error:
            self._complain(error.__cause__ or error)
        except BaseException as error:  # a full disk, say
            self._gap = True
            for line, text in zip(lines, texts, strict=True):
                if isinstance(line, _HOLD_ON):
                    self._owed.append(text)
                else:
                    self._missing += line.count if isinstance(line, LostLine) else 1
            self._cannot(error)
            return
        self._header = None
        if self._gap:
            self._goes_on()

    def _text(self, line: Raw | Brief | Line) -> str:
        try:
            return written_request(line) if isinstance(line, list | tuple) else written(line)
        except Exception as error:  # a number that JSON has no word for, say
            self._complain(error)
            return written(LostLine(count=1))

    # -- what is said of it

    def _cannot(self, error: BaseException) -> None:
        now = self._now()
        if self._is_told or (self._told_at is not None and now - self._told_at < SAID_EVERY_S):
            return
        self._is_told, self._told_at = True, now
        what = f"pool {self._pool!r}: its recording cannot be written: {summary(error)}"
        say("WARNING", __name__, f"{what}; it goes on as soon as that goes", pool=self._pool)

    def _goes_on(self) -> None:
        missing, self._missing, self._gap = self._missing, 0, False
        self._owed.clear()
        if self._is_told:
            self._is_told = False
            what = f"pool {self._pool!r}: its recording goes on; {missing} lines of it are missing"
            say("INFO", __name__, what, pool=self._pool)

    def _complain(self, error: BaseException) -> None:
        """Of a line, or of the app's function: said once."""
        if not self._complained:
            self._complained = True
            what = f"pool {self._pool!r}: its recording failed: {summary(error)} (said once)"
            say("WARNING", __name__, what, pool=self._pool)
