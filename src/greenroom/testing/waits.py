"""What the helpers of `greenroom.testing` wait with."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from greenroom.actors.runtime.thread_duties import running_loop

TIMEOUT_S = 5.0
"""How long the helpers wait by default, in real seconds: only a failing test needs them."""


def on_loop_hint() -> str:
    """What to add where a wait was in vain: it may have kept from coming what it waited for."""
    if running_loop() is None:
        return ""
    return (
        " (in the thread of an event loop, where an agent on that loop could not begin meanwhile: "
        "wait in a thread, by asyncio.to_thread, or for an event by await_for)"
    )


def resolver(future: asyncio.Future[None]) -> Callable[[], None]:
    """What ends, from any thread, somebody's wait for the future."""
    loop = future.get_loop()

    def resolve() -> None:
        if not future.done():
            future.set_result(None)

    def wake() -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed, and with it who waited
            loop.call_soon_threadsafe(resolve)

    return wake
