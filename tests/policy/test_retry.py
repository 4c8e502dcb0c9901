"""What follows a failed attempt: backoff, the retry budget, and the plan. No clock, no actors."""

from __future__ import annotations

import dataclasses
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.actors.policy.backoff import ceiling, full_jitter
from greenroom.actors.policy.retry_plan import (
    LASTING,
    Decision,
    GiveUp,
    RaiseAsIs,
    RetryBudget,
    RetryPolicy,
    SameAgain,
    Situation,
    StayFor,
    TryLater,
    TryNow,
    plan_retry,
)
from greenroom.messages.config import PoolConfig
from greenroom.messages.status import FailureKind

POLICY = RetryPolicy.from_config(PoolConfig())
EXHAUSTIVE = dataclasses.replace(POLICY, max_retries=0, exhaustive=True)
PASSING = sorted(kind for kind in FailureKind if kind.tries_another_member and kind not in LASTING)


def failed(**changes: Any) -> Situation:
    """The first attempt of a request has failed; a second member is there to take it."""
    first = Situation(
        kind=FailureKind.UNAVAILABLE,
        started=True,
        side_effects=False,
        retry_after_s=None,
        attempts=1,
        backoffs=0,
        idempotent=True,
        untried=True,
        tried_could_recover=True,
        now=100.0,
        deadline=None,
    )
    return dataclasses.replace(first, **changes)


def with_settings(policy: RetryPolicy, **changes: Any) -> RetryPolicy:
    """A policy in a pool of other settings."""
    return dataclasses.replace(policy, config=policy.config.replace(**changes))


def no_budget() -> RetryBudget:
    return RetryBudget(ratio=0.0, floor_per_s=0.0)


def one_retry() -> RetryBudget:
    return RetryBudget(ratio=0.0, floor_per_s=0.1)


def plan(
    situation: Situation, policy: RetryPolicy = POLICY, budget: RetryBudget | None = None
) -> Decision:
    return plan_retry(policy, situation, budget or RetryBudget(0.2, 10.0), Random(7))


class Longest(Random):
    """Draws the upper end of every range."""

    def uniform(self, a: float, b: float) -> float:
        return b


# backoff


def test_ceilings_double_up_to_the_maximum() -> None:
    """The n-th ceiling is base * multiplier ** (n - 1), and never more than the maximum."""
    assert [ceiling(n, 0.1, 2.0, 1.0) for n in (1, 2, 3, 4, 5, 6)] == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


@pytest.mark.parametrize("n", [1_025, 10**9, 10**400])
def test_ceiling_does_not_overflow(n: int) -> None:
    """However often a request has waited, the ceiling is a number."""
    assert ceiling(n, 0.1, 2, 30.0) == 30.0
    assert ceiling(n, 0.0, 2.0, 30.0) == 0.0
    assert ceiling(n, 0.1, 1.0, 30.0) == 0.1


def test_backoffs_are_counted_from_one() -> None:
    """A backoff before the first one is refused with the value."""
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        ceiling(0, 0.1, 2.0, 30.0)


@given(
    n=st.integers(1, 10**6),
    base_s=st.floats(0.0, 1e3),
    multiplier=st.floats(1.0, 1e3),
    extra_s=st.floats(0.0, 1e6),
    seed=st.integers(0, 99),
)
def test_a_backoff_stays_within_its_ceiling(
    n: int, base_s: float, multiplier: float, extra_s: float, seed: int
) -> None:
    """0 <= delay <= ceiling <= maximum, and ceilings never shrink."""
    max_s = base_s + extra_s
    top = ceiling(n, base_s, multiplier, max_s)
    assert 0.0 <= full_jitter(n, base_s, multiplier, max_s, Random(seed)) <= top <= max_s
    assert top <= ceiling(n + 1, base_s, multiplier, max_s)


def test_full_jitter_spreads_over_the_whole_range() -> None:
    """Full jitter is uniform from zero to the ceiling."""
    rng = Random(1)
    delays = [full_jitter(3, 0.1, 2.0, 30.0, rng) for _ in range(4_000)]
    assert min(delays) < 0.01
    assert max(delays) > 0.39
    assert sum(delays) / len(delays) == pytest.approx(0.2, rel=0.05)


# the policy


