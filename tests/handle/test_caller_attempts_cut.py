"""Attempts in the caller's own task that the pool cuts short, and whoever else cancels the task."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import pytest
from helpers_actors import stop_member
from helpers_attempts import Agent, counts, idle, overtime, run, stats
from helpers_pools import pool_of, ranked

from greenroom import (
    AllPoolMembersFailedError,
    AttemptTimeoutError,
    DeadlineExceededError,
    FailureKind,
    Member,
    PoolRef,
    RequestCancelledError,
    StreamInterruptedError,
)
from greenroom.actors.runtime.task_cut import TaskCut
from greenroom.messages.status import CancelReason
from greenroom.testing import FakeClock

LIMITS: Any = {"request_timeout_s": 30.0}


async def slow_a(pool: PoolRef, clock: FakeClock, seconds: float = 31, **options: Any) -> str:
    """What the first member to answer is called, of which `a` takes so long."""
    async for attempt in pool.attempts(**options):
        async with attempt as agent:
            if agent.name == "a":
                await overtime(clock, seconds)
            result: str = await agent.run()
    return result


def test_an_attempts_time_limit_cuts_its_block_and_the_next_member_has_it(
    clock: FakeClock,
) -> None:
    """The block gets one CancelledError, which is swallowed: nobody has cancelled the task."""
    with pool_of(*ranked(a=Agent("a"), b=Agent("b")), clock=clock, **LIMITS) as pool:

        async def main() -> tuple[str, int]:
            answer = await slow_a(pool, clock)
            task = asyncio.current_task()
            assert task is not None
            return answer, task.cancelling()

        assert run(main) == ("b", 0)
        found = pool.stats()
        assert counts(found["a"]) == (0, 1, 0)
        assert counts(found["b"]) == (1, 0, 0)


def test_where_nobody_is_left_a_block_that_was_cut_ends_in_the_error_of_all(
    clock: FakeClock,
) -> None:
    """Its own kind is a timeout."""
    with pool_of(Member("a", Agent("a")), clock=clock, max_retries=0, **LIMITS) as pool:

        async def main() -> None:
            with pytest.raises(AllPoolMembersFailedError) as caught:
                await slow_a(pool, clock)
            (error,) = caught.value.errors
            assert error.kind is FailureKind.TIMEOUT
            assert isinstance(error.error, AttemptTimeoutError)
            await asyncio.sleep(0)  # no cancellation is left over for whoever comes next

        run(main)


def test_the_deadline_of_the_request_cuts_its_block(clock: FakeClock) -> None:
    """One deadline for all attempts; the error is a TimeoutError."""
    with pool_of(*ranked(a=Agent("a"), b=Agent("b")), clock=clock, **LIMITS) as pool:

        async def main() -> None:
            with pytest.raises(DeadlineExceededError):
                await slow_a(pool, clock, 6, timeout_s=5)
            await idle(pool)

        run(main)
        assert pool.stats().failed == 1


def test_a_block_may_ask_why_it_is_cut(clock: FakeClock) -> None:
    """Until then the pool wants it; somebody else's cancellation is none of the pool's."""
    seen = list[CancelReason | None]()
    with pool_of(*ranked(a=Agent("a"), b=Agent("b")), clock=clock, **LIMITS) as pool:

        async def main() -> None:
            async for attempt in pool.attempts():
                async with attempt as agent:
                    seen.append(attempt.given_up)
                    if agent.name == "a":
                        try:
                            await overtime(clock, 31)
                        finally:
                            seen.append(attempt.given_up)
            with pytest.raises(RuntimeError, match="inside of its block"):
                _ = attempt.given_up

        run(main)
    assert seen == [None, CancelReason.ATTEMPT_TIMEOUT, None]


def test_one_attempt_alone_is_cut_as_well(clock: FakeClock) -> None:
    """`acquire` says what the pool has to say of it."""
    with pool_of(Member("a", Agent("a")), clock=clock, **LIMITS) as pool:

        async def main() -> None:
            with pytest.raises(AllPoolMembersFailedError, match="not retried"):
                async with pool.acquire():
                    await overtime(clock, 31)

        run(main)


def test_a_scope_that_cancels_in_the_moment_of_the_cut_has_its_own_error(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task hears one cancellation of two: the scope around the block ends it all the same."""
    cut_here = TaskCut._cut_here

    async def main() -> None:
        scope = anyio.CancelScope()

        def both(cut: TaskCut, then: Callable[[], object]) -> None:
            cut_here(cut, then)
            scope.cancel()

        monkeypatch.setattr(TaskCut, "_cut_here", both)
        with scope:
            async for attempt in pool.attempts():
                async with attempt:
                    await asyncio.ensure_future(overtime(clock, 31))
        assert scope.cancelled_caught
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        await idle(pool)

    with pool_of(*ranked(a=Agent("a"), b=Agent("b")), clock=clock, **LIMITS) as pool:
        run(main)


