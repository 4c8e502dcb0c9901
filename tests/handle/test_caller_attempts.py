"""Attempts in the caller's own task: what follows what a block does."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import weakref
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import pytest
from helpers_attempts import Agent, counts, idle, run, stats, waiting
from helpers_pools import pool_of, ranked

from greenroom import (
    AllPoolMembersFailedError,
    CallContext,
    Drain,
    FailureKind,
    Member,
    PoolRef,
    PoolStoppedError,
    ReentrantAskError,
    RemoveMember,
    Request,
    RequestCancelledError,
    StreamInterruptedError,
)
from greenroom.actors.runtime.call_ancestry import INSIDE
from greenroom.messages import AttemptFailed, AttemptSucceeded, Cancel, RequestCompleted
from greenroom.messages.requests import Acquire
from greenroom.testing import EventRecorder, http_error

GONE = ConnectionError("gone")


async def answer(pool: PoolRef, **options: Any) -> str:
    async for attempt in pool.attempts(**options):
        async with attempt as agent:
            result: str = await agent.run()
    return result


# -- one block after the other


def test_a_block_that_raises_has_the_next_member_tried() -> None:
    """The error is swallowed, judged and counted, and the loop goes round with another agent."""
    a, b = Agent("a", GONE), Agent("b")
    with pool_of(*ranked(a=a, b=b)) as pool:
        assert run(lambda: answer(pool)) == "b"
        found = pool.stats()
        assert counts(found["a"]) == (0, 1, 0)
        assert counts(found["b"]) == (1, 0, 0)
        assert (found.completed, found.failed, found.retries) == (1, 0, 1)
        assert (a.calls, b.calls) == (1, 1)


class UntouchableError(Exception):
    """One that raises at any look, but for that at its type."""

    def __getattribute__(self, name: str) -> Any:
        raise KeyboardInterrupt(name)


@pytest.mark.parametrize("where", ["task", "thread"])
def test_an_error_that_raises_at_any_look_is_judged_like_any_other(where: str) -> None:
    """What it would raise leaves no block, and ends no app."""
    a, b = Agent("a", UntouchableError()), Agent("b")
    with pool_of(*ranked(a=a, b=b)) as pool:
        if where == "task":
            assert run(lambda: answer(pool)) == "b"
        else:
            for attempt in pool.attempts():
                with attempt as agent:
                    assert agent.call() == "b"
        assert counts(pool.stats()["a"]) == (0, 1, 0)


def test_where_nobody_is_left_the_loop_raises_what_an_ask_would() -> None:
    """All members with their errors; the last block's own is the context."""
    with pool_of(*ranked(a=Agent("a", GONE), b=Agent("b", http_error(503)))) as pool:

        async def main() -> None:
            with pytest.raises(AllPoolMembersFailedError) as caught:
                await answer(pool, max_retries=1)
            kinds = [(each.member, each.kind) for each in caught.value.errors]
            assert kinds == [("a", FailureKind.UNAVAILABLE), ("b", FailureKind.UNAVAILABLE)]
            assert str(caught.value.__context__) == "503 Service Unavailable"

        run(main)
        assert pool.stats().failed == 1


def test_an_error_of_the_requests_own_is_raised_as_it_is() -> None:
    """A 400 is nobody's fault but the request's: no other member is tried."""
    error = http_error(400)
    b = Agent("b")
    with pool_of(*ranked(a=Agent("a", error), b=b)) as pool:

        async def main() -> None:
            with pytest.raises(type(error)) as caught:
                await answer(pool)
            assert caught.value is error

        run(main)
        assert b.calls == 0
        assert counts(pool.stats()["a"]) == (0, 0, 0)


@pytest.mark.parametrize("way", ["break", "return", "continue"])
def test_however_a_block_is_left_without_an_error_it_has_succeeded(way: str) -> None:
    """`break`, `return` and `continue` in a block are its normal end."""
    with pool_of(*ranked(a=Agent("a"), b=Agent("b"))) as pool:

        async def main() -> str | None:
            async for attempt in pool.attempts():
                async with attempt as agent:
                    if way == "return":
                        return str(await agent.run())
                    if way == "break":
                        break
                    continue
            return None

        assert run(main) == ("a" if way == "return" else None)
        found = pool.stats()
        assert counts(found["a"]) == (1, 0, 0)
        assert found.completed == 1


