"""Pools in which requests go other ways than the usual one, for tests that let anything raise."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, NamedTuple

import pykka
from helpers_actors import member_ref, stop
from helpers_pools import WAIT_S, pool_of

from greenroom import (
    AddMember,
    Apply,
    Cancel,
    CircuitState,
    Configure,
    ForceOpen,
    GetStats,
    Member,
    PoolError,
    PoolRef,
    RemoveMember,
    Request,
    ResetAll,
)
from greenroom.testing import FakeClock

SLOTS = 2
QUIET: dict[str, Any] = {
    "retry_delay_s": 0.0,
    "request_timeout_s": None,
    "circuit_failure_threshold": 50,
}
TIMED: dict[str, Any] = {
    **QUIET,
    "request_timeout_s": 8.0,
    "loop_stalled_after_s": 1e6,
    "loop_replaced_after_s": None,
    "circuit_success_threshold": 1,
}
_numbers = itertools.count(1)
STEP_S = 10.0
"""More than any limit of a scene's, so that a step of its clock ends what is due."""

LOOK_S = 0.005
"""How long a scene waits before it moves its clock again."""


class Scene(NamedTuple):
    """A pool with the members `a` and `b`.

    Attributes:
        do: lets requests go their way; whether each was answered, however.
        runs_on_loop: whether what `a` does runs on a loop.
        heal: lets time pass until all members serve again.
    """

    pool: PoolRef
    do: Callable[[], bool]
    runs_on_loop: bool
    heal: Callable[[], bool] = lambda: True


def answer(payload: Any) -> Any:
    return payload


async def aanswer(payload: Any) -> Any:
    return payload


def chunks(payload: Any) -> Iterator[Any]:
    yield payload


async def achunks(payload: Any) -> AsyncIterator[Any]:
    yield payload


def fail(payload: Any) -> Any:
    raise ConnectionError


async def afail(payload: Any) -> Any:
    raise ConnectionError


async def hang(payload: Any) -> Any:
    """Never answers what is slow, nor what its key is not good for."""
    if payload == "slow":
        await asyncio.get_running_loop().create_future()
    if payload == "locked":
        error = RuntimeError("no key")
        error.status_code = 401  # type: ignore[attr-defined]
        raise error
    return payload


async def ahang(payload: Any) -> AsyncIterator[Any]:
    yield payload
    await asyncio.get_running_loop().create_future()


# -- whether something was answered


def is_answered(future: Any) -> bool:
    """Whether it is, however, within the time of a test."""
    try:
        future.get(timeout=WAIT_S)
    except pykka.Timeout:
        return False
    except BaseException:
        pass
    return True


def in_time(clock: FakeClock, *futures: Any) -> bool:
    """The same where time must pass for it."""
    for _ in range(int(WAIT_S / LOOK_S)):
        left = [each for each in futures if not each.done()]
        if not left:
            return True
        with contextlib.suppress(Exception):
            left[0].get(timeout=LOOK_S)
        clock.advance(STEP_S)
    return False


def is_read(pool: PoolRef, clock: FakeClock | None = None) -> bool:
    """The same of a stream."""
    ended = threading.Event()

    def read() -> None:
        sys.settrace(None)  # it is no thread of the pool's
        with contextlib.suppress(BaseException):
            list(pool.stream(Request("slow")))
        ended.set()

    threading.Thread(target=read, daemon=True).start()
    if clock is None:
        return ended.wait(WAIT_S)
    for _ in range(int(WAIT_S / LOOK_S)):
        if ended.wait(LOOK_S):
            return True
        clock.advance(STEP_S)
    return False


def at_rest(pool: PoolRef) -> Any:
    """The pool when nothing is in flight."""
    for _ in range(10_000):
        try:
            stats = pool.ask(GetStats(), block=False).get(timeout=WAIT_S)
        except (RuntimeError, PoolError, OSError, MemoryError):  # what was to raise has hit this
            continue
        slots = sum(member.in_flight for member in stats.members)
        if (stats.in_flight, stats.pending, slots) == (0, 0, 0):
            return stats
    raise AssertionError(f"not at rest: {stats.members}")


