"""The server's life: clients that hang up, many at a time, the end. Behaviours 201 to 203."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from helpers_agents import AsyncHeld
from helpers_pools import WAIT_S, echo
from helpers_processes import PROCESS_S, bounded
from helpers_serving import KEY, event_of, said, served

from greenroom import AgentPool, Member
from greenroom.serve import serve

# -- clients that hang up


class Left:
    """An async generator that notes how far it came, and its end."""

    def __init__(self, chunks: int | None, size: int = 1_000) -> None:
        self.chunks = chunks
        self.chunk = "x" * size
        self.closed = threading.Event()
        self.calls = 0

    async def __call__(self, prompt: str) -> AsyncIterator[str]:
        self.calls += 1
        if self.calls > 1:
            yield "next"
            return
        try:
            sent = 0
            while self.chunks is None or sent < self.chunks:
                yield self.chunk
                sent += 1
            await asyncio.Event().wait()
        finally:
            self.closed.set()


FREE = {"max_pending": 0}
"""A request that finds no free slot is refused: so one that is answered has found one."""


@pytest.mark.parametrize("stream", [False, True])
def test_who_hangs_up_before_the_answer_frees_the_slot(stream: bool) -> None:
    """The call is cancelled; the next request has its slot."""
    agent = AsyncHeld()
    with served(Member("m", agent, max_concurrency=1), config=FREE) as server:
        client = server.sent(stream=stream)
        agent.wait_entered()
        client.close()
        agent.wait_cancelled()
        other = server.sent(stream=stream)
        agent.wait_entered()
        agent.let_go()
        with contextlib.closing(other):
            assert other.getresponse().status == 200
        assert server.pool.stats().members[0].health.failures == 0


def test_who_hangs_up_within_a_stream_frees_the_slot() -> None:
    """The agent's generator is closed where it waits."""
    agent = Left(chunks=1)
    with served(Member("m", agent, max_concurrency=1), config=FREE) as server:
        with server.open(stream=True) as lines:
            assert event_of(lines)["choices"][0]["delta"]["content"]
        assert agent.closed.wait(WAIT_S)
        assert server.chat(stream=True).text == "next"


def test_who_does_not_read_holds_the_agent_back_until_it_hangs_up() -> None:
    """An endless stream that nobody reads costs no memory, and ends with its client."""
    agent = Left(chunks=None)
    with served(Member("m", agent, max_concurrency=1), config=FREE) as server:
        with server.open(stream=True) as lines:
            assert event_of(lines)["choices"][0]["delta"]["content"]
        assert agent.closed.wait(WAIT_S)
        assert server.chat(stream=True).text == "next"


def test_who_hangs_up_while_it_waits_gives_its_place_back() -> None:
    """A request that no member has yet is none any more."""
    agent = AsyncHeld()
    with served(Member("m", agent, max_concurrency=1)) as server:
        first = server.sent()
        agent.wait_entered()
        waiting = server.sent()
        while server.pool.stats().pending == 0:
            pass
        waiting.close()
        while server.pool.stats().pending:
            pass
        agent.let_go()
        with contextlib.closing(first):
            assert first.getresponse().status == 200
    assert agent.calls == 1


# -- many at a time


@pytest.mark.parametrize("stream", [False, True])
def test_two_hundred_clients_at_once(stream: bool) -> None:
    """All of them are with the agent at the same time, and each has its own answer."""
    clients = 200
    inside: list[str] = []
    all_there = asyncio.Event()

    async def agent(prompt: str) -> str:
        inside.append(prompt)
        if len(inside) == clients:
            all_there.set()
        await all_there.wait()
        return prompt

    async def main(url: str) -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(limits=limits, timeout=3 * WAIT_S, trust_env=False) as client:
            bodies = [said(f"client {number}", stream=stream) for number in range(clients)]
            url = f"{url}/chat/completions"
            return await asyncio.gather(*[client.post(url, json=body) for body in bodies])

    with served(Member("m", agent, max_concurrency=clients)) as server:
        answers = asyncio.run(main(server.url))
        assert server.pool.stats().pending == 0
    assert [each.status_code for each in answers] == [200] * clients
    assert all(f"client {number}" in each.text for number, each in enumerate(answers))
    assert len(set(inside)) == clients


# -- the end, in this process


