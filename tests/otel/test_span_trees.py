"""The spans of nine cases, as trees: who is whose child, how each ended, what it links to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from helpers_agents import AsyncHeld
from helpers_pools import WAIT_S, ask, echo, ranked
from helpers_telemetry import Telling

from greenroom import (
    DeadlineExceededError,
    PoolRef,
    Request,
    RequestCancelledError,
    StreamInterruptedError,
)
from greenroom.testing import FakeClock

Case = Callable[[Telling], None]


def fails(payload: Any) -> Any:
    raise ConnectionError("it is down")


def success(telling: Telling) -> None:
    def agent(payload: Any) -> Any:
        with telling.tracer.start_as_current_span("the agent's own"):
            return payload

    pool_of, caller = telling.pool, telling.tracer.start_as_current_span
    with pool_of(*ranked(a=agent)) as pool, caller("the caller"):
        assert pool.execute("x") == "x"


def failover(telling: Telling) -> None:
    with telling.pool(*ranked(a=fails, b=echo)) as pool:
        assert pool.execute("x") == "x"


def hedge(telling: Telling) -> None:
    clock, slow = FakeClock(), AsyncHeld()
    with telling.pool(*ranked(a=slow, b=echo), clock=clock, hedge_after_s=1.0) as pool:
        answer = ask(pool)
        slow.wait_entered()
        clock.advance(1.0)
        assert answer.get(timeout=WAIT_S).member == "b"


def stream(telling: Telling) -> None:
    def agent(payload: Any) -> Iterator[Any]:
        with telling.tracer.start_as_current_span("the agent's own"):
            yield from "abc"

    with telling.pool(*ranked(a=agent)) as pool:
        assert pool.stream(Request("x")).collect() == ["a", "b", "c"]


def stream_cut(telling: Telling) -> None:
    def agent(payload: Any) -> Iterator[Any]:
        yield "a"
        raise ConnectionError("it broke off")

    with telling.pool(*ranked(a=agent, b=echo)) as pool, pytest.raises(StreamInterruptedError):
        pool.stream(Request("x")).collect()


def cancel(telling: Telling) -> None:
    slow = AsyncHeld()
    with telling.pool(*ranked(a=slow)) as pool:
        answer = ask(pool)
        slow.wait_entered()
        assert answer.cancel()
        with pytest.raises(RequestCancelledError):
            answer.get(timeout=WAIT_S)


def deadline(telling: Telling) -> None:
    clock, slow = FakeClock(), AsyncHeld()
    with telling.pool(*ranked(a=slow), clock=clock) as pool:
        answer = ask(pool, timeout=5.0)
        slow.wait_entered()
        clock.advance(5.0)
        with pytest.raises(DeadlineExceededError):
            answer.get(timeout=WAIT_S)


def nested(telling: Telling) -> None:
    with (
        telling.pool(*ranked(x=fails, y=echo), name="inner") as inner,
        telling.pool(*ranked(a=inner), name="outer") as outer,
    ):
        assert outer.execute("x") == "x"


def attempts(telling: Telling) -> None:
    async def main(pool: PoolRef) -> None:
        with telling.tracer.start_as_current_span("the caller"):
            async for attempt in pool.attempts():
                async with attempt as agent:
                    with telling.tracer.start_as_current_span("in the block"):
                        await asyncio.sleep(0)
                        agent("x")
            with telling.tracer.start_as_current_span("behind the block"):
                pass

    with telling.pool(*ranked(a=fails, b=echo)) as pool:
        asyncio.run(main(pool))


TREES: dict[Case, list[str]] = {
    success: [
        "the caller",
        "  invoke_agent pool -> answered",
        "    attempt a #1 -> answered",
        "      the agent's own",
    ],
    failover: [
        "invoke_agent pool -> answered",
        "  attempt a #1 -> failed unavailable",
        "  attempt b #2 -> answered",
    ],
    hedge: [
        "invoke_agent pool -> answered",
        "  attempt a #1 -> lost_race",
        "  attempt b #2 hedge -> answered (hedges #1)",
    ],
    stream: [
        "invoke_agent pool -> answered",
        "  attempt a #1 -> answered (first_chunk)",
        "    the agent's own",
    ],
    stream_cut: [
        "invoke_agent pool -> failed StreamInterruptedError",
        "  attempt a #1 -> failed unavailable (first_chunk)",
    ],
    cancel: [
        "invoke_agent pool -> cancelled",
        "  attempt a #1 -> caller",
    ],
    deadline: [
        "invoke_agent pool -> failed DeadlineExceededError",
        "  attempt a #1 -> failed timeout",
    ],
    nested: [
        "invoke_agent outer -> answered",
        "  attempt a #1 -> answered",
        "    invoke_agent inner -> answered",
        "      attempt x #1 -> failed unavailable",
        "      attempt y #2 -> answered",
    ],
    attempts: [
        "the caller",
        "  invoke_agent pool -> answered",
        "    attempt a #1 -> failed unavailable",
        "      in the block",
        "    attempt b #2 -> answered",
        "      in the block",
        "  behind the block",
    ],
}


@pytest.mark.parametrize("case", TREES, ids=lambda case: case.__name__)
def test_the_spans_of_a_request_are_a_tree(case: Case) -> None:
    """A request is one span, each attempt a child, what its agent does a child of that."""
    telling = Telling()
    case(telling)
    assert telling.tree() == TREES[case]
    assert telling.balance.is_even
