"""Running the endpoint: uvicorn on the loop that runs already, its end in order."""

from __future__ import annotations

import asyncio
import contextlib
import math
import signal
import socket
from collections.abc import Callable, Iterable, Iterator

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from greenroom.actors.handle.pool_ref import PoolRef
from greenroom.messages import _validate as check
from greenroom.messages.errors import PoolStoppedError
from greenroom.serve.endpoint import create_app
from greenroom.status.status_address import is_loopback
from greenroom.web.two_signals import TwoSignals

BACKLOG = 2048
SENDING_S = 2.0
"""What clients have after the drain to take what is there for them."""

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


async def serve(
    pool: PoolRef,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    key: str | None = None,
    without_key: bool = False,
    models: Iterable[str] = (),
    drain_s: float = 30.0,
    stopping: asyncio.Event | None = None,
    on_listening: Callable[[str], object] = lambda url: None,
) -> signal.Signals | None:
    """Serve a pool until SIGTERM or SIGINT, then drain it. The pool stays its caller's to stop.

    At the signal it takes no more connections, and what is at hand is answered for `drain_s` at
    most; what is not done by then is told so. A second signal ends that time at
    once; to be cancelled ends it without any.

    Args:
        pool: best started on this loop, so that its async agents run here.
        port: 0 for a free one.
        key: what clients must send as their bearer token.
        without_key: whether it may listen beyond this machine though there is no key.
        models: more names that clients may ask for, see `create_app`.
        drain_s: seconds.
        stopping: once it is set, that is as good as SIGTERM.
        on_listening: called with the base URL, its `/v1` included, when clients can connect.

    Returns:
        The signal that has ended it; None if none has.

    Raises:
        TypeError, ValueError: a value of the wrong type or out of range, named with its field.
        OSError: it cannot listen there.
    """
    check.text("host", host)
    check.whole("port", port, maximum=65_535)
    check.number("drain_s", drain_s)
    check.flag("without_key", without_key)
    local = is_loopback(host)
    if key is None and not local and not without_key:
        raise ValueError(
            "host must be an address of this machine alone (127.0.0.1) unless there is a key, or "
            f"without_key is set: got {host!r}"
        )
    # A page in a browser reaches what listens here by a name of its own (DNS rebinding).
    hosts = (*_LOOPBACK, host) if key is None and local else ()
    app = create_app(pool, key=key, models=models, hosts=hosts)
    config = uvicorn.Config(
        _quiet(app),
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=math.ceil(drain_s + SENDING_S),
    )
    with contextlib.closing(_listening(host, port)) as listener:
        on_listening(_url(listener))
        return await _Serving(config, pool, drain_s, stopping).run(listener)


def _quiet(app: ASGIApp) -> ASGIApp:
    """The app, whose cancellation is uvicorn's own doing: it would show a traceback of it."""

    async def quiet(scope: Scope, receive: Receive, send: Send) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await app(scope, receive, send)

    return quiet


def _listening(host: str, port: int) -> socket.socket:
    """Bound here, not by uvicorn: so the port is known, and what is wrong is an OSError."""
    family, *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    return socket.create_server((host, port), family=family, backlog=BACKLOG)


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/v1"


class _OurSignals(uvicorn.Server):
    """Without uvicorn's own handlers, which have the process end by the signal itself."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Serving:
    """One run of the server."""

    def __init__(
        self, config: uvicorn.Config, pool: PoolRef, drain_s: float, stopping: asyncio.Event | None
    ) -> None:
        self._server = _OurSignals(config)
        self._pool = pool
        self._drain_s = drain_s
        self._signals = TwoSignals(stopping)

    async def run(self, listener: socket.socket) -> signal.Signals | None:
        with self._signals.heard():
            serving = asyncio.ensure_future(self._server.serve(sockets=[listener]))
            ends = [asyncio.ensure_future(each) for each in (self._end(), self._end_at_once())]
            try:
                await asyncio.shield(serving)
            finally:
                # Not cancelled: it closes what it has opened. Nobody waits for those at hand now.
                self._server.should_exit = self._server.force_exit = True
                for task in ends:
                    task.cancel()
                await asyncio.gather(serving, *ends, return_exceptions=True)
                await self._hang_up()
        return self._signals.first

    async def _hang_up(self) -> None:
        """Leave those who have not taken what is there for them: uvicorn would leave them open."""
        for connection in list(self._server.server_state.connections):
            connection.transport.abort()
        if tasks := list(self._server.server_state.tasks):
            await asyncio.wait(tasks, timeout=SENDING_S)
        await asyncio.sleep(0)  # an abort is carried out in the loop's next round

    async def _end(self) -> None:
        await self._signals.stopping.wait()
        self._server.should_exit = True
        await self._drain(self._drain_s)

    async def _end_at_once(self) -> None:
        await self._signals.hurry.wait()
        await self._drain(0)
        # Those who take what is there for them need no longer; who does not is not waited for.
        await asyncio.sleep(SENDING_S)
        self._server.force_exit = True

    async def _drain(self, limit_s: float) -> None:
        with contextlib.suppress(PoolStoppedError):
            await self._pool.adrain(limit_s)
