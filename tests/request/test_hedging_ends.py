"""Behaviour 50: how a request with two attempts ends, and what becomes of the one that lost."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any

import pytest
from helpers_actors import stop_member
from helpers_agents import AsyncHeld, Held
from helpers_hedging import AFTER_S, Finishes, answer, assert_at_rest, hedged, outcomes, race
from helpers_pools import WAIT_S, ranked

from greenroom import (
    CircuitState,
    DeadlineExceededError,
    Member,
    PoolStoppedError,
    Request,
    RequestCancelledError,
)
from greenroom.actors.member.executions import Executions
from greenroom.actors.runtime.event_bus import observe
from greenroom.messages import (
    AttemptFailed,
    BreakerClosed,
    BreakerOpened,
    DeadLetter,
    Event,
    Failover,
    FailureKind,
    RetryScheduled,
)
from greenroom.testing import EventRecorder, FakeClock, ScriptedAgent, ScriptedHTTPError, http_error


class TestOneOfTwoFails:
    @pytest.mark.parametrize("fails", ["a", "b"])
    def test_b50_the_other_one_goes_on(self, clock: FakeClock, fails: str) -> None:
        """The failure counts, and the other one's answer is the answer."""
        agents = {"a": Held("value"), "b": Held("value")}
        agents[fails].value = http_error(503)
        works = "b" if fails == "a" else "a"
        with EventRecorder() as log, hedged(*ranked(**agents), clock=clock) as pool:
            future = race(pool, clock, agents["a"], agents["b"])
            agents[fails].let_go()
            log.wait_for(AttemptFailed)
            agents[works].let_go()
            reply = answer(future)
            assert (reply.member, reply.attempts) == (works, 2)
            assert [error.member for error in reply.errors] == [fails]
            assert_at_rest(pool, completed=1, hedges=1)
            assert outcomes(pool) == {fails: (0, 1), works: (1, 0)}
            assert log.named(Failover) == []

    def test_b50_when_both_fail_a_third_one_is_asked(
        self, clock: FakeClock, log: EventRecorder
    ) -> None:
        """The usual plan: another member at once."""
        first, second = Held(http_error(503)), Held(http_error(500))
        with hedged(*ranked(a=first, b=second, c=ScriptedAgent(["third"])), clock=clock) as pool:
            future = race(pool, clock, first, second)
            first.let_go()
            log.wait_for(AttemptFailed)
            assert pool.stats().in_flight == 1
            second.let_go()
            reply = answer(future)
            assert (reply.member, reply.attempts) == ("c", 3)
            assert [error.member for error in reply.errors] == ["a", "b"]
            assert_at_rest(pool, completed=1, retries=1, hedges=1)

    def test_b50_when_both_fail_and_nobody_is_left_it_waits(
        self, clock: FakeClock, log: EventRecorder
    ) -> None:
        """The usual plan: a retry later."""
        first, second = Held(http_error(503)), Held(http_error(500))
        with hedged(*ranked(a=first, b=second), clock=clock) as pool:
            future = race(pool, clock, first, second)
            second.let_go()
            log.wait_for(AttemptFailed)
            first.let_go()
            log.wait_for(RetryScheduled)
            (scheduled,) = log.named(RetryScheduled)
            assert scheduled.attempt == 3
            for agent in (first, second):
                agent.value = "in the end"
                agent.let_go()
            clock.advance(scheduled.delay_s)
            assert answer(future).attempts == 3
            assert_at_rest(pool, completed=1, retries=1, hedges=1)

    @pytest.mark.parametrize("fails", ["a", "b"])
    def test_b50_a_fault_of_the_caller_is_raised_as_it_is(
        self, clock: FakeClock, fails: str, finishes: Finishes
    ) -> None:
        """A 400 from one of them is the answer; the other one is cancelled, nothing counted."""
        error = http_error(400)
        bad, slow = Held(error), AsyncHeld()
        agents: dict[str, Any] = {"a": bad, "b": slow} if fails == "a" else {"a": slow, "b": bad}
        with hedged(*ranked(**agents), clock=clock) as pool:
            future = race(pool, clock, agents["a"], agents["b"])
            bad.let_go()
            with pytest.raises(ScriptedHTTPError, match="400") as caught:
                answer(future)
            assert caught.value is error
            slow.wait_cancelled()
            finishes.wait_for(2)
            assert_at_rest(pool, failed=1, hedges=1)
            assert outcomes(pool) == {"a": (0, 0), "b": (0, 0)}

    @pytest.mark.parametrize("stream", [False, True])
    def test_b50_an_answer_after_the_callers_fault_is_too_late(
        self, clock: FakeClock, stream: bool, finishes: Finishes
    ) -> None:
        """The other one answers while the router deals with the 400: the 400 it is."""
        bad, slow = Held(http_error(400)), Held("late")

        def on_event(event: Event) -> None:
            if isinstance(event, AttemptFailed):  # the router waits in here
                slow.let_go()
                finishes.wait_for(2)

        with EventRecorder() as log, hedged(*ranked(a=bad, b=slow), clock=clock) as pool:
            end = observe(on_event)
            asked = pool.stream(Request("x")) if stream else pool.ask(Request("x"), block=False)
            bad.wait_entered()
            clock.advance(AFTER_S)
            slow.wait_entered()
            bad.let_go()
            with pytest.raises(ScriptedHTTPError, match="400"):
                asked.collect() if stream else asked.get(timeout=WAIT_S)  # type: ignore[union-attr]
            end()
            assert_at_rest(pool, failed=1, hedges=1)
            assert log.named(DeadLetter) == []

    def test_b50_a_timeout_of_the_first_leaves_the_second(
        self, clock: FakeClock, log: EventRecorder
    ) -> None:
        """It counts as any timeout does; the second one has its own time."""
        first, second = AsyncHeld(), AsyncHeld("second")
        with hedged(*ranked(a=first, b=second), clock=clock, request_timeout_s=2.0) as pool:
            future = race(pool, clock, first, second)
            clock.advance(1.5)
            first.wait_cancelled()
            log.wait_for(AttemptFailed)
            (failed,) = log.named(AttemptFailed)
            assert (failed.member, failed.kind) == ("a", FailureKind.TIMEOUT)
            second.let_go()
            assert answer(future).member == "b"
            assert outcomes(pool) == {"a": (0, 1), "b": (1, 0)}

    @pytest.mark.parametrize("dies", ["a", "b"])
    def test_b50_a_crash_of_one_leaves_the_other(self, clock: FakeClock, dies: str) -> None:
        """Its actor ends: the failure is its own."""
        agents: dict[str, Any] = {"a": AsyncHeld("value"), "b": AsyncHeld("value")}
        lives = "b" if dies == "a" else "a"
        with EventRecorder() as log, hedged(*ranked(**agents), clock=clock) as pool:
            future = race(pool, clock, agents["a"], agents["b"])
            stop_member(pool, dies)
            log.wait_for(AttemptFailed)
            (failed,) = log.named(AttemptFailed)
            assert (failed.member, failed.kind) == (dies, FailureKind.CRASHED)
            agents[lives].let_go()
            assert answer(future).member == lives
            assert pool.stats().completed == 1


