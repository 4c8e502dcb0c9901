"""How pools start, change, drain and stop: behaviours 39, 40 and 41."""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
import subprocess
import sys
import textwrap
import threading
import weakref
from collections.abc import Callable
from typing import Any

import psutil
import pykka
import pytest
from helpers_supervision import (
    WAIT_S,
    Gate,
    Neighbour,
    crash,
    join_all,
    member_ref,
    no_thread_left,
    pool_of,
)
from loguru import logger

from greenroom import (
    AddMember,
    AgentPool,
    AllPoolMembersFailedError,
    CircuitState,
    Drain,
    Member,
    MemberExistsError,
    PoolStoppedError,
    ReentrantAskError,
    RemoveMember,
    Request,
    SkipReason,
    UnknownMemberError,
)
from greenroom.actors.member import AgentActor
from greenroom.messages import (
    DeadLetter,
    Event,
    MemberFailed,
    MemberStopped,
    PoolStarted,
    PoolStopped,
    RetryScheduled,
)
from greenroom.supervisors.supervisor import PoolSupervisor
from greenroom.testing import AsyncScriptedAgent, EventRecorder, FakeClock, ScriptedAgent


def echo(payload: Any) -> Any:
    return payload


async def echo_async(payload: Any) -> Any:
    return payload


# -- 39: draining and stopping


def test_b39_a_drain_finishes_what_is_queued_and_refuses_what_comes() -> None:
    """Drain with 999 queued: the next one is refused at once, the 999 complete."""
    gate = Gate()
    with pool_of(Member("a", gate), clock=FakeClock()) as pool:
        futures = [pool.ask(Request(i), block=False) for i in range(1000)]
        gate.wait_for()
        drained = pool.ask(Drain(), block=False)
        with pytest.raises(PoolStoppedError, match="draining"):
            pool.execute("too late", timeout=WAIT_S)
        stats = pool.stats()
        assert (stats.draining, stats.pending, stats.in_flight) == (True, 999, 1)
        assert not drained.done()
        gate.open()
        assert drained.get(timeout=6 * WAIT_S) is True
        assert [future.get(timeout=WAIT_S).value for future in futures] == list(range(1000))
        assert pool.stats().completed == 1000


def test_b39_a_tell_during_a_drain_is_a_dead_letter(greenroom_events: EventRecorder) -> None:
    with pool_of(Member("a", echo)) as pool:
        assert pool.drain(timeout=WAIT_S)
        pool.tell(Request("too late"))
        assert "draining" in greenroom_events.wait_for(DeadLetter).reason


def test_b39_past_the_drain_timeout_the_rest_fails_and_says_so() -> None:
    """Past the drain deadline the rest fail with an error that says so."""
    clock = FakeClock()
    agent = AsyncScriptedAgent.hanging()
    with pool_of(Member("a", agent, max_concurrency=1), clock=clock) as pool:
        futures = [pool.ask(Request(i), block=False) for i in range(5)]
        agent.wait_for_calls()
        drained = pool.ask(Drain(7), block=False)
        pool.stats()
        clock.advance(6.5)
        pool.stats()
        assert not drained.done()
        clock.advance(0.5)
        assert drained.get(timeout=WAIT_S) is False
        for future in futures:
            with pytest.raises(PoolStoppedError, match="timed out after 7 s"):
                future.get(timeout=WAIT_S)
        agent.wait_for_cancelled()
        assert pool.stats().pending == 0


def test_b39_several_drains_end_together() -> None:
    gate = Gate()
    with pool_of(Member("a", gate)) as pool:
        future = pool.ask(Request("x"), block=False)
        gate.wait_for()
        drains = [pool.ask(Drain(timeout), block=False) for timeout in (None, 3600, None)]
        gate.open()
        assert [each.get(timeout=WAIT_S) for each in drains] == [True, True, True]
        assert future.get(timeout=WAIT_S).value == "x"
        assert pool.drain() is True


def test_b39_a_drain_of_an_idle_pool_is_over_at_once() -> None:
    with pool_of(Member("a", echo), clock=FakeClock()) as pool:
        assert pool.drain(timeout=0) is True
        with pytest.raises(PoolStoppedError):
            pool.execute("x", timeout=WAIT_S)


