"""A pool in a file over two real models, whose servers are killed. Behaviour 219.

`make test-model` has them; elsewhere all of this is skipped.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from greenroom import (
    AgentPool,
    AllPoolMembersFailedError,
    FailureKind,
    PoolRef,
    Request,
    StreamInterruptedError,
)
from greenroom.messages.events import AttemptStarted
from greenroom.testing import EventRecorder

pytest.importorskip("xllamacpp", reason="xllamacpp is not installed: make test-model has it")

WAIT_S = 120.0
"""How long is waited for what must come: a model on a busy machine takes its time."""
ROOM, MORE_ROOM = 512, 1024
"""Tokens that the two have room for, prompt and answer together."""
LONG = "params = { temperature = 0, ignore_eos = true, max_tokens = 300 }"
"""An answer of 300 tokens, whatever the model says: it takes long enough to be killed in."""
SHORT = "params = { temperature = 0, ignore_eos = true, max_tokens = 12 }"


class Server:
    """One in a process of its own."""

    def __init__(self, room: int) -> None:
        self._room = room
        self.port = 0
        self.start()

    def start(self) -> None:
        """Where it was, if it was anywhere."""
        command = [sys.executable, "-m", "real_clients.model_server", str(self._room)]
        self._process = subprocess.Popen(
            [*command, str(self.port)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        assert self.url, "the server has ended"
        self.port = int(self.url.rpartition(":")[2])

    def freeze(self) -> None:
        """It takes connections, as the system does for it, and says nothing."""
        os.kill(self._process.pid, signal.SIGSTOP)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(WAIT_S)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def is_running(self) -> bool:
        return self._process.poll() is None


@pytest.fixture(scope="module")
def all_servers() -> Iterator[dict[str, Server]]:
    made = {"a": Server(ROOM), "b": Server(MORE_ROOM)}
    yield made
    for server in made.values():
        if server.is_running():
            server.kill()


@pytest.fixture
def servers(all_servers: dict[str, Server]) -> dict[str, Server]:
    """Both at work, those that were killed among them."""
    for server in all_servers.values():
        if not server.is_running():
            server.start()
    return all_servers


def pool_file(servers: dict[str, Server], folder: Path, params: str, **settings: Any) -> Path:
    """Of a pool over these; the first is preferred."""
    settings = {"strategy": "priority", "request_timeout_s": int(WAIT_S), **settings}
    lines = ["[pool]", *(f"{key} = {value!r}" for key, value in settings.items())]
    for rank, (name, server) in enumerate(servers.items()):
        lines += ["[[members]]", f'name = "{name}"', 'kind = "openai"', 'model = "smollm2"']
        lines += [f'base_url = "{server.url}/v1"', f"priority = {rank}", 'on_length = "accept"']
        lines.append(params)
    file = folder / "pool.toml"
    file.write_text("\n".join(lines))
    return file


def pool_over(servers: dict[str, Server], folder: Path, params: str, **settings: Any) -> PoolRef:
    return AgentPool.from_toml(pool_file(servers, folder, params, **settings))


def asked(pool: PoolRef, prompt: str = "What is the capital of France?") -> Any:
    return pool.ask(Request(prompt), timeout=WAIT_S)


def test_a_model_answers_and_streams_the_same(servers: dict[str, Server], tmp_path: Path) -> None:
    """Without chance in it both say the same, at once and piece by piece."""
    with pool_over(servers, tmp_path, SHORT, strategy="round_robin") as pool:
        replies = [asked(pool), asked(pool)]
        chunks = [pool.stream(Request("What is the capital of France?")).collect() for _ in "ab"]
    assert [each.member for each in replies] == ["a", "b"]
    assert replies[0].value
    assert {each.value for each in replies} == {"".join(each) for each in chunks}
    assert all(len(each) > 3 for each in chunks)


def test_many_callers_have_an_answer_each(servers: dict[str, Server], tmp_path: Path) -> None:
    """Each server answers one at a time."""
    with (
        pool_over(servers, tmp_path, SHORT, strategy="least_outstanding") as pool,
        ThreadPoolExecutor(8) as threads,
    ):
        replies = list(threads.map(lambda at: asked(pool, f"Say the number {at}."), range(16)))
    assert all(each.value for each in replies)
    assert {each.member for each in replies} == {"a", "b"}


def test_a_server_that_is_killed_before_its_first_chunk_is_replaced(
    servers: dict[str, Server], tmp_path: Path
) -> None:
    """It has the request, and has said nothing: the next one answers."""
    with EventRecorder() as events, pool_over(servers, tmp_path, SHORT) as pool:
        servers["a"].freeze()
        stream = pool.stream(Request("What is the capital of France?"))
        events.wait_for(AttemptStarted, "a", timeout=WAIT_S)
        servers["a"].kill()
        assert "".join(stream)
        assert stream.member == "b"
        assert [each.kind for each in stream.errors] == [FailureKind.UNAVAILABLE]


def test_a_server_that_is_killed_in_the_middle_of_a_stream_is_told_of(
    servers: dict[str, Server], tmp_path: Path
) -> None:
    """With what has come; the next request is answered by the other, and by it again once it is
    back.
    """
    with pool_over(servers, tmp_path, LONG) as pool:
        stream = pool.stream(Request("Tell me a story."))
        chunks = [next(stream), next(stream)]
        servers["a"].kill()
        with pytest.raises(StreamInterruptedError) as caught:
            chunks.extend(stream)
        assert caught.value.received == tuple(chunks)
        assert stream.member == "a"
        assert asked(pool).member == "b"
        servers["a"].start()
        pool.reset_member("a")
        assert asked(pool).member == "a"


@pytest.mark.parametrize("on_cut", ["restart", "hold"])
def test_a_pool_can_start_over_where_a_server_is_killed(
    servers: dict[str, Server], tmp_path: Path, on_cut: str
) -> None:
    """The whole answer is the other's."""
    with EventRecorder() as events, pool_over(servers, tmp_path, LONG, on_cut=on_cut) as pool:
        stream = pool.stream(Request("Tell me a story."))
        if on_cut == "restart":
            next(stream)
        else:
            events.wait_for(AttemptStarted, "a", timeout=WAIT_S)
        servers["a"].kill()
        answer = "".join(stream.collect())
        whole = "".join(pool.stream(Request("Tell me a story.")).collect())
    assert stream.member == "b"
    assert answer == whole


