"""Calls of agents in another process, each held until the test lets it go.

The test has a `Gate`; an app under test imports this module as well, with `GATE` in its
environment, and its agents call `hold` or `ahold`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass

LIMIT_S = 60.0
"""What has not happened by then will not."""


# -- in the app


def hold(prompt: str) -> str:
    """Tell the gate, and wait for its word."""
    with socket.create_connection(_address(), timeout=LIMIT_S) as line:
        line.sendall(f"{prompt}\n".encode())
        return _answer(line.makefile("r").readline())


async def ahold(prompt: str) -> str:
    """The same; the gate hears of a cancellation."""
    reader, writer = await asyncio.open_connection(*_address())
    try:
        writer.write(f"{prompt}\n".encode())
        return _answer((await reader.readline()).decode())
    except asyncio.CancelledError:
        writer.write(b"cancelled\n")
        raise
    finally:
        writer.close()


def tell(word: str) -> None:
    """Something that nobody waits for."""
    with socket.create_connection(_address(), timeout=LIMIT_S) as line:
        line.sendall(f"{word}\n".encode())


def _address() -> tuple[str, int]:
    return "127.0.0.1", int(os.environ["GATE"])


def _answer(line: str) -> str:
    if not line.startswith("answer "):
        raise ConnectionError("the gate has fallen")
    return line.removeprefix("answer ").rstrip("\n")


# -- in the test


@dataclass
class Held:
    """A call that has come to the gate."""

    prompt: str
    line: socket.socket

    def go(self, answer: str) -> None:
        self.line.sendall(f"answer {answer}\n".encode())

    def fail(self) -> None:
        """Have it raise a ConnectionError."""
        self.line.sendall(b"no\n")

    def end(self) -> str:
        """What it says at its end: "cancelled", or nothing."""
        return self.line.makefile("r").read().strip()


class Gate:
    """What the agents of another process come to."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._calls: queue.Queue[Held] = queue.Queue()
        self._lines: list[socket.socket] = []

    @property
    def environment(self) -> dict[str, str]:
        """What the app needs to find it."""
        return {"GATE": str(self._listener.getsockname()[1])}

    def next(self) -> Held:
        """The next call; it waits for one."""
        return self._calls.get(timeout=LIMIT_S)

    def accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                line, _ = self._listener.accept()
                line.settimeout(LIMIT_S)
                self._lines.append(line)
                self._calls.put(Held(line.makefile("r").readline().strip(), line))

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for line in (self._listener, *self._lines):
            line.close()


@contextlib.contextmanager
def gate() -> Iterator[Gate]:
    opened = Gate()
    thread = threading.Thread(target=opened.accept, name="gate", daemon=True)
    thread.start()
    try:
        yield opened
    finally:
        opened.close()
        thread.join(LIMIT_S)
