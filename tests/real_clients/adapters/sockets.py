"""What keeps a connection open: websockets' close codes, nats."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nats
import websockets.asyncio.client as ws_client
import websockets.asyncio.server as ws_server

from real_clients.case import Adapter, Case
from real_clients.server import free_port
from real_clients.situations import Situation

_CLOSES = {
    1000: ("unavailable",),
    1001: ("unavailable",),
    1006: ("unavailable",),
    1008: ("caller",),
    1009: ("too_large",),
    1011: ("unavailable",),
    1012: ("unavailable",),
    1013: ("unavailable",),
    3000: ("auth",),
}
_WEBSOCKETS = {
    **{f"close {code}": Situation(right) for code, right in _CLOSES.items()},
    "refused": Situation(("unavailable",)),
    "rejected 401": Situation(("auth",)),
    "rejected 429": Situation(("rate_limited",), 7.0),
    "rejected 503": Situation(("unavailable",), 7.0),
}


async def _websockets(case: Case) -> object:
    word, _, code = case.situation.partition(" ")

    async def close(connection: Any) -> None:
        await connection.recv()
        if code == "1006":
            connection.transport.abort()
        else:
            await connection.close(int(code), "goodbye")

    def reject(connection: Any, request: Any) -> Any:
        if word != "rejected":
            return None
        answer = connection.respond(int(code), "no")
        if code != "401":
            answer.headers["Retry-After"] = "7"
        return answer

    async with ws_server.serve(close, "127.0.0.1", 0, process_request=reject) as server:
        port = free_port() if word == "refused" else next(iter(server.sockets)).getsockname()[1]
        async with ws_client.connect(
            f"ws://127.0.0.1:{port}", open_timeout=case.timeout_s, proxy=None
        ) as client:
            await client.send("hello")
            return await client.recv()


_NATS = {
    "refused": Situation(("unavailable",)),
    "no responders": Situation(("unavailable",)),
    "hang": Situation(("timeout",)),
    "closed": Situation(("unavailable",)),
    "max payload": Situation(("too_large",)),
    "bad password": Situation(("auth",)),
    "js no stream": Situation(("unavailable", "not_found", "caller")),
}


def _nats_binary() -> str | None:
    beside = Path(sys.executable).parent / "nats-server"
    return str(beside) if beside.exists() else shutil.which("nats-server")


@asynccontextmanager
async def _nats_server(*options: str) -> AsyncIterator[int]:
    binary, port = _nats_binary(), free_port()
    assert binary is not None
    with tempfile.TemporaryDirectory() as folder:
        server = await asyncio.create_subprocess_exec(
            *(binary, "-a", "127.0.0.1", "-p", str(port), "-sd", folder, *options),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            for _ in range(50):
                try:
                    (await asyncio.open_connection("127.0.0.1", port))[1].close()
                    break
                except OSError:
                    await asyncio.sleep(0.05)
            yield port
        finally:
            server.kill()
            await server.wait()


async def _nobody(_: object) -> None:
    """What goes on in the background is not what is asked for."""


async def _connect(port: int, **options: Any) -> Any:
    return await nats.connect(
        f"nats://127.0.0.1:{port}", allow_reconnect=False, error_cb=_nobody, **options
    )


async def _nats(case: Case) -> object:
    if case.situation == "refused":
        return await _connect(free_port(), max_reconnect_attempts=1)
    options = ("--user", "me", "--pass", "right") if case.situation == "bad password" else ("-js",)
    async with _nats_server(*options) as port:
        if case.situation == "bad password":
            return await _connect(port, user="me", password="wrong")
        client = await _connect(port)
        try:
            return await _nats_call(client, case)
        finally:
            await client.close()


async def _nats_call(client: Any, case: Case) -> object:
    match case.situation:
        case "max payload":
            return await client.publish("here", b"x" * (client.max_payload + 1))
        case "closed":
            await client.close()
            return await client.request("here", b"", timeout=case.timeout_s)
        case "hang":
            await client.subscribe("silent")
            return await client.request("silent", b"", timeout=case.timeout_s)
        case "js no stream":
            return await client.jetstream().publish("nowhere", b"", timeout=case.timeout_s)
    return await client.request("here", b"", timeout=case.timeout_s)


ADAPTERS = [Adapter("websockets", "websockets", "ws", None, _websockets, own=_WEBSOCKETS)]
if _nats_binary():
    ADAPTERS.append(Adapter("nats", "nats-py", "nats", None, _nats, own=_NATS))
