"""What the tests of supervision share: pools on a fake clock, actors killed from outside."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pykka
from pykka.messages import ProxyCall, ProxyGetAttr

from greenroom import (
    AgentPool,
    Member,
    PoolConfig,
    PoolRef,
)
from greenroom.actors.member import AgentActor
from greenroom.supervisors.supervisor import PoolSupervisor
from greenroom.testing import FakeClock

WAIT_S = 10.0
"""How long a test waits for what must come; it fails then."""


@contextlib.contextmanager
def pool_of(
    *members: Member,
    clock: FakeClock | None = None,
    strategy: Any = "priority",
    name: str = "pool",
    **config: Any,
) -> Iterator[PoolRef]:
    """A pool with a seeded generator, stopped at the end."""
    pool = AgentPool.start(
        members,
        clock=clock,
        rng=random.Random(1),
        strategy=strategy,
        name=name,
        config=PoolConfig(**config),
    )
    try:
        yield pool
    finally:
        pool.stop(timeout=3 * WAIT_S)


class Neighbour(pykka.ThreadingActor):
    """An actor of the app's own, which no pool may touch."""

    use_daemon_thread = True

    def on_receive(self, message: Any) -> Any:
        return message


class Gate:
    """Holds whoever passes until it is opened; counts who has come."""

    def __init__(self) -> None:
        self._arrivals = threading.Semaphore(0)
        self._open = threading.Event()

    def __call__(self, payload: Any = None) -> Any:
        self._arrivals.release()
        assert self._open.wait(6 * WAIT_S), "nobody opened the gate"
        return payload

    def wait_for(self, arrivals: int = 1) -> None:
        for _ in range(arrivals):
            assert self._arrivals.acquire(timeout=WAIT_S), "nobody came to the gate"

    def open(self) -> None:
        self._open.set()


def member_ref(pool: PoolRef, name: str) -> Any:
    """The ref of the actor that stands behind a member's name now."""
    for ref in pykka.ActorRegistry.get_by_class(AgentActor):
        if _asked(ref, "around").router == pool and _asked(ref, "member").name == name:
            return ref
    raise LookupError(name)


def router_ref(pool: PoolRef) -> Any:
    """The pool's actor as Pykka knows it."""
    return pykka.ActorRegistry.get_by_urn(pool.actor_urn)


def supervisor_ref(pool: PoolRef) -> Any:
    """The pool's supervisor."""
    for ref in pykka.ActorRegistry.get_by_class(PoolSupervisor):
        if _asked(ref, "router") == pool:
            return ref
    raise LookupError(pool)


def _asked(ref: Any, attribute: str) -> Any:
    return ref.ask(ProxyGetAttr(attr_path=(attribute,)), timeout=WAIT_S)


def stop(ref: Any) -> None:
    """The gentle way to kill an actor."""
    pykka.ActorRef.stop(ref, block=False)


def crash(ref: Any) -> None:
    """The hard way: a tell that it cannot handle."""
    ref.tell(ProxyCall(attr_path=("no_such",), args=(), kwargs={}))


KILLS: dict[str, Callable[[Any], None]] = {"stopped": stop, "crashed": crash}


def greenroom_threads() -> set[threading.Thread]:
    """Every thread that a pool has started and that runs; that of the clock is everybody's."""
    threads = {each for each in threading.enumerate() if each.name.startswith("greenroom")}
    return {each for each in threads if each.name != "greenroom-clock"}


@contextlib.contextmanager
def no_thread_left() -> Iterator[None]:
    """Waits at its end for the threads of all pools that were started in it."""
    before = greenroom_threads()
    yield
    join_all(greenroom_threads() - before)


def join_all(threads: set[threading.Thread]) -> None:
    """Wait for the end of every one of them."""
    for thread in threads:
        thread.join(WAIT_S)
    assert not [thread.name for thread in threads if thread.is_alive()]


def raising(error: Any) -> Callable[..., Any]:
    def fail(*_: Any) -> Any:
        raise error

    return fail


def raising_async(error: Any) -> Callable[..., Any]:
    async def fail(*_: Any) -> Any:
        raise error

    return fail


def echo(payload: Any) -> Any:
    return payload


async def echo_async(payload: Any) -> Any:
    return payload
