"""Unclean closers: agents whose clean-up awaits, raises or takes too long, and clients that close
badly. A pool of them is stopped in the middle of their calls.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from chaos.ledger import INNER_MARK
from chaos.rest import PATIENCE_S
from greenroom import AgentPool, Member, PoolConfig, PoolRef, Request

FITS_GRACE_S = 20.0
"""The grace where each clean-up fits into it: only a failure needs it."""
SHORT_GRACE_S = 0.05
"""The grace where one of them takes for ever."""
CALLS = 3
_KEPT: set[asyncio.Task[Any] | None] = set()
"""Tasks that never end: Python complains of those that are thrown away, when it collects them."""
TURNS = 5
"""Of its loop, that a clean-up takes."""
KINDS = ("awaits", "raises", "long")


def kept() -> int:
    """How many of these there are."""
    return len(_KEPT)


class Client:
    """An async client with calls under way.

    Attributes:
        begun, cleaned: calls that have begun, and those whose clean-up has come to its end.
        open_calls: calls without that when it was closed.
    """

    def __init__(self, kind: str, begun: threading.Semaphore, raises: bool) -> None:
        self.kind = kind
        self.begun = self.cleaned = self.closed = self.open_calls = 0
        self._begun = begun
        self._raises = raises

    async def arun(self, _: object) -> None:
        """Hang until it is cancelled, and clean up."""
        self._note_begun()
        try:
            await asyncio.Event().wait()
        finally:
            await self._clean_up()

    async def astream(self, _: object) -> AsyncIterator[str]:
        """The same as a stream, after its first chunk."""
        try:
            yield "first"
            self._note_begun()
            await asyncio.Event().wait()
        finally:
            await self._clean_up()

    async def aclose(self) -> None:
        """Take a while, and raise, maybe."""
        self.closed += 1
        self.open_calls = self.begun - self.cleaned
        await _turns()
        if self._raises:
            raise RuntimeError(f"{self.kind} does not close well")

    def _note_begun(self) -> None:
        self.begun += 1
        self._begun.release()

    async def _clean_up(self) -> None:
        if self.kind == "long":
            _KEPT.add(asyncio.current_task())
            await asyncio.Event().wait()
        await _turns()
        self.cleaned += 1
        if self.kind == "raises":
            raise RuntimeError("a clean-up that raises")


def judge(rng: random.Random) -> Iterator[str]:
    """Stop a pool in the middle of such calls; what is left undone."""
    long = rng.random() < 0.3
    kinds = KINDS if long else KINDS[:2]
    begun = threading.Semaphore(0)
    clients = [Client(kind, begun, raises=rng.random() < 0.5) for kind in kinds]
    grace_s = SHORT_GRACE_S if long else FITS_GRACE_S
    pool = AgentPool.start(
        [_member(client) for client in clients],
        strategy="round_robin",
        config=PoolConfig(cancel_grace_s=grace_s, hedge_after_s=None),
        name="chaos-closers",
    )
    yield from _stopped(pool, clients, begun)
    for client in clients:
        yield from _complaints(client, fits=not long)


def _member(client: Client) -> Member:
    """Made by a factory, as most clients are; what closes it is its own `aclose`."""

    async def make() -> Client:
        return client

    return Member(client.kind, factory=make, max_concurrency=2 * CALLS)


def _stopped(pool: PoolRef, clients: list[Client], begun: threading.Semaphore) -> Iterator[str]:
    asks = [pool.ask(_held(n), block=False) for n in range(CALLS * len(clients))]
    streams: list[Any] = [pool.stream(_held(f"s{n}")) for n in range(len(clients))]
    for _ in range(len(asks) + len(streams)):
        if not begun.acquire(timeout=PATIENCE_S):
            yield "not every call of the closers has begun"
            break
    ended = threading.Thread(target=_stop(pool), name="chaos-stop", daemon=True)
    ended.start()
    ended.join(2 * PATIENCE_S)
    if ended.is_alive():
        yield "the pool of closers does not stop"
    if not all(ask.done() for ask in asks):
        yield "an ask of the closers has no answer"


def _held(number: object) -> Request[str]:
    """Its id has the mark of what the act's ledger does not know."""
    return Request("held", request_id=f"closers{INNER_MARK}{number}")


def _stop(pool: PoolRef) -> Callable[[], object]:
    return lambda: pool.stop(timeout=PATIENCE_S)


def _complaints(client: Client, fits: bool) -> Iterator[str]:
    name = f"the client that {client.kind}"
    if client.closed != 1:
        yield f"{name} was closed {client.closed} times"
    if fits and client.cleaned != client.begun:
        yield f"{name} has cleaned up after {client.cleaned} of {client.begun} calls"
    if fits and client.open_calls:
        yield f"{name} was closed before {client.open_calls} of its calls had cleaned up"


async def _turns() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)
