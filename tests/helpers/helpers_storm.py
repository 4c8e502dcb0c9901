"""Run as a process of its own: a timer's signals break in on asks, awaits and streams.

The handler raises where it finds greenroom at work in the main thread. (In code of asyncio's own
it does not: what a loop loses there is lost for whoever uses it. Nor at the entry of a finalizer.)
Prints how often it has raised, how many of the futures of the storm have no answer, and what still
counts as under way.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import sys
import time
from types import FrameType
from typing import Any

from greenroom import AgentPool, Member, PoolConfig, Request

HITS = 300
ROUNDS = 20_000
WAIT_S = 30.0
EVERY_S = 0.000_7


class Limit(Exception):
    """What the handler raises."""


class Storm:
    """Asks, awaits and streams, with signals in between."""

    def __init__(self) -> None:
        self.hits = 0
        self.futures: list[Any] = []
        members = [Member("sync", lambda payload: payload), Member("chunks", self._chunks)]
        self.pool = AgentPool.start(members, config=PoolConfig(stream_buffer=2))
        self.loop = asyncio.new_event_loop()

    @staticmethod
    async def _chunks(payload: Any) -> Any:
        for each in range(4):
            yield each

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        if frame is None or self.hits >= HITS or frame.f_code.co_name == "__del__":
            return
        if str(frame.f_globals.get("__name__", "")).startswith("greenroom."):
            self.hits += 1
            raise Limit

    def ask(self) -> None:
        self.futures.append(self.pool.ask(Request("x"), block=False))
        self.pool.ask(Request("x"))

    def read(self) -> None:
        for _ in self.pool.stream(Request("x")):
            pass

    async def await_(self) -> None:
        asked = [self.pool.ask(Request(number), block=False) for number in range(3)]
        self.futures += asked
        await asyncio.gather(*map(self._answer, asked))
        async for _ in self.pool.stream(Request("x")):
            pass

    @staticmethod
    async def _answer(future: Any) -> Any:
        return await future

    def rage(self) -> None:
        signal.signal(signal.SIGALRM, self.on_signal)
        signal.setitimer(signal.ITIMER_REAL, EVERY_S, EVERY_S)
        for _ in range(ROUNDS):
            for act in (self.ask, self.read, lambda: self.run(self.await_())):
                with contextlib.suppress(Limit):
                    act()
            if self.hits >= HITS:
                break
        signal.setitimer(signal.ITIMER_REAL, 0.0)

    def run(self, coroutine: Any) -> None:
        self.loop.run_until_complete(asyncio.wait_for(coroutine, WAIT_S))

    def under_way(self) -> int:
        """What was broken off may be in a ring with the traceback of that: a stream which so is
        left is let go of by the garbage collector, and by it alone.
        """
        deadline = time.monotonic() + WAIT_S
        while True:
            gc.collect()
            stats = self.pool.stats()
            count = stats.pending + stats.in_flight
            if not count or time.monotonic() > deadline:
                return count


def unanswered(futures: list[Any]) -> int:
    deadline, left = time.monotonic() + WAIT_S, 0
    for future in futures:
        try:
            future.get(timeout=max(0.0, deadline - time.monotonic()))
        except Exception:
            left += not future.done()
    return left


def main() -> None:
    logging.disable()  # asyncio reports what was raised in a callback
    sys.unraisablehook = lambda _: None  # and Python what was in a finalizer
    storm = Storm()
    storm.rage()
    for act in (storm.ask, storm.read, lambda: storm.run(storm.await_())):
        act()  # all is served
    print(storm.hits, unanswered(storm.futures), storm.under_way())
    storm.pool.stop(timeout=WAIT_S)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
