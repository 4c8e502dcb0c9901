"""The pool of a file, while a command uses it."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from greenroom.actors.handle.pool_ref import PoolRef
from greenroom.commands.exits import Terminated, UsageError
from greenroom.kinds import PoolFileError
from greenroom.logs.log import log
from greenroom.pool.agent_pool import AgentPool

LEVELS = (None, "INFO", "DEBUG")
"""What of the log is shown with no `-v`, with one, with two."""

_ENDS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


@contextlib.contextmanager
def opened_pool(path: Path, verbose: int = 0) -> Iterator[PoolRef]:
    """Within it the pool of the file runs; where it is left, however that is, the pool is stopped.

    Args:
        path: of the pool's file.
        verbose: how many `-v` there were.

    Raises:
        UsageError: the file cannot be used, and why.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(shown_log(verbose))
        stack.enter_context(ended_by_signals())
        with file_errors(path):
            pool = stack.enter_context(AgentPool.from_toml(path))
        yield pool


@contextlib.contextmanager
def file_errors(path: Path) -> Iterator[None]:
    """What is wrong with a file is told as what it is; modules are found where one stands, as they
    are by `python -m`.

    Raises:
        UsageError: the file cannot be used, and why.
    """
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.insert(0, os.getcwd())
    try:
        yield
    except PoolFileError as error:
        raise UsageError(str(error)) from None
    except (ModuleNotFoundError, RuntimeError) as error:  # an extra; a loop that does not run here
        raise UsageError(f"{path}: {error}") from None


@contextlib.contextmanager
def shown_log(verbose: int) -> Iterator[None]:
    """Within it the log of the pools is shown, on stderr."""
    end = log(LEVELS[min(verbose, len(LEVELS) - 1)])
    try:
        yield
    finally:
        end()


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Within it, SIGTERM and SIGHUP have what is open closed: else the processes of a pool's
    commands would outlive it.

    Raises:
        Terminated: there was one.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, _: FrameType | None) -> None:
        raise Terminated(number)

    before = {number: signal.signal(number, end) for number in _ENDS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
