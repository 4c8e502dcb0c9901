"""The output of a batch on disk: locked, read at the start, written a line at a time."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from greenroom.batch.answer_lines import Answered, is_torn, read_answer
from greenroom.batch.prompts import BatchError, Lines

_BLOCK = 1 << 18


class AnswersFile:
    """An output that this process alone writes.

    It is made if there is none. Its lock ends with the process, however that ends.

    Args:
        path: a regular file, or none yet.

    Raises:
        BatchError: it cannot be opened, is no regular file, or another process writes it.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        # What stands behind a link is what `drop_failed` replaces.
        self._real = os.path.realpath(path)
        self._fd = _locked(path, self._real)

    def lines(self, explicit: bool) -> Iterator[tuple[int, Answered]]:
        """What each whole line says, with its number; a torn last one is left out.

        Args:
            explicit: whether prompts have ids of their own.

        Raises:
            BatchError: a line is none of a batch; with the file, the line and why.
        """
        for number, _, answered in self._read(explicit):
            yield number, answered

    def torn(self) -> int:
        """How many bytes a last line has that does not end."""
        size = os.fstat(self._fd).st_size
        return size - self._end_of_last_line(size)

    def cut_torn(self) -> None:
        """Cut off a last line that does not end.

        Call it when all lines have been read: what is none of ours is not cut.
        """
        torn = self.torn()
        if torn:
            os.ftruncate(self._fd, os.fstat(self._fd).st_size - torn)

    def drop_failed(self, explicit: bool, source: int) -> None:
        """Leave out the lines that hold an error.

        The rest is written to a file beside it (`.rewritten` is added to the name), which then
        takes its place at once: killed meanwhile, the old one is whole. What such a kill has left
        there is written anew; anything else is somebody's.

        Args:
            source: the input, which is open.

        Raises:
            BatchError: the file beside it is somebody's, or cannot be written.
        """
        beside = f"{self._real}.rewritten"
        fd = _opened(beside, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            _lock(fd, self.path)
            if os.path.samestat(os.fstat(fd), os.fstat(source)) or not self._is_left(fd, explicit):
                raise BatchError(f"{beside}: is in the way: move it to another name")
            os.ftruncate(fd, 0)
            os.fchmod(fd, stat.S_IMODE(os.fstat(self._fd).st_mode))
            self._copy_answers(fd, explicit)
            os.fsync(fd)
            os.replace(beside, self._real)
        except BaseException as error:
            os.close(fd)
            if isinstance(error, OSError):
                raise BatchError(f"{self.path}: {error.strerror or error}") from error
            raise
        os.close(self._fd)
        self._fd = fd

    def append(self, line: bytes) -> None:
        """Write a line, by one call.

        Raises:
            BatchError: it does not fit there; nothing of it is left.
        """
        _append(self._fd, line, self.path)

    def is_same(self, fd: int) -> bool:
        """Whether a file that is open is this one."""
        return os.path.samestat(os.fstat(fd), os.fstat(self._fd))

    def close(self) -> None:
        """Have it on the disk, and let others write it.

        Raises:
            BatchError: it cannot be had there.
        """
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            try:
                try:
                    os.fsync(fd)
                finally:
                    os.close(fd)
            except OSError as error:
                raise BatchError(f"{self.path}: {error.strerror or error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _read(self, explicit: bool) -> Iterator[tuple[int, bytes, Answered]]:
        lines, at = Lines(self.path), 0
        while block := os.pread(self._fd, _BLOCK, at):
            at += len(block)
            for line in lines.feed(block):
                try:
                    yield lines.count, line, read_answer(line, explicit)
                except ValueError as error:
                    raise BatchError(f"{self.path}:{lines.count}: {error}") from None
        if not is_torn(lines.rest()):
            raise BatchError(f"{self.path}:{lines.count + 1}: is no line of an answer")

    def _is_left(self, fd: int, explicit: bool) -> bool:
        """Whether a file holds nothing but the beginning of what `drop_failed` writes."""
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return False
        at, size = 0, os.fstat(fd).st_size
        for _, line, answered in self._read(explicit):
            if at >= size:
                break
            if not answered.failed:
                if not (line + b"\n").startswith(os.pread(fd, len(line) + 1, at)):
                    return False
                at += len(line) + 1
        return at >= size

    def _copy_answers(self, fd: int, explicit: bool) -> None:
        kept, size = list[bytes](), 0
        for _, line, answered in self._read(explicit):
            if answered.failed:
                continue
            kept += (line, b"\n")
            size += len(line)
            if size > _BLOCK:
                _append(fd, b"".join(kept), self.path)
                kept.clear()
                size = 0
        _append(fd, b"".join(kept), self.path)

    def _end_of_last_line(self, size: int) -> int:
        at = size
        while at > 0:
            begin = max(0, at - _BLOCK)
            found = os.pread(self._fd, at - begin, begin).rfind(b"\n")
            if found >= 0:
                return begin + found + 1
            at = begin
        return 0


def _append(fd: int, data: bytes, path: str) -> None:
    size = os.fstat(fd).st_size
    try:
        written = os.write(fd, data)
    except OSError as error:
        raise BatchError(f"{path}: {error.strerror or error}") from error
    if written < len(data):  # the disk is full, or a limit is reached
        os.ftruncate(fd, size)
        raise BatchError(f"{path}: only {written} of {len(data)} bytes could be written")


def _opened(path: str, flags: int) -> int:
    try:
        return os.open(path, flags, 0o666)
    except OSError as error:
        raise BatchError(f"{path}: {error.strerror or error}") from error


def _locked(path: str, real: str) -> int:
    """The file of that name, open and locked.

    Who waited to open it may have one that `drop_failed` has replaced meanwhile: then once more.
    """
    while True:
        # Looked at before it is opened: to open a pipe is to wait for its other end.
        if os.path.exists(real) and not os.path.isfile(real):
            raise BatchError(f"{path}: must be a regular file, which can be read again")
        fd = _opened(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        try:
            _lock(fd, path)
            if os.path.samestat(os.fstat(fd), os.stat(real)):
                return fd
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def _lock(fd: int, path: str) -> None:
    try:
        from fcntl import LOCK_EX, LOCK_NB, flock
    except ModuleNotFoundError as error:
        raise BatchError(f"{path}: cannot be locked: this system has no flock") from error
    try:
        flock(fd, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        raise BatchError(f"{path}: another batch is writing it (its lock is taken)") from None
    except OSError as error:
        raise BatchError(f"{path}: cannot be locked: {error.strerror or error}") from error
