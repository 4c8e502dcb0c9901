"""A call of a provider in as few lines as it takes, for all peers that bring no client themselves.

OpenAI's client takes some milliseconds of the processor for each call, more than most peers do: it
would be measured in their place.
"""

from __future__ import annotations

import asyncio
import json
from urllib.parse import urlsplit

from benchmarks.peers.base import Providers

BODY = json.dumps(
    {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hello"}]}
).encode()


class Refused(Exception):
    """What is no 200; with the time to come back, in seconds, if it says so."""

    def __init__(self, status_code: int, retry_after: float | None) -> None:
        super().__init__(f"status {status_code}")
        self.status_code = status_code
        self.retry_after = retry_after


async def call(providers: Providers, name: str) -> str:
    """One call of the provider of that name.

    Raises:
        Refused: by the provider.
        ConnectionError: the connection broke.
    """
    place = urlsplit(providers.url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    try:
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: {place.netloc}\r\n"
            f"authorization: Bearer {providers.key(name)}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(BODY)}\r\n\r\n"
        )
        writer.write(head.encode() + BODY)
        return await _answer(reader)
    except asyncio.IncompleteReadError as error:
        raise ConnectionResetError("the connection broke") from error
    finally:
        writer.close()


async def _answer(reader: asyncio.StreamReader) -> str:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
    body = json.loads(await reader.readexactly(int(headers["content-length"])))
    status = int(head[0].split(" ")[1])
    if status != 200:
        wait_ms = headers.get("retry-after-ms")
        raise Refused(status, None if wait_ms is None else float(wait_ms) / 1_000)
    return str(body["choices"][0]["message"]["content"])
