"""The short forms as coroutines: the same arguments, answers and errors; the loop stays free."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar, assert_type

import pykka
import pytest
from helpers_agents import AsyncHeld, Held, raising
from helpers_pools import WAIT_S, echo, echo_async, pool_of, ranked

from greenroom import (
    AddMember,
    Apply,
    AskTimeoutError,
    CircuitState,
    DeadlineExceededError,
    Drain,
    FailureKind,
    GetStats,
    Member,
    MemberExistsError,
    PoolRef,
    PoolStats,
    PoolStoppedError,
    ReentrantAskError,
    RemoveMember,
    Reply,
    Request,
    UnknownMemberError,
)
from greenroom.testing import FakeClock

T = TypeVar("T")

FORMS = (
    "ask",
    "execute",
    "apply",
    "stop",
    "stats",
    "configure",
    "reload",
    "drain",
    "cancel",
    "add_member",
    "remove_member",
    "reset_member",
    "reset_all",
    "force_open",
    "disable_breaker",
)


def run(main: Coroutine[Any, Any, T]) -> T:
    """In debug mode, which refuses calls from the wrong thread; for a bounded time."""
    return asyncio.run(asyncio.wait_for(main, 3 * WAIT_S), debug=True)


@pytest.mark.parametrize("form", FORMS)
def test_a_form_for_coroutines_has_the_arguments_of_the_other(form: str) -> None:
    """But for `block`, of which a coroutine has no use."""
    sync = inspect.signature(getattr(PoolRef, form))
    wanted = {name: each for name, each in sync.parameters.items() if name != "block"}
    coroutine = getattr(PoolRef, f"a{form}")
    assert inspect.iscoroutinefunction(coroutine)
    assert dict(inspect.signature(coroutine).parameters) == wanted
    assert inspect.signature(coroutine).return_annotation in (sync.return_annotation, "bool")


def test_each_does_what_the_form_that_blocks_does() -> None:
    """Requests, functions, members, breakers, statistics, drain and stop."""

    async def main() -> None:
        with pool_of(*ranked(a=echo, b=echo_async)) as pool:
            assert (await pool.aask(Request("x"))).member == "a"
            assert await pool.aexecute("x", key="k") == "x"
            assert await pool.aapply(lambda agent: agent is echo) is True
            await pool.aforce_open("a")
            assert (await pool.aask(Request("x"))).member == "b"
            assert await pool.aapply(lambda agent: agent("y")) == "y"
            await pool.areset_member("a")
            assert (await pool.astats())["a"].circuit is CircuitState.CLOSED
            await pool.adisable_breaker("a")
            assert (await pool.astats())["a"].circuit is CircuitState.DISABLED
            await pool.areset_all()
            assert (await pool.astats())["a"].circuit is CircuitState.CLOSED
            await pool.aadd_member(Member("c", echo))
            await pool.aremove_member("b")
            assert [each.name for each in (await pool.astats()).members] == ["a", "c"]
            assert await pool.acancel("nobody") is False
            assert await pool.adrain() is True
            assert [await pool.astop(), await pool.astop()] == [True, False]

    run(main())


ERRORS: list[tuple[type[Exception], Callable[[PoolRef], Awaitable[Any]]]] = [
    (MemberExistsError, lambda pool: pool.aadd_member(Member("a", echo))),
    (UnknownMemberError, lambda pool: pool.aremove_member("z")),
    (UnknownMemberError, lambda pool: pool.areset_member("z")),
    (UnknownMemberError, lambda pool: pool.aforce_open("z")),
    (UnknownMemberError, lambda pool: pool.adisable_breaker("z")),
    (TypeError, lambda pool: pool.aexecute("x", timeout="soon")),  # type: ignore[arg-type]
    (ValueError, lambda pool: pool.aexecute("x", timeout=-1)),
    (ValueError, lambda pool: pool.aexecute("x", timeout_s=0)),
    (TypeError, lambda pool: pool.aapply(None)),  # type: ignore[call-overload]
    (ValueError, lambda pool: pool.astop(timeout=-1)),
    (KeyError, lambda pool: pool.aapply(raising(KeyError("the agent's own")))),
]


@pytest.mark.parametrize(("error", "form"), ERRORS)
def test_the_errors_are_those_of_the_forms_that_block(
    error: type[Exception], form: Callable[[PoolRef], Awaitable[Any]]
) -> None:
    """What is unknown, there already, no argument, or the agent's own."""

    async def main() -> None:
        with pool_of(Member("a", echo), classify=lambda _: FailureKind.CALLER) as pool:
            with pytest.raises(error):
                await form(pool)
            pool.stop()
            with pytest.raises(PoolStoppedError):
                await pool.astats()

    run(main())


def test_a_timeout_cancels_the_work(clock: FakeClock) -> None:
    """It is `AskTimeoutError`: Pykka's timeout, greenroom's and a `TimeoutError`."""
    held = AsyncHeld()

    async def main(pool: PoolRef) -> None:
        asked = asyncio.create_task(pool.aexecute("x", timeout=5.0))
        await asyncio.to_thread(held.wait_entered)
        clock.advance(5.0)
        with pytest.raises(AskTimeoutError) as raised:
            await asked
        assert isinstance(raised.value, pykka.Timeout | DeadlineExceededError)
        await asyncio.to_thread(held.wait_cancelled)
        assert (await pool.astats()).in_flight == 0

    with pool_of(Member("a", held), clock=clock, request_timeout_s=None) as pool:
        run(main(pool))