class TestTheRequestEnds:
    def test_b50_a_cancelled_request_cancels_both(
        self, clock: FakeClock, finishes: Finishes
    ) -> None:
        """Nothing is counted, both slots are free."""
        first, second = AsyncHeld(), AsyncHeld()
        with hedged(*ranked(a=first, b=second), clock=clock) as pool:
            future = race(pool, clock, first, second)
            assert future.cancel()
            with pytest.raises(RequestCancelledError):
                answer(future)
            first.wait_cancelled()
            second.wait_cancelled()
            finishes.wait_for(2)
            assert_at_rest(pool, cancelled=1, hedges=1)
            assert outcomes(pool) == {"a": (0, 0), "b": (0, 0)}

    def test_b50_the_deadline_ends_both(self, clock: FakeClock, finishes: Finishes) -> None:
        """The error lists them both."""
        first, second = AsyncHeld(), AsyncHeld()
        with hedged(*ranked(a=first, b=second), clock=clock) as pool:
            future = race(pool, clock, first, second, Request("x", timeout_s=3.0))
            clock.advance(2.5)
            with pytest.raises(DeadlineExceededError) as caught:
                answer(future)
            assert [error.member for error in caught.value.errors] == ["a", "b"]
            first.wait_cancelled()
            second.wait_cancelled()
            finishes.wait_for(2)
            assert_at_rest(pool, failed=1, hedges=1)

    def test_b50_a_stop_ends_both(self, clock: FakeClock) -> None:
        """The asker hears of it once."""
        first, second = AsyncHeld(), AsyncHeld()
        with hedged(*ranked(a=first, b=second), clock=clock) as pool:
            future = race(pool, clock, first, second)
            pool.stop()
            with pytest.raises(PoolStoppedError):
                answer(future)
            first.wait_cancelled()
            second.wait_cancelled()

    def test_b50_a_drain_waits_for_the_winner(self, clock: FakeClock) -> None:
        """Not for the loser, whose thread cannot be stopped."""
        first, second = Held("late"), Held("won")
        with hedged(*ranked(a=first, b=second), clock=clock) as pool:
            future = race(pool, clock, first, second)
            drained = threading.Thread(target=pool.drain)
            drained.start()
            second.let_go()
            assert answer(future).value == "won"
            drained.join(WAIT_S)
            assert not drained.is_alive()
            first.let_go()

    def test_b50_a_member_that_is_removed_finishes_first(self, clock: FakeClock) -> None:
        """It may even win; once both have let go of it, it is gone."""
        first, second = AsyncHeld("first"), AsyncHeld("second")
        with hedged(*ranked(a=first, b=second), clock=clock) as pool:
            future = race(pool, clock, first, second)
            removal = threading.Thread(target=pool.remove_member, args=("a",))
            removal.start()
            second.let_go()
            assert answer(future).member == "b"
            first.wait_cancelled()
            removal.join(WAIT_S)
            assert not removal.is_alive()
            assert [member.name for member in pool.stats().members] == ["b"]


