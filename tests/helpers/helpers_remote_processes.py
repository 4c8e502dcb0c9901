"""Workers as real processes, and the engines between them and a pool."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from helpers_nats import free_port, nats_server
from helpers_processes import PROCESS_S, bounded

from greenroom import RemoteAgent

WORKER = """
import asyncio, json, os, sys, threading
from greenroom import CallContext, Member
from greenroom.remote import serve_worker
from greenroom.testing import http_error

listen, name, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
lock = threading.Lock()

def say(**what):
    with lock:
        print(json.dumps(what), flush=True)

class Agent:
    made = begun = 0

    async def arun(self, payload, call: CallContext):
        Agent.begun += 1
        do = payload["do"]
        if do in options.get("hangs", ()):
            do = "hang"
        if do == "echo":
            return payload.get("value")
        if do == "name":
            return name
        if do == "pid":
            return os.getpid()
        if do == "left":
            return call.remaining_s
        if do == "counts":
            return [Agent.begun, Agent.made]
        if do == "length":
            return len(payload["value"])
        if do == "long":
            return "x" * payload["n"]
        if do == "object":
            return object()
        if do == "raise":
            raise http_error(payload["status"], retry_after_s=payload.get("after"))
        say(begun=payload.get("id"))
        try:
            await asyncio.sleep(payload.get("s", 3600))
        except asyncio.CancelledError:
            say(cancelled=payload.get("id"))
            raise
        return name

    async def astream(self, payload, call: CallContext):
        for number in range(payload["n"]):
            Agent.made += 1
            yield number
            if number == payload.get("halt"):
                say(begun="stream")
                await asyncio.sleep(3600)

member = Member(name, Agent(), max_concurrency=options.get("width", 400))
ended = asyncio.run(serve_worker(
    member, listen, key=os.environ.get("WORKER_KEY"), queue=options.get("queue"),
    drain_s=options.get("drain_s", 30.0), on_listening=lambda url: say(ready=url)))
say(ended=str(ended))
"""


class Worker:
    """One, as a test sees it.

    Attributes:
        url: where callers reach it.
        said: what its agent has said, in order.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.said: list[dict[str, Any]] = []
        self._changed = threading.Condition()
        self._urls: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()
        url = self._urls.get(timeout=PROCESS_S)
        assert url is not None, "the worker has ended before it listened"
        self.url = url

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            said = json.loads(line)
            if "ready" in said:
                self._urls.put(said["ready"])
            with self._changed:
                self.said.append(said)
                self._changed.notify_all()
        self._urls.put(None)

    def heard(self, count: int = 1, **like: Any) -> None:
        """Wait until its agent has said so, so often."""

        def has() -> bool:
            return sum(like.items() <= each.items() for each in self.said) >= count

        with self._changed:
            assert self._changed.wait_for(has, PROCESS_S), (like, self.said[-20:])

    def count(self, key: str) -> int:
        return sum(key in each for each in self.said)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)


class Engine(Protocol):
    """What carries calls, with a server of its own if it needs one, while it is open."""

    name: str

    def listen(self) -> str:
        """An address for the next worker's `--listen`."""

    def agent(self, url: str, **given: Any) -> RemoteAgent:
        """A remote agent of the worker that says it is reached there."""


class HttpEngine:
    """Workers that listen by themselves."""

    name = "http"

    def listen(self) -> str:
        return "http://127.0.0.1:0"

    def agent(self, url: str, **given: Any) -> RemoteAgent:
        return RemoteAgent(url, **given)


@contextlib.contextmanager
def http_engine() -> Iterator[Engine]:
    yield HttpEngine()


class NatsEngine:
    """Workers with a subject each of one server.

    Attributes:
        server: that one's process.
    """

    name = "nats"

    def __init__(self, host: str, port: int, server: subprocess.Popen[bytes]) -> None:
        self.place = f"nats://{host}:{port}"
        self.server = server
        self._numbers = itertools.count(1)

    def listen(self) -> str:
        return f"{self.place}/workers.w{next(self._numbers)}"

    def agent(self, url: str, **given: Any) -> RemoteAgent:
        return RemoteAgent(url, **given)


@contextlib.contextmanager
def nats_engine() -> Iterator[NatsEngine]:
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        with nats_server(Path(folder), port) as server:
            yield NatsEngine("127.0.0.1", port, server)


@contextlib.contextmanager
def worker(
    engine: Engine,
    name: str = "w",
    *,
    key: str | None = None,
    inside: tuple[str, ...] = (),
    **options: Any,
) -> Iterator[Worker]:
    """A process that serves the agent above; it is gone when the block is left.

    Args:
        inside: a command that has another one run, somewhere else.
    """
    command = [*inside, sys.executable, "-c", WORKER, engine.listen(), name, json.dumps(options)]
    environment = {k: v for k, v in os.environ.items() if k != "WORKER_KEY"}
    if key is not None:
        environment["WORKER_KEY"] = key
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    with bounded(process):
        try:
            yield Worker(process)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)  # who is stopped cannot be waited for
            process.kill()