def test_a_failure_in_band_is_one_that_was_not_raised() -> None:
    """`fail` ends the attempt as failed when the block is left: kind and wait are the caller's."""
    with pool_of(*ranked(a=Agent("a"), b=Agent("b"))) as pool:

        async def main() -> list[str]:
            had = []
            async for attempt in pool.attempts():
                async with attempt as agent:
                    had.append(agent.name)
                    if agent.name == "a":
                        attempt.fail("an error in a 200", kind="rate_limited", retry_after_s=60)
            return had

        assert run(main) == ["a", "b"]
        found = pool.stats()
        assert counts(found["a"]) == (0, 1, 0)
        assert 55 < (found["a"].reopens_in_s or 0) <= 60
        assert found.available == ("b",)


def test_a_failure_in_band_of_the_last_member_is_raised() -> None:
    """There is no error to be swallowed, but one to be raised."""
    with pool_of(Member("a", Agent("a"))) as pool:

        async def main() -> None:
            with pytest.raises(AllPoolMembersFailedError, match="a failed: no text"):
                async for attempt in pool.attempts(max_retries=0):
                    async with attempt:
                        attempt.fail("no text")

        run(main)


def test_acquire_is_one_attempt_and_raises_what_its_block_raises() -> None:
    """It is judged and counted; whatever that says, the caller has its own error."""
    a, b = Agent("a", GONE), Agent("b")
    with pool_of(*ranked(a=a, b=b)) as pool:

        async def main() -> None:
            with pytest.raises(ConnectionError) as caught:
                async with pool.acquire(key="k") as agent:
                    await agent.run()
            assert caught.value is GONE
            await stats(pool)
            async with pool.acquire() as agent:
                assert await agent.run() == "a"

        run(main)
        found = pool.stats()
        assert counts(found["a"]) == (1, 1, 0)
        assert b.calls == 0
        assert (found.completed, found.failed) == (1, 1)


def test_what_never_began_is_given_to_another_member_by_acquire_too() -> None:
    """A factory that fails has run nothing of the caller's."""

    def refuse() -> Any:
        raise OSError("no such host")

    members = [Member("a", factory=refuse, priority=0), Member("b", Agent("b"), priority=1)]
    with pool_of(*members) as pool:

        async def main() -> str:
            async with pool.acquire() as agent:
                return str(agent.name)

        assert run(main) == "b"


def test_side_effects_end_the_tries() -> None:
    """As for an agent that says so: nothing is retried after that."""
    b = Agent("b")
    with pool_of(*ranked(a=Agent("a"), b=b)) as pool:

        async def main() -> None:
            with pytest.raises(AllPoolMembersFailedError, match="started side effects"):
                async for attempt in pool.attempts():
                    async with attempt:
                        attempt.context.started_side_effects()
                        raise GONE

        run(main)
        assert b.calls == 0


def test_what_must_not_be_repeated_is_not() -> None:
    """`idempotent=False`, as of a request."""
    with pool_of(*ranked(a=Agent("a", GONE), b=Agent("b"))) as pool:

        async def main() -> None:
            with pytest.raises(AllPoolMembersFailedError, match="not idempotent"):
                await answer(pool, idempotent=False)

        run(main)


def test_an_attempt_knows_what_an_agent_would_be_told() -> None:
    """Its context is that of a call: id, key, metadata, the time that is left."""
    with pool_of(*ranked(a=Agent("a", GONE), b=Agent("b"))) as pool:

        async def main() -> list[Any]:
            had: list[Any] = []
            options: Any = {"key": "k", "metadata": {"user": 1}, "request_id": "r", "timeout_s": 9}
            async for attempt in pool.attempts(**options):
                async with attempt as agent:
                    context = attempt.context
                    assert isinstance(context, CallContext)
                    assert 8 < (context.remaining_s or 0) <= 9
                    context.alive()
                    had.append((attempt.member, attempt.number, context.request_id, context.key))
                    assert context.metadata == {"user": 1}
                    await agent.run()
            return had

        assert run(main) == [("a", 1, "r", "k"), ("b", 2, "r", "k")]


