"""Members in other processes, by every engine: what they do, and what dies with what."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from helpers_processes import PROCESS_S, bounded
from helpers_remote import in_a_loop
from helpers_remote_processes import Engine, Worker, worker

from greenroom import (
    AgentPool,
    AllPoolMembersFailedError,
    Member,
    PayloadError,
    PoolConfig,
    PoolRef,
    RemoteError,
    Request,
    StreamInterruptedError,
)

ALONE = PoolConfig(max_retries=0)
MANY = PoolConfig(retry_budget_floor=10_000.0)
"""More retries at a time than are usually allowed: two hundred calls fail at once."""


@pytest.fixture(scope="module")
def shared(engine: Engine) -> Iterator[Worker]:
    """A worker for the tests that leave it as it is."""
    with worker(engine) as started:
        yield started


def alone(engine: Engine, at: Worker, config: PoolConfig = ALONE, **given: Any) -> PoolRef:
    """A pool of that worker alone."""
    agent = engine.agent(at.url, **given)
    member = Member("far", factory=lambda: agent)  # so that it is closed at the end
    return AgentPool.start([member], config=config)


def both(engine: Engine, first: Worker, second: Worker, **config: Any) -> PoolRef:
    """A pool that asks the first as long as that answers."""
    members = [
        Member("first", factory=lambda: engine.agent(first.url), max_concurrency=400),
        Member("second", factory=lambda: engine.agent(second.url), max_concurrency=400),
    ]
    return AgentPool.start(members, strategy="failover", config=MANY.replace(**config))


@in_a_loop
async def test_b437_answers_streams_and_what_is_long(engine: Engine, shared: Worker) -> None:
    """Values of all kinds, a payload and an answer of two million bytes, a stream, a deadline."""
    async with alone(engine, shared) as pool:
        value = {"a": [1, -2.5, None, True, "é\n\u2028"], "b": {}}
        assert await pool.aexecute({"do": "echo", "value": value}) == value
        assert await pool.aexecute({"do": "length", "value": "é" * 2_000_000}) == 2_000_000
        assert await pool.aexecute({"do": "long", "n": 2_000_000}) == "x" * 2_000_000
        assert await pool.stream(Request({"n": 500})).acollect() == list(range(500))
        left = (await pool.aask(Request({"do": "left"}, timeout=30.0))).value
        assert 20 < left <= 30


@in_a_loop
async def test_b437_errors_keep_their_kind(engine: Engine, shared: Worker) -> None:
    """And their Retry-After."""
    for status, kind in ((503, "unavailable"), (401, "auth"), (413, "too_large")):
        async with alone(engine, shared) as pool:
            with pytest.raises(AllPoolMembersFailedError) as raised:
                await pool.aexecute({"do": "raise", "status": status})
            assert raised.value.errors[0].kind == kind
            assert raised.value.errors[0].started
    async with alone(engine, shared) as pool:
        with pytest.raises(RemoteError) as caller:
            await pool.aexecute({"do": "raise", "status": 400})
        assert caller.value.kind == "caller"
        with pytest.raises(AllPoolMembersFailedError, match="a object in it"):
            await pool.aexecute({"do": "object"})
        with pytest.raises(PayloadError):
            await pool.aexecute({"do": object()})


@in_a_loop
async def test_b437_a_rate_limit_keeps_its_wait(engine: Engine) -> None:
    """The member rests here for as long as it was told there."""
    with worker(engine) as at:
        async with alone(engine, at) as pool:
            with pytest.raises(AllPoolMembersFailedError) as raised:
                await pool.aexecute({"do": "raise", "status": 429, "after": 60})
            assert raised.value.errors[0].kind == "rate_limited"
            assert raised.value.errors[0].retry_after_s == 60


@in_a_loop
async def test_b438_a_slow_consumer_is_never_far_behind(engine: Engine, shared: Worker) -> None:
    """The agent of a stream that is read slowly is at most 300 chunks ahead."""
    async with alone(engine, shared) as pool:
        _, before = await pool.aexecute({"do": "counts"})
        async with pool.stream(Request({"n": 100_000})) as stream:
            for _ in range(200):
                await anext(stream)
            made = [0, 1]
            while made[-1] != made[-2]:  # until it stands still
                await asyncio.sleep(0.05)
                made.append((await pool.aexecute({"do": "counts"}))[1] - before)
            assert made[-1] <= 200 + 300


@in_a_loop
async def test_b439_a_worker_that_is_killed(
    engine: Engine, record_property: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two hundred calls that it had are answered by the other."""
    with worker(engine, "a", hangs=["name"]) as a, worker(engine, "b") as b:
        async with both(engine, a, b) as pool:
            asked = [asyncio.ensure_future(pool.aexecute({"do": "name"})) for _ in range(200)]
            await asyncio.to_thread(a.heard, 200, begun=None)
            a.process.kill()
            killed = time.monotonic()
            await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
            first_s = time.monotonic() - killed
            assert await asyncio.gather(*asked) == ["b"] * 200
            all_s = time.monotonic() - killed
    record_property("first_s", first_s)
    with capsys.disabled():
        print(f"\n{engine.name}: 200 in flight, first after {first_s:.3f} s, all {all_s:.3f} s")