def test_b39_a_drain_without_time_fails_what_is_at_hand() -> None:
    gate = Gate()
    with pool_of(Member("a", gate)) as pool:
        future = pool.ask(Request("x"), block=False)
        gate.wait_for()
        assert pool.drain(timeout=0) is False
        with pytest.raises(PoolStoppedError, match="drain"):
            future.get(timeout=WAIT_S)
        gate.open()


def test_b39_a_drain_waits_for_a_retry_too(greenroom_events: EventRecorder) -> None:
    clock = FakeClock()
    agent = ScriptedAgent.failing(1, then="second try")
    with pool_of(Member("a", agent), clock=clock, same_member_retries=0) as pool:
        future = pool.ask(Request("x"), block=False)
        delay_s = greenroom_events.wait_for(RetryScheduled).delay_s
        drained = pool.ask(Drain(), block=False)
        pool.stats()
        assert not drained.done()
        clock.advance(delay_s)
        assert future.get(timeout=WAIT_S).value == "second try"
        assert drained.get(timeout=WAIT_S) is True


def test_b39_who_waits_for_a_drain_is_answered_by_a_stop() -> None:
    gate = Gate()
    with pool_of(Member("a", gate)) as pool:
        future = pool.ask(Request("x"), block=False)
        gate.wait_for()
        drained = pool.ask(Drain(), block=False)
        pool.stop(timeout=WAIT_S)
        assert drained.get(timeout=WAIT_S) is False
        with pytest.raises(PoolStoppedError):
            future.get(timeout=WAIT_S)
        gate.open()


def test_b39_a_second_stop_is_a_no_op(greenroom_events: EventRecorder) -> None:
    """A second stop is a no-op."""
    with pool_of(Member("a", echo)) as pool:
        assert pool.execute("x", timeout=WAIT_S) == "x"
        assert pool.stop(timeout=WAIT_S) is True
        assert pool.stop(timeout=WAIT_S) is False
        assert pool.stop(block=False).get(timeout=WAIT_S) is False
        assert not pool.is_alive()
    assert len(greenroom_events.named(PoolStopped)) == 1
    assert len(greenroom_events.named(MemberStopped)) == 1


def test_b39_stops_from_many_threads_at_once_all_return(greenroom_events: EventRecorder) -> None:
    start = threading.Barrier(8)
    with pool_of(Member("a", echo), Member("b", echo_async)) as pool:

        def stop() -> None:
            start.wait(WAIT_S)
            pool.stop(timeout=WAIT_S)

        threads = {threading.Thread(target=stop) for _ in range(8)}
        for thread in threads:
            thread.start()
        join_all(threads)
        assert not pool.is_alive()
    assert len(greenroom_events.named(PoolStopped)) == 1


def test_b39_a_pool_stops_in_order_members_first(greenroom_events: EventRecorder) -> None:
    """Admission, members, supervisor, router: the pool's own event is the very last."""
    closed: list[str] = []
    members = [
        Member("a", echo, close=lambda _: closed.append("a")),
        Member("b", echo_async, close=lambda _: closed.append("b")),
    ]
    got: list[Event] = []
    with pool_of(*members) as pool:
        pool.on_event(got.append)
        pool.execute("x", timeout=WAIT_S)
    assert sorted(closed) == ["a", "b"]
    ends = [event.name for event in got if event.name.endswith("stopped")]
    assert ends == ["member.stopped", "member.stopped", "pool.stopped"]
    assert got[-1].name == "pool.stopped"
    assert greenroom_events.names()[-1] == "pool.stopped"


def test_b39_a_stop_answers_every_ask_in_flight(greenroom_events: EventRecorder) -> None:
    """Running, queued, waiting for a retry, for a factory, for a restart: none is left hanging."""
    clock = FakeClock()
    sync, on_loop = ScriptedAgent.hanging("late"), AsyncScriptedAgent.hanging()
    gate = Gate()
    members = [
        Member("sync", sync),
        Member("async", on_loop, max_concurrency=1),
        Member("isolated", AsyncScriptedAgent.hanging(), isolated=True, max_concurrency=1),
        Member("lazy", factory=gate),
    ]
    with pool_of(*members, clock=clock, strategy="round_robin") as pool:
        futures = [pool.ask(Request(i), block=False) for i in range(10)]
        sync.wait_for_calls()
        on_loop.wait_for_calls()
        gate.wait_for()
        stopped = pool.stop(timeout=WAIT_S)
        assert stopped is True
        for future in futures:
            assert future.done()
            with pytest.raises(PoolStoppedError, match="was stopped"):
                future.get(timeout=0)
        on_loop.wait_for_cancelled()
        sync.release()
        gate.open()
    assert greenroom_events.wait_for(PoolStopped).unfinished == 10