def test_a_stream_that_is_left_leaves_the_server_free(
    servers: dict[str, Server], tmp_path: Path
) -> None:
    """It has room for one at a time."""
    with pool_over({"a": servers["a"]}, tmp_path, LONG) as pool:
        with pool.stream(Request("Tell me a story.")) as stream:
            next(stream)
        assert asked(pool).member == "a"


def test_a_prompt_that_does_not_fit_is_too_large(
    servers: dict[str, Server], tmp_path: Path
) -> None:
    """The other one has more room; what fits nowhere is said of both, and held against neither."""
    with pool_over(servers, tmp_path, SHORT) as pool:
        reply = asked(pool, "word " * 500)
        assert (reply.member, [each.kind for each in reply.errors]) == (
            "b",
            [FailureKind.TOO_LARGE],
        )
        for _ in range(6):
            with pytest.raises(AllPoolMembersFailedError) as caught:
                asked(pool, "word " * 2_000)
            assert [each.kind for each in caught.value.errors] == [FailureKind.TOO_LARGE] * 2
        assert asked(pool).member == "a"


def test_an_answer_that_runs_out_of_room_is_too_large(
    servers: dict[str, Server], tmp_path: Path
) -> None:
    """It ends with `length`, which the first is not allowed; the other has room for it."""
    params = "params = { temperature = 0, ignore_eos = true, max_tokens = 600 }"
    file = pool_file(servers, tmp_path, params)
    file.write_text(file.read_text().replace('"accept"', '"fail"', 1))
    with AgentPool.from_toml(file) as pool:
        reply = asked(pool)
    assert (reply.member, [each.kind for each in reply.errors]) == ("b", [FailureKind.TOO_LARGE])
