"""A pool with more to do than it can: behaviours 31 and 32."""

from __future__ import annotations

import threading
import time

import pytest
from helpers_agents import AsyncHeld, Held
from helpers_pools import WAIT_S, pool_of, ranked

from greenroom import (
    AllPoolMembersFailedError,
    DeadlineExceededError,
    Member,
    PoolSaturatedError,
    Request,
)
from greenroom.messages import DeadLetter, RequestRejected
from greenroom.testing import EventRecorder, FakeClock, ScriptedAgent


class TestFullQueue:
    def test_b31_the_next_one_is_refused_at_once(self) -> None:
        """max_pending reached: PoolSaturatedError at once with retry_after_s."""
        agent = Held()
        with EventRecorder() as log, pool_of(*ranked(a=agent), max_pending=3) as pool:
            futures = [pool.ask(Request(n), block=False) for n in range(4)]
            agent.wait_entered()
            with pytest.raises(PoolSaturatedError) as caught:
                pool.ask(Request("too many", request_id="shed"), timeout=WAIT_S)
            assert (caught.value.pool_name, caught.value.pending) == ("pool", 3)
            assert 0 < caught.value.retry_after_s <= 60
            assert "retry after" in str(caught.value)
            assert [event.request_id for event in log.named(RequestRejected)] == ["shed"]
            stats = pool.stats()
            assert (stats.pending, stats.in_flight, stats.failed) == (3, 1, 1)
            agent.let_go(4)
            assert [f.get(timeout=WAIT_S).value for f in futures] == ["held"] * 4
            agent.let_go()
            assert pool.execute("room again") == "held"

    def test_b31_control_messages_still_get_through(self) -> None:
        """Members can be asked about, added, removed; requests cancelled; the pool drained."""
        agent = Held()
        with pool_of(*ranked(a=agent), max_pending=2) as pool:
            futures = [pool.ask(Request(n, request_id=f"r-{n}"), block=False) for n in range(3)]
            agent.wait_entered()
            with pytest.raises(PoolSaturatedError):
                pool.ask(Request("too many"))
            assert pool.stats().pending == 2
            assert pool.cancel("r-2")
            pool.disable_breaker("a")
            pool.reset_member("a")
            pool.add_member(Member("b", ScriptedAgent(["b"])))
            assert futures[1].get(timeout=WAIT_S).member == "b"
            pool.remove_member("b")
            agent.let_go()
            assert futures[0].get(timeout=WAIT_S).value == "held"
            assert pool.drain(timeout=WAIT_S)

    def test_b31_told_too_much_is_a_dead_letter_each(self) -> None:
        """What is told to a full pool is not lost without a trace."""
        agent = Held()
        with EventRecorder() as log, pool_of(*ranked(a=agent), max_pending=1) as pool:
            pool.stats()  # the pool has started
            for n in range(5):
                pool.tell(Request(n, request_id=f"t-{n}"))
            agent.wait_entered()
            pool.stats()
            assert [letter.request_id for letter in log.named(DeadLetter)] == ["t-2", "t-3", "t-4"]
            agent.let_go(2)

    def test_b31_what_is_refused_does_not_make_the_pool_look_fast(self) -> None:
        """retry_after_s comes from the pace of what is done, not of what is turned away."""
        clock = FakeClock()
        agent = Held()
        with pool_of(*ranked(a=agent), clock=clock, max_pending=1, request_timeout_s=None) as pool:
            for _ in range(5):  # one every two seconds
                future = pool.ask(Request("x"), block=False)
                agent.wait_entered()
                clock.advance(2.0)
                agent.let_go()
                future.get(timeout=WAIT_S)
                pool.stats()
            futures = [pool.ask(Request(n), block=False) for n in range(2)]

            def refused() -> float:
                with pytest.raises(PoolSaturatedError) as caught:
                    pool.ask(Request("too many"))
                return caught.value.retry_after_s

            waits = [refused() for _ in range(200)]
            assert waits == pytest.approx([waits[0]] * 200)
            assert waits[0] == pytest.approx(2.0, rel=0.5)
            agent.let_go(2)
            for future in futures:
                future.get(timeout=WAIT_S)

    def test_b31_without_a_queue(self) -> None:
        """max_pending=0: a request is taken by a free member, or refused; never by chance."""
        agent = Held()
        for _ in range(20):
            with pool_of(*ranked(a=agent), max_pending=0) as pool:
                future = pool.ask(Request("x"), block=False)  # right after the start
                agent.wait_entered()
                with pytest.raises(PoolSaturatedError):
                    pool.ask(Request("y"))
                agent.let_go()
                assert future.get(timeout=WAIT_S).value == "held"

    def test_b31_without_a_queue_a_failure_leaves_its_member_free(self) -> None:
        """An idle pool is not saturated because its last call has just failed."""
        agent = ScriptedAgent([ValueError("odd")])
        with pool_of(
            *ranked(a=agent),
            max_pending=0,
            max_retries=0,
            circuit_failure_threshold=10_000,
            circuit_min_calls=20,
            circuit_failure_rate=1.0,
            circuit_window=20,
        ) as pool:
            pool.disable_breaker("a")
            for n in range(100):
                with pytest.raises(AllPoolMembersFailedError):
                    pool.ask(Request(n), timeout=WAIT_S)
            assert len(agent.calls) == 100

    def test_b31_a_retry_is_not_shed(self) -> None:
        """A request that has been tried keeps its right to wait, however full the queue is."""
        first, second = Held(ValueError("first")), Held("second")
        with pool_of(*ranked(a=first, b=second), max_pending=1) as pool:
            tried = pool.ask(Request("tried"), block=False)
            first.wait_entered()
            running = pool.ask(Request("running"), block=False)
            second.wait_entered()
            queued = pool.ask(Request("queued"), block=False)
            assert pool.stats().pending == 1
            first.let_go(2)  # `tried` waits for b now; `queued`, which came later, has a, and fails
            second.let_go(3)
            for future in (tried, running, queued):
                assert future.get(timeout=WAIT_S).value == "second"

    def test_b31_what_outlived_its_deadline_in_the_queue_is_not_run(self) -> None:
        """51, in part: it has its error at the deadline and leaves its place to the next one."""
        clock = FakeClock()
        agent = Held()
        with pool_of(*ranked(a=agent), clock=clock, max_pending=1) as pool:
            running = pool.ask(Request("running"), block=False)
            agent.wait_entered()
            queued = pool.ask(Request("late", timeout_s=1.0), block=False)
            assert pool.stats().pending == 1
            clock.advance(1.0)
            with pytest.raises(DeadlineExceededError) as caught:
                queued.get(timeout=WAIT_S)
            assert [str(e.kind) for e in caught.value.errors] == ["saturated"]
            next_one = pool.ask(Request("next"), block=False)
            agent.let_go(2)
            assert running.get(timeout=WAIT_S).value == "held"
            assert next_one.get(timeout=WAIT_S).value == "held"
            assert agent.payloads == ["running", "next"]

    def test_b31_first_come_first_served(self) -> None:
        """What waits is served in the order in which it came."""
        agent = Held()
        with pool_of(*ranked(a=agent)) as pool:
            futures = [pool.ask(Request(n), block=False) for n in range(200)]
            agent.let_go(200)
            for future in futures:
                future.get(timeout=WAIT_S)
            assert agent.payloads == list(range(200))


