"""What a request through a pool costs, against a bare Pykka ask measured in the same run.

    make bench                     free: threads on whichever core is idle
    make bench ARGS='--pin'        on one core, where waking a thread costs the same for everybody
    make bench ARGS='--json FILE'  the figures as JSON as well

Each figure is the median over `--rounds` rounds of the round's own median (latency) or rate
(pipelined). Peers take turns within a round, so that a noisy minute hits all of them alike. A ratio
is the median of the rounds' ratios; the spread is that of the middle half of the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pykka

from greenroom import AgentPool, Member, PoolConfig, PoolFuture, PoolRef, Request

PIPELINED = 20_000
SEQUENTIAL = 1_000


class Echo(pykka.ThreadingActor):
    """The peer: an actor that answers with what it was asked."""

    use_daemon_thread = True

    def on_receive(self, message: Any) -> Any:
        return message


def sync_agent(payload: int) -> int:
    return payload


async def async_agent(payload: int) -> int:
    return payload


@dataclass(frozen=True, slots=True)
class Figure:
    """One case: its absolute value, and how it compares with the bare ask."""

    case: str
    unit: str
    value: float
    bare: float
    ratio: float
    spread: float


def latency_us(ask: Callable[[int], Any]) -> float:
    """The median of one caller's asks, one after the other, in microseconds."""
    clock = time.perf_counter
    times = []
    for i in range(SEQUENTIAL):
        start = clock()
        ask(i)
        times.append(clock() - start)
    return statistics.median(times) * 1e6


def awaited_us(ask: Callable[[int], Awaitable[Any]]) -> float:
    """The same for a caller that awaits on an event loop of its own."""

    async def run() -> float:
        clock = time.perf_counter
        times = []
        for i in range(SEQUENTIAL):
            start = clock()
            await ask(i)
            times.append(clock() - start)
        return statistics.median(times) * 1e6

    return asyncio.run(run())


def pipelined_per_s(ask: Callable[[int], pykka.Future[Any]]) -> float:
    """Asks a second when all are sent before the first answer is read."""
    start = time.perf_counter()
    futures = [ask(i) for i in range(PIPELINED)]
    for future in futures:
        future.get()
    return PIPELINED / (time.perf_counter() - start)


def start_pools() -> dict[str, PoolRef]:
    config = PoolConfig(max_pending=PIPELINED)
    return {
        "sync agent": AgentPool.start([Member("a", sync_agent)], config=config, name="sync"),
        "async agent": AgentPool.start(
            [Member("a", async_agent, max_concurrency=1000)], config=config, name="async"
        ),
        "three sync agents": AgentPool.start(
            [Member(name, sync_agent) for name in "abc"], config=config, name="three"
        ),
    }


def asker(pool: PoolRef) -> Callable[[int], Any]:
    return lambda i: pool.ask(Request(i))


def sender(pool: PoolRef) -> Callable[[int], PoolFuture[Any]]:
    return lambda i: pool.ask(Request(i), block=False)


def one_round(echo: pykka.ActorRef[Echo], pools: dict[str, PoolRef]) -> dict[str, float]:
    """Every case once, the bare ask first and last, as its own control."""
    figures = {
        "ask, one caller|bare": latency_us(echo.ask),
        "20,000 pipelined|bare": pipelined_per_s(lambda i: echo.ask(i, block=False)),
    }
    for name, pool in pools.items():
        ask, send = asker(pool), sender(pool)
        figures[f"ask, one caller|{name}"] = latency_us(ask)
        figures[f"await, one caller|{name}"] = awaited_us(send)
        figures[f"20,000 pipelined|{name}"] = pipelined_per_s(send)
    again = latency_us(echo.ask)
    figures["ask, one caller|bare"] = (figures["ask, one caller|bare"] + again) / 2
    figures["await, one caller|bare"] = figures["ask, one caller|bare"]
    return figures


def compared(rounds: list[dict[str, float]]) -> list[Figure]:
    figures = []
    for key in rounds[0]:
        case, name = key.split("|")
        if name == "bare":
            continue
        values = [each[key] for each in rounds]
        bares = [each[f"{case}|bare"] for each in rounds]
        ratios = [value / bare for value, bare in zip(values, bares, strict=True)]
        quarters = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else [ratios[0]] * 3
        figures.append(
            Figure(
                case=f"{case}: {name}",
                unit="/s" if "pipelined" in case else "us",
                value=statistics.median(values),
                bare=statistics.median(bares),
                ratio=statistics.median(ratios),
                spread=quarters[2] - quarters[0],
            )
        )
    return figures


def report(figures: list[Figure], pinned: bool) -> str:
    where = "pinned to one core" if pinned else f"free on {os.cpu_count()} cores"
    versions = f"Pykka {version('pykka')}, greenroom {version('greenroom')}"
    lines = [
        f"Python {platform.python_version()}, {versions}, {platform.system()}, {where}",
        "",
        "| case | greenroom | bare Pykka ask | ratio | spread of the ratio |",
        "|---|---:|---:|---:|---:|",
    ]
    for each in figures:
        lines.append(
            f"| {each.case} | {each.value:,.0f} {each.unit} | {each.bare:,.0f} {each.unit} "
            f"| {each.ratio:.2f}x | {each.spread:.2f} |"
        )
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7, help="how often every case is measured")
    parser.add_argument("--pin", action="store_true", help="keep to one core")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    arguments = parser.parse_args(argv)
    if arguments.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {arguments.rounds}")
    if arguments.pin:
        if not hasattr(os, "sched_setaffinity"):
            parser.error("--pin needs a system that can pin a process to a core")
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    echo = Echo.start()
    pools = start_pools()
    try:
        one_round(echo, pools)  # warm-up
        rounds = [one_round(echo, pools) for _ in range(arguments.rounds)]
    finally:
        for pool in pools.values():
            pool.stop()
        echo.stop()
    figures = compared(rounds)
    print(report(figures, arguments.pin))
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(each) for each in figures], indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
