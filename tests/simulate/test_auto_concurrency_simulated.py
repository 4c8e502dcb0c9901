"""Members whose number of calls at a time is found out, in the simulation."""

from __future__ import annotations

from typing import Literal

import pytest

from greenroom import PoolConfig
from greenroom.simulate import Load, MemberSpec, Scenario, scenarios_of, simulate
from greenroom.simulate.latency import LogNormal
from greenroom.simulate.scenario_file import ScenarioError

FILE = """
duration_s = 20

[load]
rate_per_s = 30

[[members]]
name = "a"
latency = { kind = "constant", mean_s = 0.1 }
concurrency = "auto"
servers = 4
"""


def crowd(concurrency: int | Literal["auto"]) -> Scenario:
    """Eight servers behind a member, and half as much again as they can do."""
    latency = LogNormal.of_mean(1.0, 0.5)
    member = MemberSpec(name="a", latency=latency, concurrency=concurrency, servers=8)
    return Scenario(
        name="crowd",
        members=(member,),
        load=Load(rate_per_s=12.0),
        duration_s=300.0,
        config=PoolConfig(max_pending=20, request_timeout_s=300.0, deadline_s=400.0),
    )


def test_b326_it_does_nearly_what_a_known_number_does() -> None:
    """Of more than that can be done; and answers do not wait long at the member."""
    known, learned = (simulate(crowd(each), "round_robin") for each in (8, "auto"))
    assert learned.answered >= 0.95 * known.answered


def test_b326_a_file_of_a_simulation_says_it() -> None:
    """With the number of servers, since nothing else says how much it can do."""
    (scenario,) = scenarios_of(FILE, "auto.toml", "auto")
    assert scenario.members[0].concurrency == "auto"
    assert scenario.members[0].capacity_per_s == 40.0
    assert simulate(scenario, "round_robin").answered > 0
    for old, new, said in [
        ("servers = 4", "", "servers must be given with concurrency 'auto', got None"),
        ('"auto"', '"much"', "concurrency must be a whole number or 'auto', got 'much'"),
    ]:
        with pytest.raises(ScenarioError, match=said):
            scenarios_of(FILE.replace(old, new), "auto.toml", "auto")
