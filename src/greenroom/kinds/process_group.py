"""A command in a session of its own: fed, read, and ended with all that it has started.

`asyncio` and `subprocess` end the one process that they know. What that has started goes on, and
whoever reads its output waits for as long as one of them holds the pipe.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import selectors
import signal
import subprocess
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

TERM_S = 0.5
"""How long a group that was asked to end has, before it is killed."""

STDERR_KEPT = 16_384
"""Bytes of the end of stderr that are kept."""

UNREAD_LIMIT = 1 << 20
"""Bytes of stdout that may wait to be read, before the command has to wait."""

_PIECE = 65_536
_LOOK_S = 0.02
"""How often is looked for an end that nothing tells of."""
_LAST_S = 5.0
"""How long the end of what was killed is waited for: the system may hold on to it."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The last that a `ProcessGroup` tells.

    Args:
        exit_code: of the command itself, negative for a signal; None if it never began.
        stderr: the end of it.
        error: what has kept it from beginning.
    """

    exit_code: int | None
    stderr: bytes = b""
    error: BaseException | None = None


class ProcessGroup:
    """One run of a command, with a daemon thread that starts, feeds, reads and ends it.

    What the command has written by its end counts. What it has started and left behind is ended
    then, save what has gone into a session of its own.

    Args:
        stdin: what it is given there; None: nothing.
        env: added to the environment of this process.
        tell: called in that thread, with each piece of stdout, and at last with an `Ended`; must
            not wait.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes | None,
        env: Mapping[str, str],
        cwd: str | os.PathLike[str] | None,
        tell: Callable[[bytes | Ended], object],
    ) -> None:
        self._argv = list(argv)
        self._to_write = memoryview(stdin or b"")
        self._feeds = stdin is not None
        self._env = {**os.environ, **env}
        self._cwd = cwd
        self._tell = tell
        self._stderr = bytearray()
        self._lock = threading.Lock()
        self._unread = 0
        self._held = False
        self._to_end = threading.Event()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        self._thread = threading.Thread(target=self._run, name="greenroom-command", daemon=True)

    def start(self) -> None:
        """Run it.

        Raises:
            RuntimeError: the system gives no thread for it.
        """
        try:
            self._thread.start()
        except BaseException:
            self._close_wake()
            raise
        _LIVE.add(self)

    def took(self, size: int) -> None:
        """So many bytes of stdout have been dealt with: the command may write as many."""
        with self._lock:
            self._unread -= size
            goes_on = self._held and self._unread < UNREAD_LIMIT
        if goes_on:
            self._wake()

    def end(self) -> None:
        """Have it end, with all that it has started: asked first, and killed after `TERM_S`. An
        `Ended` tells of it. A second call does nothing.
        """
        self._to_end.set()
        self._wake()

    def join(self, timeout_s: float) -> None:
        """Wait for the end."""
        self._thread.join(timeout_s)

    # -- its thread

    def _run(self) -> None:
        ended = Ended(None)
        try:
            ended = self._run_command()
        except BaseException as error:
            ended = Ended(None, error=error)
        finally:
            with self._lock:  # `end` may be about to write there
                self._close_wake()
            self._tell(ended)

    def _run_command(self) -> Ended:
        if self._to_end.is_set():
            return Ended(None)
        process = subprocess.Popen(
            self._argv,
            stdin=subprocess.PIPE if self._feeds else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env=self._env,
            cwd=self._cwd,
            start_new_session=True,
        )
        try:
            self._read(process)
        finally:
            self._end_group(process)
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
        return Ended(process.returncode, bytes(self._stderr))

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        """Feed and read it until it has ended, or is to end."""
        assert process.stdout is not None
        assert process.stderr is not None
        with contextlib.ExitStack() as stack:
            select = stack.enter_context(selectors.DefaultSelector())
            pidfd = _pidfd_of(process)
            if pidfd is not None:
                stack.callback(os.close, pidfd)
                select.register(pidfd, selectors.EVENT_READ)
            select.register(self._wake_read, selectors.EVENT_READ)
            for pipe in (process.stdout, process.stderr):
                os.set_blocking(pipe.fileno(), False)
                select.register(pipe, selectors.EVENT_READ)
            if process.stdin is not None:
                os.set_blocking(process.stdin.fileno(), False)
                select.register(process.stdin, selectors.EVENT_WRITE)
            while not self._to_end.is_set():
                ready = {key.fileobj for key, _ in select.select(None if pidfd else _LOOK_S)}
                # Asked before the reading: what was written before the end is there by then.
                over = _has_ended(process)
                if self._wake_read in ready:
                    os.read(self._wake_read, _PIECE)
                if process.stdin in ready:
                    self._write(process.stdin, select)
                if over or process.stderr in ready:
                    self._take_stderr(process.stderr, select, over)
                if over or process.stdout in ready or self._held:
                    self._take_stdout(process.stdout, select, over)
                if over:
                    return

    def _write(self, stdin: Any, select: selectors.BaseSelector) -> None:
        try:
            if self._to_write:
                self._to_write = self._to_write[os.write(stdin.fileno(), self._to_write[:_PIECE]) :]
        except BlockingIOError:
            return
        except OSError:  # it reads no more: that is its own affair
            self._to_write = self._to_write[:0]
        if not self._to_write:
            select.unregister(stdin)
            with contextlib.suppress(OSError):
                stdin.close()

    def _take_stdout(self, stdout: IO[bytes], select: selectors.BaseSelector, all_: bool) -> None:
        while True:
            with self._lock:
                held = self._held
                self._held = not all_ and self._unread >= UNREAD_LIMIT
            if self._held and not held:
                _let_go(select, stdout)
            elif held and not self._held and stdout not in select.get_map():
                select.register(stdout, selectors.EVENT_READ)
            if self._held:
                return
            data = _read_some(stdout, select)
            if data is None:
                return
            with self._lock:
                self._unread += len(data)
            self._tell(data)
            if not all_:
                return

    def _take_stderr(self, stderr: IO[bytes], select: selectors.BaseSelector, all_: bool) -> None:
        while (data := _read_some(stderr, select)) is not None:
            self._stderr += data
            del self._stderr[:-STDERR_KEPT]
            if not all_:
                return

    def _end_group(self, process: subprocess.Popen[bytes]) -> None:
        """End it and all of its group; its number is the group's, which is no other's for as long
        as one of them is there, or the command itself has not been waited for.
        """
        _signal_group(process.pid, signal.SIGTERM)
        until = time.monotonic() + TERM_S
        while time.monotonic() < until:
            if process.poll() is not None and not _signal_group(process.pid, 0):
                return
            time.sleep(_LOOK_S / 2)
        _signal_group(process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_LAST_S)

    def _wake(self) -> None:
        with self._lock, contextlib.suppress(OSError):  # full: it is being woken
            if self._wake_write >= 0:
                os.write(self._wake_write, b"\0")

    def _close_wake(self) -> None:
        for end in (self._wake_read, self._wake_write):
            os.close(end)
        self._wake_read = self._wake_write = -1


