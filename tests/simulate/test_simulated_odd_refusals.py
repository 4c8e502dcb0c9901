"""Refusals that are none of the pace: a member that is well, and is refused now and then."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from greenroom import FailureKind, Limit, PoolConfig
from greenroom.actors.routing.headroom import Headroom
from greenroom.simulate import Load, MemberSpec, Result, Scenario, simulate
from greenroom.simulate.faults import Effect, Ending, Fault, RateLimit
from greenroom.simulate.latency import LogNormal


@dataclass(frozen=True)
class Refused:
    """One in so many calls, at random or the first of them alone, is answered with a 429."""

    one_in: int
    once: bool = False
    retry_after_s: float | None = None

    def effect(self, rng: random.Random) -> Effect:
        refusal = Ending(0.05, FailureKind.RATE_LIMITED, self.retry_after_s)
        number = 0

        def refused(ending: Ending, now: float) -> Ending:
            nonlocal number
            number += 1
            odd = number == self.one_in if self.once else rng.random() * self.one_in < 1.0
            return refusal if odd else ending

        return refused


def played(trouble: Refused, members: int, rate_per_s: float, duration_s: float) -> Result:
    names = [f"m-{number}" for number in range(members)]
    specs = tuple(
        MemberSpec(
            name=name,
            latency=LogNormal.of_mean(0.2, 0.4),
            concurrency=200,
            faults=(Fault(trouble, 0.0, 1e6),),
        )
        for name in names
    )
    scenario = Scenario(
        name="odd",
        members=specs,
        load=Load(rate_per_s=rate_per_s),
        duration_s=duration_s,
        config=PoolConfig(deadline_s=3.0),
    )
    return simulate(scenario, "adaptive")


@pytest.mark.parametrize(
    ("trouble", "members", "rate_per_s", "duration_s"),
    [
        (Refused(3000, once=True, retry_after_s=1.0), 1, 300.0, 40.0),
        (Refused(400, once=True, retry_after_s=1.0), 1, 20.0, 60.0),
        (Refused(100), 1, 3.0, 300.0),
        (Refused(100), 2, 40.0, 100.0),
        (Refused(3), 2, 5.0, 200.0),
    ],
)
def test_b414_odd_refusals_do_not_slow_a_member_down(
    monkeypatch: pytest.MonkeyPatch,
    trouble: Refused,
    members: int,
    rate_per_s: float,
    duration_s: float,
) -> None:
    """Seven of eight requests are answered that would be without a pace."""
    result = played(trouble, members, rate_per_s, duration_s)
    monkeypatch.setattr(Headroom, "refused", lambda *_: None)
    assert result.answered >= 0.875 * played(trouble, members, rate_per_s, duration_s).answered


@dataclass(frozen=True)
class OneKey:
    """The members of one key are refused together."""

    of: RateLimit
    made: list[Effect] = field(default_factory=list)

    def effect(self, rng: random.Random) -> Effect:
        if not self.made:
            self.made.append(self.of.effect(rng))
        return self.made[0]


def test_b414_members_of_one_key_have_one_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is guessed at first is what all of them were let in together, and not what the one was
    that was refused.
    """
    guesses: list[float] = []
    refused = Headroom.refused

    def noted(self: Headroom, slot, began, now, retry_after_s) -> None:  # type: ignore[no-untyped-def]
        refused(self, slot, began, now, retry_after_s)
        guesses.extend(each.pace.per_s for each in slot.buckets if each.pace is not None)

    monkeypatch.setattr(Headroom, "refused", noted)
    key = OneKey(RateLimit(15.0, window_s=1.0, retry_after_s="exact"))
    specs = tuple(
        MemberSpec(
            name=name,
            latency=LogNormal.of_mean(0.2, 0.4),
            concurrency=50,
            limits=(Limit(100, per_s=1, group="key"),),
            faults=(Fault(key, 0.0, 1e6),),
        )
        for name in "abc"
    )
    scenario = Scenario(
        name="one key",
        members=specs,
        load=Load(rate_per_s=20.0),
        duration_s=5.0,
        config=PoolConfig(deadline_s=3.0),
    )
    simulate(scenario, "round_robin")
    assert guesses[0] >= 10.0
