"""The moment a broken member is tried again: behaviour 29; and what its trial costs: nothing."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from helpers_actors import stop_member
from helpers_agents import AsyncHeld, Held
from helpers_hedging import Finishes
from helpers_pools import WAIT_S, pool_of, ranked

from greenroom import (
    AllPoolMembersFailedError,
    CallContext,
    CircuitState,
    DeadlineExceededError,
    Member,
    PickContext,
    PoolRef,
    Reply,
    Request,
    SkipReason,
)
from greenroom.messages import (
    AttemptFailed,
    AttemptLost,
    AttemptSucceeded,
    BreakerClosed,
    BreakerHalfOpened,
    BreakerOpened,
    DeadLetter,
    HedgeStarted,
)
from greenroom.testing import (
    AsyncScriptedAgent,
    EventRecorder,
    FakeClock,
    ScriptedAgent,
    http_error,
)

CALLERS = 50


def at_once(pool: PoolRef, calls: int = CALLERS) -> list[Reply[Any] | Exception]:
    """That many blocking asks from as many threads, started by one barrier; how each ended."""
    barrier = threading.Barrier(calls)
    results: list[Reply[Any] | Exception] = []

    def call() -> None:
        barrier.wait(WAIT_S)
        try:
            results.append(pool.ask(Request("x"), timeout=WAIT_S))
        except Exception as error:
            results.append(error)

    threads = [threading.Thread(target=call) for _ in range(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(3 * WAIT_S)
    return results


def open_it(pool: PoolRef, calls: int = 1) -> None:
    for _ in range(calls):
        pool.ask(Request("open it"), timeout=WAIT_S)
    assert pool.stats()["dead"].circuit is CircuitState.OPEN


class TestOneTrial:
    @pytest.mark.parametrize("agent", [ScriptedAgent, AsyncScriptedAgent])
    def test_b29_fifty_callers_and_one_trial(self, agent: Callable[..., Any]) -> None:
        """50 callers at the moment a dead member's reset timeout ends: exactly one trial."""
        clock = FakeClock()
        dead, good = (
            agent([http_error(401), ValueError("still dead")]),
            AsyncScriptedAgent(["good"]),
        )
        with (
            EventRecorder() as log,
            pool_of(
                *ranked(dead=dead, good=good), clock=clock, circuit_reset_timeout_s=30.0
            ) as pool,
        ):
            open_it(pool)
            assert len(dead.calls) == 1
            clock.advance(30.0)
            pool.stats()
            results = at_once(pool)
            assert {getattr(each, "member", each) for each in results} == {"good"}
            log.wait_for(BreakerOpened, count=2)  # by the trial, which nobody waits for
            assert len(dead.calls) == 2  # the one that opened it, and the trial
            assert pool.stats()["dead"].circuit is CircuitState.OPEN
            assert len(log.named(BreakerOpened)) == 2
            assert len(log.named(BreakerHalfOpened)) == 1

    def test_b29_with_the_clock_moved_among_them(self) -> None:
        """The same when the timeout ends while they are on their way."""
        clock = FakeClock()
        dead, good = (
            AsyncScriptedAgent([http_error(401), ValueError("dead")]),
            AsyncScriptedAgent(["good"]),
        )
        with pool_of(
            *ranked(dead=dead, good=good), clock=clock, circuit_reset_timeout_s=30.0
        ) as pool:
            open_it(pool)
            mover = threading.Timer(0.0, clock.advance, (30.0,))
            mover.start()
            results = at_once(pool)
            mover.join(WAIT_S)
            assert {getattr(each, "member", each) for each in results} == {"good"}
            assert len(dead.calls) <= 2

    def test_b29_a_trial_that_lasts_keeps_the_others_out(self) -> None:
        """With nobody else to go to the others fail at once, and say that a trial is running."""
        clock = FakeClock()
        dead = AsyncHeld(http_error(401))
        with pool_of(
            *ranked(dead=dead), clock=clock, circuit_reset_timeout_s=30.0, max_retries=0
        ) as pool:
            first = pool.ask(Request("open it"), block=False)
            dead.wait_entered()
            dead.let_go()
            with pytest.raises(AllPoolMembersFailedError):
                first.get(timeout=WAIT_S)
            dead.value = "alive"
            pool.stats()
            clock.advance(30.0)
            pool.stats()
            futures = [pool.ask(Request(n), block=False) for n in range(CALLERS)]
            dead.wait_entered()
            for future in futures[1:]:
                with pytest.raises(AllPoolMembersFailedError) as caught:
                    future.get(timeout=WAIT_S)
                assert [e.kind for e in caught.value.errors] == [SkipReason.TRIAL_RUNNING]
            assert dead.calls == 2
            dead.let_go()
            assert futures[0].get(timeout=WAIT_S).value == "alive"

    def test_b29_those_who_may_wait_are_served_one_trial_at_a_time(self) -> None:
        """`when_unavailable="wait"`: two trials close the breaker, then the rest go through."""
        clock = FakeClock()
        dead = Held(http_error(401))
        with (
            EventRecorder() as log,
            pool_of(
                *ranked(dead=dead),
                clock=clock,
                circuit_reset_timeout_s=30.0,
                max_retries=0,
                when_unavailable="wait",
            ) as pool,
        ):
            first = pool.ask(Request("open it"), block=False)
            dead.let_go()
            with pytest.raises(AllPoolMembersFailedError):
                first.get(timeout=WAIT_S)
            dead.wait_entered()
            dead.value = "alive"
            futures = [pool.ask(Request(n), block=False) for n in range(CALLERS)]
            clock.advance(30.0)
            for trial in range(2):
                dead.wait_entered()
                assert pool.stats()["dead"].circuit is CircuitState.HALF_OPEN
                assert dead.calls == 2 + trial
                dead.let_go()
            log.wait_for(BreakerClosed)
            dead.let_go(CALLERS)
            assert [f.get(timeout=WAIT_S).value for f in futures] == ["alive"] * CALLERS
            assert dead.payloads == ["open it", *range(CALLERS)]

    def test_b29_as_many_trials_as_permits(self) -> None:
        """half_open_permits=3: three calls at a time, not four."""
        clock = FakeClock()
        dead, good = AsyncHeld(http_error(401)), AsyncScriptedAgent(["good"])
        with (
            EventRecorder() as log,
            pool_of(
                *ranked(dead=dead, good=good),
                clock=clock,
                circuit_reset_timeout_s=30.0,
                half_open_permits=3,
            ) as pool,
        ):
            first = pool.ask(Request("open it"), block=False)
            dead.wait_entered()
            dead.let_go()
            first.get(timeout=WAIT_S)
            pool.stats()
            clock.advance(30.0)
            pool.stats()
            futures = [pool.ask(Request(n), block=False) for n in range(CALLERS)]
            dead.wait_entered(3)
            for future in futures:
                assert future.get(timeout=WAIT_S).member == "good"
            assert dead.calls == 4
            dead.value = "alive"
            dead.let_go()
            log.wait_for(BreakerClosed)

    def test_b29_a_caller_on_its_own_is_not_refused_between_two_trials(self) -> None:
        """One request after the other, as fast as the answers come: the second trial follows the
        first without a refusal in between.
        """
        for _ in range(20):
            clock = FakeClock()
            dead = ScriptedAgent([http_error(401), "alive"])
            with pool_of(
                *ranked(dead=dead), clock=clock, circuit_reset_timeout_s=30.0, max_retries=0
            ) as pool:
                with pytest.raises(AllPoolMembersFailedError):
                    pool.ask(Request("open it"))
                pool.stats()
                clock.advance(30.0)
                assert [pool.execute(n) for n in range(5)] == ["alive"] * 5
                assert pool.stats()["dead"].circuit is CircuitState.CLOSED


