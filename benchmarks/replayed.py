"""A pool in real time, of whose members one after the other fails, hangs, is throttled; what it has
recorded, played again with nothing changed: how many picks are the same, and how fast that is.

    .venv/bin/python -m benchmarks.replayed --requests 100000 --seconds 100
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from greenroom import AgentPool, LoadBalanceStrategy, Member, PoolConfig, PoolError, Request
from greenroom.flight.flight_file import lines_of
from greenroom.simulate.recorded_flight import recorded
from greenroom.simulate.replay import replay
from greenroom.testing import http_error

Fault = Callable[[float, random.Random], str | None]
"""What goes wrong with a call, by the share of the time that is over."""


def _fails(part: float, rng: random.Random) -> str | None:
    return "fails" if rng.random() < (0.8 if 0.2 < part < 0.3 else 0.005) else None


def _hangs(part: float, rng: random.Random) -> str | None:
    return "hangs" if 0.5 < part < 0.55 and rng.random() < 0.1 else None


def _throttles(part: float, rng: random.Random) -> str | None:
    return "throttles" if 0.7 < part < 0.8 and rng.random() < 0.1 else None


def _agent(usual_s: float, fault: Fault, part: Callable[[], float]) -> Any:
    rng = random.Random(usual_s)

    async def agent(payload: Any) -> Any:
        await asyncio.sleep(usual_s * rng.lognormvariate(0.0, 0.4))
        match fault(part(), rng):
            case "fails":
                raise ConnectionError("no route")
            case "hangs":
                await asyncio.sleep(60.0)
            case "throttles":
                raise http_error(429)
        return payload

    return agent


async def _run(path: Path, requests: int, seconds: float, strategy: LoadBalanceStrategy) -> None:
    began = time.monotonic()

    def part() -> float:
        return (time.monotonic() - began) / seconds

    members = [
        Member("a", _agent(0.020, _fails, part), max_concurrency=100),
        Member("b", _agent(0.022, _hangs, part), max_concurrency=100),
        Member("c", _agent(0.030, _throttles, part), max_concurrency=100),
    ]
    config = PoolConfig(request_timeout_s=1.0, circuit_reset_timeout_s=0.5)
    pool = AgentPool.start(members, strategy=strategy, config=config, record=path)

    async def ask() -> None:
        with contextlib.suppress(PoolError):
            await pool.ask(Request("x"), block=False)

    asked: set[asyncio.Task[None]] = set()
    sent = 0
    while sent < requests:
        for _ in range(min(requests, int(part() * requests)) - sent):
            task = asyncio.ensure_future(ask())
            asked.add(task)
            task.add_done_callback(asked.discard)
            sent += 1
        await asyncio.sleep(0.002)
    await asyncio.gather(*asked)
    await pool.adrain(10.0)
    await asyncio.to_thread(pool.stop)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--strategy", default="adaptive", type=LoadBalanceStrategy)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "flight.jsonl.zst")
        asyncio.run(_run(path, options.requests, options.seconds, options.strategy))
        size = path.stat().st_size
        began = time.process_time()
        flight = recorded(lines_of(path))
        read_s = time.process_time() - began
        outcome = replay(flight)
    replay_s = time.process_time() - began - read_s
    happened, again = outcome.happened.transitions, outcome.would_have.transitions
    alike = [(x.member, x.circuit) for x in happened] == [(x.member, x.circuit) for x in again]
    count = outcome.happened.arrived
    print(f"{count:,} requests, {size / count:.0f} bytes each, {flight.lost} lines lost")
    print(f"picks: {outcome.same_picks:,} of {outcome.picks:,} the same")
    print(
        f"breakers: {len(happened)} transitions, {'the same' if alike else 'others'} in the replay"
    )
    print(f"read in {read_s:.1f} s, played in {replay_s:.1f} s of one core")


if __name__ == "__main__":
    main()
