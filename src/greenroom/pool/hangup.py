"""SIGHUP has a pool read its file again, as it has long-running programs do."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from queue import SimpleQueue
from types import FrameType
from typing import Any

from greenroom.actors.handle.pool_ref import PoolRef
from greenroom.actors.runtime.event_bus import say
from greenroom.messages.errors import PoolStoppedError, summary


class _Hangups:
    """The one handler of the process: it tells all that listen. Changed in the main thread."""

    def __init__(self) -> None:
        # Queues of this class can be put into from a handler that breaks in on a put.
        self._listening: tuple[SimpleQueue[bool], ...] = ()
        self._handler = self._note  # bound once: it is known by its identity
        self._before: Any = None

    def add(self, number: Any, hangups: SimpleQueue[bool]) -> None:
        """Have one more told."""
        before = signal.signal(number, self._handler)  # first: it refuses any other thread
        if before is not self._handler:
            self._before = before
        self._listening = (*self._listening, hangups)

    def remove(self, number: Any, hangups: SimpleQueue[bool]) -> None:
        """Tell it no more; after the last one the signal is treated as before, unless somebody else
        treats it by now.
        """
        self._listening = tuple(each for each in self._listening if each is not hangups)
        if not self._listening and signal.getsignal(number) is self._handler:
            # None: it was not set by Python, and cannot be set again.
            signal.signal(number, signal.SIG_DFL if self._before is None else self._before)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        for each in self._listening:
            each.put(True)


_HANGUPS = _Hangups()


def reload_on_hangup(
    pool: PoolRef, path: str | os.PathLike[str] | None = None
) -> Callable[[], None]:
    """Have a pool `reload` its file whenever the process is sent a SIGHUP.

    A file that is wrong changes nothing, and is told of by a warning in the log. To be called in
    the main thread; where there is no such signal, as on Windows, it does nothing. Any number of
    pools can listen.

    Args:
        path: as for `reload`.

    Returns:
        What ends that when called, in the main thread as well: after the last one the signal is
        treated as before.
    """
    number: Any = getattr(signal, "SIGHUP", None)
    if number is None:
        return lambda: None
    # The process may be somewhere else by then.
    file = None if path is None else os.path.abspath(path)
    hangups: SimpleQueue[bool] = SimpleQueue()

    def serve() -> None:
        while hangups.get():
            _reload(pool, file)

    name = f"greenroom-{pool.name}-reload"
    # Not in the handler: that breaks in on anything, and a reload waits for the pool.
    thread = threading.Thread(target=serve, name=name, daemon=True)
    _HANGUPS.add(number, hangups)

    def end() -> None:
        _HANGUPS.remove(number, hangups)
        hangups.put(False)
        thread.join()

    try:
        thread.start()
    except BaseException:  # the machine has no thread left
        _HANGUPS.remove(number, hangups)
        raise
    return end


def _reload(pool: PoolRef, path: str | None) -> None:
    try:
        pool.reload(path)
    except PoolStoppedError:
        return  # there is nothing to be changed any more
    except Exception as error:
        what = f"the pool goes on as it is: {summary(error)}"
        say("WARNING", __name__, what, pool=pool.name)
