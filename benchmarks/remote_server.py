"""The other process of calls: greenroom's worker, or a bare server of aiohttp or of nats-py.

    python -m benchmarks.remote_server greenroom|aiohttp
    python -m benchmarks.remote_server greenroom|nats nats://host:port/subject

It writes its URL, and serves until its standard input ends. Both do the same: an answer that is the
payload, a stream of so many numbers as the payload says.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.model import NotMeasured


class Agent:
    """What greenroom's worker serves."""

    async def arun(self, payload: int) -> int:
        return payload

    async def astream(self, payload: int) -> AsyncIterator[int]:
        for number in range(payload):
            yield number


@contextmanager
def broker() -> Iterator[str]:
    """A NATS server, and a subject there.

    Raises:
        NotMeasured: it is not installed.
    """
    beside = str(Path(sys.executable).parent)
    found = shutil.which("nats-server", path=beside) or shutil.which("nats-server")
    if found is None:
        raise NotMeasured("nats-server is not installed")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    command = [found, "-a", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), 1.0).close()
                    break
                except OSError:
                    if process.poll() is not None:
                        raise NotMeasured("nats-server does not start") from None
                    time.sleep(0.01)
            yield f"nats://127.0.0.1:{port}/bench.far"
        finally:
            process.kill()


@contextmanager
def server(kind: str, listen: str = "http://127.0.0.1:0") -> Iterator[str]:
    """One of them, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.remote_server", kind, listen]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()


async def greenroom(listen: str, told: Callable[[str], None], ended: asyncio.Event) -> None:
    from greenroom import Member
    from greenroom.remote import serve_worker

    member = Member("far", Agent(), max_concurrency=1_000)
    await serve_worker(member, listen, stopping=ended, on_listening=told)


async def nats_py(listen: str, told: Callable[[str], None], ended: asyncio.Event) -> None:
    """As one writes it by hand: a reply for each request, or as many as it asks for."""
    import json

    import nats
    from nats.aio.msg import Msg

    place, _, subject = listen.rpartition("/")
    connection = await nats.connect(place)

    async def call(message: Msg) -> None:
        asked = json.loads(message.data)
        await message.respond(json.dumps({"value": asked["payload"]}).encode())

    async def stream(message: Msg) -> None:
        asked = json.loads(message.data)
        for number in range(asked["payload"]):
            await message.respond(json.dumps({"value": number}).encode())
            if number % 100 == 99:  # as one would, lest all of it is written at once
                await asyncio.sleep(0)
        await message.respond(b"")

    await connection.subscribe(subject, cb=call)
    await connection.subscribe(f"{subject}.stream", cb=stream)
    await connection.flush()
    told(listen)
    await ended.wait()
    await connection.close()


async def aiohttp(listen: str, told: Callable[[str], None], ended: asyncio.Event) -> None:
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


KINDS = {"greenroom": greenroom, "aiohttp": aiohttp, "nats": nats_py}


async def main(kind: str, listen: str) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin.fileno(), ended.set)

    def told(url: str) -> None:
        print(url, flush=True)

    await KINDS[kind](listen, told, ended)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
