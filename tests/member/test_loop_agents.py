"""Agents that an async factory makes for blocks on other loops than the member's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import pytest
from helpers_attempts import run, stats
from helpers_pools import echo_async, pool_of
from helpers_streams import Doing

from greenroom import AllPoolMembersFailedError, Member, PoolRef, Request
from greenroom.actors.executors.loop_agents import LoopAgents

Loop = asyncio.AbstractEventLoop


class Thing:
    """An agent for blocks alone."""


class Bound:
    """A client that belongs to the loop that made it.

    Attributes:
        made: all of them, in order.
        closed: those that were closed, where they were made.
    """

    made: ClassVar[list[Bound]]
    closed: ClassVar[list[Bound]]

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.task = asyncio.current_task()
        self.made.append(self)

    async def run(self, payload: Any = None) -> Any:
        assert asyncio.get_running_loop() is self.loop
        return payload

    async def aclose(self) -> None:
        assert asyncio.get_running_loop() is self.loop
        await asyncio.sleep(0)
        self.closed.append(self)


@pytest.fixture
def kind() -> type[Bound]:
    class Mine(Bound):
        made: ClassVar[list[Bound]] = []
        closed: ClassVar[list[Bound]] = []

    return Mine


def bound_pool(kind: type[Bound], **config: Any) -> Any:
    async def factory() -> Bound:
        return kind()

    # Not at home on the loop of a test: its blocks are on another one than the member's.
    return pool_of(Member("a", factory=factory, max_concurrency=10), event_loop="own", **config)


async def of_this_loop(pool: PoolRef) -> Bound:
    async with pool.acquire() as agent:
        await agent.run()
        kept: Bound = agent
        return kept


def test_each_loop_has_an_agent_of_its_own(kind: type[Bound]) -> None:
    """Made there, once, and used by all blocks of that loop; those of the pool have another."""
    with bound_pool(kind) as pool:

        async def main() -> set[Bound]:
            blocks = [of_this_loop(pool) for _ in range(5)]
            return set(await asyncio.gather(*blocks))

        (first,) = run(main)
        (second,) = Doing(lambda: run(main)).result()
        assert first is not second
        assert pool.ask(Request("x")).value == "x"
        assert len(kind.made) == 3


def test_an_agent_is_closed_when_its_loop_ends(kind: type[Bound]) -> None:
    """On that loop; the pool goes on, and makes another one for the next loop."""
    with bound_pool(kind) as pool:
        first = run(lambda: of_this_loop(pool))
        assert kind.closed == [first]
        second = run(lambda: of_this_loop(pool))
        assert kind.closed == [first, second]
    assert set(kind.closed) == set(kind.made)


def test_the_pools_end_closes_the_agents_of_loops_that_run(kind: type[Bound]) -> None:
    """Each on its own loop, before the pool has ended."""

    with bound_pool(kind) as pool:

        async def main() -> None:
            agent = await of_this_loop(pool)
            await pool.stop(block=False)
            assert agent in kind.closed
            assert set(kind.closed) == set(kind.made)

        run(main)


def test_the_pools_end_does_not_wait_for_a_loop_that_does_not_run(kind: type[Bound]) -> None:
    """It waits for the grace at most: here in the very thread of that loop."""

    with bound_pool(kind, cancel_grace_s=0.0) as pool:

        async def main() -> None:
            agent = await of_this_loop(pool)
            pool.stop()
            assert agent not in kind.closed
            while agent not in kind.closed:  # noqa: ASYNC110 - a task of nobody's
                await asyncio.sleep(0)

        run(main)


def test_a_loop_that_was_closed_without_its_tasks_holds_nothing_up(kind: type[Bound]) -> None:
    """Its agent cannot be closed any more, and is let go."""
    with bound_pool(kind) as pool:
        loop = asyncio.new_event_loop()
        kept = loop.run_until_complete(of_this_loop(pool))
        for task in asyncio.all_tasks(loop):
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        loop.close()
        other = run(lambda: of_this_loop(pool))
        assert kept is not other
        assert kept not in kind.closed


def test_a_factory_that_fails_on_a_callers_loop_fails_the_attempt() -> None:
    """Another member has it; the next block has it made again."""
    calls: list[Loop] = []

    async def factory() -> Any:
        calls.append(asyncio.get_running_loop())
        if len(calls) == 2:
            raise ConnectionError("no route")

        async def agent(payload: Any) -> Any:
            return payload

        return agent

    with pool_of(Member("a", factory=factory), max_retries=0) as pool:

        async def main() -> Any:
            with pytest.raises(AllPoolMembersFailedError, match="no route"):
                async for attempt in pool.attempts():
                    async with attempt:
                        pytest.fail("there is no agent")
            await stats(pool)
            async with pool.acquire() as agent:
                return await agent("made")

        assert run(main) == "made"
        assert calls[1] is calls[2] is not calls[0]
        assert pool.stats()["a"].failures == 1


@pytest.mark.parametrize("error", [SystemExit(3), GeneratorExit()], ids=repr)
def test_a_factory_that_would_end_the_callers_task_fails_the_attempt(error: BaseException) -> None:
    """The app's loop is none of its business: another member has the block."""
    calls: list[int] = []

    async def factory() -> Any:
        calls.append(1)
        if len(calls) > 1:
            raise error
        return echo_async

    with pool_of(Member("a", factory=factory), Member("b", echo_async, priority=1)) as pool:

        async def main() -> Any:
            async for attempt in pool.attempts():
                async with attempt:
                    return attempt.member
            return None

        assert run(main) == "b"
        assert pool.stats()["a"].failures == 1


