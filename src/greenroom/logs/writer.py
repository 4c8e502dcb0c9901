"""The thread that renders and writes the log, and what it writes to."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from loguru import logger

from greenroom.actors.runtime import forks
from greenroom.logs.stdlib_sink import StdlibSink
from greenroom.messages.errors import summary

BACKLOG = 10_000
"""How many records may wait for a slow sink; what comes on top is lost, and counted in the log."""
CLOSE_TIMEOUT_S = 2.0
"""How long switching off (and the end of the process) waits for a slow sink."""

Render = Callable[[Any], str]

Told = Callable[[], Any]
"""Makes a record of what is to be written, in the thread that writes it."""


class _Text(str):
    """What loguru's file looks at: its length, and when it was logged."""

    record: Any


class Target:
    """Where the lines go, behind one `write`.

    Args:
        sink: a stream, a path, a callable, a logger or a handler of `logging`, or None for nowhere.
        whole_lines: whether a logger or a handler is given the rendered line.
        rotation, retention, compression: of a path, as loguru has them; None is none.

    Raises:
        TypeError, ValueError: it is no sink, or they are not what loguru takes.
        OSError: the file cannot be opened.
    """

    def __init__(
        self,
        sink: Any,
        rotation: Any = None,
        retention: Any = None,
        compression: Any = None,
        whole_lines: bool = False,
    ) -> None:
        self.stream: Any = None
        self._stdlib: StdlibSink | None = None
        self._call: Callable[[str], Any] | None = None
        self._owned = isinstance(sink, str | os.PathLike)
        self._keep = {"rotation": rotation, "retention": retention, "compression": compression}
        self._rotated: Any = None
        given = [name for name, value in self._keep.items() if value is not None]
        if given and not self._owned:
            raise ValueError(f"{given[0]} is of a file: sink must be a path, got {sink!r}")
        self._path = sink
        if given:
            self._rotated = self._made()
        elif self._owned:
            # Unbuffered: a buffer has a lock, and lines that a child of a fork would write again.
            self.stream = open(sink, "ab", buffering=0)  # noqa: SIM115 - closed by `close`
        elif isinstance(sink, logging.Logger | logging.Handler):
            self._stdlib = StdlibSink(sink, whole_lines)
        elif callable(getattr(sink, "write", None)):
            self.stream = sink
        elif callable(sink):
            self._call = sink
        elif sink is not None:  # it is where a process has no stderr
            raise TypeError(
                "sink must be a stream, a path, a callable, a logger or None, "
                f"got {sink!r} ({type(sink).__name__})"
            )

    def _made(self) -> Any:
        # Not public, but what `logger.add` makes of a path. By `add` it would write in the turn of
        # the actor that logs, and its `enqueue` waits where a disk is slow. Imported here, so that
        # a loguru that keeps it elsewhere costs nobody more than the rotation.
        try:
            from loguru._file_sink import FileSink
        except ImportError as error:
            raise ValueError("rotation is not to be had of this version of loguru") from error
        file: Any = FileSink  # it has no types
        try:
            return file(self._path, errors="backslashreplace", **self._keep)
        except OSError:
            raise
        except Exception as error:
            said = ", ".join(f"{k}={v!r}" for k, v in self._keep.items() if v is not None)
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"{said} is not what loguru takes: {error}") from None

    def renew(self) -> None:
        """In a child of a fork: the parent may have been writing, with a lock that stays taken."""
        if self._rotated is not None:
            self._rotated = self._made()

    def write(self, line: str, record: Any) -> None:
        if self._call is not None:
            self._call(line)
        elif self._stdlib is not None:
            self._stdlib.write(line, record)
        elif self._rotated is not None:
            text = _Text(line)
            text.record = record
            self._rotated.write(text)
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
        if self._rotated is not None:
            self._rotated.stop()
        elif self._owned:
            self.stream.close()


class Writer:
    """Never waits: a thread renders and writes what was put."""

    def __init__(self, target: Target, render: Render) -> None:
        # Of one thread even if a signal's handler logs within a `write`.
        self._lock = threading.RLock()
        forks.renew(self)
        self._target = target
        self._render = render
        self._records: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._pid = 0
        self._ended = False
        self._lost = 0
        self._complained = False

    def renew_locks(self) -> None:
        """Run in a child of a fork."""
        self._lock = threading.RLock()

    def write(self, told: Told) -> None:
        """Have something written. Any thread may call it."""
        with self._lock:
            if self._ended:
                return
            if self._pid != os.getpid():  # the first record, or the first since a fork
                self._start()
            # A SimpleQueue has no bound of its own: this look and the `put` are one step.
            if self._records.qsize() >= BACKLOG:
                self._lost += 1
                return
            # With the next record that gets in: so the line about the loss stands where the gap is.
            lost, self._lost = self._lost, 0
            self._records.put((told, lost))

    def stop(self) -> None:
        """Write what is left, and close what was opened. Nothing is written after that."""
        with self._lock:
            self._ended = True
        if self._thread is not None and self._pid == os.getpid():
            self._records.put(None)
            self._thread.join(CLOSE_TIMEOUT_S)
        else:
            self._target.close()

    def _start(self) -> None:
        if self._pid:
            self._target.renew()
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

    def _write(self, told: Told, lost: int) -> None:
        if lost:
            self._write_loss(lost)
        record = told()
        self._target.write(self._render(record) + "\n", record)

    def _write_loss(self, lost: int) -> None:
        record = {
            "time": datetime.now(UTC).astimezone(),
            "level": logger.level("WARNING"),
            "name": __name__,
            "message": f"{lost} lines of the log were lost here: its sink is too slow",
            "extra": {},
            "process": SimpleNamespace(id=os.getpid()),
        }
        self._target.write(self._render(record) + "\n", record)

    def _try(self, action: Callable[..., Any], *arguments: Any) -> None:
        try:
            action(*arguments)
        except BaseException as error:  # a closed stream, or whatever a user's callable does
            if not self._complained:
                self._complained = True
                with contextlib.suppress(Exception):  # once and to stderr, past the log
                    print(f"greenroom.log: the sink raised {summary(error)}", file=sys.stderr)
