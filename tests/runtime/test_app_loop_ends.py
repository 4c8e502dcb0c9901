"""The app's loop ends before the pool, or the pool on a loop that ends: nobody waits in vain."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from helpers_actors import no_thread_left
from helpers_loops import begun
from helpers_pools import WAIT_S, echo_async
from test_app_loop import LOOPS, NewLoop, run, start, value_of, where

from greenroom import (
    AgentPool,
    AllPoolMembersFailedError,
    Apply,
    FailureKind,
    Member,
    PoolConfig,
    PoolRef,
    Request,
)
from greenroom.events import (
    AttemptFailed,
    BreakerOpened,
    LoopEnded,
    MemberCreateFailed,
    MemberFailed,
    MemberRestarted,
    ProbeFailed,
)
from greenroom.testing import AsyncScriptedAgent, EventRecorder, FakeClock


@contextlib.contextmanager
def nothing_pending(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """asyncio complains of no task, and of nothing else."""
    with caplog.at_level(logging.WARNING, "asyncio"):
        yield
        gc.collect()
    said = [each.getMessage() for each in caplog.records if each.name == "asyncio"]
    # (Of a debug mode that finds something slow, on a busy machine, it may.)
    assert not [each for each in said if not each.startswith("Executing ")]


def ends() -> dict[str, Any]:
    """What an app does with its loop when it is through with it."""

    def closes(loop: asyncio.AbstractEventLoop) -> None:
        loop.close()

    def leaves(_: asyncio.AbstractEventLoop) -> None:
        pass

    return {"closed": closes, "left": leaves}


ENDS = pytest.mark.parametrize("end", ends().values(), ids=ends().keys())


@pytest.mark.parametrize("new_loop", LOOPS)
@ENDS
def test_a_pool_that_outlives_its_loop_goes_on_with_its_own(end: Any, new_loop: NewLoop) -> None:
    """From the first request on, with one warning; nobody is blamed, nobody restarted."""

    async def begin() -> PoolRef:
        pool = start(Member("a", where), Member("b", where))
        assert (await value_of(pool))[0] is asyncio.get_running_loop()
        return pool

    loop = new_loop()
    with no_thread_left(), EventRecorder() as log:
        pool = loop.run_until_complete(begin())
        end(loop)
        with pool:
            replies = [pool.ask(Request("x"), timeout=WAIT_S) for _ in range(2)]
            assert [each.attempts for each in replies] == [1, 1]
            first, second = (each.value for each in replies)
            assert first == second
            assert first[0] is not loop
            assert first[1] != threading.get_ident()
            assert asyncio.run(value_of(pool)) == first
            assert pool.stats().completed == 4
            ended = log.wait_for(LoopEnded)
            assert ended.moved == ("a", "b")
            assert ended.level == "WARNING"
            assert "moved to the pool's own: a, b" in str(ended.describe())
            assert not log.named(AttemptFailed)
            assert not log.named(MemberRestarted)
            assert [each.incarnation for each in pool.stats().members] == [1, 1]
        assert len(log.named(LoopEnded)) == 1
        loop.close()


def test_a_second_run_of_asyncio_finds_the_pool_at_work() -> None:
    """The agents do not move to the second loop: it may end as well."""
    with EventRecorder() as log:

        async def begin() -> PoolRef:
            return start(Member("a", where))

        pool = run(begin())
        assert run(value_of(pool)) == run(value_of(pool))
        with pool:
            assert pool.stats().completed == 2
        assert len(log.named(LoopEnded)) == 1


@ENDS
@pytest.mark.parametrize("kind", ["async", "sync"])
def test_a_factory_makes_a_new_agent_where_the_old_one_was_bound_to_the_loop(
    kind: str, end: Any
) -> None:
    """A client belongs to the loop that made it. The old one is closed, as far as that goes; one
    that was given, and a sync one, go on.
    """
    made: list[Client] = []

    class Client:
        def __init__(self) -> None:
            self.closed = threading.Event()
            made.append(self)

        async def run(self, _: Any) -> Any:
            return self

        async def aclose(self) -> None:
            self.closed.set()

    async def make() -> Client:
        return Client()

    async def begin() -> PoolRef:
        pool = start(Member("a", factory=make if kind == "async" else Client))
        assert await value_of(pool) is made[0]
        return pool

    loop = asyncio.new_event_loop()
    with no_thread_left():
        pool = loop.run_until_complete(begin())
        end(loop)
        with pool:
            reply = pool.ask(Request("x"), timeout=WAIT_S)
            assert (reply.value, reply.attempts) == (made[1], 1)
            assert pool.execute("x", timeout=WAIT_S) is made[1]
            assert made[0].closed.wait(WAIT_S)
            assert not made[1].closed.is_set()
        assert made[1].closed.is_set()
        assert len(made) == 2
        loop.close()


def test_a_sync_agent_of_a_factory_goes_on() -> None:
    """It never was on the loop."""
    made: list[int] = []

    def make() -> Any:
        made.append(1)
        return lambda payload: payload

    async def begin() -> PoolRef:
        pool = start(Member("a", factory=make), Member("b", echo_async, priority=1))
        assert await value_of(pool) == "x"
        assert (await pool.ask(Apply(lambda _: echo_async("y")), block=False)).value == "y"
        return pool

    with run(begin()) as pool:
        assert pool.execute("x", timeout=WAIT_S) == "x"
        assert pool.apply(lambda _: echo_async("y"), timeout=WAIT_S) == "y"
        assert made == [1]


@pytest.mark.parametrize("new_loop", LOOPS)
@pytest.mark.parametrize("fate", ["cancelled", "converted", "spawning"])
def test_what_runs_when_the_app_winds_up_is_interrupted_and_goes_on_elsewhere(
    fate: str, new_loop: NewLoop, caplog: pytest.LogCaptureFixture
) -> None:
    """`asyncio.run` cancels all tasks at its end: nobody is to blame for that, and a request of
    another thread's is answered on the pool's own loop.
    """
    entered = threading.Event()

    async def agent(payload: Any) -> Any:
        if entered.is_set():
            return payload
        entered.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if fate == "converted":
                raise ConnectionError("the client was cut off") from None
            if fate == "spawning":
                await asyncio.wait_for(asyncio.sleep(0), 1)
            raise
        return None

    futures: list[Any] = []

    async def begin() -> PoolRef:
        pool = start(Member("a", agent), Member("b", agent), circuit_failure_threshold=1)
        futures.append(pool.ask(Request("x"), block=False))
        await asyncio.to_thread(entered.wait, WAIT_S)
        return pool

    with no_thread_left(), nothing_pending(caplog), EventRecorder() as log:
        with run(begin(), new_loop) as pool:
            reply = futures.pop().get(timeout=WAIT_S)
            assert (reply.value, reply.attempts) == ("x", 2)
            (error,) = reply.errors
            assert error.kind is FailureKind.INTERRUPTED
            assert "which the app has ended" in str(error)
            assert pool.stats()["a"].circuit == "closed"
        assert len(log.named(LoopEnded)) == 1
        assert not log.named(BreakerOpened)
        assert not log.named(MemberFailed)


@pytest.mark.parametrize("fate", ["wound up", "left", "closed"])
def test_a_factory_whose_loop_ends_under_it_is_asked_again(
    fate: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The end of a loop says nothing of a factory: who waits for its agent has it all the same."""
    entered, clock = threading.Event(), FakeClock()
    futures: list[Any] = []

    async def make() -> Any:
        if entered.is_set():
            return echo_async
        entered.set()
        return await asyncio.Event().wait()

    async def begin() -> PoolRef:
        pool = AgentPool.start([Member("a", factory=make)], clock=clock)
        futures.append(pool.ask(Request("x"), block=False))
        await asyncio.to_thread(entered.wait, WAIT_S)
        return pool

    with no_thread_left(), nothing_pending(caplog), EventRecorder() as log:
        loop = asyncio.new_event_loop()
        pool = run(begin()) if fate == "wound up" else loop.run_until_complete(begin())
        if fate == "closed":
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()
        for _ in range(4):
            clock.advance(1.0)
            pool.stats()
        with pool:
            assert futures.pop().get(timeout=WAIT_S).value == "x"
            assert not log.named(MemberCreateFailed)
        loop.close()
        del loop, pool