class TestTheLoser:
    def test_b50_a_sync_loser_keeps_its_slot_until_it_ends(
        self, clock: FakeClock, log: EventRecorder, finishes: Finishes
    ) -> None:
        """Its thread cannot be stopped. What it still brings is neither a success nor a failure
        nor worth a dead letter: nobody has lost anything.
        """
        slow, fast = Held("late"), ScriptedAgent(["fast"])
        with hedged(*ranked(a=slow, b=fast), clock=clock) as pool:
            future = pool.ask(Request("x"), block=False)
            slow.wait_entered()
            clock.advance(AFTER_S)
            assert answer(future).member == "b"
            finishes.wait_for(1)
            assert pool.stats()["a"].in_flight == 1
            slow.let_go()
            finishes.wait_for(1)
            assert_at_rest(pool, completed=1, hedges=1)
            assert outcomes(pool) == {"a": (0, 0), "b": (1, 0)}
            assert log.named(DeadLetter) == []

    @pytest.mark.parametrize("late", ["late", http_error(503)], ids=["value", "error"])
    def test_b50_a_loser_that_will_not_be_cancelled_is_let_be(
        self, clock: FakeClock, log: EventRecorder, finishes: Finishes, late: Any
    ) -> None:
        """An async one that swallows its cancellation: what it brings counts for nothing."""
        stubborn, fast = AsyncHeld(late, stubborn=True), ScriptedAgent(["fast"])
        with hedged(*ranked(a=stubborn, b=fast), clock=clock) as pool:
            future = pool.ask(Request("x"), block=False)
            stubborn.wait_entered()
            clock.advance(AFTER_S)
            assert answer(future).member == "b"
            finishes.wait_for(2)
            assert_at_rest(pool, completed=1, hedges=1)
            assert outcomes(pool) == {"a": (0, 0), "b": (1, 0)}
            assert log.named(DeadLetter) == []

    @pytest.mark.parametrize("kind", ["sync", "async"])
    def test_b50_a_loser_that_is_throttled_rests_all_the_same(
        self, clock: FakeClock, finishes: Finishes, kind: str
    ) -> None:
        """It counts for nothing, but its member has said when it will be back."""
        late = http_error(429, retry_after_s=7.0)
        loser: Any = AsyncHeld(late, stubborn=True) if kind == "async" else Held(late)
        with hedged(*ranked(a=loser, b=ScriptedAgent(["fast"])), clock=clock) as pool:
            future = pool.ask(Request("x"), block=False)
            loser.wait_entered()
            clock.advance(AFTER_S)
            assert answer(future).member == "b"
            if kind == "sync":
                loser.let_go()
            finishes.wait_for(2)
            assert_at_rest(pool, completed=1, hedges=1)
            assert pool.stats()["a"].reopens_in_s == 7.0
            assert pool.stats().available == ("b",)

    def test_b50_a_loser_that_goes_on_for_long_is_no_dead_letter(
        self, clock: FakeClock, log: EventRecorder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is abandoned after a moment, and ends some time: its result was not waited for."""
        ended = threading.Event()
        ended_late = Executions.ended_late

        def noted(calls: Executions, *args: Any) -> None:
            ended_late(calls, *args)
            ended.set()

        monkeypatch.setattr(Executions, "ended_late", noted)
        finishes = Finishes(monkeypatch)
        entered, gates = threading.Event(), list[Callable[[], object]]()

        async def stuck(payload: Any) -> str:
            gate, loop = asyncio.Event(), asyncio.get_running_loop()
            gates.append(lambda: loop.call_soon_threadsafe(gate.set))
            entered.set()
            while not gate.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await gate.wait()
            return "late"

        with hedged(
            *ranked(a=stuck, b=ScriptedAgent(["fast"])), clock=clock, cancel_grace_s=0.0
        ) as pool:
            future = pool.ask(Request("x"), block=False)
            assert entered.wait(WAIT_S)
            clock.advance(AFTER_S)
            assert answer(future).member == "b"
            finishes.wait_for(2)
            assert_at_rest(pool, completed=1, hedges=1)
            gates[0]()
            assert ended.wait(WAIT_S)
            assert log.named(DeadLetter) == []

    def test_b50_a_loser_that_times_out_later_is_not_counted(
        self, clock: FakeClock, log: EventRecorder, finishes: Finishes
    ) -> None:
        """Its slot is given back when its time is over, as that of any stuck thread."""
        slow, fast = Held("late"), ScriptedAgent(["fast"])
        with hedged(*ranked(a=slow, b=fast), clock=clock, request_timeout_s=2.0) as pool:
            future = pool.ask(Request("x"), block=False)
            slow.wait_entered()
            clock.advance(AFTER_S)
            assert answer(future).member == "b"
            finishes.wait_for(1)
            clock.advance(1.5)
            finishes.wait_for(1)
            assert_at_rest(pool, completed=1, hedges=1)
            assert outcomes(pool) == {"a": (0, 0), "b": (1, 0)}
            assert log.named(AttemptFailed) == []
            slow.let_go()

    def test_b50_a_trial_that_loses_gives_its_permit_back(
        self, clock: FakeClock, finishes: Finishes
    ) -> None:
        """A request that carries a trial is not hedged: another member has it at once. The trial
        goes on, and when it has ended the next request may try the member again.
        """
        flaky = ScriptedAgent([http_error(503), "never"])
        slow = AsyncHeld("slow")
        calls = 0

        async def agent(payload: Any) -> Any:
            nonlocal calls
            calls += 1
            return flaky(payload) if calls == 1 else await slow(payload)

        members = [Member("a", agent, priority=0), Member("b", ScriptedAgent(["fast"]), priority=1)]
        with (
            EventRecorder() as log,
            hedged(*members, clock=clock, circuit_failure_threshold=1) as pool,
        ):
            assert pool.ask(Request("x"), timeout=WAIT_S).member == "b"
            log.wait_for(BreakerOpened)
            finishes.wait_for(2)
            clock.advance(100.0)
            assert pool.stats()["a"].circuit is CircuitState.HALF_OPEN
            trial = pool.ask(Request("x"), block=False)
            slow.wait_entered()
            assert answer(trial).member == "b"
            clock.advance(AFTER_S)
            assert pool.stats().hedges == 0
            slow.let_go()
            finishes.wait_for(2)
            stats = pool.stats()["a"]
            assert (stats.circuit, stats.failures) == (CircuitState.HALF_OPEN, 1)
            again = pool.ask(Request("x"), block=False)
            slow.wait_entered()
            assert answer(again).member == "b"
            slow.let_go()
            log.wait_for(BreakerClosed)
