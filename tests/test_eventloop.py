"""The event loop of async agents: asyncio's, or uvloop's where that is installed and asked for."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
from typing import Any

import pytest
from helpers_pools import WAIT_S, pool_of

from greenroom import AgentPool, FallbackChain, Member, PoolConfig, Request
from greenroom.actors.eventloops import loop_factory
from greenroom.testing import AsyncScriptedAgent

UVLOOP = PoolConfig(event_loop="uvloop")
needs_uvloop = pytest.mark.skipif(
    importlib.util.find_spec("uvloop") is None, reason="uvloop is not installed"
)


async def home(_: Any) -> str:
    """The module of the loop that the agent runs on."""
    return type(asyncio.get_running_loop()).__module__


def without_uvloop(name: str) -> None:
    assert name == "uvloop"
    raise ModuleNotFoundError("No module named 'uvloop'", name="uvloop")


def test_it_is_asyncios_unless_asked_otherwise() -> None:
    """Nothing is switched on by the mere presence of uvloop."""
    assert loop_factory("asyncio") is asyncio.new_event_loop
    with pool_of(Member("a", home)) as pool:
        assert pool.execute("where", timeout=WAIT_S).startswith("asyncio.")


@needs_uvloop
@pytest.mark.parametrize("isolated", [False, True])
def test_uvloop_on_request(isolated: bool) -> None:
    """The shared loop is uvloop's, and so is the one of an isolated member."""
    with pool_of(Member("a", home, isolated=isolated), event_loop="uvloop") as pool:
        assert pool.execute("where", timeout=WAIT_S).startswith("uvloop")


@needs_uvloop
def test_a_coroutine_is_cancelled_on_uvloop_too() -> None:
    """A caller that gives up ends the call, whoever's loop it runs on."""
    agent = AsyncScriptedAgent.hanging()
    with pool_of(Member("a", agent), event_loop="uvloop") as pool:
        future = pool.ask(Request("x"), block=False)
        agent.wait_for_calls()
        assert future.cancel()
        agent.wait_for_cancelled()


@needs_uvloop
def test_uvloop_survives_what_an_agents_task_raises() -> None:
    """A SystemExit in a task of the agent's own ends neither the loop nor the pool."""

    async def quit_() -> None:
        raise SystemExit(3)

    async def agent(payload: Any) -> Any:
        if payload == "quit":
            task = asyncio.ensure_future(quit_())
            await asyncio.wait([task])
        return payload

    with pool_of(Member("a", agent), event_loop="uvloop") as pool:
        assert pool.execute("quit", timeout=WAIT_S) == "quit"
        assert pool.execute("hello", timeout=WAIT_S) == "hello"


@pytest.mark.parametrize(
    "start",
    [
        lambda: AgentPool.start([Member("a", home)], config=UVLOOP),
        lambda: FallbackChain[Any](config=UVLOOP),
    ],
    ids=["AgentPool", "FallbackChain"],
)
def test_uvloop_that_is_missing_is_named_with_its_extra(
    start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said where the pool is started, before any thread is."""
    monkeypatch.setattr(importlib, "import_module", without_uvloop)
    with pytest.raises(ModuleNotFoundError) as caught:
        start()
    assert str(caught.value) == (
        "event_loop='uvloop' needs uvloop, which is not installed; "
        "install it with: pip install 'greenroom[uvloop]'"
    )
    assert caught.value.name == "uvloop"
