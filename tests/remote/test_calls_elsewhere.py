"""The two ends of a call, with an engine in memory between them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from helpers_remote import MemoryEngine, in_a_loop, until

from greenroom import (
    AgentPool,
    CallContext,
    Member,
    PayloadError,
    PoolConfig,
    PoolRef,
    RemoteError,
    Request,
    StreamInterruptedError,
)
from greenroom.messages.errors import AllPoolMembersFailedError
from greenroom.remote.caller_call import CallerCall, Failure, Over, Part
from greenroom.remote.frames import Chunk, End, MayStart
from greenroom.remote.remote_agent import RemoteAgent
from greenroom.remote.worker import desk_of, worker_pool
from greenroom.testing import http_error


class Pair:
    """A worker, and a pool with the remote agent of it as its only member."""

    def __init__(self, engine: MemoryEngine, agent: RemoteAgent, pool: PoolRef, desk: Any) -> None:
        self.engine = engine
        self.agent = agent
        self.pool = pool
        self.desk = desk


@asynccontextmanager
async def pair(
    served: Any, *, config: PoolConfig | None = None, queue: int | None = None, **member: Any
) -> AsyncIterator[Pair]:
    engine = MemoryEngine()
    config = config or PoolConfig(max_retries=0)
    async with worker_pool(Member("w", served, **member)) as inner:
        desk = await desk_of(inner, queue=queue)
        await engine.listen(desk)
        agent = RemoteAgent.over(engine, engine.codec)
        async with AgentPool.start([Member("far", agent)], config=config) as pool:
            yield Pair(engine, agent, pool, desk)
        await agent.aclose()


def why(error: BaseException) -> RemoteError:
    """What the far end has said."""
    assert isinstance(error, AllPoolMembersFailedError)
    found = error.errors[0].error
    assert isinstance(found, RemoteError)
    return found


@in_a_loop
async def test_b422_an_answer_from_elsewhere() -> None:
    """A call goes there and its answer comes back, with what the agent has been told and says."""

    async def agent(payload: Any, call: CallContext) -> Any:
        call.describe(model="m", usage={"tokens": 3})
        assert call.remaining_s is not None
        assert 0 < call.remaining_s <= 7
        return [payload, call.key, call.priority, call.metadata["tenant"], call.idempotent]

    async with pair(agent) as far:
        metadata = {"tenant": "acme", "socket": object()}  # the second stays here
        request = Request({"a": [1, 2.5, None]}, key="k", priority=3, timeout=7, metadata=metadata)
        reply = await far.pool.aask(request)
        assert reply.value == [{"a": [1, 2.5, None]}, "k", 3, "acme", True]
        assert dict(reply.metadata) == {"model": "m", "usage": {"tokens": 3}}


@in_a_loop
async def test_b423_an_error_keeps_its_kind() -> None:
    """What the agent raises is at the caller of the kind that it is there, with its wait."""
    fails: list[Exception] = []

    async def agent(payload: Any) -> Any:
        raise fails[0]

    for error, kind, wait in (
        (http_error(429, retry_after_s=7.0), "rate_limited", 7.0),
        (ConnectionError("no route"), "unavailable", None),
        (TimeoutError("late"), "timeout", None),
        (http_error(413), "too_large", None),
        (http_error(401), "auth", None),
    ):
        async with pair(agent) as far:
            fails[:] = [error]
            with pytest.raises(AllPoolMembersFailedError) as raised:
                await far.pool.aexecute("x")
            said = why(raised.value)
            assert (said.kind, said.type) == (kind, type(error).__name__)
            assert raised.value.errors[0].kind == kind
            assert raised.value.errors[0].retry_after_s == wait
            assert said.started
    async with pair(agent) as far:
        fails[:] = [http_error(400)]
        with pytest.raises(RemoteError) as caller:  # the fault of whoever asks is told as it is
            await far.pool.aexecute("x")
        assert caller.value.kind == "caller"


@in_a_loop
async def test_b424_what_the_format_cannot_carry_is_the_requests_fault() -> None:
    """It is refused before anything is sent, and blames no member."""

    async def agent(payload: Any) -> Any:
        return object() if payload == "answer" else payload

    async with pair(agent) as far:
        for payload, said in (
            (object(), "a object in it"),
            ([1, {"a": float("nan")}], "not finite"),
            ({1: "a"}, "a dict with a key that is a int"),
            (b"bytes", "a bytes in it"),
            ("\ud800", "surrogate"),
        ):
            with pytest.raises(PayloadError, match=said):
                await far.pool.aexecute(payload)
        assert far.engine.kinds() == []
        assert far.pool.stats()["far"].health.failures == 0
        with pytest.raises(AllPoolMembersFailedError) as raised:
            await far.pool.aexecute("answer")
        assert why(raised.value).started
        assert "a object in it" in why(raised.value).text


@in_a_loop
async def test_b425_a_cancelled_call_is_cancelled_there() -> None:
    """So is one that is out of time; the slot there is free."""
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def agent(payload: Any) -> Any:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with pair(agent) as far:
        for timeout in (None, 0.05):
            begun.clear()
            cancelled.clear()
            asking = asyncio.ensure_future(far.pool.aask(Request("x", timeout=timeout)))
            await begun.wait()
            if timeout is None:
                asking.cancel()
            with pytest.raises((asyncio.CancelledError, TimeoutError)):
                await asking
            await cancelled.wait()
            await until(lambda: far.desk.running == 0)


@in_a_loop
async def test_b426_what_is_not_idempotent_begins_upon_the_callers_word() -> None:
    """One whose caller has given it up meanwhile never begins, nor one whose caller is gone."""
    began = 0

    async def agent(payload: Any) -> Any:
        nonlocal began
        began += 1
        return payload

    once = Request("x", idempotent=False)
    async with pair(agent) as far:
        assert (await far.pool.aask(once)).value == "x"
        assert far.engine.kinds() == ["Call", "MayStart", "Go", "Value"]
        for how in ("cancelled", "lost"):
            far.engine.said.clear()
            far.engine.holds = (MayStart,)
            asking = asyncio.ensure_future(far.pool.aask(once))
            await until(lambda: "MayStart" in far.engine.kinds())
            if how == "cancelled":
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)
                await until(lambda: "Cancel" in far.engine.kinds())
            else:
                far.engine.lose()
                with pytest.raises(AllPoolMembersFailedError) as raised:
                    await asking
                assert not raised.value.started  # so another member may have it
            far.engine.release()
            await until(lambda: far.desk.running == 0)
            assert began == 1


@in_a_loop
async def test_b427_a_stream_from_elsewhere() -> None:
    """Its chunks come in order; whoever leaves it ends it there; a slow reader is never more than
    300 behind the agent.
    """
    made, closed = 0, asyncio.Event()

    async def agent(payload: int) -> AsyncIterator[int]:
        nonlocal made
        try:
            for number in range(payload):
                made += 1
                yield number
        finally:
            closed.set()

    async with pair(agent) as far:
        assert await far.pool.stream(Request(1_000)).acollect() == list(range(1_000))
        made = 0
        closed.clear()
        async with far.pool.stream(Request(100_000)) as stream:
            assert [await anext(stream) for _ in range(10)] == list(range(10))
            await until(lambda: made >= 160)
            for _ in range(1_000):  # it may go on as far as it likes
                await asyncio.sleep(0)
            assert made <= 10 + 300
        await closed.wait()
        await until(lambda: far.desk.running == 0)
        assert await far.pool.aexecute(3) == [0, 1, 2]  # an ask collects it there


@in_a_loop
async def test_b428_a_stream_that_breaks_off_says_so() -> None:
    """The chunks before are kept, and the kind is right."""

    async def agent(payload: str) -> AsyncIterator[int]:
        yield 1
        yield 2
        if payload == "raise":
            raise http_error(503)
        await asyncio.Event().wait()

    async with pair(agent) as far:
        for how, kind in (("raise", "unavailable"), ("lose", "unavailable")):
            stream = far.pool.stream(Request(how))
            with pytest.raises(StreamInterruptedError) as raised:
                async for chunk in stream:
                    if chunk == 2 and how == "lose":
                        far.engine.lose()
            assert raised.value.received == (1, 2)
            cause = raised.value.__cause__
            assert isinstance(cause, RemoteError)
            assert cause.kind == kind


def test_b429_a_chunk_that_is_missing_is_a_cut() -> None:
    """So is an end that counts others."""
    course = CallerCall("w", wants_stream=True)
    assert course.hear(Chunk("a", 0, "x")) == Part("x")
    assert isinstance(course.hear(Chunk("a", 2, "y")), Failure)
    course = CallerCall("w", wants_stream=True)
    assert isinstance(course.hear(End("a", 1)), Failure)
    assert course.hear(End("a", 0)) == Over()


@in_a_loop
async def test_b430_a_worker_takes_as_many_as_its_member_and_as_many_more_wait() -> None:
    """The others hear that it is busy, which is no ill health; the caller learns the width."""
    gate = asyncio.Event()

    async def agent(payload: Any) -> Any:
        await gate.wait()
        return payload

    async with pair(agent, max_concurrency=2) as far:
        asked = [asyncio.ensure_future(far.pool.aexecute(n)) for n in range(4)]
        await until(lambda: far.engine.kinds().count("Call") == 4)
        assert far.desk.running == 2
        with pytest.raises(AllPoolMembersFailedError) as raised:
            await far.pool.aexecute("fifth")
        assert raised.value.errors[0].kind == "rate_limited"
        assert not raised.value.started
        gate.set()
        assert await asyncio.gather(*asked) == [0, 1, 2, 3]
        await until(lambda: far.pool.stats()["far"].max_concurrency == 2)
        assert far.pool.stats()["far"].health.circuit == "closed"


@in_a_loop
async def test_b431_a_worker_that_drains_ends_what_runs() -> None:
    """What comes new hears that it drains, and goes elsewhere."""
    gate = asyncio.Event()

    async def agent(payload: Any) -> Any:
        await gate.wait()
        return payload

    async with pair(agent) as far:
        asking = asyncio.ensure_future(far.pool.aexecute("x"))
        await until(lambda: far.desk.running == 1)
        draining = asyncio.ensure_future(far.desk.drained())
        await asyncio.sleep(0)
        assert (await far.agent.ask()).draining
        assert not await far.agent.can_serve()
        with pytest.raises(RemoteError, match="draining"):
            await far.agent.arun("y")
        gate.set()
        assert await asking == "x"
        await draining


@in_a_loop
async def test_b432_what_carries_the_calls_is_judged_before_a_member() -> None:
    """While it is away the member is unreachable: no breaker opens, no attempts are made."""

    async def agent(payload: Any) -> Any:
        return payload

    config = PoolConfig(max_retries=0, circuit_failure_threshold=1)
    async with pair(agent, config=config) as far:
        assert await far.pool.aexecute(1) == 1
        far.engine.go_away(True)
        with pytest.raises(AllPoolMembersFailedError):
            await far.pool.aexecute(2)
        await until(lambda: "far" not in far.pool.stats().available)
        far.engine.said.clear()
        for _ in range(5):
            with pytest.raises(AllPoolMembersFailedError) as raised:
                await far.pool.aexecute(2)
            assert raised.value.errors[0].kind == "unreachable"
        assert far.engine.kinds() == []
        stats = far.pool.stats()["far"]
        assert (stats.health.failures, stats.health.circuit) == (0, "closed")
        far.engine.go_away(False)
        await until(lambda: "far" in far.pool.stats().available)
        assert await far.pool.aexecute(3) == 3


@in_a_loop
async def test_b433_side_effects_are_told_and_in_a_thread_asked_for() -> None:
    """An agent in a thread waits for the caller's word; one on a loop tells, and goes on."""

    def in_thread(payload: Any, call: CallContext) -> Any:
        call.started_side_effects()
        raise ConnectionError("after the effects")

    async def on_loop(payload: Any, call: CallContext) -> Any:
        call.started_side_effects()
        raise ConnectionError("after the effects")

    for agent, said in ((in_thread, ["MayStart", "Go"]), (on_loop, ["Started"])):
        async with pair(agent, config=PoolConfig(max_retries=3)) as far:
            with pytest.raises(AllPoolMembersFailedError):
                await far.pool.aexecute("x")
            assert far.engine.kinds() == ["Call", *said, "Error"]  # and no second attempt


