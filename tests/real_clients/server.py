"""A loopback server that misbehaves on request: the first part of a path says how.

`http://127.0.0.1:PORT/SITUATION~PROVIDER/whatever/the/client/adds`. It counts what it was asked, so
that a client's own retries can be seen.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
import threading
import time
from collections import Counter
from email.utils import formatdate

from real_clients import bodies
from real_clients.situations import RETRY_AFTER_MS, RETRY_AFTER_S, RETRY_DATE_S

_HANG_S = 20.0
_CONTENT = {"html": "text/html; charset=utf-8", "json": "application/json"}
_PHRASES = {400: "Bad Request", 401: "Unauthorized", 402: "Payment Required", 403: "Forbidden",
            404: "Not Found", 408: "Request Timeout", 413: "Payload Too Large",
            422: "Unprocessable Entity", 429: "Too Many Requests", 500: "Internal Server Error",
            502: "Bad Gateway", 503: "Service Unavailable"}  # fmt: skip


class Server:
    """Runs in a thread of its own, for as long as the `with` lasts."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.port = 0

    def __enter__(self) -> Server:
        self._thread.start()
        self._ready.wait(5)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def url(self, situation: str, provider: str) -> str:
        """Where a client is to be pointed at; nobody listens at that of "refused"."""
        port = free_port() if situation == "refused" else self.port
        return f"http://127.0.0.1:{port}/{situation}~{provider}"

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            length = re.search(r"(?i)\r\ncontent-length: *(\d+)", head)
            body = b""
            if length:
                body = await reader.readexactly(int(length[1]))
            elif re.search(r"(?i)\r\ntransfer-encoding: *chunked", head):
                await reader.readuntil(b"0\r\n\r\n")
            path = head.split(" ", 2)[1]
            found = re.match(r"/([^/~]+)~([^/]+)(/.*)?$", path)
            if found:
                self.requests[f"{found[1]}~{found[2]}"] += 1
                if found[2] in ("mcp", "a2a"):
                    await self._rpc(writer, found[1], found[2], body)
                else:
                    await self._answer(writer, found[1], found[2], found[3] or "")
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    async def _answer(
        self, writer: asyncio.StreamWriter, situation: str, provider: str, path: str
    ) -> None:
        situation = situation.partition("-")[0]  # what follows tells calls apart
        dialect = "responses" if "/responses" in path else provider
        if situation.startswith("st_"):
            await self._stream(writer, situation.removeprefix("st_"), dialect)
            return
        match situation:
            case "closed":
                return
            case "hang":
                await asyncio.sleep(_HANG_S)
                return
            case "reset":
                body = json.dumps(bodies.success(dialect, situation)).encode()
                writer.write(
                    _head(200, {"Content-Length": str(len(body))}) + body[: len(body) // 2]
                )
                await writer.drain()
                _reset(writer)
                return
        status, headers, body = self._plain(situation, provider, dialect)
        if provider == "bedrock" and status >= 400:
            headers["x-amzn-errortype"] = bodies.failure(provider, status, situation)["__type"]
        writer.write(_head(status, {**headers, "Content-Length": str(len(body))}) + body)
        await writer.drain()

    async def _rpc(
        self, writer: asyncio.StreamWriter, situation: str, provider: str, body: bytes
    ) -> None:
        """JSON-RPC over HTTP: "late_" fails a call after a handshake that went well."""
        asked = json.loads(body) if body else {}
        late = situation.startswith(("late_", "rpc", "toolerr"))
        if provider == "mcp" and late and asked.get("method") != "tools/call":
            answer = bodies.mcp_handshake(asked)
        elif situation.startswith(("rpc", "toolerr")):
            answer = bodies.rpc_failure(asked, situation)
        else:
            await self._answer(writer, situation.removeprefix("late_"), "openai", "")
            return
        status = 202 if answer is None else 200
        payload = b"" if answer is None else json.dumps(answer).encode()
        headers = {"Content-Type": _CONTENT["json"], "Content-Length": str(len(payload))}
        writer.write(_head(status, headers) + payload)
        await writer.drain()

    def _plain(
        self, situation: str, provider: str, dialect: str
    ) -> tuple[int, dict[str, str], bytes]:
        if situation == "502html":
            return 502, {"Content-Type": _CONTENT["html"]}, bodies.HTML.encode()
        if situation == "200html":
            return 200, {"Content-Type": _CONTENT["html"]}, bodies.HTML.encode()
        headers = {"Content-Type": _CONTENT["json"]}
        if situation == "200err":
            return 200, headers, json.dumps(bodies.error_in_200(provider)).encode()
        if situation.startswith("200"):
            body = json.dumps(bodies.success(dialect, situation)).encode()
            return 200, headers, body[: len(body) // 2] if situation == "200trunc" else body
        status = int(situation[:3])
        match situation:
            case "429s" | "503s":
                headers["Retry-After"] = str(int(RETRY_AFTER_S))
            case "429ms":
                headers["retry-after-ms"] = str(RETRY_AFTER_MS)
            case "429date":
                date = formatdate(time.time() + RETRY_DATE_S, usegmt=True)
                headers["Retry-After"] = date
        return status, headers, json.dumps(bodies.failure(provider, status, situation)).encode()

    async def _stream(self, writer: asyncio.StreamWriter, ending: str, dialect: str) -> None:
        content, pieces = bodies.stream(dialect, ending)
        writer.write(_head(200, {"Content-Type": content, "Transfer-Encoding": "chunked"}))
        for piece in pieces:
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        await writer.drain()
        match ending:
            case "hang":
                await asyncio.sleep(_HANG_S)
            case "rst":
                await asyncio.sleep(0.05)  # what was sent is read first
                _reset(writer)
            case "ok" | "err" | "noend":
                writer.write(b"0\r\n\r\n")
                await writer.drain()


def free_port() -> int:
    """A port at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _head(status: int, headers: dict[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} {_PHRASES.get(status, 'OK' if status < 400 else 'Failure')}"]
    lines += [f"{name}: {value}" for name, value in {"Connection": "close", **headers}.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _reset(writer: asyncio.StreamWriter) -> None:
    """End the connection with a reset, not with a proper close."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
