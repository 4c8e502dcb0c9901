#!/usr/bin/env bash
# ollama 0.6.3: a text with U+0085 (or U+2028) in it breaks a stream off with a bare JSONDecodeError.
#
# Guess before running: a response is one JSON object a line, lines end at "\n", and JSON allows both
#   characters in its strings as they are: the text comes through; at worst there is an error of ollama's.
# Seen: ollama takes httpx's lines, which end where `str.splitlines` has them end, so also at these
#   characters. Half an object is no JSON: `json.JSONDecodeError`, which is no `ollama.ResponseError`, in the
#   middle of the stream. The same answer that is not streamed is whole.
# Go's encoding of JSON, which Ollama's server has, escapes U+2028 and U+2029 and leaves U+0085 as it is. So a
# model that says it breaks each stream off, and whoever catches `ollama.ResponseError` does not catch that.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check ollama==0.6.3 httpx==0.28.1 2>"$work/pip.log" ||
  { cat "$work/pip.log" >&2; exit 1; }
"$work/venv/bin/python" - <<'PY'
import asyncio
import json
import re
from importlib.metadata import version
from typing import Any

import ollama

ASKED: Any = [{"role": "user", "content": "hello"}]


def line(text: str, done: bool) -> bytes:
    message = {"role": "assistant", "content": text}
    said = {"model": "m", "created_at": "2026-01-01T00:00:00Z", "message": message, "done": done}
    return json.dumps(said, ensure_ascii=False).encode() + b"\n"


async def answer(body: bytes, stream: bool) -> list[str]:
    """What a server that sends this gives its reader."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head.lower())
        await reader.readexactly(int(length[1]) if length else 0)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\n")
        writer.write(b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        client = ollama.AsyncClient(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        if not stream:
            return [(await client.chat(model="m", messages=ASKED)).message.content]
        chunks = await client.chat(model="m", messages=ASKED, stream=True)
        return [chunk.message.content async for chunk in chunks]


async def main() -> None:
    print(f"ollama {version('ollama')}, httpx {version('httpx')}")
    plain = await answer(line("one\u00e9two", False) + line(" end", True), stream=True)
    print(f"U+00E9: {plain}")
    assert plain == ["one\u00e9two", " end"]
    for character in "\u0085\u2028":
        text = f"one{character}two"
        assert await answer(line(text, True), stream=False) == [text]
        try:
            got: object = await answer(line(text, False) + line(" end", True), stream=True)
        except Exception as error:
            got = error
        print(f"U+{ord(character):04X}: {type(got).__module__}.{type(got).__name__}: {got}")
        assert isinstance(got, json.JSONDecodeError)
        assert not isinstance(got, ollama.ResponseError)


asyncio.run(asyncio.wait_for(main(), 60))
PY