@in_a_loop
async def test_b434_what_an_agent_says_of_limits_reaches_the_caller() -> None:
    """Signs of life, what was spent, and what its provider says of limits."""

    async def agent(payload: Any, call: CallContext) -> Any:
        call.alive()
        call.spent(tokens=7)
        call.limits(cost="tokens", remaining=3, resets_in_s=60.0)
        return payload

    async with pair(agent) as far:
        assert await far.pool.aexecute("x") == "x"
        noted = [each for each in far.engine.said if type(each).__name__ == "Noted"]
        assert any(getattr(each, "alive", False) for each in noted)
        assert any(getattr(each, "spent", None) == {"tokens": 7} for each in noted)
        assert any(getattr(each, "limits", None) for each in noted)


@in_a_loop
async def test_b435_sync_agents_and_threads_are_served_as_well() -> None:
    """A worker's agent may be of any kind that a pool takes."""
    names: list[str] = []

    def agent(payload: str) -> str:
        names.append(threading.current_thread().name)
        return payload.upper()

    async with pair(agent, max_concurrency=2) as far:
        assert await asyncio.gather(*(far.pool.aexecute("ab") for _ in range(3))) == ["AB"] * 3
        assert all(name != threading.main_thread().name for name in names)


def test_b436_agents_may_be_called_from_several_loops() -> None:
    """Each has a connection of its own, and closes it."""

    class Counted(MemoryEngine):
        ways = 0

        def connect(self, **given: Any) -> Any:
            self.ways += 1
            return super().connect(**given)

    engine = Counted()

    async def once() -> None:
        async def agent(payload: Any) -> Any:
            return payload

        async with worker_pool(Member("w", agent)) as inner:
            await engine.listen(await desk_of(inner))
            assert await remote.arun("x") == "x"
            assert await remote.arun("y") == "y"
            await remote.aclose()

    remote = RemoteAgent.over(engine, engine.codec)
    asyncio.run(once())
    asyncio.run(once())
    assert engine.ways == 2
