"""Which lines of a JSON log are wanted."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from greenroom.events import CATALOGUE
from greenroom.logs.log_filter import NAMES, LogFilter, Tally, event_pattern, moment, parsed

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


def line(**fields: Any) -> dict[str, Any]:
    return {"ts": "2026-01-31T12:00:00.000Z", "level": "INFO", "event": "failover"} | fields


@pytest.mark.parametrize(
    ("wanted", "fits"),
    [
        (LogFilter(), True),
        (LogFilter(members=["a"]), True),
        (LogFilter(members=["b"]), True),  # whom it goes to
        (LogFilter(members=["c"]), False),
        (LogFilter(members=["c", "a"]), True),
        (LogFilter(members=["?"]), True),
        (LogFilter(pools=["p*"]), True),
        (LogFilter(pools=["q"]), False),
        (LogFilter(requests=["job[1]"]), True),  # an id, though it looks like a pattern
        (LogFilter(requests=["job1"]), False),
        (LogFilter(events=["fail*"]), True),
        (LogFilter(events=["breaker.*"]), False),
        (LogFilter(level="WARNING"), True),
        (LogFilter(level="ERROR"), False),
        (LogFilter(since=NOW), True),
        (LogFilter(until=NOW), True),
        (LogFilter(since=NOW + timedelta(seconds=1)), False),
        (LogFilter(until=NOW - timedelta(seconds=1)), False),
        (LogFilter(members=["a"], events=["breaker.*"]), False),
    ],
)
def test_b265_a_line_has_to_be_all_that_is_said(wanted: LogFilter, fits: bool) -> None:
    """In each field one of the values; a failover is of both its members."""
    told = line(member="a", to="b", pool="pool", request_id="job[1]", level="WARNING")
    assert wanted.wants(told) is fits


def test_a_level_of_an_apps_own_is_shown() -> None:
    """Nobody knows how much it matters."""
    assert LogFilter(level="CRITICAL").wants(line(level="NOTICE"))


@pytest.mark.parametrize(
    "text",
    [
        *("", "Traceback:", "{", "[1]", '"a"', "{}", "{" * 10**5),
        '{"ts": 1, "level": "INFO", "event": "log"}',
        '{"ts": "now", "level": "INFO", "event": "log"}',
        '{"event": "a", "level": "b"}',
    ],
)
def test_what_is_no_line_of_the_log_is_none(text: str) -> None:
    """Other programs write to the same file."""
    assert parsed(text) is None


def test_a_line_is_read_as_it_was_written() -> None:
    told = line(message="m")
    assert parsed(json.dumps(told)) == told


@pytest.mark.parametrize(
    ("text", "then"),
    [
        ("90s", NOW - timedelta(seconds=90)),
        ("10m", NOW - timedelta(minutes=10)),
        (" 1.5 h", NOW - timedelta(minutes=90)),
        ("2d", NOW - timedelta(days=2)),
        ("2026-01-31T11:00:00+00:00", NOW - timedelta(hours=1)),
        ("2026-01-31T11:00:00Z", NOW - timedelta(hours=1)),
    ],
)
def test_moments(text: str, then: datetime) -> None:
    """So long ago, or a time."""
    assert moment(text, NOW) == then


def test_a_time_without_a_zone_is_local() -> None:
    assert moment("2026-01-31", NOW) == datetime(2026, 1, 31).astimezone()


@pytest.mark.parametrize("text", ["", "soon", "10", "10 min", "-1m", "9" * 400 + "d", "2026-13-01"])
def test_other_moments_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be so long ago"):
        moment(text, NOW)


def test_a_pattern_has_to_fit_an_event() -> None:
    """A slip of the pen would show nothing, as if nothing had happened."""
    assert event_pattern("breaker.*") == "breaker.*"
    assert set(NAMES) == {*(event.name for event in CATALOGUE), "log"}
    with pytest.raises(ValueError, match=r"no event is named so: 'braker\.\*'; there are attempt"):
        event_pattern("braker.*")


def test_lines_and_others_are_counted() -> None:
    """Empty ones are nothing."""
    shown = list[str]()
    tally = Tally(lambda _, text: shown.append(text), LogFilter(events=["log"]))
    texts = [json.dumps(line(event=event)) for event in ("log", "failover")]
    for text in [*texts, "other", "", " "]:
        tally.take(text)
    assert (shown, tally.lines, tally.foreign) == (texts[:1], 2, 1)
