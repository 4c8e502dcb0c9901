"""Where the time of one request goes, hop by hop: `python -m benchmarks.hops [--pin] [--uvloop]`.

The way of a request is stamped at seams that exist anyway: the caller's ask and its return, the
router's handler, the agent's own first and last line, the future's answer. Between two stamps lies
one stretch, whose median over many requests is printed, in microseconds. Stamping itself costs a
little, hence the last line: the whole without any stamp. Beside it stands what two hand-overs from
thread to thread cost at least, with a queue and nothing else: the limit for a request that is given
to another thread and comes back.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import queue
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from benchmarks import measure
from benchmarks.harness import a_core
from greenroom import AgentPool, Member, PoolConfig, PoolFuture, PoolRef, Request
from greenroom.actors.router.pool_router import PoolRouter
from greenroom.actors.runtime.loop_factory import loop_factory

ASKS = 2_000
WARM = 200
STRETCHES = (
    ("ask", "posted", "the caller makes the request and its future, and posts it"),
    ("posted", "routing", "the router's thread wakes up"),
    ("routing", "agent", "it routes, hands over; the agent's place wakes up"),
    ("agent", "returned", "the agent"),
    ("returned", "answered", "the outcome is judged and the answer claimed"),
    ("answered", "done", "the caller wakes up"),
)

clock = time.perf_counter


@dataclass
class Stamps:
    """When each point of one request's way was passed; the first time counts."""

    at: dict[str, float] = field(default_factory=dict)

    def mark(self, point: str) -> None:
        self.at.setdefault(point, clock())

    def take(self) -> dict[str, float]:
        taken, self.at = self.at, {}
        return taken


def before(stamps: Stamps, point: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, with a stamp when it is entered."""

    def stamped(*arguments: Any, **options: Any) -> Any:
        stamps.mark(point)
        return function(*arguments, **options)

    return stamped


def after(stamps: Stamps, point: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, with a stamp when it is left."""

    def stamped(*arguments: Any, **options: Any) -> Any:
        value = function(*arguments, **options)
        stamps.mark(point)
        return value

    return stamped


@contextlib.contextmanager
def seams(stamps: Stamps) -> Iterator[None]:
    """The points inside greenroom. A pool that is started within is stamped."""
    kept = [(PoolRef, "_submit"), (PoolRouter, "_on_work"), (PoolFuture, "resolve")]
    originals = [(owner, name, getattr(owner, name)) for owner, name in kept]
    PoolRef._submit = after(stamps, "posted", PoolRef._submit)  # type: ignore[method-assign]
    PoolRouter._on_work = before(  # type: ignore[method-assign]
        stamps, "routing", PoolRouter._on_work
    )
    PoolFuture.resolve = before(  # type: ignore[method-assign]
        stamps, "answered", PoolFuture.resolve
    )
    try:
        yield
    finally:
        for owner, name, original in originals:
            setattr(owner, name, original)


def agents(stamps: Stamps) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """A sync and an async agent that stamp their first and their last line."""

    def agent(payload: Any) -> Any:
        stamps.mark("agent")
        stamps.mark("returned")
        return payload

    async def aagent(payload: Any) -> Any:
        return agent(payload)

    return agent, aagent


def stamped_asks(stamps: Stamps, ask: Callable[[int], Any], times: int) -> list[dict[str, float]]:
    """The stamps of a thread's asks, one after the other."""
    ways = []
    for i in range(times):
        stamps.mark("ask")
        ask(i)
        stamps.mark("done")
        ways.append(stamps.take())
    return ways[WARM:]


async def stamped_awaits(
    stamps: Stamps, ask: measure.AsyncAsk, times: int
) -> list[dict[str, float]]:
    """The stamps of a coroutine's."""
    ways = []
    for i in range(times):
        stamps.mark("ask")
        await ask(i)
        stamps.mark("done")
        ways.append(stamps.take())
    return ways[WARM:]


def stretches(ways: Sequence[dict[str, float]]) -> list[tuple[str, float]]:
    """The median of every stretch, and of the whole.

    With a quick router a thread may pass a point before the one ahead of it has come back from
    posting: such a stretch counts as nothing, not as less than nothing.
    """
    lines = []
    for first, last, what in (*STRETCHES, ("ask", "done", "the whole, stamped")):
        taken = [max(0.0, way[last] - way[first]) for way in ways if {first, last} <= set(way)]
        if taken:
            lines.append((what, statistics.median(taken) * 1e6))
    return lines


def thread_hop_us(times: int = ASKS) -> float:
    """One hand-over to another thread: half of a ping-pong over two queues."""
    there: queue.SimpleQueue[Any] = queue.SimpleQueue()
    back: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def answer() -> None:
        while (ball := there.get()) is not None:
            back.put(ball)

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()

    def play(i: int) -> None:
        there.put(i)
        back.get()

    both = measure.latency_us(play, times)
    there.put(None)
    thread.join()
    return both / 2


def report(title: str, ways: Sequence[dict[str, float]], plain_us: float) -> list[str]:
    lines = ["", f"| {title} | us |", "|---|---:|"]
    lines += [f"| {what} | {value:.1f} |" for what, value in stretches(ways)]
    return [*lines, f"| the whole, without stamps | {plain_us:.1f} |"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pin", action="store_true", help="keep to one core")
    parser.add_argument("--uvloop", action="store_true", help="for both loops")
    parser.add_argument("--asks", type=int, default=ASKS)
    arguments = parser.parse_args()
    core = a_core()
    if arguments.pin and core is not None:
        os.sched_setaffinity(0, {core})
    loop: Literal["asyncio", "uvloop"] = "uvloop" if arguments.uvloop else "asyncio"
    hop_us = thread_hop_us(arguments.asks)
    print(f"One hand-over between threads: {hop_us:.1f} us; two, the limit: {2 * hop_us:.1f} us")
    for line in measured(loop, arguments.asks + WARM):
        print(line)
    return 0


def measured(loop: Literal["asyncio", "uvloop"], times: int) -> Iterator[str]:
    """The tables of a sync agent that is asked and of an async one that is awaited."""
    stamps = Stamps()
    agent, aagent = agents(stamps)
    config = PoolConfig(event_loop=loop)

    def pool_of(chosen: Callable[[Any], Any]) -> PoolRef:
        return AgentPool.start([Member(name, chosen) for name in "abc"], config=config)

    with asyncio.Runner(loop_factory=loop_factory(loop)) as runner:
        with pool_of(agent) as pool:
            plain = measure.latency_us(lambda i: pool.ask(Request(i)), times)
        with seams(stamps), pool_of(agent) as pool:
            stamps.take()
            ways = stamped_asks(stamps, lambda i: pool.ask(Request(i)), times)
        yield from report("ask, sync agent", ways, plain)
        with pool_of(aagent) as pool:
            plain = runner.run(
                measure.awaited_us(lambda i: pool.ask(Request(i), block=False), times)
            )
        with seams(stamps), pool_of(aagent) as pool:
            stamps.take()
            ways = runner.run(
                stamped_awaits(stamps, lambda i: pool.ask(Request(i), block=False), times)
            )
        yield from report(f"await, async agent, {loop}", ways, plain)


if __name__ == "__main__":
    raise SystemExit(main())