def test_a_block_that_turns_its_end_into_an_error_of_its_own_has_been_cut(
    clock: FakeClock,
) -> None:
    """What its clean-up raises is no failure beside the timeout."""
    with pool_of(*ranked(a=Agent("a"), b=Agent("b")), clock=clock, **LIMITS) as pool:

        async def main() -> str:
            async for attempt in pool.attempts():
                async with attempt as agent:
                    if agent.name == "a":
                        try:
                            await overtime(clock, 31)
                        except asyncio.CancelledError:
                            raise ValueError("the connection was in use") from None
                    name: str = agent.name
            task = asyncio.current_task()
            assert task is not None
            assert task.cancelling() == 0
            return name

        assert run(main) == "b"
        assert counts(pool.stats()["a"]) == (0, 1, 0)


def test_a_block_that_swallows_its_end_goes_round_all_the_same(clock: FakeClock) -> None:
    """The request is with the next member by then, and the cancellation is taken back."""
    with pool_of(*ranked(a=Agent("a"), b=Agent("b")), clock=clock, **LIMITS) as pool:

        async def main() -> list[str]:
            names = []
            async for attempt in pool.attempts():
                async with attempt as agent:
                    names.append(agent.name)
                    if agent.name == "a":
                        with contextlib.suppress(asyncio.CancelledError):
                            await overtime(clock, 31)
            await asyncio.sleep(0)
            return names

        assert run(main) == ["a", "b"]


def test_a_block_that_goes_on_after_its_grace_is_abandoned_with_its_request(
    clock: FakeClock,
) -> None:
    """Its slot is given to others; no other member waits for a caller that does not come back."""
    grace: Any = {"cancel_grace_s": 0.0}
    members = ranked(a=Agent("a"), b=Agent("b"))
    with pool_of(*members, clock=clock, **LIMITS, **grace) as pool:

        async def main() -> None:
            with pytest.raises(AttemptTimeoutError):
                async for attempt in pool.attempts():
                    async with attempt:
                        with pytest.raises(asyncio.CancelledError):
                            await overtime(clock, 31)
                        await idle(pool)
            assert (await stats(pool))["a"].abandoned == 0

        run(main)
        assert pool.stats().cancelled == 1


def test_a_member_that_crashes_takes_its_block_with_it() -> None:
    """The block is cut, and the next member has the request."""
    with pool_of(*ranked(a=Agent("a"), b=Agent("b"))) as pool:

        async def main() -> list[str]:
            names = []
            async for attempt in pool.attempts():
                async with attempt as agent:
                    names.append(agent.name)
                    if agent.name == "a":
                        await asyncio.to_thread(stop_member, pool, "a")
                        await asyncio.Event().wait()
            return names

        assert run(main) == ["a", "b"]


# -- others who cancel the task


def test_who_cancels_the_task_as_well_is_heard(clock: FakeClock) -> None:
    """Cut by the pool and cancelled by the app in one turn: the app's word goes on."""
    with pool_of(*ranked(a=Agent("a"), b=Agent("b")), clock=clock, **LIMITS) as pool:

        async def main() -> None:
            task = asyncio.current_task()
            assert task is not None

            async def block() -> None:
                async for attempt in pool.attempts():
                    async with attempt as agent:
                        try:
                            await overtime(clock, 31)
                        finally:
                            me = asyncio.current_task()
                            assert agent.name == "a"
                            assert me is not None
                            me.cancel()

            inner = asyncio.create_task(block())
            with pytest.raises(asyncio.CancelledError):
                await inner
            assert inner.cancelled()
            await idle(pool)

        run(main)
        found = pool.stats()
        assert counts(found["a"]) == (0, 1, 0)
        assert counts(found["b"]) == (0, 0, 0)


def test_a_timeout_around_the_loop_ends_it() -> None:
    """Its cancellation passes through; it counts for nothing."""
    with pool_of(Member("a", Agent("a"))) as pool:

        async def main() -> None:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0) as limit:
                    limit.reschedule(None)
                    async for attempt in pool.attempts():
                        async with attempt:
                            limit.reschedule(asyncio.get_running_loop().time())
                            await asyncio.Event().wait()
            await idle(pool)

        run(main)
        found = pool.stats()
        assert counts(found["a"]) == (0, 0, 0)
        assert found.cancelled == 1


