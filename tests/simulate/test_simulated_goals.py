"""What a pool makes of rate limits that nobody has told it, against what could be made of them."""

from __future__ import annotations

import pytest
from helpers_providers import FOR_EVER, KINDS, Outcome, played, provider

from greenroom import Limit

MODELS = sorted(KINDS)


def two(
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    *limits: Limit,
    strategy: str = "adaptive",
    seed: int = 1,
) -> Outcome:
    """Two of five calls a second each, under a load of thirteen, for ten seconds."""
    members = [provider(name, kind, (5, FOR_EVER), concurrency=50, limits=limits) for name in "ab"]
    return played(
        monkeypatch,
        *members,
        rate_per_s=13.0,
        duration_s=10.0,
        deadline_s=3.0,
        strategy=strategy,
        seed=seed,
    )


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("strategy", ["adaptive", "round_robin"])
def test_b329_two_providers_with_an_exact_retry_after_answer_what_is_possible(
    monkeypatch: pytest.MonkeyPatch, kind: str, strategy: str
) -> None:
    """98 of the hundred that two times five a second are in ten seconds; one call in twenty is
    refused, at most.
    """
    for seed in (1, 2, 3):
        outcome = two(monkeypatch, kind, strategy=strategy, seed=seed)
        assert outcome.result.answered >= min(100, outcome.result.arrived) * 0.98
        assert outcome.refused_share <= 0.05


@pytest.mark.parametrize("kind", MODELS)
def test_b330_limits_that_are_set_twice_too_high_cost_next_to_nothing(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Refusals teach the pace below them."""
    outcome = two(monkeypatch, kind, Limit(10, per_s=1))
    assert outcome.result.answered >= 90
    assert outcome.refused_share <= 0.05


@pytest.mark.parametrize("kind", MODELS)
def test_b330_limits_that_are_set_twice_too_low_are_used_up_and_kept(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """What somebody has set is never exceeded: all of it is had, and none is refused."""
    outcome = two(monkeypatch, kind, Limit(5, per_s=2))
    assert outcome.result.answered >= 0.90 * 2 * 2.5 * 13
    assert outcome.refused_share == 0.0
    begun = sorted(at - 0.3 for at in outcome.answered_at)
    assert all(sum(at <= each < at + 2.0 - 1e-6 for each in begun) <= 10 for at in begun)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("per_s", [10, 20])
def test_b331_a_limit_that_nobody_knows_is_followed_when_it_is_halved_and_doubled(
    monkeypatch: pytest.MonkeyPatch, kind: str, per_s: int
) -> None:
    """Of all that is let in 95 % is used, under a load of 130 %; of the calls 2 % are refused, of a
    token bucket one in forty, and ten seconds after a change the new level is there.
    """
    member = provider("a", kind, (per_s, 60.0), (per_s // 2, 90.0), (per_s, FOR_EVER))
    outcome = played(monkeypatch, member, rate_per_s=1.3 * per_s, duration_s=120.0, deadline_s=5.0)
    possible = per_s * 60.0 + per_s // 2 * 30.0 + per_s * 30.0
    assert outcome.result.answered >= 0.95 * possible
    assert outcome.refused_share <= (0.025 if kind == "bucket" else 0.02)
    assert outcome.rate(40.0, 60.0) >= 0.93 * per_s
    assert 0.93 * per_s / 2 <= outcome.rate(70.0, 90.0) <= 1.10 * per_s / 2
    assert outcome.rate(100.0, 120.0) >= 0.88 * per_s
