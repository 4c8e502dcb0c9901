"""What the tests of stalled loops share: an agent that blocks its loop, time that is seen."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pykka
from helpers_pools import WAIT_S

from greenroom import PoolRef
from greenroom.actors.member.agent_actor import AgentActor
from greenroom.testing import AsyncScriptedAgent, FakeClock

LOOK_S = 0.25
"""Time between two looks at a loop that does not answer, with the default settings."""
REPORTED_S = 2.0
"""A stall that begins at once is asked about after one second, and reported after another."""

QUIET: dict[str, Any] = {
    "request_timeout_s": None,
    "loop_replaced_after_s": None,
    "restart_backoff_s": 0.0,
}
"""Nothing happens but what the test is about."""


_BLOCKED: set[threading.Thread] = set()
"""The loop threads that a `Blocker` holds right now."""


def pass_time(pool: PoolRef, clock: FakeClock, seconds: float) -> None:
    """Let time pass in steps, each of which the supervisor has seen before the next one; so it has
    the answer of every loop that can give one, however late its thread comes to its turn.
    """
    for _ in range(round(seconds / LOOK_S)):
        clock.advance(LOOK_S)
        pool.stats()
        _hear_loops()
        pool.stats()


def _hear_loops() -> None:
    """Wait until every loop that nobody blocks has done what it was told until now."""
    for ref in pykka.ActorRegistry.get_by_class(AgentActor):
        place = cast(AgentActor, ref._actor).host  # type: ignore[attr-defined]
        loop = place._loop_thread
        if loop.ident is None or loop.ident in _blocked() or loop.lost or loop.ended:
            continue
        heard, give_up_at = threading.Event(), time.monotonic() + WAIT_S
        place.loop.ping(heard.set)
        while not heard.wait(0.01) and loop.ident not in _blocked() and not loop.ended:
            assert time.monotonic() < give_up_at, f"{loop.name} does not answer"


def _blocked() -> set[int | None]:
    return {thread.ident for thread in list(_BLOCKED)}


class Blocker:
    """An async agent that answers, but for the payload "block" blocks its loop until `release`.

    Attributes:
        threads: the loop threads that were blocked, in order.
    """

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []
        self.payloads: list[Any] = []
        self._entered = threading.Semaphore(0)
        self._gate = threading.Event()

    async def __call__(self, payload: Any = "block") -> Any:
        self.payloads.append(payload)
        if payload == "block":
            self.block()
        return payload

    def block(self, *_: Any) -> None:
        """Block this thread, whatever it is."""
        me = threading.current_thread()
        self.threads.append(me)
        _BLOCKED.add(me)
        self._entered.release()
        try:
            assert self._gate.wait(6 * WAIT_S), "nobody released the loop"
        finally:
            _BLOCKED.discard(me)

    def wait_entered(self) -> None:
        assert self._entered.acquire(timeout=WAIT_S), "nothing blocks"

    def release(self) -> None:
        self._gate.set()

    def join(self) -> None:
        """Wait for the end of every thread that was blocked."""
        for thread in self.threads:
            thread.join(WAIT_S)
            assert not thread.is_alive(), f"{thread.name} goes on"


class Resident:
    """An async agent that says in which loop's thread it ran, or is held there until `let_go`."""

    def __init__(self) -> None:
        self.payloads: list[Any] = []
        self.cancelled = threading.Semaphore(0)
        self._entered = threading.Semaphore(0)
        self._held = True

    async def __call__(self, payload: Any) -> str:
        self.payloads.append(payload)
        if payload == "hold" and self._held:
            self._entered.release()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled.release()
                raise
        return threading.current_thread().name

    def wait_entered(self) -> None:
        assert self._entered.acquire(timeout=WAIT_S), "no call is held"

    def let_go(self) -> None:
        """Answer at once from now on."""
        self._held = False


async def begun(agent: AsyncScriptedAgent, calls: int = 1) -> None:
    """Wait until so many have begun, without blocking the loop: the agent may run on it."""
    with ThreadPoolExecutor(1) as executor:  # the loop's own may be full
        await asyncio.get_running_loop().run_in_executor(executor, agent.wait_for_calls, calls)
