"""Calls over HTTP, the caller's end: a call is a POST, its answer the body of the response.

What the worker has to say comes as it says it, and a beat where it has nothing to say. What the
caller has to say meanwhile (`Go`, `Credit`) goes by a POST of its own. To close the connection is
to cancel. `docs/worker-protocol.md` has the whole of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import re
import ssl
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from greenroom.brokers.given_files import believing
from greenroom.messages.status import FailureKind
from greenroom.remote.codec import Codec, ProtocolError
from greenroom.remote.frames import (
    BEAT_S,
    ENDS,
    MISSED_BEATS,
    Busy,
    Call,
    Cancel,
    Credit,
    Error,
    Pong,
    ToCaller,
    ToWorker,
)
from greenroom.remote.framing import framing_of
from greenroom.remote.links import EngineAway, WorkerGone

if TYPE_CHECKING:
    import aiohttp

CALL_PATH = "/call"
SAY_PATH = "/say"
SILENCE_S = BEAT_S * MISSED_BEATS
CONNECT_S = 3.0
END_S = 0.2
"""How long the end of a body is waited for whose last frame has come."""
LONG_BYTES = 512 * 1024

_HOST = re.compile(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.%]+\]")


class HttpLink:
    """The address of a worker.

    Args:
        url: `http://host:port` or `https://host:port`.
        key: what the worker wants to see, of what a header may have.
        ca_file: the certificates (PEM) that the worker's is to be of; None: those of the system.

    Raises:
        TypeError, ValueError: the URL is none of a worker, or the file none of certificates.
        ModuleNotFoundError: aiohttp is not installed.
    """

    def __init__(self, url: str, codec: Codec, *, key: str | None, ca_file: str | None) -> None:
        self.shown = base_of("url", url)
        if urlsplit(self.shown).port == 0:
            raise ValueError("url must have a port from 1 to 65535, got 0")
        self._codec = codec
        if self.shown.startswith("https:"):
            self._ssl: ssl.SSLContext | bool = believing("ca_file must be", ca_file)
        elif ca_file is not None:
            raise ValueError("ca_file must not be given with http://, which has no certificates")
        else:
            self._ssl = True
        self._headers = {"Content-Type": codec.content_type}
        if key is not None:
            self._headers["Authorization"] = f"Bearer {key}"
        needs_aiohttp("RemoteAgent")

    def connect(self, *, on_away: Callable[[bool], None]) -> HttpWay:
        """A way for the running loop. There is nothing between the two ends that could be away."""
        return HttpWay(self.shown, self._codec, self._headers, self._ssl)


def base_of(field: str, url: str) -> str:
    """A URL of a host and a port, without a path.

    Raises:
        ValueError: it is none; nothing of it is shown, as it may hold a password.
    """
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError:
        raise ValueError(f"{field} must be like http://host:port") from None
    shown = f"[{host}]" if host and ":" in host else host
    if parts.scheme not in ("http", "https") or not shown or not _HOST.fullmatch(shown):
        raise ValueError(f"{field} must be like http://host:port")
    if parts.username is not None or parts.password is not None:
        raise ValueError(f"{field} must have no user in it: a key goes by key or key_env")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError(f"{field} must have no path: a worker has a host and a port")
    return f"{parts.scheme}://{shown}" + ("" if port is None else f":{port}")


def needs_aiohttp(who: str) -> Any:
    """aiohttp.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    try:
        import aiohttp
    except ModuleNotFoundError as error:
        if error.name != "aiohttp":
            raise
        raise ModuleNotFoundError(
            f"{who} over http:// needs aiohttp: pip install 'greenroom[http]'", name="aiohttp"
        ) from error
    return aiohttp


