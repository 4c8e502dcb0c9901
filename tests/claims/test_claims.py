"""What threads that answer see of a request: a claim, and nothing that is the router's own."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from helpers_pools import WAIT_S, pool_of

from greenroom import CallContext, Member, PoolRef, Request
from greenroom.actors.request.job import Attempt, Job
from greenroom.testing import FakeClock


def fails(_: Any) -> Any:
    raise ConnectionError("down")


def answers(payload: Any, context: CallContext) -> Any:
    context.started_side_effects()
    context.alive()
    return payload


async def aanswers(payload: Any, context: CallContext) -> Any:
    context.started_side_effects()
    context.alive()
    return payload


def streams(payload: Any, context: CallContext) -> Iterator[Any]:
    yield payload
    context.started_side_effects()
    context.alive()
    yield payload


async def astreams(payload: Any, context: CallContext) -> AsyncIterator[Any]:
    yield payload
    context.started_side_effects()
    context.alive()
    yield payload


class Watch:
    """Notes by which threads that had not the router's turn its objects were looked at."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.pool: PoolRef | None = None
        self.looks = 0
        self.strangers: list[str] = []
        for kind in (Job, Attempt):
            patch.setattr(kind, "__getattribute__", self._watched(object.__getattribute__))
            patch.setattr(kind, "__setattr__", self._watched(object.__setattr__))

    def _watched(self, access: Any) -> Any:
        def watched(owner: Any, name: str, *value: Any) -> Any:
            self._note(type(owner).__name__, name)
            return access(owner, name, *value)

        return watched

    def _note(self, owner: str, name: str) -> None:
        if self.pool is not None and not name.startswith("__"):
            self.looks += 1
            here = threading.current_thread()
            borrowed = self.pool.actor_inbox._borrower == here.ident
            if here.name != "greenroom-AgentPool" and not borrowed:
                self.strangers.append(f"{owner}.{name} by {here.name}")


@pytest.mark.parametrize("agent", [answers, aanswers, streams, astreams])
def test_only_who_has_the_routers_turn_looks_at_its_requests(
    agent: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answered or streamed, first or after a failure, hedged or not: agents' threads and loops,
    and those of the app, have the claim.
    """
    watch = Watch(monkeypatch)
    members = Member("a", fails), Member("b", agent), Member("c", agent)
    clock = FakeClock()
    with pool_of(*members, clock=clock, strategy="priority", hedge_after_s=5.0) as pool:
        watch.pool = pool
        for _ in range(5):
            if agent in (answers, aanswers):
                assert pool.ask(Request("x"), timeout=WAIT_S).value == "x"
            else:
                assert list(pool.stream(Request("x"), timeout=WAIT_S)) == ["x", "x"]
        pool.stats()
        watch.pool = None
    assert watch.looks
    assert watch.strangers == []