@in_a_loop
async def test_b440_a_stream_that_its_worker_does_not_survive(engine: Engine) -> None:
    """What came before is kept, and the cut is the worker's fault."""
    with worker(engine) as at:
        async with alone(engine, at) as pool:
            stream = pool.stream(Request({"n": 10, "halt": 4}))
            with pytest.raises(StreamInterruptedError) as raised:
                async for chunk in stream:
                    if chunk == 4:
                        at.process.kill()
            assert raised.value.received == (0, 1, 2, 3, 4)
            cause = raised.value.__cause__
            assert isinstance(cause, RemoteError)
            assert cause.kind == "unavailable"


@in_a_loop
async def test_b441_a_worker_that_is_told_to_end(engine: Engine) -> None:
    """What is at hand is answered, what comes new goes elsewhere, and it ends well."""
    with worker(engine, "a") as a, worker(engine, "b") as b:
        async with both(engine, a, b) as pool:
            assert await pool.aexecute({"do": "name"}) == "a"
            at_hand = asyncio.ensure_future(pool.aexecute({"do": "sleep", "s": 1.0}))
            await asyncio.to_thread(a.heard, begun=None)
            a.signal(signal.SIGTERM)
            while await pool.aexecute({"do": "name"}) == "a":  # until it has heard
                pass
            assert await at_hand == "a"
            assert await asyncio.to_thread(a.process.wait, PROCESS_S) == 0
            await asyncio.to_thread(a.heard, ended="15")


@in_a_loop
async def test_b442_a_call_that_is_not_idempotent_never_begins_for_nobody(engine: Engine) -> None:
    """One that was given up while it waited there for its turn does not begin when that comes."""
    with worker(engine, width=1, queue=10) as at:
        async with alone(engine, at) as pool:
            holding = asyncio.ensure_future(pool.aexecute({"do": "sleep", "id": "first"}))
            await asyncio.to_thread(at.heard, begun="first")
            given_up = [
                asyncio.ensure_future(
                    pool.aask(
                        Request({"do": "sleep", "id": "never"}, idempotent=False, timeout=timeout)
                    )
                )
                for timeout in (0.05, None, 0.1, None)
            ]
            await asyncio.sleep(0)
            for each in given_up[1::2]:
                each.cancel()
            await asyncio.gather(*given_up, return_exceptions=True)
            holding.cancel()
            await asyncio.gather(holding, return_exceptions=True)
            once = Request({"do": "counts"}, idempotent=False)
            assert (await pool.aask(once)).value[0] == 2
            assert at.count("begun") == 1


def test_b443_a_wrong_key(engine: Engine) -> None:
    """It is refused, as one that a provider refuses: the breaker opens at once."""
    if engine.name != "http":
        pytest.skip(f"{engine.name} has no bearer token: its server sees to that")
    with worker(engine, key="right-key-123") as at:
        for key in (None, "wrong-key-456"):
            with alone(engine, at, key=key) as pool:
                with pytest.raises(AllPoolMembersFailedError) as raised:
                    pool.execute({"do": "name"})
                assert raised.value.errors[0].kind == "auth"
                assert not raised.value.started
                assert pool.stats()["far"].circuit == "open"
                assert "key-456" not in str(raised.value)
        with alone(engine, at, key="right-key-123") as pool:
            assert pool.execute({"do": "name"}) == "w"


_CALLER = """
import asyncio, json, sys
from greenroom import AgentPool, Member, RemoteAgent, Request
url, given = sys.argv[1], json.loads(sys.argv[2])
async def main():
    async with AgentPool.start([Member("far", RemoteAgent(url, **given))]) as pool:
        async def read():
            async for chunk in pool.stream(Request({"n": 10, "halt": 1})):
                pass
        await asyncio.gather(*(pool.aexecute({"do": "sleep", "id": n}) for n in range(5)), read())
asyncio.run(main())
"""


def test_b444_a_caller_that_is_killed(
    engine: Engine, capsys: pytest.CaptureFixture[str], takes_seconds: None
) -> None:
    """Its calls at the worker are cancelled."""
    with worker(engine) as at:
        given = getattr(engine, "given", {})
        command = [sys.executable, "-c", _CALLER, at.url, json.dumps(given)]
        process = subprocess.Popen(command)
        with bounded(process):
            for n in range(5):
                at.heard(begun=n)
            process.kill()
            killed = time.monotonic()
            for n in range(5):
                at.heard(cancelled=n)
            with capsys.disabled():
                print(f"\n{engine.name}: cancelled {time.monotonic() - killed:.3f} s later")


@in_a_loop
async def test_b445_a_worker_that_stands_still(
    engine: Engine, capsys: pytest.CaptureFixture[str], takes_seconds: None
) -> None:
    """It is found out by its silence, and its calls go elsewhere."""
    with worker(engine, "a", hangs=["name"]) as a, worker(engine, "b") as b:
        async with both(engine, a, b) as pool:
            asked = [asyncio.ensure_future(pool.aexecute({"do": "name"})) for _ in range(20)]
            await asyncio.to_thread(a.heard, 20, begun=None)
            a.signal(signal.SIGSTOP)
            stopped = time.monotonic()
            assert await asyncio.gather(*asked) == ["b"] * 20
            with capsys.disabled():
                print(f"\n{engine.name}: found out after {time.monotonic() - stopped:.3f} s")


@in_a_loop
async def test_b446_long_calls_are_held_by_beats(engine: Engine, takes_seconds: None) -> None:
    """A call, and a stream between two chunks, may be silent for longer than a loss takes."""
    with worker(engine) as at:
        async with alone(engine, at) as pool:
            assert await pool.aexecute({"do": "sleep", "s": 3.5}) == "w"
