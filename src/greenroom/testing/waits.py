"""What the helpers of `greenroom.testing` wait with."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

TIMEOUT_S = 5.0
"""How long the helpers wait by default, in real seconds: only a failing test needs them."""


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
