"""Time limits of requests, and members that hang: behaviours 23, 24 and 25."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pykka
import pytest
from helpers_agents import AsyncHeld, Held
from helpers_pools import WAIT_S, pool_of, ranked

from greenroom import (
    AllPoolMembersFailedError,
    AskTimeoutError,
    AttemptTimeoutError,
    CallContext,
    CircuitState,
    DeadlineExceededError,
    FailureKind,
    Member,
    PoolError,
    Request,
)
from greenroom.actors.runtime.event_bus import observe
from greenroom.messages import DeadLetter, RequestCompleted, RetryScheduled
from greenroom.testing import (
    AsyncScriptedAgent,
    EventRecorder,
    FakeClock,
    ScriptedAgent,
    http_error,
)


class TestHangingMembers:
    @pytest.mark.parametrize("hanging", ["async", "sync"])
    def test_b23_the_good_one_answers_after_one_attempt_timeout(self, hanging: str) -> None:
        """A hanging async and a hanging sync member, attempt timeout 1 s, deadline 3 s, one good
        member: the good answer within 1.2 s, the async call cancelled, the stuck thread replaced,
        no slot leaked.
        """
        clock = FakeClock()
        stuck: Any = AsyncHeld() if hanging == "async" else Held()
        with (
            EventRecorder() as log,
            pool_of(
                *ranked(stuck=stuck, good=ScriptedAgent(["good"])),
                clock=clock,
                request_timeout_s=1.0,
            ) as pool,
        ):
            future = pool.ask(Request("x", timeout_s=3.0), block=False)
            stuck.wait_entered()
            clock.advance(0.99)
            assert (pool.stats().in_flight, future.done()) == (1, False)
            clock.advance(0.01)
            reply = future.get(timeout=WAIT_S)
            assert (reply.value, reply.member) == ("good", "good")
            assert reply.elapsed_s == pytest.approx(1.0)
            assert reply.errors[0].kind is FailureKind.TIMEOUT
            assert isinstance(reply.errors[0].error, AttemptTimeoutError)
            if hanging == "async":
                stuck.wait_cancelled()
            pool.stats()  # the failure has been judged
            # The slot is free again, and on a fresh thread: the next call gets in.
            again = pool.ask(Request("y"), block=False)
            stuck.wait_entered()
            stats = pool.stats()
            assert stats["stuck"].in_flight == 1
            assert stats["stuck"].abandoned == (1 if hanging == "sync" else 0)
            if hanging == "sync":
                stuck.let_go(2)
                assert again.get(timeout=WAIT_S).value == "held"
                log.wait_for(DeadLetter)
                (letter,) = log.named(DeadLetter)
                assert letter.member == "stuck"
                stats = pool.stats()
                assert stats["stuck"].abandoned == 0
            else:
                stuck.let_go()
                assert again.get(timeout=WAIT_S).value == "held"
                stats = pool.stats()
            assert (stats.in_flight, stats["stuck"].in_flight) == (0, 0)

    def test_b23_both_hang_before_the_good_one(self) -> None:
        """Two attempt timeouts in a row fit into the deadline; the third member answers."""
        clock = FakeClock()
        sync, coroutine = Held(), AsyncHeld()
        with (
            EventRecorder() as log,
            pool_of(
                *ranked(sync=sync, coroutine=coroutine, good=ScriptedAgent(["good"])),
                clock=clock,
                request_timeout_s=1.0,
                deadline_s=3.0,
            ) as pool,
        ):
            future = pool.ask(Request("x"), block=False)
            sync.wait_entered()
            clock.advance(1.0)
            coroutine.wait_entered()
            clock.advance(1.0)
            reply = future.get(timeout=WAIT_S)
            assert reply.member == "good"
            assert reply.elapsed_s == pytest.approx(2.0)
            assert [e.member for e in reply.errors] == ["sync", "coroutine"]
            sync.let_go()
            log.wait_for(DeadLetter)
            coroutine.wait_cancelled()
            future = pool.ask(Request("y"), block=False)
            sync.wait_entered()
            sync.let_go()
            assert future.get(timeout=WAIT_S).member == "sync"
            assert pool.stats().in_flight == 0

    def test_b23_real_time(self) -> None:
        """The same on the machine's clock, where the timeout is short: nobody advances anything."""
        coroutine, sync = AsyncHeld(), Held()
        with pool_of(
            *ranked(coroutine=coroutine, sync=sync, good=ScriptedAgent(["good"])),
            request_timeout_s=0.05,
        ) as pool:
            assert pool.ask(Request("x"), timeout=WAIT_S).member == "good"
            coroutine.wait_cancelled()
            sync.let_go()

    def test_b23_a_stubborn_coroutine_keeps_its_slot_for_a_moment_only(self) -> None:
        """One that swallows its cancellation has answered too late: a dead letter."""
        clock = FakeClock()
        stubborn = AsyncHeld("late", stubborn=True)
        with (
            EventRecorder() as log,
            pool_of(
                *ranked(stubborn=stubborn, good=ScriptedAgent(["good"])),
                clock=clock,
                request_timeout_s=1.0,
            ) as pool,
        ):
            future = pool.ask(Request("x"), block=False)
            stubborn.wait_entered()
            clock.advance(1.0)
            assert future.get(timeout=WAIT_S).member == "good"
            log.wait_for(DeadLetter)
            (letter,) = log.named(DeadLetter)
            assert (letter.member, letter.reason) == ("stubborn", "a late result")
            assert pool.stats().in_flight == 0

    def test_b23_a_hang_counts_for_the_breaker(self) -> None:
        """An attempt that had all its time and did not answer is a failure of its member."""
        clock = FakeClock()
        stuck = AsyncHeld()
        with pool_of(
            *ranked(stuck=stuck, good=ScriptedAgent(["good"])),
            clock=clock,
            request_timeout_s=1.0,
            circuit_failure_threshold=2,
        ) as pool:
            for _ in range(2):
                future = pool.ask(Request("x"), block=False)
                stuck.wait_entered()
                clock.advance(1.0)
                assert future.get(timeout=WAIT_S).member == "good"
                stats = pool.stats()["stuck"]  # the failure has been judged
            assert (stats.circuit, stats.failures) == (CircuitState.OPEN, 2)

    def test_b23_everyone_hangs_until_the_deadline(self) -> None:
        """The asker has its error at the deadline, with what was tried until then."""
        clock = FakeClock()
        one, two = AsyncHeld(), Held()
        with pool_of(*ranked(one=one, two=two), clock=clock, request_timeout_s=2.0) as pool:
            future = pool.ask(Request("x", timeout_s=3.0), block=False)
            one.wait_entered()
            clock.advance(2.0)
            two.wait_entered()
            clock.advance(0.99)
            assert not future.done()
            clock.advance(0.01)
            with pytest.raises(DeadlineExceededError) as caught:
                future.get(timeout=WAIT_S)
            assert not isinstance(caught.value, pykka.Timeout)
            assert isinstance(caught.value, TimeoutError)
            assert [(e.member, e.kind) for e in caught.value.errors] == [
                ("one", FailureKind.TIMEOUT),
                ("two", FailureKind.TIMEOUT),
            ]
            assert [e.elapsed_s for e in caught.value.errors] == pytest.approx([2.0, 1.0])
            one.wait_cancelled()
            two.let_go()


