"""What is really gone: a process that dies, an `AsyncClient` that has been closed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from helpers_pools import WAIT_S, ask, echo, pool_of

from greenroom import (
    AgentLostError,
    AllPoolMembersFailedError,
    Apply,
    CircuitState,
    Member,
    PoolRef,
)
from greenroom.messages import MemberAgentLost
from greenroom.testing import EventRecorder, FakeClock

pytestmark = pytest.mark.usefixtures("agents_loop")

PEER = """
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message["method"] == "session/prompt" and message["params"] == "die":
        sys.exit(3)
    if message["params"] != "hang":
        print(json.dumps({"id": message["id"], "result": message["params"].upper()}), flush=True)
"""
"""An agent over stdio, as far as that matters here: JSON-RPC, a message a line."""


class Session:
    """A client of such a process, many of whose requests may be under way.

    Args:
        silent: raises what the pipe raises, where it should say what that means.
    """

    def __init__(self, process: Process, silent: bool) -> None:
        self.process = process
        self.closes = 0
        self._silent = silent
        self._numbers = iter(range(1, 1000))
        self._waiting: dict[int, asyncio.Future[str]] = {}
        self._reader = asyncio.create_task(self._read())

    @property
    def pid(self) -> int:
        return self.process.pid

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            message = json.loads(line)
            self._waiting.pop(message["id"]).set_result(message["result"])
        for future in self._waiting.values():
            future.set_exception(self._gone())

    def _gone(self) -> Exception:
        if self._silent:
            return EOFError("the pipe has ended")
        return AgentLostError(f"process {self.pid} has ended")

    async def arun(self, prompt: str) -> str:
        assert self.process.stdin is not None
        if self._reader.done():
            raise self._gone()
        number = next(self._numbers)
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        message = {"id": number, "method": "session/prompt", "params": prompt}
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        await self.process.stdin.drain()
        return await answer

    async def aclose(self) -> None:
        self.closes += 1
        self._reader.cancel()
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()


class Launcher:
    """Starts them; the event loop that runs the agents has to run."""

    def __init__(self, silent: bool = False) -> None:
        self.made: list[Session] = []
        self._silent = silent

    async def __call__(self) -> Session:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-IS", "-c", PEER, stdin=PIPE, stdout=PIPE
        )
        self.made.append(Session(process, self._silent))
        return self.made[-1]

    @contextlib.asynccontextmanager
    async def entered(self) -> AsyncIterator[Session]:
        """The same for who prefers a context manager."""
        session = await self()
        try:
            yield session
        finally:
            await session.aclose()


FACTORIES: dict[str, Callable[[Launcher], Callable[[], Any]]] = {
    "returned": lambda launcher: launcher,
    "entered": lambda launcher: launcher.entered,
}


@pytest.mark.parametrize("isolated", [False, True], ids=["", "isolated"])
@pytest.mark.parametrize("way", FACTORIES)
def test_b255_a_process_that_dies_is_started_anew(way: str, isolated: bool) -> None:
    """By a request that ends it, and between two requests, from outside; each is waited for."""
    launcher = Launcher()
    member = Member("acp", factory=FACTORIES[way](launcher), isolated=isolated)
    with pool_of(member, Member("b", echo, priority=1)) as pool:
        assert pool.execute("one", timeout=WAIT_S) == "ONE"
        assert ask(pool, "die").get(timeout=WAIT_S).member == "b"
        pool.stats()  # the failure has been judged
        assert pool.execute("two", timeout=WAIT_S) == "TWO"
        os.kill(launcher.made[1].pid, signal.SIGKILL)
        while pool.execute("three", timeout=WAIT_S) != "THREE" or len(launcher.made) < 3:
            pool.stats()  # whether it has died by then is up to the system
        assert pool.stats()["acp"].agents_lost == 2
    assert [each.closes for each in launcher.made] == [1, 1, 1]
    assert all(each.process.returncode is not None for each in launcher.made)


def test_b256_what_is_under_way_when_a_process_dies_brings_one_new_process(
    log: EventRecorder,
) -> None:
    """All of it has failed by the one loss."""
    launcher = Launcher()
    member = Member("acp", factory=launcher, max_concurrency=20)
    with pool_of(member, Member("b", echo, priority=1), retry_budget_floor=100.0) as pool:
        assert pool.execute("one", timeout=WAIT_S) == "ONE"
        pool.stats()
        hanging = [ask(pool, "hang") for _ in range(10)]
        assert ask(pool, "die").get(timeout=WAIT_S).value == "die"
        assert {each.get(timeout=WAIT_S).value for each in hanging} == {"hang"}
        pool.stats()
        assert pool.execute("two", timeout=WAIT_S) == "TWO"
        stats = pool.stats()["acp"]
        assert (stats.failures, stats.circuit) == (1, CircuitState.CLOSED)
    assert len(launcher.made) == 2
    assert len(log.named(MemberAgentLost)) == 1


def through_the_breaker(pool: PoolRef, clock: FakeClock, fail: Callable[[], object]) -> None:
    """It opens, and its time is over."""
    while pool.stats()["lazy"].circuit is not CircuitState.OPEN:
        fail()
    while pool.stats()["lazy"].circuit is not CircuitState.HALF_OPEN:
        clock.advance(1.0)


def test_b257_a_process_whose_client_says_nothing_is_started_anew_at_the_trial() -> None:
    """The client's own `EOFError` is all that there is."""
    clock, launcher = FakeClock(), Launcher(silent=True)
    with pool_of(Member("lazy", factory=launcher), clock=clock, max_retries=0) as pool:
        assert pool.execute("one", timeout=WAIT_S) == "ONE"

        def fail() -> None:
            with contextlib.suppress(AllPoolMembersFailedError):
                pool.execute("die", timeout=WAIT_S)

        through_the_breaker(pool, clock, fail)
        assert len(launcher.made) == 1
        assert pool.execute("two", timeout=WAIT_S) == "TWO"
    assert [each.closes for each in launcher.made] == [1, 1]


