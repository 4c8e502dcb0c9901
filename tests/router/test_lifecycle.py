"""How pools start, drain and stop: behaviour 39."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pykka
import pytest
from helpers_actors import crash, join_all, member_ref, no_thread_left
from helpers_pools import WAIT_S, echo, echo_async, pool_of

from greenroom import AgentPool, Drain, Member, PoolStoppedError, ReentrantAskError, Request
from greenroom.messages import (
    DeadLetter,
    Event,
    MemberFailed,
    MemberStopped,
    PoolStarted,
    PoolStopped,
    RetryScheduled,
)
from greenroom.testing import AsyncScriptedAgent, EventRecorder, FakeClock, ScriptedAgent


def test_b39_a_drain_finishes_what_is_queued_and_refuses_what_comes() -> None:
    """Drain with 999 queued: the next one is refused at once, the 999 complete."""
    gate = ScriptedAgent.hanging(echo)
    with pool_of(Member("a", gate), clock=FakeClock()) as pool:
        futures = [pool.ask(Request(i), block=False) for i in range(1000)]
        gate.wait_for_calls()
        drained = pool.ask(Drain(), block=False)
        with pytest.raises(PoolStoppedError, match="draining"):
            pool.execute("too late", timeout=WAIT_S)
        stats = pool.stats()
        assert (stats.draining, stats.pending, stats.in_flight) == (True, 999, 1)
        assert not drained.done()
        gate.release()
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
    gate = ScriptedAgent.hanging(echo)
    with pool_of(Member("a", gate)) as pool:
        future = pool.ask(Request("x"), block=False)
        gate.wait_for_calls()
        drains = [pool.ask(Drain(timeout), block=False) for timeout in (None, 3600, None)]
        gate.release()
        assert [each.get(timeout=WAIT_S) for each in drains] == [True, True, True]
        assert future.get(timeout=WAIT_S).value == "x"
        assert pool.drain() is True


def test_b39_a_drain_of_an_idle_pool_is_over_at_once() -> None:
    with pool_of(Member("a", echo), clock=FakeClock()) as pool:
        assert pool.drain(timeout=0) is True
        with pytest.raises(PoolStoppedError):
            pool.execute("x", timeout=WAIT_S)


def test_b39_a_drain_without_time_fails_what_is_at_hand() -> None:
    gate = ScriptedAgent.hanging(echo)
    with pool_of(Member("a", gate)) as pool:
        future = pool.ask(Request("x"), block=False)
        gate.wait_for_calls()
        assert pool.drain(timeout=0) is False
        with pytest.raises(PoolStoppedError, match="drain"):
            future.get(timeout=WAIT_S)
        gate.release()


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
    gate = ScriptedAgent.hanging(echo)
    with pool_of(Member("a", gate)) as pool:
        future = pool.ask(Request("x"), block=False)
        gate.wait_for_calls()
        drained = pool.ask(Drain(), block=False)
        pool.stop(timeout=WAIT_S)
        assert drained.get(timeout=WAIT_S) is False
        with pytest.raises(PoolStoppedError):
            future.get(timeout=WAIT_S)
        gate.release()


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
    gate = ScriptedAgent.hanging(echo)
    members = [
        Member("sync", sync),
        Member("async", on_loop, max_concurrency=1),
        Member("isolated", AsyncScriptedAgent.hanging(), isolated=True, max_concurrency=1),
        Member("lazy", factory=lambda: gate(None)),
    ]
    with pool_of(*members, clock=clock, strategy="round_robin") as pool:
        futures = [pool.ask(Request(i), block=False) for i in range(10)]
        sync.wait_for_calls()
        on_loop.wait_for_calls()
        gate.wait_for_calls()
        stopped = pool.stop(timeout=WAIT_S)
        assert stopped is True
        for future in futures:
            assert future.done()
            with pytest.raises(PoolStoppedError, match="was stopped"):
                future.get(timeout=0)
        on_loop.wait_for_cancelled()
        sync.release()
        gate.release()
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
    gate = ScriptedAgent.hanging(echo)

    async def main() -> None:
        async with AgentPool.start([Member("a", echo, close=gate)]) as pool:
            assert (await pool.ask(Request("x"), block=False)).value == "x"
            asyncio.get_running_loop().call_later(0, gate.release)  # runs while the pool stops
        assert not pool.is_alive()

    asyncio.run(asyncio.wait_for(main(), WAIT_S))


def test_b39_a_stop_that_takes_too_long_says_so_and_goes_on() -> None:
    gate = ScriptedAgent.hanging(echo)
    with pool_of(Member("a", echo, close=gate)) as pool:
        with pytest.raises(pykka.Timeout):
            pool.stop(timeout=0)
        gate.wait_for_calls()
        gate.release()
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
    gate = ScriptedAgent.hanging(echo)
    with no_thread_left(), pool_of(Member("a", echo, close=gate), clock=clock) as pool:
        pool.execute("x", timeout=WAIT_S)
        ended = pool.stop(block=False)
        gate.wait_for_calls()
        for _ in range(2000):
            clock.advance(0.001)
        gate.release()
        assert ended.get(timeout=WAIT_S) is True


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


@pytest.mark.parametrize("timeout", [1e308, 1e12])
def test_a_stop_may_have_all_the_time_there_is(timeout: float) -> None:
    """A timeout that no lock can wait for is as good as none."""
    pool = AgentPool.start([Member("a", lambda payload: payload)])
    assert pool.stop(timeout=timeout)
    later = AgentPool.start([Member("a", lambda payload: payload)])
    assert later.stop(block=False, timeout=timeout).get(timeout=timeout)