def test_a_pool_as_a_member_is_handed_over_as_it_is() -> None:
    """As to `apply`: whoever wants an answer asks it."""
    with (
        pool_of(Member("in", Agent("in")), name="inner") as inner,
        pool_of(Member("inner", inner), name="outer") as outer,
    ):

        async def main() -> str:
            async with outer.acquire() as agent:
                return "the pool" if agent is inner else "something else"

        assert run(main) == "the pool"


def test_blocks_run_in_the_callers_own_context() -> None:
    """What an agent sets is seen after it: it is the caller's code that runs."""
    seen: contextvars.ContextVar[str] = contextvars.ContextVar("seen", default="unset")

    class Setting:
        async def run(self) -> None:
            assert seen.get() == "by the caller"
            seen.set("by the agent")

    with pool_of(Member("a", Setting(), method=False)) as pool:

        async def main() -> tuple[str, bool]:
            seen.set("by the caller")
            task = asyncio.current_task()
            async with pool.acquire() as agent:
                await agent.run()
                same = asyncio.current_task() is task
            return seen.get(), same

        assert run(main) == ("by the agent", True)


def test_an_agent_that_resumes_after_its_caller_has_acted_is_in_step_with_it() -> None:
    """A generator that waits for its caller's commit between two events: no buffer runs ahead."""
    log: list[str] = []

    class InStep:
        async def run(self) -> AsyncIterator[str]:
            for event in ("one", "two"):
                log.append(f"sends {event}")
                yield event
                log.append(f"goes on after {event}")

    with pool_of(Member("a", InStep(), method=False)) as pool:

        async def main() -> None:
            async with pool.acquire(stream=True) as agent:
                async for event in agent.run():
                    log.append(f"commits {event}")

        run(main)
    assert log[:4] == ["sends one", "commits one", "goes on after one", "sends two"]


# -- slots


def test_a_slot_is_held_for_the_time_of_a_block_and_given_back() -> None:
    """A second block waits in the queue for it."""
    with pool_of(Member("a", Agent("a"), max_concurrency=1)) as pool:

        async def main() -> list[str]:
            order: list[str] = []
            entered, go_on = asyncio.Event(), asyncio.Event()

            async def first() -> None:
                async with pool.acquire():
                    order.append("first")
                    entered.set()
                    await go_on.wait()
                    order.append("first is left")

            async def second() -> None:
                await entered.wait()
                async with pool.acquire():
                    order.append("second")

            async with asyncio.TaskGroup() as group:
                group.create_task(first())
                group.create_task(second())
                await entered.wait()
                await waiting(pool, 1)
                assert (await stats(pool))["a"].in_flight == 1
                go_on.set()
            return order

        assert run(main) == ["first", "first is left", "second"]
        assert counts(pool.stats()["a"]) == (2, 0, 0)


def test_those_that_wait_are_served_by_priority() -> None:
    """They are requests like any other."""
    with pool_of(Member("a", Agent("a"), max_concurrency=1)) as pool:

        async def main() -> list[int]:
            order: list[int] = []

            async def block(priority: int) -> None:
                async with pool.acquire(priority=priority):
                    order.append(priority)

            async def hold() -> None:
                async with pool.acquire():
                    entered.set()
                    await go_on.wait()

            entered, go_on = asyncio.Event(), asyncio.Event()
            async with asyncio.TaskGroup() as group:
                group.create_task(hold())
                await entered.wait()
                for count, priority in enumerate((1, 3, 2), 1):
                    group.create_task(block(priority))
                    await waiting(pool, count)
                go_on.set()
            return order

        assert run(main) == [3, 2, 1]


