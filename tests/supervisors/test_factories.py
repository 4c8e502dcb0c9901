"""Agents are made on demand and closed exactly once: behaviour 36."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from helpers_actors import stop_member
from helpers_agents import raising, raising_async
from helpers_pools import WAIT_S, echo, pool_of

from greenroom import (
    AllPoolMembersFailedError,
    CircuitState,
    FailureKind,
    Member,
    RemoveMember,
    Request,
    SkipReason,
)
from greenroom.actors.runtime.mailbox import Envelope
from greenroom.actors.runtime.pool_actor import tell
from greenroom.messages import MemberCreateFailed, ProbeSucceeded
from greenroom.supervisors.member_record import MemberRecord
from greenroom.supervisors.roster import Roster
from greenroom.testing import AsyncScriptedAgent, EventRecorder, FakeClock, ScriptedAgent

pytestmark = pytest.mark.usefixtures("agents_loop")


def test_b36_a_factory_that_fails_is_retried_with_backoff(greenroom_events: EventRecorder) -> None:
    """A factory that fails is retried with backoff; the pool works meanwhile on the others."""
    clock = FakeClock()
    tries = itertools.count(1)

    def factory() -> Any:
        if next(tries) <= 2:
            raise ConnectionError("not yet")
        return lambda payload: "lazy"

    members = [
        Member("lazy", factory=factory),
        Member("ready", lambda payload: "ready", priority=1),
    ]
    with pool_of(*members, clock=clock, restart_backoff_s=0.5) as pool:
        for attempt, delay_s in enumerate([0.5, 1.0], start=1):
            reply = pool.ask(Request("x"), timeout=WAIT_S)
            assert reply.member == "ready"
            assert reply.errors[0].kind is FailureKind.CREATE_FAILED
            failed = greenroom_events.wait_for(MemberCreateFailed, count=attempt)
            assert failed.retry_in_s == delay_s
            assert "not yet" in failed.error
            pool.stats()
            clock.advance(delay_s / 2)
            for _ in range(3):  # left alone meanwhile
                assert pool.ask(Request("x"), timeout=WAIT_S).errors == ()
            clock.advance(delay_s / 2)
            pool.stats()
        assert pool.execute("x", timeout=WAIT_S) == "lazy"
        stats = pool.stats()["lazy"]
        assert (stats.circuit, stats.failures, stats.incarnation) == (CircuitState.CLOSED, 0, 1)
        assert len(greenroom_events.named(MemberCreateFailed)) == 2


def test_b36_requests_to_a_pool_of_one_are_told_when_to_come_back(
    greenroom_events: EventRecorder,
) -> None:
    """While the factory is left alone, a request fails at once and says so."""
    clock = FakeClock()
    with pool_of(
        Member("lazy", factory=raising(ConnectionError)),
        clock=clock,
        restart_backoff_s=8.0,
        max_retries=0,
    ) as pool:
        with pytest.raises(AllPoolMembersFailedError) as caught:
            pool.execute("x", timeout=WAIT_S)
        assert [each.kind for each in caught.value.errors] == [FailureKind.CREATE_FAILED]
        greenroom_events.wait_for(MemberCreateFailed)
        pool.stats()
        with pytest.raises(AllPoolMembersFailedError) as caught:
            pool.execute("x", timeout=WAIT_S)
        assert [each.kind for each in caught.value.errors] == [SkipReason.STARTING]
        assert caught.value.retry_after_s == 8.0


def test_b36_a_request_may_wait_for_the_factorys_next_try(greenroom_events: EventRecorder) -> None:
    clock = FakeClock()
    agent = ScriptedAgent(["made"])
    factory = ScriptedAgent([ConnectionError, lambda _: agent])
    with pool_of(
        Member("lazy", factory=lambda: factory("create")),
        clock=clock,
        restart_backoff_s=8.0,
        when_unavailable="wait",
        retry_delay_s=0.0,
    ) as pool:
        future = pool.ask(Request("x"), block=False)
        greenroom_events.wait_for(MemberCreateFailed)
        pool.stats()
        clock.advance(8)
        assert future.get(timeout=WAIT_S).value == "made"


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_b36_a_factory_that_hangs_costs_a_request_its_attempt_timeout(kind: str) -> None:
    """What it makes after all, when nobody waits for it any more, is closed."""
    clock = FakeClock()
    factory: Any = (ScriptedAgent if kind == "sync" else AsyncScriptedAgent).hanging(
        then=lambda _: lambda payload: "lazy"
    )
    closed = ScriptedAgent.hanging(echo)
    closed.release()

    def make() -> Any:
        return factory("create")

    async def make_async() -> Any:
        return await factory("create")

    members = [
        Member("lazy", factory=make if kind == "sync" else make_async, close=closed),
        Member("ready", lambda payload: "ready", priority=1),
    ]
    with pool_of(*members, clock=clock, request_timeout_s=1.0) as pool:
        future = pool.ask(Request("x"), block=False)
        factory.wait_for_calls()
        clock.advance(1)
        reply = future.get(timeout=WAIT_S)
        assert reply.member == "ready"
        assert reply.errors[0].kind is FailureKind.TIMEOUT
        factory.release()
        closed.wait_for_calls()
        pool.stats()
        assert pool.execute("x", timeout=WAIT_S) == "lazy"  # made anew


def test_b36_callers_in_a_hurry_share_the_agent_that_is_being_made() -> None:
    """A request that leaves early takes no agent with it: the next one finds it made."""
    clock = FakeClock()
    factory = ScriptedAgent.hanging(then=lambda _: lambda payload: "lazy")
    with pool_of(Member("lazy", factory=lambda: factory("create")), clock=clock) as pool:
        for _ in range(5):
            future = pool.ask(Request("x"), block=False)
            factory.wait_for_calls()
            future.cancel()
            pool.stats()
        factory.release()
        assert pool.execute("x", timeout=WAIT_S) == "lazy"
        assert len(factory.calls) == 1


@pytest.mark.parametrize("nothing", [lambda: None, raising_async(None)], ids=["None", "raise None"])
def test_b36_a_factory_that_returns_nothing_has_failed(nothing: Any) -> None:
    members = [
        Member("lazy", factory=nothing),
        Member("ready", lambda payload: "ready", priority=1),
    ]
    with pool_of(*members) as pool:
        reply = pool.ask(Request("x"), timeout=WAIT_S)
        assert reply.errors[0].kind is FailureKind.CREATE_FAILED
        assert isinstance(reply.errors[0].error, TypeError)


class Thing:
    """An agent for `apply` alone."""


def test_b36_a_factory_that_makes_what_cannot_run_fails_its_calls() -> None:
    members = [
        Member("lazy", factory=Thing),
        Member("ready", lambda payload: "ready", priority=1),
    ]
    with pool_of(*members) as pool:
        reply = pool.ask(Request("x"), timeout=WAIT_S)
        assert reply.member == "ready"
        assert "arun" in str(reply.errors[0].error)


class Client:
    """An agent that notes who closed it, and where it was made, called and closed."""

    def __init__(self, log: list[str]) -> None:
        self.log = log

    async def arun(self, payload: Any) -> Any:
        return payload


class SyncClose(Client):
    def close(self) -> None:
        self.log.append("close")


class AsyncClose(Client):
    async def aclose(self) -> None:
        await asyncio.sleep(0)
        self.log.append("aclose")


class BothCloses(SyncClose, AsyncClose):
    pass


CLOSES: dict[str, tuple[Callable[[list[str]], dict[str, Any]], list[str]]] = {
    "close of what a factory made": (lambda log: {"factory": lambda: SyncClose(log)}, ["close"]),
    "its aclose": (lambda log: {"factory": lambda: AsyncClose(log)}, ["aclose"]),
    "aclose rather than close": (lambda log: {"factory": lambda: BothCloses(log)}, ["aclose"]),
    "of an async factory": (lambda log: {"factory": _async_factory(log)}, ["aclose"]),
    "the hook rather than either": (
        lambda log: {"factory": lambda: BothCloses(log), "close": lambda _: log.append("hook")},
        ["hook"],
    ),
    "the hook of a ready agent": (
        lambda log: {"agent": BothCloses(log), "close": lambda _: log.append("hook")},
        ["hook"],
    ),
    "nothing of a ready agent": (lambda log: {"agent": BothCloses(log)}, []),
    "nothing where there is none": (lambda log: {"factory": lambda: Client(log)}, []),
}


def _async_factory(log: list[str]) -> Any:
    async def factory() -> AsyncClose:
        return AsyncClose(log)

    return factory


@pytest.mark.parametrize("end", ["stop", "remove"])
@pytest.mark.parametrize(("declared", "expected"), CLOSES.values(), ids=CLOSES)
def test_b36_an_agent_is_closed_exactly_once(
    declared: Callable[[list[str]], dict[str, Any]], expected: list[str], end: str
) -> None:
    log: list[str] = []
    with pool_of(Member("a", **declared(log)), Member("b", lambda payload: payload)) as pool:
        pool.force_open("b")
        pool.execute("x", timeout=WAIT_S)
        if end == "remove":
            pool.remove_member("a", timeout=WAIT_S)
            assert log == expected
    assert log == expected


def test_b36_what_was_never_made_is_never_closed() -> None:
    made: list[str] = []
    log: list[str] = []
    with pool_of(Member("lazy", factory=lambda: made.append("made"), close=log.append)) as pool:
        pool.stats()
    assert (made, log) == ([], [])


def test_b36_async_agents_are_made_called_and_closed_on_their_own_loop() -> None:
    """A client that is bound to a loop sees one loop only; an isolated one sees another."""
    seen: dict[str, set[int]] = {"shared": set(), "also": set(), "isolated": set()}

    def declared(name: str) -> dict[str, Any]:
        def note() -> None:
            seen[name].add(id(asyncio.get_running_loop()))

        class Bound:
            async def arun(self, payload: Any) -> Any:
                note()
                return payload

            async def aclose(self) -> None:
                note()

        async def factory() -> Bound:
            note()
            return Bound()

        async def probe(agent: Any) -> None:
            note()

        return {"factory": factory, "probe": probe}

    clock = FakeClock()
    members = [
        Member("shared", **declared("shared")),
        Member("also", **declared("also")),
        Member("isolated", **declared("isolated"), isolated=True),
    ]
    with pool_of(*members, clock=clock, strategy="round_robin") as pool, EventRecorder() as events:
        for i in range(3):
            pool.execute(i, timeout=WAIT_S)
        clock.advance(33)
        events.wait_for(ProbeSucceeded, count=3)
    assert [len(loops) for loops in seen.values()] == [1, 1, 1]
    assert seen["shared"] == seen["also"] != seen["isolated"]


def test_b36_a_close_hook_that_hangs_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """`stop` and `remove_member` wait for it a bounded time only."""
    monkeypatch.setattr("greenroom.supervisors.pool_supervisor.MEMBER_STOP_TIMEOUT_S", 0.05)
    gate = ScriptedAgent.hanging(echo)
    with pool_of(Member("a", lambda payload: payload, close=gate)) as pool:
        pool.execute("x", timeout=WAIT_S)
    gate.wait_for_calls()
    gate.release()


def test_b36_a_removal_does_not_wait_for_a_close_hook_that_hangs() -> None:
    clock = FakeClock()
    gate = ScriptedAgent.hanging(echo)
    members = [
        Member("a", lambda payload: payload, close=gate),
        Member("b", lambda payload: "b", priority=1),
    ]
    with pool_of(*members, clock=clock) as pool:
        removed = pool.ask(RemoveMember("a"), block=False)
        gate.wait_for_calls()
        assert [each.name for each in pool.stats().members] == ["a", "b"]
        clock.advance(5)
        removed.get(timeout=WAIT_S)
        assert [each.name for each in pool.stats().members] == ["b"]
        gate.release()


def test_a_pool_closes_its_other_members_though_the_end_of_one_raises(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What cannot be done for one of them is complained of; the others have agents, too."""
    closed: list[str] = []

    def stand_in(self: Roster, record: MemberRecord) -> None:
        if record.name == "a":
            raise SystemExit("no memory")

    monkeypatch.setattr(Roster, "stand_in", stand_in)

    def closing(name: str) -> Callable[[Any], None]:
        return lambda _: closed.append(name)

    members = [Member(name, echo, close=closing(name)) for name in "abc"]
    with pool_of(*members, strategy="round_robin") as pool:
        for i in range(3):
            pool.execute(i, timeout=WAIT_S)
    assert sorted(closed) == ["a", "b", "c"]


