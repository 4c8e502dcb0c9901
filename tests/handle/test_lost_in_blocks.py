"""Blocks whose agent is gone for good: behaviour 259."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from helpers_attempts import run, stats
from helpers_lost import AsyncMortal, Makers, Mortal
from helpers_pools import WAIT_S, pool_of
from helpers_streams import Doing

from greenroom import AgentLostError, AllPoolMembersFailedError, Member, PoolRef
from greenroom.actors.executors import loop_agents
from greenroom.messages import MemberAgentLost, MemberAgentRemade
from greenroom.testing import EventRecorder


def bound_member(makers: Makers, **more: Any) -> Member:
    async def factory() -> Any:
        return makers()

    return Member("lazy", factory=factory, max_concurrency=8, **more)


async def used(pool: PoolRef, payload: str = "x") -> int:
    """The number of the agent that answers in a block of a loop over attempts."""
    async for attempt in pool.attempts():
        async with attempt as agent:
            # Only the first agent of the loop is ended: what follows goes on.
            number: int = await agent.arun(payload if attempt.number == 1 else "x")
    return number


async def until_closed(agent: AsyncMortal) -> None:
    """It is closed by a task of this very loop."""
    while not agent.closes:  # noqa: ASYNC110 - a task of nobody's
        await asyncio.sleep(0)


def test_b259_a_block_that_says_so_is_followed_by_one_with_a_fresh_agent() -> None:
    """On a caller's loop: there alone. The member's own, and that of another loop, go on."""
    makers = Makers(AsyncMortal)
    with pool_of(bound_member(makers), event_loop="own") as pool:
        assert pool.execute("x", timeout=WAIT_S) == 1

        async def other() -> int:
            return await used(pool)

        async def main() -> None:
            assert await used(pool) == 2
            assert Doing(lambda: run(other)).result() == 3
            assert await used(pool, "end") == 4
            await until_closed(makers.made[1])
            assert await used(pool) == 4
            assert await pool.aexecute("x") == 1
            assert (await stats(pool))["lazy"].agents_lost == 1
            await pool.stop(block=False)

        run(main)
    assert sorted(makers.closed) == [1, 2, 3, 4]


def test_b259_the_fresh_agent_of_a_loop_is_told_of_too(log: EventRecorder) -> None:
    """Once there is one: not while its factory fails, nor where one is made without a loss."""
    fails = iter([False, False, True, False])
    makers = Makers(AsyncMortal)

    async def factory() -> Any:
        if next(fails):
            raise ConnectionError("refused")
        return makers()

    member = Member("lazy", factory=factory, max_concurrency=8)
    with pool_of(member, event_loop="own", max_retries=0) as pool:
        pool.execute("x", timeout=WAIT_S)

        async def main() -> None:
            assert await used(pool) == 2
            with pytest.raises(AllPoolMembersFailedError):
                await used(pool, "end")
            with pytest.raises(AllPoolMembersFailedError):
                await used(pool)
            assert not log.named(MemberAgentRemade)
            pool.reset_member("lazy")
            assert await used(pool) == 3
            await pool.stop(block=False)

        run(main)
    assert [each.member for each in log.named(MemberAgentLost)] == ["lazy"]
    assert [each.member for each in log.named(MemberAgentRemade)] == ["lazy"]


def test_b259_other_blocks_go_on_with_the_old_agent() -> None:
    """It is closed behind the last of them, on its loop."""
    makers = Makers(AsyncMortal)
    with pool_of(bound_member(makers), event_loop="own") as pool:

        async def main() -> None:
            async with pool.acquire() as old:
                assert await used(pool, "end") != old.number
                await stats(pool)
                assert not old.closes
                old.let_go()
                assert await old.arun("hold") == old.number
            await until_closed(old)
            assert [each.number for each in makers.made if each.closes] == [old.number]
            await pool.stop(block=False)

        run(main)


def test_b259_an_agent_that_does_not_close_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its task is cancelled on the caller's loop, which has not to wait for it."""
    told: list[str] = []
    monkeypatch.setattr(loop_agents, "complain", lambda what, error: told.append(what))

    class Stuck(AsyncMortal):
        cancelled = 0

        async def aclose(self) -> None:
            if self.number == 2:
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    self.closes += 1
                    raise
            await super().aclose()

    makers = Makers(Stuck)
    monkeypatch.setattr("greenroom.actors.member.agent_host.CLOSE_LIMIT_S", 0.0)
    with pool_of(bound_member(makers), event_loop="own") as pool:
        pool.execute("x", timeout=WAIT_S)

        async def main() -> None:
            assert await used(pool, "end") == 3
            await until_closed(makers.made[1])
            await pool.stop(block=False)

        run(main)
    assert told == ["closing a lost agent of greenroom-pool-lazy is given up"]


