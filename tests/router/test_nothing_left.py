"""A pool that has stopped leaves nothing behind, and keeps no process: behaviours 40 and 41."""

from __future__ import annotations

import gc
import itertools
import logging
import subprocess
import sys
import textwrap
import threading
import weakref
from typing import Any

import psutil
import pykka
import pytest
from helpers_actors import Neighbour, crash, member_ref, no_thread_left
from helpers_pools import WAIT_S, echo, echo_async, pool_of
from loguru import logger

from greenroom import AgentPool, Member, Request
from greenroom.actors.member.agent_actor import AgentActor
from greenroom.messages import Event
from greenroom.supervisors.pool_supervisor import PoolSupervisor
from greenroom.testing import AsyncScriptedAgent, FakeClock, ScriptedAgent

# -- 40: nothing is left behind


class Closing:
    def run(self, payload: Any) -> Any:
        return payload

    def close(self) -> None:
        pass


def one_pool() -> None:
    """Starts a pool of every kind of member, uses it, and stops it with calls in flight."""
    hang, hang_async = ScriptedAgent.hanging(), AsyncScriptedAgent.hanging()
    got: list[Event] = []
    members = [
        Member("sync", echo),
        Member("async", echo_async),
        Member("isolated", echo_async, isolated=True),
        Member("lazy", factory=Closing, probe=lambda agent: True),
        Member("hang", hang),
        Member("hang_async", hang_async, max_concurrency=1),
    ]
    clock = FakeClock() if one_pool_number() % 2 else None
    with pool_of(*members, clock=clock, strategy="round_robin") as pool:
        pool.on_event(got.append)
        futures = [pool.ask(Request(i), block=False) for i in range(6)]
        assert [future.get(timeout=WAIT_S).value for future in futures[:4]] == [0, 1, 2, 3]
        hang.wait_for_calls()
        hang_async.wait_for_calls()
        crash(member_ref(pool, "sync"))
        pool.stats()
    hang.release()
    assert got[-1].name == "pool.stopped"
    assert all(future.done() for future in futures)


one_pool_number = itertools.count().__next__


def handlers() -> tuple[Any, ...]:
    core: Any = logger._core  # type: ignore[attr-defined]
    names = ("", "pykka", "asyncio", "greenroom")
    return (
        list(core.handlers),
        [list(logging.getLogger(name).handlers) for name in names],
        [list(logging.getLogger(name).filters) for name in names],
        [logging.getLogger(name).level for name in names],
        threading.excepthook,
        sys.excepthook,
        sys.unraisablehook,
    )


def test_b40_two_hundred_pools_leave_nothing_behind(caplog: pytest.LogCaptureFixture) -> None:
    """200 pools started and stopped: threads, file descriptors and memory back to where they were;
    no global handler left; the app's own Pykka actors untouched.
    """
    process = psutil.Process()
    own = Neighbour.start()
    logging.disable(logging.CRITICAL)  # what caplog keeps is not the pools' memory
    try:
        actors = pykka.ActorRegistry.get_all()
        with no_thread_left():
            for _ in range(50):
                one_pool()
        gc.collect()
        before = (set(threading.enumerate()), process.num_fds(), handlers())
        memory = process.memory_info().rss
        with no_thread_left():
            for _ in range(200):
                one_pool()
        gc.collect()
        assert set(threading.enumerate()) <= before[0]
        assert process.num_fds() <= before[1]
        assert handlers() == before[2]
        assert process.memory_info().rss - memory < 20 * 2**20
        assert pykka.ActorRegistry.get_all() == actors
        assert own.ask("still here", timeout=WAIT_S) == "still here"
    finally:
        logging.disable(logging.NOTSET)
        own.stop(timeout=WAIT_S)


def living_actors() -> set[str]:
    """The urns of the actors that something still refers to."""
    gc.collect()
    kinds = (AgentPool, PoolSupervisor, AgentActor)
    return {each.actor_urn for each in gc.get_objects() if isinstance(each, kinds)}


