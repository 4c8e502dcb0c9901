"""Behaviour 50: a second member is asked where the first takes its time; the first answer wins."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from helpers_agents import AsyncHeld, Held
from helpers_hedging import AFTER_S, Finishes, answer, assert_at_rest, hedged, outcomes, race
from helpers_pools import WAIT_S, pool_of, ranked

from greenroom import AllPoolMembersFailedError, Apply, CircuitState, Member, PoolRef, Request
from greenroom.messages import BreakerOpened, DeadLetter
from greenroom.testing import EventRecorder, FakeClock, ScriptedAgent, http_error
from greenroom.testing import Slow as SlowStep


class TestASecondMember:
    def test_b50_off_by_default(self, clock: FakeClock) -> None:
        """Nobody else is asked, however long it takes."""
        slow, other = AsyncHeld(), ScriptedAgent(["never"])
        with pool_of(*ranked(a=slow, b=other), clock=clock) as pool:
            future = pool.ask(Request("x"), block=False)
            slow.wait_entered()
            clock.advance(29.0)
            assert pool.stats().hedges == 0
            slow.let_go()
            assert answer(future).member == "a"
            assert len(other.calls) == 0

    def test_b50_after_a_fixed_delay(
        self, clock: FakeClock, log: EventRecorder, finishes: Finishes
    ) -> None:
        """A second member is asked when the delay is over, not before. The first answer wins, the
        loser is cancelled, and counts for nothing.
        """
        slow, fast = AsyncHeld(), ScriptedAgent(["fast"])
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
            assert log.named(DeadLetter) == []

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
        first, second, third = AsyncHeld(), AsyncHeld(), ScriptedAgent(["never"])
        with hedged(*ranked(a=first, b=second, c=third), clock=clock) as pool:
            future = race(pool, clock, first, second)
            clock.advance(10.0)
            assert pool.stats().hedges == 1
            second.let_go()
            answer(future)
            assert len(third.calls) == 0

    def test_b50_who_answers_in_time_is_left_alone(self, clock: FakeClock) -> None:
        """The timer of a request that has been answered asks nobody."""
        first, second = ScriptedAgent(["quick"]), ScriptedAgent(["never"])
        with hedged(*ranked(a=first, b=second), clock=clock) as pool:
            pool.ask(Request("x"), timeout=WAIT_S)
            clock.advance(1.0)
            assert_at_rest(pool, completed=1)
            assert len(second.calls) == 0

    def test_b50_a_retry_is_hedged_from_its_own_start(self, clock: FakeClock) -> None:
        """The member that took over has the whole delay for itself."""
        bad, slow, fast = Held(http_error(503)), AsyncHeld(), ScriptedAgent(["fast"])
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
        slow, fast = AsyncHeld(), ScriptedAgent(["fast"])
        with hedged(*ranked(a=slow, b=fast), clock=clock) as pool:
            future = pool.ask(Apply(lambda agent: agent("x")), block=False)
            slow.wait_entered()
            clock.advance(AFTER_S)
            assert answer(future).member == "b"

    def test_b50_a_tell_is_hedged_as_well(
        self, clock: FakeClock, log: EventRecorder, finishes: Finishes
    ) -> None:
        """Nobody waits for the answer, but the work is done sooner."""
        slow, fast = AsyncHeld(), ScriptedAgent(["fast"])
        with hedged(*ranked(a=slow, b=fast), clock=clock) as pool:
            pool.tell(Request("x"))
            slow.wait_entered()
            clock.advance(AFTER_S)
            slow.wait_cancelled()
            finishes.wait_for(2)
            assert_at_rest(pool, completed=1, hedges=1)
            assert log.named(DeadLetter) == []


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
        slow, fast = self.slow_agent(clock, SlowStep(clock, 60.0)), ScriptedAgent(["fast"])
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
        slow, other = self.slow_agent(clock, "never"), ScriptedAgent(["never"])
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
        slow, other = (
            self.slow_agent(clock, SlowStep(clock, 20.0, "late")),
            ScriptedAgent(["never"]),
        )
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

        fast = ScriptedAgent(["fast"])
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
        slow, other = AsyncHeld(), ScriptedAgent(["never"])
        with hedged(*ranked(a=slow, b=other), clock=clock) as pool:
            future = pool.ask(request_, block=False)
            slow.wait_entered()
            clock.advance(5.0)
            assert pool.stats().hedges == 0
            slow.let_go()
            assert answer(future).member == "a"
            assert len(other.calls) == 0

    def test_b50_max_retries_bounds_retries_and_hedges_together(self, clock: FakeClock) -> None:
        """With one retry allowed and made, no hedge is left."""
        bad, slow, other = ScriptedAgent([http_error(503)]), AsyncHeld(), ScriptedAgent(["never"])
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
        other = ScriptedAgent(["never"])
        with hedged(*ranked(a=first, b=second, c=other), clock=clock, max_retries=1) as pool:
            future = race(pool, clock, first, second)
            first.let_go()
            second.let_go()
            with pytest.raises(AllPoolMembersFailedError, match="max_retries=1") as caught:
                answer(future)
            tried = [error.member for error in caught.value.errors if error.attempts]
            assert sorted(tried) == ["a", "b"]
            assert len(other.calls) == 0
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
        bad, slow = ScriptedAgent([http_error(503), "never"]), AsyncHeld()
        with hedged(*ranked(a=bad, b=slow), clock=clock) as pool:
            future = pool.ask(Request("x"), block=False)
            slow.wait_entered()
            clock.advance(5.0)
            assert pool.stats().hedges == 0
            slow.let_go()
            assert answer(future).member == "b"
            assert len(bad.calls) == 1

    def test_b50_no_trial_is_spent_on_a_hedge(self, clock: FakeClock) -> None:
        """A half-open member is passed over, though the strategy would prefer it."""
        flaky, slow, fast = (
            ScriptedAgent([http_error(503), "never"]),
            AsyncHeld(),
            ScriptedAgent(["fast"]),
        )
        members = [
            Member("flaky", flaky, priority=1),
            Member("slow", slow, priority=0),
            Member("fast", fast, priority=2),
        ]
        with (
            EventRecorder() as log,
            hedged(*members, clock=clock, circuit_failure_threshold=1) as pool,
        ):
            pool.force_open("slow")
            assert pool.ask(Request("x"), timeout=WAIT_S).member == "fast"
            log.wait_for(BreakerOpened, count=2)
            pool.reset_member("slow")
            clock.advance(100.0)
            assert pool.stats()["flaky"].circuit is CircuitState.HALF_OPEN
            future = pool.ask(Request("x"), block=False)
            slow.wait_entered()
            clock.advance(AFTER_S)
            assert answer(future).member == "fast"
            assert len(flaky.calls) == 1

    def test_b50_the_budget_is_shared_with_retries(self, clock: FakeClock) -> None:
        """A pool that may not retry does not hedge either."""
        slow, other = AsyncHeld(), ScriptedAgent(["never"])
        with hedged(
            *ranked(a=slow, b=other), clock=clock, retry_budget_ratio=0.0, retry_budget_floor=0.0
        ) as pool:
            future = pool.ask(Request("x"), block=False)
            slow.wait_entered()
            clock.advance(5.0)
            assert pool.stats().hedges == 0
            slow.let_go()
            answer(future)
            assert len(other.calls) == 0

    def test_b50_a_strategy_that_fails_costs_nothing(self, clock: FakeClock) -> None:
        """There is no hedge then, and the first attempt goes on."""

        class Odd:
            def pick(self, candidates: Any, context: Any, rng: Any) -> Any:
                if len(candidates) == 1:
                    raise ZeroDivisionError
                return candidates[0]

        slow, other = AsyncHeld(), ScriptedAgent(["never"])
        with hedged(*ranked(a=slow, b=other), clock=clock, strategy=Odd()) as pool:
            future = pool.ask(Request("x"), block=False)
            slow.wait_entered()
            clock.advance(5.0)
            assert pool.stats().hedges == 0
            slow.let_go()
            assert answer(future).member == "a"

    def test_b50_turns_are_not_lost(self, clock: FakeClock) -> None:
        """A request that may not be hedged does not ask the strategy, which may be counting."""
        slow, other = AsyncHeld(), ScriptedAgent(["other"])
        with hedged(
            *ranked(a=slow, b=other), clock=clock, strategy="round_robin", max_retries=0
        ) as pool:
            future = pool.ask(Request("x"), block=False)
            slow.wait_entered()
            clock.advance(5.0)
            assert pool.ask(Request("y"), timeout=WAIT_S).member == "b"
            slow.let_go()
            answer(future)