def test_a_thousand_blocks_at_a_time() -> None:
    """All are open at once, and all slots come back."""
    many = 1000
    with pool_of(Member("a", Agent("a"), max_concurrency=many)) as pool:

        async def main() -> int:
            most = 0
            barrier = asyncio.Barrier(many)

            async def block() -> str:
                nonlocal most
                async with pool.acquire() as agent:
                    await barrier.wait()
                    most = max(most, (await stats(pool)).in_flight)
                    await barrier.wait()
                    return str(await agent.run())

            async with asyncio.TaskGroup() as group:
                for _ in range(many):
                    group.create_task(block())
            return most

        assert run(main) == many
        assert counts(pool.stats()["a"]) == (many, 0, 0)


def test_a_block_that_asks_its_own_pool_for_its_own_slot_is_told_at_once() -> None:
    """It would wait for itself."""
    with pool_of(Member("a", Agent("a"), max_concurrency=1)) as pool:

        async def main() -> None:
            async with pool.acquire():
                with pytest.raises(ReentrantAskError):
                    await pool.ask(Request("x"), block=False)
                with pytest.raises(ReentrantAskError):
                    async with pool.acquire():
                        pass  # pragma: no cover
            assert (await pool.ask(Request("x"), block=False)).value == "a"

        run(main)


def test_what_is_asked_after_blocks_is_not_from_inside_of_them() -> None:
    """Whichever block is left by which way, in one another too."""
    with pool_of(Member("a", Agent("a"), max_concurrency=2)) as pool:

        async def main() -> None:
            async with pool.acquire():
                one = INSIDE.get()
                async with pool.acquire():
                    assert INSIDE.get()[:-1] == one
                with pytest.raises(KeyError):
                    async with pool.acquire():
                        raise KeyError
                assert INSIDE.get() == one
            assert INSIDE.get() == ()

        run(main)


# -- left without a word


def test_a_cancelled_block_gives_its_slot_back_and_counts_for_nothing() -> None:
    """The caller was cancelled: that says nothing of the agent."""
    with pool_of(Member("a", Agent("a"), max_concurrency=1)) as pool:

        async def main() -> None:
            entered = asyncio.Event()

            async def block() -> None:
                async for attempt in pool.attempts():
                    async with attempt:
                        entered.set()
                        await asyncio.Event().wait()

            task = asyncio.create_task(block())
            await entered.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            async with pool.acquire() as agent:
                await agent.run()

        run(main)
        found = pool.stats()
        assert counts(found["a"]) == (1, 0, 0)
        assert (found.cancelled, found.failed, found.completed) == (1, 0, 1)


def test_who_is_cancelled_while_waiting_for_a_slot_has_none() -> None:
    """The request leaves the queue."""
    with pool_of(Member("a", Agent("a"), max_concurrency=1)) as pool:

        async def main() -> None:
            async def block(entered: asyncio.Event) -> None:
                async with pool.acquire():
                    entered.set()
                    await asyncio.Event().wait()

            entered, never = asyncio.Event(), asyncio.Event()
            holder = asyncio.create_task(block(entered))
            await entered.wait()
            waiter = asyncio.create_task(block(never))
            await waiting(pool, 1)
            for task in (waiter, holder):
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert (await stats(pool)).pending == 0
            assert not never.is_set()

        run(main)
        assert pool.stats().cancelled == 2


@pytest.mark.parametrize("way", ["closed", "let go of"])
def test_a_generator_that_is_left_inside_of_its_block_counts_for_nothing(way: str) -> None:
    """GeneratorExit is no word on the agent, whoever closes the generator."""
    with pool_of(Member("a", Agent("a"), max_concurrency=1)) as pool:

        async def events() -> AsyncGenerator[str, None]:
            async for attempt in pool.attempts(stream=True):
                async with attempt as agent:
                    attempt.first()
                    with attempt.paused():
                        yield await agent.run()

        async def main() -> None:
            stream = events()
            assert await anext(stream) == "a"
            if way == "closed":
                await stream.aclose()
            del stream
            await idle(pool)  # the loop closes what is let go of in a task
            async with pool.acquire() as agent:
                await agent.run()

        run(main)
        found = pool.stats()
        assert counts(found["a"]) == (1, 0, 0)
        assert found.cancelled == 1


