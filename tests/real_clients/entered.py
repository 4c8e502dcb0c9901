"""Real clients that a factory makes: entered, used, and left again without a word in the log.

`python -m real_clients.entered`, in the environment of the group `core`: one line for each that is
not as it should be, in a sync app and in a coroutine of one; the exit code says whether there were.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import anyio
import anyio.from_thread
import httpx
import httpx2
import mcp
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.server import MCPServer

import greenroom
from greenroom import AgentPool, Member, PoolConfig

LIMIT_S = 60.0

_SERVER = """
from mcp.server import MCPServer
server = MCPServer("upper")
@server.tool()
def _upper_tool(text: str) -> str:
    return text.upper()
server.run()
"""


@dataclass(frozen=True, slots=True)
class Case:
    """How a client is made, what it is to answer "HI" to, and what tells that it is closed."""

    name: str
    factory: Callable[[], Any]
    use: Callable[[Any], Any]
    closed: Callable[[Any], object] = lambda _: True


@contextlib.asynccontextmanager
async def _task_group() -> AsyncIterator[Any]:
    with anyio.CancelScope():
        async with anyio.create_task_group() as tasks:
            send, receive = anyio.create_memory_object_stream[Any]()

            async def serve() -> None:
                async for text, answer in receive:
                    await answer.send(text.upper())

            async def ask(text: str) -> Any:
                answer, result = anyio.create_memory_object_stream[Any](1)
                await send.send((text, answer))
                return await result.receive()

            tasks.start_soon(serve)
            yield ask
            tasks.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def _session() -> AsyncIterator[mcp.ClientSession]:
    parameters = StdioServerParameters(command=sys.executable, args=["-c", _SERVER])
    async with stdio_client(parameters) as (read, write), mcp.ClientSession(read, write) as session:
        await session.initialize()
        yield session


def _in_memory() -> Client:
    server = MCPServer("upper", log_level="ERROR")  # it sets the log of the whole process up
    server.add_tool(_upper_tool)
    return Client(server)


def _upper_tool(text: str) -> str:
    return text.upper()


async def _upper(client: Any) -> Any:
    return (await client.call_tool("_upper_tool", {"text": "hi"})).content[0].text


def _http(module: Any) -> Any:
    return module.AsyncClient(
        transport=module.MockTransport(lambda _: module.Response(200, text="HI"))
    )


async def _used(module: Any) -> Any:
    """It has logged in, say: it cannot be entered any more."""
    client = _http(module)
    await client.get("http://nobody/")
    return client


async def _get(client: Any) -> Any:
    return (await client.get("http://nobody/")).text


async def _aiohttp() -> aiohttp.ClientSession:
    return aiohttp.ClientSession()


async def _is_open(client: aiohttp.ClientSession) -> str:
    return "closed" if client.closed else "HI"


async def _hi() -> str:
    return "HI"


CASES = [
    Case("anyio: scope and task group", _task_group, lambda ask: ask("hi")),
    Case("anyio: portal", anyio.from_thread.start_blocking_portal, lambda p: p.call(_hi)),
    Case("mcp: session over stdio", _session, _upper),
    Case("mcp: client in memory", _in_memory, _upper),
    Case("httpx", lambda: _http(httpx), _get, lambda client: client.is_closed),
    Case("httpx, used before", lambda: _used(httpx), _get, lambda client: client.is_closed),
    Case("httpx2", lambda: _http(httpx2), _get, lambda client: client.is_closed),
    Case("httpx2, used before", lambda: _used(httpx2), _get, lambda client: client.is_closed),
    Case("aiohttp", _aiohttp, _is_open, lambda client: client.closed),
]


def _in_sync_app(case: Case) -> Any:
    with AgentPool.start([Member("client", factory=case.factory)], config=PoolConfig()) as pool:
        for _ in range(3):
            assert pool.apply(case.use, timeout=LIMIT_S) == "HI"
        return pool.apply(lambda client: client, timeout=LIMIT_S)


async def _in_coroutine(case: Case) -> Any:
    async with AgentPool.start([Member("client", factory=case.factory)]) as pool:
        for _ in range(3):
            reply = await pool.ask(greenroom.Apply(case.use), block=False, timeout=LIMIT_S)
            assert reply.value == "HI"
        return (await pool.ask(greenroom.Apply(lambda client: client), block=False)).value


@contextlib.contextmanager
def _words() -> Iterator[io.StringIO]:
    """What greenroom and asyncio have to say."""
    words = io.StringIO()
    handler, off = logging.StreamHandler(words), greenroom.log("WARNING", sink=words)
    logging.getLogger("asyncio").addHandler(handler)
    try:
        yield words
    finally:
        logging.getLogger("asyncio").removeHandler(handler)
        off()


def _fault(case: Case, app: Callable[[Case], Any]) -> str | None:
    with _words() as words:
        try:
            client = app(case)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
    if words.getvalue():
        return words.getvalue()
    return None if case.closed(client) else "it is open still"


def main() -> int:
    """0 if every client is as it should be."""
    apps = {"sync": _in_sync_app, "async": lambda case: asyncio.run(_in_coroutine(case))}
    faults = 0
    for case in CASES:
        for name, app in apps.items():
            fault = _fault(case, app)
            faults += fault is not None
            print(f"entered, {name} app: {case.name}: {fault or 'in order'}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