def later(pool: PoolRef, message: Any) -> Any:
    """The future of a message."""
    return pool.ask(message, block=False)


# -- the scenes


@contextlib.contextmanager
def usual(agent: Callable[..., Any], do: Callable[[PoolRef], bool]) -> Iterator[Scene]:
    """What is asked goes to `a`, which works or fails."""
    with pool_of(*_members(agent), **QUIET) as pool:
        yield Scene(pool, lambda: do(pool), agent in (aanswer, achunks, afail))


def asked(pool: PoolRef) -> bool:
    return is_answered(later(pool, Request("x")))


def queued(pool: PoolRef) -> bool:
    """More asks than there are slots."""
    return all(map(is_answered, [later(pool, Request("x")) for _ in range(3 * SLOTS)]))


def told(pool: PoolRef) -> bool:
    """Tells: nobody hears of them, but none stays in the books."""
    for _ in range(2):
        pool.tell(Request("x"))
    return bool(at_rest(pool))


def applied(pool: PoolRef) -> bool:
    return is_answered(later(pool, Apply(lambda agent: agent("x"))))


@contextlib.contextmanager
def timed(
    agent: Callable[..., Any], do: Callable[[PoolRef, FakeClock], bool], **config: Any
) -> Iterator[Scene]:
    """The same where time passes."""
    clock = FakeClock()
    with pool_of(*_members(agent), clock=clock, **{**TIMED, **config}) as pool:
        yield Scene(pool, lambda: do(pool, clock), True, lambda: _is_healed(pool, clock))


def too_slow(pool: PoolRef, clock: FakeClock) -> bool:
    return in_time(clock, later(pool, Request("slow")))


def cut(pool: PoolRef, clock: FakeClock) -> bool:
    """A stream that falls silent."""
    return is_read(pool, clock)


def out_of_time(pool: PoolRef, clock: FakeClock) -> bool:
    """Deadlines, of what runs and of what waits."""
    asks = [later(pool, Request("slow", timeout_s=3.0)) for _ in range(3 * SLOTS)]
    return in_time(clock, *asks)


def crowded(pool: PoolRef, clock: FakeClock) -> bool:
    """More than may wait, of several ranks."""
    asks = [later(pool, Request("slow", priority=each % 3)) for each in range(8 * SLOTS)]
    return in_time(clock, *asks)


def trial(pool: PoolRef, clock: FakeClock) -> bool:
    """`a` is locked out, and comes back by a trial beside."""
    locked = in_time(clock, later(pool, Request("locked")))
    clock.advance(1000.0)
    return locked and in_time(clock, later(pool, Request("x")), later(pool, Request("x")))


def cancelled(pool: PoolRef, clock: FakeClock) -> bool:
    """By the future, by its id, by leaving a stream."""
    first, second = (later(pool, Request("slow", request_id=each)) for each in "fs")
    is_answered(later(pool, GetStats()))
    first.cancel()
    is_answered(later(pool, Cancel("s")))
    stream = pool.stream(Request("slow"))
    is_answered(later(pool, GetStats()))
    stream.close()
    return in_time(clock, first, second) and bool(at_rest(pool))


def unavailable(pool: PoolRef, clock: FakeClock) -> bool:
    """Nobody can be asked until somebody is."""
    for name in "ba":
        is_answered(later(pool, ForceOpen(name)))
    waiting = later(pool, Request("x"))
    is_answered(later(pool, GetStats()))
    is_answered(later(pool, ResetAll()))
    is_answered(later(pool, ResetAll()))  # should the first have failed
    return in_time(clock, waiting)


def removed(pool: PoolRef, clock: FakeClock) -> bool:
    """A member is removed with work in hand, and comes back."""
    ask = later(pool, Request("slow"))
    gone = later(pool, RemoveMember("a"))
    done = in_time(clock, ask, gone)
    return done and in_time(clock, later(pool, AddMember(_members(hang)[0])))


