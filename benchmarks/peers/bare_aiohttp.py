"""aiohttp at both ends, as one writes it by hand: no pool, no beats, no credit, no deadline."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from benchmarks.measure import AsyncAsk
from benchmarks.peers.base import Peer, Stream
from benchmarks.remote_server import server


class BareAiohttp(Peer):
    """A session, a POST a call."""

    @asynccontextmanager
    async def remote(self) -> AsyncIterator[tuple[AsyncAsk, Stream]]:
        with server("aiohttp") as url:
            connector = aiohttp.TCPConnector(limit=0)
            async with aiohttp.ClientSession(connector=connector) as session:

                async def ask(i: int) -> Any:
                    async with session.post(url + "/call", json={"payload": i}) as response:
                        return (await response.json())["value"]

                async def stream(n: int) -> AsyncIterator[Any]:
                    async with session.post(url + "/stream", json={"payload": n}) as response:
                        async for line in response.content:
                            yield json.loads(line)["value"]

                yield ask, stream
