"""Several MCP servers that have the same tool, as one: the first that can does it.

    python examples/mcp_tools.py

Each server is a process that a session talks to. A session belongs to the task that has opened it,
so the pool opens and closes it, by a factory; a result that says it is an error is a failure.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from mcp import Client, StdioServerParameters
from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError

from greenroom import AgentPool, Member, PoolConfig, PoolRef


@asynccontextmanager
async def session(*argv: str) -> AsyncIterator[Client]:
    """A server as long as it is wanted: entered and left in one task, which is the pool's."""
    server = StdioServerParameters(command=sys.executable, args=[__file__, *argv])
    async with Client(server) as client:
        yield client


MEMBERS = [  # put the commands, or the URLs, of your servers here
    Member("europe", factory=partial(session, "europe"), max_concurrency=8),
    Member("world", factory=partial(session, "world"), max_concurrency=8, priority=1),
]
CONFIG = PoolConfig(request_timeout_s=20)  # of one call; `is_failure` knows a tool's result


async def weather(tools: PoolRef, city: str) -> str:
    """What an agent is given as its tool. One that changes something: `idempotent=False`."""
    result = await tools.aapply(lambda client: client.call_tool("weather", {"city": city}))
    return str(result.content[0].text)


async def main() -> None:
    async with AgentPool.start(
        MEMBERS, strategy="priority", config=CONFIG, name="weather"
    ) as tools:
        for city in ("Paris", "Quito"):
            print(await weather(tools, city))
        # A block has the session itself, for more than one call.
        async for attempt in tools.attempts():
            async with attempt as client:
                listed = await client.list_tools()
        print([tool.name for tool in listed.tools])


# -- the servers: here, so that this runs as it is


def serve(name: str) -> None:
    server = MCPServer(name, log_level="ERROR")

    @server.tool()
    def weather(city: str) -> str:
        if name == "europe" and city == "Quito":
            raise ToolError("no station answers")  # a result with `is_error`, not an exception
        return f"{name}: sunny in {city}"

    server.run()


if __name__ == "__main__":
    serve(sys.argv[1]) if sys.argv[1:] else asyncio.run(main())