def test_a_timeout_inside_of_a_block_is_its_agents_failure() -> None:
    """The TimeoutError that leaves the block is judged as any."""
    with pool_of(*ranked(a=Agent("a"), b=Agent("b"))) as pool:

        async def main() -> list[str]:
            names = []
            async for attempt in pool.attempts():
                async with attempt as agent:
                    names.append(agent.name)
                    if agent.name == "a":
                        async with asyncio.timeout(0):
                            await asyncio.Event().wait()
            return names

        assert run(main) == ["a", "b"]
        assert counts(pool.stats()["a"]) == (0, 1, 0)


def test_the_pools_cut_passes_through_a_timeout_inside_of_the_block(clock: FakeClock) -> None:
    """That has not expired, and does not take the cancellation for its own."""
    with pool_of(*ranked(a=Agent("a"), b=Agent("b")), clock=clock, **LIMITS) as pool:

        async def main() -> list[str]:
            names = []
            async with asyncio.timeout(600):
                async for attempt in pool.attempts():
                    async with attempt as agent:
                        names.append(agent.name)
                        if agent.name == "a":
                            async with asyncio.timeout(600):
                                await overtime(clock, 31)
            return names

        assert run(main) == ["a", "b"]


def test_a_task_group_inside_of_a_block_is_cancelled_with_it(clock: FakeClock) -> None:
    """Its tasks have ended when the block is left, and the next member has the request."""
    with pool_of(*ranked(a=Agent("a"), b=Agent("b")), clock=clock, **LIMITS) as pool:

        async def main() -> list[str]:
            ended = []

            async def part(name: str) -> None:
                try:
                    if name == "a":
                        await overtime(clock, 16)
                finally:
                    ended.append(name)

            async for attempt in pool.attempts():
                async with attempt as agent, asyncio.TaskGroup() as group:
                    for _ in range(2):
                        group.create_task(part(agent.name))
            return ended

        assert run(main) == ["a", "a", "b", "b"]


def test_a_task_group_around_blocks_ends_them_when_one_fails(clock: FakeClock) -> None:
    """The others are cancelled, which says nothing of the agents."""
    with pool_of(Member("a", Agent("a")), clock=clock) as pool:

        async def main() -> None:
            open_blocks = 0
            all_open = asyncio.Event()

            async def block() -> None:
                nonlocal open_blocks
                async for attempt in pool.attempts():
                    async with attempt:
                        open_blocks += 1
                        if open_blocks == 3:
                            all_open.set()
                        await asyncio.Event().wait()

            async def fail() -> None:
                await all_open.wait()
                raise KeyError("mine")

            with pytest.raises(ExceptionGroup) as caught:
                async with asyncio.TaskGroup() as group:
                    for _ in range(3):
                        group.create_task(block())
                    group.create_task(fail())
            assert [type(each) for each in caught.value.exceptions] == [KeyError]
            await idle(pool)

        run(main)
        found = pool.stats()
        assert counts(found["a"]) == (0, 0, 0)
        assert found.cancelled == 3


def test_a_cancellation_that_nobody_asked_for_is_the_agents_failure() -> None:
    """As on the pool's own loop: a task inside of an agent's client was cancelled, not the caller.
    The next member has the request."""
    errors = asyncio.CancelledError("a pool of connections was closed")
    with pool_of(*ranked(a=Agent("a", errors), b=Agent("b"))) as pool:

        async def main() -> str:
            async for attempt in pool.attempts():
                async with attempt as agent:
                    name: str = await agent.run()
            return name

        assert run(main) == "b"
        assert counts(pool.stats()["a"]) == (0, 1, 0)


def test_a_block_inside_of_a_block_is_left_with_it(clock: FakeClock) -> None:
    """The outer one is cut while the inner one waits for its next member; the inner one counts for
    nothing."""
    limits: Any = {"request_timeout_s": 30.0}
    with (
        pool_of(*ranked(a=Agent("a"), b=Agent("b")), clock=clock, name="outer", **limits) as outer,
        pool_of(Member("in", Agent("in")), name="inner") as inner,
    ):

        async def main() -> list[str]:
            names = []
            async for attempt in outer.attempts():
                async with attempt as agent:
                    names.append(agent.name)
                    async with inner.acquire():
                        if agent.name == "a":
                            await overtime(clock, 31)
            await idle(inner)
            return names

        assert run(main) == ["a", "b"]
        assert counts(inner.stats()["in"]) == (1, 0, 0)


# -- limits of streams


