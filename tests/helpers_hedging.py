"""What the tests of hedging share."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from helpers_requests import WAIT_S, pool_of

from greenroom import Member, PoolFuture, PoolRef, Reply
from greenroom.actors.executions import Executions
from greenroom.testing import FakeClock

AFTER_S = 0.5
"""How long the pools of these tests wait before they ask a second member."""


@contextlib.contextmanager
def hedged(*members: Member, clock: FakeClock, **config: Any) -> Iterator[PoolRef]:
    """A pool that asks a second member after half a second."""
    with pool_of(*members, clock=clock, **{"hedge_after_s": AFTER_S, **config}) as pool:
        yield pool


class Finishes:
    """Counts the calls that have ended and been reported to the router."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._ended = threading.Semaphore(0)
        original = Executions.finished

        def finished(calls: Executions, *args: Any) -> None:
            original(calls, *args)
            self._ended.release()

        patch.setattr(Executions, "finished", finished)

    def wait_for(self, calls: int = 1) -> None:
        """Until that many further calls have ended."""
        for _ in range(calls):
            assert self._ended.acquire(timeout=WAIT_S), "no call ended"


def answer(future: PoolFuture[Any]) -> Reply[Any]:
    """The reply to a request."""
    reply: Reply[Any] = future.get(timeout=WAIT_S)
    return reply