RESET_S = 30.0


class Flaky(AsyncHeld):
    """An async agent whose first call fails with 401; each later one waits until `let_go`."""

    async def __call__(self, payload: Any) -> Any:
        if not self.payloads:
            self.payloads.append(payload)
            raise http_error(401)
        return await super().__call__(payload)


class FlakyThread(Held):
    """The same as a sync one."""

    def __call__(self, payload: Any) -> Any:
        if not self.payloads:
            self.payloads.append(payload)
            raise http_error(401)
        return super().__call__(payload)


class FlakyStream(Held):
    """The same as a generator."""

    def __call__(self, payload: Any) -> Any:
        if not self.payloads:
            self.payloads.append(payload)
            raise http_error(401)
        yield super().__call__(payload)
        yield "rest"


class Forgetful:
    """Fails once; then it waits for leave to start what must not be repeated."""

    def __init__(self) -> None:
        self.calls = 0
        self.entered = threading.Semaphore(0)
        self.go_on = threading.Semaphore(0)

    def __call__(self, payload: Any, context: CallContext) -> Any:
        self.calls += 1
        if self.calls == 1:
            raise http_error(401)
        self.entered.release()
        assert self.go_on.acquire(timeout=WAIT_S)
        context.started_side_effects()
        return "done"


@contextlib.contextmanager
def half_open(
    clock: FakeClock, *members: Member, payload: str = "open it", **config: Any
) -> Iterator[PoolRef]:
    """A pool whose first member has failed once, and is half-open by now."""
    with pool_of(*members, clock=clock, circuit_reset_timeout_s=RESET_S, **config) as pool:
        with contextlib.suppress(AllPoolMembersFailedError):
            pool.ask(Request(payload), timeout=WAIT_S)
        first = members[0].name
        assert pool.stats()[first].circuit is CircuitState.OPEN
        clock.advance(RESET_S)
        assert pool.stats()[first].circuit is CircuitState.HALF_OPEN
        yield pool