def test_b39_a_stop_answers_who_waits_for_a_restart(greenroom_events: EventRecorder) -> None:
    with pool_of(Member("a", echo), clock=FakeClock()) as pool:
        pool.execute("x", timeout=WAIT_S)
        crash(member_ref(pool, "a"))
        greenroom_events.wait_for(MemberFailed)
        future = pool.ask(Request("x"), block=False)
        pool.stats()
    with pytest.raises(PoolStoppedError):
        future.get(timeout=0)


def test_b39_a_stopped_pool_refuses_everything_at_once() -> None:
    with pool_of(Member("a", echo), name="gone") as pool:
        pass
    assert repr(pool) == "<PoolRef gone, stopped>"
    asks: list[Callable[[], Any]] = [
        lambda: pool.ask(Request("x")),
        lambda: pool.ask(Request("x"), block=False).get(timeout=WAIT_S),
        lambda: pool.tell(Request("x")),
        lambda: pool.execute("x"),
        lambda: pool.apply(echo),
        pool.stats,
        pool.drain,
        pool.reset_all,
        lambda: pool.reset_member("a"),
        lambda: pool.force_open("a"),
        lambda: pool.add_member(Member("b", echo)),
        lambda: pool.remove_member("a"),
        lambda: pool.cancel("x"),
        lambda: pool.on_event(print),
    ]
    for ask in asks:
        with pytest.raises(PoolStoppedError, match="gone") as caught:
            ask()
        assert isinstance(caught.value, pykka.ActorDeadError)


def test_b39_leaving_the_block_by_an_error_stops_the_pool_too() -> None:
    with pytest.raises(ZeroDivisionError), AgentPool.start([Member("a", echo)]) as pool:
        raise ZeroDivisionError
    assert not pool.is_alive()


def test_b39_an_async_block_does_not_block_the_loop() -> None:
    gate = Gate()

    async def main() -> None:
        async with AgentPool.start([Member("a", echo, close=gate)]) as pool:
            assert (await pool.ask(Request("x"), block=False)).value == "x"
            asyncio.get_running_loop().call_later(0, gate.open)  # runs while the pool stops
        assert not pool.is_alive()

    asyncio.run(asyncio.wait_for(main(), WAIT_S))


def test_b39_a_stop_that_takes_too_long_says_so_and_goes_on() -> None:
    gate = Gate()
    with pool_of(Member("a", echo, close=gate)) as pool:
        with pytest.raises(pykka.Timeout):
            pool.stop(timeout=0)
        gate.wait_for()
        gate.open()
        assert pool.stop(timeout=WAIT_S) is False


@pytest.mark.parametrize("isolated", [False, True])
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_b39_an_agent_may_stop_its_own_pool(kind: str, isolated: bool) -> None:
    """Its own request fails like any other that is under way. A coroutine awaits the end, which
    cancels it: its loop's thread would wait for itself.
    """
    stopped: list[bool] = []
    done = threading.Event()

    def stop(_: Any) -> None:
        stopped.append(pool.stop(timeout=WAIT_S))
        done.set()

    async def stop_async(_: Any) -> None:
        with pytest.raises(ReentrantAskError, match=r"stop\(block=False\)"):
            pool.stop(timeout=WAIT_S)
        try:
            await pool.stop(block=False)
        except asyncio.CancelledError:
            stopped.append(not pool.is_alive())
            done.set()
            raise

    agent = stop if kind == "sync" else stop_async
    with pool_of(Member("a", agent, isolated=isolated)) as pool:
        future = pool.ask(Request("x"), block=False)
        with pytest.raises(PoolStoppedError):
            future.get(timeout=WAIT_S)
        assert done.wait(WAIT_S)
    assert stopped == [True]


