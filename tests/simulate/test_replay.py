"""A recording played again: as it was it comes out as it was, and otherwise as it would have."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers_replay import flight_of, outages

from greenroom import AgentPool, FailureKind, Member, PoolConfig
from greenroom.cli import main
from greenroom.flight.draws import RecordedDraws
from greenroom.flight.flight_file import lines_of
from greenroom.flight.flight_lines import FlightError, Header, MemberFacts, MembersLine, StateLine
from greenroom.flight.line_text import written
from greenroom.messages.status import CircuitState
from greenroom.messages.supervision import FailuresSeen, MemberRoute, RoutingSnapshot
from greenroom.simulate import simulate
from greenroom.simulate.agenda import Agenda
from greenroom.simulate.recorded_flight import (
    Arrival,
    CallEnd,
    Likely,
    RecordedCall,
    RecordedFlight,
    recorded,
)
from greenroom.simulate.recorded_post import RecordedPost
from greenroom.simulate.replay import Changes, Replay, replay
from greenroom.simulate.replayed_draws import ReplayedDraws

Capture = pytest.CaptureFixture[str]
STRATEGIES = (
    "adaptive",
    "cheapest",
    "failover",
    "least_errors",
    "least_latency",
    "least_outstanding",
    "power_of_two",
    "priority",
    "random",
    "round_robin",
    "weighted",
)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("pool", ["", 'hedge_after_s = "p95"\ncircuit_failure_threshold = 3'])
def test_b376_with_nothing_changed_it_comes_out_as_it_was(strategy: str, pool: str) -> None:
    """Every pick, every transition of a breaker at its very time, every figure."""
    flight, result = flight_of(outages(rate=20.0, pool=pool), strategy)
    again = replay(flight, within_s=1.0)
    assert again.same_picks == again.picks == sum(result.calls.values())
    assert again.guessed == 0
    assert again.would_have == again.happened
    assert again.happened.goodput == result.goodput
    assert again.happened.p99_s == result.p99_s


def test_b376_keys_go_to_the_members_that_they_went_to() -> None:
    """Others stand for them, since they are recorded as hashes."""
    scenario = outages(rate=20.0)
    load = dataclasses.replace(scenario.load, keys=200)
    flight, _ = flight_of(scenario.replace(load=load), "consistent_hash")
    assert len({each.facts["key"] for each in flight.arrivals if each.facts}) == 200
    again = replay(flight)
    assert again.same_picks >= 0.99 * again.picks


def test_b376_breakers_that_opened_open_again() -> None:
    """There were some: else the test above would say nothing of them."""
    flight, _ = flight_of(outages(), "round_robin")
    again = replay(flight)
    opened = [each.member for each in again.would_have.transitions if each.circuit == "open"]
    assert {"a", "c"} <= set(opened)


@pytest.mark.parametrize(
    ("recorded_with", "other"),
    [
        ("adaptive", "round_robin"),
        ("adaptive", "power_of_two"),
        ("round_robin", "adaptive"),
    ],
)
def test_b377_another_strategy_is_foretold(recorded_with: str, other: str) -> None:
    """Goodput to three points and the 99th percentile to a tenth of what a run with it gives, under
    the same faults. (Not of a throttled member: what it lets through depends on who asks it.)
    """
    scenario = outages(seconds=300.0, throttled=False)
    flight, _ = flight_of(scenario, recorded_with)
    foretold = replay(flight, Changes(strategy=other), within_s=1.0)
    live = simulate(scenario, other)
    assert foretold.guessed > 0.3 * sum(live.calls.values())
    assert foretold.would_have.goodput == pytest.approx(live.goodput, abs=0.03)
    assert foretold.would_have.p99_s == pytest.approx(live.p99_s, rel=0.10)


def test_b378_it_says_how_much_of_it_is_a_guess() -> None:
    """A call that was not made ends as one of its member did just then."""
    flight, _ = flight_of(outages(), "round_robin")
    again = replay(flight, Changes(without=["b"]))
    assert again.would_have.calls["a"] + again.would_have.calls["c"] > 0
    assert "b" not in again.would_have.calls
    assert 0.2 < again.guessed / sum(again.would_have.calls.values()) < 0.6
    assert again.same_picks < again.picks


def test_b378_other_settings_hold() -> None:
    """A breaker that opens sooner opens oftener."""
    flight, _ = flight_of(outages(), "round_robin")

    def opened(outcome: Replay) -> int:
        return sum(each.circuit == "open" for each in outcome.would_have.transitions)

    sooner = replay(flight, Changes(settings={"circuit_failure_threshold": 1}))
    assert opened(sooner) > opened(replay(flight))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (Changes(without=["z"]), "members must be among a, b, c, got 'z'"),
        (Changes(without=["a", "b", "c"]), "somebody must be left"),
        (Changes(strategy="best"), "strategy must be one of"),
        (Changes(settings={"max_retries": -1}), "max_retries must be at least 0, got -1"),
    ],
)
def test_b378_what_cannot_be_is_refused(changes: Changes, said: str) -> None:
    """With its name."""
    flight, _ = flight_of(outages(seconds=2.0), "adaptive")
    with pytest.raises(ValueError, match=said):
        replay(flight, changes)


def test_b379_the_command_prints_both(tmp_path: Path, capsys: Capture) -> None:
    """As tables with a plot, and as JSON."""
    path = tmp_path / "flight.jsonl"
    with path.open("w") as file:
        simulate(outages(), "adaptive", record=lambda line: file.write(line + "\n"))
    assert main(["replay", str(path), "--within", "1"]) == 0
    said = capsys.readouterr().out
    starts = ("happened", "replayed")
    happened, replayed = (
        line for line in said.splitlines() if line.startswith(starts) and "%" in line
    )
    assert happened.split()[1:] == replayed.split()[1:]
    assert "calls went where they went. No call is a guess." in said
    assert "▁" in said or "█" in said
    argv = ["replay", str(path), "--set", "strategy=round_robin", "--set", "max_retries=1"]
    assert main([*argv, "--members-without", "b", "--json"]) == 0
    outcome = json.loads(capsys.readouterr().out)
    assert outcome["strategy"] == ["adaptive", "round_robin"]
    assert set(outcome["would_have"]["calls"]) == {"a", "c"}
    assert outcome["happened"]["goodput"] == 1.0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--set", "strategy"], "--set must be NAME=VALUE, got 'strategy'"),
        (["--set", "colour=red"], "--set: 'colour' is neither strategy nor a setting of a pool"),
        (["--set", "max_retries=many"], "max_retries must be a whole number, got 'many'"),
        (["--members-without", "z"], "members must be among a, b, c, got 'z'"),
    ],
)
def test_b379_the_command_refuses_what_is_wrong(
    tmp_path: Path, capsys: Capture, options: list[str], said: str
) -> None:
    """Exit code 2, and which field."""
    path = tmp_path / "flight.jsonl"
    with path.open("w") as file:
        simulate(outages(seconds=2.0), "adaptive", record=lambda line: file.write(line + "\n"))
    assert main(["replay", str(path), *options]) == 2
    assert said in capsys.readouterr().err


def test_what_is_no_recording_cannot_be_played(tmp_path: Path, capsys: Capture) -> None:
    """With its line."""
    with pytest.raises(FlightError, match="line 1: not a recording"):
        recorded(['{"request":"r"}'])
    with pytest.raises(FlightError, match="nobody in the pool"):
        recorded(['{"flight":1,"pool":"p","at":0,"wall":0,"strategy":"adaptive"}'])
    assert main(["replay", str(tmp_path / "none.jsonl")]) == 2
    assert "cannot read" in capsys.readouterr().err


def test_draws_are_those_of_another_generator_and_are_said_again() -> None:
    """A pool that is recorded picks as it would without; a replay has the same draws."""
    plain, noted = random.Random(3), RecordedDraws(random.Random(3))

    def some(rng: random.Random) -> list[object]:
        return [rng.random(), rng.choice("abc"), rng.uniform(1, 2), rng.sample(range(9), 3)]

    assert some(plain) == some(noted)
    again = ReplayedDraws(99)
    again.about(list(reversed(noted.taken())))
    assert some(again) == some(random.Random(3))
    assert again.random() == random.Random(99).random()  # nothing is left: its own


def test_a_call_that_was_left_behind_would_have_taken_longer() -> None:
    """As one of those that did, about that time; of nobody else half as long again."""
    calls = [RecordedCall(0, float(n), 0, CallEnd(float(n))) for n in range(10)]
    left = RecordedCall(0, 5.0, 0, None, left_s=7.5)
    likely = Likely(iter([*calls, left]), random.Random(1))
    assert {likely.longer_than(left).seconds for _ in range(50)} == {8.0, 9.0}
    assert likely.longer_than(left._replace(left_s=20.0)) == CallEnd(30.0)
    assert likely.end_of(1, 0.0) is None


def test_b376_so_it_is_with_the_recording_of_a_pool(tmp_path: Path) -> None:
    """With threads, a clock that goes, and a supervisor that hears of failures a little later."""
    path = tmp_path / "flight.jsonl.gz"
    calls = itertools.count()

    def flaky(payload: object) -> object:
        if 20 <= next(calls) < 40:
            raise ConnectionError("no route")
        return payload

    members = [Member("flaky", flaky), Member("well", str, priority=1)]
    config = PoolConfig(circuit_failure_threshold=3, circuit_reset_timeout_s=0.01)
    with AgentPool.start(members, strategy="priority", config=config, record=path) as pool:
        for number in range(300):
            pool.execute(number)
    again = replay(recorded(lines_of(path)))
    assert again.happened.arrived == 300
    assert again.same_picks >= 0.999 * again.picks
    opened = [(each.member, each.circuit) for each in again.happened.transitions]
    assert ("flaky", "open") in opened
    assert [(each.member, each.circuit) for each in again.would_have.transitions] == opened


def test_what_was_heard_later_is_heard_later_again() -> None:
    """Tables, judgements and timers, as late as in the recording and in order; of what is not in
    it, at once.
    """
    flight = RecordedFlight(Header(pool="p", at=0.0, wall=0.0, strategy="adaptive"))
    members = (MemberFacts(index=0, name="a"),)
    flight.add(written(MembersLine(number=1, at=0.0, members=members)))
    flight.judged["a", 1, 1] = 0.1
    flight.states.append(StateLine(member=0, at=0.2, circuit="open"))
    call = RecordedCall(0, 1.0, 0, CallEnd(math.inf, FailureKind.TIMEOUT, cut_s=30.05))
    flight.arrivals.append(Arrival(0.3, 1, None, (call,), None, "", (), ((5.0, 5.01),)))
    agenda = Agenda()
    post = RecordedPost(flight, agenda)
    told: list[tuple[str, float]] = []

    def hear(name: str) -> Callable[[object], None]:
        return lambda _: told.append((name, agenda.now))

    open_ = MemberRoute("a", index=0, incarnation=1, ref=None, circuit=CircuitState.OPEN)
    seen = FailuresSeen(member="a", incarnation=1, count=1)
    post.to_router(hear("seen"), seen)
    post.to_router(hear("open"), RoutingSnapshot(1, (open_,)))
    post.to_router(hear("again"), RoutingSnapshot(2, (open_,)))
    post.to_supervisor(hear("other"), FailuresSeen(member="b", incarnation=1, count=1))
    agenda.run()
    assert told == [("other", 0.0), ("seen", 0.1), ("open", 0.2), ("again", 0.2)]
    closed = MemberRoute("a", index=0, incarnation=1, ref=None)
    post.to_router(hear("closed"), RoutingSnapshot(3, (closed,)))
    agenda.run()
    assert told[-1] == ("closed", 0.55)  # behind all that is known to have happened
    assert [post.rings_at(when) for when in (5.0, 31.0, 6.0)] == [5.01, 31.05, 6.0]
