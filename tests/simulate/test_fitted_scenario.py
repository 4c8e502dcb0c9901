"""A scenario that is like a recording."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers_replay import flight_of, outages

from greenroom.cli import main
from greenroom.flight.flight_lines import FlightError
from greenroom.simulate import Scenario, scenarios_of, simulate
from greenroom.simulate.faults import Failing, Hanging, RateLimit, Slow
from greenroom.simulate.fitted_scenario import fitted
from greenroom.simulate.latency import LogNormal

Capture = pytest.CaptureFixture[str]


def _fitted(scenario: Scenario, strategy: str = "round_robin") -> Scenario:
    flight, _ = flight_of(scenario, strategy)
    (found,) = scenarios_of(fitted(flight), "fitted.toml", "fitted")
    return found


def test_b380_arrivals_and_latencies_are_those_of_the_recording() -> None:
    """The rate, and the distribution of each member in good times."""
    found = _fitted(outages(rate=60.0))
    assert found.load.rate_per_s == pytest.approx(60.0, rel=0.05)
    for member, median_s in zip(found.members, (0.2, 0.22, 0.4), strict=True):
        assert isinstance(member.latency, LogNormal)
        assert member.latency.median_s == pytest.approx(median_s, rel=0.1)
        assert member.latency.sigma == pytest.approx(0.5, rel=0.15)
        assert member.concurrency == 30
    assert [each.cost for each in found.members] == [3, 2, 1]
    assert found.config.request_timeout_s == 3.0


def test_b380_faults_are_found_with_their_time() -> None:
    """What failed, was slow, hung and was throttled, from when until when."""
    faults = {
        (member.name, type(fault.trouble)): fault
        for member in _fitted(outages(rate=60.0)).members
        for fault in member.faults
    }
    for whose, begin, end in (
        (("a", Failing), 20, 35),
        (("b", Slow), 45, 60),
        (("c", Hanging), 65, 75),
    ):
        assert faults[whose].from_s == pytest.approx(begin, abs=2.0)
        assert faults[whose].until_s == pytest.approx(end, abs=4.0)
    # Its first refusals have taught a pace: until when it held cannot be seen.
    assert faults["b", RateLimit].from_s == pytest.approx(80, abs=3.0)
    failing = faults["a", Failing].trouble
    assert isinstance(failing, Failing)
    assert failing.rate == pytest.approx(0.9, abs=0.1)
    slow = faults["b", Slow].trouble
    assert isinstance(slow, Slow)
    assert slow.factor == pytest.approx(3.0, rel=0.2)


def test_b380_a_run_of_it_comes_out_like_the_recorded_one() -> None:
    """As much is answered, and about as soon."""
    scenario = outages(rate=60.0)
    _, before = flight_of(scenario, "round_robin")
    after = simulate(_fitted(scenario).replace(within_s=1.0), "round_robin")
    assert after.goodput == pytest.approx(before.goodput, abs=0.03)
    assert after.p50_s == pytest.approx(before.p50_s, rel=0.1)
    assert after.p95_s == pytest.approx(before.p95_s, rel=0.2)


def test_b380_the_command_prints_it_and_simulates_it(tmp_path: Path, capsys: Capture) -> None:
    """What is printed is a scenario file."""
    path = tmp_path / "flight.jsonl"
    with path.open("w") as file:
        simulate(outages(), "adaptive", record=lambda line: file.write(line + "\n"))
    assert main(["simulate", "--from", str(path), "--print"]) == 0
    text = capsys.readouterr().out
    assert scenarios_of(text, "x", "x")[0].strategies == ("adaptive",)
    assert main(["simulate", "--from", str(path), "--strategy", "cheapest"]) == 0
    assert "cheapest" in capsys.readouterr().out
    assert main(["simulate"]) == 2
    assert "exactly one of SCENARIO and --from must be given" in capsys.readouterr().err
    assert main(["simulate", "--from", str(tmp_path / "none.jsonl")]) == 2
    assert "cannot use" in capsys.readouterr().err


def test_too_little_is_refused() -> None:
    """With the number that is there."""
    flight, _ = flight_of(outages(seconds=0.1), "adaptive")
    with pytest.raises(FlightError, match="too little was recorded for a scenario"):
        fitted(flight)