def test_a_policy_comes_from_the_settings() -> None:
    """A request's own max_retries, 0 too, overrides the pool's."""
    config = PoolConfig(
        max_retries=4, retry_delay_s=0.2, retry_backoff_multiplier=3.0, retry_max_delay_s=9.0
    )
    assert RetryPolicy.from_config(config) == RetryPolicy(config, 4, False)
    assert RetryPolicy.from_config(config, max_retries=0).max_retries == 0
    assert RetryPolicy.from_config(config, exhaustive=True).exhaustive


# the budget


def spend(budget: RetryBudget, now: float) -> int:
    """Withdraw until the budget refuses; how often it did not."""
    for count in range(10_000):
        if not budget.withdraw(now):
            return count
    raise AssertionError("the budget has no end")


def test_the_floor_allows_retries_without_traffic() -> None:
    """A quiet pool may retry floor * ttl times in a window."""
    assert spend(RetryBudget(ratio=0.2, floor_per_s=10.0, ttl_s=10.0), now=5.0) == 100


def test_the_ratio_allows_retries_by_traffic() -> None:
    """Every request brings its share, rounding errors aside."""
    budget = RetryBudget(ratio=0.29, floor_per_s=0.0)
    for _ in range(100):
        budget.deposit(3.0)
    assert spend(budget, now=3.0) == 29


def test_what_is_spent_comes_back_when_it_has_expired() -> None:
    """A retry counts for the time to live, and not longer."""
    budget = one_retry()
    assert budget.withdraw(0.5)
    assert not budget.withdraw(9.9)
    assert budget.withdraw(10.0)


def test_requests_expire_too() -> None:
    """Traffic of long ago pays for no retry."""
    budget = RetryBudget(ratio=1.0, floor_per_s=0.0)
    budget.deposit(0.0)
    assert not budget.withdraw(1_000_000.0)


def test_a_clock_that_steps_back_does_no_harm() -> None:
    """An earlier time counts as the latest one seen."""
    budget = one_retry()
    assert budget.withdraw(50.0)
    assert not budget.withdraw(1.0)
    assert budget.withdraw(60.0)


def test_a_budget_reads_well() -> None:
    """Its repr says what is spent of what."""
    budget = RetryBudget(ratio=0.5, floor_per_s=1.0)
    budget.deposit(1.0)
    budget.withdraw(1.0)
    assert repr(budget) == "<RetryBudget 1 of 10.5 spent, 1 requests>"