class HttpWay:
    """The connections of one loop to one worker."""

    def __init__(
        self, shown: str, codec: Codec, headers: dict[str, str], context: ssl.SSLContext | bool
    ) -> None:
        aiohttp = needs_aiohttp("RemoteAgent")
        from yarl import URL

        self.shown = shown
        self.codec = codec
        self.framing = framing_of(codec.name)
        self.closed = False
        self._call_url = URL(shown + CALL_PATH)
        self._say_url = URL(shown + SAY_PATH)
        self._ask_url = URL(shown + "/")
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=context),
            headers=headers,
            # The read limit is the silence that is taken for an end, of heads and bodies alike.
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=CONNECT_S, sock_read=SILENCE_S, ceil_threshold=3600.0
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )
        self._errors = (aiohttp.ClientError, TimeoutError, OSError)
        self._unreached = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
        self._credits: set[asyncio.Task[None]] = set()

    # -- what a `WorkerLink` has

    async def open(self, call: Call) -> HttpCall:
        encoded = self.codec.encode(call)
        # aiohttp warns of bytes that are longer, as it sends them as one.
        data = encoded if len(encoded) <= LONG_BYTES else io.BytesIO(encoded)
        try:
            response = await self._session.post(self._call_url, data=data, allow_redirects=False)
        except self._errors as error:
            raise self.gone(error) from None
        opened = HttpCall(self, call.id, response)
        if response.status not in (200, 429) or response.content_type != self.codec.content_type:
            await opened.refused()
        return opened

    async def ask(self, timeout_s: float) -> Pong:
        try:
            async with asyncio.timeout(timeout_s):
                async with self._session.get(self._ask_url, allow_redirects=False) as response:
                    if response.status not in (200, 503):
                        said = f"{self.shown}: the worker answers {response.status}"
                        raise WorkerGone(said, reached=False)
                    data = await self._whole(response)
        except TimeoutError:
            raise WorkerGone(f"{self.shown}: the worker does not say", reached=False) from None
        except self._errors as error:
            raise self.gone(error) from None
        for frame in self.framing.splitter(self.codec.most_bytes).feed(data):
            with contextlib.suppress(ProtocolError):
                pong = self.codec.to_caller(frame)
                if isinstance(pong, Pong):
                    return pong
        raise WorkerGone(f"{self.shown}: what is there is no worker", reached=False)

    async def close(self) -> None:
        self.closed = True
        for task in list(self._credits):
            task.cancel()
        await self._session.close()

    # -- for its calls

    async def say(self, frame: ToWorker) -> None:
        """Something of a call that is open.

        Raises:
            WorkerGone: it did not get there, or the call is not there any more.
        """
        data = self.codec.encode(frame)
        try:
            async with self._session.post(
                self._say_url, data=data, allow_redirects=False
            ) as response:
                await response.read()
                status = response.status
        except self._errors as error:
            raise self.gone(error) from None
        if status != 204:
            # Asked and not answered, it never begins there.
            said = f"{self.shown}: the worker has no such call any more ({status})"
            raise WorkerGone(said, reached=False)

    def say_soon(self, frame: ToWorker) -> None:
        """The same, where nobody waits for it: if it does not get there, the call ends by that."""
        task = asyncio.get_running_loop().create_task(self._say_quietly(frame))
        self._credits.add(task)
        task.add_done_callback(self._credits.discard)

    async def _say_quietly(self, frame: ToWorker) -> None:
        with contextlib.suppress(WorkerGone, EngineAway):
            await self.say(frame)

    def gone(self, error: BaseException) -> WorkerGone | EngineAway:
        """What an error of the client's means."""
        if self.closed:
            return EngineAway(f"{self.shown}: the connection has been closed here", reached=True)
        reached = not isinstance(error, self._unreached)
        why = "nobody listens" if not reached else "the connection is broken"
        if isinstance(error, TimeoutError):
            why = "nobody answers" if not reached else f"silent for {SILENCE_S:g} s"
        said = f"{self.shown}: {why} ({type(error).__name__})"
        return WorkerGone(said, reached=reached)

    async def _whole(self, response: aiohttp.ClientResponse) -> bytes:
        """A body that must not be long."""
        data = bytearray()
        async for piece in response.content.iter_any():
            data += piece
            if len(data) > 1_000_000:
                raise WorkerGone(f"{self.shown}: what is there is no worker", reached=False)
        return bytes(data)


class HttpCall:
    """One call that has been sent, and whose head has come."""

    def __init__(self, way: HttpWay, id: str, response: aiohttp.ClientResponse) -> None:
        self._way = way
        self._id = id
        self._response = response
        self._splitter = way.framing.splitter(way.codec.most_bytes)
        self._come: deque[ToCaller] = deque()
        self._ended = False

    async def send(self, frame: ToWorker) -> None:
        if isinstance(frame, Credit):
            self._way.say_soon(frame)
        elif not isinstance(frame, Cancel):  # which closing is
            await self._way.say(frame)

    async def receive(self) -> ToCaller:
        while not self._come:
            try:
                data = await self._response.content.readany()
            except self._way._errors as error:
                raise self._way.gone(error) from None
            if not data:
                said = f"{self._way.shown}: the worker broke off without an end"
                raise WorkerGone(said, reached=True)
            self._take(data)
        frame = self._come.popleft()
        if type(frame) in ENDS:
            self._ended = True
        return frame

    def _take(self, data: bytes) -> None:
        try:
            for each in self._splitter.feed(data):
                frame = self._way.codec.to_caller(each)
                if getattr(frame, "id", None) == self._id:
                    self._come.append(frame)
        except ProtocolError as error:
            said = f"{self._way.shown}: the worker has said what is none: {error}"
            raise WorkerGone(said, reached=True) from None

    async def refused(self) -> None:
        """A response that is no answer of a worker to a call."""
        status = self._response.status
        with contextlib.suppress(*self._way._errors, WorkerGone):
            await self._way._whole(self._response)
        if status == 429:  # of something in between
            after = self._response.headers.get("Retry-After", "")
            seconds = float(after) if after.isascii() and after.isdigit() else None
            self._come.append(Busy(self._id, retry_after_s=seconds))
            return
        said = f"{self._way.shown}: "
        match status:
            case 401 | 403:
                kind, text = FailureKind.AUTH, "the worker wants another key"
            case 413:
                kind, text = FailureKind.TOO_LARGE, "the payload is too long for the worker"
            case 415:
                name = self._way.codec.name
                kind, text = FailureKind.UNAVAILABLE, f"the worker does not speak {name}"
            case _:
                kind, text = FailureKind.UNAVAILABLE, f"the worker answers {status}"
        started = status >= 500
        certain = kind is FailureKind.AUTH
        self._come.append(
            Error(self._id, kind.value, started, "", said + text, opens_at_once=certain)
        )

    async def close(self) -> None:
        response = self._response
        if not self._ended:
            response.close()  # the worker sees it, and cancels
        elif not response.content.at_eof():
            try:  # then the connection serves again
                async with asyncio.timeout(END_S):
                    await response.content.readany()
            except (*self._way._errors, asyncio.CancelledError):
                response.close()
                raise_if_cancelled()
        response.release()


def raise_if_cancelled() -> None:
    """A cancellation that came in here is not lost."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
