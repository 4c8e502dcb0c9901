#!/usr/bin/env bash
# anthropic 2.14.0, async messages.stream, beside openai 3.57.0: a connection that is cut in the middle of a
# stream raises the transport's own error, which is no anthropic.APIError.
#
# Guess before running: anthropic.APIConnectionError, as for a connection that cannot be made, and as
#   the openai SDK raises for a cut stream.
# Seen: a bare httpx2.RemoteProtocolError, from `text_stream` and from `get_final_message`; a connection
#   that is refused is an APIConnectionError. Beside it (no guess had been made): "overloaded" sent as an
#   event within the stream is an APIStatusError with `status_code` 200; openai's APIError has none.
# So `except anthropic.APIError` around a stream lets a cut pass, and a rule that goes by the status (529,
# 5xx) takes an overload in the middle of a stream for something else: what counts is `body["error"]["type"]`.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check \
  anthropic==2.14.0 openai==3.57.0 httpx2==2.16.2 2>"$work/pip.log" || { cat "$work/pip.log" >&2; exit 1; }
"$work/venv/bin/python" - <<'PY'
import asyncio
import json
import re
import socket
from collections.abc import Awaitable
from importlib.metadata import version
from typing import Any

import anthropic
import httpx2
import openai

ASKED: Any = [{"role": "user", "content": "hello"}]


def event(**data: object) -> bytes:
    name = f"event: {data['type']}\n" if "type" in data else ""
    return f"{name}data: {json.dumps(data)}\n\n".encode()


MESSAGE = {
    "id": "m1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [],
    "stop_reason": None,
    "stop_sequence": None,
    "usage": {"input_tokens": 5, "output_tokens": 1},
}
HALF = (
    event(type="message_start", message=MESSAGE)
    + event(type="content_block_start", index=0, content_block={"type": "text", "text": ""})
    + event(type="content_block_delta", index=0, delta={"type": "text_delta", "text": "The answer"})
)
OVERLOADED = event(type="error", error={"type": "overloaded_error", "message": "overloaded"})
CHOICE = {"index": 0, "delta": {"role": "assistant", "content": "The answer"}, "finish_reason": None}
OPENAI_HALF = event(
    id="c1", object="chat.completion.chunk", created=1, model="m", choices=[CHOICE]
)
OPENAI_OVERLOADED = event(error={"message": "overloaded", "code": "overloaded"})


async def server(body: bytes, *, whole: bool) -> str:
    """Answers 200 with `body`; cuts the connection after it unless it is `whole`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head.lower())
        await reader.readexactly(int(length[1]) if length else 0)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n")
        writer.write(b"transfer-encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(body), body))
        if whole:
            writer.write(b"0\r\n\r\n")
        await writer.drain()
        writer.close()

    served = await asyncio.start_server(serve, "127.0.0.1", 0)
    servers.append(served)
    return f"http://127.0.0.1:{served.sockets[0].getsockname()[1]}"


servers: list[asyncio.Server] = []


def claude(url: str) -> Any:
    client = anthropic.AsyncAnthropic(api_key="none", base_url=url, max_retries=0)
    return client.messages.stream(model="m", max_tokens=9, messages=ASKED)


async def text(url: str) -> None:
    async with claude(url) as stream:
        async for _ in stream.text_stream:
            pass


async def final(url: str) -> None:
    async with claude(url) as stream:
        await stream.get_final_message()


async def gpt(url: str) -> None:
    client = openai.AsyncOpenAI(api_key="none", base_url=url, max_retries=0)
    async for _ in await client.chat.completions.create(model="m", messages=ASKED, stream=True):
        pass


async def raised(what: str, call: Awaitable[None]) -> Exception:
    try:
        await asyncio.wait_for(call, 30)
    except Exception as error:
        status = getattr(error, "status_code", None)
        print(f"{what}: {type(error).__module__}.{type(error).__name__}, status {status}")
        return error
    raise SystemExit("nothing was raised")


async def main() -> None:
    print(*(f"{name} {version(name)}" for name in ("anthropic", "openai", "httpx2")))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{probe.getsockname()[1]}"
    assert type(await raised("refused", final(closed))) is anthropic.APIConnectionError

    cut = await server(HALF, whole=False)
    for what, read in (("cut, text_stream", text), ("cut, get_final_message", final)):
        error = await raised(what, read(cut))
        assert type(error) is httpx2.RemoteProtocolError
        assert not isinstance(error, anthropic.APIError)
    error = await raised("cut, openai", gpt(await server(OPENAI_HALF, whole=False)))
    assert type(error) is openai.APIConnectionError

    error = await raised("overloaded", final(await server(HALF + OVERLOADED, whole=True)))
    assert isinstance(error, anthropic.APIStatusError)
    assert error.status_code == 200
    assert error.body["error"]["type"] == "overloaded_error"
    url = await server(OPENAI_HALF + OPENAI_OVERLOADED, whole=True)
    error = await raised("overloaded, openai", gpt(url))
    assert type(error) is openai.APIError
    assert not hasattr(error, "status_code")


asyncio.run(main())
PY