def test_b259_the_pools_end_closes_who_was_lost_while_it_was_used() -> None:
    """The block is cut, and the old agent closed on its loop as the new one is."""
    makers = Makers(AsyncMortal)
    with pool_of(bound_member(makers), event_loop="own") as pool:

        async def main() -> None:
            async def hold() -> None:
                async with pool.acquire() as agent:
                    entered.set_result(agent)
                    await asyncio.Event().wait()

            entered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            task = asyncio.create_task(hold())
            await entered
            await used(pool, "end")
            await pool.stop(block=False)
            await asyncio.wait([task])

        run(main)
    assert sorted(makers.closed) == [each.number for each in makers.made]


@pytest.mark.parametrize("way", ["raise", "fail"])
def test_b259_a_block_of_a_thread_says_so(way: str, log: EventRecorder) -> None:
    """By an error, or by `fail`: the next attempt has the next agent."""
    makers = Makers(Mortal)
    with pool_of(Member("lazy", factory=makers)) as pool:
        numbers = []
        for attempt in pool.attempts():
            with attempt as agent:
                numbers.append(agent.number)
                if attempt.number == 1 and way == "fail":
                    attempt.fail("its process has ended", lost=True)
                elif attempt.number == 1:
                    raise AgentLostError("its process has ended")
        assert numbers == [1, 2]
        assert makers.made[0].closed.wait(WAIT_S)
    assert makers.closed == [1, 2]
    assert "its process has ended" in log.wait_for(MemberAgentLost).error


def test_b259_a_block_on_the_home_loop_has_the_members_own() -> None:
    """There is one agent there, for blocks and calls."""
    makers = Makers(AsyncMortal)

    async def main() -> None:
        with pool_of(bound_member(makers)) as pool:
            assert await used(pool, "end") == 2
            assert await pool.aexecute("x") == 2
            await until_closed(makers.made[0])
            await pool.stop(block=False)

    run(main)
    assert makers.closed == [1, 2]


def test_b259_an_acquired_agent_that_is_lost_raises_and_is_made_anew() -> None:
    """One attempt: its caller has the error as it is."""
    makers = Makers(Mortal)
    with pool_of(Member("lazy", factory=makers)) as pool:
        with pytest.raises(AgentLostError), pool.acquire() as agent:
            agent.run("end")
        with pool.acquire() as agent:
            assert agent.number == 2


def test_b259_a_factory_that_says_so_on_a_callers_loop_leaves_the_members_own_alone() -> None:
    """There was none there to be lost."""
    makers = Makers(AsyncMortal)
    here: list[asyncio.AbstractEventLoop] = []

    async def factory() -> Any:
        if asyncio.get_running_loop() in here:
            raise AgentLostError("no process")
        return makers()

    with pool_of(Member("lazy", factory=factory), event_loop="own", max_retries=0) as pool:

        async def main() -> None:
            assert await pool.aexecute("x") == 1
            here.append(asyncio.get_running_loop())
            with pytest.raises(AgentLostError):
                async with pool.acquire():
                    pytest.fail("there is no agent")
            assert await pool.aexecute("x") == 1
            assert (await stats(pool))["lazy"].agents_lost == 0

        run(main)


@pytest.mark.parametrize("wrong", [1, "yes", None])
def test_b259_fail_takes_a_truth(wrong: Any) -> None:
    with pool_of(Member("a", len)) as pool:
        for attempt in pool.attempts():
            with attempt, pytest.raises(TypeError, match="lost must be True or False"):
                attempt.fail("x", lost=wrong)
