"""The actors behind a pool, found from outside, killed there, and gone when their pool is."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pykka
from helpers_pools import WAIT_S
from pykka.messages import ProxyCall, ProxyGetAttr

from greenroom import PoolRef
from greenroom.actors.member.agent_actor import AgentActor
from greenroom.supervisors.pool_supervisor import PoolSupervisor


class Neighbour(pykka.ThreadingActor):
    """An actor of the app's own, which no pool may touch."""

    use_daemon_thread = True

    def on_receive(self, message: Any) -> Any:
        return message


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


def stop_member(pool: PoolRef, name: str) -> None:
    """Stop a member's actor behind the supervisor's back."""
    stop(member_ref(pool, name))


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