class TestATrialCostsNoWait:
    """A request that carries a trial goes to somebody else as well, if there is anybody."""

    @pytest.mark.parametrize("agent", [Flaky, FlakyThread])
    def test_a_trial_that_hangs_costs_its_caller_no_wait(
        self, agent: Callable[[], Any], clock: FakeClock, log: EventRecorder
    ) -> None:
        """The other member answers without any time passing; the trial times out by itself, opens
        the breaker again, and is nobody's dead letter.
        """
        dead, good = agent(), AsyncScriptedAgent(["good"])
        with half_open(clock, *ranked(dead=dead, good=good), request_timeout_s=10.0) as pool:
            reply = pool.ask(Request("x"), timeout=WAIT_S)
            assert (reply.member, reply.attempts, reply.errors) == ("good", 2, ())
            dead.wait_entered()
            stats = pool.stats()
            assert (stats.in_flight, stats["dead"].in_flight) == (1, 1)
            assert (stats.retries, stats.hedges, stats.completed) == (1, 0, 2)
            clock.advance(9.999)
            assert pool.stats()["dead"].circuit is CircuitState.HALF_OPEN
            clock.advance(0.001)
            log.wait_for(BreakerOpened, count=2)
            opened = log.named(BreakerOpened)[1]
            assert "trial failed: timeout" in opened.reason
            assert log.named(HedgeStarted) == [] == log.named(DeadLetter)
            dead.let_go()

    @pytest.mark.parametrize("agent", [Flaky, FlakyThread])
    def test_a_trial_that_comes_late_counts_and_is_dropped(
        self, agent: Callable[[], Any], clock: FakeClock, log: EventRecorder
    ) -> None:
        """What it brings is of no interest, that it brings something is: two of them close the
        breaker.
        """
        dead, good = agent(), AsyncScriptedAgent(["good"])
        with half_open(clock, *ranked(dead=dead, good=good)) as pool:
            for trial in range(2):
                assert pool.ask(Request(trial), timeout=WAIT_S).member == "good"
                dead.wait_entered()
                assert pool.stats()["dead"].circuit is CircuitState.HALF_OPEN
                dead.let_go()
                log.wait_for(AttemptSucceeded, count=3 + 2 * trial)
            log.wait_for(BreakerClosed)
            stats = pool.stats()
            assert (stats["dead"].successes, stats.in_flight, stats.completed) == (2, 0, 3)
            assert log.named(DeadLetter) == []

    def test_a_late_trial_that_fails_counts_too(self, clock: FakeClock, log: EventRecorder) -> None:
        """Its request has been answered long ago; the breaker opens, and is told why."""
        dead, good = Flaky(), AsyncScriptedAgent(["good"])
        with half_open(clock, *ranked(dead=dead, good=good)) as pool:
            assert pool.ask(Request("x"), timeout=WAIT_S).member == "good"
            dead.wait_entered()
            dead.value = http_error(503)
            dead.let_go()
            log.wait_for(BreakerOpened, count=2)
            assert "503" in log.named(BreakerOpened)[1].reason
            assert pool.stats()["dead"].failures == 2

    def test_the_trial_may_be_the_answer(self, clock: FakeClock, log: EventRecorder) -> None:
        """If it is the first to answer; then the other one is cancelled and counts for nothing."""
        dead, good = Flaky("alive"), AsyncHeld("good")
        members = ranked(dead=dead, good=good)
        with pool_of(*members, clock=clock, circuit_reset_timeout_s=RESET_S) as pool:
            first = pool.ask(Request("open it"), block=False)
            good.wait_entered()
            good.let_go()
            assert first.get(timeout=WAIT_S).member == "good"
            clock.advance(RESET_S)
            pool.stats()
            future = pool.ask(Request("x"), block=False)
            dead.wait_entered()
            good.wait_entered()
            dead.let_go()
            assert future.get(timeout=WAIT_S).value == "alive"
            good.wait_cancelled()
            log.wait_for(AttemptLost)
            stats = pool.stats()
            assert (stats["good"].successes, stats["good"].failures) == (1, 0)
            assert stats["dead"].successes == 1

    def test_a_trial_that_fails_first_loses_nothing(
        self, clock: FakeClock, log: EventRecorder
    ) -> None:
        """The request goes on with the other attempt, and has no retry less for it."""
        dead = ScriptedAgent([http_error(401), http_error(503)])
        good, third = AsyncHeld("good"), AsyncScriptedAgent(["third"])
        with pool_of(
            *ranked(dead=dead, good=good, third=third),
            clock=clock,
            circuit_reset_timeout_s=RESET_S,
            max_retries=1,
        ) as pool:
            first = pool.ask(Request("open it"), block=False)
            good.wait_entered()
            good.let_go()
            first.get(timeout=WAIT_S)
            clock.advance(RESET_S)
            pool.stats()
            good.value = http_error(500)
            future = pool.ask(Request("x"), block=False)
            good.wait_entered()
            log.wait_for(AttemptFailed, count=2)
            good.let_go()
            reply = future.get(timeout=WAIT_S)
            assert (reply.member, reply.attempts) == ("third", 3)
            assert sorted(error.member for error in reply.errors) == ["dead", "good"]
            assert pool.stats().retries == 2

    def test_it_is_charged_to_no_budget(self, clock: FakeClock) -> None:
        """Not with one attempt allowed, nor with an empty retry budget."""
        dead, good = Flaky(), AsyncScriptedAgent(["good"])
        with pool_of(
            *ranked(dead=dead, good=good),
            clock=clock,
            circuit_reset_timeout_s=RESET_S,
            max_retries=0,
            retry_budget_floor=0.0,
            retry_budget_ratio=0.0,
        ) as pool:
            with pytest.raises(AllPoolMembersFailedError):
                pool.ask(Request("open it"), timeout=WAIT_S)
            clock.advance(RESET_S)
            pool.stats()
            assert pool.ask(Request("x"), timeout=WAIT_S).member == "good"
            dead.wait_entered()
            dead.let_go()

    def test_where_everybody_else_has_failed_the_trial_is_waited_for(
        self, clock: FakeClock
    ) -> None:
        """A request is not given up as long as its trial may still answer it."""
        dead, bad = Flaky("alive"), AsyncScriptedAgent(["good", http_error(413)])
        with half_open(clock, *ranked(dead=dead, bad=bad), max_retries=0 + 1) as pool:
            future = pool.ask(Request("x", max_retries=0), block=False)
            dead.wait_entered()
            stats = pool.stats()
            assert (stats.pending, stats.in_flight, stats.failed) == (0, 1, 0)
            dead.let_go()
            assert future.get(timeout=WAIT_S).value == "alive"

    def test_it_waits_for_another_beside_its_trial(self, clock: FakeClock) -> None:
        """The others are busy: it waits for one of them as if there were no trial."""
        dead, good = Flaky(), AsyncHeld("good")
        members = [
            Member("dead", dead, priority=0),
            Member("good", good, priority=1, max_concurrency=1),
        ]
        with pool_of(
            *members, clock=clock, circuit_reset_timeout_s=RESET_S, request_timeout_s=90.0
        ) as pool:
            opening = pool.ask(Request("open it"), block=False)
            good.wait_entered()
            clock.advance(RESET_S)  # its slot is taken until after the reset
            pool.stats()
            future = pool.ask(Request("x"), block=False)
            dead.wait_entered()
            stats = pool.stats()
            assert (stats.pending, stats.in_flight) == (1, 2)
            good.let_go()
            assert opening.get(timeout=WAIT_S).member == "good"
            good.wait_entered()
            good.let_go()
            assert future.get(timeout=WAIT_S).member == "good"
            dead.let_go()

    def test_a_trial_answers_a_request_that_waits(self, clock: FakeClock) -> None:
        """It leaves the queue with that."""
        dead, good = Flaky("alive"), AsyncHeld("good")
        members = [
            Member("dead", dead, priority=0),
            Member("good", good, priority=1, max_concurrency=1),
        ]
        with pool_of(
            *members, clock=clock, circuit_reset_timeout_s=RESET_S, request_timeout_s=90.0
        ) as pool:
            opening = pool.ask(Request("open it"), block=False)
            good.wait_entered()
            clock.advance(RESET_S)
            pool.stats()
            future = pool.ask(Request("x"), block=False)
            dead.wait_entered()
            dead.let_go()
            assert future.get(timeout=WAIT_S).value == "alive"
            assert pool.stats().pending == 0
            good.let_go()
            assert opening.get(timeout=WAIT_S).member == "good"
            assert good.calls == 1

    def test_with_nobody_else_the_trial_is_the_attempt(self, clock: FakeClock) -> None:
        """As ever: the answer is the trial's, and so is the wait."""
        dead = Flaky("alive")
        with half_open(clock, *ranked(dead=dead)) as pool:
            future = pool.ask(Request("x"), block=False)
            dead.wait_entered()
            dead.let_go()
            reply = future.get(timeout=WAIT_S)
            assert (reply.value, reply.attempts) == ("alive", 1)

    def test_what_is_not_idempotent_is_no_trial(self, clock: FakeClock) -> None:
        """As long as somebody else can take it; it would have to be run twice."""
        dead, good = Flaky("alive"), AsyncScriptedAgent(["good"])
        with half_open(clock, *ranked(dead=dead, good=good)) as pool:
            reply = pool.ask(Request("x", idempotent=False), timeout=WAIT_S)
            assert (reply.member, reply.attempts, dead.calls) == ("good", 1, 1)

    def test_what_is_not_idempotent_is_a_trial_where_nobody_else_is(self, clock: FakeClock) -> None:
        """Rather than to fail."""
        dead = Flaky("alive")
        with half_open(clock, *ranked(dead=dead)) as pool:
            future = pool.ask(Request("x", idempotent=False), block=False)
            dead.wait_entered()
            dead.let_go()
            assert future.get(timeout=WAIT_S).value == "alive"

    def test_a_cancelled_request_takes_its_trial_along(self, clock: FakeClock) -> None:
        """Nobody knows how it would have ended: it counts for nothing, its permit comes back."""
        dead, good = Flaky("alive"), AsyncHeld("good")
        with pool_of(
            *ranked(dead=dead, good=good), clock=clock, circuit_reset_timeout_s=RESET_S
        ) as pool:
            opening = pool.ask(Request("open it"), block=False)
            good.wait_entered()
            good.let_go()
            opening.get(timeout=WAIT_S)
            clock.advance(RESET_S)
            pool.stats()
            future = pool.ask(Request("x"), block=False)
            dead.wait_entered()
            future.cancel()
            dead.wait_cancelled()
            good.wait_cancelled()
            stats = pool.stats()["dead"]
            assert (stats.circuit, stats.failures) == (CircuitState.HALF_OPEN, 1)
            pool.ask(Request("y"), block=False)
            dead.wait_entered()

    def test_the_deadline_of_its_request_does_not_end_a_trial(
        self, clock: FakeClock, log: EventRecorder
    ) -> None:
        """The caller has its error; the trial has the time that any attempt has."""
        dead, good = Flaky("alive"), AsyncHeld("good")
        with pool_of(
            *ranked(dead=dead, good=good),
            clock=clock,
            circuit_reset_timeout_s=RESET_S,
            circuit_success_threshold=1,
        ) as pool:
            opening = pool.ask(Request("open it"), block=False)
            good.wait_entered()
            good.let_go()
            opening.get(timeout=WAIT_S)
            clock.advance(RESET_S)
            pool.stats()
            future = pool.ask(Request("x", timeout_s=1.0), block=False)
            dead.wait_entered()
            good.wait_entered()
            clock.advance(1.0)
            with pytest.raises(DeadlineExceededError):
                future.get(timeout=WAIT_S)
            good.wait_cancelled()
            assert dead.cancelled == []
            dead.let_go()
            log.wait_for(BreakerClosed)

    def test_without_a_limit_of_attempts_a_trial_has_the_time_of_its_request(
        self, clock: FakeClock, log: EventRecorder
    ) -> None:
        """It does not run for ever; without any limit at all it does, as every attempt would."""
        dead, good = Flaky("alive"), AsyncScriptedAgent(["good"])
        with half_open(
            clock, *ranked(dead=dead, good=good), request_timeout_s=None, circuit_reset_max_s=900.0
        ) as pool:
            assert pool.ask(Request("x", timeout_s=50.0), timeout=WAIT_S).member == "good"
            dead.wait_entered()
            clock.advance(50.0)
            dead.wait_cancelled()
            log.wait_for(BreakerOpened, count=2)
            assert "timeout" in log.named(BreakerOpened)[1].reason

    def test_a_trial_whose_member_ends_counts_as_a_crash(
        self, clock: FakeClock, log: EventRecorder
    ) -> None:
        """Nobody waits for it, but its permit must not be lost."""
        dead, good = Flaky(), AsyncScriptedAgent(["good"])
        with half_open(clock, *ranked(dead=dead, good=good)) as pool:
            assert pool.ask(Request("x"), timeout=WAIT_S).member == "good"
            dead.wait_entered()
            stop_member(pool, "dead")
            log.wait_for(BreakerOpened, count=2)
            opened = log.named(BreakerOpened)[1]
            assert "crashed" in opened.reason

    def test_a_stop_does_not_wait_for_a_trial(self, clock: FakeClock) -> None:
        """It is cancelled like everything else; a drain is over before."""
        dead, good = Flaky(), AsyncScriptedAgent(["good"])
        with half_open(clock, *ranked(dead=dead, good=good)) as pool:
            assert pool.ask(Request("x"), timeout=WAIT_S).member == "good"
            dead.wait_entered()
            pool.drain(timeout=WAIT_S)
            pool.stop(timeout=WAIT_S)
            dead.wait_cancelled()

    def test_a_trial_that_may_not_be_repeated_has_won(self, clock: FakeClock) -> None:
        """From the first side effect on there is no other attempt; not even one that would wait."""
        dead, good = Forgetful(), AsyncHeld("good")
        with pool_of(
            *ranked(dead=dead, good=good), clock=clock, circuit_reset_timeout_s=RESET_S
        ) as pool:
            opening = pool.ask(Request("open it"), block=False)
            good.wait_entered()
            good.let_go()
            opening.get(timeout=WAIT_S)
            clock.advance(RESET_S)
            pool.stats()
            future = pool.ask(Request("x"), block=False)
            assert dead.entered.acquire(timeout=WAIT_S)
            good.wait_entered()
            dead.go_on.release()
            good.wait_cancelled()
            assert future.get(timeout=WAIT_S).value == "done"

    def test_a_late_trial_starts_no_side_effects(
        self, clock: FakeClock, log: EventRecorder, finishes: Finishes
    ) -> None:
        """Its request has been answered: it is told so, and that counts for nothing."""
        dead, good = Forgetful(), AsyncScriptedAgent(["good"])
        with half_open(clock, *ranked(dead=dead, good=good)) as pool:
            assert pool.ask(Request("x"), timeout=WAIT_S).member == "good"
            assert dead.entered.acquire(timeout=WAIT_S)
            dead.go_on.release()
            finishes.wait_for(4)
            stats = pool.stats()["dead"]
            assert (stats.circuit, stats.failures) == (CircuitState.HALF_OPEN, 1)
            assert len(log.named(AttemptFailed)) == 1

    def test_the_first_chunk_of_a_stream_is_what_counts(
        self, clock: FakeClock, log: EventRecorder
    ) -> None:
        """Streams do the same with their first chunks: a trial whose first one is late has passed,
        and its stream is closed.
        """
        dead, good = FlakyStream("late"), ScriptedAgent([["good"]])
        with half_open(clock, *ranked(dead=dead, good=good), circuit_success_threshold=1) as pool:
            assert pool.stream(Request("x"), timeout=WAIT_S).collect() == [["good"]]
            dead.wait_entered()
            assert pool.stats()["dead"].circuit is CircuitState.HALF_OPEN
            dead.let_go()
            log.wait_for(BreakerClosed)
            assert pool.stats()["dead"].successes == 1
            assert log.named(DeadLetter) == []

    def test_a_stream_whose_first_chunk_never_comes_is_no_wait(
        self, clock: FakeClock, log: EventRecorder
    ) -> None:
        """Nor does its trial hang for ever."""
        dead, good = FlakyStream("late"), ScriptedAgent([["good"]])
        with half_open(clock, *ranked(dead=dead, good=good), first_chunk_timeout_s=5.0) as pool:
            assert pool.stream(Request("x"), timeout=WAIT_S).collect() == [["good"]]
            dead.wait_entered()
            clock.advance(5.0)
            log.wait_for(BreakerOpened, count=2)
            assert "timeout" in log.named(BreakerOpened)[1].reason
            dead.let_go()

    def test_one_more_call_at_most(self, clock: FakeClock) -> None:
        """However many members are half-open, a request carries one trial."""
        first, good = Flaky(), AsyncScriptedAgent(["good"])
        second = AsyncScriptedAgent([http_error(401), http_error(401), "never"])
        with pool_of(
            *ranked(first=first, second=second, good=good),
            clock=clock,
            circuit_reset_timeout_s=RESET_S,
        ) as pool:
            pool.ask(Request("open the first"), timeout=WAIT_S)
            pool.stats()
            pool.ask(Request("open the second"), timeout=WAIT_S)
            clock.advance(2 * RESET_S)
            pool.stats()
            reply = pool.ask(Request("x"), timeout=WAIT_S)
            assert (reply.member, reply.attempts) == ("good", 2)
            first.wait_entered()
            assert (first.calls, len(second.calls)) == (2, 2)
            first.let_go()

    def test_a_strategy_may_want_one_member_at_a_time(self, clock: FakeClock) -> None:
        """As a chain does, whose members run the caller's own function: it is not run twice at a
        time, so its trials are waited for.
        """

        class InOrder:
            one_at_a_time = True

            def pick(self, candidates: Any, context: PickContext, rng: random.Random) -> Any:
                return candidates[0]

        dead, good = Flaky("alive"), AsyncScriptedAgent(["good"])
        members = ranked(dead=dead, good=good)
        with half_open(clock, *members, strategy=InOrder()) as pool:
            future = pool.ask(Request("x"), block=False)
            dead.wait_entered()
            dead.let_go()
            assert future.get(timeout=WAIT_S).value == "alive"
            assert len(good.calls) == 1