def test_what_is_not_done_in_time_is_told_so() -> None:
    """A whole answer by its status, a stream by its last event; the server ends all the same."""
    held, streaming = AsyncHeld(), Left(chunks=1)
    with served(Member("m", streaming, max_concurrency=1), drain_s=0) as server:
        with server.open(stream=True) as lines:
            event_of(lines)
            server.stop()
            assert event_of(lines)["error"]["code"] == "shutting_down"
        assert server.ended.wait(WAIT_S)
    with served(Member("m", held), drain_s=0) as server:
        client = server.sent()
        held.wait_entered()
        server.stop()
        with contextlib.closing(client):
            answer = client.getresponse()
            assert (answer.status, answer.getheader("retry-after")) == (503, "1")


def test_a_client_that_does_not_read_keeps_no_server() -> None:
    """What is there for it is not waited for beyond a moment."""
    agent = Left(chunks=None, size=16_000_000)  # more than any buffer takes
    with (
        served(Member("m", agent), drain_s=0) as server,
        server.open(stream=True) as lines,
    ):
        event_of(lines)
        server.stop()
        assert server.ended.wait(WAIT_S)
    assert agent.closed.wait(WAIT_S)


def test_to_be_cancelled_closes_the_server() -> None:
    """With what is at hand, and without a word of asyncio's."""

    async def main() -> tuple[bool, bool]:
        agent, listening = AsyncHeld(), asyncio.Event()
        urls: list[str] = []

        def on_listening(url: str) -> None:
            urls.append(url)
            listening.set()

        async with AgentPool.start([Member("m", agent)]) as pool:
            serving = asyncio.ensure_future(serve(pool, port=0, on_listening=on_listening))
            await listening.wait()
            async with httpx.AsyncClient(timeout=WAIT_S, trust_env=False) as client:
                url = f"{urls[0]}/chat/completions"
                asking = asyncio.ensure_future(client.post(url, json=said()))
                await asyncio.to_thread(agent.wait_entered)
                serving.cancel()
                await asyncio.gather(serving, return_exceptions=True)
                closed = refuses(urls[0])
                await pool.adrain(0)
                with contextlib.suppress(httpx.HTTPError):
                    await asking
        return serving.cancelled(), closed

    assert asyncio.run(main()) == (True, True)


# -- the command


AGENTS = '''
import asyncio, os


async def gated(prompt):
    """Says that it is here, and goes on when it is told to."""
    yield "here "
    reader, writer = await asyncio.open_connection("127.0.0.1", int(os.environ["GATE"]))
    await reader.read(1)
    writer.close()
    yield prompt


def plain(prompt):
    return prompt
'''
POOL = '[pool]\nname = "pool"\n[[members]]\nname = "{name}"\nkind = "python"\n'
MEMBER = POOL + 'agent = "my_agents:{name}"\n'


