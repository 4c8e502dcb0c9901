"""How the groups make a case of what a peer gives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from typing import Any, TypeVar

from benchmarks import measure
from benchmarks.model import Measure, Scale
from benchmarks.peers.base import Peer

T = TypeVar("T")
Prepare = Callable[[Any, Scale], AbstractContextManager[Measure]]


@contextmanager
def in_a_loop(
    peer: Peer, entered: AbstractAsyncContextManager[T]
) -> Iterator[tuple[Callable[[Coroutine[Any, Any, float]], float], T]]:
    """A loop of the caller's that stays the same for all rounds, and what was entered in it."""
    with asyncio.Runner(loop_factory=peer.new_loop) as runner:

        async def enter() -> T:
            return await entered.__aenter__()

        async def leave() -> None:
            await entered.__aexit__(None, None, None)

        given = runner.run(enter())
        try:
            yield runner.run, given
        finally:
            runner.run(leave())


def one_caller(call: Callable[[Any], AbstractContextManager[measure.Ask]]) -> Prepare:
    """The median of a thread's calls, one after the other."""

    @contextmanager
    def prepare(peer: Peer, scale: Scale) -> Iterator[Measure]:
        with call(peer) as ask:
            yield lambda: measure.latency_us(ask, scale.asks)

    return prepare


def one_thread(call: Callable[[Any], AbstractContextManager[measure.Ask]]) -> Prepare:
    """The same of a thread that is not the main one: no signal breaks in there."""

    @contextmanager
    def prepare(peer: Peer, scale: Scale) -> Iterator[Measure]:
        with call(peer) as ask, ThreadPoolExecutor(1) as threads:
            yield lambda: threads.submit(measure.latency_us, ask, scale.asks).result()

    return prepare


def one_awaiting_caller(
    call: Callable[[Any], AbstractAsyncContextManager[measure.AsyncAsk]],
) -> Prepare:
    """The median of a coroutine's calls, one after the other."""

    @contextmanager
    def prepare(peer: Peer, scale: Scale) -> Iterator[Measure]:
        with in_a_loop(peer, call(peer)) as (run, ask):
            yield lambda: run(measure.awaited_us(ask, scale.asks))

    return prepare
