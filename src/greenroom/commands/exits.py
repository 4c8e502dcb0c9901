"""How a command ends: its exit codes, and the errors that say which."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """The exit codes of every command, see `docs/command-line.md`."""

    DONE = 0
    FAILED = 1
    """Something was asked for, and an answer is missing or wrong."""
    USAGE = 2
    """Bad arguments, or a file that cannot be used: nothing was asked."""
    INTERRUPTED = 130
    """Ctrl-C."""
    NOBODY_READS = 141
    """What a shell makes of a program that SIGPIPE has ended: `greenroom demo | head -1`."""


class UsageError(Exception):
    """What was asked for cannot be done; the message says why."""


class Terminated(BaseException):
    """A signal that asks the process to end, so that what is open is closed on the way.

    Attributes:
        code: the exit code by which a shell knows of it.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.code = 128 + number