def test_who_is_cancelled_while_an_agent_is_made_leaves_it_to_the_others() -> None:
    """The factory goes on for those that wait beside."""
    gates: list[asyncio.Event] = []

    async def factory() -> Any:
        if gates:
            await gates[0].wait()

        async def agent(payload: Any) -> Any:
            return payload

        return agent

    with pool_of(Member("a", factory=factory, max_concurrency=2)) as pool:

        async def block() -> Any:
            async with pool.acquire() as agent:
                return await agent("made")

        async def main() -> Any:
            await pool.ask(Request("x"), block=False)  # the pool's own is made
            gates.append(asyncio.Event())
            first, second = asyncio.create_task(block()), asyncio.create_task(block())
            while (await stats(pool)).in_flight < 2:  # noqa: ASYNC110
                await asyncio.sleep(0)
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            gates[0].set()
            return await second

        assert run(main) == "made"
        assert pool.stats()["a"].failures == 0


@pytest.mark.parametrize("how", ["stop", "removal"])
def test_a_factory_that_never_returns_is_cancelled_with_its_member(how: str) -> None:
    """No task of the pool's is left on the caller's loop, and no grace is waited for."""

    async def main() -> None:
        here, entered = asyncio.get_running_loop(), asyncio.Event()

        async def factory() -> Any:
            if asyncio.get_running_loop() is here:
                entered.set()
                await here.create_future()
            return Thing()

        member = Member("a", factory=factory)
        spare = Member("b", Thing(), priority=1)
        config: dict[str, Any] = {"event_loop": "own", "cancel_grace_s": 60}
        with pool_of(member, spare, strategy="priority", **config) as pool:
            before = asyncio.all_tasks()
            block = asyncio.create_task(pool.acquire().__aenter__())
            await entered.wait()
            block.cancel()
            await asyncio.wait([block])
            await (pool.astop() if how == "stop" else pool.aremove_member("a"))
            assert asyncio.all_tasks() == before

    run(main)


def test_a_sync_factorys_agent_is_one_for_all() -> None:
    """It was made in a thread, so it is bound to no loop."""

    class Plain:
        def run(self, payload: Any) -> Any:
            return payload

    with pool_of(Member("a", factory=Plain, max_concurrency=3)) as pool:

        async def main() -> Any:
            async with pool.acquire() as agent:
                return agent

        first, second = run(main), run(main)
        with pool.acquire() as third:
            assert first is second is third