class TestDeadlines:
    def test_b24_no_pointless_wait(self) -> None:
        """Deadline shorter than the backoff: no pointless wait, the error comes at once and says
        so.
        """
        clock = FakeClock()
        agent = ScriptedAgent([http_error(503, retry_after_s=20)])
        with EventRecorder() as log, pool_of(*ranked(a=agent), clock=clock) as pool:
            with pytest.raises(AllPoolMembersFailedError) as caught:
                pool.ask(Request("x", timeout_s=5.0))  # nobody moves the clock: it came at once
            assert caught.value.reason == (
                "the next retry in 20.0 s would come after the deadline, 5.0 s left"
            )
            assert log.named(RetryScheduled) == []
        assert len(agent.calls) == 1

    def test_b24_a_backoff_that_fits_is_waited_for(self) -> None:
        """With room for it the same request waits, and is answered."""
        clock = FakeClock()
        agent = ScriptedAgent([http_error(503, retry_after_s=20), "good"])
        with EventRecorder() as log, pool_of(*ranked(a=agent), clock=clock) as pool:
            future = pool.ask(Request("x", timeout_s=21.0), block=False)
            log.wait_for(RetryScheduled)
            (scheduled,) = log.named(RetryScheduled)
            assert scheduled.delay_s == pytest.approx(20.0)
            clock.advance(20.0)
            assert future.get(timeout=WAIT_S).value == "good"

    def test_b24_a_retry_after_longer_than_any_backoff_is_not_waited_for(self) -> None:
        """Past retry_max_delay_s the asker hears at once, deadline or not."""
        agent = ScriptedAgent([http_error(503, retry_after_s=60)])
        with (
            pool_of(*ranked(a=agent), clock=FakeClock(), retry_max_delay_s=30.0) as pool,
            pytest.raises(AllPoolMembersFailedError, match=r"60\.0 s.*retry_max_delay_s=30"),
        ):
            pool.ask(Request("x"))

    @pytest.mark.parametrize("status", [429, 503])
    def test_b24_a_retry_after_is_waited_for_and_then_served(self, status: int) -> None:
        """The retry comes when the Retry-After is over, and does find its member back."""
        for _ in range(20):  # router and supervisor are woken at the same moment, in either order
            clock = FakeClock()
            agent = ScriptedAgent([http_error(status, retry_after_s=2), "good"])
            with EventRecorder() as log, pool_of(*ranked(a=agent), clock=clock) as pool:
                future = pool.ask(Request("x"), block=False)
                log.wait_for(RetryScheduled)
                clock.advance(1.99)
                pool.stats()
                assert len(agent.calls) == 1
                clock.advance(0.01)
                assert future.get(timeout=WAIT_S).value == "good"

    def test_b24_a_retry_after_waited_for_in_real_time(self) -> None:
        """The same on the machine's clock."""
        agent = ScriptedAgent([http_error(429, retry_after_s=0.02), "good"])
        with pool_of(*ranked(a=agent)) as pool:
            assert pool.ask(Request("x"), timeout=WAIT_S).value == "good"

    def test_b24_an_untried_member_needs_no_wait(self) -> None:
        """Another member is tried at once, whatever the first one asked for."""
        agents = ranked(
            a=ScriptedAgent([http_error(429, retry_after_s=60)]), b=ScriptedAgent(["good"])
        )
        with EventRecorder() as log, pool_of(*agents, clock=FakeClock()) as pool:
            assert pool.ask(Request("x", timeout_s=5.0)).member == "b"
            assert log.named(RetryScheduled) == []
            assert pool.stats()["a"].reopens_in_s == pytest.approx(60.0)

    def test_b24_the_deadline_ends_a_backoff(self) -> None:
        """A request that backs off when its time is over fails then, without another attempt."""
        clock = FakeClock()
        agent = ScriptedAgent([http_error(503, retry_after_s=4)])
        with EventRecorder() as log, pool_of(*ranked(a=agent), clock=clock) as pool:
            future = pool.ask(Request("x", timeout_s=5.0), block=False)
            log.wait_for(RetryScheduled)
            clock.advance(10.0)  # both are over: the deadline comes first or the retry is not tried
            with pytest.raises((DeadlineExceededError, AllPoolMembersFailedError)):
                future.get(timeout=WAIT_S)
            assert pool.stats().pending == 0

    @pytest.mark.parametrize("kind", [ScriptedAgent, AsyncScriptedAgent])
    def test_b24_a_deadline_in_the_past_runs_nothing(self, kind: type[ScriptedAgent]) -> None:
        """A request whose time was over when it arrived fails without a call."""
        agent = kind(["never"])
        with pool_of(*ranked(a=agent), clock=FakeClock()) as pool:
            with pytest.raises(AskTimeoutError):
                pool.ask(Request("x"), timeout=0)
            with pytest.raises(DeadlineExceededError):
                pool.ask(Request("x"), block=False, timeout=0).get(timeout=WAIT_S)
            stats = pool.stats()
        assert len(agent.calls) == 0
        assert (stats.accepted, stats.failed, stats.pending, stats.in_flight) == (2, 2, 0, 0)

    def test_b24_a_deadline_that_passed_in_the_mailbox(self) -> None:
        """A request that lay in the router's mailbox past its deadline is not run."""
        clock = FakeClock()
        busy, let_on = threading.Event(), threading.Event()
        agent = ScriptedAgent(["first", "second"])

        def hold_the_router(event: Any) -> None:
            if isinstance(event, RequestCompleted) and event.request_id == "hold":
                busy.set()
                assert let_on.wait(WAIT_S)

        end = observe(hold_the_router)
        try:
            with pool_of(*ranked(a=agent), clock=clock) as pool:
                pool.tell(Request("x", request_id="hold"))
                assert busy.wait(WAIT_S)
                late = pool.ask(Request("y"), block=False, timeout=1.0)
                fresh = pool.ask(Request("z"), block=False, timeout=9.0)
                clock.advance(5.0)
                let_on.set()
                with pytest.raises(AskTimeoutError):
                    late.get(timeout=WAIT_S)
                assert fresh.get(timeout=WAIT_S).value == "second"
        finally:
            let_on.set()
            end()
        assert agent.calls == ["x", "z"]

    def test_b24_the_earliest_limit_holds(self) -> None:
        """Of the pool's deadline, the request's and the asker's, the earliest one counts."""
        clock = FakeClock()
        agent = AsyncHeld()
        with pool_of(*ranked(a=agent), clock=clock, deadline_s=4.0) as pool:
            futures = [
                pool.ask(Request("asker", timeout_s=3.0), block=False, timeout=2.0),
                pool.ask(Request("request", timeout_s=3.0), block=False, timeout=9.0),
                pool.ask(Request("pool", timeout_s=9.0), block=False, timeout=9.0),
            ]
            agent.wait_entered(3)
            for future, asker in zip(futures, (True, False, False), strict=True):
                assert not future.done()
                clock.advance(2.0 if asker else 1.0)
                with pytest.raises(DeadlineExceededError) as caught:
                    future.get(timeout=WAIT_S)
                assert isinstance(caught.value, pykka.Timeout) is asker

    def test_b24_a_caller_in_a_hurry_does_not_open_a_breaker(self) -> None:
        """Calls cut short by their callers' deadlines say nothing of a member that is measured."""
        clock = FakeClock()

        async def agent(payload: Any) -> Any:
            await clock.sleep(float(payload))
            return payload

        with pool_of(*ranked(a=agent), clock=clock, circuit_failure_threshold=2) as pool:
            measured = pool.ask(Request(5), block=False)
            for _ in range(200):
                if measured.done():
                    break
                clock.advance(0.1)
                pool.stats()
            assert measured.get(timeout=WAIT_S).value == 5
            for _ in range(5):
                future = pool.ask(Request(5, timeout_s=1.0), block=False)
                pool.stats()
                clock.advance(1.0)
                with pytest.raises(DeadlineExceededError):
                    future.get(timeout=WAIT_S)
            assert pool.stats()["a"].circuit is CircuitState.CLOSED
            assert pool.stats()["a"].failures == 0


