"""Signal handlers that raise in whoever asks: a pool of its own, whose askers are interrupted.

CPython looks for signals in the main thread at the entry of a function and behind a call: so what a
handler raises is raised there by a profile function, at a place that the plan draws.
"""

from __future__ import annotations

import functools
import random
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pykka

from chaos.ledger import INNER_MARK
from chaos.rest import PATIENCE_S, patience
from greenroom import AgentPool, Apply, GetStats, Member, PoolConfig, PoolRef, Request
from greenroom.actors.runtime.deferral import DEFERRAL

TIMES = 60
SLOTS = 2
FARTHEST = 90
"""Places that an ask comes by, and some more."""


class Interruption(BaseException):
    """What the handler raises."""


def judge(rng: random.Random) -> Iterator[str]:
    """Interrupt askers of every kind; what is not so after it as it should be."""
    pool = AgentPool.start(
        [
            Member("sync", _answer, max_concurrency=SLOTS),
            Member("async", _aanswer, max_concurrency=SLOTS),
        ],
        strategy="round_robin",
        config=PoolConfig(hedge_after_s=None),
        name="chaos-signals",
    )
    for number in range(TIMES):
        ask = rng.choice(WAYS)
        request = Request("x", request_id=f"signals{INNER_MARK}{number}")
        told = interrupted(functools.partial(ask, pool, request), rng.randint(1, FARTHEST))
        if told is not None:
            yield f"{ask.__name__} that was interrupted has raised {told!r}"
    yield from _at_rest(pool)
    for name in ("sync", "async"):
        yield from _every_slot_is_free(pool, name)
    pool.stop(timeout=PATIENCE_S)


def interrupted(act: Callable[[], object], place: int) -> BaseException | None:
    """Act, and be interrupted at that place of greenroom's, if it comes by so many; what it raises
    that is not the interruption.
    """
    left, told = place, list[bool]()

    def look(frame: FrameType, event: str, _: Any) -> None:
        nonlocal left
        module = str(frame.f_globals.get("__name__", ""))
        # Not in what puts handlers off: how that is left is shown by its own tests.
        ours = module.startswith("greenroom.") and module != DEFERRAL.__module__
        if event in ("call", "c_return") and ours and not _finalizes(frame):
            left -= 1
            # Where handlers are put off, it comes with the first step after that.
            if left <= 0 and not told and not DEFERRAL.on:
                told.append(True)
                raise Interruption

    before = sys.getprofile()
    sys.setprofile(look)
    try:
        act()
    except Interruption:
        return None
    except BaseException as error:
        return error
    finally:
        sys.setprofile(before)
    return None


def _finalizes(frame: FrameType | None) -> bool:
    """Whether it runs where nobody could hear of an error."""
    while frame is not None and frame.f_code.co_name != "__del__":
        frame = frame.f_back
    return frame is not None


def _ask(pool: PoolRef, request: Request[str]) -> None:
    assert pool.ask(request, timeout=PATIENCE_S).value == "x"


def _future(pool: PoolRef, request: Request[str]) -> None:
    assert pool.ask(request, block=False).get(timeout=PATIENCE_S).value == "x"


def _tell(pool: PoolRef, request: Request[str]) -> None:
    pool.tell(request)


def _stream(pool: PoolRef, request: Request[str]) -> None:
    assert list(pool.stream(request, timeout=PATIENCE_S)) == ["x"]


WAYS = (_ask, _future, _tell, _stream)


def _answer(payload: Any) -> Any:
    return payload


async def _aanswer(payload: Any) -> Any:
    return payload


def _at_rest(pool: PoolRef) -> Iterator[str]:
    for _ in patience():
        try:
            stats = pool.ask(GetStats(), block=False).get(timeout=PATIENCE_S)
        except pykka.Timeout:
            yield "the pool of interrupted askers does not say how it is"
            return
        if stats.pending == stats.in_flight == 0:
            break
    for member in stats.members:
        if member.in_flight or member.failures:
            yield f"after interruptions: {member}"


def _every_slot_is_free(pool: PoolRef, name: str) -> Iterator[str]:
    """As many calls as there are slots can be held at the same time."""
    for each in ("sync", "async"):
        if each != name:
            pool.force_open(each)
    begun, leave = threading.Semaphore(0), threading.Event()

    def hold(agent: Any) -> None:
        begun.release()
        leave.wait(PATIENCE_S)

    async def ahold(agent: Any) -> None:
        begun.release()

    work: Callable[[Any], Any] = hold if name == "sync" else ahold
    futures = [
        pool.ask(Apply(work, request_id=f"{name}{INNER_MARK}{n}"), block=False)
        for n in range(SLOTS)
    ]
    held = sum(begun.acquire(timeout=PATIENCE_S) for _ in range(SLOTS))
    leave.set()
    if held < SLOTS:
        yield f"{held} of {SLOTS} slots of {name} can be used after interruptions"
    for future in futures:
        future.get(timeout=PATIENCE_S)
    pool.reset_all()
