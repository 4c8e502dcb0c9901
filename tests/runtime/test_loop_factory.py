"""The event loop of async agents: asyncio's, or uvloop's where that is installed and asked for."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import threading
from typing import Any

import pytest
from helpers_pools import WAIT_S, pool_of

from greenroom import AgentPool, FallbackChain, Member, PoolConfig, Request
from greenroom.actors.runtime import loop_thread
from greenroom.actors.runtime.loop_factory import loop_factory
from greenroom.actors.runtime.loop_thread import LoopThread
from greenroom.messages.errors import ResourceError
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


class Making:
    """Makes loops, and lets none go on before so many others have asked to make theirs."""

    def __init__(self, others: int) -> None:
        self.asked = threading.Semaphore(0)
        self.others = others
        self.course: list[str] = []

    def __call__(self) -> asyncio.AbstractEventLoop:
        self.course.append("begins")
        for _ in range(self.others):
            assert self.asked.acquire(timeout=WAIT_S)
        self.others = 0
        self.course.append("is made")
        return asyncio.new_event_loop()


class Asked:
    """A lock that tells of each who wants it."""

    def __init__(self, asked: threading.Semaphore) -> None:
        self._asked = asked
        self._lock = threading.Lock()
        self.release = self._lock.release

    def acquire(self, timeout: float) -> bool:
        if not self._lock.acquire(blocking=False):
            self._asked.release()
            return self._lock.acquire(timeout=timeout)
        return True


def post_from_threads(loops: list[LoopThread]) -> None:
    """Have all of them used at once, and ended."""
    done = threading.Barrier(len(loops) + 1)
    for loop in loops:

        def use(loop: LoopThread = loop) -> None:
            assert loop.post(lambda: None)
            done.wait(WAIT_S)

        threading.Thread(target=use).start()
    done.wait(WAIT_S)
    for loop in loops:
        loop.close()


def test_loops_begin_one_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever pools they are for: a thousand threads that begin at once keep each other from it,
    and whoever asks from asking.
    """
    making = Making(others=3)
    monkeypatch.setattr(loop_thread._BEGINNING, "lock", Asked(making.asked))
    post_from_threads([LoopThread(str(i), new_loop=making) for i in range(4)])
    assert making.course == ["begins", "is made"] * 4


def test_a_loop_that_hangs_when_it_is_made_holds_up_no_other_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The others wait within reason."""
    monkeypatch.setattr(loop_thread, "PATIENCE_S", 0.001)
    with loop_thread._BEGINNING.turn():
        post_from_threads([LoopThread("another")])


def test_a_loop_that_cannot_be_made_holds_up_no_other() -> None:
    """The next one begins at once, and the same one when it is used again."""

    def fail() -> asyncio.AbstractEventLoop:
        raise OSError("no descriptor")

    loop = LoopThread("fails", new_loop=fail)
    with pytest.raises(ResourceError):
        loop.post(lambda: None)
    assert not loop_thread._BEGINNING.lock.locked()
    post_from_threads([LoopThread("another")])