def test_a_generator_that_is_let_go_of_after_a_failover_gives_its_slot_back() -> None:
    """The first member's error, which the request keeps, does not keep the generator."""
    with pool_of(*ranked(a=Agent("a", GONE), b=Agent("b"))) as pool:

        async def events() -> AsyncGenerator[str, None]:
            async for attempt in pool.attempts(stream=True):
                async with attempt as agent:
                    yield await agent.run()

        async def main() -> None:
            stream = events()
            assert await anext(stream) == "b"
            del stream
            await idle(pool)

        run(main)
        assert pool.stats().cancelled == 1


def test_a_loop_that_is_left_between_two_attempts_gives_the_next_one_back() -> None:
    """The second attempt had been granted when the loop was left."""
    with pool_of(*ranked(a=Agent("a", GONE), b=Agent("b"))) as pool:

        async def main() -> None:
            tries = 0
            async for attempt in pool.attempts():
                tries += 1
                if tries == 2:
                    break
                async with attempt as agent:
                    await agent.run()
            assert (await stats(pool)).in_flight == 0

        run(main)
        found = pool.stats()
        assert counts(found["b"]) == (0, 0, 0)
        assert found.cancelled == 1


def test_an_attempt_that_nobody_holds_any_more_is_given_back() -> None:
    """Who enters one by hand and lets go of it has left it."""
    with pool_of(Member("a", Agent("a"), max_concurrency=1)) as pool:

        async def main() -> None:
            attempt = pool.acquire()
            await attempt.__aenter__()
            del attempt
            gc.collect()
            await pool.astats()  # the router has heard of it
            async with pool.acquire():
                pass

        run(main)
        assert counts(pool.stats()["a"]) == (1, 0, 0)


def test_a_loop_without_blocks_is_told_so() -> None:
    """It would go round for ever."""
    with pool_of(Member("a", Agent("a"))) as pool:

        async def main() -> None:
            with pytest.raises(RuntimeError, match="to be entered"):
                async for _ in pool.attempts():
                    pass
            async for attempt in pool.attempts():
                with pytest.raises(RuntimeError, match="inside of its block"):
                    _ = attempt.member
                async with attempt:
                    pass
                with pytest.raises(RuntimeError, match="entered once"):
                    await attempt.__aenter__()

        run(main)
        assert pool.stats().accepted == 1


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_of_a_block_is_kept_once_it_has_been_left(fails: bool) -> None:
    """Neither the agent's answer nor the caller's frames wait for the garbage collector."""

    class Big:
        pass

    with pool_of(*ranked(a=Agent("a"), b=Agent("b"))) as pool:

        async def block() -> weakref.ref[Big]:
            async for attempt in pool.attempts(metadata={"big": (big := Big())}):
                async with attempt as agent:
                    if fails and agent.name == "a":
                        raise ConnectionError("gone")
            return weakref.ref(big)

        async def main() -> None:
            gc.collect()
            gc.disable()
            try:
                kept = await block()
                await stats(pool)
                await stats(pool)
                assert kept() is None
            finally:
                gc.enable()

        run(main)


# -- chunks


def test_after_the_first_chunk_no_other_member_takes_over() -> None:
    """What its consumer has had cannot be taken back, whatever `on_cut` says."""
    for on_cut in ("raise", "restart", "hold"):
        b = Agent("b")
        with pool_of(*ranked(a=Agent("a"), b=b), on_cut=on_cut) as pool:

            async def main(pool: PoolRef = pool) -> None:
                with pytest.raises(StreamInterruptedError, match="'a' broke off after 2") as caught:
                    async for attempt in pool.attempts(stream=True):
                        async with attempt:
                            attempt.first()
                            attempt.first()
                            raise GONE
                assert caught.value.__cause__ is GONE

            run(main)
            assert b.calls == 0
            assert counts(pool.stats()["a"]) == (0, 1, 0)


