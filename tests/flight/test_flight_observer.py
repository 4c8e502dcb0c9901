"""What is noted of requests as they go their way."""

from __future__ import annotations

import pytest
from helpers_flight import FlightWorld

from greenroom import AgentPool, Member
from greenroom.flight import flight_observer
from greenroom.flight.flight_lines import End, MembersLine, RestLine, StateLine
from greenroom.flight.flight_recorder import FlightRecorder
from greenroom.flight.flight_steps import (
    Failed,
    FirstChunk,
    Given,
    Left,
    Queued,
    Released,
    Resumes,
    Succeeded,
)
from greenroom.messages.status import CancelReason, CircuitState, FailureKind, SkipReason


def test_a_request_that_goes_well_is_one_line_with_two_steps() -> None:
    """Who it was given to, what each had to do, and how long it took."""
    world = FlightWorld("a", "b")
    world.ask("r")
    world.pass_(2.0)
    world.succeed(world.call("a"), after_s=2.0)
    line = world.request("r")
    assert (line.number, line.at, line.facts) == (1, 100.0, {})
    assert line.steps == (Given(1, 0, 100.0, loads=(1, 0)), Succeeded(1, 2.0), Released(1, 102.0))
    assert line.end == End(102.0, "answered", 0)
    assert [each[0] for each in world.put if isinstance(each, list | tuple)] == ["r"]


def test_a_failover_says_how_it_failed_but_not_with_what_words() -> None:
    """The class of an error is noted; its text may have a part of the payload."""
    world = FlightWorld("a", "b")
    world.ask("r")
    world.fail(world.call("a"), FailureKind.TIMEOUT)
    world.succeed(world.call("b"))
    steps = world.request("r").steps
    assert [type(each) for each in steps[:2]] == [Given, Failed]
    assert steps[1] == Failed(1, 100.0, "timeout", 0.0, "ConnectionError", None, 1)
    given = steps[2]
    assert isinstance(given, Given)
    assert (given.number, given.member, given.loads) == (2, 1, (0, 1))
    assert "is down" not in repr(world.put)


def test_who_waits_is_noted_with_who_was_out() -> None:
    """And a pause with its end."""
    world = FlightWorld("a", max_retries=1, retry_delay_s=1.0, retry_budget_floor=10.0)
    world.ask("first")
    world.ask("second", timeout=5.0)
    (queued,) = world.request("second").steps
    assert queued == Queued(100.0, ((0, "saturated", None, 1),), ())
    assert world.request("second").facts == {"deadline": 105.0}
    world.fail(world.call(), FailureKind.UNAVAILABLE)
    resumes = [each for each in world.request("first").steps if isinstance(each, Resumes)]
    assert len(resumes) == 1
    assert 100.0 <= resumes[0].until <= 101.0


def test_a_hedge_that_loses_is_left_and_released_late() -> None:
    """The line is written once nobody works on it any more."""
    world = FlightWorld("a", "b", hedge_after_s=1.0)
    world.ask("r")
    world.pass_(1.0)
    slow = world.call("a")
    world.succeed(world.call("b"))
    assert not [each for each in world.put if isinstance(each, list | tuple)]
    world.pass_(3.0)
    world.succeed(slow, after_s=4.0)
    line = world.request("r")
    assert Left(1, 101.0, str(CancelReason.LOST_RACE)) in line.steps
    assert line.steps[-1] == Released(1, 104.0)
    assert line.end == End(101.0, "answered", 1)
    assert [each[0] for each in world.put if isinstance(each, list | tuple)] == ["r"]


def test_a_first_chunk_is_noted() -> None:
    """With its time."""
    world = FlightWorld("a")
    world.stream("r")
    world.chunk(world.call())
    assert FirstChunk(1, 0.0) in world.request("r").steps
    assert world.request("r").facts == {"stream": True}


