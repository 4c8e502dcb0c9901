"""Members, supervisors and routers that die, and what becomes of their requests: behaviour 35."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import Any

import pytest
from helpers_actors import (
    KILLS,
    crash,
    greenroom_threads,
    join_all,
    member_ref,
    router_ref,
    stop,
    supervisor_ref,
)
from helpers_pools import WAIT_S, echo, pool_of

from greenroom import (
    AllPoolMembersFailedError,
    Drain,
    FailureKind,
    Member,
    MemberCrashedError,
    PoolStoppedError,
    RemoveMember,
    Request,
    SkipReason,
)
from greenroom.messages import (
    DeadLetter,
    MemberFailed,
    MemberGaveUp,
    MemberRestarted,
    ProbeSucceeded,
)
from greenroom.testing import AsyncScriptedAgent, EventRecorder, FakeClock, ScriptedAgent


@pytest.mark.parametrize("kill", KILLS.values(), ids=KILLS)
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_b35_a_dead_member_restarts_and_its_running_request_goes_elsewhere(
    kill: Callable[[Any], None], kind: str, greenroom_events: EventRecorder
) -> None:
    """A member actor that dies restarts with a new incarnation; the one that ran is retried
    elsewhere.
    """
    clock = FakeClock()
    agent: Any = (ScriptedAgent if kind == "sync" else AsyncScriptedAgent).hanging("late")
    members = [Member("a", agent), Member("b", lambda payload: "b", priority=1)]
    with pool_of(*members, clock=clock) as pool:
        future = pool.ask(Request("x"), block=False)
        agent.wait_for_calls()
        kill(member_ref(pool, "a"))
        reply = future.get(timeout=WAIT_S)
        assert reply.member == "b"
        (failed,) = reply.errors
        assert failed.kind is FailureKind.CRASHED
        assert isinstance(failed.error, MemberCrashedError)
        assert greenroom_events.wait_for(MemberFailed, "a").restart_in_s == pytest.approx(0.1)
        assert "a" not in pool.stats().available

        clock.advance(0.1)
        assert greenroom_events.wait_for(MemberRestarted, "a").incarnation == 2
        agent.release()
        assert pool.ask(Request("x"), timeout=WAIT_S).member == "a"
        stats = pool.stats()
        assert [each.incarnation for each in stats.members] == [2, 1]
        assert (stats.completed, stats.in_flight, stats.pending) == (2, 0, 0)


def test_b35_a_sync_call_that_outlives_its_member_ends_as_a_dead_letter(
    greenroom_events: EventRecorder,
) -> None:
    agent = ScriptedAgent.hanging("late")
    members = [Member("a", agent), Member("b", lambda payload: "b", priority=1)]
    with pool_of(*members, clock=FakeClock()) as pool:
        future = pool.ask(Request("x"), block=False)
        agent.wait_for_calls()
        crash(member_ref(pool, "a"))
        assert future.get(timeout=WAIT_S).member == "b"
        agent.release()
        assert greenroom_events.wait_for(DeadLetter).member == "a"
        stats = pool.stats()
        assert (stats.completed, stats.in_flight) == (1, 0)


@pytest.mark.parametrize("kill", KILLS.values(), ids=KILLS)
def test_b35_a_request_that_is_not_idempotent_fails_with_its_member(
    kill: Callable[[Any], None],
) -> None:
    agent, backup = ScriptedAgent.hanging(), ScriptedAgent(["never"])
    members = [Member("a", agent), Member("b", backup, priority=1)]
    with pool_of(*members, clock=FakeClock()) as pool:
        future = pool.ask(Request("x", idempotent=False), block=False)
        agent.wait_for_calls()
        kill(member_ref(pool, "a"))
        with pytest.raises(AllPoolMembersFailedError, match="not idempotent") as caught:
            future.get(timeout=WAIT_S)
        assert isinstance(caught.value.__cause__, MemberCrashedError)
        assert backup.calls == []
        agent.release()


@pytest.mark.parametrize("kill", KILLS.values(), ids=KILLS)
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_b35_requests_that_wait_for_the_only_member_survive_its_crash(
    kill: Callable[[Any], None], kind: str, greenroom_events: EventRecorder
) -> None:
    """Requests waiting for it survive."""
    clock = FakeClock()
    agent: Any = (ScriptedAgent if kind == "sync" else AsyncScriptedAgent).hanging("answer")
    with pool_of(Member("a", agent, max_concurrency=1), clock=clock) as pool:
        futures = [pool.ask(Request(i), block=False) for i in range(6)]
        agent.wait_for_calls()
        assert pool.stats().pending == 5
        kill(member_ref(pool, "a"))
        greenroom_events.wait_for(MemberFailed)
        assert pool.stats().pending == 6
        agent.release()
        clock.advance(0.1)
        greenroom_events.wait_for(MemberRestarted)
        clock.advance(0.1)  # the one that ran is tried again after its backoff
        assert [future.get(timeout=WAIT_S).value for future in futures] == ["answer"] * 6


def test_b35_requests_that_come_while_the_only_member_restarts_wait_for_it(
    greenroom_events: EventRecorder,
) -> None:
    clock = FakeClock()
    with pool_of(Member("a", lambda payload: payload), clock=clock) as pool:
        pool.execute("warm", timeout=WAIT_S)
        crash(member_ref(pool, "a"))
        greenroom_events.wait_for(MemberFailed)
        future = pool.ask(Request("hello"), block=False)
        assert pool.stats().pending == 1
        clock.advance(0.1)
        assert future.get(timeout=WAIT_S).value == "hello"


def test_b35_who_waits_for_a_restart_keeps_its_deadline(greenroom_events: EventRecorder) -> None:
    clock = FakeClock()
    with pool_of(Member("a", lambda payload: payload), clock=clock, restart_backoff_s=20.0) as pool:
        pool.execute("warm", timeout=WAIT_S)
        crash(member_ref(pool, "a"))
        greenroom_events.wait_for(MemberFailed)
        future = pool.ask(Request("hello", timeout_s=5), block=False)
        pool.stats()
        clock.advance(5)
        with pytest.raises(TimeoutError):
            future.get(timeout=WAIT_S)


def test_b35_who_waits_for_a_member_that_is_given_up_is_told_so(
    greenroom_events: EventRecorder,
) -> None:
    agent = ScriptedAgent.hanging()
    with pool_of(Member("a", agent), clock=FakeClock(), restart_intensity=0) as pool:
        futures = [pool.ask(Request(i), block=False) for i in range(3)]
        agent.wait_for_calls()
        crash(member_ref(pool, "a"))
        greenroom_events.wait_for(MemberGaveUp)
        for future in futures[1:]:
            with pytest.raises(AllPoolMembersFailedError) as caught:
                future.get(timeout=WAIT_S)
            assert [each.kind for each in caught.value.errors] == [SkipReason.GAVE_UP]
        agent.release()


@pytest.mark.parametrize("kill", KILLS.values(), ids=KILLS)
def test_b35_siblings_keep_their_state_and_their_running_work(
    kill: Callable[[Any], None], greenroom_events: EventRecorder
) -> None:
    """Siblings keep state and running work."""
    clock = FakeClock()
    counter = itertools.count(1)
    made: list[str] = []
    in_thread, on_loop = ScriptedAgent.hanging("thread"), AsyncScriptedAgent.hanging("loop")

    def factory() -> Any:
        made.append("stateful")
        return lambda payload: next(counter)

    members = [
        Member("victim", lambda payload: "victim"),
        Member("thread", in_thread),
        Member("loop", on_loop, max_concurrency=1),
        Member("stateful", factory=factory),
    ]
    with pool_of(*members, clock=clock, strategy="round_robin") as pool:
        futures = [pool.ask(Request(i), block=False) for i in range(4)]
        in_thread.wait_for_calls()
        on_loop.wait_for_calls()
        assert futures[3].get(timeout=WAIT_S).value == 1
        kill(member_ref(pool, "victim"))
        greenroom_events.wait_for(MemberFailed)
        assert pool.execute("x", timeout=WAIT_S) == 2
        clock.advance(0.1)
        greenroom_events.wait_for(MemberRestarted)
        stats = pool.stats()
        assert [each.incarnation for each in stats.members] == [2, 1, 1, 1]
        assert stats.in_flight == 2
        in_thread.release()
        on_loop.release()
        assert futures[1].get(timeout=WAIT_S).value == "thread"
        assert futures[2].get(timeout=WAIT_S).value == "loop"
        assert made == ["stateful"]


def test_b35_the_second_crash_within_the_period_gives_the_member_up(
    greenroom_events: EventRecorder,
) -> None:
    """intensity=1, period=5 s: the second crash within 5 s gives up."""
    clock = FakeClock()
    members = [Member("a", lambda payload: "a"), Member("b", lambda payload: "b", priority=1)]
    with pool_of(*members, clock=clock, restart_intensity=1, restart_period_s=5.0) as pool:
        assert pool.execute("x", timeout=WAIT_S) == "a"
        crash(member_ref(pool, "a"))
        greenroom_events.wait_for(MemberFailed)
        clock.advance(0.1)
        greenroom_events.wait_for(MemberRestarted)
        clock.advance(4.8)
        crash(member_ref(pool, "a"))
        gave_up = greenroom_events.wait_for(MemberGaveUp)
        assert gave_up.severity() == "CRITICAL"
        assert (gave_up.member, gave_up.restarts, gave_up.period_s) == ("a", 1, 5.0)
        assert greenroom_events.named(MemberFailed)[-1].restart_in_s is None
        clock.advance(1000)
        pool.stats()
        assert len(greenroom_events.named(MemberRestarted)) == 1
        assert pool.execute("x", timeout=WAIT_S) == "b"
        assert pool.stats().available == ("b",)

        pool.reset_member("a")
        assert pool.execute("x", timeout=WAIT_S) == "a"
        assert pool.stats()["a"].incarnation == 3
        crash(member_ref(pool, "a"))  # the reset has cleared the window too
        greenroom_events.wait_for(MemberFailed, count=3)
        clock.advance(0.1)
        greenroom_events.wait_for(MemberRestarted, count=3)


def test_b35_slower_crashes_go_on(greenroom_events: EventRecorder) -> None:
    """intensity=1, period=5 s: slower ones go on."""
    clock = FakeClock()
    with pool_of(
        Member("a", lambda payload: payload),
        clock=clock,
        restart_intensity=1,
        restart_period_s=5.0,
    ) as pool:
        for round_ in range(1, 6):
            assert pool.execute(round_, timeout=WAIT_S) == round_
            crash(member_ref(pool, "a"))
            assert greenroom_events.wait_for(MemberFailed, count=round_).restart_in_s is not None
            clock.advance(6.0)
            greenroom_events.wait_for(MemberRestarted, count=round_)
        assert not greenroom_events.named(MemberGaveUp)
        assert pool.stats()["a"].incarnation == 6


def test_b35_the_wait_before_a_restart_doubles_until_the_member_works(
    greenroom_events: EventRecorder,
) -> None:
    clock = FakeClock()
    delays: list[float | None] = []
    with pool_of(Member("a", lambda payload: payload), clock=clock, restart_intensity=9) as pool:
        pool.stats()
        for round_ in range(1, 5):
            if round_ == 4:
                pool.execute("works", timeout=WAIT_S)
                pool.stats()
            crash(member_ref(pool, "a"))
            delay_s = greenroom_events.wait_for(MemberFailed, count=round_).restart_in_s
            delays.append(delay_s)
            assert delay_s is not None
            clock.advance(delay_s)
            greenroom_events.wait_for(MemberRestarted, count=round_)
    assert delays == pytest.approx([0.1, 0.2, 0.4, 0.1])


@pytest.mark.parametrize("kill", KILLS.values(), ids=KILLS)
def test_b35_a_member_that_dies_while_it_is_removed_is_gone(
    kill: Callable[[Any], None],
) -> None:
    agent = ScriptedAgent.hanging()
    with pool_of(
        Member("a", agent), Member("b", lambda payload: "b", priority=1), clock=FakeClock()
    ) as pool:
        future = pool.ask(Request("x"), block=False)
        agent.wait_for_calls()
        removed = pool.ask(RemoveMember("a"), block=False)
        pool.stats()
        kill(member_ref(pool, "a"))
        removed.get(timeout=WAIT_S)
        assert future.get(timeout=WAIT_S).member == "b"
        assert [each.name for each in pool.stats().members] == ["b"]
        agent.release()


def test_b35_a_member_that_dies_while_its_agent_is_made_leaves_no_agent_behind(
    greenroom_events: EventRecorder,
) -> None:
    clock = FakeClock()
    gate = ScriptedAgent.hanging(echo)
    closed = ScriptedAgent.hanging(echo)
    closed.release()
    members = [
        Member("lazy", factory=lambda: gate(lambda payload: "lazy"), close=closed),
        Member("b", lambda payload: "b", priority=1),
    ]
    with pool_of(*members, clock=clock) as pool:
        future = pool.ask(Request("x"), block=False)
        gate.wait_for_calls()
        crash(member_ref(pool, "lazy"))
        assert future.get(timeout=WAIT_S).member == "b"
        gate.release()
        closed.wait_for_calls()
        greenroom_events.wait_for(MemberFailed)
        clock.advance(0.1)
        greenroom_events.wait_for(MemberRestarted)
        assert pool.ask(Request("x"), timeout=WAIT_S).member == "lazy"


def test_b35_a_member_that_dies_during_its_probe_is_probed_again(
    greenroom_events: EventRecorder,
) -> None:
    clock = FakeClock()
    gate = ScriptedAgent.hanging(echo)
    with pool_of(Member("a", lambda payload: payload, probe=gate), clock=clock) as pool:
        pool.stats()
        clock.advance(30)
        gate.wait_for_calls()
        crash(member_ref(pool, "a"))
        greenroom_events.wait_for(MemberFailed)
        clock.advance(0.1)
        greenroom_events.wait_for(MemberRestarted)
        gate.release()
        pool.stats()
        clock.advance(33)
        gate.wait_for_calls(2)
        greenroom_events.wait_for(ProbeSucceeded)


@pytest.mark.parametrize("victim", ["supervisor", "router"])
@pytest.mark.parametrize("kill", KILLS.values(), ids=KILLS)
def test_b35_nobody_hangs_when_the_supervisor_or_the_router_dies(
    victim: str, kill: Callable[[Any], None]
) -> None:
    """Pending asks get a PoolStoppedError, and every thread ends."""
    before = greenroom_threads()
    hang, hang_async = ScriptedAgent.hanging(), AsyncScriptedAgent.hanging()
    closed = threading.Event()
    members = [
        Member("sync", hang, close=lambda _: closed.set()),
        Member("async", hang_async, max_concurrency=1),
        Member("isolated", AsyncScriptedAgent.hanging(), isolated=True, max_concurrency=1),
    ]
    with pool_of(*members, strategy="round_robin") as pool:
        pool.on_event(lambda event: None)
        futures = [pool.ask(Request(i), block=False) for i in range(9)]
        hang.wait_for_calls()
        hang_async.wait_for_calls()
        drained = pool.ask(Drain(), block=False)
        threads = greenroom_threads() - before
        kill(supervisor_ref(pool) if victim == "supervisor" else router_ref(pool))
        for future in futures:
            with pytest.raises(PoolStoppedError):
                future.get(timeout=WAIT_S)
        assert drained.get(timeout=WAIT_S) is False
        pool.stop(timeout=WAIT_S)
        with pytest.raises(PoolStoppedError):
            pool.stats()
        assert closed.wait(WAIT_S)
        hang.release()
        hang_async.wait_for_cancelled()
        join_all(threads)


def test_b35_requests_after_the_supervisors_death_are_refused() -> None:
    with pool_of(Member("a", lambda payload: payload)) as pool:
        pool.execute("x", timeout=WAIT_S)
        stop(supervisor_ref(pool))
        pool.join(WAIT_S)
        with pytest.raises(PoolStoppedError):
            pool.execute("x", timeout=WAIT_S)
        with pytest.raises(PoolStoppedError):
            pool.tell(Request("x"))
        with pytest.raises(PoolStoppedError):
            pool.add_member(Member("b", lambda payload: payload))
