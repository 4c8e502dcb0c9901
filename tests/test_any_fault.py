"""Whatever raises between a request and its echo, in a thread of the pool's: the request is
answered, every slot comes back, no breaker is blamed, and nothing of the pool is dead.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import sys
import threading
from collections.abc import Callable
from typing import Any

import pykka
from helpers_actors import no_thread_left
from helpers_faults import Faults, Where
from helpers_pools import WAIT_S, async_chunks, chunks, echo, echo_async, pool_of

from greenroom import Apply, CircuitState, GetStats, Member, PoolRef, PoolStats, Request

SLOTS = 2
QUIET: dict[str, Any] = {
    "retry_delay_s": 0.0,
    "request_timeout_s": None,
    "circuit_failure_threshold": 50,
}
ERRORS: list[Callable[[], BaseException]] = [
    MemoryError,
    KeyboardInterrupt,
    lambda: RuntimeError("can't start new thread"),
    lambda: OSError(errno.EMFILE, "Too many open files"),
]
OUTERMOST = {
    "LoopPlace._run",
    "LoopPlace._start",
    "run_on.<locals>.begin",
    "run_on.<locals>.ended",
    "ThreadPlace._work",
    "call_each",
    "PoolFuture.set",  # by Pykka's loop
    "_Watch._run",
    "LoopThread._run",
    "PoolActor._handle_receive",
    "PoolActor._actor_loop_running",
    "Mailbox._borrow",
    "Mailbox._handle_all",
    "RequestFlow._see_to",
    "Endings._telling",
}
"""The first functions of greenroom's in a thread, and the guards: there is nothing around them that
could catch what they raise at their entry, which only a want of memory for a frame does.
"""


def fail(payload: Any) -> Any:
    raise ConnectionError


async def afail(payload: Any) -> Any:
    raise ConnectionError


def ask(pool: PoolRef) -> bool:
    """Whether it was answered, however."""
    return is_answered(pool.ask(Request("x"), block=False))


def is_answered(future: Any) -> bool:
    """The same of one that has been asked."""
    try:
        future.get(timeout=WAIT_S)
    except pykka.Timeout:
        return False
    except BaseException:
        pass
    return True


def stream(pool: PoolRef) -> bool:
    """The same of a stream."""
    ended = threading.Event()

    def read() -> None:
        sys.settrace(None)  # it is no thread of the pool's
        with contextlib.suppress(BaseException):
            list(pool.stream(Request("x")))
        ended.set()

    threading.Thread(target=read, daemon=True).start()
    return ended.wait(WAIT_S)


def queue(pool: PoolRef) -> bool:
    """The same of more asks than there are slots."""
    return all(map(is_answered, [pool.ask(Request("x"), block=False) for _ in range(3 * SLOTS)]))


def rest(pool: PoolRef) -> PoolStats:
    """The pool when nothing is in flight."""
    for _ in range(10_000):
        stats = pool.ask(GetStats(), block=False).get(timeout=WAIT_S)
        slots = sum(member.in_flight for member in stats.members)
        if (stats.in_flight, stats.pending, slots) == (0, 0, 0):
            return stats
    raise AssertionError(f"not at rest: {stats.members}")


def together(pool: PoolRef, name: str, runs_on_loop: bool) -> None:
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
    assert held == SLOTS
    for future in futures:
        future.get(timeout=WAIT_S)
    pool.reset_all()


CASES: list[tuple[Callable[..., Any], Callable[[PoolRef], bool]]] = [
    (echo, ask),
    (echo_async, ask),
    (chunks, stream),
    (async_chunks, stream),
    (fail, ask),
    (afail, ask),
    (echo, queue),
]


def test_whatever_raises_ends_one_request_at_most() -> None:
    """Each function that requests come by raises in its turn, once, in a pool of its own."""
    tried: set[Where] = set()
    raised = 0
    with no_thread_left(), Faults().installed() as faults:
        for agent, do in CASES:
            with _pool(agent) as pool, faults.watched():
                assert do(pool)
            places = sorted(each for each in faults.seen - tried if each[1] not in OUTERMOST)
            for number, where in enumerate(places):
                with _pool(agent) as pool:
                    _raise_at(where, ERRORS[number % len(ERRORS)], faults, pool, do)
                    together(pool, "a", agent in (echo_async, async_chunks, afail))
                    together(pool, "b", False)
                raised += faults.raised
            tried.update(places)
    assert raised > 0.8 * len(tried) > 200


def _pool(agent: Callable[..., Any]) -> Any:
    """A pool at work, in which somebody else can answer."""
    members = [
        Member("a", agent, max_concurrency=SLOTS),
        Member("b", echo, max_concurrency=SLOTS, priority=1),
    ]
    return pool_of(*members, **QUIET)


def _raise_at(
    where: Where,
    error: Callable[[], BaseException],
    faults: Faults,
    pool: PoolRef,
    do: Callable[[PoolRef], bool],
) -> None:
    pool.stats()
    with faults.at(where, error):
        assert do(pool), where
    for member in rest(pool).members:
        assert member.health.circuit is CircuitState.CLOSED, (where, member)
    assert do(pool), where
