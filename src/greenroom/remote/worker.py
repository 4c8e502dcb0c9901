"""One member as a worker: a pool of it alone, behind a front."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable

from greenroom.actors.handle.pool_ref import PoolRef
from greenroom.messages import _validate as check
from greenroom.messages.config import PoolConfig
from greenroom.messages.errors import PoolError
from greenroom.messages.member import Member
from greenroom.pool.agent_pool import AgentPool
from greenroom.remote.addresses import front_of
from greenroom.remote.codec import MOST_BYTES
from greenroom.remote.links import Front
from greenroom.remote.worker_desk import Desk
from greenroom.web.two_signals import TwoSignals

CONFIG = PoolConfig(
    # Retries, breakers and time limits are the callers': each of them knows more members than one.
    circuit="observe",
    max_retries=0,
    request_timeout_s=None,
    # The rest is the window of credit: see `caller_call.WINDOW`.
    stream_buffer=16,
)
CUT_S = 2.0
"""What callers have after the drain to be told that their calls have been cut short."""


async def serve_worker(
    member: Member | PoolRef,
    listen: str = "http://127.0.0.1:8700",
    *,
    key: str | None = None,
    without_key: bool = False,
    cert: str | os.PathLike[str] | None = None,
    tls_key: str | os.PathLike[str] | None = None,
    ca_file: str | os.PathLike[str] | None = None,
    credentials: str | os.PathLike[str] | None = None,
    queue: int | None = None,
    max_frame_bytes: int = MOST_BYTES,
    drain_s: float = 30.0,
    stopping: asyncio.Event | None = None,
    on_listening: Callable[[str], object] = lambda url: None,
) -> signal.Signals | None:
    """Serve one member to pools elsewhere, until SIGTERM or SIGINT; then drain.

    The member's pool retries nothing, and its breaker keeps nobody out: all that is its callers'
    affair. At the signal it takes no more calls, and what is at hand is answered for `drain_s` at
    most; what is not done by then is told so. A second signal ends that time at once; to be
    cancelled ends it without any.

    Args:
        member: or a pool of one member, which stays its caller's to stop.
        listen: `http://host:port`, `https://...` with `cert` and `tls_key`, port 0 for a free one;
            `nats://host:port/subject`.
        key: what callers must send as their bearer token, over HTTP.
        without_key: whether it may listen beyond this machine though there is no key.
        cert: the certificate, a PEM file, and `tls_key` the key of it.
        ca_file: the certificates that a NATS server's is to be of.
        credentials: the `.creds` file of a NATS server.
        queue: calls that may wait for a turn; None: as many as run at a time.
        max_frame_bytes: the longest payload, answer or chunk.
        drain_s: seconds.
        stopping: once it is set, that is as good as SIGTERM.
        on_listening: called with the address when callers can connect.

    Returns:
        The signal that has ended it; None if none has.

    Raises:
        TypeError, ValueError: a value of the wrong type or out of range, named with its field.
        ModuleNotFoundError: what carries calls of that kind is not installed.
        OSError: it cannot listen there.
    """
    check.text("listen", listen)
    check.flag("without_key", without_key)
    check.whole("queue", queue, optional=True)
    check.whole("max_frame_bytes", max_frame_bytes, minimum=1024)
    check.number("drain_s", drain_s)
    if stopping is not None and not isinstance(stopping, asyncio.Event):
        raise check.misfit("stopping must be an asyncio.Event", stopping)
    check.function("on_listening", on_listening)
    front = front_of(
        listen,
        key=key,
        without_key=without_key,
        cert=cert,
        tls_key=tls_key,
        ca_file=ca_file,
        credentials=credentials,
        max_frame_bytes=max_frame_bytes,
    )
    async with _pool_of(member) as pool:
        desk = await desk_of(pool, queue=queue)
        serving = _Serving(front, desk, drain_s, stopping)
        return await serving.run(on_listening)


@contextlib.asynccontextmanager
async def _pool_of(member: Member | PoolRef) -> AsyncIterator[PoolRef]:
    if isinstance(member, PoolRef):
        yield member
        return
    if not isinstance(member, Member):
        raise check.misfit("member must be a Member or a PoolRef", member)
    pool = worker_pool(member)
    async with pool:
        yield pool


def worker_pool(member: Member, config: PoolConfig = CONFIG) -> PoolRef:
    """A pool of that member, which leaves to its callers what is theirs."""
    return AgentPool.start([member], strategy="failover", config=config, name=member.name)


async def desk_of(pool: PoolRef, *, queue: int | None = None) -> Desk:
    """The desk of a pool of one member, whose agent is made first: then it is known how many calls
    it takes, and the first one need not wait for it.

    Raises:
        ValueError: the pool has not one member.
    """
    members = list((await pool.astats()).members)
    if len(members) != 1:
        raise ValueError(f"member must be a pool of one member, got one of {len(members)}")
    (name,) = (each.name for each in members)
    with contextlib.suppress(PoolError):  # the pool has said why
        await pool.aapply(_nothing)
    capacity = (await pool.astats())[name].max_concurrency
    return Desk(pool, name, capacity=capacity, queue=queue)


def _nothing(agent: object) -> None:
    """Asked of an agent that is to be there."""


class _Serving:
    """One run of a worker."""

    def __init__(
        self, front: Front, desk: Desk, drain_s: float, stopping: asyncio.Event | None
    ) -> None:
        self._front = front
        self._desk = desk
        self._drain_s = drain_s
        self._signals = TwoSignals(stopping)

    async def run(self, on_listening: Callable[[str], object]) -> signal.Signals | None:
        with self._signals.heard():
            try:
                await self._front.listen(self._desk)
                on_listening(self._front.shown)
                await self._signals.stopping.wait()
                await self._front.refuse()
                await self._drain()
            finally:
                self._desk.draining = True
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(CUT_S):
                        await self._desk.cut_short()
                await self._front.close()
        return self._signals.first

    async def _drain(self) -> None:
        drained = asyncio.ensure_future(self._desk.drained())
        hurry = asyncio.ensure_future(self._signals.hurry.wait())
        try:
            await asyncio.wait(
                (drained, hurry), timeout=self._drain_s, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            for task in (drained, hurry):
                task.cancel()
            await asyncio.gather(drained, hurry, return_exceptions=True)
