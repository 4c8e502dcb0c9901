"""Rate limits in the simulation: what the pool knows of members whose providers count."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest
from helpers_messages import refused

from greenroom import Limit, PoolConfig
from greenroom.actors.request.job import Job
from greenroom.messages.execution import Execute
from greenroom.simulate import Load, MemberSpec, Result, Scenario, run, scenarios_of, simulate
from greenroom.simulate.faults import Fault, RateLimit
from greenroom.simulate.latency import Constant
from greenroom.simulate.scenario_file import ScenarioError
from greenroom.simulate.tally import Tally

STRATEGIES = ("adaptive", "round_robin", "failover", "consistent_hash")
FIVE = Limit(5, per_s=1)


def provider(name: str, *limits: Limit, **more: Any) -> MemberSpec:
    """One that lets five calls a second through, with an exact Retry-After."""
    counts = Fault(RateLimit(5.0, 5, retry_after_s=1.0), 0.0, 1e9)
    latency = Constant(0.3)
    return MemberSpec(
        name=name, latency=latency, concurrency=50, limits=limits, faults=(counts,), **more
    )


def ten_seconds(strategy: str, *limits: Limit) -> Result:
    """Two of them under a load of 13 a second, each of which is of use for three seconds."""
    scenario = Scenario(
        name="two providers",
        members=(provider("a", *limits), provider("b", *limits)),
        load=Load(rate_per_s=13.0),
        duration_s=10.0,
        config=PoolConfig(deadline_s=3.0),
    )
    return simulate(scenario, strategy)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_two_providers_whose_limits_are_known_refuse_nothing(strategy: str) -> None:
    """Behaviour 308: each call of a limited member is answered, and nearly all that is possible is
    called: five a second of each, for ten seconds and the three that the last ones wait.
    """
    known = ten_seconds(strategy, FIVE)
    assert sum(known.calls.values()) == known.answered
    assert known.answered >= min(known.arrived, 2 * 5 * 10) * 0.98
    assert sum(ten_seconds(strategy).calls.values()) > ten_seconds(strategy).answered


class Watched(Tally):
    """Notes when each call begins, by its member, and what it costs."""

    begun: dict[str, list[tuple[float, int]]]

    def called(self, job: Job, message: Execute, member: str) -> None:
        super().called(job, message, member)
        cost = (message.work.cost or {}).get("tokens", 0)
        self.begun[member].append((self._agenda.now, int(cost)))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_costs_of_a_simulation_never_go_over_a_limit(
    strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behaviour 308: by the deciders of a pool; what was not taken lets more in."""
    monkeypatch.setattr(run, "Tally", Watched)

    def calls(spent: tuple[float, float] | None) -> int:
        Watched.begun = defaultdict(list)
        tokens = (Limit(30_000, per_s=10, cost="tokens"), Limit(60, per_s=10))
        scenario = Scenario(
            name="tokens",
            members=tuple(
                MemberSpec(name=name, latency=Constant(0.5), concurrency=20, limits=tokens)
                for name in "ab"
            ),
            load=Load(rate_per_s=20.0, cost={"tokens": (1, 20_000)}, spent=spent),
            duration_s=60.0,
            config=PoolConfig(deadline_s=30.0),
        )
        simulate(scenario, strategy)
        assert set(Watched.begun) == {"a", "b"}
        return sum(map(len, Watched.begun.values()))

    whole = calls(None)
    for begun in Watched.begun.values():
        for start, _ in begun:
            window = [cost for at, cost in begun if start <= at < start + 10]
            assert sum(window) <= 30_000
            assert len(window) <= 60
    assert calls((0.2, 0.4)) > 1.5 * whole


FILE = """
duration_s = 10
[load]
rate_per_s = 5
cost = { tokens = [1, 2000] }
spent = [0.5, 1.0]
[[members]]
name = "a"
latency = { kind = "constant", mean_s = 1.0 }
limits = [{ amount = 60, per_s = 60 }, { amount = 900, per_s = 60, cost = "tokens", group = "k" }]
"""


def test_a_scenario_file_has_limits_and_costs() -> None:
    """Behaviour 308: as a pool's file has them."""
    (scenario,) = scenarios_of(FILE, "file", "name")
    assert scenario.load.cost == {"tokens": (1, 2000)}
    assert scenario.load.spent == (0.5, 1.0)
    assert scenario.members[0].limits == (
        Limit(60, per_s=60),
        Limit(900, per_s=60, cost="tokens", group="k"),
    )


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("amount = 60,", "amount = 0,", "members[0].limits[0].amount must be at least 1, got 0"),
        ("amount = 60,", "", "members[0].limits[0].amount must be given"),
        ("[1, 2000]", "[1]", "load.cost of tokens must be the least and the most, got [1] (list)"),
        ("[1, 2000]", "[9, 2]", "load.cost of tokens must be at least 9, got 2"),
        ("[0.5, 1.0]", "[-1, 1.0]", "load.spent must be at least 0, got -1"),
        ("[0.5, 1.0]", "3", "load.spent must be the least and the most, got 3 (int)"),
    ],
)
def test_wrong_limits_and_costs_of_a_scenario_are_told_where_they_stand(
    old: str, new: str, said: str
) -> None:
    """Behaviour 308: with file, line, field, value and rule."""
    with pytest.raises(ScenarioError) as caught:
        scenarios_of(FILE.replace(old, new), "file", "name")
    assert str(caught.value).endswith(said)
    assert str(caught.value).startswith("file:")


def test_costs_given_by_code_are_checked_too() -> None:
    """Behaviour 308."""
    load: Any = Load
    assert refused(lambda: load(rate_per_s=1.0, cost=7)) == (
        "TypeError: cost must be a mapping, got 7 (int)"
    )
