"""Who hears of events: each subscription ends by itself, and none of them can hold up the pool."""

from __future__ import annotations

import threading
from typing import Any, cast

import pykka
from helpers_pools import WAIT_S, echo

from greenroom import AgentPool, Event, Member, Request


class Told(pykka.ThreadingActor):
    """An actor that keeps what it is told."""

    got: list[Any]

    def __init__(self) -> None:
        super().__init__()
        self.got = []

    def on_receive(self, message: Any) -> Any:
        if message == "all of it":
            return list(self.got)
        self.got.append(message)
        return None


def completed(events: list[Any]) -> int:
    return [event.name for event in events].count("request.completed")


def test_the_same_callable_subscribed_twice_is_called_twice_and_ended_one_by_one() -> None:
    """The end of one subscription is not that of the other."""
    got: list[Event] = []
    with AgentPool.start([Member("a", echo)]) as pool:
        first = pool.on_event(got.append)
        pool.on_event(got.append)
        pool.execute("x", timeout=WAIT_S)
        pool.stats()  # what the router has to tell of the request has been told
        first()
        first()
        pool.execute("x", timeout=WAIT_S)
    assert completed(got) == 3


def test_the_same_ref_subscribed_twice_is_told_twice_and_ended_one_by_one() -> None:
    """An actor's ref no less than a callable."""
    told = Told.start()
    try:
        with AgentPool.start([Member("a", echo)]) as pool:
            first = pool.on_event(told)
            pool.on_event(told)
            pool.execute("x", timeout=WAIT_S)
            pool.stats()
            first()
            pool.execute("x", timeout=WAIT_S)
        assert completed(cast(Any, told.ask("all of it", timeout=WAIT_S))) == 3
    finally:
        told.stop(timeout=WAIT_S)


def test_a_tell_that_blocks_holds_up_nobody_but_subscribers() -> None:
    """Only the `tell` of an actor's ref is known to put something into a queue and return."""
    entered, release = threading.Event(), threading.Event()

    class Slow:
        def tell(self, event: Event) -> None:
            entered.set()
            release.wait(WAIT_S)

    slow: Any = Slow()
    with AgentPool.start([Member("a", echo)]) as pool:
        pool.on_event(slow)
        assert pool.execute("x", timeout=WAIT_S) == "x"
        assert entered.wait(WAIT_S)
        assert pool.ask(Request("y"), timeout=WAIT_S).value == "y"
        assert pool.stats().completed == 2
        release.set()


def test_a_ref_of_a_class_of_its_own_may_take_its_time() -> None:
    """Who gives `tell` another meaning is told where it can hold up nobody."""
    entered, release = threading.Event(), threading.Event()
    told = Told.start()

    class Slow(pykka.ActorRef[Told]):
        def tell(self, message: Any) -> None:
            entered.set()
            release.wait(WAIT_S)

    slow = Slow.__new__(Slow)
    slow.__dict__.update(vars(told))
    try:
        with AgentPool.start([Member("a", echo)]) as pool:
            pool.on_event(slow)
            assert pool.execute("x", timeout=WAIT_S) == "x"
            assert entered.wait(WAIT_S)
            assert pool.stats().completed == 1
            release.set()
    finally:
        told.stop(timeout=WAIT_S)


def test_a_pool_is_told_the_events_of_another_at_once() -> None:
    """A pool's ref puts into a queue, too; what it cannot use is logged, and it goes on."""
    with AgentPool.start([Member("b", echo)], name="listener") as listener:
        with AgentPool.start([Member("a", echo)]) as pool:
            pool.on_event(listener)
            assert pool.execute("x", timeout=WAIT_S) == "x"
        assert listener.execute("x", timeout=WAIT_S) == "x"
