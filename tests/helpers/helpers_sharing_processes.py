"""Real processes that share: each has a pool of two members, and says what has happened there."""

from __future__ import annotations

import json
import queue
import struct
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from helpers_processes import PROCESS_S, bounded

_WORKER = """
import json, os, sys, threading, time
from contextlib import suppress
from pathlib import Path
from greenroom import AgentPool, Member, PoolConfig, Request
from greenroom.actors.runtime.event_bus import observe
from greenroom.testing import http_error

dead, throttled = Path(sys.argv[2], "dead"), Path(sys.argv[2], "throttled")
lock, calls = threading.Lock(), []

def say(**what):
    with lock:
        print(json.dumps(what), flush=True)

def shared_member(payload):
    calls.append(time.monotonic())
    if throttled.exists():
        raise http_error(429, retry_after_s=600.0)
    if dead.exists() or cut:
        raise ConnectionError("no route")
    return "a"

def other(payload):
    if cut:
        raise ConnectionError("no route")
    return "b"

def traffic():
    while busy.wait():
        with suppress(Exception):
            pool.ask(Request("x"), timeout=20)
        time.sleep(pause_s)

cut, busy, pause_s = False, threading.Event(), 0.01
config = PoolConfig(circuit_failure_threshold=2, circuit_reset_timeout_s=float(sys.argv[3]),
                    circuit_success_threshold=1)
members = [Member("a", shared_member), Member("b", other, priority=1)]
# Before the pool: its first word may be that the store is away.
observe(lambda event: say(event=event.name, member=event.member,
                          heard=getattr(event, "heard", False), at=time.monotonic())
        if event.name.partition(".")[0] in ("breaker", "member", "shared") else None)
pool = AgentPool.start(members, strategy="priority", config=config, name="web", shared=sys.argv[1])
threading.Thread(target=traffic, daemon=True).start()
say(event="ready")
for line in sys.stdin:
    match line.split():
        case ["ask", number]:
            answers = []
            for _ in range(int(number)):
                try:
                    answers.append(pool.ask(Request("x"), timeout=20).member)
                except Exception as error:
                    answers.append(type(error).__name__)
            say(answer=answers)
        case ["calls"]:
            say(answer=len(calls))
        case ["calls", "since", at]:
            say(answer=[each for each in calls if each >= float(at)])
        case ["traffic", every_s]:  # until it is nothing
            pause_s = float(every_s)
            if pause_s:
                busy.set()
            else:
                busy.clear()
            say(answer=pause_s)
        case ["cut", what]:
            cut = what == "on"
            say(answer=cut)
        case ["circuit"]:
            say(answer=str(pool.stats()["a"].circuit))
        case ["stop"]:
            pool.stop()
            break
"""

_SPENDER = """
import collections, json, os, struct, sys, threading
from greenroom import AgentPool, Limit, Member, Request
from greenroom.actors.policy.budget import Budget
from greenroom.actors.runtime.event_bus import observe

log = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
take = Budget.take

def noted(self, cost, now):  # what has begun, and when: the limit's own word, be it killed after it
    os.write(log, struct.pack("dq", now, cost))
    return take(self, cost, now)

Budget.take = noted
lock = threading.Lock()

def say(**what):
    with lock:
        print(json.dumps(what), flush=True)

observe(lambda event: say(event=event.name) if event.name.startswith("shared.") else None)
limit = Limit(int(sys.argv[3]), per_s=float(sys.argv[4]))
members = [Member("a", lambda payload: None, limits=[limit], max_concurrency=64)]
pool = AgentPool.start(members, name="web", shared=sys.argv[1])
ended = threading.Event()

def spend(number):
    under_way = collections.deque()
    while not ended.is_set():
        while len(under_way) < number:
            under_way.append(pool.ask(Request("x"), block=False))
        try:
            under_way.popleft().get(timeout=60)
        except Exception as error:
            say(event="failed", error=type(error).__name__)

say(event="ready")
for line in sys.stdin:
    match line.split():
        case ["spend", number]:
            threading.Thread(target=spend, args=(int(number),), daemon=True).start()
            say(answer=True)
        case ["stop"]:
            ended.set()
            pool.stop()
            say(answer=pool.name)
            break
os._exit(0)
"""


class Worker:
    """A process, as the test sees it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.events: list[dict[str, Any]] = []
        self._answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._changed = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            said = json.loads(line)
            if "answer" in said:
                self._answers.put(said["answer"])
                continue
            with self._changed:
                self.events.append(said)
                self._changed.notify_all()

    def ask(self, what: str) -> Any:
        """Have it do something; what it answers."""
        assert self.process.stdin is not None
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        return self._answers.get(timeout=PROCESS_S)

    def heard_of(self, name: str, count: int = 1, **like: Any) -> dict[str, Any]:
        """Wait until that has happened there so often."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.named(name, **like)) >= count, PROCESS_S)
            return self.named(name, **like)[count - 1]

    def named(self, name: str, **like: Any) -> list[dict[str, Any]]:
        """What has happened there under that name, with such values."""
        return [e for e in self.events if e["event"] == name and like.items() <= e.items()]

    def kill(self) -> None:
        """Without any chance to say something."""
        self.process.kill()
        self.process.wait(PROCESS_S)


@contextmanager
def workers(
    shared: str, folder: Path, count: int = 4, reset_s: float = 2.0
) -> Iterator[list[Worker]]:
    """So many processes that are ready. A file `dead`, or `throttled`, in the folder is what is
    wrong with the member that they share.
    """
    argv = [sys.executable, "-c", _WORKER, shared, str(folder), str(reset_s)]
    with _running([argv] * count) as started:
        yield started


@contextmanager
def spenders(
    shared: str, folder: Path, count: int, amount: int, per_s: float
) -> Iterator[list[Worker]]:
    """So many processes with one limit together, each of which notes in a file what it spends."""
    numbers = range(len(list(folder.glob("*.spent"))), 1000)
    logs = [
        str(folder / f"{number}.spent") for number, _ in zip(numbers, range(count), strict=False)
    ]
    limit = (str(amount), str(per_s))
    with _running([sys.executable, "-c", _SPENDER, shared, log, *limit] for log in logs) as started:
        yield started


def spent_in(folder: Path) -> list[list[tuple[float, int]]]:
    """What each of them has spent, and when, by the clock of the host."""
    row = struct.Struct("dq")
    logs = sorted(folder.glob("*.spent"), key=lambda path: int(path.stem))
    read = [path.read_bytes() for path in logs]
    return [list(row.iter_unpack(each[: len(each) // row.size * row.size])) for each in read]


def most_in(spent: list[list[tuple[float, int]]], per_s: float) -> int:
    """The most that was spent in any window."""
    rows = sorted(row for each in spent for row in each)
    most = total = first = 0
    for at, cost in rows:
        total += cost
        while rows[first][0] + per_s <= at:
            total -= rows[first][1]
            first += 1
        most = max(most, total)
    return most


@contextmanager
def _running(argvs: Iterable[list[str]]) -> Iterator[list[Worker]]:
    with ExitStack() as stack:
        started = []
        for argv in argvs:
            process = subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            stack.enter_context(bounded(process))
            started.append(Worker(process))
        for each in started:
            each.heard_of("ready")
        yield started
        for each in started:
            if each.process.poll() is None and each.process.stdin is not None:
                each.process.stdin.close()
