"""Members that come, go, are held open and let go while their pool runs."""

from __future__ import annotations

from typing import Any

import pykka
import pytest
from helpers_actors import crash, member_ref
from helpers_pools import WAIT_S, echo, echo_async, pool_of

from greenroom import (
    AddMember,
    AllPoolMembersFailedError,
    CircuitState,
    Member,
    MemberExistsError,
    RemoveMember,
    Request,
    SkipReason,
    UnknownMemberError,
)
from greenroom.messages import MemberFailed
from greenroom.testing import EventRecorder, FakeClock, ScriptedAgent


def test_a_member_that_is_added_takes_requests_when_add_returns() -> None:
    with pool_of() as pool:
        with pytest.raises(AllPoolMembersFailedError, match="no members"):
            pool.execute("x", timeout=WAIT_S)
        pool.add_member(Member("a", echo), timeout=WAIT_S)
        assert pool.execute("x", timeout=WAIT_S) == "x"
        with pytest.raises(MemberExistsError, match="'a'"):
            pool.add_member(Member("a", echo), timeout=WAIT_S)
        assert pool.stats().available == ("a",)


def test_a_member_that_is_added_relieves_those_that_are_busy() -> None:
    gate = ScriptedAgent.hanging(echo)
    with pool_of(Member("a", gate)) as pool:
        first = pool.ask(Request("first"), block=False)
        gate.wait_for_calls()
        second = pool.ask(Request("second"), block=False)
        pool.stats()
        pool.add_member(Member("b", echo), timeout=WAIT_S)
        assert second.get(timeout=WAIT_S).member == "b"
        gate.release()
        assert first.get(timeout=WAIT_S).member == "a"


def test_a_member_that_is_removed_finishes_what_it_has_and_gets_nothing_new() -> None:
    gate = ScriptedAgent.hanging(echo)
    closed: list[Any] = []
    members = [
        Member("a", gate, max_concurrency=5, close=closed.append),
        Member("b", lambda payload: "b", priority=1),
    ]
    with pool_of(*members) as pool:
        running = [pool.ask(Request(i), block=False) for i in range(3)]
        gate.wait_for_calls(3)
        removed = pool.ask(RemoveMember("a"), block=False)
        again = pool.ask(RemoveMember("a"), block=False)
        pool.stats()
        assert pool.execute("new", timeout=WAIT_S) == "b"
        with pytest.raises(MemberExistsError):
            pool.add_member(Member("a", echo), timeout=WAIT_S)
        assert not removed.done()
        assert closed == []
        gate.release()
        removed.get(timeout=WAIT_S)
        again.get(timeout=WAIT_S)
        assert closed == [gate]
        assert [future.get(timeout=WAIT_S).value for future in running] == [0, 1, 2]
        assert [each.name for each in pool.stats().members] == ["b"]
        with pytest.raises(UnknownMemberError, match="'a'"):
            pool.remove_member("a", timeout=WAIT_S)


def test_who_does_not_wait_for_a_removal_has_it_go_on() -> None:
    gate = ScriptedAgent.hanging(echo)
    with pool_of(Member("a", gate), Member("b", echo, priority=1)) as pool:
        running = pool.ask(Request("x"), block=False)
        gate.wait_for_calls()
        with pytest.raises(pykka.Timeout):
            pool.remove_member("a", timeout=0)
        gate.release()
        assert running.get(timeout=WAIT_S).value == "x"
        pool.ask(RemoveMember("b"), timeout=WAIT_S)
        pool.add_member(Member("c", echo), timeout=WAIT_S)


def test_a_name_can_be_used_again_by_a_new_member() -> None:
    with pool_of(Member("a", ScriptedAgent.failing(9)), max_retries=0) as pool:
        for _ in range(5):
            with pytest.raises(AllPoolMembersFailedError):
                pool.execute("x", timeout=WAIT_S)
            pool.stats()
        assert pool.stats()["a"].circuit is CircuitState.OPEN
        pool.remove_member("a", timeout=WAIT_S)
        pool.add_member(Member("a", lambda payload: "new"), timeout=WAIT_S)
        assert pool.execute("x", timeout=WAIT_S) == "new"
        stats = pool.stats()["a"]
        assert (stats.circuit, stats.failures, stats.incarnation) == (CircuitState.CLOSED, 0, 2)