class Model:
    """An app's agent, with a client in it."""

    def __init__(self) -> None:
        transport = httpx.MockTransport(lambda request: httpx.Response(200, text="answer"))
        self.client = httpx.AsyncClient(transport=transport)

    async def arun(self, payload: str) -> str:
        if payload == "close":
            await self.client.aclose()
        return (await self.client.post("http://model/", content=payload)).text


CLOSED = "Cannot send a request, as the client has been closed"


def test_b255_a_client_that_was_closed_is_made_anew_at_once_where_a_member_says_so() -> None:
    """httpx raises a plain RuntimeError: a function tells it apart."""
    made: list[Model] = []

    def factory() -> Model:
        made.append(Model())
        return made[-1]

    member = Member("lazy", factory=factory, lost=lambda error: CLOSED in str(error))
    with pool_of(member, max_retries=0) as pool:
        assert pool.execute("x", timeout=WAIT_S) == "answer"
        with pytest.raises(AllPoolMembersFailedError, match="has been closed"):
            pool.execute("close", timeout=WAIT_S)
        assert pool.execute("x", timeout=WAIT_S) == "answer"
        assert len(made) == 2


def test_b257_a_client_that_was_closed_is_made_anew_at_the_trial() -> None:
    """Without a word of the app's: it is its own agent, entered by the pool."""
    clock = FakeClock()
    made: list[httpx.AsyncClient] = []

    def factory() -> httpx.AsyncClient:
        transport = httpx.MockTransport(lambda request: httpx.Response(200, text="answer"))
        made.append(httpx.AsyncClient(transport=transport))
        return made[-1]

    async def get(client: httpx.AsyncClient) -> str:
        return (await client.get("http://model/")).text

    async def close(client: httpx.AsyncClient) -> str:
        await client.aclose()
        return await get(client)

    with pool_of(Member("lazy", factory=factory), clock=clock, max_retries=0) as pool:
        assert pool.ask(Apply(get), timeout=WAIT_S).value == "answer"

        def fail() -> None:
            with contextlib.suppress(AllPoolMembersFailedError):
                pool.ask(Apply(close), timeout=WAIT_S)

        through_the_breaker(pool, clock, fail)
        assert len(made) == 1
        assert pool.ask(Apply(get), timeout=WAIT_S).value == "answer"
        assert len(made) == 2
    assert all(each.is_closed for each in made)
