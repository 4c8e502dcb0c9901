"""The simulator does what the pool does: one script is played through both, and compared.

Who got which attempt when, every change of a breaker and every answer are the same.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
from helpers_drift import Ending, Script, ScriptedMember, ScriptedRequest, Spell
from helpers_drift_pool import played
from helpers_drift_scripts import scripts
from helpers_drift_sim import simulated
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from greenroom import FailureKind, LoadBalanceStrategy, PoolConfig

STRATEGIES = [each.value for each in LoadBalanceStrategy]

FEW = settings(
    max_examples=10,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def fails(
    kind: FailureKind,
    retry_after_s: float | None = None,
    *,
    seconds: float = 0.1,
    until_s: float = 1.0,
) -> Spell:
    return Spell(Ending(seconds, kind, retry_after_s), until_s=until_s)


def hangs(until_s: float) -> Spell:
    return Spell(Ending(math.inf), until_s=until_s)


def member(name: str, *spells: Spell, priority: int = 0, latency_s: float = 0.1) -> ScriptedMember:
    return ScriptedMember(name=name, spells=spells, priority=priority, latency_s=latency_s)


def at(when: float, **more: Any) -> ScriptedRequest:
    return ScriptedRequest(at=when, **more)


def script(
    *cast: ScriptedMember | ScriptedRequest,
    strategy: str = "priority",
    seed: int = 1,
    **config: Any,
) -> Script:
    """With breakers that only open at once, and no second try on the same member."""
    plain = {
        "circuit_failure_threshold": 100,
        "circuit_failure_rate": 1.0,
        "circuit_window": 100,
        "circuit_min_calls": 100,
        "same_member_retries": 0,
    }
    return Script(
        members=tuple(each for each in cast if isinstance(each, ScriptedMember)),
        requests=tuple(each for each in cast if isinstance(each, ScriptedRequest)),
        strategy=strategy,
        seed=seed,
        config=PoolConfig(**{**plain, **config}),
    )


AUTH, UNKNOWN, UNAVAILABLE = FailureKind.AUTH, FailureKind.UNKNOWN, FailureKind.UNAVAILABLE
RATE_LIMITED, NOT_FOUND = FailureKind.RATE_LIMITED, FailureKind.NOT_FOUND

ONE_IS_LEFT = script(
    member("a", fails(AUTH, until_s=math.inf), priority=1),
    member("b", fails(RATE_LIMITED, 1.5, seconds=0.0, until_s=0.5)),
    at(0.0, timeout_s=0.05),
    at(0.9),
    when_unavailable="wait",
)
"""The first request is over before `a` fails it; it leaves `b` at rest until 1.5 s."""

AT_FAULT = script(
    member("a", fails(UNKNOWN)),
    member("b", fails(UNKNOWN), priority=1),
    at(0.0),
    circuit_failure_threshold=1,
    max_retries=1,
)
"""A request that fails alike everywhere."""


def test_a_request_waits_for_the_only_member_that_can_still_answer_it() -> None:
    """`a` refuses its key, `b` rests: with `when_unavailable="wait"` it is answered when `b` does
    not any more.
    """
    simulation = simulated(ONE_IS_LEFT).lines()
    assert "r1 answered by b at 1.600000" in simulation
    assert simulation == played(ONE_IS_LEFT).lines()


def test_the_pool_lets_it_wait() -> None:
    """The same without the simulator."""
    assert "r1 answered by b at 1.600000" in played(ONE_IS_LEFT).lines()


CASES = [
    pytest.param(
        script(
            member("a", fails(FailureKind.TOO_LARGE)),
            member("b", fails(RATE_LIMITED, 1.0, seconds=0.2), priority=1),
            at(0.0),
            at(0.05),
            when_unavailable="wait",
        ),
        id="who_cannot_help_is_not_asked_again",
    ),
    pytest.param(
        script(
            member("a", hangs(0.5)),
            member("b", fails(UNAVAILABLE, until_s=1.05), priority=1),
            at(0.0),
            request_timeout_s=1.0,
        ),
        id="who_was_silent_is_asked_last",
    ),
    pytest.param(
        script(
            member("a", fails(UNAVAILABLE, until_s=0.05), latency_s=1.0),
            at(0.0),
            at(0.05),
            at(0.06),
        ),
        id="who_came_first_is_served_first_after_a_failure_too",
    ),
    pytest.param(
        script(member("a", latency_s=1.0), at(0.0), at(0.1), at(0.2, priority=1)),
        id="a_higher_priority_is_served_first",
    ),
    pytest.param(
        script(member("a", latency_s=1.0), at(0.0), at(0.1), at(0.2, priority=1), max_pending=1),
        id="a_lower_priority_gives_way_where_the_queue_is_full",
    ),
    pytest.param(
        script(member("a", fails(AUTH)), member("b", priority=1), at(0.0), at(50.0)),
        id="a_trial_runs_beside_its_request",
    ),
    pytest.param(
        AT_FAULT,
        id="a_request_at_fault_opens_no_breaker",
    ),
    pytest.param(
        script(
            member("a", fails(UNKNOWN)),
            member("b", fails(UNKNOWN)),
            member("c"),
            *(at(when) for when in (0.0, 1.0, 2.0)),
            max_retries=1,
            strategy="least_errors",
            seed=2,
        ),
        id="a_request_at_fault_weighs_on_nobody",
    ),
    pytest.param(
        script(
            member("a", fails(UNKNOWN)),
            member("b", fails(UNKNOWN), priority=1),
            member("c", priority=2),
            at(0.0),
            circuit_failure_threshold=1,
        ),
        id="a_request_opens_one_breaker_at_most",
    ),
    pytest.param(
        script(member("a", fails(UNKNOWN)), at(0.0), circuit_failure_threshold=2, max_retries=2),
        id="a_request_counts_once_on_a_member",
    ),
    pytest.param(
        script(
            member("a", fails(UNKNOWN)),
            *(at(when) for when in (0.0, 0.5, 1.0, 1.15, 1.3)),
            circuit_failure_rate=0.5,
            circuit_window=4,
            circuit_min_calls=3,
            max_retries=0,
        ),
        id="a_success_that_opens_a_breaker_is_judged_in_a_while",
    ),
    pytest.param(
        script(
            member("a", fails(AUTH)),
            member("b", Spell(Ending(0.1, UNKNOWN), 1.0, 1.05), priority=1),
            at(0.0),
            at(1.0),
            circuit_failure_threshold=1,
        ),
        id="the_last_that_serves_is_not_taken_out_while_in_doubt",
    ),
    pytest.param(
        script(
            member("a", fails(UNKNOWN), latency_s=1.2),
            at(0.0),
            at(1.0),
            at(1.1),
            circuit_failure_threshold=1,
            circuit_reset_timeout_s=0.5,
            circuit_slow_call_s=0.6,
            circuit_slow_rate=1.0,
            max_retries=0,
            when_unavailable="wait",
        ),
        id="a_slot_is_given_on_before_the_supervisor_has_spoken",
    ),
    pytest.param(
        script(member("a", fails(NOT_FOUND)), member("b", priority=1), at(0.0), at(0.5)),
        id="who_lacks_what_another_has_rests",
    ),
    pytest.param(
        script(member("a", fails(UNAVAILABLE, until_s=0.05)), at(0.0), same_member_retries=None),
        id="a_hiccup_is_tried_again_at_once",
    ),
    pytest.param(
        script(
            member("a", fails(RATE_LIMITED, 1.0, until_s=0.05)),
            member("b", priority=1),
            at(0.0),
            stay_for_retry_after_s=2.0,
        ),
        id="a_request_stays_for_a_preferred_member",
    ),
    pytest.param(
        script(
            member("a", fails(RATE_LIMITED, 1.0, until_s=0.05)),
            member("b", priority=1),
            at(0.0),
            at(0.5),
            stay_for_retry_after_s=2.0,
            max_retries=0,
        ),
        id="a_new_request_stays_for_a_preferred_member",
    ),
    pytest.param(
        script(member("a", latency_s=1.0), member("b", priority=1), at(0.0), hedge_after_s=0.5),
        id="a_slow_request_is_hedged",
    ),
    pytest.param(
        script(member("a", fails(UNAVAILABLE)), member("b", priority=1), at(0.0, idempotent=False)),
        id="what_must_not_run_twice_does_not",
    ),
    pytest.param(
        script(member("a", fails(UNAVAILABLE)), member("b", priority=1), at(0.0, max_retries=0)),
        id="a_request_has_its_own_number_of_retries",
    ),
    pytest.param(
        script(member("a", fails(AUTH)), at(0.0), at(50.0)),
        id="the_only_member_is_tried_by_a_request",
    ),
    pytest.param(
        script(member("a", fails(AUTH), latency_s=1.0), at(0.0), at(50.0, timeout_s=0.5), at(51.0)),
        id="a_trial_whose_request_has_run_out_of_time_has_failed",
    ),
    pytest.param(
        script(member("a", fails(FailureKind.CALLER)), member("b", priority=1), at(0.0)),
        id="what_is_the_callers_fault_is_raised_as_it_is",
    ),
    pytest.param(
        script(member("a", hangs(0.5)), at(0.0), at(0.1), request_timeout_s=1.0),
        id="a_call_that_hangs_is_cut_short",
    ),
    pytest.param(
        script(member("a", fails(RATE_LIMITED, until_s=2.0)), at(0.0), at(0.1), at(0.2)),
        id="pauses_are_drawn_alike",
    ),
    pytest.param(
        script(
            member("a", latency_s=1.0),
            member("b", priority=1),
            *(at(2.0 * i) for i in range(8)),
            circuit_slow_rate=0.5,
            circuit_slow_call_s=0.5,
            circuit_window=4,
            circuit_min_calls=2,
            circuit_reset_timeout_s=100.0,
        ),
        id="slow_calls_open_a_breaker",
    ),
]


@pytest.mark.parametrize("case", CASES)
def test_the_simulator_does_what_the_pool_does(case: Script) -> None:
    """One thing at a time, each in as few steps as it takes."""
    assert simulated(case).lines() == played(case).lines()


@pytest.mark.parametrize("when_unavailable", ["fail", "wait"])
@pytest.mark.parametrize("strategy", STRATEGIES)
@settings(FEW, max_examples=5)
@given(plain=scripts(plain=True))
def test_where_nothing_fails_they_do_the_same(
    strategy: str, when_unavailable: str, plain: Script
) -> None:
    """Whom a strategy picks, whom chance picks too; who waits, and whose time runs out."""
    plain = plain.under(strategy, when_unavailable)
    trace = played(plain)
    assume(not trace.has_ties())
    assert simulated(plain).lines() == trace.lines()


@pytest.mark.parametrize("when_unavailable", ["fail", "wait"])
@pytest.mark.parametrize("strategy", STRATEGIES)
@FEW
@given(troubled=scripts())
@example(troubled=AT_FAULT)
def test_whatever_fails_they_do_the_same(
    strategy: str, when_unavailable: str, troubled: Script
) -> None:
    """Faults of every kind at random times, hedging, priorities, breakers that open and close."""
    troubled = troubled.under(strategy, when_unavailable)
    trace = played(troubled)
    assume(not trace.has_ties())
    assert simulated(troubled).lines() == trace.lines()


@settings(FEW, max_examples=25)
@given(
    strategy=st.sampled_from(STRATEGIES),
    when_unavailable=st.sampled_from(["fail", "wait"]),
    troubled=scripts(),
)
def test_the_pool_does_the_same_twice(
    strategy: str, when_unavailable: str, troubled: Script
) -> None:
    """What is compared is a matter of the script alone, not of threads."""
    troubled = troubled.under(strategy, when_unavailable)
    trace = played(troubled)
    assume(not trace.has_ties())
    assert played(troubled).lines() == trace.lines()
