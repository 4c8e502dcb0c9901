"""A coroutine that runs beside another one, and never longer."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


class Beside:
    """Run it in a task of its own while the block runs; it is cancelled, and has ended, when that
    is left. What it raises it has to tell by itself.
    """

    # No async generator: a loop that ends closes all of them at once, this one beside the one whose
    # block it is.

    def __init__(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self._coroutine = coroutine

    async def __aenter__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._coroutine)

    async def __aexit__(self, *_: object) -> None:
        task = self._task
        if asyncio.get_running_loop() is self._loop:
            task.cancel()
            await asyncio.wait([task])  # raises nothing of the task's
            if not task.cancelled():
                task.exception()  # looked at: nobody else does
        elif not self._loop.is_closed():  # left on another loop: that one may never run again
            self._loop.call_soon_threadsafe(task.cancel)


async def give_way() -> None:
    """Let others on the loop have their turn."""
    await asyncio.sleep(0)
