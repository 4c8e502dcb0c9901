"""How long a member is left alone, and how it comes back: pure."""

from __future__ import annotations

import random
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenroom.actors.policy.learned_pace import FORGOTTEN_S, LearnedPace
from greenroom.actors.routing.headroom import Bucket
from greenroom.actors.routing.rest_period import RestPeriod
from greenroom.actors.routing.slot import FreeSlots, Slot
from greenroom.messages import CircuitState, FailureKind, MemberRoute, SkipReason
from greenroom.messages.limits import REQUESTS

LIMITED, MISSING, DOWN = FailureKind.RATE_LIMITED, FailureKind.NOT_FOUND, FailureKind.UNAVAILABLE


class Bench:
    """A rest on a clock that the test moves; calls take no time."""

    def __init__(self, seed: int = 1) -> None:
        self.rest = RestPeriod()
        self.now = 100.0
        self.rng = random.Random(seed)

    def fail(
        self,
        kind: FailureKind = LIMITED,
        retry_after_s: float | None = None,
        began: float | None = None,
    ) -> bool:
        began = self.now if began is None else began
        return self.rest.begin(kind, self.now, began, retry_after_s, self.rng)

    def sit_out(self) -> float:
        """Let the rest be over; how long it was."""
        lasts = self.rest.until - self.now
        self.now = self.rest.until
        self.rest.end()
        return lasts


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(
    ("kind", "nominal"),
    [
        (LIMITED, [1, 2, 4, 8, 16, 30, 30, 30]),
        (MISSING, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]),
    ],
)
def test_a_pause_doubles_until_somebody_is_answered(
    seed: int, kind: FailureKind, nominal: list[int]
) -> None:
    """Equal jitter: from half of it to all of it; a success brings it back to the first."""
    bench = Bench(seed)
    for longest in nominal:
        bench.now += 0.01
        assert bench.fail(kind)
        assert longest / 2 <= bench.sit_out() <= longest
    bench.now += 0.01
    bench.rest.answered(bench.now)
    bench.now += 0.01
    assert bench.fail(kind)
    assert 0.5 <= bench.sit_out() <= 1.0


def test_a_retry_after_is_kept_to_the_letter() -> None:
    """Whatever fails with one; it makes no later pause longer."""
    bench = Bench()
    for kind in (LIMITED, DOWN, MISSING):
        assert bench.fail(kind, 7.25)
        assert bench.sit_out() == 7.25
        bench.now += 0.01
    assert bench.rest.pauses == 0


@pytest.mark.parametrize("nonsense", [0.0, -3.0, float("nan"), float("inf")])
def test_a_retry_after_without_sense_is_none(nonsense: float) -> None:
    """A throttled member has a pause of the pool's own then; one that failed otherwise has none."""
    bench = Bench()
    assert not bench.fail(DOWN, nonsense)
    assert bench.fail(LIMITED, nonsense)
    assert 0.5 <= bench.sit_out() <= 1.0


def test_a_failure_without_a_retry_after_asks_for_no_rest() -> None:
    """Its breaker counts it, which is something else."""
    assert not Bench().fail(DOWN)


def test_a_burst_makes_one_rest() -> None:
    """Calls that had begun before the rest did neither prolong it, nor begin another one later."""
    bench = Bench()
    assert bench.fail()
    assert not any(bench.fail() for _ in range(100))
    bench.now += 0.25
    assert not bench.fail(began=100.0)
    assert bench.rest.pauses == 1
    bench.sit_out()
    bench.now += 5.0
    assert not bench.fail(began=100.0)
    assert bench.fail()
    assert bench.rest.pauses == 2


def test_only_a_longer_retry_after_prolongs_a_rest() -> None:
    """And only a noticeable change of its end is news."""
    bench = Bench()
    assert bench.fail(retry_after_s=5.0)
    assert bench.rest.is_news()
    assert not bench.fail(retry_after_s=3.0)
    assert bench.fail(retry_after_s=5.5)
    assert not bench.rest.is_news()
    assert bench.fail(retry_after_s=9.0)
    assert bench.rest.is_news()
    assert not bench.rest.is_news()


def test_who_was_answered_before_the_rest_says_nothing() -> None:
    """A call that had begun before it does not end the row of pauses."""
    bench = Bench()
    for _ in range(3):
        assert bench.fail()
        bench.sit_out()
        bench.now += 0.01
    bench.rest.answered(100.0)
    assert bench.rest.pauses == 3


# -- the slot


