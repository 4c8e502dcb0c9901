"""A fork in the middle of the traffic: in the child every call of the pool raises at once."""

from __future__ import annotations

import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from greenroom import ForkedPoolError, GetStats, Member, PoolRef, Request

LONGEST_S = 20
"""A child that lives longer hangs, and is ended by the system."""


def judge(pool: PoolRef) -> Iterator[str]:
    """Fork, and have the child try every kind of call; what it complains of."""
    if not hasattr(os, "fork") or not pool.is_alive():
        return
    waiting = pool.ask(GetStats(), block=False)
    ours, theirs = os.pipe()
    child = _fork()
    if child == 0:
        _end_with("\n".join(_complaints(pool, waiting)), theirs)
    os.close(theirs)
    with os.fdopen(ours, "rb") as pipe:
        yield from pipe.read().decode().splitlines()
    _, status = os.waitpid(child, 0)
    if status:
        yield f"a child of a fork ended with status {status}"
    waiting.cancel()


def _fork() -> int:
    with warnings.catch_warnings():  # from Python 3.12 on: there are threads, as there shall be
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _end_with(words: str, pipe: int) -> None:
    try:
        os.write(pipe, words.encode())
    finally:
        os._exit(0)


def _complaints(pool: PoolRef, waiting: Any) -> Iterator[str]:
    """Run in the child. (Its trace function, if there is one, may wait for threads.)"""
    sys.settrace(None)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(LONGEST_S)
    try:
        for name, call in _calls(pool).items():
            try:
                call()
                yield f"{name} in a child returned"
            except ForkedPoolError:
                continue
            except BaseException as error:
                yield f"{name} in a child raised {error!r}"
        if pool.is_alive():
            yield "the pool is alive in a child"
        pool.__exit__(None, None, None)
        if not waiting.done() and waiting.cancel():
            yield "a future could be cancelled in a child"
    except ForkedPoolError:
        return
    except BaseException:
        yield from traceback.format_exc().splitlines()


def _calls(pool: PoolRef) -> dict[str, Callable[[], Any]]:
    return {
        "ask": lambda: pool.ask(Request(1), timeout=1),
        "ask for later": lambda: pool.ask(Request(1), block=False),
        "tell": lambda: pool.tell(Request(1)),
        "execute": lambda: pool.execute(1),
        "apply": lambda: pool.apply(print),
        "stream": lambda: pool.stream(Request(1)),
        "stats": pool.stats,
        "on_event": lambda: pool.on_event(print),
        "add_member": lambda: pool.add_member(Member("new", print)),
        "remove_member": lambda: pool.remove_member("new"),
        "reset_all": pool.reset_all,
        "cancel": lambda: pool.cancel("id"),
        "drain": pool.drain,
        "stop": pool.stop,
    }