def configured(pool: PoolRef, clock: FakeClock) -> bool:
    """Settings and members change with work in hand, and one of them is replaced."""
    ask = later(pool, Request("slow"))
    number = next(_numbers)
    command = Configure(
        settings={"deadline_s": 1e6 + number, "circuit_failure_threshold": 1000 + number},
        members={"b": {"max_concurrency": SLOTS + number % 2}},
        replace=_members(hang)[:1],
    )
    done = in_time(clock, later(pool, command), ask)
    return done and in_time(clock, later(pool, Request("x")))


def restarted(pool: PoolRef, clock: FakeClock) -> bool:
    """A member's actor ends with work in hand."""
    ask = later(pool, Request("slow", idempotent=True))
    is_answered(later(pool, GetStats()))
    with contextlib.suppress(LookupError):
        stop(member_ref(pool, "a"))
    return in_time(clock, ask)


@contextlib.contextmanager
def nested(agent: Callable[..., Any], do: Callable[[PoolRef], bool]) -> Iterator[Scene]:
    """`a` is a pool."""
    with (
        pool_of(Member("inner", agent, max_concurrency=SLOTS), name="inner", **QUIET) as inner,
        pool_of(*_members(inner), **QUIET) as pool,
    ):
        yield Scene(pool, lambda: do(pool), False)


def _members(agent: Any) -> list[Member]:
    return [
        Member("a", agent, max_concurrency=SLOTS),
        Member("b", answer, max_concurrency=SLOTS, priority=1),
    ]


def _let_end(pool: PoolRef) -> None:
    """Let what was cut short end, where it does: to members whose calls are behind by a thousand
    seconds these would be calls that never end, and ten of them are the end of a member.
    """
    for _ in range(200):
        if not any(each.in_flight or each.abandoned for each in pool.stats().members):
            return


def _is_healed(pool: PoolRef, clock: FakeClock) -> bool:
    for _ in range(50):
        _let_end(pool)
        members = pool.stats().members
        closed = all(each.health.circuit is CircuitState.CLOSED for each in members)
        if closed and {each.name for each in members if each.available} >= {"a", "b"}:
            return True
        if "a" not in {each.name for each in members}:
            is_answered(later(pool, AddMember(_members(hang)[0])))
        clock.advance(1000.0)
        is_answered(later(pool, Request("x")))
    return False


USUAL: dict[str, Callable[[], Any]] = {
    "ask": lambda: usual(answer, asked),
    "ask, async": lambda: usual(aanswer, asked),
    "stream": lambda: usual(chunks, is_read),
    "stream, async": lambda: usual(achunks, is_read),
    "failure": lambda: usual(fail, asked),
    "failure, async": lambda: usual(afail, asked),
    "failing stream": lambda: usual(fail, is_read),
    "queue": lambda: usual(answer, queued),
    "tell": lambda: usual(answer, told),
    "failing tell": lambda: usual(fail, told),
    "apply": lambda: usual(answer, applied),
    "nested": lambda: nested(answer, asked),
    "nested, failing": lambda: nested(afail, asked),
    "nested stream": lambda: nested(achunks, is_read),
}
TIMELY: dict[str, Callable[[], Any]] = {
    "time limit": lambda: timed(hang, too_slow),
    "hedge": lambda: timed(hang, too_slow, hedge_after_s=2.0),
    "silent stream": lambda: timed(ahang, cut, chunk_timeout_s=5.0),
    "hedged stream": lambda: timed(hang, cut, hedge_after_s=2.0),
    "restarted stream": lambda: timed(ahang, cut, chunk_timeout_s=5.0, on_cut="restart"),
    "deadline": lambda: timed(hang, out_of_time),
    "waiting room": lambda: timed(hang, crowded, max_pending=SLOTS),
    "trial": lambda: timed(hang, trial),
    "cancellation": lambda: timed(hang, cancelled),
    "nobody there": lambda: timed(hang, unavailable, when_unavailable="wait"),
    "removal": lambda: timed(hang, removed),
    "change": lambda: timed(hang, configured),
    "restart": lambda: timed(hang, restarted, restart_intensity=1000),
}