@given(
    ratio=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    floor=st.sampled_from([0.0, 0.1, 1.0]),
    steps=st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.3, 1.0, 4.0, 11.0]))),
)
def test_a_budget_matches_a_model_of_two_lists(
    ratio: float, floor: float, steps: list[tuple[bool, float]]
) -> None:
    """Over the current second and the nine before: retries <= ratio * requests + floor * ttl."""
    budget = RetryBudget(ratio, floor)
    now, requests, retries = 100.0, [100.0][:0], [100.0][:0]
    for is_request, pause in steps:
        now += pause
        requests = [at for at in requests if now // 1 - at // 1 < 10]
        retries = [at for at in retries if now // 1 - at // 1 < 10]
        if is_request:
            budget.deposit(now)
            requests.append(now)
            continue
        allowed = len(retries) + 1 <= ratio * len(requests) + floor * 10 + 1e-9
        assert budget.withdraw(now) is allowed
        retries.extend([now] if allowed else [])


# the plan


@pytest.mark.parametrize("kind", PASSING + sorted(LASTING))
def test_an_untried_member_is_tried_at_once(kind: FailureKind) -> None:
    """No delay while somebody is untried, not even the Retry-After of the one that failed."""
    assert plan(failed(kind=kind, retry_after_s=60.0)) == TryNow()


@pytest.mark.parametrize("kind", PASSING)
def test_with_nobody_untried_it_waits(kind: FailureKind) -> None:
    """The wait is full jitter under the ceiling of the next backoff."""
    situation = failed(kind=kind, untried=False, attempts=2, backoffs=1)
    decision = plan_retry(POLICY, situation, one_retry(), Longest())
    assert decision == TryLater(0.2)


def test_retry_after_wins_over_the_backoff() -> None:
    """A member that says when to come back is taken at its word, 0 included."""
    assert plan(failed(untried=False, retry_after_s=7.0)) == TryLater(7.0)
    assert plan(failed(untried=False, retry_after_s=0.0)) == TryLater(0.0)


@pytest.mark.parametrize("kind", sorted(LASTING))
def test_what_does_not_pass_with_time_is_not_waited_for(kind: FailureKind) -> None:
    """The same member would refuse again, so with nobody else left that is the end."""
    assert plan(failed(kind=kind, untried=False, tried_could_recover=False)) == GiveUp(
        f"no other member left; {kind} does not pass with time"
    )


@pytest.mark.parametrize("kind", sorted(LASTING))
def test_another_tried_member_may_still_recover(kind: FailureKind) -> None:
    """The last one cannot take the request, but one tried before it timed out and may."""
    decision = plan(failed(kind=kind, untried=False, tried_could_recover=True))
    assert isinstance(decision, TryLater)


def test_it_does_not_wait_for_members_that_are_gone() -> None:
    """With nobody untried and nobody who could come back, that is the end."""
    assert plan(failed(untried=False, tried_could_recover=False)) == GiveUp(
        "no other member left, and none of those tried can come back"
    )


def test_max_retries_bounds_the_attempts() -> None:
    """Three retries make four attempts; the request's own zero allows none."""
    assert plan(failed(attempts=3)) == TryNow()
    assert plan(failed(attempts=4)) == GiveUp("max_retries=3 reached")
    none = dataclasses.replace(POLICY, max_retries=0)
    assert plan(failed(), none) == GiveUp("max_retries=0")


def test_an_exhaustive_policy_tries_every_member_once() -> None:
    """Neither max_retries nor the budget stops it, and nobody is tried twice."""
    budget = no_budget()
    assert plan(failed(attempts=9), EXHAUSTIVE, budget) == TryNow()
    assert plan(failed(untried=False), EXHAUSTIVE, budget) == GiveUp("every member was tried once")


def test_an_exhaustive_policy_keeps_all_other_rules() -> None:
    """Deadlines, side effects and the caller's own errors end it all the same."""
    assert plan(failed(kind=FailureKind.CALLER), EXHAUSTIVE) == RaiseAsIs()
    assert isinstance(plan(failed(side_effects=True), EXHAUSTIVE), GiveUp)
    assert isinstance(plan(failed(idempotent=False), EXHAUSTIVE), GiveUp)
    assert isinstance(plan(failed(deadline=100.0), EXHAUSTIVE), GiveUp)


def test_an_empty_budget_ends_it() -> None:
    """Both a change of member and a wait cost one retry."""
    for untried in (True, False):
        assert plan(failed(untried=untried), budget=no_budget()) == GiveUp("retry budget exhausted")


def test_attempts_that_never_started_cost_nothing() -> None:
    """A refused attempt is no load on the agents, so it may be repeated without the budget."""
    assert plan(failed(started=False), budget=no_budget()) == TryNow()
    decision = plan(failed(started=False, untried=False), budget=no_budget())
    assert isinstance(decision, TryLater)


@pytest.mark.parametrize(
    "refused",
    [
        {"kind": FailureKind.CALLER},
        {"kind": FailureKind.CANCELLED},
        {"side_effects": True},
        {"idempotent": False},
        {"attempts": 4},
        {"deadline": 99.0},
        {"untried": False, "retry_after_s": 5.0, "deadline": 101.0},
        {"untried": False, "tried_could_recover": False},
    ],
    ids=str,
)
def test_a_refused_retry_costs_nothing(refused: dict[str, Any]) -> None:
    """The budget is charged last: the one retry it holds is still there."""
    budget = one_retry()
    assert isinstance(plan(failed(**refused), budget=budget), GiveUp | RaiseAsIs)
    assert plan(failed(), budget=budget) == TryNow()
    assert plan(failed(), budget=budget) == GiveUp("retry budget exhausted")


def test_b24_no_wait_that_outlives_the_deadline() -> None:
    """Deadline shorter than the backoff: no pointless wait, the error comes at once and says so."""
    late = failed(untried=False, retry_after_s=4.0, deadline=101.2)
    assert plan(late) == GiveUp("the next retry in 4.0 s would come after the deadline, 1.2 s left")
    backoff = plan_retry(POLICY, failed(untried=False, deadline=100.05), one_retry(), Longest())
    assert backoff == GiveUp(
        "the next retry in 0.100 s would come after the deadline, 0.050 s left"
    )


def test_b24_a_retry_at_the_deadline_is_too_late() -> None:
    """A wait that ends at the deadline is refused, one that ends just before is not."""
    at = failed(untried=False, retry_after_s=4.0, deadline=104.0)
    assert isinstance(plan(at), GiveUp)
    assert plan(dataclasses.replace(at, deadline=104.01)) == TryLater(4.0)


@pytest.mark.parametrize("untried", [True, False])
def test_b24_nothing_is_retried_past_the_deadline(untried: bool) -> None:
    """Not even an untried member is called when the time is over."""
    late = failed(untried=untried, started=False, retry_after_s=0.0)
    assert plan(dataclasses.replace(late, deadline=100.0)) == GiveUp("the deadline is over")
    assert plan(dataclasses.replace(late, deadline=98.5)) == GiveUp("the deadline passed 1.5 s ago")


@pytest.mark.parametrize("policy", [POLICY, EXHAUSTIVE])
@pytest.mark.parametrize("kind", [FailureKind.CALLER, FailureKind.CANCELLED])
def test_b27_the_callers_own_errors_are_raised_as_they_are(
    kind: FailureKind, policy: RetryPolicy
) -> None:
    """400: one call, no failover, whatever else holds."""
    assert plan(failed(kind=kind), policy) == RaiseAsIs()
    assert plan(failed(kind=kind, started=False, side_effects=True), policy) == RaiseAsIs()


def test_b27_too_large_goes_to_another_member() -> None:
    """413: failover, and the end when nobody else is left."""
    assert plan(failed(kind=FailureKind.TOO_LARGE)) == TryNow()
    last = failed(kind=FailureKind.TOO_LARGE, untried=False, tried_could_recover=False)
    assert plan(last) == GiveUp("no other member left; too_large does not pass with time")


def test_b28_what_is_not_idempotent_is_not_retried_once_started() -> None:
    """idempotent=False: not retried once started; retried when it provably never started."""
    assert plan(failed(idempotent=False)) == GiveUp("not idempotent: not retried once started")
    assert plan(failed(idempotent=False, started=False)) == TryNow()
    later = plan(failed(idempotent=False, started=False, untried=False))
    assert isinstance(later, TryLater)


def test_b28_started_side_effects_end_it() -> None:
    """An agent that has said it started side effects is not called again, idempotent or not."""
    for idempotent in (True, False):
        decision = plan(failed(side_effects=True, idempotent=idempotent))
        assert decision == GiveUp("the agent had started side effects")


def calls_of(budget: RetryBudget, at: float, rng: Random, failure_rate: float, members: int) -> int:
    """One request through `plan_retry` until it is answered; how many calls it made."""
    budget.deposit(at)
    attempts = backoffs = 0
    while True:
        attempts += 1
        if rng.random() >= failure_rate:
            return attempts
        situation = failed(attempts=attempts, backoffs=backoffs, untried=attempts < members, now=at)
        decision = plan_retry(POLICY, situation, budget, rng)
        if isinstance(decision, GiveUp):
            return attempts
        backoffs += isinstance(decision, TryLater)


@pytest.mark.parametrize("failure_rate", [0.5, 1.0])
@pytest.mark.parametrize("members", [1, 3])
def test_b30_retries_do_not_become_a_storm(members: int, failure_rate: float) -> None:
    """At 50% failures over 10,000 requests, load stays below 1.3x; in a full outage too."""
    config, rng = PoolConfig(), Random(30)
    budget = RetryBudget(config.retry_budget_ratio, config.retry_budget_floor)
    calls = sum(calls_of(budget, i / 500, rng, failure_rate, members) for i in range(10_000))
    assert 1.2 <= calls / 10_000 < 1.3


def test_b30_few_failures_are_all_retried() -> None:
    """The budget is not felt while failures are rare: every request is answered."""
    config, rng = PoolConfig(), Random(30)
    budget = RetryBudget(config.retry_budget_ratio, config.retry_budget_floor)
    calls = sum(calls_of(budget, i / 500, rng, 0.1, 3) for i in range(10_000))
    assert calls / 10_000 == pytest.approx(1 / 0.9, rel=0.02)
    assert budget.withdraw(20.0)


# the same member once more


ONCE_MORE = with_settings(POLICY, same_member_retries=1)


def hiccup(**changes: Any) -> Situation:
    """A reset connection of a member that takes requests as usual."""
    return failed(**{"may_mend": True, "in_service": True, "members": 3, **changes})


def test_a_hiccup_is_tried_again_on_the_same_member() -> None:
    """At once, before anybody else is asked, as often as the setting says."""
    assert plan(hiccup(), ONCE_MORE) == SameAgain()
    assert plan(hiccup(tries=2, attempts=2), ONCE_MORE) == TryNow()
    twice = with_settings(ONCE_MORE, same_member_retries=2)
    assert plan(hiccup(tries=2, attempts=2), twice) == SameAgain()


def test_a_pool_of_one_tries_its_member_again_at_once() -> None:
    """By default nobody else does: where there is another member, that one is asked."""
    alone = {"members": 1, "untried": False}
    assert plan(hiccup(**alone)) == SameAgain()
    assert isinstance(plan(hiccup(**alone, tries=2, attempts=2)), TryLater)
    assert plan(hiccup(members=2)) == TryNow()
    never = with_settings(POLICY, same_member_retries=0)
    assert isinstance(plan(hiccup(**alone), never), TryLater)


@pytest.mark.parametrize(
    "changes",
    [
        {"may_mend": False},
        {"in_service": False},
        {"retry_after_s": 1.0},
        {"retry_after_s": 0.0},
        {"kind": FailureKind.TIMEOUT},
        {"attempts": 4},
    ],
    ids=str,
)
def test_what_is_no_hiccup_goes_elsewhere(changes: dict[str, Any]) -> None:
    """A refusal, a member that rests or is on trial, a silent one, a request at its limit."""
    assert plan(hiccup(**changes), ONCE_MORE) != SameAgain()


@pytest.mark.parametrize(
    "changes",
    [{"side_effects": True}, {"idempotent": False}, {"deadline": 100.0}],
    ids=str,
)
def test_what_must_not_be_repeated_is_not_tried_again(changes: dict[str, Any]) -> None:
    """Not on the same member either."""
    assert isinstance(plan(hiccup(**changes), ONCE_MORE), GiveUp)


def test_what_has_not_started_may_be_tried_again() -> None:
    """Also if it is not idempotent, and at no cost to the budget."""
    unstarted = hiccup(started=False, idempotent=False)
    assert plan(unstarted, ONCE_MORE, no_budget()) == SameAgain()


def test_the_same_member_costs_a_retry() -> None:
    """Out of the budget, once; and where that is empty each member still has its one attempt."""
    budget = one_retry()
    assert plan(hiccup(), ONCE_MORE, budget) == SameAgain()
    assert isinstance(plan(hiccup(), ONCE_MORE, budget), GiveUp)
    exhaustive = dataclasses.replace(ONCE_MORE, exhaustive=True)
    assert plan(hiccup(), exhaustive, one_retry()) == SameAgain()
    assert plan(hiccup(), exhaustive, no_budget()) == TryNow()
    assert plan(hiccup(attempts=4), exhaustive) == TryNow()


# waiting for a preferred member


STAYS = with_settings(POLICY, stay_for_retry_after_s=5.0)


def resting(**changes: Any) -> Situation:
    """The preferred member has asked for two seconds."""
    limited = {"kind": FailureKind.RATE_LIMITED, "retry_after_s": 2.0, "preferred": True}
    return failed(**{**limited, **changes})


def test_a_preferred_member_is_waited_for() -> None:
    """For as long as it asks for, though another one could take the request."""
    assert plan(resting(), STAYS) == StayFor(2.0)
    assert plan(resting(retry_after_s=5.0), STAYS) == StayFor(5.0)
    assert plan(resting(), dataclasses.replace(STAYS, exhaustive=True)) == StayFor(2.0)


@pytest.mark.parametrize(
    "changes",
    [
        {"preferred": False},
        {"retry_after_s": 5.001},
        {"retry_after_s": None},
        {"retry_after_s": 0.0},
        {"retry_after_s": -1.0},
        {"deadline": 102.0},
    ],
    ids=str,
)
def test_it_is_left_where_the_wait_is_too_long(changes: dict[str, Any]) -> None:
    """Longer than the setting or the deadline allows, or not said; or another one is as good."""
    assert plan(resting(**changes), STAYS) == TryNow()


def test_by_default_nobody_is_waited_for() -> None:
    """`stay_for_retry_after_s` is 0."""
    assert plan(resting()) == TryNow()


def test_max_retries_bounds_the_stays() -> None:
    """A member that asks for one second again and again is left in the end."""
    exhaustive = dataclasses.replace(STAYS, exhaustive=True)
    assert plan(resting(attempts=4), exhaustive) == TryNow()
    assert isinstance(plan(resting(attempts=4), STAYS), GiveUp)