def test_b40_a_stopped_pool_is_garbage() -> None:
    """No registry, no clock and no thread holds a stopped pool's actors."""

    def actors() -> list[Any]:
        gc.collect()
        kinds = (AgentPool, PoolSupervisor, AgentActor)
        return [each for each in gc.get_objects() if isinstance(each, kinds)]

    clock = FakeClock()
    before = weakref.WeakSet(actors())
    members = [Member("a", echo), Member("b", echo_async, isolated=True)]
    with no_thread_left(), pool_of(*members, clock=clock) as pool:
        pool.execute("x", timeout=WAIT_S)
        pool.execute("x", timeout=WAIT_S)
    del pool
    assert [each for each in actors() if each not in before] == []
    assert clock._wakes == []


def test_b40_answered_requests_are_garbage() -> None:
    """What a pool has answered, it forgets: payload, value and error."""

    class Payload:
        pass

    def agent(payload: Payload) -> Payload:
        return Payload()

    def failing(payload: Payload) -> Payload:
        raise ValueError(payload)

    members = [
        Member("bad", failing),
        Member("sync", agent),
        Member("async", echo_async),
    ]
    with pool_of(*members, strategy="round_robin", clock=FakeClock()) as pool:
        for _ in range(30):
            pool.execute(Payload(), timeout=WAIT_S)
        for name in ("bad", "sync", "async"):
            pool.force_open(name)
        pool.stats()
        gc.collect()
        left = [each for each in gc.get_objects() if isinstance(each, Payload)]
        assert len(left) == 0


# -- 41: a process ends by itself

SCRIPT = """
import asyncio, threading, time
from greenroom import AgentPool, Member, Request

entered = threading.Barrier(4)

def hang(payload):
    entered.wait(30)
    threading.Event().wait()

async def hang_async(payload):
    await asyncio.get_running_loop().run_in_executor(executor, entered.wait, 30)
    await asyncio.Event().wait()

def factory():
    threading.Event().wait()

from concurrent.futures import ThreadPoolExecutor
executor = ThreadPoolExecutor()

pool = AgentPool.start([
    Member("sync", hang),
    Member("async", hang_async, max_concurrency=1),
    Member("isolated", hang_async, isolated=True, max_concurrency=1),
    Member("lazy", factory=factory),
], strategy="round_robin")
pool.on_event(lambda event: None)
futures = [pool.ask(Request(i), block=False) for i in range(10)]
entered.wait(30)
print("end of main")
"""


@pytest.mark.parametrize(
    "more",
    [
        "",
        "pool.stop()",
        "raise SystemExit(0)",
        "import atexit; atexit.register(pool.stop)",
        "import threading; threading.Thread(target=pool.stop).start()",
        "pool.tell(Request('last'))",
        "import greenroom; greenroom.AgentPool.start([])",
    ],
    ids=["running", "stopped", "exit", "atexit", "stopping", "tell", "starting"],
)
def test_b41_a_process_ends_by_itself_with_a_pool_running(more: str) -> None:
    """The process ends by itself when main returns, with a pool running and calls in flight."""
    script = textwrap.dedent(SCRIPT) + more + "\n"
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        capture_output=True,
        text=True,
        timeout=6 * WAIT_S,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "end of main\n", "")


def test_b41_an_asyncio_program_ends_by_itself_too() -> None:
    script = """
import asyncio
from greenroom import AgentPool, Member, Request

async def hang(payload):
    await asyncio.Event().wait()

async def main():
    pool = AgentPool.start([Member("a", hang)])
    task = asyncio.create_task(ask(pool))
    await asyncio.sleep(0)

async def ask(pool):
    await pool.ask(Request("x"), block=False)

asyncio.run(main())
print("end of main")
"""
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        capture_output=True,
        text=True,
        timeout=6 * WAIT_S,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "end of main\n", "")
