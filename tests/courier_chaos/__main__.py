"""`make chaos-courier`: durable tells through real servers, while everybody is killed at random.

    make chaos-courier ARGS='--engine nats --tells 2000 --seed 7'

A teller tells numbers and says which are stored; workers note which they have worked on; each of
them, and the server, is killed without warning now and then and started again. Of every thousand
tells one raises, and one ends its process. In the end each tell that was stored has been worked on,
or is dead with its reasons; those two kinds are dead, and nobody else is.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers_courier import argv_of, free_port, listens, need, url_of

from greenroom import JetStream, RedisStreams

SETTINGS = "max_deliveries=4, backoff_s=0.05, lease_s=2.0, timeout_s=2.0, max_queue=100_000"

TELLER = f"""
import sys, time
from greenroom import AgentPool, JetStream, RedisStreams, Request, TellNotStoredError

url, first, last = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
kind = JetStream if url.startswith("nats") else RedisStreams
with AgentPool.start(name="chaos", courier=kind(url, {SETTINGS})) as pool:
    at = first
    while at < last:
        try:
            pool.tell(Request({{"n": at}}, request_id=f"t{{at}}", durable=True))
        except TellNotStoredError:
            time.sleep(0.05)  # else it takes a core of those who start again
            continue
        print(at, flush=True)
        at += 1
"""

WORKER = f"""
import os, sys, threading
from greenroom import AgentPool, JetStream, Member, PoolConfig, RedisStreams

url, log = sys.argv[1], os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
kind = JetStream if url.startswith("nats") else RedisStreams

def work(payload):
    number = payload["n"]
    if number % 1000 == 3:
        raise RuntimeError("poison")
    if number % 1000 == 7:
        os._exit(9)
    os.write(log, f"{{number}}\\n".encode())

config = PoolConfig(circuit_failure_threshold=1_000_000, max_retries=0)
members = [Member(name, work, max_concurrency=4) for name in ("a", "b")]
pool = AgentPool.start(members, config=config, name="chaos", courier=kind(url, {SETTINGS}))
print("ready", flush=True)
sys.stdin.read()
"""


class Child:
    """A process that is there again whenever it is gone.

    Args:
        argv: asked anew for each start.
    """

    def __init__(self, argv: Callable[[], list[str]], read: Callable[[str], object]) -> None:
        self._argv = argv
        self._read = read
        self.starts = 0
        self.works = False  # whether it has said something since its start
        self.process: subprocess.Popen[str] | None = None

    def look(self) -> None:
        if self.process is None or self.process.poll() is not None:
            self.start()

    def start(self) -> None:
        self.starts += 1
        self.works = False
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            self._argv(), stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True
        )
        self.process = process
        threading.Thread(target=self._lines, args=(process,), daemon=True).start()

    def _lines(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self.works = self.works or process is self.process
            self._read(line)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


class Server:
    """The broker, with its files, on one port for all its lives."""

    def __init__(self, engine: str, folder: Path) -> None:
        self.port = free_port()
        self._argv = argv_of(engine, folder, self.port)
        self.kills = 0
        self.start()

    def start(self) -> None:
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(self._argv, stdout=quiet, stderr=quiet)
        listens(self.port)

    def kill(self) -> None:
        self.kills += 1
        self.process.kill()
        self.process.wait()


def numbers(path: Path) -> list[int]:
    """What the workers have noted; a last line that was cut off is none."""
    if not path.exists():
        return []
    return [int(line) for line in path.read_text().split("\n")[:-1]]


def run(engine: str, tells: int, seed: int, workers: int, limit_s: float, pace_s: float) -> bool:
    """One run; whether it was as it should be."""
    rng = random.Random(seed)
    poison = {at for at in range(tells) if at % 1000 in (3, 7)}
    kind: Any = RedisStreams if engine == "redis" else JetStream
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log = folder / "worked.log"
        (folder / "server").mkdir()
        server = Server(engine, folder / "server")
        url = url_of(engine, server.port)
        told: set[int] = set()
        python = [sys.executable, "-c"]

        def first() -> int:
            return max(told, default=-1) + 1

        def heard(line: str) -> None:
            told.add(int(line))

        teller = Child(lambda: [*python, TELLER, url, str(first()), str(tells)], heard)
        working = [
            Child(lambda: [*python, WORKER, url, str(log)], lambda line: None)
            for _ in range(workers)
        ]
        began = time.monotonic()
        kills = 0
        try:
            while time.monotonic() - began < limit_s:
                if len(told) < tells:
                    teller.look()
                for each in working:
                    each.look()
                threading.Event().wait(rng.uniform(0.3, 1.7) * pace_s)
                if len(told) >= tells:
                    done = set(numbers(log))
                    if done >= set(range(tells)) - poison and _dead(kind, url) >= poison:
                        break
                    if len(done) > 0.9 * tells:
                        continue  # the rest is worked off in peace
                chance = rng.random()
                if chance < 0.25:
                    server.kill()
                    threading.Event().wait(rng.uniform(0.0, 1.0))
                    server.start()
                elif chance < 0.8:
                    hit = rng.choice(working)
                    if chance < 0.5 and len(told) < tells:
                        hit = teller
                    # Where a start takes longer than from one kill to the next nobody would ever
                    # get to work: who has just begun is mostly spared.
                    if hit.works or rng.random() < 0.2:
                        hit.kill()
                        kills += 1
            took_s = time.monotonic() - began
            worked, dead = numbers(log), _dead(kind, url)
        finally:
            for child in (teller, *working):
                child.kill()
            server.kill()
    done = set(worked)
    lost = told - done - dead
    poison &= told
    wrong = (dead ^ poison) | (done & poison)
    print(
        f"{engine}, seed {seed}: {tells} tells in {took_s:.0f} s; killed: server "
        f"{server.kills - 1} times, processes {kills} times; workers started "
        f"{sum(each.starts for each in working)} times, tellers {teller.starts}; worked on "
        f"{len(done)}, once more {len(worked) - len(done)} times; dead {len(dead)} "
        f"of {len(poison)} poisonous; neither worked on nor dead at the end: {len(lost)}"
    )
    if len(told) < tells:
        print(f"  only {len(told)} were told in {limit_s:.0f} s")
    if lost:
        print(f"  neither: {sorted(lost)[:20]}")
    if wrong:
        print(f"  dead and innocent, or poisonous and not dead: {sorted(wrong)[:20]}")
    return not lost and not wrong and len(told) == tells


def _dead(kind: Any, url: str) -> set[int]:
    for _ in range(20):
        try:
            store = kind(url, timeout_s=5.0).open("chaos")
            try:
                return {int(each.request_id[1:]) for each in store.dead()}
            finally:
                store.close()
        except Exception:  # it has just been started
            threading.Event().wait(0.5)
    raise RuntimeError("the server does not answer")


def main() -> int:
    parser = argparse.ArgumentParser(prog="make chaos-courier", description=__doc__)
    parser.add_argument("--engine", choices=["redis", "nats"])
    parser.add_argument("--tells", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--pace", type=float, default=1.0, help="seconds between two kills")
    parser.add_argument("--limit", type=float, default=900.0, help="seconds")
    said = parser.parse_args()
    good = True
    for engine in [said.engine] if said.engine else ["redis", "nats"]:
        try:
            need(engine)
        except pytest.skip.Exception as why:
            print(f"{engine}: SKIPPED, {why}")
            continue
        good = run(engine, said.tells, said.seed, said.workers, said.limit, said.pace) and good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
