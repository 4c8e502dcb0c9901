"""Every way of sending, by name. A new kind of traffic is one more class here."""

from __future__ import annotations

import asyncio

from chaos.blocks import BlocksByLoop, BlocksByThreads
from chaos.steps import Way
from chaos.streaming import StreamByLoop, StreamByThreads
from chaos.traffic import Awaited, Blocking, ByFuture, ByTell, Sender

WAYS: dict[Way, type[Sender]] = {
    Way.FUTURE: ByFuture,
    Way.BLOCKING: Blocking,
    Way.AWAITED: Awaited,
    Way.TELL: ByTell,
    Way.STREAM: StreamByThreads,
    Way.ASYNC_STREAM: StreamByLoop,
    Way.ATTEMPTS: BlocksByThreads,
    Way.ASYNC_ATTEMPTS: BlocksByLoop,
    Way.ACQUIRE: BlocksByThreads,
    Way.ASYNC_ACQUIRE: BlocksByLoop,
}


def senders() -> dict[Way, Sender]:
    """One of every kind."""
    return {way: kind() for way, kind in WAYS.items()}


def senders_on(loop: asyncio.AbstractEventLoop) -> dict[Way, Sender]:
    """Those that send from a loop, from one that is there already."""
    blocks = BlocksByLoop(loop)
    return {
        Way.AWAITED: Awaited(loop),
        Way.ASYNC_STREAM: StreamByLoop(loop),
        Way.ASYNC_ATTEMPTS: blocks,
        Way.ASYNC_ACQUIRE: blocks,
    }
