"""Tags, costs and what a request asks for, in the simulation."""

from __future__ import annotations

from typing import Any

import pytest

from greenroom import PoolConfig
from greenroom.simulate import Load, MemberSpec, Scenario, simulate
from greenroom.simulate.latency import Constant
from greenroom.simulate.scenario_file import ScenarioError, scenarios_of

FILE = """
duration_s = 100
strategies = ["cheapest", "adaptive", "round_robin"]
[load]
utilisation = 0.3
only = "eu"
exclude = ["c"]
[[members]]
name = "a"
tags = ["eu", "large"]
cost = 3.0
concurrency = 2
latency = { kind = "constant", mean_s = 1.0 }
[[members]]
name = "b"
tags = "eu"
cost = 1
concurrency = 2
latency = { kind = "constant", mean_s = 1.0 }
[[members]]
name = "c"
tags = "eu"
latency = { kind = "constant", mean_s = 1.0 }
[[members]]
name = "d"
latency = { kind = "constant", mean_s = 1.0 }
"""


def test_a_scenario_has_tags_costs_and_what_requests_ask_for() -> None:
    """Nobody else is called, and `cheapest` calls the dear one only when the cheap one is full."""
    (scenario,) = scenarios_of(FILE, "eu.toml", "eu")
    for strategy in scenario.strategies:
        result = simulate(scenario, strategy)
        assert (result.calls["c"], result.calls["d"]) == (0, 0)
        assert result.answered == result.arrived
    calls = simulate(scenario, "cheapest").calls
    assert calls["b"] > calls["a"] > 0


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('tags = "eu"', "tags = 3", "tags must be a name, or several, got 3"),
        ("cost = 1\n", "cost = -1\n", "cost must be at least 0, got -1"),
        ('only = "eu"', "only = []", "only must name somebody, got nobody"),
    ],
)
def test_what_is_wrong_in_a_scenario_is_told_with_its_place(old: str, new: str, words: str) -> None:
    """By the field."""
    with pytest.raises(ScenarioError, match=words):
        scenarios_of(FILE.replace(old, new, 1), "eu.toml", "eu")


def spec(name: str, mean_s: float, **more: Any) -> MemberSpec:
    return MemberSpec(name=name, latency=Constant(mean_s), **more)


def test_deadlines_are_kept_by_passing_by_who_is_too_slow() -> None:
    """A cheap member that never answers in time is asked ten times, and again when a minute has
    passed: not for every request.
    """
    members = (spec("cheap", 2.0, concurrency=10), spec("fast", 0.2, cost=1.0, concurrency=10))
    scenario = Scenario(
        name="slow",
        members=members,
        load=Load(rate_per_s=1.0),
        duration_s=300.0,
        # Without its breaker, which would see to it as well.
        config=PoolConfig(
            deadline_s=1.9,
            circuit_failure_threshold=1_000_000,
            circuit_window=20,
            circuit_failure_rate=1.0,
            circuit_min_calls=20,
        ),
    )
    result = simulate(scenario, "cheapest")
    assert result.calls["cheap"] <= 6 * 12
    assert result.answered >= result.arrived - result.calls["cheap"]
    in_time = simulate(scenario.replace(config=PoolConfig(deadline_s=2.5)), "cheapest")
    assert (in_time.calls["fast"], in_time.answered) == (0, in_time.arrived)