def _read_some(pipe: IO[bytes], select: selectors.BaseSelector) -> bytes | None:
    """What there is right now; None if there is nothing, be it for good."""
    if pipe.closed:
        return None
    try:
        data = os.read(pipe.fileno(), _PIECE)
    except BlockingIOError:
        return None
    except OSError:
        data = b""
    if data:
        return data
    _let_go(select, pipe)
    return None


def _let_go(select: selectors.BaseSelector, pipe: IO[bytes]) -> None:
    with contextlib.suppress(KeyError, ValueError):
        select.unregister(pipe)


def _pidfd_of(process: subprocess.Popen[bytes]) -> int | None:
    """What becomes readable when it ends, where the system has such a thing."""
    open_pidfd: Callable[[int], int] | None = getattr(os, "pidfd_open", None)
    if open_pidfd is None:
        return None
    try:
        return open_pidfd(process.pid)
    except OSError:
        return None


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether it has, without waiting for it where that can be: so its number stays its own."""
    waitid: Callable[..., object] | None = getattr(os, "waitid", None)
    if waitid is None:
        return process.poll() is not None
    try:
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return waitid(os.P_PID, process.pid, flags) is not None
    except ChildProcessError:  # the app has children waited for by somebody else
        return process.poll() is not None


def _signal_group(group: int, number: int) -> bool:
    """Whether there was anybody to be told."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    except PermissionError:  # it has become somebody else's, by sudo, say; or it is ending
        return False
    return True


_LIVE: weakref.WeakSet[ProcessGroup] = weakref.WeakSet()


def _end_all() -> None:
    """At the interpreter's end: daemon threads are about to be stopped, and end nothing more."""
    groups = list(_LIVE)
    for group in groups:
        group.end()
    until = time.monotonic() + 2 * TERM_S
    for group in groups:
        group.join(max(0.0, until - time.monotonic()))


atexit.register(_end_all)
