"""Processes that tests start: none outlives its block, none is waited for without end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import psutil

PROCESS_S = 60.0
"""How long a process may take on a busy machine, most of it until it has begun."""


@contextlib.contextmanager
def bounded(
    process: subprocess.Popen[Any], limit_s: float = 2 * PROCESS_S
) -> Iterator[subprocess.Popen[Any]]:
    """It has ended when the block has. Whoever reads from it or waits for it does so in vain at
    most for `limit_s`: then it is killed, as it is if the block raises.
    """
    timer = threading.Timer(limit_s, kill, (process,))
    timer.daemon = True
    timer.start()
    try:
        with process:  # which waits for its end
            try:
                yield process
            except BaseException:
                kill(process)
                raise
    finally:
        timer.cancel()


@contextlib.contextmanager
def stopped(process: subprocess.Popen[Any]) -> Iterator[None]:
    """It stands still in the block: what is sent to it there it has not read. For children of one
    process; not on Windows.
    """
    process.send_signal(signal.SIGSTOP)
    try:
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def kill(process: subprocess.Popen[Any]) -> None:
    """With all that it has started, which may have its pipes."""
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
    process.kill()