def test_a_context_manager_is_entered_and_left_on_each_loop_in_one_task() -> None:
    """As the member's own is: the agent is what entering gives, and one task does both."""
    log: list[tuple[str, object]] = []

    @asynccontextmanager
    async def factory() -> AsyncIterator[Any]:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()

        async def agent(payload: Any) -> Any:
            assert asyncio.get_running_loop() is loop
            return payload

        log.append(("entered", loop))
        try:
            yield agent
        finally:
            assert asyncio.current_task() is task
            log.append(("left", loop))

    with pool_of(Member("a", factory=factory, max_concurrency=3)) as pool:

        async def main() -> Loop:
            async with pool.acquire() as agent:
                assert await agent("x") == "x"
            async with pool.acquire() as again:
                assert again is agent
            return asyncio.get_running_loop()

        mine = run(main)
        assert [what for what, loop in log if loop is mine] == ["entered", "left"]

        async def stops() -> Loop:
            loop = await main()
            await pool.stop(block=False)
            assert log.count(("left", loop)) == 1
            return loop

        run(stops)
    assert [what for what, _ in log].count("entered") == 3
    assert [what for what, _ in log].count("left") == 3


class Lending:
    """Agents that are lent: a text each, numbered; those that have been closed."""

    def __init__(self) -> None:
        self.made = 0
        self.closed: list[int] = []
        self.gate: asyncio.Event | None = None
        self.slow: asyncio.Event | None = None
        self.agents = LoopAgents("lent", self._made, None, 1000.0)

    @asynccontextmanager
    async def _made(self) -> AsyncIterator[int]:
        self.made += 1
        number = self.made
        try:
            if self.gate is not None:
                await self.gate.wait()
            yield number
        finally:
            if self.slow is not None:
                await self.slow.wait()
            self.closed.append(number)

    async def ended(self, number: int) -> None:
        """Until it has been closed."""
        while number not in self.closed:  # noqa: ASYNC110 - nobody can tell
            await asyncio.sleep(0)


def test_an_agent_that_is_forgotten_is_closed_when_the_last_block_is_left() -> None:
    """Whoever comes meanwhile has another one; what nobody forgets is kept."""

    async def main() -> None:
        lending = Lending()
        async with lending.agents.lent() as kept:
            assert await kept.agent() == 1
        async with lending.agents.lent() as first, lending.agents.lent() as again:
            assert again is first
            async with lending.agents.lent() as bad:
                bad.forget()
            async with lending.agents.lent() as second:
                assert await second.agent() == 2
            await asyncio.sleep(0)
            assert await again.agent() == 1
            assert lending.closed == []
        await lending.ended(1)
        assert await lending.agents.get() == 2
        lending.agents.close(lambda: None)
        await lending.ended(2)

    run(main)


def test_the_end_waits_for_what_has_been_forgotten() -> None:
    """It is on its way out, which may take a while."""

    async def main() -> None:
        lending = Lending()
        lending.slow = asyncio.Event()
        async with lending.agents.lent() as kept:
            await kept.agent()
            kept.forget()
        over = asyncio.Event()
        lending.agents.close(over.set)
        for _ in range(10):
            await asyncio.sleep(0)
        assert not over.is_set()
        lending.slow.set()
        await over.wait()
        assert lending.closed == [1]

    run(main)


def test_what_is_forgotten_before_it_is_made_is_given_up() -> None:
    """Its factory is cancelled, and asked again by the next block."""

    async def main() -> None:
        lending = Lending()
        lending.gate = asyncio.Event()
        async with lending.agents.lent() as kept:
            await asyncio.sleep(0)
            kept.forget()
        await lending.ended(1)
        lending.gate.set()
        async with lending.agents.lent() as kept:
            assert await kept.agent() == 2
        lending.agents.close(lambda: None)
        await lending.ended(2)

    run(main)
