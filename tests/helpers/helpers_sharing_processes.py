"""Real processes that share: each has a pool of two members, and says what has happened there."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from helpers_processes import PROCESS_S, bounded

_WORKER = """
import json, os, sys, threading, time
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
    calls.append(1)
    if throttled.exists():
        raise http_error(429, retry_after_s=600.0)
    if dead.exists() or cut:
        raise ConnectionError("no route")
    return "a"

def other(payload):
    if cut:
        raise ConnectionError("no route")
    return "b"

cut = False
config = PoolConfig(circuit_failure_threshold=2, circuit_reset_timeout_s=float(sys.argv[3]),
                    circuit_success_threshold=1)
members = [Member("a", shared_member), Member("b", other, priority=1)]
# Before the pool: its first word may be that the store is away.
observe(lambda event: say(event=event.name, member=event.member,
                          heard=getattr(event, "heard", False), at=time.monotonic())
        if event.name.partition(".")[0] in ("breaker", "member", "shared") else None)
pool = AgentPool.start(members, strategy="priority", config=config, name="web", shared=sys.argv[1])
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
        case ["cut", what]:
            cut = what == "on"
            say(answer=cut)
        case ["circuit"]:
            say(answer=str(pool.stats()["a"].circuit))
        case ["stop"]:
            pool.stop()
            break
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
    with ExitStack() as stack:
        started = []
        for _ in range(count):
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
