"""Short deadlines under more load than there is room for: who is served is in time."""

from __future__ import annotations

import pytest

from greenroom import Limit, PoolConfig
from greenroom.actors.policy import in_time
from greenroom.actors.request.choice import Choice
from greenroom.simulate import Load, MemberSpec, Result, Scenario, simulate
from greenroom.simulate.latency import Constant, Latency, LogNormal


def known_limits(latency: Latency) -> Result:
    """Two of five calls a second, whose limits are known, under thirteen of use for 3 s each."""
    members = tuple(
        MemberSpec(name=name, latency=latency, concurrency=50, limits=(Limit(5, per_s=1),))
        for name in "ab"
    )
    return simulate(
        Scenario(
            name="deadlines",
            members=members,
            load=Load(rate_per_s=13.0),
            duration_s=100.0,
            config=PoolConfig(deadline_s=3.0),
        ),
        "adaptive",
    )


def crowd(sigma: float) -> Result:
    """Ten of two calls at a time, a second each, under 130 % of that, of use for 5 s each."""
    latency = LogNormal.of_mean(1.0, sigma)
    members = tuple(
        MemberSpec(name=f"m-{number}", latency=latency, concurrency=2) for number in range(10)
    )
    return simulate(
        Scenario(
            name="crowd",
            members=members,
            load=Load(rate_per_s=26.0),
            duration_s=100.0,
            config=PoolConfig(deadline_s=5.0),
        ),
        "adaptive",
    )


def test_b328_a_place_is_not_taken_by_who_cannot_be_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of 1,291 requests 355 were answered, as everybody who was served had waited for as long as he
    could; and calls were made for the others, too. Now each call answers one.
    """
    result = known_limits(Constant(0.3))
    assert result.answered >= 1000
    assert sum(result.calls.values()) == result.answered
    monkeypatch.setattr(Choice, "gives_way", lambda *_: False)
    assert known_limits(Constant(0.3)).answered < 400


@pytest.mark.parametrize("sigma", [0.5, 1.0])
def test_b328_three_of_four_is_the_share_that_loses_nowhere(
    monkeypatch: pytest.MonkeyPatch, sigma: float
) -> None:
    """A quick call in ten is too little to go by; with nine in ten many are let go who would have
    been in time, where lengths vary much.
    """

    def answered(share: float) -> tuple[int, int]:
        monkeypatch.setattr(in_time, "SHARE", share)
        return known_limits(LogNormal.of_mean(0.5, sigma)).answered, crowd(sigma).answered

    usual, few = answered(in_time.SHARE), answered(0.1)
    monkeypatch.setattr(Choice, "gives_way", lambda *_: False)
    never = answered(0.75)
    assert usual[0] > 1.5 * few[0] > 1.5 * never[0]
    assert usual[1] >= 0.99 * max(few[1], never[1])
