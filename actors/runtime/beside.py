"""A coroutine that runs beside another one, and never longer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any


@asynccontextmanager
async def beside(coroutine: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run it in a task of its own while the block runs; it is cancelled, and has ended, when that
    is left. What it raises it has to tell by itself.
    """
    loop = asyncio.get_running_loop()
    task = loop.create_task(coroutine)
    try:
        yield
    finally:
        if asyncio.get_running_loop() is loop:
            task.cancel()
            await asyncio.wait([task])  # raises nothing of the task's
            if not task.cancelled():
                task.exception()  # looked at: nobody else does
        elif not loop.is_closed():  # left on another loop: that one may never run again
            loop.call_soon_threadsafe(task.cancel)


async def give_way() -> None:
    """Let others on the loop have their turn."""
    await asyncio.sleep(0)
