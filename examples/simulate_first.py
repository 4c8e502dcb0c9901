"""Before you deploy: which strategy serves your members, your load and your faults best?

    python examples/simulate_first.py

Nothing waits: twenty minutes take a second, and the same seed gives the same figures.
`python -m greenroom simulate FILE` does the same with a file.
"""

from __future__ import annotations

from greenroom import AgentPool, LoadBalanceStrategy, Member
from greenroom.simulate import Result, Scenario, scenarios_of, simulate

# Put your own figures here: docs/choosing-a-strategy.md has all keys.
SCENARIO = """
duration_s = 1200
within_s = 10                  # later than that, nobody waits any more
seed = 1

[load]
rate_per_s = 1.5

[[members]]
name = "cloud"
latency = { kind = "lognormal", mean_s = 2, sigma = 0.7 }
concurrency = 4

[[members]]
name = "region"
latency = { kind = "lognormal", mean_s = 3, sigma = 0.7 }
concurrency = 4

[[members]]
name = "local"
latency = { kind = "constant", mean_s = 4 }
concurrency = 2
priority = 1

[pool]
request_timeout_s = 10

[[faults]]                     # for five minutes, cloud takes eight times as long
member = "cloud"
kind = "slow"
factor = 8
from_s = 300
until_s = 600
"""
STRATEGIES = ("adaptive", "round_robin", "least_outstanding", "priority", "failover")


def compare(scenario: Scenario) -> list[Result]:
    """The strategies, the best first: by what comes in time, then by how soon."""
    results = [simulate(scenario, strategy) for strategy in STRATEGIES]
    return sorted(results, key=lambda each: (-(each.goodput or 0), each.mean_s or 0))


def main() -> None:
    (scenario,) = scenarios_of(SCENARIO, "SCENARIO", "mine")
    ranking = compare(scenario)
    for each in ranking:
        print(
            f"{each.strategy:<18} {each.goodput or 0:7.2%} within {scenario.within_s:g} s,"
            f" mean {each.mean_s or 0:.2f} s, p99 {each.p99_s or 0:.2f} s"
        )
    best = ranking[0].strategy

    # And so it is deployed: with the agents behind the same names.
    members = [Member(each.name, str.upper, priority=each.priority) for each in scenario.members]
    with AgentPool.start(members, strategy=LoadBalanceStrategy(best), name="mine") as pool:
        print(pool.execute("deployed"), "with", pool.stats().strategy)


if __name__ == "__main__":
    main()