class Command:
    """`greenroom serve` as a process.

    Args:
        folder: where its file and its agents stand.
    """

    def __init__(self, folder: Path, member: str, *arguments: str, **environment: str) -> None:
        (folder / "my_agents.py").write_text(AGENTS)
        self.file = folder / "pool.toml"
        self.file.write_text(MEMBER.format(name=member))
        self.gate = socket.create_server(("127.0.0.1", 0))
        self.gate.settimeout(WAIT_S)
        gate = str(self.gate.getsockname()[1])
        self.process = subprocess.Popen(
            [sys.executable, "-m", "greenroom", "serve", "--port", "0", *arguments],
            cwd=folder,
            env={**os.environ, "GATE": gate, **environment},
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []

    def url(self) -> str:
        """Once it listens."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            if "http://" in line:
                return line.split()[-1]
        raise AssertionError("".join(self.lines))

    def end(self) -> tuple[int, str]:
        """Its exit code, and all that it has written."""
        _, rest = self.process.communicate(timeout=PROCESS_S)
        return self.process.returncode, "".join(self.lines) + rest


@contextlib.contextmanager
def command(folder: Path, member: str, *arguments: str, **environment: str) -> Iterator[Command]:
    running = Command(folder, member, *arguments, **environment)
    with contextlib.closing(running.gate), bounded(running.process):
        yield running


def opened(url: str, **headers: str) -> tuple[http.client.HTTPConnection, Any]:
    """A stream from there."""
    parts = urlsplit(url)
    client = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=WAIT_S)
    heads = {"content-type": "application/json", **headers}
    client.request("POST", "/v1/chat/completions", json.dumps(said("there", stream=True)), heads)
    return client, client.getresponse()


def posted(url: str, body: Any, **headers: str) -> httpx.Response:
    """The answer to it."""
    place = f"{url}/chat/completions"
    return httpx.post(place, json=body, headers=headers, timeout=WAIT_S, trust_env=False)


def refuses(url: str) -> bool:
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname or "", parts.port or 0), WAIT_S).close()
    except ConnectionError:
        return True
    return False


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_drains(tmp_path: Path, number: int, code: int) -> None:
    """Nobody new gets in, what is at hand is finished, and the process ends well."""
    with command(tmp_path, "gated") as running:
        url = running.url()
        client, lines = opened(url)
        with contextlib.closing(client):
            event_of(lines)
            gate, _ = running.gate.accept()
            running.process.send_signal(number)
            while not refuses(url):
                pass
            gate.close()
            rest = lines.read().decode()
        ended, written = running.end()
    assert '"content":"there"' in rest
    assert rest.endswith("data: [DONE]\n\n")
    assert ended == code, written
    assert "Traceback" not in written


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    """What is at hand is told so."""
    with command(tmp_path, "gated") as running:
        url = running.url()
        client, lines = opened(url)
        with contextlib.closing(client):
            event_of(lines)
            gate, _ = running.gate.accept()
            running.process.terminate()
            while not refuses(url):
                pass
            running.process.terminate()
            assert event_of(lines)["error"]["code"] == "shutting_down"
            ended, written = running.end()
            gate.close()
    assert ended == 0, written
    assert "Traceback" not in written


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="there is no SIGHUP here")
def test_a_hangup_has_the_file_read_again(tmp_path: Path) -> None:
    """What it says now is served, without an interruption."""
    with command(tmp_path, "plain") as running:
        url = running.url()
        body = said("hi")
        answer = posted(url, body)
        assert answer.headers["x-greenroom-member"] == "plain"
        text = MEMBER.format(name="plain").replace('name = "plain"', 'name = "other"')
        running.file.write_text(text)
        running.process.send_signal(signal.SIGHUP)
        while answer.headers["x-greenroom-member"] != "other":
            answer = posted(url, body)
            assert answer.status_code == 200
        running.process.terminate()
        assert running.end()[0] == 0


def test_the_key_comes_from_the_environment_and_is_never_shown(tmp_path: Path) -> None:
    """Neither the right one nor a wrong one, in no line of the whole log."""
    options = ("--key-env", "SERVED", "--model", "gpt-5", "-vv")
    with command(tmp_path, "plain", *options, SERVED=KEY) as running:
        url = running.url()
        right = posted(url, said(model="gpt-5"), authorization=f"Bearer {KEY}")
        wrong = posted(url, said(), authorization="Bearer sk-other")
        running.process.terminate()
        ended, written = running.end()
    assert (right.status_code, wrong.status_code, ended) == (200, 401, 0)
    assert "pool.started" in written
    assert KEY not in written
    assert "sk-other" not in written


REFUSED: list[tuple[tuple[str, ...], str]] = [
    (("-c", "nowhere.toml"), "nowhere.toml: No such file or directory"),
    (("--key-env", "NOT_SET_HERE"), "NOT_SET_HERE is not"),
    (("--host", "0.0.0.0"), "unless there is a key, or without_key is set: got '0.0.0.0'"),
    (("--host", "192.0.2.1", "--without-key"), "cannot listen at 192.0.2.1:0"),
    (("--port", "70000"), "port must be at most 65535, got 70000"),
    (("--drain", "-1"), "drain_s must be at least 0, got -1.0"),
]


@pytest.mark.parametrize(("arguments", "words"), REFUSED, ids=[each[1] for each in REFUSED])
def test_what_cannot_be_served_is_said_in_one_line(
    tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    """With exit code 2, and without a traceback."""
    with command(tmp_path, "plain", *arguments) as running:
        ended, written = running.end()
    assert ended == 2
    assert words in written
    assert "Traceback" not in written


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    """Is said to be."""
    with served(Member("m", echo)) as server:
        port = str(server.address[1])
        with command(tmp_path, "plain", "--port", port) as running:
            ended, written = running.end()
    assert ended == 2
    assert f"cannot listen at 127.0.0.1:{port}" in written
