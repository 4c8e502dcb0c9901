"""The other process of calls over HTTP: greenroom's worker, or a bare server of aiohttp.

    python -m benchmarks.remote_server greenroom|aiohttp

It writes its URL, and serves until its standard input ends. Both do the same: an answer that is the
payload, a stream of so many numbers as the payload says.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager


class Agent:
    """What greenroom's worker serves."""

    async def arun(self, payload: int) -> int:
        return payload

    async def astream(self, payload: int) -> AsyncIterator[int]:
        for number in range(payload):
            yield number


@contextmanager
def server(kind: str) -> Iterator[str]:
    """One of them, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.remote_server", kind]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()


async def greenroom(told: Callable[[str], None], ended: asyncio.Event) -> None:
    from greenroom import Member
    from greenroom.remote import serve_worker

    member = Member("far", Agent(), max_concurrency=1_000)
    await serve_worker(member, "http://127.0.0.1:0", stopping=ended, on_listening=told)


async def aiohttp(told: Callable[[str], None], ended: asyncio.Event) -> None:
    """As one writes it by hand."""
    import json

    from aiohttp import web

    async def call(request: web.Request) -> web.Response:
        asked = await request.json()
        return web.json_response({"value": asked["payload"]})

    async def stream(request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        response = web.StreamResponse()
        await response.prepare(request)
        for number in range(asked["payload"]):
            await response.write(json.dumps({"value": number}).encode() + b"\n")
        await response.write_eof()
        return response

    app = web.Application()
    app.add_routes([web.post("/call", call), web.post("/stream", stream)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    told(f"http://{host}:{port}")
    await ended.wait()
    await runner.cleanup()


async def main(kind: str) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin.fileno(), ended.set)

    def told(url: str) -> None:
        print(url, flush=True)

    await (greenroom if kind == "greenroom" else aiohttp)(told, ended)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
