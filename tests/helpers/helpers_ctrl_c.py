"""Run as a process of its own: 2,000 KeyboardInterrupts at random moments of asks, awaits, streams.

Half of them are Ctrl-C, sent by another thread; half are raised by the handler of a timer's signal.
The handlers raise where they find greenroom or an agent at work in the main thread, as in
`helpers_storm`; there is a pool whose agents run on that thread's own loop, and one with threads.
Prints how often they have raised, how many futures have no answer, what still counts as under way,
how many slots have not come back, and whether the handlers are what they were.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from helpers_storm import WAIT_S, unanswered

from greenroom import AgentPool, Apply, Member, PoolConfig, PoolRef, Request

INTERRUPTS = 2_000
A_SCENE = 10
"""Interrupts until pools and loop are made anew: one that ends the loop's run may have its agents
move."""
SLOTS = 4
ROUNDS = 100_000
EVERY_S = 0.0003


async def agent(payload: Any) -> Any:
    return payload


async def chunks(payload: Any) -> Any:
    for each in range(4):
        yield each


def in_thread(payload: Any) -> Any:
    return payload


AGENTS = {each.__code__ for each in (agent, chunks)}


class Interrupter:
    """Counts them, and raises where there is something to break in on."""

    def __init__(self) -> None:
        self.hits = 0
        self.on = False
        self.rng = random.Random(11)

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        if frame is None or not self.on or frame.f_code.co_name == "__del__":
            return
        ours = str(frame.f_globals.get("__name__", "")).startswith("greenroom.")
        if ours or frame.f_code in AGENTS:
            self.hits += 1
            self.on = self.hits % A_SCENE != 0
            raise KeyboardInterrupt

    def rearm(self) -> None:
        """Another random moment."""
        signal.setitimer(signal.ITIMER_REAL, self.rng.uniform(0.000_01, EVERY_S))

    def send(self, done: threading.Event, thread: int) -> None:
        rng = random.Random(12)
        while not done.wait(rng.uniform(0.0, 2 * EVERY_S)):
            signal.pthread_kill(thread, signal.SIGINT)


class Scene:
    """A loop, and the two pools; what they are asked for is remembered."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.futures: list[Any] = []
        self.home: PoolRef
        self.loop.run_until_complete(self._start())
        self.threads = AgentPool.start([Member("m", in_thread, max_concurrency=SLOTS)])

    async def _start(self) -> None:
        members = [
            Member("a", agent, max_concurrency=SLOTS),
            Member("b", agent, max_concurrency=SLOTS),
        ]
        self.home = AgentPool.start(members, config=PoolConfig(stream_buffer=2))

    def ask(self) -> None:
        self.futures.append(self.threads.ask(Request("x"), block=False))
        self.threads.ask(Request("x"), timeout=WAIT_S)

    def read(self) -> None:
        for _ in self.threads.stream(Request("x"), timeout=WAIT_S):
            pass

    def await_(self) -> None:
        self._run(self._awaits())

    def astream(self) -> None:
        self._run(self._reads())

    async def _awaits(self) -> None:
        asked = [self.home.ask(Request(n), block=False, timeout=WAIT_S) for n in range(3)]
        self.futures += asked
        await asyncio.gather(*map(self._answer, asked), return_exceptions=True)

    @staticmethod
    async def _answer(future: Any) -> Any:
        return await future

    async def _reads(self) -> None:
        async for _ in self.home.stream(Apply(chunks), timeout=WAIT_S):
            pass

    def _run(self, coroutine: Any) -> None:
        self.loop.run_until_complete(coroutine)

    def end(self) -> tuple[int, int, int]:
        """All is served, by every slot; then what is left of what was asked for."""
        self.loop.run_until_complete(self._serves())
        gc.collect()  # a task that was hit leads back to itself, and to the stream that it read
        count = self._under_way()
        lost = self.loop.run_until_complete(self._lost())
        for pool in (self.home, self.threads):
            self.loop.run_until_complete(asyncio.wait_for(pool.stop(block=False), WAIT_S))
        left = unanswered(self.futures)
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()
        return left, count, lost

    async def _serves(self) -> None:
        for pool in (self.home, self.threads):
            for number in range(8):
                answer = await asyncio.wait_for(pool.ask(Request(number), block=False), WAIT_S)
                assert answer.value == number

    def _under_way(self) -> int:
        deadline = time.monotonic() + WAIT_S
        while True:
            both = self.loop.run_until_complete(self._stats())
            count: int = sum(each.pending + each.in_flight for each in both)
            if not count or time.monotonic() > deadline:
                return count

    async def _stats(self) -> list[Any]:
        await asyncio.sleep(0)
        return [self.home.stats(), self.threads.stats()]

    async def _lost(self) -> int:
        """Slots that cannot be had all at once."""
        gate, begun = threading.Event(), 0

        async def hold(_: Any) -> None:
            nonlocal begun
            begun += 1
            while not gate.is_set():  # noqa: ASYNC110  whichever loop it has come to
                await asyncio.sleep(0)

        held = [self.home.ask(Apply(hold), block=False) for _ in range(2 * SLOTS)]
        deadline = time.monotonic() + WAIT_S
        while begun < 2 * SLOTS and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0)
        gate.set()
        for each in held:
            await each
        return 2 * SLOTS - begun


def main() -> None:
    logging.disable()
    sys.unraisablehook = lambda _: None
    interrupter, done = Interrupter(), threading.Event()
    for number in (signal.SIGALRM, signal.SIGINT):
        signal.signal(number, interrupter.on_signal)
    sender = threading.Thread(
        target=interrupter.send, args=(done, threading.get_ident()), daemon=True
    )
    sender.start()
    left = under_way = lost = 0
    while interrupter.hits < INTERRUPTS:
        scene = Scene()
        acts: list[Callable[[], None]] = [scene.ask, scene.read, scene.await_, scene.astream]
        interrupter.on = True
        for _ in range(ROUNDS):
            with contextlib.suppress(KeyboardInterrupt):
                interrupter.rearm()
                interrupter.rng.choice(acts)()
            if not interrupter.on:
                break
        interrupter.on = False
        ended = scene.end()
        left, under_way, lost = left + ended[0], under_way + ended[1], lost + ended[2]
    done.set()
    sender.join()
    kept = all(
        signal.getsignal(number) == interrupter.on_signal
        for number in (signal.SIGALRM, signal.SIGINT)
    )
    print(interrupter.hits, left, under_way, lost, int(kept))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
