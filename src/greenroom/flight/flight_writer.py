"""The thread that writes a recording. It never holds a pool up: what is too much is dropped."""

from __future__ import annotations

import atexit
import contextlib
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from greenroom.flight.flight_file import FileTarget, Target
from greenroom.flight.flight_lines import (
    Brief,
    Header,
    Line,
    LostLine,
    Raw,
    written,
    written_request,
)
from greenroom.messages.errors import summary

BACKLOG = 20_000
"""So many lines may wait to be written; what comes on top is dropped, and counted in the file."""
CLOSE_TIMEOUT_S = 5.0
"""How long the end of a pool waits for what is still to be written."""
PAUSE_S = 0.2
"""How long the writer lets lines gather: who records wakes it once in that time at most."""
_AT_A_TIME = 256


class CallableTarget:
    """A function of the app's, which gets each line as a text without its end."""

    def __init__(self, function: Callable[[str], Any]) -> None:
        self._function = function

    def write(self, text: str) -> None:
        failure: BaseException | None = None
        for line in text.splitlines():
            try:
                self._function(line)
            except BaseException as error:  # of this line: the others are not lost by it
                failure = failure or error
        if failure is not None:
            raise failure

    def flush(self) -> None:
        """There is nothing to be flushed."""

    def close(self) -> None:
        """The function is the app's."""


class FlightWriter:
    """Writes what is put, in a thread of its own that begins with the first line.

    Args:
        target: where to.
        header: the first line.
        pause_s: between two looks at what has been put.
    """

    def __init__(self, target: Target, header: Header, pause_s: float = PAUSE_S) -> None:
        self._target = target
        self._pause_s = pause_s
        self._waiting: deque[Raw | Brief | Line] = deque([header])
        self._put = self._waiting.append
        self._lost = 0
        self._dropped = 0
        self._awake = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
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
        if not self._awake.is_set():
            self._awake.set()
            if self._thread is None:
                self._begin()

    def _begin(self) -> None:
        thread = threading.Thread(target=self._run, name="greenroom-flight", daemon=True)
        thread.start()
        atexit.register(self.close)  # a pool may never be stopped
        self._thread = thread  # only now: where the machine had no thread, the next line tries

    def close(self) -> None:
        """Write what is left. Whoever calls it waits for that, but not for long."""
        atexit.unregister(self.close)
        self._closing.set()
        self._awake.set()
        if self._thread is None:
            self._begin()
        assert self._thread is not None
        if self._thread is not threading.current_thread():
            self._thread.join(CLOSE_TIMEOUT_S)

    def _run(self) -> None:
        while not self._closing.is_set():
            self._awake.wait()
            self._closing.wait(self._pause_s)
            # Before the look: what is put from now on sets it anew.
            self._awake.clear()
            self._write_all()
        self._write_all()
        if self._lost:
            self._try(self._target.write, written(LostLine(count=self._lost)) + "\n")
        self._try(self._target.close)

    def _write_all(self) -> None:
        some = False
        for lines in self._batches():
            self._try(self._target.write, lines)
            some = True
        if some:
            self._try(self._target.flush)

    def _batches(self) -> Iterator[str]:
        waiting = self._waiting
        while waiting:
            lines: list[str] = []
            while waiting and len(lines) < _AT_A_TIME:
                line = waiting.popleft()
                try:
                    if isinstance(line, list | tuple):
                        text = written_request(line)
                    else:
                        text = written(line)
                except Exception as error:  # a number that JSON has no word for, say
                    self._complain(error)
                    text = written(LostLine(count=1))
                lines.append(text)
            yield "\n".join(lines) + "\n"

    def _try(self, action: Callable[..., Any], *arguments: Any) -> None:
        try:
            action(*arguments)
        except BaseException as error:  # a full disk, or whatever the app's function does
            self._complain(error)

    def _complain(self, error: BaseException) -> None:
        if not self._complained:
            self._complained = True
            with contextlib.suppress(Exception):
                print(f"greenroom: the recording failed: {summary(error)}", file=sys.stderr)


def target_of(record: Any) -> Target:
    """Where `record=` says that lines go.

    Raises:
        TypeError: it is neither a path nor a function.
        OSError, ModuleNotFoundError: as by `FileTarget`.
    """
    if callable(record):
        return CallableTarget(record)
    return FileTarget(Path(record))
