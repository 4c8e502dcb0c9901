"""Many requests at once through pools that everything goes wrong with: each span ends once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Any

import pytest
from helpers_pools import WAIT_S, ranked
from helpers_telemetry import Telling

from greenroom import Member, PoolRef, Request
from greenroom.testing import http_error

REQUESTS = 400


class Stormy:
    """Agents that answer, fail, break off or wait, each by the next draw of their own."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)

    def _raise(self) -> None:
        draw = self._rng.random()
        if draw < 0.15:
            raise ConnectionError("down")
        if draw < 0.2:
            raise http_error(400)
        if draw < 0.25:
            raise http_error(429, retry_after_s=0.01)

    def in_thread(self, payload: Any) -> Any:
        self._raise()
        return payload

    async def on_loop(self, payload: Any) -> Any:
        await asyncio.sleep(self._rng.choice((0.0, 0.0, 0.01)))
        self._raise()
        return payload

    def chunks(self, payload: Any) -> Iterator[Any]:
        for number in range(4):
            yield number
            self._raise()

    async def achunks(self, payload: Any) -> AsyncIterator[Any]:
        for number in range(4):
            yield number
            await asyncio.sleep(0)
            self._raise()


async def one(pool: PoolRef, rng: random.Random, number: int) -> None:
    """A request in one of the ways there are, which may be left in the midst of it."""
    timeout = rng.choice((None, None, 0.005))
    request: Request[Any] = Request(number, max_retries=rng.randrange(4))
    match rng.randrange(6):
        case 0 | 1:
            await pool.aask(request, timeout=timeout)
        case 2:
            pool.tell(request)
        case 3:
            async with pool.stream(request, timeout=timeout) as stream:
                async for _ in stream:
                    if rng.random() < 0.2:
                        break
        case 4:
            async for attempt in pool.attempts(timeout=timeout):
                async with attempt:
                    await asyncio.sleep(0)
                    if rng.random() < 0.3:
                        raise ConnectionError("the block's own")
        case _:
            task = asyncio.create_task(pool.aask(request))
            await asyncio.sleep(0)
            task.cancel()
            await task


@pytest.mark.parametrize("seed", range(4))
def test_in_a_storm_each_span_is_ended_once(seed: int) -> None:
    """Asked, told, streamed, leased, cancelled, out of time, restarted, and a pool that stops."""
    rng, telling, storm = random.Random(seed), Telling(), Stormy(seed)

    async def main(pool: PoolRef) -> None:
        async def guarded(number: int) -> None:
            with suppress(Exception, asyncio.CancelledError):
                await one(pool, rng, number)

        for start in range(0, REQUESTS, 50):
            await asyncio.gather(*(guarded(start + number) for number in range(50)))
            if rng.random() < 0.5:
                pool.force_open("b")
                pool.reset_member("b")
            if rng.random() < 0.3:
                pool.remove_member("d")
                pool.add_member(Member("d", storm.achunks, max_concurrency=4))

    members = [
        *ranked(a=storm.in_thread, b=storm.on_loop, c=storm.chunks, d=storm.achunks),
    ]
    with telling.pool(
        *members,
        strategy="round_robin",
        event_loop="own",
        hedge_after_s=0.005,
        retry_delay_s=0.001,
        max_pending=100,
        circuit_reset_timeout_s=0.01,
    ) as pool:
        asyncio.run(asyncio.wait_for(main(pool), 6 * WAIT_S))
        for number in range(20):
            pool.tell(Request(number))
    balance, spans = telling.balance, telling.exporter.get_finished_spans()
    assert balance.is_even
    assert balance.begun > REQUESTS
    requests = [each for each in spans if each.name == "invoke_agent pool"]
    attempts = [each for each in spans if each.name.startswith("attempt ")]
    assert len(requests) + len(attempts) == len(spans)
    known = {(each.context.trace_id, each.context.span_id) for each in requests}
    parents = {(each.parent.trace_id, each.parent.span_id) for each in attempts if each.parent}
    assert parents <= known
    assert all((each.end_time or 0) >= (each.start_time or 0) for each in spans)