@pytest.mark.parametrize("fate", ["wound up", "left", "closed"])
def test_a_probe_whose_loop_ends_under_it_has_not_failed(
    fate: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is asked again on the pool's own loop."""
    entered, again, clock = threading.Event(), threading.Event(), FakeClock()

    async def probe() -> None:
        if entered.is_set():
            again.set()
            return
        entered.set()
        await asyncio.Event().wait()

    async def begin() -> PoolRef:
        config = PoolConfig(
            circuit_failure_threshold=1,
            health_check_interval_s=1.0,
            # The time below passes without a look at whether the new loop has had its turn.
            health_check_timeout_s=60.0,
        )
        member = Member("a", echo_async, probe=probe)
        pool = AgentPool.start([member], clock=clock, config=config)
        clock.advance(1.5)
        await asyncio.to_thread(entered.wait, WAIT_S)
        return pool

    with no_thread_left(), nothing_pending(caplog), EventRecorder() as log:
        loop = asyncio.new_event_loop()
        pool = run(begin()) if fate == "wound up" else loop.run_until_complete(begin())
        if fate == "closed":
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()
        with pool:
            for _ in range(8):
                clock.advance(1.0)
                pool.stats()
            assert again.wait(WAIT_S)
            assert not log.named(ProbeFailed)
            assert pool.execute("x", timeout=WAIT_S) == "x"
        loop.close()
        del loop, pool


def test_a_cancellation_while_the_loop_goes_on_is_the_agents_own_affair() -> None:
    """One task that somebody cancels is no end of a loop."""

    async def agent(payload: Any) -> Any:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    async def main() -> None:
        with EventRecorder() as log:
            async with start(Member("a", agent), max_retries=0) as pool:
                with pytest.raises(AllPoolMembersFailedError) as failed:
                    await value_of(pool)
                (error,) = failed.value.errors
                assert error.kind is FailureKind.UNAVAILABLE
            assert not log.named(LoopEnded)

    run(main())


@pytest.mark.parametrize("closed", [True, False])
def test_what_was_left_on_a_loop_is_interrupted_when_the_pool_looks_at_it(
    closed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Closed under its tasks, or left in the middle of them: a look finds out. What was on a closed
    one is over, and counts as abandoned no more.
    """
    clock, agent = FakeClock(), AsyncScriptedAgent.hanging()
    futures: list[Any] = []

    async def begin() -> PoolRef:
        pool = AgentPool.start([Member("a", agent)], clock=clock, config=PoolConfig(max_retries=0))
        futures.append(pool.ask(Request("x"), block=False))
        await begun(agent)
        return pool

    loop = asyncio.new_event_loop()
    with no_thread_left(), nothing_pending(caplog), EventRecorder() as log:
        with loop.run_until_complete(begin()) as pool:
            if closed:
                loop.close()
            for _ in range(4):
                clock.advance(1.0)
                pool.stats()
            with pytest.raises(AllPoolMembersFailedError) as failed:
                futures.pop().get(timeout=WAIT_S)
            (error,) = failed.value.errors
            assert error.kind is FailureKind.INTERRUPTED
            assert pool.stats()["a"].abandoned == (0 if closed else 1)  # its task is there still
            agent.release()
            assert pool.execute("y", timeout=WAIT_S) == "value"
            assert log.wait_for(LoopEnded).moved == ("a",)
        loop.close()
        del loop, pool, failed, error


def test_a_thread_that_waits_for_the_loop_is_let_go_when_that_ends() -> None:
    """A sync callable's awaitable runs there: its end is the end of that wait."""
    entered = threading.Event()

    async def wait() -> Any:
        if entered.is_set():
            return "again"
        entered.set()
        return await asyncio.Event().wait()

    futures: list[Any] = []

    async def begin() -> PoolRef:
        pool = start(Member("a", lambda _: wait()), Member("b", lambda _: wait()))
        futures.append(pool.ask(Request("x"), block=False))
        await asyncio.to_thread(entered.wait, WAIT_S)
        return pool

    with no_thread_left(), EventRecorder() as log, run(begin()) as pool:
        pool.execute("y", timeout=WAIT_S)
        reply = futures.pop().get(timeout=WAIT_S)
        assert reply.value == "again"
        assert [each.kind for each in reply.errors] == [FailureKind.INTERRUPTED]
        assert not log.named(BreakerOpened)


@pytest.mark.parametrize("new_loop", LOOPS)
@pytest.mark.parametrize("way", ["block", "await", "thread", "cancelled"])
def test_the_end_of_a_pool_cancels_its_own_tasks_and_no_other(
    way: str, new_loop: NewLoop, caplog: pytest.LogCaptureFixture
) -> None:
    """Once, with time to clean up; the loop is free meanwhile, and is as it was after it."""
    cancelled: list[int] = []
    entered = threading.Semaphore(0)

    async def agent(payload: Any) -> Any:
        entered.release()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(1)
            for _ in range(3):
                await asyncio.sleep(0)
            cancelled.append(2)
            raise

    async def main() -> None:
        loop = asyncio.get_running_loop()
        foreign = asyncio.create_task(asyncio.Event().wait())
        before = asyncio.all_tasks()
        as_it_was = loop.get_exception_handler(), loop.get_task_factory()
        pool = start(Member("a", agent), Member("b", agent))
        asks = [pool.ask(Request(i), block=False) for i in range(3)]
        await asyncio.to_thread(lambda: [entered.acquire(timeout=WAIT_S) for _ in asks])
        if way == "block":
            async with pool:
                pass
        elif way == "await":
            await pool.stop(block=False)
        elif way == "thread":
            await asyncio.to_thread(pool.stop)
        else:

            async def leave() -> None:
                async with pool:
                    await asyncio.Event().wait()

            leaving = asyncio.create_task(leave())
            await asyncio.sleep(0)
            leaving.cancel()
            await asyncio.wait([leaving])
        assert all(each.done() for each in asks)
        assert cancelled.count(1) == cancelled.count(2) == 3
        assert asyncio.all_tasks() == before
        assert not foreign.cancelling()
        assert as_it_was == (loop.get_exception_handler(), loop.get_task_factory())
        foreign.cancel()

    with no_thread_left(), nothing_pending(caplog):
        run(main(), new_loop)


@pytest.mark.parametrize("new_loop", LOOPS)
def test_a_pool_that_is_left_while_its_loop_winds_up_leaves_no_task(
    new_loop: NewLoop, caplog: pytest.LogCaptureFixture
) -> None:
    """A background task has it open, and is cancelled by `asyncio.run` with all others."""
    agent, closed = AsyncScriptedAgent.hanging(), []

    async def close(_: Any) -> None:
        await asyncio.sleep(0)
        closed.append(asyncio.get_running_loop().is_running())

    async def serve() -> None:
        async with start(Member("a", agent, close=close)) as pool:
            asks = [pool.ask(Request(i), block=False) for i in range(3)]
            await asyncio.gather(*asks)

    tasks: list[Any] = []

    async def main() -> None:
        tasks.append(asyncio.create_task(serve()))
        await begun(agent, 3)

    with no_thread_left(), nothing_pending(caplog):
        run(main(), new_loop)
        assert len(closed) == 1
        assert tasks.pop().cancelled()


@pytest.mark.parametrize("closed", [True, False])
def test_a_pool_is_stopped_after_its_loop(closed: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody has used it since: its agents are closed all the same, what ran there is over."""
    agent, hooks = AsyncScriptedAgent.hanging(), []

    async def close(_: Any) -> None:
        hooks.append(threading.current_thread().name)

    futures: list[Any] = []

    async def begin() -> PoolRef:
        pool = start(Member("a", agent, close=close), cancel_grace_s=0.2)
        futures.append(pool.ask(Request("x"), block=False))
        await begun(agent)
        return pool

    loop = asyncio.new_event_loop()
    with no_thread_left(), nothing_pending(caplog):
        pool = loop.run_until_complete(begin())
        if closed:
            loop.close()
        assert pool.stop(timeout=WAIT_S)
        assert futures.pop().done()
        assert hooks == ["greenroom-pool-loop"]
        loop.close()
        del loop, pool