def test_requests_that_wait_for_the_last_member_fail_when_it_is_removed() -> None:
    gate = ScriptedAgent.hanging(echo)
    with pool_of(Member("a", gate), clock=FakeClock()) as pool:
        futures = [pool.ask(Request(i), block=False) for i in range(4)]
        gate.wait_for_calls()
        removed = pool.ask(RemoveMember("a"), block=False)
        for future in futures[1:]:
            with pytest.raises(AllPoolMembersFailedError) as caught:
                future.get(timeout=WAIT_S)
            assert [each.kind for each in caught.value.errors] == [SkipReason.DRAINING]
        gate.release()
        removed.get(timeout=WAIT_S)
        assert futures[0].get(timeout=WAIT_S).value == 0


def test_a_member_that_is_down_is_removed_at_once(greenroom_events: EventRecorder) -> None:
    clock = FakeClock()
    with pool_of(Member("a", echo), Member("b", echo, priority=1), clock=clock) as pool:
        pool.execute("x", timeout=WAIT_S)
        crash(member_ref(pool, "a"))
        greenroom_events.wait_for(MemberFailed)
        pool.remove_member("a", timeout=WAIT_S)
        clock.advance(100)
        assert [each.name for each in pool.stats().members] == ["b"]
        assert "member.restarted" not in greenroom_events.names()


def test_force_open_holds_when_it_returns_and_until_it_is_reset() -> None:
    clock = FakeClock()
    gate = ScriptedAgent.hanging(echo)
    members = [Member("a", gate, max_concurrency=9), Member("b", lambda _: "b", priority=1)]
    with pool_of(*members, clock=clock, request_timeout_s=None) as pool:
        running = pool.ask(Request("running"), block=False)
        gate.wait_for_calls()
        pool.force_open("a")
        assert [pool.execute(i, timeout=WAIT_S) for i in range(20)] == ["b"] * 20
        clock.advance(10_000)
        pool.stats()
        assert pool.execute("x", timeout=WAIT_S) == "b"
        gate.release()
        assert running.get(timeout=WAIT_S).value == "running"  # what it had is finished
        pool.reset_member("a")
        assert pool.execute("x", timeout=WAIT_S) == "x"
        pool.force_open("a")
        pool.force_open("b")
        with pytest.raises(AllPoolMembersFailedError) as caught:
            pool.execute("x", timeout=WAIT_S)
        assert {each.kind for each in caught.value.errors} == {SkipReason.CIRCUIT_OPEN}
        pool.reset_all()
        assert len(pool.stats().available) == 2


def test_a_disabled_breaker_lets_everything_through() -> None:
    agent = ScriptedAgent.failing(50, then="at last")
    with pool_of(Member("a", agent), max_retries=0) as pool:
        pool.disable_breaker("a")
        for _ in range(50):
            with pytest.raises(AllPoolMembersFailedError):
                pool.execute("x", timeout=WAIT_S)
            pool.stats()
        assert pool.execute("x", timeout=WAIT_S) == "at last"
        assert pool.stats()["a"].circuit is CircuitState.DISABLED


def test_members_come_and_go_under_load() -> None:
    """No request is lost to it, and the books are even at the end."""
    with pool_of(Member("anchor", echo_async), strategy="round_robin") as pool:
        futures = []
        for i in range(40):
            pool.ask(AddMember(Member(f"m{i}", echo_async if i % 2 else echo)), block=False)
            futures += [pool.ask(Request(i), block=False) for _ in range(10)]
            if i >= 3:
                pool.ask(RemoveMember(f"m{i - 3}"), block=False)
        values = [future.get(timeout=3 * WAIT_S).value for future in futures]
        assert values == [i for i in range(40) for _ in range(10)]
        for i in range(37, 40):
            pool.remove_member(f"m{i}", timeout=WAIT_S)
        stats = pool.stats()
        assert [each.name for each in stats.members] == ["anchor"]
        assert (stats.completed, stats.in_flight, stats.pending) == (400, 0, 0)
