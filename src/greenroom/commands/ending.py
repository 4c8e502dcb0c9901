"""How a command is ended from outside while it waits for an answer."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

from greenroom.commands.exits import Terminated

R = TypeVar("R")

ENDS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""What asks a process to end, beside Ctrl-C."""


def run(work: Coroutine[Any, Any, R]) -> R:
    """Run a coroutine; Ctrl-C, SIGTERM and SIGHUP cancel it.

    A thread that waits for a lock may sleep through a signal that comes just before it falls
    asleep, until there is another one; the loop is woken through a file descriptor.

    Raises:
        KeyboardInterrupt: Ctrl-C.
        Terminated: another signal asked for the end.
    """
    came: list[int] = []
    try:
        with asyncio.Runner() as runner:
            return runner.run(_cancelled_by_signals(work, came))
    except asyncio.CancelledError:
        if not came:
            raise
        raise (KeyboardInterrupt if came[0] == signal.SIGINT else Terminated(came[0])) from None


async def _cancelled_by_signals(work: Coroutine[Any, Any, R], came: list[int]) -> R:
    task = asyncio.current_task()
    assert task is not None

    def end(number: int) -> None:
        came.append(number)
        task.cancel()

    with _told(end):
        return await work


@contextlib.contextmanager
def _told(end: Callable[[int], None]) -> Iterator[None]:
    """Within it the loop tells of signals; where it cannot, as on Windows, they do as before."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, *ENDS)}
    ours = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
    taken: list[int] = []
    try:
        with contextlib.suppress(NotImplementedError):
            for number in ours:
                loop.add_signal_handler(number, functools.partial(end, number))
                taken.append(number)
        yield
    finally:
        for number in taken:
            loop.remove_signal_handler(number)
            signal.signal(number, before[number] or signal.SIG_DFL)