def test_before_the_first_chunk_another_one_does() -> None:
    """A stream that has not begun is anybody's."""
    with pool_of(*ranked(a=Agent("a"), b=Agent("b"))) as pool:

        async def main() -> list[str]:
            sent = []
            async for attempt in pool.attempts(stream=True):
                async with attempt as agent:
                    if agent.name == "a":
                        raise GONE
                    attempt.first()
                    sent.append(agent.name)
            return sent

        assert run(main) == ["b"]


# -- the pool's end


def test_a_drain_waits_for_a_block() -> None:
    """What is under way is finished, be it the caller's own code."""
    with pool_of(Member("a", Agent("a"))) as pool:

        async def main() -> None:
            entered, go_on = asyncio.Event(), asyncio.Event()

            async def block() -> str:
                async with pool.acquire() as agent:
                    entered.set()
                    await go_on.wait()
                    return str(await agent.run())

            task = asyncio.create_task(block())
            await entered.wait()
            drained = pool.ask(Drain(), block=False)
            with pytest.raises(PoolStoppedError):
                async with pool.acquire():
                    pass  # pragma: no cover
            assert not drained.done()
            go_on.set()
            assert await task == "a"
            assert await drained is True

        run(main)


def test_the_pools_end_ends_a_block() -> None:
    """It is cut short, and raises what every request in flight has."""
    with pool_of(Member("a", Agent("a"))) as pool:

        async def main() -> None:
            entered = asyncio.Event()

            async def block() -> None:
                async for attempt in pool.attempts():
                    async with attempt:
                        entered.set()
                        await asyncio.Event().wait()

            task = asyncio.create_task(block())
            await entered.wait()
            await pool.stop(block=False)
            with pytest.raises(PoolStoppedError):
                await task

        run(main)


def test_a_removed_member_finishes_its_blocks() -> None:
    """Its removal waits for them, as for its calls."""
    with pool_of(*ranked(a=Agent("a"), b=Agent("b"))) as pool:

        async def main() -> None:
            async with pool.acquire() as agent:
                removed = pool.ask(RemoveMember("a"), block=False)
                await stats(pool)
                async with pool.acquire() as other:
                    assert (agent.name, other.name) == ("a", "b")
                assert not removed.done()
            await removed

        run(main)
        assert [each.name for each in pool.stats().members] == ["b"]


def test_a_request_that_somebody_cancels_by_its_id_ends_its_block() -> None:
    """`pool.cancel` from anywhere."""
    with pool_of(Member("a", Agent("a"))) as pool:

        async def main() -> None:
            with pytest.raises(RequestCancelledError):
                async for attempt in pool.attempts(request_id="r"):
                    async with attempt:
                        assert await pool.ask(Cancel("r"), block=False)
                        await asyncio.Event().wait()

        run(main)
        found = pool.stats()
        assert counts(found["a"]) == (0, 0, 0)
        assert found.cancelled == 1


# -- what is told of it


def test_attempts_are_logged_as_any_others(log: EventRecorder) -> None:
    """The same events, with member, kind and time."""
    with pool_of(*ranked(a=Agent("a", GONE), b=Agent("b"))) as pool:
        run(lambda: answer(pool))
        pool.stats()
    failed, succeeded = log.named(AttemptFailed), log.named(AttemptSucceeded)
    assert [each.member for each in failed] == ["a"]
    assert [each.member for each in succeeded] == ["b"]
    assert [each.attempts for each in log.named(RequestCompleted)] == [2]


def test_a_request_for_an_agent_that_is_sent_in_some_other_way_fails_by_name() -> None:
    """Nobody would have the agent."""
    with pool_of(Member("a", Agent("a")), max_retries=0) as pool:
        with pytest.raises(AllPoolMembersFailedError, match=r"pool\.attempts or pool\.acquire"):
            pool.ask(Acquire())
        assert pool.stats()["a"].in_flight == 0