@contextlib.contextmanager
def time_passes_for(agent: Held | AsyncHeld, clock: FakeClock) -> Iterator[None]:
    """As soon as the agent has begun, the time of a blocking ask of `WAIT_S` is over."""

    def pass_time() -> None:
        agent.wait_entered()
        clock.advance(WAIT_S)

    thread = threading.Thread(target=pass_time)
    thread.start()
    yield
    thread.join()


class TestBlockingAskTimeouts:
    def test_b25_an_async_call_is_cancelled(self) -> None:
        """A blocking ask with a timeout on a longer call: Pykka's Timeout at the timeout; an async
        call is cancelled, its slot free; the member lives.
        """
        agent, clock = AsyncHeld(), FakeClock()
        member = Member("a", agent, max_concurrency=1)
        with EventRecorder() as log, pool_of(member, clock=clock) as pool:
            with time_passes_for(agent, clock), pytest.raises(pykka.Timeout) as caught:
                pool.ask(Request("x"), timeout=WAIT_S)
            assert isinstance(caught.value, (AskTimeoutError, TimeoutError))
            assert isinstance(caught.value, PoolError)
            agent.wait_cancelled()
            future = pool.ask(Request("y"), block=False)
            agent.wait_entered()
            agent.let_go()
            assert future.get(timeout=WAIT_S).value == "held"
            assert pool.stats()["a"].incarnation == 1
            assert pool.stats().in_flight == 0
            assert log.named(DeadLetter) == []

    def test_b25_a_sync_one_ends_as_a_dead_letter(self) -> None:
        """A sync call's late result is a dead letter, its slot free when it really ends; the member
        lives.
        """
        agent, clock = Held("late"), FakeClock()
        with EventRecorder() as log, pool_of(*ranked(a=agent), clock=clock) as pool:
            with time_passes_for(agent, clock), pytest.raises(pykka.Timeout):
                pool.ask(Request("x", request_id="slow"), timeout=WAIT_S)
            waiting = pool.ask(Request("y"), block=False)
            stats = pool.stats()
            assert (stats.in_flight, stats.pending) == (1, 1)  # the slot is not free yet
            agent.let_go()
            log.wait_for(DeadLetter)
            (letter,) = log.named(DeadLetter)
            assert (letter.request_id, letter.member) == ("slow", "a")
            agent.wait_entered()
            agent.let_go()
            assert waiting.get(timeout=WAIT_S).value == "late"
            assert pool.stats()["a"].incarnation == 1
            assert pool.stats().in_flight == 0
            assert len(log.named(DeadLetter)) == 1

    def test_b25_a_late_error_of_a_sync_call_is_no_failure(self) -> None:
        """What a call raises after its asker has left counts for nothing; the slot is free."""
        clock = FakeClock()
        agent = Held(ValueError("late"))
        with EventRecorder(), pool_of(*ranked(a=agent), clock=clock) as pool:
            future = pool.ask(Request("x"), block=False, timeout=1.0)
            agent.wait_entered()
            clock.advance(1.0)
            with pytest.raises(AskTimeoutError):
                future.get(timeout=WAIT_S)
            before = pool.stats()["a"].failures
            agent.let_go()
            agent.value = "fine"
            agent.let_go()
            assert pool.ask(Request("y")).value == "fine"
            assert pool.stats()["a"].failures == before

    def test_b25_a_sync_call_left_behind_is_replaced_at_the_attempt_timeout(self) -> None:
        """The asker left earlier, but a call that never ends does not keep its slot for ever."""
        clock = FakeClock()
        agent = Held()
        with (
            EventRecorder() as log,
            pool_of(*ranked(a=agent), clock=clock, request_timeout_s=5.0) as pool,
        ):
            future = pool.ask(Request("x"), block=False, timeout=1.0)
            agent.wait_entered()
            clock.advance(1.0)
            with pytest.raises(AskTimeoutError):
                future.get(timeout=WAIT_S)
            waiting = pool.ask(Request("y"), block=False)
            assert pool.stats().pending == 1
            clock.advance(4.0)
            agent.wait_entered()  # on a fresh thread
            assert pool.stats()["a"].abandoned == 1
            agent.let_go(2)
            assert waiting.get(timeout=WAIT_S).value == "held"
            log.wait_for(DeadLetter)

    def test_b25_a_future_read_too_early_is_left_alone(self) -> None:
        """`get(timeout=)` on a future gives up reading, not the request: Pykka's meaning."""
        agent = AsyncHeld()
        with pool_of(*ranked(a=agent)) as pool:
            future = pool.ask(Request("x"), block=False)
            agent.wait_entered()
            with pytest.raises(pykka.Timeout):
                future.get(timeout=0.01)
            agent.let_go()
            assert future.get(timeout=WAIT_S).value == "held"
            assert agent.cancelled == []

    def test_b25_the_agent_knows_how_long_it_has(self) -> None:
        """The asker's timeout is the deadline that the agent's context tells."""
        clock = FakeClock()

        def agent(_: Any, context: CallContext) -> float | None:
            return context.remaining_s

        with pool_of(*ranked(a=agent), clock=clock, request_timeout_s=None) as pool:
            assert pool.ask(Request("x"), timeout=2.5).value == pytest.approx(2.5)
            assert pool.ask(Request("x")).value is None
            assert pool.ask(Request("x", timeout_s=1.5), timeout=2.5).value == pytest.approx(1.5)

    def test_b25_an_awaited_ask_times_out_without_blocking_the_loop(self) -> None:
        """The same awaited: the loop stays free, the error is a TimeoutError."""
        agent, clock = AsyncHeld(), FakeClock()

        async def main() -> None:
            ticks = 0

            async def tick() -> None:
                nonlocal ticks
                while True:
                    ticks += 1
                    if agent.calls and ticks > 1:  # the agent is at it, and this loop goes on
                        clock.advance(0.1)
                    await asyncio.sleep(0)

            ticking = asyncio.create_task(tick())
            with pytest.raises(TimeoutError):
                await pool.ask(Request("x"), block=False, timeout=0.05)
            ticking.cancel()
            assert ticks > 1

        with pool_of(*ranked(a=agent), clock=clock) as pool:
            asyncio.run(main())
            agent.wait_cancelled()