def test_the_first_chunk_has_its_own_limit(clock: FakeClock) -> None:
    """With `stream=True`, until `first()`; the whole may take as long as it likes."""
    limits: Any = {"first_chunk_timeout_s": 2.0, "chunk_timeout_s": 5.0}
    with pool_of(*ranked(a=Agent("a"), b=Agent("b")), clock=clock, **limits) as pool:

        async def main() -> list[str]:
            sent = []
            async for attempt in pool.attempts(stream=True):
                async with attempt as agent:
                    if agent.name == "a":
                        await overtime(clock, 2)
                    for _ in range(20):
                        attempt.first()
                        sent.append(agent.name)
                        clock.advance(4)
                        await stats(pool)
            return sent

        assert run(main) == ["b"] * 20


def test_a_chunk_that_does_not_come_breaks_the_stream_off(clock: FakeClock) -> None:
    """`chunk_timeout_s` from one `first()` to the next."""
    with pool_of(*ranked(a=Agent("a"), b=Agent("b")), clock=clock, chunk_timeout_s=5.0) as pool:

        async def main() -> None:
            with pytest.raises(StreamInterruptedError) as caught:
                async for attempt in pool.attempts(stream=True):
                    async with attempt:
                        attempt.first()
                        await stats(pool)
                        await overtime(clock, 5)
            assert "chunk_timeout_s=5" in str(caught.value.__cause__)

        run(main)
        assert counts(pool.stats()["a"]) == (0, 1, 0)


def test_the_consumers_own_time_is_not_the_agents(clock: FakeClock) -> None:
    """Within `paused()` no chunk is owed, however long the consumer takes."""
    with pool_of(Member("a", Agent("a")), clock=clock, chunk_timeout_s=5.0) as pool:

        async def events() -> AsyncIterator[str]:
            async for attempt in pool.attempts(stream=True):
                async with attempt as agent:
                    for _ in range(3):
                        attempt.first()
                        with attempt.paused():
                            yield agent.name

        async def main() -> list[str]:
            had = []
            async for event in events():
                had.append(event)
                clock.advance(60)
                await stats(pool)
                await asyncio.sleep(0)
            return had

        assert run(main) == ["a", "a", "a"]
        assert counts(pool.stats()["a"]) == (1, 0, 0)


def test_after_a_pause_the_next_chunk_is_owed_again(clock: FakeClock) -> None:
    """The limit goes on from where it stood."""
    with pool_of(Member("a", Agent("a")), clock=clock, chunk_timeout_s=5.0) as pool:

        async def main() -> None:
            with pytest.raises(StreamInterruptedError):
                async for attempt in pool.attempts(stream=True):
                    async with attempt:
                        attempt.first()
                        with attempt.paused():
                            clock.advance(60)
                            await stats(pool)
                        await stats(pool)
                        await overtime(clock, 5)

        run(main)


def test_a_consumer_is_not_cut_and_hears_of_the_end_when_it_comes_back(clock: FakeClock) -> None:
    """The deadline falls into the consumer's own time: its code runs on, the block ends after."""
    with pool_of(Member("a", Agent("a"), max_concurrency=1), clock=clock) as pool:
        done = []

        async def main() -> None:
            with pytest.raises(StreamInterruptedError) as caught:
                async for attempt in pool.attempts(stream=True, timeout_s=10):
                    async with attempt:
                        attempt.first()
                        with attempt.paused():
                            clock.advance(10)
                            await stats(pool)
                            await asyncio.sleep(0)
                            done.append("consumed")
                        done.append("never")
            assert isinstance(caught.value.__cause__, DeadlineExceededError)

        run(main)
        assert done == ["consumed"]
        assert pool.stats()["a"].in_flight == 0


def test_a_chunk_of_an_attempt_that_was_given_up_is_refused(clock: FakeClock) -> None:
    """Who does not wait anywhere is told by `first` and `alive`, as an agent is."""
    with pool_of(Member("a", Agent("a")), clock=clock, max_retries=0, **LIMITS) as pool:

        def main() -> None:
            for attempt in pool.attempts(stream=True):
                with attempt:
                    attempt.context.alive()
                    clock.advance(31)
                    pool.stats()
                    for say in (attempt.first, attempt.context.alive):
                        with pytest.raises(RequestCancelledError):
                            say()
                    attempt.first()

        with pytest.raises(AllPoolMembersFailedError):
            main()


def test_a_sign_of_life_puts_a_chunk_off(clock: FakeClock) -> None:
    """`attempt.context.alive()`, as an agent says it."""
    with pool_of(Member("a", Agent("a")), clock=clock, first_chunk_timeout_s=2.0) as pool:

        async def main() -> None:
            async for attempt in pool.attempts(stream=True):
                async with attempt:
                    for _ in range(5):
                        clock.advance(1.5)
                        await stats(pool)
                        attempt.context.alive()
                    attempt.first()

        run(main)
        assert counts(pool.stats()["a"]) == (1, 0, 0)
