"""Calls over HTTP, the worker's end."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import math
import socket
import ssl
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from greenroom.actors.runtime.event_bus import complain
from greenroom.brokers.given_files import showing
from greenroom.remote.codec import (
    Codec,
    JsonCodec,
    MsgpackCodec,
    ProtocolError,
)
from greenroom.remote.frames import (
    BEAT_S,
    ENDS,
    Busy,
    Call,
    Chunk,
    Ping,
    ToCaller,
)
from greenroom.remote.framing import Framing, framing_of
from greenroom.remote.http_link import CALL_PATH, SAY_PATH, base_of, needs_aiohttp
from greenroom.remote.links import RunningCall, WorkerDesk
from greenroom.status.status_address import is_loopback, is_ours

if TYPE_CHECKING:
    from aiohttp import web

BACKLOG = 2048
CLOSING_S = 1.0
MOST_HELD = 32 * 1024
"""Bytes of chunks that wait for the others of their turn."""
RETRY_AFTER_S = 1.0
"""Said with a 429 of which nobody knows better."""


class HttpFront:
    """Where a worker listens.

    Args:
        listen: `http://host:port` or `https://host:port`; port 0 for a free one.
        key: what callers must send as their bearer token; None: nothing.
        without_key: whether it may listen beyond this machine though there is no key.
        cert: the certificate (PEM), and `tls_key` the key of it.

    Raises:
        TypeError, ValueError: a value that does not hold, named with its field.
        ModuleNotFoundError: aiohttp is not installed.
    """

    def __init__(
        self,
        listen: str,
        *,
        key: str | None,
        without_key: bool,
        cert: str | None,
        tls_key: str | None,
        max_frame_bytes: int,
    ) -> None:
        self.shown = base_of("listen", listen)
        parts = urlsplit(self.shown)
        self._host = parts.hostname or ""
        self._port = parts.port if parts.port is not None else 8700
        local = is_loopback(self._host)
        if key is None and not local and not without_key:
            raise ValueError(
                "listen must be an address of this machine alone (127.0.0.1) unless there is a "
                f"key, or without_key is set: got {self.shown!r}"
            )
        # Not the key itself: nothing that shows this object, or dumps its frames, has it.
        self._digest = None if key is None else _digest(key.encode())
        # A page in a browser reaches what listens here by a name of its own (DNS rebinding).
        self._is_guarded = key is None and local
        self._ssl = _context(parts.scheme, cert, tls_key)
        self._max_frame_bytes = max_frame_bytes
        self._web = needs_aiohttp("greenroom worker") and _web()
        self._codecs: dict[str, Codec] = {}
        for kind in (JsonCodec, MsgpackCodec):
            with contextlib.suppress(ModuleNotFoundError):
                codec = kind(max_frame_bytes)
                self._codecs[codec.content_type] = codec
        self._framings = {name: framing_of(each.name) for name, each in self._codecs.items()}
        self._desk: WorkerDesk | None = None
        self._calls: dict[str, _HttpServed] = {}
        self._runner: Any = None
        self._beats: asyncio.Task[None] | None = None

    # -- what a `Front` has

    async def listen(self, desk: WorkerDesk) -> None:
        self._desk = desk
        family, *_ = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)[0]
        listener = socket.create_server((self._host, self._port), family=family, backlog=BACKLOG)
        web = self._web
        # To be gone is to cancel: the handler's task is cancelled when the connection is lost.
        server = web.Server(self._handle, handler_cancellation=True, access_log=None)
        self._runner = web.ServerRunner(server, shutdown_timeout=CLOSING_S)
        try:
            await self._runner.setup()
            site = web.SockSite(self._runner, listener, ssl_context=self._ssl, backlog=BACKLOG)
            await site.start()
        except BaseException:
            listener.close()
            raise
        host, port = listener.getsockname()[:2]
        scheme = "http" if self._ssl is None else "https"
        self.shown = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
        self._beats = asyncio.get_running_loop().create_task(self._beat())

    async def refuse(self) -> None:
        """Nothing: who comes now is told by the desk, and goes elsewhere sooner than by a refused
        connection.
        """

    async def close(self) -> None:
        if self._beats is not None:
            self._beats.cancel()
            await asyncio.gather(self._beats, return_exceptions=True)
        if self._runner is not None:
            try:
                await self._runner.cleanup()
            except Exception as error:
                complain("the end of a worker's server failed", error)

    # -- requests

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        path, method = request.path, request.method
        if path == CALL_PATH and method == "POST":
            return await self._call(request)
        if path == SAY_PATH and method == "POST":
            return await self._say(request)
        if path == "/" and method in ("GET", "HEAD"):
            return self._health(request)
        return self._words(404, f"{method} {path[:100]} is not served here")

    def _refusal(self, request: web.BaseRequest) -> web.Response | None:
        if self._is_guarded:
            named = request.headers.getall("Host", [])
            if len(named) != 1 or not is_ours(named[0], self._host):
                return self._words(403, "the header host must name this machine", close=True)
        if self._digest is not None:
            given = request.headers.get("Authorization", "")
            scheme, _, key = given.partition(" ")
            right = hmac.compare_digest(
                _digest(key.strip().encode("utf-8", "replace")), self._digest
            )
            if scheme.lower() != "bearer" or not right:
                return self._words(401, "a key is needed, as a bearer token", close=True)
        return None

    async def _call(self, request: web.BaseRequest) -> web.StreamResponse:
        codec = self._codecs.get(_content_type(request))
        if codec is None:
            said = f"the content type must be one of {', '.join(self._codecs)}"
            return self._words(415, said, close=True)
        data = await self._body(request)
        if data is None:
            return self._words(413, f"at most {self._max_frame_bytes} bytes", close=True)
        try:
            call = codec.to_worker(data)
        except ProtocolError as error:
            return self._words(400, str(error))
        if not isinstance(call, Call) or call.id in self._calls:
            return self._words(400, "a body of /call must be a call, by an id of its own")
        assert self._desk is not None
        served = _HttpServed(self, request, codec, self._framings[codec.content_type])
        self._calls[call.id] = served
        try:
            served.running = self._desk.begin(call, served.send, on_end=served.ended)
            return await served.answered()
        finally:
            del self._calls[call.id]
            served.leave()

    async def _say(self, request: web.BaseRequest) -> web.StreamResponse:
        codec = self._codecs.get(_content_type(request))
        data = None if codec is None else await self._body(request)
        if codec is None or data is None:
            return self._words(415, "a frame is wanted")
        try:
            frame = codec.to_worker(data)
        except ProtocolError as error:
            return self._words(400, str(error))
        if isinstance(frame, Call | Ping):
            return self._words(400, "a body of /say must be of a call that is open")
        served = self._calls.get(frame.id)
        if served is None or served.running is None or served.over:
            return self._words(404, "there is no such call")
        served.running.heard(frame)
        response: web.Response = self._web.Response(status=204)
        return response

    def _health(self, request: web.BaseRequest) -> web.Response:
        assert self._desk is not None
        name = _content_type(request)
        codec = self._codecs.get(name) or self._codecs[JsonCodec.content_type]
        pong = self._desk.pong()
        body = self._framings[codec.content_type].framed(codec.encode(pong))
        response: web.Response = self._web.Response(
            status=503 if pong.draining else 200, body=body, content_type=codec.content_type
        )
        return response

    async def _body(self, request: web.BaseRequest) -> bytes | None:
        """The body; None if it is too long, and unread then."""
        most = self._max_frame_bytes
        length = request.content_length
        if length is not None and length > most:
            return None
        pieces, size = [], 0
        async for piece in request.content.iter_any():
            pieces.append(piece)
            size += len(piece)
            if size > most:
                return None
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _words(self, status: int, text: str, *, close: bool = False) -> web.Response:
        headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
        response: web.Response = self._web.Response(
            status=status, text=text + "\n", headers=headers
        )
        if close:  # what is unread of the request is not waited for
            response.force_close()
        return response

    async def _beat(self) -> None:
        """One timer for all calls: a beat for each of which nothing has been said for long."""
        loop = asyncio.get_running_loop()
        beating: set[asyncio.Task[None]] = set()
        while True:
            await asyncio.sleep(BEAT_S / 2)
            now = time.monotonic()
            for served in list(self._calls.values()):
                if served.is_quiet(now):
                    task = loop.create_task(served.beat())
                    beating.add(task)
                    task.add_done_callback(beating.discard)


class _HttpServed:
    """One call, and the response to it. A call that is answered at once has a short response, with
    its length; any other one a body that goes on until its end.
    """

    def __init__(
        self, front: HttpFront, request: web.BaseRequest, codec: Codec, framing: Framing
    ) -> None:
        self._web = front._web
        self._request = request
        self._codec = codec
        self._framing = framing
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._last: bytes | None = None
        self._busy: Busy | None = None
        self._response: web.StreamResponse | None = None
        self._opening: asyncio.Lock | None = None
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._writing: asyncio.Task[None] | None = None
        self._said_at = time.monotonic()
        self._beats = False
        self._left = False
        self.running: RunningCall | None = None
        self.over = False

    async def send(self, frame: ToCaller) -> None:
        data = self._codec.encode(frame)
        if self._left:
            raise ConnectionResetError("the caller has gone")
        framed = self._framing.framed(data)
        if type(frame) is Chunk and self._response is not None:
            # Those that are made in one turn of the loop are sent as one piece.
            self._held.append(framed)
            self._held_bytes += len(framed)
            if self._held_bytes >= MOST_HELD:
                await self._write()
            elif self._writing is None:
                self._writing = asyncio.get_running_loop().create_task(self._write_soon())
            return
        if self._response is None and self._opening is None and isinstance(frame, ENDS):
            self._last = framed
            self._busy = frame if isinstance(frame, Busy) else None
            return
        await self._open()
        await self._write(framed)

    async def _write_soon(self) -> None:
        try:
            await self._write()
        except Exception:
            self._left = True  # whoever sends next hears of it
        finally:
            self._writing = None

    async def _write(self, framed: bytes = b"") -> None:
        """Write behind what is held; waits while the caller takes nothing."""
        assert self._response is not None
        data = b"".join((*self._held, framed)) if self._held else framed
        self._held.clear()
        self._held_bytes = 0
        self._said_at = time.monotonic()
        if data:
            await self._response.write(data)

    def ended(self) -> None:
        """The last has been said."""
        self.over = True
        if not self._over.done():
            self._over.set_result(None)

    async def answered(self) -> web.StreamResponse:
        """The response, once it is at its end."""
        await self._over
        response = self._response
        if response is not None:
            return response
        if self._last is None:  # the call has ended without a word: nobody was there
            raise ConnectionResetError("the caller has gone")
        kind = self._codec.content_type
        if self._busy is None:
            whole: web.StreamResponse = self._web.Response(body=self._last, content_type=kind)
            return whole
        after = self._busy.retry_after_s
        seconds = math.ceil(RETRY_AFTER_S if after is None else after)
        headers = {"Retry-After": str(max(1, seconds))}
        whole = self._web.Response(status=429, body=self._last, content_type=kind, headers=headers)
        return whole

    def leave(self) -> None:
        """The response is at its end, or the caller has gone: whichever it was."""
        self._left = True
        if not self.over and self.running is not None:
            self.running.gone()

    def is_quiet(self, now: float) -> bool:
        return not (self.over or self._beats or now - self._said_at < BEAT_S)

    async def beat(self) -> None:
        self._beats = True
        try:
            await self._open()
            if not self.over and not self._left:
                await self._write(self._framing.beat)
        except Exception:
            pass  # it is gone, which its own task is told
        finally:
            self._beats = False

    async def _open(self) -> web.StreamResponse:
        """Begin a body that goes on."""
        if self._response is not None:
            return self._response
        if self._opening is None:
            self._opening = asyncio.Lock()
        async with self._opening:
            if self._response is None:
                response = self._web.StreamResponse()
                response.content_type = self._codec.content_type
                # Else nginx, say, keeps frames back until its buffer is full.
                response.headers["X-Accel-Buffering"] = "no"
                response.headers["Cache-Control"] = "no-store"
                await response.prepare(self._request)
                self._response = response
        return self._response


def _web() -> Any:
    from aiohttp import web

    return web


def _digest(key: bytes) -> bytes:
    """Of one length whatever the key's is, so that the comparison tells nothing of it."""
    return hashlib.sha256(key).digest()


def _content_type(request: web.BaseRequest) -> str:
    return request.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def _context(scheme: str, cert: str | None, tls_key: str | None) -> ssl.SSLContext | None:
    if scheme == "http":
        if cert is not None or tls_key is not None:
            raise ValueError("cert and tls_key must be given with https://, got http://")
        return None
    if cert is None:
        raise ValueError("cert must be given with https://: the file of the certificate")
    return showing(cert, tls_key)
