"""`greenroom.log`: what a line of the log reads like, as text and as JSON."""

from __future__ import annotations

import io
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers_log import NASTY, SECRET, emit, filled, logged
from loguru import logger

import greenroom
from greenroom import AgentPool, Member, PoolConfig, Request
from greenroom.actors.runtime.event_bus import complain
from greenroom.events import (
    CATALOGUE,
    AttemptFailed,
    AttemptStarted,
    AttemptSucceeded,
    BreakerOpened,
    Event,
    Failover,
    HealthChanged,
    MemberGaveUp,
    MemberStarted,
    PoolStarted,
    PoolStopped,
    ProbeSucceeded,
    RequestCompleted,
    RequestExhausted,
)
from greenroom.testing import AsyncScriptedAgent, EventRecorder, FakeClock, ScriptedAgent

pytestmark = pytest.mark.usefixtures("log_off_after")

# -- text


def columns(line: str) -> list[int]:
    """Where a line's columns begin, by the two spaces between them."""
    return [0, *(found.end() for found in re.finditer(r" {2,}", line))][:6]


def test_what_the_text_reads_like() -> None:
    """Who, what, why, and what comes next; a request's id comes last."""
    failed = "attempt 1 after 0.000 s: unknown, E: no"
    gave_up = (
        "more than 3 restarts in 60 s (E: no); it stays down until it is reset: "
        "mend what ends it, then pool.reset_member('gpt')"
    )
    with logged() as lines:
        emit(
            PoolStarted(pool="writers", members=("claude", "gpt"), strategy="adaptive"),
            MemberStarted(pool="writers", member="claude"),
            AttemptFailed(pool="writers", member="gpt", request_id="writers-1", error="E: no"),
            BreakerOpened(pool="writers", member="gpt", reason="5 failures", reopens_in_s=30),
            MemberGaveUp(pool="writers", member="gpt", restarts=3, period_s=60, error="E: no"),
            PoolStopped(pool="writers", unfinished=2),
        )
    assert all(re.match(r"\d\d:\d\d:\d\d\.\d\d\d  ", line) for line in lines())
    assert [line[14:] for line in lines()] == [
        "INFO      writers  -         pool.started          claude, gpt (adaptive)",
        "INFO      writers  claude    member.started        incarnation 1",
        f"WARNING   writers  gpt       attempt.failed        {failed}  #writers-1",
        "ERROR     writers  gpt       breaker.opened        5 failures; next trial in 30.0 s",
        f"CRITICAL  writers  gpt       member.gave_up        {gave_up}",
        "INFO      writers  -         pool.stopped          2 unfinished requests were failed",
    ]


@pytest.mark.parametrize(
    ("event", "told"),
    [
        (AttemptStarted(pool="p", attempt=2), "attempt 2"),
        (AttemptSucceeded(pool="p", attempt=2), "attempt 2 in 0.000 s"),
        (Failover(pool="p", to="b"), "to b (attempt 2)"),
        (ProbeSucceeded(pool="p"), "in 0.000 s"),
        (RequestCompleted(pool="p"), "answered in 0.000 s, 1 attempt(s)"),
        (RequestExhausted(pool="p", reason="no"), "after 0.000 s, 0 attempt(s): no"),
        (HealthChanged(pool="p"), "healthy -> healthy (0% of recent calls failed)"),
    ],
    ids=lambda each: each.name if isinstance(each, Event) else "",
)
def test_the_text_does_not_repeat_the_name(event: Event, told: str) -> None:
    """Which stands in the column before it; a number keeps its noun."""
    with logged("DEBUG") as lines:
        emit(event)
    assert lines()[0].split(maxsplit=5)[5] == told


def test_long_names_line_up() -> None:
    """The columns know the members' names from the pool's first line on."""
    with logged() as lines:
        emit(
            PoolStarted(pool="a-pool-of-writers", members=("a", "gpt-4o-mini-eu-west")),
            MemberStarted(pool="a-pool-of-writers", member="a"),
            MemberStarted(pool="a-pool-of-writers", member="gpt-4o-mini-eu-west"),
        )
    assert len({tuple(columns(line)) for line in lines()}) == 1