def test_breakers_rests_and_members_are_lines_of_their_own() -> None:
    """Who is there, in what state, until when."""
    world = FlightWorld("a", "b")
    world.change("a", circuit=CircuitState.OPEN, blocked=SkipReason.CIRCUIT_OPEN, reopens_at=109.0)
    world.change("a", circuit=CircuitState.OPEN, blocked=SkipReason.CIRCUIT_OPEN, reopens_at=109.0)
    world.ask("r")
    world.fail(world.call("b"), FailureKind.RATE_LIMITED, retry_after_s=4.0)
    others = [each for each in world.put if not isinstance(each, list | tuple)]
    assert [type(each) for each in others] == [
        MembersLine, StateLine, StateLine, StateLine, RestLine
    ]  # fmt: skip
    assert [each.name for each in others[0].members] == ["a", "b"]
    assert others[3] == StateLine(
        member=0, at=100.0, circuit="open", blocked="circuit_open", until=109.0, incarnation=1
    )
    assert others[4] == RestLine(member=1, at=100.0, until=104.0, kind="rate_limited")


def test_keys_are_hashes_that_a_recording_alone_can_tell_apart() -> None:
    """Equal keys have equal hashes, and those of another recording are others."""
    one, other = FlightWorld("a"), FlightWorld("a", salt=b"another")
    hashes: list[str] = []
    for world in (one, other):
        world.ask("1", key="secret-user")
        hashes.append(world.request("1").facts["key"])
        world.succeed(world.call())
        world.ask("2", key="secret-user")
        assert world.request("2").facts["key"] == hashes[-1]
    assert hashes[0] != hashes[1]
    assert "secret-user" not in repr(one.put) + repr(one.flight.requests())


def test_what_a_request_asks_for_is_noted_and_who_must_not_have_it() -> None:
    """Names and tags are; whom it bars is told of each decision."""
    world = FlightWorld("a", "b")
    world.ask("r", only=("b",), priority=3, idempotent=False, max_retries=0)
    line = world.request("r")
    assert line.facts == {"only": ["b"], "priority": 3, "once": True, "max_retries": 0}
    (given,) = line.steps
    assert isinstance(given, Given)
    assert given.barred == ((0, "not_named", "only b may have it"),)


def test_one_that_is_turned_away_has_a_line() -> None:
    """It never was a request of the pool's."""
    world = FlightWorld("a")
    world.ask("r")
    world.ask("r")
    assert [type(each).__name__ for each in world.put][-1] == "RefusedLine"


def test_no_more_than_the_last_ones_are_kept() -> None:
    """The memory has a bound."""
    world = FlightWorld("a")
    for number in range(150):
        world.ask(str(number))
        world.succeed(world.call())
    assert [each[0] for each in world.flight.requests()] == [str(n) for n in range(50, 150)]


def test_b512_nothing_is_kept_of_members_that_have_left() -> None:
    """Where they come and go for days."""
    pool = AgentPool.start([Member("stays", str)], record=True)
    with pool:
        for number in range(20):
            pool.add_member(Member(f"m-{number}", str))
            pool.remove_member(f"m-{number}")
        pool.execute("x")
        recorder = pool.recorder
        assert isinstance(recorder, FlightRecorder)
        assert len(recorder.observer._states) <= 2


def test_what_still_holds_outlives_ten_thousand_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is in the pool and who is out is known, however much was said since."""
    monkeypatch.setattr(flight_observer, "KEPT_LINES", 10)
    world = FlightWorld("a", "b")
    world.change("b", circuit=CircuitState.FORCED_OPEN, blocked=SkipReason.CIRCUIT_OPEN)
    world.ask("r")
    world.succeed(world.call("a"))
    for number in range(30):
        world.flight.judged("a", 1, number, 100.0)
        world.flight.turned_away(str(number), ValueError(), 100.0)
        world.change("a", reopens_at=200.0 + number)
    assert "b is out: its breaker is forced open by hand." in world.out()
    assert "r came at 00:01:40.000Z and was answered by a" in world.explained("r")
    assert len(world.flight.lines()) < 20