def test_b39_a_subscriber_may_stop_the_pool() -> None:
    """It does not wait for the end, which waits for it."""
    done = threading.Event()

    def stop(event: Event) -> None:
        if event.name == "request.completed":
            with pytest.raises(ReentrantAskError, match="subscribers"):
                pool.stop(timeout=WAIT_S)
            pool.stop(block=False)
            done.set()

    with pool_of(Member("a", echo)) as pool:
        pool.on_event(stop)
        pool.execute("x", timeout=WAIT_S)
        assert done.wait(WAIT_S)
        pool.stop(timeout=WAIT_S)
        assert not pool.is_alive()


def test_b39_a_done_callback_may_stop_the_pool() -> None:
    """It runs in the router's thread, which cannot wait for its own end."""
    done = threading.Event()

    def stop(_: Any) -> None:
        with pytest.raises(ReentrantAskError, match="router"):
            pool.stop()
        pool.stop(block=False)
        done.set()

    with pool_of(Member("a", AsyncScriptedAgent.hanging())) as pool:
        future = pool.ask(Request("x"), block=False)
        future.add_done_callback(stop)
        future.cancel()
        assert done.wait(WAIT_S)
        pool.stop(timeout=WAIT_S)
        assert not pool.is_alive()


def test_b39_time_that_passes_while_a_pool_stops_keeps_no_thread() -> None:
    """A fake clock's wake-up that comes between the stop and the end is no message."""
    clock = FakeClock()
    gate = Gate()
    with no_thread_left(), pool_of(Member("a", echo, close=gate), clock=clock) as pool:
        pool.execute("x", timeout=WAIT_S)
        ended = pool.stop(block=False)
        gate.wait_for()
        for _ in range(2000):
            clock.advance(0.001)
        gate.open()
        assert ended.get(timeout=WAIT_S) is True


# -- members at run time


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
    gate = Gate()
    with pool_of(Member("a", gate)) as pool:
        first = pool.ask(Request("first"), block=False)
        gate.wait_for()
        second = pool.ask(Request("second"), block=False)
        pool.stats()
        pool.add_member(Member("b", echo), timeout=WAIT_S)
        assert second.get(timeout=WAIT_S).member == "b"
        gate.open()
        assert first.get(timeout=WAIT_S).member == "a"


def test_a_member_that_is_removed_finishes_what_it_has_and_gets_nothing_new() -> None:
    gate = Gate()
    closed: list[Any] = []
    members = [
        Member("a", gate, max_concurrency=5, close=closed.append),
        Member("b", lambda payload: "b", priority=1),
    ]
    with pool_of(*members) as pool:
        running = [pool.ask(Request(i), block=False) for i in range(3)]
        gate.wait_for(3)
        removed = pool.ask(RemoveMember("a"), block=False)
        again = pool.ask(RemoveMember("a"), block=False)
        pool.stats()
        assert pool.execute("new", timeout=WAIT_S) == "b"
        with pytest.raises(MemberExistsError):
            pool.add_member(Member("a", echo), timeout=WAIT_S)
        assert not removed.done()
        assert closed == []
        gate.open()
        removed.get(timeout=WAIT_S)
        again.get(timeout=WAIT_S)
        assert closed == [gate]
        assert [future.get(timeout=WAIT_S).value for future in running] == [0, 1, 2]
        assert [each.name for each in pool.stats().members] == ["b"]
        with pytest.raises(UnknownMemberError, match="'a'"):
            pool.remove_member("a", timeout=WAIT_S)


def test_who_does_not_wait_for_a_removal_has_it_go_on() -> None:
    gate = Gate()
    with pool_of(Member("a", gate), Member("b", echo, priority=1)) as pool:
        running = pool.ask(Request("x"), block=False)
        gate.wait_for()
        with pytest.raises(pykka.Timeout):
            pool.remove_member("a", timeout=0)
        gate.open()
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
    gate = Gate()
    with pool_of(Member("a", gate), clock=FakeClock()) as pool:
        futures = [pool.ask(Request(i), block=False) for i in range(4)]
        gate.wait_for()
        removed = pool.ask(RemoveMember("a"), block=False)
        for future in futures[1:]:
            with pytest.raises(AllPoolMembersFailedError) as caught:
                future.get(timeout=WAIT_S)
            assert [each.kind for each in caught.value.errors] == [SkipReason.DRAINING]
        gate.open()
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
    gate = Gate()
    members = [Member("a", gate, max_concurrency=9), Member("b", lambda _: "b", priority=1)]
    with pool_of(*members, clock=clock, request_timeout_s=None) as pool:
        running = pool.ask(Request("running"), block=False)
        gate.wait_for()
        pool.force_open("a")
        assert [pool.execute(i, timeout=WAIT_S) for i in range(20)] == ["b"] * 20
        clock.advance(10_000)
        pool.stats()
        assert pool.execute("x", timeout=WAIT_S) == "b"
        gate.open()
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