def test_the_log_of_a_real_pool() -> None:
    """A member that fails is told of in aligned columns, from the start to the end."""
    members = [
        Member("claude", ScriptedAgent.failing(100, ConnectionError(NASTY))),
        Member("local", ScriptedAgent(["hi"])),
    ]
    config = PoolConfig(circuit_failure_threshold=1)
    with (
        logged() as lines,
        EventRecorder() as events,
        AgentPool.start(
            members, name="writers", strategy="failover", config=config, clock=FakeClock()
        ) as pool,
    ):
        assert pool.ask(Request(SECRET), timeout=10).value == "hi"
        events.wait_for("breaker.opened", "claude")
        events.wait_for("health.changed", "claude")
    text = "\n".join(lines())
    told = [line.split()[4] for line in lines()]
    assert told[0] == "pool.started"
    assert told[-1] == "pool.stopped"
    assert {"attempt.failed", "failover", "breaker.opened", "health.changed"} <= set(told)
    assert NASTY in text
    assert {tuple(columns(line)[:5]) for line in lines()} == {(0, 14, 24, 33, 43)}


def test_colours_are_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    """None elsewhere, none with NO_COLOR; FORCE_COLOR and `colorize` have the last word."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    def coloured(sink: io.StringIO, **options: Any) -> bool:
        off = greenroom.log(sink=sink, **options)
        emit(PoolStopped(pool="p"))
        off()
        return "\x1b[" in sink.getvalue()

    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert coloured(Terminal()) == (sys.platform != "win32")
    assert not coloured(io.StringIO())
    assert not coloured(Terminal(), colorize=False)
    assert coloured(io.StringIO(), colorize=True)
    assert not coloured(Terminal(), format="json", colorize=True)
    monkeypatch.setenv("TERM", "dumb")
    assert not coloured(Terminal())
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert coloured(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not coloured(Terminal())


def test_without_its_colours_a_line_is_the_same() -> None:
    """What colours add has no width: the columns stay."""
    event = filled(AttemptFailed)
    with logged(colorize=True) as coloured:
        emit(event)
    with logged() as plain:
        emit(event)
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured()[0])[14:] == plain()[0][14:]


@pytest.mark.parametrize("event", CATALOGUE, ids=lambda event: event.name)
def test_every_event_is_one_line_of_text(event: type[Event]) -> None:
    """Braces and markup in an error stay what they are."""
    happened = filled(event)
    with logged("DEBUG") as lines:
        emit(happened)
    (line,) = lines()
    assert line.split()[1:5] == [happened.severity(), "writers", "claude", event.name]
    assert line.endswith("  #writers-1")
    assert NASTY in line or NASTY not in happened.describe()


def test_a_pools_name_fits_in_a_line() -> None:
    """It is refused like a member's: the app's own sinks show it as it is."""
    with pytest.raises(ValueError, match="name must not contain line breaks or control characters"):
        AgentPool.start([], name="writers\n")


def test_an_error_cannot_forge_lines_or_steer_the_terminal() -> None:
    """Line ends and escape sequences are shown, not obeyed."""
    with logged() as lines:
        emit(
            AttemptFailed(pool="p\n", member="a\x1b[2J", error="E: one\ntwo\r\x1b]0;title\x07\x9b")
        )
    (line,) = lines()
    assert "E: one\\ntwo\\r\\x1b]0;title\\x07\\x9b" in line
    assert "\x1b" not in line


def test_a_fault_is_logged_with_its_traceback() -> None:
    """Which shows the code, and never the values of its variables."""

    def broken(payload: str) -> None:
        raise ValueError(NASTY)

    with logged() as lines:
        try:
            broken(SECRET)
        except ValueError as error:
            complain("a subscriber raised", error)
    head, *trace = lines()
    assert head.split()[1:5] == ["ERROR", "-", "-", "log"]
    assert "a subscriber raised: ValueError" in head
    assert NASTY in head
    assert trace[0] == "  Traceback (most recent call last):"
    assert trace[-1] == f"  ValueError: {NASTY}"
    assert all(line.startswith("  ") for line in trace)
    assert SECRET not in "\n".join(lines())


def test_a_stream_that_cannot_write_a_character(tmp_path: Path) -> None:
    """An ASCII stream gets an escape sequence in its place, not a gap."""
    with (tmp_path / "log").open("w", encoding="ascii") as stream:
        off = greenroom.log(sink=stream)
        emit(PoolStopped(pool="größe"))
        off()
    assert "gr\\xf6\\xdfe" in (tmp_path / "log").read_text("ascii")


# -- JSON


@pytest.mark.parametrize("event", CATALOGUE, ids=lambda event: event.name)
def test_every_event_is_one_flat_json_object(event: type[Event]) -> None:
    """With its own fields, and without any null."""
    happened = filled(event)
    with logged("DEBUG", format="json") as lines:
        emit(happened)
    (line,) = lines()
    data = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", data.pop("ts"))
    assert data.pop("level") == happened.severity()
    assert data.pop("message") == happened.describe()
    assert data.pop("pid") == os.getpid()
    assert data == {k: v for k, v in happened.as_dict().items() if v is not None}


def test_the_json_of_a_real_pool() -> None:
    """Every line parses, is flat, and those of one request carry its id."""
    members = [Member("a", ScriptedAgent.failing(100)), Member("b", AsyncScriptedAgent(["hi"]))]
    with (
        logged("DEBUG", format="json") as lines,
        AgentPool.start(members, name="writers", strategy="failover", clock=FakeClock()) as pool,
    ):
        request = pool.ask(Request(SECRET), timeout=10).request_id
    data = [json.loads(line) for line in lines()]
    for each in data:
        assert {"ts", "level", "event", "message"} <= set(each)
        assert {type(value) for value in each.values()} <= {str, int, float, bool}
    of_request = [each["event"] for each in data if each.get("request_id") == request]
    assert of_request == [
        "attempt.started",
        "attempt.failed",
        "failover",
        "attempt.started",
        "attempt.succeeded",
        "request.completed",
    ]
    assert {each["pool"] for each in data if each["event"] != "log"} == {"writers"}


def test_a_fault_as_json() -> None:
    """The event `log`, with the error and the traceback as strings."""
    with logged(format="json") as lines:
        try:
            raise ValueError(NASTY)
        except ValueError as error:
            complain("closing failed", error)
    (data,) = map(json.loads, lines())
    assert (data["level"], data["event"], data["logger"]) == (
        "ERROR",
        "log",
        "greenroom.actors.runtime.event_bus",
    )
    assert data["error"] == f"ValueError: {NASTY}"
    assert data["traceback"].startswith("Traceback (most recent call last):\n")


def test_an_error_whose_str_raises() -> None:
    """Is logged all the same."""

    class Odd(Exception):
        def __str__(self) -> str:
            raise SystemExit

        __repr__ = Exception.__repr__

    for format in ("text", "json"):
        with logged(format=format) as lines:
            complain("closing failed", Odd())
        assert "Odd" in lines()[0]


def test_numbers_that_json_has_not() -> None:
    """Infinity becomes a string: strict parsers read every line."""
    with logged(format="json") as lines:
        emit(BreakerOpened(pool="p", reopens_in_s=float("inf")))
    assert json.loads(lines()[0], parse_constant=pytest.fail)["reopens_in_s"] == "inf"


def test_plain_values_of_the_apps_own_context_come_along() -> None:
    """A trace id does; an object does not, and nothing takes the place of an event's field."""
    context = {"trace": "t1", "request": Request(SECRET), "ts": "now", "member": "other"}
    with logged(format="json") as lines, logger.contextualize(**context):
        emit(MemberStarted(pool="p", member="a"))
    (data,) = map(json.loads, lines())
    assert data["trace"] == "t1"
    assert data["member"] == "a"
    assert data["ts"] != "now"
    assert SECRET not in lines()[0]
