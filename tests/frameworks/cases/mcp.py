"""mcp: the tools of a server, by a client that the member enters and leaves in one task."""

from __future__ import annotations

# recipe
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from mcp.client import Client
from mcp_types import CallToolResult

from greenroom import Member


def member(name: str, url: str) -> Member:
    @asynccontextmanager
    async def tool() -> AsyncIterator[Any]:
        async with Client(url) as client:

            async def ask(prompt: str) -> CallToolResult:
                return await client.call_tool("ask", {"prompt": prompt})

            yield ask

    return Member(name, factory=tool)  # its answer: reply.value.content


# end of recipe
import httpx2  # noqa: E402
from mcp.server import MCPServer  # noqa: E402

from frameworks.case import Case  # noqa: E402
from frameworks.served import serve  # noqa: E402


def server_of(backend: str) -> str:
    """The URL of a server whose one tool asks that backend; it fails as that does."""
    server = MCPServer("front", log_level="CRITICAL")

    @server.tool()
    async def ask(prompt: str) -> str:
        body = {"messages": [{"role": "user", "content": prompt}]}
        async with httpx2.AsyncClient(base_url=backend, timeout=60) as http:
            response = await http.post("/chat/completions", json=body)
            return str(response.raise_for_status().json()["choices"][0]["message"]["content"])

    return f"{serve(lambda _: server.streamable_http_app())}/mcp"


def before(name: str, url: str) -> Member:
    return member(name, server_of(url))


def plain(name: str, url: str) -> Member:
    return Member(name, factory=lambda: Client(server_of(url)))


CASE = Case(
    package="mcp",
    member=before,
    plain=plain,
    said=lambda value: str(value.content[0].text),
    unswitched=before,
    why="a client has no run method",
)
