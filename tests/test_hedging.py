"""Behaviour 50: a second member is asked where the first takes its time; the first answer wins."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from helpers_hedging import AFTER_S, Finishes, answer, hedged
from helpers_requests import (
    WAIT_S,
    AsyncHeld,
    EventLog,
    Held,
    Scripted,
    crash,
    http_error,
    pool_of,
    ranked,
    recorded,
)
from helpers_supervision import router_ref
from pykka.messages import ProxyGetAttr

from greenroom import (
    AllPoolMembersFailedError,
    Apply,
    CallContext,
    CircuitState,
    DeadlineExceededError,
    Member,
    PoolFuture,
    PoolRef,
    PoolStoppedError,
    Request,
    RequestCancelledError,
    StreamInterruptedError,
)
from greenroom.actors.eventbus import observe
from greenroom.actors.executions import Executions
from greenroom.actors.strategies import Candidate, PickContext
from greenroom.messages import (
    AttemptFailed,
    AttemptLost,
    AttemptSucceeded,
    BreakerClosed,
    BreakerOpened,
    DeadLetter,
    Event,
    Failover,
    FailureKind,
    HedgeStarted,
    RetryScheduled,
)
from greenroom.supervisors.roster import Roster
from greenroom.testing import FakeClock, ScriptedAgent
from greenroom.testing import Slow as SlowStep


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def log() -> Iterator[EventLog]:
    with recorded() as events:
        yield events


@pytest.fixture
def finishes(monkeypatch: pytest.MonkeyPatch) -> Finishes:
    return Finishes(monkeypatch)


class HoldingStrategy:
    """Prefers the first member; asked for the key "hold", it holds the router's thread, then takes
    the last one.
    """

    def __init__(self) -> None:
        self.holds = threading.Event()
        self.go_on = threading.Event()

    def pick(self, candidates: Any, context: PickContext, rng: random.Random) -> Candidate | None:
        if context.key == "hold":
            self.holds.set()
            assert self.go_on.wait(WAIT_S)
        chosen: Candidate = candidates[-1 if context.key == "hold" else 0]
        return chosen

    @contextlib.contextmanager
    def held(self, pool: PoolRef) -> Iterator[None]:
        """Meanwhile the router does nothing: what is told to it waits, and alarms go first then."""
        pool.tell(Request("hold", key="hold"))
        assert self.holds.wait(WAIT_S)
        yield
        self.go_on.set()


def race(
    pool: PoolRef,
    clock: FakeClock,
    first: Any,
    second: Any,
    request: Request[Any] | None = None,
) -> PoolFuture[Any]:
    """Have two members work on a request."""
    future: PoolFuture[Any] = pool.ask(request or Request("x"), block=False)
    first.wait_entered()
    clock.advance(AFTER_S)
    second.wait_entered()
    return future


def assert_at_rest(pool: PoolRef, **counts: int) -> None:
    """No slot is held, nothing waits, and the counts are these."""
    stats = pool.stats()
    assert (stats.pending, stats.in_flight) == (0, 0), stats
    assert [member.in_flight for member in stats.members] == [0] * len(stats.members)
    desk = router_ref(pool).ask(ProxyGetAttr(attr_path=("desk",)), timeout=WAIT_S)
    assert len(desk) == 0, "an attempt is open that nobody waits for"
    expected = {"completed": 0, "failed": 0, "cancelled": 0, "retries": 0, "hedges": 0, **counts}
    assert {name: getattr(stats, name) for name in expected} == expected


def outcomes(pool: PoolRef) -> dict[str, tuple[int, int]]:
    """Successes and failures that count, by member."""
    return {each.name: (each.successes, each.failures) for each in pool.stats().members}


class TestASecondMember:
    def test_b50_off_by_default(self, clock: FakeClock) -> None:
        """Nobody else is asked, however long it takes."""
        slow, other = AsyncHeld(), Scripted("never")
        with pool_of(*ranked(a=slow, b=other), clock=clock) as pool:
            future = pool.ask(Request("x"), block=False)
            slow.wait_entered()
            clock.advance(29.0)
            assert pool.stats().hedges == 0
            slow.let_go()
            assert answer(future).member == "a"
            assert other.calls == 0

    def test_b50_after_a_fixed_delay(
        self, clock: FakeClock, log: EventLog, finishes: Finishes
    ) -> None:
        """A second member is asked when the delay is over, not before. The first answer wins, the
        loser is cancelled, and counts for nothing.
        """
        slow, fast = AsyncHeld(), Scripted("fast")
        with hedged(*ranked(a=slow, b=fast), clock=clock) as pool:
            future = pool.ask(Request("x"), block=False)
            slow.wait_entered()
            clock.advance(AFTER_S - 0.001)
            assert pool.stats().hedges == 0
            clock.advance(0.001)
            reply = answer(future)
            assert (reply.value, reply.member, reply.attempts) == ("fast", "b", 2)
            assert reply.errors == ()
            slow.wait_cancelled()
            finishes.wait_for(2)
            assert_at_rest(pool, completed=1, hedges=1)
            assert outcomes(pool) == {"a": (0, 0), "b": (1, 0)}
            assert log.of(DeadLetter) == []

    def test_b50_the_first_may_still_win(self, clock: FakeClock, finishes: Finishes) -> None:
        """Then the second one is cancelled, and counts for nothing."""
        first, second = AsyncHeld("first"), AsyncHeld("second")
        with hedged(*ranked(a=first, b=second), clock=clock) as pool:
            future = race(pool, clock, first, second)
            first.let_go()
            assert answer(future).member == "a"
            second.wait_cancelled()
            finishes.wait_for(2)
            assert_at_rest(pool, completed=1, hedges=1)
            assert outcomes(pool) == {"a": (1, 0), "b": (0, 0)}

    def test_b50_no_third_one_is_asked(self, clock: FakeClock) -> None:
        """One hedge is what a request gets."""
        first, second, third = AsyncHeld(), AsyncHeld(), Scripted("never")
        with hedged(*ranked(a=first, b=second, c=third), clock=clock) as pool:
            future = race(pool, clock, first, second)
            clock.advance(10.0)
            assert pool.stats().hedges == 1
            second.let_go()
            answer(future)
            assert third.calls == 0

    def test_b50_who_answers_in_time_is_left_alone(self, clock: FakeClock) -> None:
        """The timer of a request that has been answered asks nobody."""
        first, second = Scripted("quick"), Scripted("never")
        with hedged(*ranked(a=first, b=second), clock=clock) as pool:
            pool.ask(Request("x"), timeout=WAIT_S)
            clock.advance(1.0)
            assert_at_rest(pool, completed=1)
            assert second.calls == 0

    def test_b50_a_retry_is_hedged_from_its_own_start(self, clock: FakeClock) -> None:
        """The member that took over has the whole delay for itself."""
        bad, slow, fast = Held(http_error(503)), AsyncHeld(), Scripted("fast")
        with hedged(*ranked(a=bad, b=slow, c=fast), clock=clock) as pool:
            future = pool.ask(Request("x"), block=False)
            bad.wait_entered()
            clock.advance(0.4)
            bad.let_go()
            slow.wait_entered()
            clock.advance(0.4)
            assert pool.stats().hedges == 0
            clock.advance(0.1)
            reply = answer(future)
            assert (reply.member, reply.attempts) == ("c", 3)
            assert [error.member for error in reply.errors] == ["a"]
            stats = pool.stats()
            assert (stats.retries, stats.hedges) == (1, 1)

    def test_b50_an_apply_is_hedged_as_well(self, clock: FakeClock) -> None:
        """It is idempotent unless it says otherwise."""
        slow, fast = AsyncHeld(), Scripted("fast")
        with hedged(*ranked(a=slow, b=fast), clock=clock) as pool:
            future = pool.ask(Apply(lambda agent: agent("x")), block=False)
            slow.wait_entered()
            clock.advance(AFTER_S)
            assert answer(future).member == "b"

    def test_b50_a_tell_is_hedged_as_well(
        self, clock: FakeClock, log: EventLog, finishes: Finishes
    ) -> None:
        """Nobody waits for the answer, but the work is done sooner."""
        slow, fast = AsyncHeld(), Scripted("fast")
        with hedged(*ranked(a=slow, b=fast), clock=clock) as pool:
            pool.tell(Request("x"))
            slow.wait_entered()
            clock.advance(AFTER_S)
            slow.wait_cancelled()
            finishes.wait_for(2)
            assert_at_rest(pool, completed=1, hedges=1)
            assert log.of(DeadLetter) == []


class TestP95:
    """19 answers after one second, one after three: 95% take no longer than one second."""

    STEPS = [1.0] * 19 + [3.0]

    def slow_agent(self, clock: FakeClock, *then: Any) -> ScriptedAgent:
        return ScriptedAgent([SlowStep(clock, seconds, "slow") for seconds in self.STEPS] + [*then])

    def warm_up(self, pool: PoolRef, clock: FakeClock, count: int = 20) -> None:
        for seconds in self.STEPS[:count]:
            future = pool.ask(Request("warm"), block=False)
            clock.wait_until_sleeping()
            clock.advance(seconds)
            answer(future)

    def test_b50_after_the_p95_of_20_samples(self, clock: FakeClock) -> None:
        """The second member is asked when the request has taken longer than 95% of 20 others."""
        slow, fast = self.slow_agent(clock, SlowStep(clock, 60.0)), Scripted("fast")
        with hedged(*ranked(a=slow, b=fast), clock=clock, hedge_after_s="p95") as pool:
            self.warm_up(pool, clock)
            future = pool.ask(Request("x"), block=False)
            clock.wait_until_sleeping()
            clock.advance(0.999)
            assert pool.stats().hedges == 0
            clock.advance(0.001)
            assert answer(future).member == "b"
            clock.advance(60.0)

    def test_b50_not_before_there_are_20(self, clock: FakeClock) -> None:
        """19 samples say nothing: nobody else is asked, however long it takes."""
        slow, other = self.slow_agent(clock, "never"), Scripted("never")
        with hedged(*ranked(a=slow, b=other), clock=clock, hedge_after_s="p95") as pool:
            self.warm_up(pool, clock, 19)
            future = pool.ask(Request("x"), block=False)
            clock.wait_until_sleeping()
            clock.advance(2.9)
            assert pool.stats().hedges == 0
            clock.advance(0.1)
            assert answer(future).member == "a"

    def test_b50_answers_say_nothing_of_first_chunks(self, clock: FakeClock) -> None:
        """A stream is measured by its first chunk, and has samples of its own."""
        slow, other = self.slow_agent(clock, SlowStep(clock, 20.0, "late")), Scripted("never")
        with hedged(*ranked(a=slow, b=other), clock=clock, hedge_after_s="p95") as pool:
            self.warm_up(pool, clock)
            stream = pool.stream(Request("x"))
            clock.wait_until_sleeping()
            clock.advance(19.0)
            assert pool.stats().hedges == 0
            clock.advance(1.0)
            assert stream.collect() == ["late"]

    def test_b50_first_chunks_have_a_p95_of_their_own(self, clock: FakeClock) -> None:
        """Twenty of them are what the next stream is compared with; plain answers are not."""
        steps = [1.0] * 20 + [20.0, 60.0]

        class Agent:
            calls = 0

            def run(self, payload: Any) -> Iterator[str]:
                clock.block(steps[self.calls])
                self.calls += 1
                yield "first"
                yield "second"

        fast = Scripted("fast")
        with hedged(
            Member("a", Agent(), priority=0, max_concurrency=2),
            Member("b", fast, priority=1),
            clock=clock,
            hedge_after_s="p95",
        ) as pool:
            for _ in range(20):
                stream = pool.stream(Request("x"))
                clock.wait_until_sleeping()
                clock.advance(1.0)
                assert stream.collect() == ["first", "second"]
                clock.advance(5.0)
            future = pool.ask(Request("x"), block=False)
            clock.wait_until_sleeping()
            clock.advance(19.0)
            assert pool.stats().hedges == 0
            clock.advance(1.0)
            assert answer(future).value == ["first", "second"]
            stream = pool.stream(Request("x"))
            clock.wait_until_sleeping()
            clock.advance(1.0)
            assert stream.collect() == ["fast"]
            assert pool.stats().hedges == 1
            clock.advance(60.0)


class TestNoSecondMember:
    @pytest.mark.parametrize(
        "request_", [Request("x", idempotent=False), Request("x", max_retries=0)], ids=str
    )
    def test_b50_not_every_request_is_hedged(
        self, clock: FakeClock, request_: Request[Any]
    ) -> None:
        """One that is not idempotent, or may have one attempt only, is not."""
        slow, other = AsyncHeld(), Scripted("never")
        with hedged(*ranked(a=slow, b=other), clock=clock) as pool:
            future = pool.ask(request_, block=False)
            slow.wait_entered()
            clock.advance(5.0)
            assert pool.stats().hedges == 0
            slow.let_go()
            assert answer(future).member == "a"
            assert other.calls == 0

    def test_b50_max_retries_bounds_retries_and_hedges_together(self, clock: FakeClock) -> None:
        """With one retry allowed and made, no hedge is left."""
        bad, slow, other = Scripted(http_error(503)), AsyncHeld(), Scripted("never")
        with hedged(*ranked(a=bad, b=slow, c=other), clock=clock, max_retries=1) as pool:
            future = pool.ask(Request("x"), block=False)
            slow.wait_entered()
            clock.advance(5.0)
            slow.let_go()
            assert answer(future).attempts == 2
            assert_at_rest(pool, completed=1, retries=1)

    def test_b50_a_hedge_is_an_attempt_as_any_other(self, clock: FakeClock) -> None:
        """With one retry allowed and spent on a hedge, nobody is asked when both have failed."""
        first, second = Held(http_error(503)), Held(http_error(500))
        other = Scripted("never")
        with hedged(*ranked(a=first, b=second, c=other), clock=clock, max_retries=1) as pool:
            future = race(pool, clock, first, second)
            first.let_go()
            second.let_go()
            with pytest.raises(AllPoolMembersFailedError, match="max_retries=1") as caught:
                answer(future)
            tried = [error.member for error in caught.value.errors if error.attempts]
            assert sorted(tried) == ["a", "b"]
            assert other.calls == 0
            assert_at_rest(pool, failed=1, hedges=1)

    def test_b50_nobody_is_waited_for(self, clock: FakeClock) -> None:
        """With every other member busy there is no hedge, also when one becomes free later."""
        slow, busy = AsyncHeld(), AsyncHeld()
        members = [
            Member("a", slow, priority=0, max_concurrency=2),
            Member("b", busy, priority=1, max_concurrency=1),
        ]
        with hedged(*members, clock=clock, hedge_after_s=AFTER_S, max_retries=9) as pool:
            occupying = pool.ask(Apply(lambda agent: agent("busy")), block=False)
            slow.wait_entered()
            clock.advance(AFTER_S)
            busy.wait_entered()  # b is taken by the hedge of the first request
            future = pool.ask(Request("x"), block=False)
            slow.wait_entered()
            clock.advance(AFTER_S)
            stats = pool.stats()
            assert (stats.hedges, stats.pending) == (1, 0)
            busy.let_go()
            assert answer(occupying).member == "b"
            clock.advance(5.0)
            assert pool.stats().hedges == 1
            slow.let_go()
            assert answer(future).member == "a"

    def test_b50_nobody_is_asked_twice(self, clock: FakeClock) -> None:
        """A member that has failed the request is not asked again beside a slow one."""
        bad, slow = Scripted(http_error(503), "never"), AsyncHeld()
        with hedged(*ranked(a=bad, b=slow), clock=clock) as pool:
            future = pool.ask(Request("x"), block=False)
            slow.wait_entered()
            clock.advance(5.0)
            assert pool.stats().hedges == 0
            slow.let_go()
            assert answer(future).member == "b"
            assert bad.calls == 1

    def test_b50_no_trial_is_spent_on_a_hedge(self, clock: FakeClock) -> None:
        """A half-open member is passed over, though the strategy would prefer it."""
        flaky, slow, fast = Scripted(http_error(503), "never"), AsyncHeld(), Scripted("fast")
        members = [
            Member("flaky", flaky, priority=1),
            Member("slow", slow, priority=0),
            Member("fast", fast, priority=2),
        ]
        with (
            recorded() as log,
            hedged(*members, clock=clock, circuit_failure_threshold=1) as pool,
        ):
            pool.force_open("slow")
            assert pool.ask(Request("x"), timeout=WAIT_S).member == "fast"
            log.wait_for(BreakerOpened, 2)
            pool.reset_member("slow")
            clock.advance(100.0)
            assert pool.stats()["flaky"].circuit is CircuitState.HALF_OPEN
            future = pool.ask(Request("x"), block=False)
            slow.wait_entered()
            clock.advance(AFTER_S)
            assert answer(future).member == "fast"
            assert flaky.calls == 1

    def test_b50_the_budget_is_shared_with_retries(self, clock: FakeClock) -> None:
        """A pool that may not retry does not hedge either."""
        slow, other = AsyncHeld(), Scripted("never")
        with hedged(
            *ranked(a=slow, b=other), clock=clock, retry_budget_ratio=0.0, retry_budget_floor=0.0
        ) as pool:
            future = pool.ask(Request("x"), block=False)
            slow.wait_entered()
            clock.advance(5.0)
            assert pool.stats().hedges == 0
            slow.let_go()
            answer(future)
            assert other.calls == 0

    def test_b50_a_strategy_that_fails_costs_nothing(self, clock: FakeClock) -> None:
        """There is no hedge then, and the first attempt goes on."""

        class Odd:
            def pick(self, candidates: Any, context: Any, rng: Any) -> Any:
                if len(candidates) == 1:
                    raise ZeroDivisionError
                return candidates[0]

        slow, other = AsyncHeld(), Scripted("never")
        with hedged(*ranked(a=slow, b=other), clock=clock, strategy=Odd()) as pool:
            future = pool.ask(Request("x"), block=False)
            slow.wait_entered()
            clock.advance(5.0)
            assert pool.stats().hedges == 0
            slow.let_go()
            assert answer(future).member == "a"

    def test_b50_turns_are_not_lost(self, clock: FakeClock) -> None:
        """A request that may not be hedged does not ask the strategy, which may be counting."""
        slow, other = AsyncHeld(), Scripted("other")
        with hedged(
            *ranked(a=slow, b=other), clock=clock, strategy="round_robin", max_retries=0
        ) as pool:
            future = pool.ask(Request("x"), block=False)
            slow.wait_entered()
            clock.advance(5.0)
            assert pool.ask(Request("y"), timeout=WAIT_S).member == "b"
            slow.let_go()
            answer(future)


class TestOneOfTwoFails:
    @pytest.mark.parametrize("fails", ["a", "b"])
    def test_b50_the_other_one_goes_on(self, clock: FakeClock, fails: str) -> None:
        """The failure counts, and the other one's answer is the answer."""
        agents = {"a": Held("value"), "b": Held("value")}
        agents[fails].value = http_error(503)
        works = "b" if fails == "a" else "a"
        with recorded() as log, hedged(*ranked(**agents), clock=clock) as pool:
            future = race(pool, clock, agents["a"], agents["b"])
            agents[fails].let_go()
            log.wait_for(AttemptFailed)
            agents[works].let_go()
            reply = answer(future)
            assert (reply.member, reply.attempts) == (works, 2)
            assert [error.member for error in reply.errors] == [fails]
            assert_at_rest(pool, completed=1, hedges=1)
            assert outcomes(pool) == {fails: (0, 1), works: (1, 0)}
            assert log.of(Failover) == []

    def test_b50_when_both_fail_a_third_one_is_asked(self, clock: FakeClock, log: EventLog) -> None:
        """The usual plan: another member at once."""
        first, second = Held(http_error(503)), Held(http_error(500))
        with hedged(*ranked(a=first, b=second, c=Scripted("third")), clock=clock) as pool:
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
        self, clock: FakeClock, log: EventLog
    ) -> None:
        """The usual plan: a retry later."""
        first, second = Held(http_error(503)), Held(http_error(500))
        with hedged(*ranked(a=first, b=second), clock=clock) as pool:
            future = race(pool, clock, first, second)
            second.let_go()
            log.wait_for(AttemptFailed)
            first.let_go()
            (scheduled,) = log.wait_for(RetryScheduled)
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
            with pytest.raises(RuntimeError, match="HTTP 400") as caught:
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

        with recorded() as log, hedged(*ranked(a=bad, b=slow), clock=clock) as pool:
            end = observe(on_event)
            asked = pool.stream(Request("x")) if stream else pool.ask(Request("x"), block=False)
            bad.wait_entered()
            clock.advance(AFTER_S)
            slow.wait_entered()
            bad.let_go()
            with pytest.raises(RuntimeError, match="HTTP 400"):
                asked.collect() if stream else asked.get(timeout=WAIT_S)  # type: ignore[union-attr]
            end()
            assert_at_rest(pool, failed=1, hedges=1)
            assert log.of(DeadLetter) == []

    def test_b50_a_timeout_of_the_first_leaves_the_second(
        self, clock: FakeClock, log: EventLog
    ) -> None:
        """It counts as any timeout does; the second one has its own time."""
        first, second = AsyncHeld(), AsyncHeld("second")
        with hedged(*ranked(a=first, b=second), clock=clock, request_timeout_s=2.0) as pool:
            future = race(pool, clock, first, second)
            clock.advance(1.5)
            first.wait_cancelled()
            (failed,) = log.wait_for(AttemptFailed)
            assert (failed.member, failed.kind) == ("a", FailureKind.TIMEOUT)
            second.let_go()
            assert answer(future).member == "b"
            assert outcomes(pool) == {"a": (0, 1), "b": (1, 0)}

    @pytest.mark.parametrize("dies", ["a", "b"])
    def test_b50_a_crash_of_one_leaves_the_other(self, clock: FakeClock, dies: str) -> None:
        """Its actor ends: the failure is its own."""
        agents: dict[str, Any] = {"a": AsyncHeld("value"), "b": AsyncHeld("value")}
        lives = "b" if dies == "a" else "a"
        with recorded() as log, hedged(*ranked(**agents), clock=clock) as pool:
            future = race(pool, clock, agents["a"], agents["b"])
            crash(pool, dies)
            (failed,) = log.wait_for(AttemptFailed)
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
        self, clock: FakeClock, log: EventLog, finishes: Finishes
    ) -> None:
        """Its thread cannot be stopped. What it still brings is neither a success nor a failure
        nor worth a dead letter: nobody has lost anything.
        """
        slow, fast = Held("late"), Scripted("fast")
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
            assert log.of(DeadLetter) == []

    @pytest.mark.parametrize("late", ["late", http_error(503)], ids=["value", "error"])
    def test_b50_a_loser_that_will_not_be_cancelled_is_let_be(
        self, clock: FakeClock, log: EventLog, finishes: Finishes, late: Any
    ) -> None:
        """An async one that swallows its cancellation: what it brings counts for nothing."""
        stubborn, fast = AsyncHeld(late, stubborn=True), Scripted("fast")
        with hedged(*ranked(a=stubborn, b=fast), clock=clock) as pool:
            future = pool.ask(Request("x"), block=False)
            stubborn.wait_entered()
            clock.advance(AFTER_S)
            assert answer(future).member == "b"
            finishes.wait_for(2)
            assert_at_rest(pool, completed=1, hedges=1)
            assert outcomes(pool) == {"a": (0, 0), "b": (1, 0)}
            assert log.of(DeadLetter) == []

    @pytest.mark.parametrize("kind", ["sync", "async"])
    def test_b50_a_loser_that_is_throttled_rests_all_the_same(
        self, clock: FakeClock, finishes: Finishes, kind: str
    ) -> None:
        """It counts for nothing, but its member has said when it will be back."""
        late = http_error(429, retry_after=7.0)
        loser: Any = AsyncHeld(late, stubborn=True) if kind == "async" else Held(late)
        with hedged(*ranked(a=loser, b=Scripted("fast")), clock=clock) as pool:
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
        self, clock: FakeClock, log: EventLog, monkeypatch: pytest.MonkeyPatch
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

        with hedged(*ranked(a=stuck, b=Scripted("fast")), clock=clock, cancel_grace_s=0.0) as pool:
            future = pool.ask(Request("x"), block=False)
            assert entered.wait(WAIT_S)
            clock.advance(AFTER_S)
            assert answer(future).member == "b"
            finishes.wait_for(2)
            assert_at_rest(pool, completed=1, hedges=1)
            gates[0]()
            assert ended.wait(WAIT_S)
            assert log.of(DeadLetter) == []

    def test_b50_a_loser_that_times_out_later_is_not_counted(
        self, clock: FakeClock, log: EventLog, finishes: Finishes
    ) -> None:
        """Its slot is given back when its time is over, as that of any stuck thread."""
        slow, fast = Held("late"), Scripted("fast")
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
            assert log.of(AttemptFailed) == []
            slow.let_go()

    def test_b50_a_trial_that_loses_gives_its_permit_back(
        self, clock: FakeClock, finishes: Finishes
    ) -> None:
        """A request that carries a trial is not hedged: another member has it at once. The trial
        goes on, and when it has ended the next request may try the member again.
        """
        flaky = Scripted(http_error(503), "never")
        slow = AsyncHeld("slow")
        calls = 0

        async def agent(payload: Any) -> Any:
            nonlocal calls
            calls += 1
            return flaky(payload) if calls == 1 else await slow(payload)

        members = [Member("a", agent, priority=0), Member("b", Scripted("fast"), priority=1)]
        with (
            recorded() as log,
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


class Effects:
    """An agent that says it starts side effects when told to, then waits."""

    def __init__(self, value: Any = "done") -> None:
        self.value = value
        self.said = threading.Semaphore(0)
        self.refused: list[BaseException] = []
        self._entered = threading.Semaphore(0)
        self._start = threading.Semaphore(0)
        self._end = threading.Semaphore(0)

    def __call__(self, payload: Any, context: CallContext) -> Any:
        self._entered.release()
        assert self._start.acquire(timeout=6 * WAIT_S)
        try:
            context.started_side_effects()
        except RequestCancelledError as error:
            self.refused.append(error)
            raise
        finally:
            self.said.release()
        assert self._end.acquire(timeout=6 * WAIT_S)
        if isinstance(self.value, BaseException):
            raise self.value
        return self.value

    def wait_entered(self) -> None:
        assert self._entered.acquire(timeout=WAIT_S)

    def start(self) -> None:
        self._start.release()
        assert self.said.acquire(timeout=WAIT_S)

    def end(self) -> None:
        self._end.release()


class TestSideEffects:
    def test_b50_no_hedge_once_side_effects_have_started(self, clock: FakeClock) -> None:
        """What must not be repeated is not done twice at a time either."""
        agent, other = Effects(), Scripted("never")
        with hedged(*ranked(a=agent, b=other), clock=clock) as pool:
            future = pool.ask(Request("x"), block=False)
            agent.wait_entered()
            agent.start()
            clock.advance(5.0)
            assert pool.stats().hedges == 0
            agent.end()
            assert answer(future).value == "done"
            assert other.calls == 0

    @pytest.mark.parametrize("starts", ["a", "b"])
    def test_b50_who_starts_them_has_won(
        self, clock: FakeClock, starts: str, finishes: Finishes
    ) -> None:
        """The other one is cancelled at once, before there is an answer, and may not start any."""
        agents = {"a": Effects("from a"), "b": Effects("from b")}
        loses = "b" if starts == "a" else "a"
        with hedged(*ranked(**agents), clock=clock) as pool:
            future = race(pool, clock, agents["a"], agents["b"])
            agents[starts].start()
            agents[loses].start()
            assert len(agents[loses].refused) == 1
            finishes.wait_for(1)
            agents[starts].end()
            assert answer(future).value == f"from {starts}"
            finishes.wait_for(1)
            assert_at_rest(pool, completed=1, hedges=1)
            assert outcomes(pool) == {starts: (1, 0), loses: (0, 0)}

    def test_b50_who_fails_after_that_is_not_replaced(
        self, clock: FakeClock, finishes: Finishes
    ) -> None:
        """The other one, cancelled, does not take over: nothing is retried after side effects."""
        first, second = AsyncHeld("never"), Effects(http_error(503))
        with hedged(*ranked(a=first, b=second, c=Scripted("never")), clock=clock) as pool:
            future = race(pool, clock, first, second)
            second.start()
            first.wait_cancelled()
            second.end()
            with pytest.raises(AllPoolMembersFailedError, match="side effects"):
                answer(future)
            finishes.wait_for(2)
            assert_at_rest(pool, failed=1, hedges=1)
            assert outcomes(pool) == {"a": (0, 0), "b": (0, 1), "c": (0, 0)}


class SlowSupervisor:
    """Hears that an actor has ended, and says nothing of it until it may go on."""

    def __init__(self) -> None:
        self.heard = threading.Event()
        self.may_go_on = threading.Event()


@pytest.fixture
def slow_supervisor(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowSupervisor]:
    slow = SlowSupervisor()
    actor_ended = Roster.actor_ended

    def held(self: Roster, message: Any) -> None:
        slow.heard.set()
        assert slow.may_go_on.wait(WAIT_S)
        actor_ended(self, message)

    monkeypatch.setattr(Roster, "actor_ended", held)
    yield slow
    slow.may_go_on.set()


class TestAtTheSameInstant:
    """What a member's thread does while the router is at something else, or about to."""

    @pytest.mark.parametrize("limit", ["request_timeout_s", "timeout_s"])
    @pytest.mark.parametrize("other_ends", [True, False])
    def test_b50_side_effects_and_the_end_of_its_time(
        self, clock: FakeClock, finishes: Finishes, limit: str, other_ends: bool
    ) -> None:
        """The first has won by its side effects, and its time is over before the router hears of
        it: the second one, which has lost, cannot answer any more, so nobody waits for it.
        """
        first, second, strategy = Effects(), Held("late"), HoldingStrategy()
        members = ranked(a=first, b=second, last=Scripted("held"))
        config = {"request_timeout_s": 2.0} if limit == "request_timeout_s" else {}
        with (
            recorded() as log,
            hedged(*members, clock=clock, strategy=strategy, **config) as pool,
        ):
            timeout_s = 2.0 if limit == "timeout_s" else None
            future = race(pool, clock, first, second, Request("x", timeout_s=timeout_s))
            with strategy.held(pool):
                first.start()
                if other_ends:
                    second.let_go()
                    finishes.wait_for(1)
                clock.advance(1.5)
            kind = DeadlineExceededError if timeout_s else AllPoolMembersFailedError
            with pytest.raises(kind):
                answer(future)
            first.end()
            second.let_go()
            finishes.wait_for(2 if other_ends else 3)
            assert_at_rest(pool, completed=1, failed=1, hedges=1)
            assert outcomes(pool)["b"] == (0, 0)
            expected = ["a", "b"] if timeout_s else ["a"]
            late = [event.member for event in log.wait_for(DeadLetter, len(expected))]
            assert sorted(map(str, late)) == expected

    def test_b50_a_hedge_that_finds_its_member_dead(
        self, clock: FakeClock, log: EventLog, slow_supervisor: SlowSupervisor
    ) -> None:
        """The supervisor has not said so yet: the first one goes on, and its answer counts."""
        slow = AsyncHeld("slow")
        with hedged(*ranked(a=slow, b=Scripted("b")), clock=clock) as pool:
            future = pool.ask(Request("x"), block=False)
            slow.wait_entered()
            crash(pool, "b")
            assert slow_supervisor.heard.wait(WAIT_S)
            clock.advance(AFTER_S)
            log.wait_for(HedgeStarted)
            slow.let_go()
            assert answer(future).member == "a"
            slow_supervisor.may_go_on.set()
            assert_at_rest(pool, completed=1, hedges=1)

    def test_b50_an_answer_that_the_router_passes_on(
        self, clock: FakeClock, finishes: Finishes, slow_supervisor: SlowSupervisor
    ) -> None:
        """The first one's actor has ended, so the router answers with what its thread still brings,
        while the second one answers by itself: it has lost by then.
        """
        first, second = Held("first"), Held("second")

        def on_event(event: Event) -> None:
            if isinstance(event, AttemptSucceeded):  # the router waits in here
                second.let_go()
                finishes.wait_for(2)

        with recorded() as log, hedged(*ranked(a=first, b=second), clock=clock) as pool:
            end = observe(on_event)
            future = race(pool, clock, first, second)
            crash(pool, "a")
            assert slow_supervisor.heard.wait(WAIT_S)
            first.let_go()
            assert answer(future).value == "first"
            end()
            assert [event.member for event in log.wait_for(AttemptLost)] == ["b"]
            slow_supervisor.may_go_on.set()
            assert_at_rest(pool, completed=1, hedges=1)
            assert log.of(DeadLetter) == []

    def test_b50_an_answer_that_the_router_need_not_pass_on(
        self, clock: FakeClock, finishes: Finishes, slow_supervisor: SlowSupervisor
    ) -> None:
        """The same, but the second one has answered before the router hears of the first one."""
        first, second, strategy = Held("first"), Held("second"), HoldingStrategy()
        members = ranked(a=first, b=second, last=Scripted("held"))
        with recorded() as log, hedged(*members, clock=clock, strategy=strategy) as pool:
            future = race(pool, clock, first, second)
            with strategy.held(pool):
                crash(pool, "a")
                assert slow_supervisor.heard.wait(WAIT_S)
                first.let_go()
                finishes.wait_for(1)
                second.let_go()
                assert answer(future).value == "second"
                finishes.wait_for(1)
            finishes.wait_for(1)
            assert [event.member for event in log.wait_for(AttemptLost)] == ["a"]
            slow_supervisor.may_go_on.set()
            assert_at_rest(pool, completed=2, hedges=1)
            assert log.of(DeadLetter) == []

    def test_b50_a_stream_that_begins_while_the_other_one_fails(self, clock: FakeClock) -> None:
        """The failure of one, which the router deals with, does not end the other's stream."""
        bad, good = Held(http_error(503)), Streaming("b", 3)
        begun = threading.Event()

        def on_event(event: Event) -> None:
            if isinstance(event, AttemptFailed):  # the router waits in here
                good.go_on(1)
                good.wait_taken(1)
                begun.set()

        with hedged(*ranked(a=bad, b=good), clock=clock) as pool:
            end = observe(on_event)
            stream = pool.stream(Request("x"))
            bad.wait_entered()
            clock.advance(AFTER_S)
            good.wait_entered()
            bad.let_go()
            assert begun.wait(WAIT_S)
            good.go_on(2)
            assert stream.collect() == ["b1", "b2", "b3"]
            end()
            assert pool.stats().completed == 1


class Streaming:
    """A generator of so many chunks, each made when it is told to go on."""

    def __init__(self, name: str, chunks: int = 1, error: BaseException | None = None) -> None:
        self.name = name
        self.chunks = chunks
        self.error = error
        self.closed = threading.Event()
        self._entered = threading.Semaphore(0)
        self._gate = threading.Semaphore(0)
        self._taken = threading.Semaphore(0)

    def __call__(self, payload: Any) -> Iterator[str]:
        self._entered.release()
        try:
            for number in range(1, self.chunks + 1):
                assert self._gate.acquire(timeout=6 * WAIT_S)
                yield f"{self.name}{number}"
                self._taken.release()
            if self.error is not None:
                raise self.error
        finally:
            self.closed.set()

    def wait_entered(self) -> None:
        assert self._entered.acquire(timeout=WAIT_S)

    def wait_taken(self, chunks: int) -> None:
        """Until the pool has come back for more after that many chunks."""
        for _ in range(chunks):
            assert self._taken.acquire(timeout=WAIT_S)

    def go_on(self, chunks: int = 1) -> None:
        self._gate.release(chunks)


class TestStreams:
    @pytest.mark.parametrize("wins", ["a", "b"])
    def test_b50_the_first_chunk_wins(
        self, clock: FakeClock, log: EventLog, finishes: Finishes, wins: str
    ) -> None:
        """All chunks are the winner's; the loser's generator is closed, and nothing counted."""
        agents = {"a": Streaming("a", 3), "b": Streaming("b", 3)}
        loses = "b" if wins == "a" else "a"
        with hedged(*ranked(**agents), clock=clock) as pool:
            stream = pool.stream(Request("x"))
            agents["a"].wait_entered()
            clock.advance(AFTER_S)
            agents["b"].wait_entered()
            agents[wins].go_on(1)
            assert next(stream) == f"{wins}1"
            agents[loses].go_on(3)
            assert agents[loses].closed.wait(WAIT_S)
            agents[wins].go_on(2)
            assert stream.collect() == [f"{wins}2", f"{wins}3"]
            assert (stream.member, stream.attempts) == (wins, 2)
            finishes.wait_for(2)
            assert_at_rest(pool, completed=1, hedges=1)
            assert outcomes(pool) == {wins: (1, 0), loses: (0, 0)}
            assert log.of(DeadLetter) == []

    def test_b50_an_async_loser_is_closed_at_once(
        self, clock: FakeClock, finishes: Finishes
    ) -> None:
        """Its generator is cancelled where it waits."""
        entered, closed = threading.Event(), threading.Event()

        async def slow(payload: Any) -> AsyncIterator[str]:
            entered.set()
            try:
                await asyncio.Event().wait()
                yield "never"
            finally:
                closed.set()

        with hedged(*ranked(a=slow, b=Scripted("fast")), clock=clock) as pool:
            stream = pool.stream(Request("x"))
            assert entered.wait(WAIT_S)
            clock.advance(AFTER_S)
            assert stream.collect() == ["fast"]
            assert closed.wait(WAIT_S)
            finishes.wait_for(2)
            assert_at_rest(pool, completed=1, hedges=1)

    def test_b50_no_hedge_after_the_first_chunk(self, clock: FakeClock) -> None:
        """A stream that has begun is its member's."""
        agent, other = Streaming("a", 2), Scripted("never")
        with hedged(*ranked(a=agent, b=other), clock=clock) as pool:
            stream = pool.stream(Request("x"))
            agent.wait_entered()
            agent.go_on(1)
            assert next(stream) == "a1"
            clock.advance(5.0)
            assert pool.stats().hedges == 0
            agent.go_on(1)
            assert stream.collect() == ["a2"]
            assert other.calls == 0

    def test_b50_a_winner_that_breaks_off_is_not_replaced(
        self, clock: FakeClock, finishes: Finishes
    ) -> None:
        """The other one has been cancelled: what was received is what there is."""
        first, second = AsyncHeld(), Streaming("b", 1, http_error(503))
        with hedged(*ranked(a=first, b=second), clock=clock) as pool:
            stream = pool.stream(Request("x"))
            first.wait_entered()
            clock.advance(AFTER_S)
            second.wait_entered()
            second.go_on(1)
            with pytest.raises(StreamInterruptedError) as caught:
                stream.collect()
            assert caught.value.received == ("b1",)
            first.wait_cancelled()
            finishes.wait_for(2)
            assert_at_rest(pool, failed=1, hedges=1)
            assert outcomes(pool) == {"a": (0, 0), "b": (0, 1)}

    def test_b50_a_winner_whose_time_ends_with_its_first_chunk(
        self, clock: FakeClock, finishes: Finishes
    ) -> None:
        """The deadline is over before the router hears of the chunk: both are ended."""
        first, second, strategy = AsyncHeld(), Streaming("b", 2), HoldingStrategy()
        members = ranked(a=first, b=second, last=Scripted("held"))
        with hedged(*members, clock=clock, strategy=strategy) as pool:
            stream = pool.stream(Request("x"), timeout=2.0)
            first.wait_entered()
            clock.advance(AFTER_S)
            second.wait_entered()
            with strategy.held(pool):
                second.go_on(1)
                assert next(stream) == "b1"
                clock.advance(1.5)
            with pytest.raises(StreamInterruptedError):
                next(stream)
            first.wait_cancelled()
            second.go_on(1)
            assert second.closed.wait(WAIT_S)
            finishes.wait_for(3)
            assert_at_rest(pool, completed=1, failed=1, hedges=1)

    def test_b50_a_consumer_that_leaves_ends_both(
        self, clock: FakeClock, finishes: Finishes
    ) -> None:
        """Before the first chunk: both are cancelled, nothing is counted."""
        first, second = AsyncHeld(), AsyncHeld()
        with hedged(*ranked(a=first, b=second), clock=clock) as pool:
            stream = pool.stream(Request("x"))
            first.wait_entered()
            clock.advance(AFTER_S)
            second.wait_entered()
            assert stream.cancel()
            first.wait_cancelled()
            second.wait_cancelled()
            finishes.wait_for(2)
            assert_at_rest(pool, cancelled=1, hedges=1)


class TestFailoverStrategy:
    def test_b50_it_hedges_whatever_max_retries_says(
        self, clock: FakeClock, finishes: Finishes
    ) -> None:
        """Every member may be tried once; the one that is stuck to is still the first."""
        slow, second = AsyncHeld(), Scripted("second")
        with hedged(
            Member("a", slow), Member("b", second), clock=clock, strategy="failover", max_retries=0
        ) as pool:
            future = pool.ask(Request("x"), block=False)
            slow.wait_entered()
            clock.advance(AFTER_S)
            assert answer(future).member == "b"
            finishes.wait_for(2)
            again = pool.ask(Request("x"), block=False)
            slow.wait_entered()
            slow.let_go()
            assert answer(again).member == "a"

    def test_b50_it_goes_on_in_its_order(self, clock: FakeClock) -> None:
        """Both have failed: the next one that is untried."""
        first, second = Held(http_error(503)), Held(http_error(500))
        with hedged(
            Member("a", first),
            Member("b", second),
            Member("c", Scripted("third")),
            clock=clock,
            strategy="failover",
            max_retries=0,
        ) as pool:
            future = race(pool, clock, first, second)
            second.let_go()
            first.let_go()
            assert answer(future).member == "c"


class TestEvents:
    def test_b50_the_log_says_why_and_who_won(
        self, clock: FakeClock, log: EventLog, finishes: Finishes
    ) -> None:
        """Beside whom the second one was asked, after how long, and which of them lost."""
        bad, slow, fast = Scripted(http_error(503)), AsyncHeld(), Scripted("fast")
        with hedged(*ranked(a=bad, b=slow, c=fast), clock=clock, name="writers") as pool:
            future = pool.ask(Request("x", request_id="r"), block=False)
            slow.wait_entered()
            clock.advance(AFTER_S)
            answer(future)
            finishes.wait_for(3)
            pool.stats()
        (started,) = log.of(HedgeStarted)
        assert (started.member, started.request_id, started.level) == ("c", "r", "INFO")
        assert str(started) == ("hedge.started writers/c: b has not answered in 0.500 s: attempt 3")
        (lost,) = log.of(AttemptLost)
        assert (lost.member, lost.request_id, lost.level) == ("b", "r", "INFO")
        assert str(lost) == (
            "attempt.lost writers/b: attempt 2 lost to a faster one; it counts for nothing"
        )
        assert [(event.member, event.to) for event in log.of(Failover)] == [("a", "b")]

    def test_b50_one_loser_is_told_of_once(
        self, clock: FakeClock, log: EventLog, finishes: Finishes
    ) -> None:
        """Also if both have answered before the router hears of either."""
        first, second, strategy = Held("first"), Held("second"), HoldingStrategy()
        members = ranked(a=first, b=second, last=Scripted("held"))
        with hedged(*members, clock=clock, strategy=strategy) as pool:
            future = race(pool, clock, first, second)
            with strategy.held(pool):
                second.let_go()
                assert answer(future).member == "b"
                first.let_go()
                finishes.wait_for(2)
            finishes.wait_for(1)
            assert_at_rest(pool, completed=2, hedges=1)
            assert [event.member for event in log.of(AttemptLost)] == ["a"]
            assert outcomes(pool) == {"a": (0, 0), "b": (1, 0), "last": (1, 0)}
