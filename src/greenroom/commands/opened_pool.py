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
from greenroom.commands.ending import ENDS
from greenroom.commands.exits import Terminated, UsageError
from greenroom.commands.terminal import Discreet, aside, say
from greenroom.kinds import PoolFileError
from greenroom.logs.log import log
from greenroom.pool.agent_pool import AgentPool
from greenroom.pool.hangup import reload_on_hangup

LEVELS = (None, "INFO", "DEBUG")
"""What of the log is shown with no `-v`, with one, with two."""


@contextlib.contextmanager
def opened_pool(
    path: Path, verbose: int = 0, *, reloads: bool = False, status: str | None = None
) -> Iterator[PoolRef]:
    """Within it the pool of the file runs; where it is left, however that is, the pool is stopped.

    Args:
        path: of the pool's file.
        verbose: how many `-v` there were.
        reloads: whether SIGHUP has the pool read its file again, as of a command that runs for
            long; else it ends the command.
        status: where the pool is to be seen over HTTP; None: nowhere.

    Raises:
        UsageError: the file cannot be used, or that address, and why.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(at_work(verbose))
        with file_errors(path):
            pool = stack.enter_context(started(path, status))
        if reloads:
            stack.callback(reload_on_hangup(pool))
        yield pool


def started(path: Path, status: str | None = None) -> PoolRef:
    """Start the pool of a file, and say where its status is to be seen, if it is.

    Raises:
        UsageError: there is no loop for it, or the address cannot be used.
        PoolFileError, ModuleNotFoundError: the file cannot be used.
    """
    try:
        pool = AgentPool.from_toml(path, status=status)
    except RuntimeError as error:  # event_loop = "running"
        raise UsageError(f"{path}: {error}") from None
    except OSError as error:
        raise UsageError(error.strerror or str(error)) from None
    if pool.status_url is not None:
        with aside():
            say(f"the status of {pool.name} is at {pool.status_url}", stream=sys.stderr)
    return pool


@contextlib.contextmanager
def file_errors(path: Path) -> Iterator[None]:
    """What is wrong with a file is told as what it is.

    Raises:
        UsageError: the file cannot be used, and why.
    """
    try:
        yield
    except PoolFileError as error:
        raise UsageError(str(error)) from None
    except ModuleNotFoundError as error:  # an extra
        raise UsageError(f"{path}: {error}") from None


@contextlib.contextmanager
def at_work(verbose: int) -> Iterator[None]:
    """Within it a command works: with its log, its signals, and the modules that are beside it."""
    with shown_log(verbose), ended_by_signals(), local_modules():
        yield


@contextlib.contextmanager
def local_modules() -> Iterator[None]:
    """Within it the modules of the current directory are found, as by `python -m`."""
    here = os.getcwd()
    if {"", here} & set(sys.path):
        yield
        return
    sys.path.insert(0, here)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # somebody else has taken it out
            sys.path.remove(here)


@contextlib.contextmanager
def shown_log(verbose: int) -> Iterator[None]:
    """Within it the log of the pools is shown, on stderr; without `-v` it is left as it is."""
    level = LEVELS[min(verbose, len(LEVELS) - 1)]
    if level is None:
        yield
        return
    end = log(level, sink=None if sys.stderr is None else Discreet(sys.stderr))
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

    before = {number: signal.getsignal(number) for number in ENDS}
    ours = [number for number in ENDS if before[number] is not signal.SIG_IGN]  # as by nohup
    for number in ours:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in ours:  # None: it was not set by Python, and cannot be set again
            signal.signal(number, before[number] or signal.SIG_DFL)