class Stuck:
    """A strategy that holds the router's thread until it is let go."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.gate = threading.Event()

    def pick(self, candidates: Sequence[Any], context: object, rng: object) -> Any:
        self.entered.set()
        assert self.gate.wait(2 * WAIT_S)
        return candidates[0]


def test_a_router_that_says_nothing_does_not_hold_the_asker() -> None:
    """Past the timeout the wait is over, whatever was asked; what comes later is nobody's."""
    stuck = Stuck()

    async def main(pool: PoolRef) -> None:
        for message in (Request("x"), GetStats(), RemoveMember("a"), Drain()):
            with pytest.raises(AskTimeoutError):
                await pool.aask(message, timeout=0.01)
        with pytest.raises(pykka.Timeout, match=r"0\.01 seconds"):
            await pool.astop(timeout=0.01)
        stuck.gate.set()
        await pool.astop()
        assert not pool.is_alive()

    with pool_of(Member("a", echo), strategy=stuck) as pool:
        pool.tell(Request("first"))
        assert stuck.entered.wait(WAIT_S)
        run(main(pool))


def test_a_cancelled_await_cancels_the_request() -> None:
    """The running attempt, too; and the coroutine that never began has sent nothing."""
    held = AsyncHeld()

    async def main(pool: PoolRef) -> None:
        asked = asyncio.create_task(pool.aexecute("x"))
        await asyncio.to_thread(held.wait_entered)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        await asyncio.to_thread(held.wait_cancelled)
        unsent = pool.aexecute("y")
        unsent.close()
        stats = await pool.astats()
        assert (stats.accepted, stats.cancelled) == (1, 1)

    with pool_of(Member("a", held)) as pool:
        run(main(pool))


def test_the_loop_is_free_while_it_waits() -> None:
    """A drain, a removal and a stop wait for a call that the same loop lets go."""
    held = Held()

    async def main(pool: PoolRef) -> None:
        waits = [
            asyncio.create_task(pool.aexecute("x")),
            asyncio.create_task(pool.adrain()),
            asyncio.create_task(pool.aremove_member("a")),
        ]
        while (await pool.astats()).in_flight < 1:
            pass
        held.let_go()
        assert await asyncio.gather(*waits) == ["held", True, None]
        assert await pool.astop() is True

    with pool_of(Member("a", held)) as pool:
        run(main(pool))


def test_a_cancelled_stop_goes_on() -> None:
    """Who gives up waiting takes nothing back."""

    async def main(pool: PoolRef) -> None:
        stopping = asyncio.create_task(pool.astop())
        await asyncio.sleep(0)
        stopping.cancel()
        await asyncio.wait([stopping])
        await pool.astop()
        assert not pool.is_alive()

    with pool_of(Member("a", echo)) as pool:
        run(main(pool))


def test_an_agent_that_would_await_its_own_end_is_told() -> None:
    """Nothing has been done, and the agent answers."""

    async def agent(payload: str) -> str:
        for end in (pool.adrain(), pool.aremove_member("a")):
            with pytest.raises(ReentrantAskError):
                await end
        return payload.upper()

    with pool_of(Member("a", agent), Member("b", echo)) as pool:
        assert pool.execute("x") == "X"
        assert pool.execute("y") == "Y"
        assert not pool.stats().draining


def test_an_agent_may_await_its_own_pool() -> None:
    """As with the message: from another slot."""

    async def agent(payload: str) -> str:
        return payload if payload == "inner" else await pool.aexecute("inner")

    with pool_of(Member("a", agent)) as pool:
        assert run(pool.aexecute("outer")) == "inner"


def test_a_callback_in_the_routers_thread_is_told_before_anything_is_sent() -> None:
    """A loop of its own there would wait for the very thread that it runs in."""
    errors: list[BaseException] = []
    heard = threading.Event()

    class Curious:
        def pick(self, candidates: Sequence[Any], context: object, rng: object) -> Any:
            for form in (pool.aexecute, lambda _: pool.adrain(), lambda _: pool.astop()):
                try:
                    asyncio.run(form("x"))
                except BaseException as error:
                    errors.append(error)
            heard.set()
            return candidates[0]

    with pool_of(Member("a", echo), strategy=Curious()) as pool:
        assert pool.execute("x") == "x"
        assert [type(each) for each in errors] == [ReentrantAskError] * 3
        assert pool.execute("y") == "y"
        assert pool.stats().accepted == 2


async def _types(pool: PoolRef) -> None:
    """What a type checker infers; never run."""

    async def count(agent: list[str]) -> int:
        return len(agent)

    assert_type(await pool.aask(Request("x")), Reply[Any])
    assert_type(await pool.aask(Apply(count)), Reply[int])
    assert_type(await pool.aask(Apply(str)), Reply[str])
    assert_type(await pool.aask(GetStats()), PoolStats)
    assert_type(await pool.aask(AddMember(Member("a", echo))), Any)
    assert_type(await pool.aapply(count), int)
    assert_type(await pool.aapply(str), str)
    assert_type(await pool.aexecute("x"), Any)
    assert_type(await pool.astats(), PoolStats)
    assert_type(await pool.adrain(), bool)
    assert_type(await pool.astop(), bool)
    async with asyncio.TaskGroup() as tasks:
        assert_type(tasks.create_task(pool.aapply(count)), asyncio.Task[int])
