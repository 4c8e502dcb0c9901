"""The thread that renders and writes the log, and what it writes to."""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from loguru import logger

from greenroom.messages.errors import summary

BACKLOG = 10_000
"""How many records may wait for a slow sink; what comes on top is lost, and counted in the log."""
CLOSE_TIMEOUT_S = 2.0
"""How long switching off (and the end of the process) waits for a slow sink."""

Render = Callable[[Any], str]


class Target:
    """Where the lines go, behind one `write`."""

    def __init__(self, sink: Any) -> None:
        self.stream: Any = None
        self._call: Callable[[str], Any] | None = None
        self._owned = isinstance(sink, str | os.PathLike)
        if self._owned:
            # Unbuffered: a buffer has a lock, and lines that a child of a fork would write again.
            self.stream = open(sink, "ab", buffering=0)  # noqa: SIM115 - closed by `close`
        elif callable(getattr(sink, "write", None)):
            self.stream = sink
        elif callable(sink):
            self._call = sink
        elif sink is not None:  # it is where a process has no stderr
            raise TypeError(
                "sink must be a stream, a path, a callable or None, "
                f"got {sink!r} ({type(sink).__name__})"
            )

    def write(self, line: str) -> None:
        if self._call is not None:
            self._call(line)
        elif self._owned:
            left = memoryview(line.encode("utf-8", "backslashreplace"))
            # An unbuffered write may take a part only, as on a disk that is nearly full.
            while left:
                left = left[self.stream.write(left) :]
        elif self.stream is not None:
            try:
                self.stream.write(line)
            except UnicodeEncodeError:  # half a surrogate pair in an error's text, or ASCII only
                self.stream.write(line.encode("ascii", "backslashreplace").decode())

    def flush(self) -> None:
        flush = getattr(self.stream, "flush", None)
        if flush is not None:
            flush()

    def close(self) -> None:
        if self._owned:
            self.stream.close()


class Writer:
    """A loguru sink that never waits: a thread renders and writes what was put."""

    def __init__(self, target: Target, render: Render) -> None:
        self._target = target
        self._render = render
        self._records: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._pid = 0
        self._lost = 0
        self._complained = False

    def write(self, message: Any) -> None:
        """Called by loguru, one record at a time."""
        if self._pid != os.getpid():  # the first record, or the first since a fork
            self._start()
        # A SimpleQueue has no bound of its own; loguru's lock makes
        # this look and the `put` one step.
        if self._records.qsize() >= BACKLOG:
            self._lost += 1
            return
        # With the next record that gets in: so the line about the loss stands where the gap is.
        lost, self._lost = self._lost, 0
        self._records.put((message.record, lost))

    def stop(self) -> None:
        """Called by loguru when the handler is removed, and at the end of the process."""
        if self._thread is not None and self._pid == os.getpid():
            self._records.put(None)
            self._thread.join(CLOSE_TIMEOUT_S)
        else:
            self._target.close()

    def _start(self) -> None:
        # With a queue of its own: a child of a fork must not write what its parent had waiting.
        records: queue.SimpleQueue[Any] = queue.SimpleQueue()
        thread = threading.Thread(
            target=self._write_all, args=(records,), name="greenroom-log", daemon=True
        )
        thread.start()
        # Only now: where the machine had no thread, the next record tries again.
        self._pid, self._records, self._thread = os.getpid(), records, thread

    def _write_all(self, records: queue.SimpleQueue[Any]) -> None:
        while (entry := records.get()) is not None:
            self._try(self._write, *entry)
            # Not after each line: a burst is one flush.
            if records.empty():
                self._try(self._target.flush)
            entry = None  # an idle thread keeps no exception alive, nor what its frames hold
        if self._lost:
            self._try(self._write_loss, self._lost)
        self._try(self._target.flush)
        self._try(self._target.close)

    def _write(self, record: Any, lost: int) -> None:
        if lost:
            self._write_loss(lost)
        self._target.write(self._render(record) + "\n")

    def _write_loss(self, lost: int) -> None:
        record = {
            "time": datetime.now(UTC).astimezone(),
            "level": logger.level("WARNING"),
            "name": __name__,
            "message": f"{lost} lines of the log were lost here: its sink is too slow",
            "extra": {},
        }
        self._target.write(self._render(record) + "\n")

    def _try(self, action: Callable[..., Any], *arguments: Any) -> None:
        try:
            action(*arguments)
        except BaseException as error:  # a closed stream, or whatever a user's callable does
            if not self._complained:
                self._complained = True
                with contextlib.suppress(Exception):  # once and to stderr, past the log
                    print(f"greenroom.log: the sink raised {summary(error)}", file=sys.stderr)
