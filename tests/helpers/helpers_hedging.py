"""What the tests of hedging share."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Iterator
from typing import Any
from weakref import WeakSet

import pytest
from helpers_actors import router_ref
from helpers_pools import WAIT_S, pool_of
from pykka.messages import ProxyGetAttr

from greenroom import Member, PoolFuture, PoolRef, Reply, Request
from greenroom.actors.member.executions import Executions
from greenroom.actors.strategies import Candidate, PickContext
from greenroom.testing import FakeClock

AFTER_S = 0.5
"""How long the pools of these tests wait before they ask a second member."""


@contextlib.contextmanager
def hedged(*members: Member, clock: FakeClock, **config: Any) -> Iterator[PoolRef]:
    """A pool that asks a second member after half a second."""
    with pool_of(*members, clock=clock, **{"hedge_after_s": AFTER_S, **config}) as pool:
        yield pool


class Finishes:
    """Counts the calls that have ended and been reported to the router: of members that have
    started since, as threads which an earlier test has abandoned may end at any time.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._ended = threading.Semaphore(0)
        ours: WeakSet[Executions] = WeakSet()
        make, original = Executions.__init__, Executions.finished

        def made(calls: Executions, *args: Any, **more: Any) -> None:
            ours.add(calls)
            make(calls, *args, **more)

        def finished(calls: Executions, *args: Any) -> None:
            original(calls, *args)
            if calls in ours:
                self._ended.release()

        patch.setattr(Executions, "__init__", made)
        patch.setattr(Executions, "finished", finished)

    def wait_for(self, calls: int = 1) -> None:
        """Until that many further calls have ended."""
        for _ in range(calls):
            assert self._ended.acquire(timeout=WAIT_S), "no call ended"


def answer(future: PoolFuture[Any]) -> Reply[Any]:
    """The reply to a request."""
    reply: Reply[Any] = future.get(timeout=WAIT_S)
    return reply


class HoldingStrategy:
    """Prefers the first member; asked for the key "hold", it holds the router's thread, then takes
    the last one.
    """

    def __init__(self) -> None:
        self.holds = threading.Event()
        self.go_on = threading.Event()

    def pick(self, candidates: Any, context: PickContext, rng: random.Random) -> Candidate | None:
        if context.key == "hold":
            self.holds.set()
            assert self.go_on.wait(WAIT_S)
        chosen: Candidate = candidates[-1 if context.key == "hold" else 0]
        return chosen

    @contextlib.contextmanager
    def held(self, pool: PoolRef) -> Iterator[None]:
        """Meanwhile the router does nothing: what is told to it waits, and alarms go first then."""
        pool.tell(Request("hold", key="hold"))
        assert self.holds.wait(WAIT_S)
        yield
        self.go_on.set()


def race(
    pool: PoolRef,
    clock: FakeClock,
    first: Any,
    second: Any,
    request: Request[Any] | None = None,
) -> PoolFuture[Any]:
    """Have two members work on a request."""
    future: PoolFuture[Any] = pool.ask(request or Request("x"), block=False)
    first.wait_entered()
    clock.advance(AFTER_S)
    second.wait_entered()
    return future


def assert_at_rest(pool: PoolRef, **counts: int) -> None:
    """No slot is held, nothing waits, and the counts are these."""
    stats = pool.stats()
    assert (stats.pending, stats.in_flight) == (0, 0), stats
    assert [member.in_flight for member in stats.members] == [0] * len(stats.members)
    claims = router_ref(pool).ask(ProxyGetAttr(attr_path=("claims",)), timeout=WAIT_S)
    assert len(claims) == 0, "an attempt is open that nobody waits for"
    expected = {"completed": 0, "failed": 0, "cancelled": 0, "retries": 0, "hedges": 0, **counts}
    assert {name: getattr(stats, name) for name in expected} == expected


def outcomes(pool: PoolRef) -> dict[str, tuple[int, int]]:
    """Successes and failures that count, by member."""
    return {each.name: (each.successes, each.failures) for each in pool.stats().members}
