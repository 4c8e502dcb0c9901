"""The loops that measure: one caller, many callers, all at once. They know no peer.

Every one of them first collects the garbage of its predecessors, which is not theirs to pay for.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

import psutil

Ask = Callable[[int], Any]
AsyncAsk = Callable[[int], Awaitable[Any]]

clock = time.perf_counter


def latency_us(ask: Ask, times: int) -> float:
    """The median of one caller's asks, one after the other, in microseconds."""
    gc.collect()
    taken = []
    for i in range(times):
        start = clock()
        ask(i)
        taken.append(clock() - start)
    return statistics.median(taken) * 1e6


async def awaited_us(ask: AsyncAsk, times: int) -> float:
    """The same of a caller that awaits each one."""
    gc.collect()
    taken = []
    for i in range(times):
        start = clock()
        await ask(i)
        taken.append(clock() - start)
    return statistics.median(taken) * 1e6


def pipelined_per_s(send: Ask, read: Callable[[Any], Any], times: int) -> float:
    """Asks a second when all are sent before the first answer is read."""
    gc.collect()
    start = clock()
    pending = [send(i) for i in range(times)]
    for each in pending:
        read(each)
    return times / (clock() - start)


async def callers_per_s(ask: AsyncAsk, callers: int, calls: int) -> float:
    """Calls a second of that many callers on one loop, each of which awaits its call.

    Args:
        calls: of all of them together; every caller makes at least one.
    """

    async def caller(first: int, each: int) -> None:
        for i in range(first, first + each):
            await ask(i)

    each = max(1, calls // callers)
    gc.collect()
    start = clock()
    await asyncio.gather(*(caller(number * each, each) for number in range(callers)))
    return callers * each / (clock() - start)


def rss_kib() -> float:
    """The resident memory of this process."""
    gc.collect()
    return float(psutil.Process().memory_info().rss) / 1024