def test_a_pool_starts_with_its_event_first(greenroom_events: EventRecorder) -> None:
    with pool_of(Member("a", echo), Member("b", echo), name="starting"):
        started = greenroom_events.wait_for(PoolStarted)
        assert started.members == ("a", "b")
    assert greenroom_events.names()[0] == "pool.started"


def test_pools_of_one_process_do_not_meet() -> None:
    with (
        pool_of(Member("a", lambda _: "first"), name="twin") as first,
        pool_of(Member("a", lambda _: "second"), name="twin") as second,
    ):
        assert first.execute("x", timeout=WAIT_S) == "first"
        first.stop(timeout=WAIT_S)
        assert second.execute("x", timeout=WAIT_S) == "second"


# -- 40: nothing is left behind


class Closing:
    def run(self, payload: Any) -> Any:
        return payload

    def close(self) -> None:
        pass


def one_pool() -> None:
    """Starts a pool of every kind of member, uses it, and stops it with calls in flight."""
    hang, hang_async = ScriptedAgent.hanging(), AsyncScriptedAgent.hanging()
    got: list[Event] = []
    members = [
        Member("sync", echo),
        Member("async", echo_async),
        Member("isolated", echo_async, isolated=True),
        Member("lazy", factory=Closing, probe=lambda agent: True),
        Member("hang", hang),
        Member("hang_async", hang_async, max_concurrency=1),
    ]
    clock = FakeClock() if one_pool_number() % 2 else None
    with pool_of(*members, clock=clock, strategy="round_robin") as pool:
        pool.on_event(got.append)
        futures = [pool.ask(Request(i), block=False) for i in range(6)]
        assert [future.get(timeout=WAIT_S).value for future in futures[:4]] == [0, 1, 2, 3]
        hang.wait_for_calls()
        hang_async.wait_for_calls()
        crash(member_ref(pool, "sync"))
        pool.stats()
    hang.release()
    assert got[-1].name == "pool.stopped"
    assert all(future.done() for future in futures)


one_pool_number = itertools.count().__next__


def handlers() -> tuple[Any, ...]:
    core: Any = logger._core  # type: ignore[attr-defined]
    names = ("", "pykka", "asyncio", "greenroom")
    return (
        list(core.handlers),
        [list(logging.getLogger(name).handlers) for name in names],
        [list(logging.getLogger(name).filters) for name in names],
        [logging.getLogger(name).level for name in names],
        threading.excepthook,
        sys.excepthook,
        sys.unraisablehook,
    )


def test_b40_two_hundred_pools_leave_nothing_behind(caplog: pytest.LogCaptureFixture) -> None:
    """200 pools started and stopped: threads, file descriptors and memory back to where they were;
    no global handler left; the app's own Pykka actors untouched.
    """
    process = psutil.Process()
    own = Neighbour.start()
    logging.disable(logging.CRITICAL)  # what caplog keeps is not the pools' memory
    try:
        actors = pykka.ActorRegistry.get_all()
        with no_thread_left():
            for _ in range(50):
                one_pool()
        gc.collect()
        before = (set(threading.enumerate()), process.num_fds(), handlers())
        memory = process.memory_info().rss
        with no_thread_left():
            for _ in range(200):
                one_pool()
        gc.collect()
        assert set(threading.enumerate()) <= before[0]
        assert process.num_fds() <= before[1]
        assert handlers() == before[2]
        assert process.memory_info().rss - memory < 20 * 2**20
        assert pykka.ActorRegistry.get_all() == actors
        assert own.ask("still here", timeout=WAIT_S) == "still here"
    finally:
        logging.disable(logging.NOTSET)
        own.stop(timeout=WAIT_S)


def living_actors() -> set[str]:
    """The urns of the actors that something still refers to."""
    gc.collect()
    kinds = (AgentPool, PoolSupervisor, AgentActor)
    return {each.actor_urn for each in gc.get_objects() if isinstance(each, kinds)}


