"""A NATS server that is killed, stopped or cut off while members are called through it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers_nats import free_port, nats_server, needs_nats
from helpers_remote import in_a_loop, until
from helpers_remote_processes import NatsEngine, Worker, worker

from greenroom import AgentPool, Event, Member, PoolConfig, PoolRef, Request
from greenroom.events import (
    AttemptStarted,
    BreakerOpened,
    MemberReachable,
    MemberUnreachable,
)
from greenroom.remote.codec import JsonCodec
from greenroom.remote.frames import Call
from greenroom.remote.links import EngineAway
from greenroom.remote.nats_call import NatsCall
from greenroom.remote.nats_link import NatsLink

ASKING = 10
CONFIG = PoolConfig(retry_budget_floor=10_000.0)
FAR = ("first", "second")


class Outage:
    """Two members behind one server, one here, and tasks that ask them all the time.

    Attributes:
        events: what has happened, and when.
    """

    def __init__(self, engine: NatsEngine, first: Worker, second: Worker) -> None:
        self.events: list[tuple[float, Event]] = []
        members = [
            Member("first", factory=lambda: engine.agent(first.url), max_concurrency=400),
            Member("second", factory=lambda: engine.agent(second.url), max_concurrency=400),
            Member("here", _here, max_concurrency=400),
        ]
        self.pool: PoolRef = AgentPool.start(members, strategy="failover", config=CONFIG)
        self.pool.on_event(lambda event: self.events.append((time.monotonic(), event)))
        self.answers: list[Any] = []
        self._is_over = False

    async def ask(self) -> None:
        while not self._is_over:
            request = Request({"do": "name"}, timeout=30.0)
            self.answers.append((await self.pool.aask(request)).value)

    def of(self, kind: type[Event], member: str) -> list[float]:
        return [at for at, each in self.events if type(each) is kind and each.member == member]

    @contextlib.asynccontextmanager
    async def asking(self) -> AsyncIterator[None]:
        """Every ask that has begun in the block has been answered when it is left."""
        tasks = [asyncio.ensure_future(self.ask()) for _ in range(ASKING)]
        try:
            yield
            self._is_over = True
            await asyncio.gather(*tasks)
        finally:
            for each in tasks:
                each.cancel()

    async def used(self, name: str, since: int) -> None:
        await until(lambda: name in self.answers[since:])


async def _here(payload: Any) -> str:
    await asyncio.sleep(0.005)
    return "here"


@contextlib.contextmanager
def _engine() -> Iterator[tuple[NatsEngine, Callable[[], Any]]]:
    """And how its server is started again."""
    needs_nats()
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()

        def start() -> Any:
            return nats_server(Path(folder), port)

        with start() as server:
            yield NatsEngine("127.0.0.1", port, server), start


@pytest.mark.parametrize(("how", "away_s"), [("killed", 0.8), ("killed", 6.0), ("stopped", 6.0)])
@in_a_loop
async def test_b462_a_server_that_is_away_costs_no_attempts_and_opens_no_breaker(
    how: str, away_s: float, takes_seconds: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every ask is answered, by whoever is left; when it is back its members are used again."""
    with (
        _engine() as (engine, start),
        worker(engine, "first") as first,
        worker(engine, "second") as second,
        contextlib.ExitStack() as stack,
    ):
        outage = Outage(engine, first, second)
        async with outage.pool, outage.asking():
            await outage.used("first", 0)
            began = time.monotonic()
            if how == "killed":
                engine.server.kill()
                engine.server.wait()
            else:
                engine.server.send_signal(signal.SIGSTOP)
            await asyncio.sleep(away_s)
            if how == "killed":
                await asyncio.to_thread(stack.enter_context, start())
            else:
                engine.server.send_signal(signal.SIGCONT)
            back = time.monotonic()
            await outage.used("first", len(outage.answers))
            used = time.monotonic()
            await until(lambda: all(outage.of(MemberReachable, name) for name in FAR))
        for name in FAR:
            (gone,) = outage.of(MemberUnreachable, name)[:1]
            (there,) = outage.of(MemberReachable, name)[-1:]
            assert began <= gone <= there
            assert there >= back
            begun = outage.of(AttemptStarted, name)
            # What was on its way to the router when the word came has been given out.
            while_away = [at for at in begun if gone < at < there]
            assert len(while_away) <= ASKING
            assert not [at for at in while_away if at > gone + 0.5]
            assert not outage.of(BreakerOpened, name)
        with capsys.disabled():
            gone = outage.of(MemberUnreachable, "first")[0]
            print(
                f"\nserver {how} for {away_s} s: away after {gone - began:.2f} s, used again "
                f"{used - back:.2f} s after it was back, {len(outage.answers)} answers"
            )


@in_a_loop
async def test_b463_calls_that_a_stopped_server_delivers_later_are_not_begun(
    takes_seconds: None,
) -> None:
    """Their callers have given them up, and another one may have had them since."""
    with _engine() as (engine, _), worker(engine) as at:
        away: list[bool] = []
        way = NatsLink(at.url, JsonCodec()).connect(on_away=away.append)
        first = await way.open(Call("first", {"do": "sleep", "id": "first"}))
        await asyncio.to_thread(at.heard, begun="first")
        _stop(engine)
        await _given_up([first, *[await way.open(_late(number)) for number in range(10)]])
        engine.server.send_signal(signal.SIGCONT)
        await until(lambda: away[-1:] == [False])
        await asyncio.to_thread(at.heard, cancelled="first")
        again = await way.open(Call("again", {"do": "counts"}))
        frame = await again.receive()
        assert getattr(frame, "value", None) == [2, 0], frame
        await way.close()


@in_a_loop
async def test_b463_calls_that_are_given_up_sooner_are_not_begun_either(
    takes_seconds: None,
) -> None:
    """The server had been silent for a while when they were sent, as its caller knew by another
    worker's call: it gives them up before they have been on their way for two seconds.
    """
    with _engine() as (engine, _), worker(engine) as busy, worker(engine) as at:
        away: list[bool] = []
        there = NatsLink(busy.url, JsonCodec()).connect(on_away=lambda _: None)
        way = NatsLink(at.url, JsonCodec()).connect(on_away=away.append)
        first = await there.open(Call("first", {"do": "sleep", "id": "first"}))
        await asyncio.to_thread(busy.heard, begun="first")
        await way.ask(20.0)  # so that it is called without being asked
        _stop(engine)
        await asyncio.sleep(0.5)
        await _given_up([first, *[await way.open(_late(number)) for number in range(10)]])
        engine.server.send_signal(signal.SIGCONT)
        await until(lambda: away[-1:] == [False])
        again = await way.open(Call("again", {"do": "counts"}))
        frame = await again.receive()
        assert getattr(frame, "value", None) == [1, 0], frame
        await way.close()
        await there.close()


def _late(number: int) -> Call:
    return Call(f"late {number}", {"do": "sleep", "id": f"late {number}"})


def _stop(engine: NatsEngine) -> None:
    """The server stands still when this returns: what is sent from now on it has not read."""
    engine.server.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, engine.server.pid, os.WSTOPPED)


async def _given_up(calls: list[NatsCall]) -> None:
    for each in calls:
        with pytest.raises(EngineAway) as lost:
            await each.receive()
        assert lost.value.reached
