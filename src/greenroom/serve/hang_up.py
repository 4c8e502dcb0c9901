"""Clients that hang up: what they have asked for ends with that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import aclosing
from typing import Any, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

T = TypeVar("T")


class ClientLeftError(Exception):
    """Nobody is there any more to be answered."""


async def unless_left(work: Coroutine[Any, Any, T], receive: Receive) -> T:
    """What the work returns; it is cancelled when the client hangs up meanwhile.

    Args:
        receive: of a request whose body has been read.

    Raises:
        ClientLeftError: it did.
        Exception: the work's own.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_left(receive))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientLeftError
    finally:
        for task in (working, leaving):
            task.cancel()
        # What they raise now is nobody's any more; and what the work holds is given back here.
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class EventsResponse(Response):
    """Server-sent events. (Starlette's own stream learns of a client that has left, under a server
    of ASGI 2.4, by its next event alone: until then the agent's slot would stay taken.)

    Args:
        events: what is sent.
        close: called at the end, whatever it is.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        events: AsyncGenerator[bytes, None],
        close: Callable[[], object],
        headers: Mapping[str, str] | None = None,
    ) -> None:
        # Without the second one nginx keeps events back until its buffer is full.
        own = {"cache-control": "no-cache", "x-accel-buffering": "no"}
        self._events = events
        self._close = close
        self.status_code = 200
        self.background = None
        self.init_headers({**own, **(headers or {})})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await unless_left(self._send(send), receive)
        except (ClientLeftError, OSError):
            pass  # nobody is to be told
        finally:
            self._close()

    async def _send(self, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)
        async with aclosing(self._events) as events:
            async for each in events:
                await send({"type": "http.response.body", "body": each, "more_body": True})
                # A server's `send` need not wait: without this what lies ready would be written in
                # one go, to a client that has left meanwhile, while all others wait.
                await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": b"", "more_body": False})
