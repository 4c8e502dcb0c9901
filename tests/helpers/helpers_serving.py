"""A pool that is served on loopback, and raw clients for it."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from helpers_pools import WAIT_S

from greenroom import AgentPool, Member, PoolConfig, PoolRef
from greenroom.serve import serve

KEY = "sk-served-4711"


@dataclass(frozen=True)
class Served:
    """A server that runs, in a thread that has its loop.

    Attributes:
        url: with its `/v1`.
        stop: has it end as SIGTERM would.
        ended: once it has.
    """

    url: str
    pool: PoolRef
    stop: Any
    ended: threading.Event

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or 0

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, None, headers)

    def chat(self, content: Any = "hi", **more: Any) -> Answer:
        """The answer to one message of a user's."""
        return self.post(said(content, **more))

    def post(self, body: Any, headers: dict[str, str] | None = None) -> Answer:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        own = {"content-type": "application/json"}
        return self.ask("POST", "/v1/chat/completions", raw, {**own, **(headers or {})})

    @contextlib.contextmanager
    def open(self, **more: Any) -> Iterator[http.client.HTTPResponse]:
        """A stream, to be read line by line."""
        with contextlib.closing(self.sent(**more)) as client:
            yield client.getresponse()

    def sent(self, **more: Any) -> http.client.HTTPConnection:
        """A request whose answer nobody has waited for."""
        client = http.client.HTTPConnection(*self.address, timeout=WAIT_S)
        heads = {"content-type": "application/json"}
        body = json.dumps(said(**more)).encode()
        client.request("POST", "/v1/chat/completions", body, heads)
        return client

    def ask(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Answer:
        client = http.client.HTTPConnection(*self.address, timeout=WAIT_S)
        with contextlib.closing(client):
            client.request(method, path, body, headers)
            got = client.getresponse()
            heads = {name.lower(): value for name, value in got.getheaders()}
            return Answer(got.status, heads, got.read())


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def said(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> Any:
        return self.said["error"]

    @property
    def content(self) -> Any:
        return self.said["choices"][0]["message"]["content"]

    @property
    def events(self) -> list[Any]:
        """Those of a stream; `[DONE]` as a text."""
        lines = [line for line in self.body.decode().split("\n\n") if line]
        data = [line.removeprefix("data: ") for line in lines]
        return [each if each == "[DONE]" else json.loads(each) for each in data]

    @property
    def text(self) -> str:
        """What a stream has said."""
        choices = [e["choices"] for e in self.events if e != "[DONE]" and "choices" in e]
        return "".join(each[0]["delta"].get("content") or "" for each in choices if each)


def event_of(lines: http.client.HTTPResponse) -> Any:
    """The next event."""
    line = lines.readline()
    while line == b"\n":
        line = lines.readline()
    return json.loads(line.removeprefix(b"data: "))


def said(content: Any = "hi", **more: Any) -> dict[str, Any]:
    """The body of a request."""
    return {"model": "pool", "messages": [{"role": "user", "content": content}], **more}


@contextlib.contextmanager
def served(
    *members: Member, config: dict[str, Any] | None = None, name: str = "pool", **settings: Any
) -> Iterator[Served]:
    """A pool of these, on the loop of its server."""
    listening, ended = threading.Event(), threading.Event()
    found: dict[str, Any] = {}

    async def run() -> None:
        stopping, loop = asyncio.Event(), asyncio.get_running_loop()
        settled = PoolConfig(**(config or {}))
        pool = AgentPool.start(members, strategy="priority", config=settled, name=name)
        async with pool:
            found.update(pool=pool, stop=lambda: loop.call_soon_threadsafe(stopping.set))

            def on_listening(url: str) -> None:
                found["url"] = url
                listening.set()

            await serve(pool, port=0, stopping=stopping, on_listening=on_listening, **settings)

    def main() -> None:
        try:
            asyncio.run(run())
        except BaseException as error:
            found["error"] = error
        finally:
            listening.set()
            ended.set()

    thread = threading.Thread(target=main, name="server", daemon=True)
    thread.start()
    assert listening.wait(WAIT_S)
    if "url" not in found:
        raise found["error"]
    server = Served(found["url"], found["pool"], found["stop"], ended)
    try:
        yield server
    finally:
        if not ended.is_set():
            with contextlib.suppress(RuntimeError):  # its loop has just been closed
                server.stop()
        thread.join(2 * WAIT_S)
        assert not thread.is_alive()
        if "error" in found:
            raise found["error"]