def test_b36_an_agent_that_is_made_in_the_moment_of_its_members_end_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The word of it comes just after the end: nobody else knows of it."""
    log, closed = list[str](), threading.Event()

    def ends_before(ref: Any, message: Any) -> bool:
        if type(message).__name__ == "_Made":
            stop_member(pool, "lazy")
            assert ref.ended.wait(WAIT_S)
            ref.actor_inbox.put(Envelope(message))
            return True
        return tell(ref, message)

    monkeypatch.setattr("greenroom.actors.member.agent_actor.tell", ends_before)
    members = [
        Member("lazy", factory=lambda: SyncClose(log), close=lambda _: closed.set()),
        Member("ready", echo, priority=1),
    ]
    with pool_of(*members, restart_backoff_s=60.0) as pool:
        assert pool.ask(Request("x"), timeout=WAIT_S).member == "ready"
        assert closed.wait(WAIT_S)


def test_what_a_factory_makes_all_the_same_while_its_loop_ends_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It takes no notice of being cancelled. Who waits for it has the next one."""
    made, closed = list[Any](), list[Any]()

    def make() -> Any:
        made.append(lambda payload: payload)
        return made[-1]

    def loses_the_first(ref: Any, message: Any) -> bool:
        first = type(message).__name__ == "_Made" and len(made) == 1
        return tell(ref, replace(message, lost=True) if first else message)

    monkeypatch.setattr("greenroom.actors.member.agent_actor.tell", loses_the_first)
    with pool_of(Member("a", factory=make, close=closed.append)) as pool:
        assert pool.ask(Request("x"), timeout=WAIT_S).value == "x"
    assert len(made) == 2
    assert closed == made
