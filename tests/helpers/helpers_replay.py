"""Recordings of made-up outages, for what plays them again."""

from __future__ import annotations

from greenroom.simulate import Result, Scenario, scenarios_of, simulate
from greenroom.simulate.recorded_flight import RecordedFlight, recorded

OUTAGES = """
duration_s = {seconds}
within_s = 1.0
seed = 7
strategies = ["adaptive"]

[load]
rate_per_s = {rate}

[pool]
request_timeout_s = 3.0
{pool}

[[members]]
name = "a"
latency = {{ kind = "lognormal", median_s = 0.2, sigma = 0.5 }}
concurrency = 30
cost = 3

[[members]]
name = "b"
latency = {{ kind = "lognormal", median_s = 0.22, sigma = 0.5 }}
concurrency = 30
cost = 2

[[members]]
name = "c"
latency = {{ kind = "lognormal", median_s = 0.4, sigma = 0.5 }}
concurrency = 30
cost = 1
priority = 1

[[faults]]
member = "a"
kind = "fail"
rate = 0.9
from_s = 20
until_s = 35

[[faults]]
member = "b"
kind = "slow"
factor = 3
from_s = 45
until_s = 60

[[faults]]
member = "c"
kind = "hang"
rate = 0.3
from_s = 65
until_s = 75
{throttled}"""
"""Three members, of which one after the other fails, is slow, hangs."""

THROTTLED = """
[[faults]]
member = "b"
kind = "rate_limit"
per_s = 5
retry_after_s = 2
from_s = 80
until_s = 90
"""
"""And is throttled."""


def outages(
    seconds: float = 100.0, rate: float = 40.0, pool: str = "", throttled: bool = True
) -> Scenario:
    text = OUTAGES.format(
        seconds=seconds, rate=rate, pool=pool, throttled=THROTTLED if throttled else ""
    )
    (scenario,) = scenarios_of(text, "outages.toml", "outages")
    return scenario


def flight_of(scenario: Scenario, strategy: str) -> tuple[RecordedFlight, Result]:
    """What a run has recorded, and what came out of it."""
    lines: list[str] = []
    result = simulate(scenario, strategy, record=lines.append)
    return recorded(lines), result
