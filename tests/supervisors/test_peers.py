"""A member is held against its peers: where all fail alike, it is no one's ill health."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_last_one import fail, states
from test_supervisor_parts import World

from greenroom import CircuitState, FailureKind, Member, PoolConfig
from greenroom.events import BreakerSpared
from greenroom.simulate.faults import Failing, Fault
from greenroom.simulate.latency import Constant
from greenroom.simulate.run import simulate
from greenroom.simulate.scenario import Load, MemberSpec, Scenario
from greenroom.supervisors.outcome_judge import OutcomeJudge
from greenroom.supervisors.policy.peers import Sample, fails_as_its_peers

CLOSED, OPEN = CircuitState.CLOSED, CircuitState.OPEN
UNAVAILABLE = FailureKind.UNAVAILABLE
GOOD, HALF, BAD = Sample(20, 0), Sample(20, 10), Sample(20, 20)


def alike(member: Sample, in_a_row: int, *peers: Sample) -> bool:
    return fails_as_its_peers(member, in_a_row, peers, 0.3)


def test_b287_where_one_is_well_whoever_is_not_is_an_outlier() -> None:
    """However many others fail, and however little has failed."""
    assert not alike(Sample(20, 5), 5, GOOD)
    assert not alike(Sample(1, 1), 1, GOOD)
    assert not alike(Sample(20, 10), 5, BAD, HALF, GOOD)
    assert not alike(Sample(20, 10), 5, Sample(20, 5))  # a quarter is less than degraded


def test_b287_where_all_fail_alike_nobody_is() -> None:
    """Half of the calls of each: ten in a row are no surprise then, twenty are."""
    assert alike(Sample(20, 11), 5, HALF, HALF)
    assert alike(Sample(20, 14), 10, HALF)
    assert not alike(Sample(20, 20), 20, HALF)
    assert alike(Sample(20, 12), 5, HALF, BAD)
    assert not alike(Sample(20, 19), 12, Sample(20, 6), Sample(20, 6))


def test_b287_where_nobody_answers_it_is_an_outage() -> None:
    """The rule would keep callers waiting for what does not come."""
    assert not alike(BAD, 20, BAD, BAD)


def test_b287_who_has_had_few_calls_says_nothing() -> None:
    """Be they good or bad."""
    assert not alike(HALF, 5)
    assert not alike(HALF, 5, Sample(4, 2))
    assert alike(HALF, 5, Sample(4, 0), HALF)


@given(
    member=st.integers(1, 20).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))),
    peers=st.lists(
        st.integers(0, 20).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))), max_size=5
    ),
    in_a_row=st.integers(0, 20),
)
def test_b287_one_more_failure_never_makes_it_less_of_an_outlier(
    member: tuple[int, int], peers: list[tuple[int, int]], in_a_row: int
) -> None:
    """Nor a longer row of them."""
    others = [Sample(*each) for each in peers]
    calls, failed = member
    if not alike(Sample(calls, failed), in_a_row, *others):
        assert not alike(Sample(calls, min(calls, failed + 1)), in_a_row, *others)
        assert not alike(Sample(calls, failed), in_a_row + 1, *others)


# -- the supervisor


def world() -> World:
    members = (Member(name, len) for name in "abc")
    return World(*members, config={"circuit_failure_threshold": 5})


def play(world: World, *kinds: tuple[str, FailureKind | None]) -> None:
    for name, kind in kinds:
        world.now += 0.01
        fail(world, name, kind)


def mixed(*names: str, rounds: int = 6, kind: FailureKind = UNAVAILABLE) -> list[Any]:
    """Every second call of each fails."""
    return [(name, end) for _ in range(rounds) for end in (kind, None) for name in names]


def test_b287_half_of_all_calls_fail_everywhere_and_nobody_opens() -> None:
    """Not by the rate, nor by five in a row, which come of it."""
    here = world()
    play(here, *mixed("a", "b", "c"))
    play(here, *[("a", UNAVAILABLE)] * 2, ("b", None), *[("a", UNAVAILABLE)] * 3)
    assert states(here) == [CLOSED, CLOSED, CLOSED]


def test_b339_that_a_member_is_spared_is_told_once_until_it_fails_less() -> None:
    """With each row of failures that would have opened it; and not of members that just fail."""
    here = world()
    play(here, *mixed("a", "b", "c", rounds=4))
    assert spared(here) == []
    play(here, ("b", None), *[("a", UNAVAILABLE)] * 5)
    assert spared(here)[-1:] == ["a"]
    told = spared(here).count("a")
    play(here, ("b", None), ("c", None), *[("a", UNAVAILABLE)] * 2)
    assert spared(here).count("a") == told
    assert states(here) == [CLOSED, CLOSED, CLOSED]


def spared(world: World) -> list[str | None]:
    return [each.member for each in world.events if isinstance(each, BreakerSpared)]


def test_b287_with_one_that_is_well_it_opens_as_ever() -> None:
    """By the rate of its last ten calls."""
    here = world()
    play(here, *mixed("a", "b"), *[("c", None)] * 10, ("a", UNAVAILABLE))
    assert states(here)[0] is OPEN


@pytest.mark.parametrize("kind", [FailureKind.TIMEOUT, FailureKind.UNKNOWN, FailureKind.CRASHED])
def test_b287_only_errors_of_servers_are_held_against_peers(kind: FailureKind) -> None:
    """Any other failure is a member's own, be it one among them."""
    here = world()
    play(here, *mixed("a", "b", "c", rounds=4))
    play(here, ("a", kind), *[("a", UNAVAILABLE)] * 5)
    assert states(here)[0] is OPEN


def test_b287_what_is_longer_ago_is_another_time() -> None:
    """The peers have failed, and are well by now; so is what the member does now its own."""
    here = world()
    play(here, *mixed("b", "c", rounds=10))
    here.now += 5.0
    play(here, *[("b", None), ("c", None)] * 6)
    play(here, *[("a", None)] * 3, *[("b", None), ("c", None)] * 6, *[("a", UNAVAILABLE)] * 5)
    assert states(here)[0] is OPEN


# -- the simulation


def answered(seed: int, rate: float) -> float:
    """The share that is answered, without retries, where all of three members fail that share of
    their calls; they could do five times as many.
    """
    fault = Fault(Failing(rate, 0.05), 0.0, 1e9)
    members = tuple(
        MemberSpec(name=name, latency=Constant(0.2), concurrency=20, faults=(fault,))
        for name in "abc"
    )
    scenario = Scenario(
        name="gateway",
        members=members,
        load=Load(rate_per_s=100.0),
        duration_s=60.0,
        seed=seed,
        config=PoolConfig(max_retries=0),
    )
    share = simulate(scenario, "adaptive", seed).answered_share
    assert share is not None
    return share


@pytest.mark.parametrize("seed", range(3))
def test_b287_a_gateway_that_fails_half_of_all_calls_is_used_on(seed: int) -> None:
    """What it answers is half of them, and half of them are answered."""
    assert answered(seed, 0.5) > 0.45


def test_b287_without_the_rule_breakers_take_away_what_still_works(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What it is for: not one in five is answered then."""
    monkeypatch.setattr(OutcomeJudge, "_is_no_outlier", lambda *_: False)
    assert answered(1, 0.5) < 0.2


def test_b287_where_nobody_answers_any_more_they_open() -> None:
    """However well it went until a moment ago: it is an outage."""
    here = world()
    play(here, *mixed("a", "b", "c"))
    here.now += 1.0
    play(here, *[(name, UNAVAILABLE) for _ in range(5) for name in "abc"])
    assert OPEN in states(here)
