"""A server on loopback that speaks as much of OpenAI's protocol as a client of it wants.

    python -m benchmarks.provider [PACE]

All its times are so many times as long. It writes its port on a line, and ends with its standard
input. Each key (`Bearer owner.provider`) is let through so many calls a second; what is over that
gets a 429 with an exact `retry-after-ms`, and `retry-after` in whole seconds, as the standard says.
`GET /account/owner` says what was called with an owner's keys, `POST /out/owner/seconds` cuts all
their connections for so long.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import Request, urlopen

from benchmarks.load import Account, Limiter
from benchmarks.model import Scale

AMOUNT, PER_S = 5, 1.0
GRACE_S = 0.05
TAKES_S = 0.3
MOST_BYTES = 1_000_000
URL = "BENCHMARKS_PROVIDER"
"""The environment variable that tells a worker where it is."""

ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4o-mini",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "hello"},
            "finish_reason": "stop",
            "logprobs": None,
        }
    ],
    "usage": {"prompt_tokens": 8, "completion_tokens": 1, "total_tokens": 9},
}
REFUSAL = {"error": {"message": "Rate limit reached", "type": "requests", "code": "rate_limit"}}


class Cut(Exception):
    """The connection is to break."""


class Books:
    """The keys, and what was called with them.

    Args:
        clock: in seconds, never back.
        pace: how many times as long everything takes.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, pace: float = 1.0) -> None:
        self._clock = clock
        self._pace = pace
        self._limiters: dict[str, Limiter] = {}
        self._seen: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        self._out_until: dict[str, float] = {}

    def answer(self, method: str, path: str, key: str) -> tuple[int, dict[str, str], object] | None:
        """Status, headers and body; None: that of a call, which takes its time."""
        what, _, rest = path.strip("/").partition("/")
        if (method, what) == ("GET", "account"):
            return 200, {}, dict(self._seen[rest])
        if (method, what) == ("POST", "out"):
            owner, _, seconds = rest.partition("/")
            self._out_until[owner] = self._clock() + float(seconds)
            return 200, {}, {}
        return self._called(key)

    async def take_time(self) -> None:
        """As a call does."""
        await asyncio.sleep(TAKES_S * self._pace)

    def _new_limiter(self) -> Limiter:
        return Limiter(AMOUNT, PER_S * self._pace, GRACE_S * self._pace)

    def check(self, key: str) -> None:
        """Raises Cut while the key's providers are out."""
        owner = key.rpartition(".")[0]
        if self._clock() < self._out_until.get(owner, 0.0):
            self._seen[owner]["cut"] += 1
            raise Cut

    def _called(self, key: str) -> tuple[int, dict[str, str], object] | None:
        self._seen[key.rpartition(".")[0]]["calls"] += 1
        self.check(key)
        limiter = self._limiters.setdefault(key, self._new_limiter())
        wait_s = limiter.wait_s(self._clock())
        if wait_s == 0.0:
            return None
        self._seen[key.rpartition(".")[0]]["refused"] += 1
        headers = {
            "retry-after": str(math.ceil(wait_s)),
            "retry-after-ms": str(math.ceil(wait_s * 1_000)),
        }
        return 429, headers, REFUSAL


async def handle(books: Books, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection, call after call."""
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            method, path, _ = head[0].split(" ", 2)
            headers = {
                name.strip().lower(): value.strip()
                for name, _, value in (line.partition(":") for line in head[1:] if line)
            }
            await reader.readexactly(min(int(headers.get("content-length", 0)), MOST_BYTES))
            key = headers.get("authorization", "").removeprefix("Bearer ")
            answer = books.answer(method, path, key)
            if answer is None:
                await books.take_time()
                books.check(key)
                answer = (200, {}, ANSWER)
            writer.write(encoded(*answer))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass  # the client has left
    except Cut:
        writer.transport.abort()
    finally:
        writer.close()


def encoded(status: int, headers: dict[str, str], body: object) -> bytes:
    """A response of HTTP/1.1 whose connection stays open."""
    text = json.dumps(body).encode()
    reason = {200: "OK", 429: "Too Many Requests"}[status]
    lines = [f"HTTP/1.1 {status} {reason}", "content-type: application/json"]
    lines += [f"content-length: {len(text)}", *(f"{name}: {is_}" for name, is_ in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + text


async def serve(pace: float) -> None:
    """Until standard input ends."""
    books = Books(pace=pace)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.CancelledError):  # by the end of the server
            await handle(books, reader, writer)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.close()


@contextlib.contextmanager
def running(scale: Scale) -> Iterator[dict[str, str]]:
    """The server in a process of its own; what a worker's environment needs to find it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.provider", str(scale.pace)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).resolve().parent.parent,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield {URL: f"http://127.0.0.1:{int(process.stdout.readline())}"}
    finally:
        process.stdin.close()
        process.stdout.close()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def account(url: str, owner: str) -> Account:
    """What was called with the keys of an owner."""
    with urlopen(f"{url}/account/{owner}", timeout=10) as response:
        return Account(**json.load(response))


def out(url: str, owner: str, seconds: float) -> None:
    """The providers of an owner answer nobody from now on, for so many seconds."""
    with urlopen(Request(f"{url}/out/{owner}/{seconds}", method="POST"), timeout=10):
        pass


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(float(*sys.argv[1:] or (1.0,))))
