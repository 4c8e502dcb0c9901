"""Servers of chat completions on loopback that answer whatever they are told to, byte by byte."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from helpers_pools import WAIT_S

from greenroom.kinds import OpenAIAgent

JSON, EVENTS, HTML = "application/json", "text/event-stream", "text/html; charset=utf-8"


def whole(content: Any = "hi", finish: Any = "stop", **message: Any) -> dict[str, Any]:
    """A completion."""
    said = {"role": "assistant", "content": content, **message}
    choice = {"index": 0, "message": said, "finish_reason": finish}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    return {
        "id": "c",
        "object": "chat.completion",
        "model": "m-1",
        "choices": [choice],
        "usage": usage,
    }


def part(content: Any = None, finish: Any = None, **delta: Any) -> dict[str, Any]:
    """An event of one."""
    said = delta if content is None else {"content": content, **delta}
    choice = {"index": 0, "delta": said, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion.chunk", "model": "m-1", "choices": [choice]}


def other(content: str, finish: Any = None) -> dict[str, Any]:
    """An event of the second of two choices."""
    said = part(content, finish)
    return {**said, "choices": [{**said["choices"][0], "index": 1}]}


def events(*said: Any, done: bool = True) -> bytes:
    """A stream of these."""
    data = [each if isinstance(each, str) else f"data: {json.dumps(each)}" for each in said]
    return "".join(f"{each}\n\n" for each in [*data, *(["data: [DONE]"] if done else [])]).encode()


class Server:
    """Answers each request with the same bytes, and keeps what it was asked."""

    def __init__(
        self, body: bytes, content_type: str, status: str = "200 OK", cut: bool = False
    ) -> None:
        length = len(body) + (100 if cut else 0)
        head = f"HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\n"
        self._answer = f"{head}connection: close\r\n\r\n".encode() + body
        self.asked: list[dict[str, Any]] = []
        self.heads: list[str] = []
        self.url = ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Server]:
        async with await asyncio.start_server(self._serve, "127.0.0.1", 0) as server:
            self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
            yield self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next(
            int(line.partition(":")[2])
            for line in head.splitlines()
            if line.lower().startswith("content-length")
        )
        self.heads.append(head)
        self.asked.append(json.loads(await reader.readexactly(length)))
        writer.write(self._answer)
        await writer.drain()
        writer.close()


class Wire(Server):
    """Answers with whole responses, head and all, one after the other, then always with the last.

    "URL" in them is the server's own.

    Args:
        open_end: whether it leaves the connection open behind them, until it is stopped.
    """

    def __init__(self, *responses: bytes, open_end: bool = False) -> None:
        super().__init__(b"", JSON)
        self._responses = responses
        self._open_end = open_end
        self._over = asyncio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Server]:
        async with super().running():
            try:
                yield self
            finally:
                self._over.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = re.search(r"content-length: (\d+)", head.lower())
            await reader.readexactly(int(length[1]) if length else 0)
            self.heads.append(head)
            answer = self._responses[min(len(self.heads), len(self._responses)) - 1]
            writer.write(answer.replace(b"URL", self.url.encode()))
            await writer.drain()
            if self._open_end:
                await self._over.wait()
        except (ConnectionError, asyncio.IncompleteReadError):  # the client has had enough
            pass
        finally:
            writer.close()


def response(
    body: bytes = b"", status: str = "200 OK", *headers: str, content_type: str | None = None
) -> bytes:
    """A whole one; its length is told unless a header says how it is sent."""
    lines = [f"HTTP/1.1 {status}", *headers]
    if content_type is not None:
        lines.append(f"content-type: {content_type}")
    if not any(each.startswith(("transfer-encoding", "content-length")) for each in headers):
        lines.append(f"content-length: {len(body)}")
    return "".join(f"{each}\r\n" for each in [*lines, "connection: close", ""]).encode() + body


CHUNKED = "transfer-encoding: chunked"


def chunked(*pieces: bytes, cut: bool = False) -> bytes:
    """A body in pieces; `cut`: without its end."""
    sent = [b"%x\r\n%s\r\n" % (len(each), each) for each in pieces]
    return b"".join([*sent, b"" if cut else b"0\r\n\r\n"])


async def asked(server: Server, payload: Any = "hello", **settings: Any) -> Any:
    async with server.running():
        agent = OpenAIAgent("m", base_url=server.url, **settings)
        try:
            return await asyncio.wait_for(agent.arun(payload), WAIT_S)
        finally:
            await agent.aclose()


async def streamed(server: Server, **settings: Any) -> tuple[list[Any], BaseException | None]:
    """The chunks, and what the stream ended with."""
    chunks: list[Any] = []
    async with server.running():
        agent = OpenAIAgent("m", base_url=server.url, **settings)
        try:
            async with asyncio.timeout(WAIT_S):
                async for chunk in agent.astream("hello"):
                    chunks.append(chunk)
        except BaseException as error:
            return chunks, error
        finally:
            await agent.aclose()
        return chunks, None


def body(said: Any) -> bytes:
    return json.dumps(said).encode()


CALLS = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
