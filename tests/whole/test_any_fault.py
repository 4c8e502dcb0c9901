"""Whatever raises between a request and its answer, in a thread of the pool's: the request is
answered, every slot comes back, no breaker is blamed, and nothing of the pool is dead.
"""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import Callable
from typing import Any

import pytest
from helpers_actors import no_thread_left
from helpers_faults import Faults, Where
from helpers_pools import WAIT_S
from helpers_scenes import SLOTS, TIMELY, USUAL, Scene, at_rest

from greenroom import Apply, CircuitState, PoolRef

ERRORS: list[Callable[[], BaseException]] = [
    MemoryError,
    KeyboardInterrupt,
    lambda: RuntimeError("can't start new thread"),
    lambda: OSError(errno.EMFILE, "Too many open files"),
]
VISITS = 3
"""How often requests go their way at most until one comes by where something is to raise."""
OUTERMOST = {
    "LoopExecutor._run",
    "run_on.<locals>.begin",
    "run_on.<locals>.ended",
    "call_each",
    "_Watch.run",
    "PoolActor._actor_loop_running",
}
"""There is nothing of greenroom's around them that could catch what they raise at their entry,
which only a want of memory for a frame does: what asyncio calls (the first step of a task, its
callback), the thread of the clock, the loop of an actor, which begins once; and `call_each`, which
wakes who waits.
"""


def together(pool: PoolRef, name: str, runs_on_loop: bool, where: Where) -> None:
    """The member serves with all its slots."""
    pool.reset_all()
    for other in pool.stats().members:
        if other.name != name:
            pool.force_open(other.name)
    begun, leave = threading.Semaphore(0), threading.Event()

    def hold(_: Any) -> None:
        begun.release()
        leave.wait(WAIT_S)

    async def ahold(_: Any) -> None:
        begun.release()
        await asyncio.to_thread(leave.wait, WAIT_S)

    work: Callable[[Any], Any] = ahold if runs_on_loop else hold
    futures = [pool.ask(Apply(work), block=False) for _ in range(SLOTS)]
    held = sum(begun.acquire(timeout=WAIT_S) for _ in range(SLOTS))
    leave.set()
    assert held == SLOTS, (where, name)
    for future in futures:
        future.get(timeout=WAIT_S)
    pool.reset_all()


# What is raised in a finalizer is printed by Python, and nothing else.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("scenes", [USUAL, TIMELY], ids=["usual", "timely"])
def test_whatever_raises_ends_one_request_at_most(scenes: dict[str, Callable[[], Any]]) -> None:
    """Each function that requests come by raises in its turn, once, in a pool of its own: where
    they are answered, fail, stream, queue, are nested; where time limits, hedges, trials,
    cancellations, removals and restarts meet them.
    """
    tried: set[Where] = set()
    raised = 0
    with no_thread_left(), Faults().installed() as faults:
        for name, scene in scenes.items():
            faults.seen.clear()
            with scene() as at_work, faults.watched():
                assert at_work.do(), name
            places = sorted(each for each in faults.seen - tried if each[1] not in OUTERMOST)
            for number, where in enumerate(places):
                with scene() as at_work:
                    _raise_at(where, ERRORS[number % len(ERRORS)], faults, at_work)
                raised += faults.raised
            tried.update(places)
    assert raised > 0.8 * len(tried) > 300


def _raise_at(
    where: Where, error: Callable[[], BaseException], faults: Faults, scene: Scene
) -> None:
    pool = scene.pool
    pool.stats()
    # Not every time comes by everywhere: who does the router's part is a matter of who is there.
    for visit in range(VISITS):
        if visit:
            assert scene.heal(), where
        with faults.at(where, error):
            assert scene.do(), where
        if faults.raised:
            break
    at_rest(pool)
    assert scene.heal(), where
    for member in at_rest(pool).members:
        assert member.health.circuit is CircuitState.CLOSED, (where, member)
    assert scene.do(), where
    at_rest(pool)
    assert scene.heal(), where
    together(pool, "a", scene.runs_on_loop, where)
    together(pool, "b", False, where)