def test_b40_a_stopped_pool_is_garbage() -> None:
    """No registry, no clock and no thread holds a stopped pool's actors."""

    def actors() -> list[Any]:
        gc.collect()
        kinds = (AgentPool, PoolSupervisor, AgentActor)
        return [each for each in gc.get_objects() if isinstance(each, kinds)]

    clock = FakeClock()
    before = weakref.WeakSet(actors())
    members = [Member("a", echo), Member("b", echo_async, isolated=True)]
    with no_thread_left(), pool_of(*members, clock=clock) as pool:
        pool.execute("x", timeout=WAIT_S)
        pool.execute("x", timeout=WAIT_S)
    del pool
    assert [each for each in actors() if each not in before] == []
    assert clock._wakes == []


def test_b40_answered_requests_are_garbage() -> None:
    """What a pool has answered, it forgets: payload, value and error."""

    class Payload:
        pass

    def agent(payload: Payload) -> Payload:
        return Payload()

    def failing(payload: Payload) -> Payload:
        raise ValueError(payload)

    members = [
        Member("bad", failing),
        Member("sync", agent),
        Member("async", echo_async),
    ]
    with pool_of(*members, strategy="round_robin", clock=FakeClock()) as pool:
        for _ in range(30):
            pool.execute(Payload(), timeout=WAIT_S)
        for name in ("bad", "sync", "async"):
            pool.force_open(name)
        pool.stats()
        gc.collect()
        left = [each for each in gc.get_objects() if isinstance(each, Payload)]
        assert len(left) == 0


# -- 41: a process ends by itself

SCRIPT = """
import asyncio, threading, time
from greenroom import AgentPool, Member, Request

entered = threading.Barrier(4)

def hang(payload):
    entered.wait(30)
    threading.Event().wait()

async def hang_async(payload):
    await asyncio.get_running_loop().run_in_executor(executor, entered.wait, 30)
    await asyncio.Event().wait()

def factory():
    threading.Event().wait()

from concurrent.futures import ThreadPoolExecutor
executor = ThreadPoolExecutor()

pool = AgentPool.start([
    Member("sync", hang),
    Member("async", hang_async, max_concurrency=1),
    Member("isolated", hang_async, isolated=True, max_concurrency=1),
    Member("lazy", factory=factory),
], strategy="round_robin")
pool.on_event(lambda event: None)
futures = [pool.ask(Request(i), block=False) for i in range(10)]
entered.wait(30)
print("end of main")
"""


@pytest.mark.parametrize(
    "more",
    [
        "",
        "pool.stop()",
        "raise SystemExit(0)",
        "import atexit; atexit.register(pool.stop)",
        "import threading; threading.Thread(target=pool.stop).start()",
        "pool.tell(Request('last'))",
        "import greenroom; greenroom.AgentPool.start([])",
    ],
    ids=["running", "stopped", "exit", "atexit", "stopping", "tell", "starting"],
)
def test_b41_a_process_ends_by_itself_with_a_pool_running(more: str) -> None:
    """The process ends by itself when main returns, with a pool running and calls in flight."""
    script = textwrap.dedent(SCRIPT) + more + "\n"
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        capture_output=True,
        text=True,
        timeout=6 * WAIT_S,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "end of main\n", "")


def test_b41_an_asyncio_program_ends_by_itself_too() -> None:
    script = """
import asyncio
from greenroom import AgentPool, Member, Request

async def hang(payload):
    await asyncio.Event().wait()

async def main():
    pool = AgentPool.start([Member("a", hang)])
    task = asyncio.create_task(ask(pool))
    await asyncio.sleep(0)

async def ask(pool):
    await pool.ask(Request("x"), block=False)

asyncio.run(main())
print("end of main")
"""
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        capture_output=True,
        text=True,
        timeout=6 * WAIT_S,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "end of main\n", "")


@pytest.mark.parametrize("timeout", [1e308, 1e12])
def test_a_stop_may_have_all_the_time_there_is(timeout: float) -> None:
    """A timeout that no lock can wait for is as good as none."""
    pool = AgentPool.start([Member("a", lambda payload: payload)])
    assert pool.stop(timeout=timeout)
    later = AgentPool.start([Member("a", lambda payload: payload)])
    assert later.stop(block=False, timeout=timeout).get(timeout=timeout)
