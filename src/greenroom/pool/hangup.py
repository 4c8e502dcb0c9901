"""SIGHUP has a pool read its file again, as it has long-running programs do."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from queue import SimpleQueue
from types import FrameType
from typing import Any

from loguru import logger

from greenroom.actors.handle.pool_ref import PoolRef
from greenroom.messages.errors import PoolStoppedError, summary


def reload_on_hangup(
    pool: PoolRef, path: str | os.PathLike[str] | None = None
) -> Callable[[], None]:
    """Have a pool `reload` its file whenever the process is sent a SIGHUP.

    A file that is wrong changes nothing, and is told of by a warning in the log. To be called in
    the main thread; where there is no such signal, as on Windows, it does nothing.

    Args:
        path: as for `reload`.

    Returns:
        What ends that when called, in the main thread as well: the signal is treated as before.
    """
    number: Any = getattr(signal, "SIGHUP", None)
    if number is None:
        return lambda: None
    # A queue of this class can be put into from a handler that breaks in on a put.
    hangups: SimpleQueue[bool] = SimpleQueue()

    def serve() -> None:
        while hangups.get():
            _reload(pool, path)

    def note(signum: int, frame: FrameType | None) -> None:
        hangups.put(True)

    name = f"greenroom-{pool.name}-reload"
    # Not in the handler: that breaks in on anything, and a reload waits for the pool.
    thread = threading.Thread(target=serve, name=name, daemon=True)
    before = signal.signal(number, note)  # first: it refuses any thread but the main one

    def restore() -> None:
        # None: it was not set by Python, and cannot be set again.
        signal.signal(number, signal.SIG_DFL if before is None else before)

    def end() -> None:
        restore()
        hangups.put(False)
        thread.join()

    try:
        thread.start()
    except BaseException:  # the machine has no thread left
        restore()
        raise
    return end


def _reload(pool: PoolRef, path: str | os.PathLike[str] | None) -> None:
    try:
        pool.reload(path)
    except PoolStoppedError:
        return  # there is nothing to be changed any more
    except Exception as error:
        log = logger.bind(pool=pool.name)
        log.warning("the pool goes on as it is: {}", summary(error))