class TestBusyPool:
    def test_b32_the_stats_come_at_once(self) -> None:
        """All members busy for 30 s: GetStats answers within 50 ms."""
        sync, coroutine = Held(), AsyncHeld()
        with pool_of(
            Member("sync", sync, max_concurrency=4),
            Member("coroutine", coroutine, max_concurrency=50),
            strategy="round_robin",
        ) as pool:
            futures = [pool.ask(Request(n), block=False) for n in range(1000)]
            sync.wait_entered(4)
            coroutine.wait_entered(50)
            times = []
            for _ in range(20):
                start = time.perf_counter()
                stats = pool.stats()
                times.append(time.perf_counter() - start)
                assert (stats.in_flight, stats.pending) == (54, 946)
            assert min(times) < 0.05  # the best of twenty: the machine may be busy as well
            assert stats.available == ()
            for future in futures[::-1]:
                future.cancel()
            sync.let_go(4)

    def test_b32_from_many_threads(self) -> None:
        """Sixteen threads ask all the time, none waits for the busy members."""
        agent = Held()
        answers: list[int] = []
        with pool_of(*ranked(a=agent)) as pool:
            future = pool.ask(Request("x"), block=False)
            agent.wait_entered()

            def watch() -> None:
                for _ in range(25):
                    answers.append(pool.stats().in_flight)

            threads = [threading.Thread(target=watch) for _ in range(16)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(WAIT_S)
            assert answers == [1] * 400
            assert not future.done()
            agent.let_go()
            assert future.get(timeout=WAIT_S).value == "held"
