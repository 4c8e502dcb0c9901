#!/usr/bin/env bash
# mcp 2.3.0, streamable HTTP: whatever HTTP error the server's front answers with, the client raises a
# JSON-RPC error of its own, in an ExceptionGroup, and nothing of status or headers is left.
#
# Guess before running: an httpx.HTTPStatusError somewhere in the group, with 429 and its Retry-After.
# Seen: 401, 429 and 503 are all MCPError code -32603, "Server returned an error response", JSON-RPC's
#   "internal error"; a 404 is -32601, which in JSON-RPC means "method not found". No cause, no status.
# So a rate limit, a bad token and an outage of an MCP server cannot be told apart on the client's
# side, a Retry-After is lost, and a wrong URL looks like a method that the server does not know.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check mcp==2.3.0 2>"$work/pip.log" ||
  { cat "$work/pip.log" >&2; exit 1; }
"$work/venv/bin/python" - <<'PY'
import asyncio
import re
from collections.abc import Iterator
from importlib.metadata import version

from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client

BODY = b"slow down"
EXPECTED = {
    401: (-32603, "Server returned an error response"),
    404: (-32601, "Not Found"),
    429: (-32603, "Server returned an error response"),
    503: (-32603, "Server returned an error response"),
}


async def front(status: int) -> asyncio.Server:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head.lower())
        if length:
            await reader.readexactly(int(length[1]))
        writer.write(
            b"HTTP/1.1 %d Error\r\nretry-after: 7\r\ncontent-type: text/plain\r\n" % status
            + b"content-length: %d\r\nconnection: close\r\n\r\n" % len(BODY)
            + BODY
        )
        await writer.drain()
        writer.close()

    return await asyncio.start_server(serve, "127.0.0.1", 0)


def leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from leaves(each)
    else:
        yield error


async def main() -> None:
    print("mcp", version("mcp"))
    for status, expected in EXPECTED.items():
        server = await front(status)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp"
        try:
            async with streamable_http_client(url) as streams:
                async with ClientSession(streams[0], streams[1]) as session:
                    await session.initialize()
            raise SystemExit("nothing was raised")
        except Exception as error:
            (leaf,) = leaves(error)
            seen = leaf.error.code, str(leaf)
            print(f"HTTP {status}: {type(error).__name__} of {type(leaf).__name__}, {seen}")
            assert isinstance(error, ExceptionGroup)
            assert seen == expected, seen
            assert leaf.__cause__ is None
            assert str(status) not in repr(vars(leaf))
        finally:
            server.close()


asyncio.run(main())
PY
