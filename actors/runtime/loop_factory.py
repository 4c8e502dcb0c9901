"""Whose event loops a pool's async agents run on."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable
from typing import cast

from greenroom.actors.runtime.thread_duties import HERE, running_loop

AppLoop = asyncio.AbstractEventLoop

NewLoop = Callable[[], asyncio.AbstractEventLoop]


def loop_factory(name: str) -> NewLoop:
    """What makes a pool's own event loops, by `PoolConfig.event_loop`.

    Raises:
        ModuleNotFoundError: uvloop is asked for and not installed; it names the extra.
    """
    if name != "uvloop":
        return asyncio.new_event_loop
    try:
        uvloop = importlib.import_module("uvloop")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "event_loop='uvloop' needs uvloop, which is not installed; "
            "install it with: pip install 'greenroom[uvloop]'",
            name=error.name,
        ) from error
    return cast(NewLoop, uvloop.new_event_loop)


def home_loop(name: str) -> asyncio.AbstractEventLoop | None:
    """The loop of the app's that agents are to run on, by `PoolConfig.event_loop`; None: they run
    on a loop of the pool's own.

    Raises:
        RuntimeError: no loop runs in this thread, though it is to be that one.
    """
    # Another pool's own loop is no home: it ends, or is replaced, for reasons of its own.
    auto = name == "auto" and HERE.duty is None
    loop = running_loop() if auto or name == "running" else None
    if loop is None and name == "running":
        raise RuntimeError(
            "event_loop='running' needs an event loop that runs in this thread: start the pool in "
            "a coroutine, or give its agents a loop of their own by event_loop='own'"
        )
    return loop
