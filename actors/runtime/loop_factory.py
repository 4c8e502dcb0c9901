"""Whose event loops a pool's async agents run on."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable
from typing import cast

NewLoop = Callable[[], asyncio.AbstractEventLoop]


def loop_factory(name: str) -> NewLoop:
    """What makes an event loop of that kind, `PoolConfig.event_loop`.

    Raises:
        ModuleNotFoundError: uvloop is asked for and not installed; it names the extra.
    """
    if name == "asyncio":
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