def slot(max_concurrency: int = 10, **more: object) -> Slot:
    given_ = {"index": 0, "incarnation": 1, "ref": object(), "max_concurrency": max_concurrency}
    return Slot(MemberRoute("a", **(given_ | more)), FreeSlots())  # type: ignore[arg-type]


def rest(member: Slot, now: float, retry_after_s: float | None = None) -> bool:
    return member.rest_for(LIMITED, now, now, retry_after_s, random.Random(1))


def test_a_resting_member_takes_nothing_and_says_until_when() -> None:
    """And is back when its time has come, not a moment before."""
    member = slot()
    assert rest(member, 100.0, 3.0)
    assert (member.skip_reason(), member.is_free) == (SkipReason.COOLING_DOWN, False)
    assert member.back_at() == 103.0
    assert not member.rested(102.999)
    assert member.rested(103.0)
    assert (member.skip_reason(), member.is_free, member.back_at()) == (None, True, None)


def test_it_comes_back_at_a_pace() -> None:
    """Room for one call, and for one more with every success, up to what it had."""
    member = slot(max_concurrency=4)
    rest(member, 100.0, 1.0)
    member.rested(101.0)
    rooms = []
    for _ in range(5):
        rooms.append(member.limit)
        member.take()
        member.answered(101.0, 0.1)
        member.give_back()
    assert rooms == [1, 2, 3, 4, 4]
    assert not member.recovers


def test_b420_a_pace_that_is_forgotten_lets_nobody_in() -> None:
    """It says nothing any more: what comes back after that is not taken by storm."""
    member, bucket = slot(max_concurrency=4), Bucket(REQUESTS, None, None)
    bucket.pace = LearnedPace(10.0, 100.0, 0.0)
    member.buckets = (bucket,)
    for at, limit in ((101.0, 4), (100.0 + FORGOTTEN_S, 1)):
        rest(member, at, 1.0)
        assert member.is_paced(at) is (limit == 4)
        assert member.rested(at + 1.0)
        assert member.limit == limit


def test_calls_that_run_on_do_not_keep_it_from_coming_back() -> None:
    """There is room for one more than it still works on."""
    member = slot(max_concurrency=10)
    for _ in range(4):
        member.take()
    rest(member, 100.0, 1.0)
    member.rested(101.0)
    assert member.limit == 5
    assert member.skip_reason() is None
    member.take()
    assert member.skip_reason() is SkipReason.SATURATED


def test_the_next_throttling_begins_the_next_rest() -> None:
    """And after it there is room for one again."""
    member = slot(max_concurrency=8)
    rest(member, 100.0, 1.0)
    member.rested(101.0)
    member.take()
    member.answered(101.0, 0.1)
    member.give_back()
    assert member.limit == 2
    assert rest(member, 102.0, 1.0)
    member.rested(103.0)
    assert member.limit == 1


def test_a_reset_by_hand_ends_a_rest() -> None:
    """Everything that it had room for is there again."""
    member = slot(max_concurrency=8)
    rest(member, 100.0, 60.0)
    member.forget_rest()
    assert (member.skip_reason(), member.limit, member.back_at()) == (None, 8, None)


def test_a_breaker_that_is_switched_off_lets_no_member_rest() -> None:
    """It lets everything through, and a rest that there was is over."""
    member = slot()
    rest(member, 100.0, 60.0)
    route = MemberRoute(
        "a", index=0, incarnation=1, ref=cast(Any, object()), circuit=CircuitState.DISABLED, epoch=2
    )
    member.update(route)
    assert member.skip_reason() is None
    assert not rest(member, 101.0, 60.0)


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([LIMITED, MISSING, DOWN, None]),
            st.sampled_from([None, None, 0.5, 2.0, 40.0]),
            st.sampled_from([0.0, 0.1, 1.0, 10.0]),
        ),
        max_size=40,
    ),
    st.integers(1, 20),
)
def test_room_is_never_more_than_it_has_and_never_none(
    steps: list[tuple[FailureKind | None, float | None, float]], most: int
) -> None:
    """Whatever happens: a resting member is not free, one that does not rest takes one call more
    than it works on at least, and its rest is over at the moment it says.
    """
    member, now, rng = slot(most), 100.0, random.Random(1)
    for kind, retry_after_s, seconds in steps:
        if kind is not None:
            member.rest_for(kind, now, now, retry_after_s, rng)
        elif member.is_free:
            member.take()
            if member.recovers:
                member.answered(now, 0.1)
            member.give_back()
        until = member.rest.until
        assert member.is_free is not bool(until)
        assert until == 0.0 or now < until <= now + 300.0
        assert 1 <= member.limit <= most
        now += seconds
        if until and now >= until:
            assert member.rested(now)
            assert member.is_free
