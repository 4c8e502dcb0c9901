"""`greenroom demo`: the outage drill, its story, its screens and its exit codes."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers_processes import bounded
from hypothesis import given, settings
from hypothesis import strategies as st

from greenroom import AgentPool, Member, PoolRef
from greenroom.cli import main
from greenroom.demo.demo import Start
from greenroom.demo.demo_agents import (
    Switch,
    Tally,
    WordCounter,
    local_agent,
    passages,
    remote_agent,
    tally,
)
from greenroom.demo.story import Story
from greenroom.messages import (
    AttemptFailed,
    BreakerClosed,
    BreakerHalfOpened,
    BreakerOpened,
    Event,
    Failover,
    FailureKind,
)

SHORT = ["demo", "--requests", "40", "--no-progress"]
TEXT = "The quick brown fox\njumps over\n\nthe lazy dog.\n"


@pytest.fixture
def text_file(tmp_path: Path) -> str:
    file = tmp_path / "fox.txt"
    file.write_text(TEXT)
    return str(file)


def start_with(agent: Any) -> Start:
    """Starts the drill's pool with one agent of the test's instead of the crew."""

    def start(members: Any, **settings: Any) -> PoolRef:
        return AgentPool.start([Member("remote", agent, max_concurrency=30)], **settings)

    return start


def at_once(_: float) -> float:
    """A pace without waiting."""
    return 0.0


# -- the work


def test_the_three_agents_agree() -> None:
    """Each counts in its own way and comes to what the direct count comes to."""
    pace, switch = at_once, Switch()
    remote: Callable[[str], Any] = remote_agent(pace)
    local = local_agent(pace, switch)
    lazy = WordCounter(pace, switch)

    with asyncio.Runner() as loop:

        @settings(deadline=None)
        @given(st.text())
        def check(text: str) -> None:
            answers = (loop.run(remote(text)), local(text), lazy.run(text))
            assert all(answer == tally(text) for answer in answers)

        check()


def test_a_tally_counts_words_without_regard_to_case() -> None:
    """Punctuation is no part of a word, and neither is an underscore."""
    assert tally("Ping, ping_PONG!\n1").words == {"ping": 2, "pong": 1, "1": 1}


@pytest.mark.parametrize("count", [1, 2, 3, 4, 50])
def test_passages_are_as_many_as_the_requests(count: int) -> None:
    """A text is cut into pieces, or repeated; a blank line is never one."""
    pieces = passages(TEXT, count)
    assert len(pieces) == count
    assert all(piece.strip() for piece in pieces)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_passages_leave_nothing_out(count: int) -> None:
    """The pieces of a text have together the words of the text."""
    assert tally("\n".join(passages(TEXT, count))).words == tally(TEXT).words


def test_a_blank_text_has_no_passages() -> None:
    """Nothing to work on is an error."""
    with pytest.raises(ValueError, match="no text"):
        passages(" \n\n", 3)


# -- the story


class Tape:
    """A story and the clock that it reads."""

    def __init__(self) -> None:
        self.now = 100.0
        self.story = Story(lambda: self.now)

    def at(self, seconds: float, *events: Event) -> None:
        self.now = 100.0 + seconds
        for event in events:
            self.story(event)

    def lines(self) -> list[str]:
        return [f"{each.at:.1f} {each.what}" for each in self.story.moments()]


def failed(member: str = "local") -> AttemptFailed:
    return AttemptFailed(pool="p", member=member, kind=FailureKind.UNAVAILABLE, error="refused")


def test_the_story_tells_an_outage_from_its_events() -> None:
    """Detection, opening, failed trial, half-open and recovery, each with its time."""
    tape = Tape()
    tape.at(0.5, failed(), failed("lazy"))
    tape.at(1.0)
    outage = tape.story.begin("local", "starts to fail")
    tape.at(1.2, failed(), Failover(pool="p", member="local", to="lazy"))
    tape.at(1.5, failed("lazy"), failed(), BreakerOpened(pool="p", member="local"))
    tape.at(2.5, BreakerHalfOpened(pool="p", member="local", trial="one request"))
    tape.at(2.6, failed(), BreakerOpened(pool="p", member="local"))
    tape.at(3.0)
    outage.ended_at = tape.story.now()
    tape.at(3.6, BreakerHalfOpened(pool="p", member="local", trial="one request"))
    tape.at(3.7, BreakerClosed(pool="p", member="local"))
    tape.at(4.0, Failover(pool="p", member="local", to="lazy"))
    assert tape.lines() == [
        "1.0 starts to fail",
        "1.2 detected 0.20 s in (unavailable): refused",
        "1.5 breaker opened 0.50 s in, after 2 failures",
        "2.6 trial failed, breaker opened again",
        "3.0 works again",
        "3.6 breaker half open: tried with one request",
        "3.7 breaker closed: recovered 0.70 s later (failovers: 1)",
    ]
    assert tape.story.circuits == {"local": "closed"}


def test_the_story_says_what_did_not_happen() -> None:
    """An outage that nobody noticed has neither detection nor recovery."""
    tape = Tape()
    outage = tape.story.begin("local", "starts to fail")
    outage.ended_at = 2.0
    assert tape.lines() == [
        "0.0 starts to fail",
        "0.0 its breaker did not open",
        "2.0 works again",
        "2.0 not back before the drill was over",
    ]


# -- the drill


def test_a_drill_loses_no_answer(text_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One member fails, one hangs: the log shows it, and every request is answered rightly."""
    assert main(["demo", text_file, "--quick", "--no-progress"]) == 0
    shown = capsys.readouterr()
    assert "480 requests, 480 answers, 0 lost\n" in shown.out
    assert "it equals a direct count" in shown.out
    assert shown.out.split()[:3] == ["member", "what", "it"]
    for member in ("local", "lazy"):
        events = [line.split()[4] for line in shown.err.splitlines() if f" {member} " in line]
        assert {"attempt.failed", "failover", "breaker.opened", "breaker.half_open"} <= {*events}
    story = [line for line in shown.err.splitlines() if " local " in line]
    story = story[next(i for i, line in enumerate(story) if "starts to raise" in line) :]
    order = ("now", "attempt.failed", "breaker.opened", "breaker.half_open", "breaker.closed")
    places = [next(i for i, line in enumerate(story) if word in line) for word in order]
    assert places == sorted(places)


def test_the_module_can_be_run(tmp_path: Path) -> None:
    """`python -m greenroom demo` works anywhere, by default on its own docs."""
    command = [sys.executable, "-m", "greenroom", "demo", "--quick", "--log-level", "error"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout.splitlines()[-1]) == (
        0,
        "480 requests, 480 answers, 0 lost",
    )
    assert "greenroom's own docs" in done.stdout
    assert "breaker.opened" in done.stderr


def test_the_readme_here_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a file, the README of the current directory is worked on."""
    (tmp_path / "README.rst").write_text("zebra zebra\n")
    monkeypatch.chdir(tmp_path)
    assert main(SHORT) == 0
    assert "README.rst: 80 words, 1 different (zebra 80)" in capsys.readouterr().out


def test_json_log_lines(text_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With --json each log line is an object with its event."""
    assert main([*SHORT, text_file, "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert {"pool.started", "pool.stopped"} <= {line["event"] for line in lines}


# -- exit codes


class BadRequestError(Exception):
    """What no other member can make good."""

    status_code = 400


def test_a_lost_answer_is_1(text_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A request without an answer is counted, its error named, and the exit code says so."""

    async def agent(passage: str) -> Tally:
        if passage.startswith("jumps"):
            raise BadRequestError("no jumping")
        return tally(passage)

    assert main([*SHORT, text_file], start=start_with(agent)) == 1
    shown = capsys.readouterr().out
    assert "40 requests, 27 answers, 13 lost\n" in shown
    assert "13 x BadRequestError: no jumping" in shown


def test_a_wrong_answer_is_1(text_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An answer is one only if it is right."""

    async def agent(passage: str) -> Tally:
        return tally(passage.replace("lazy", "quick"))

    assert main([*SHORT, text_file], start=start_with(agent)) == 1
    shown = capsys.readouterr().out
    assert "40 requests, 40 answers, 0 lost, 13 wrong\n" in shown
    assert "DIFFERS FROM" in shown


def test_no_answer_at_all_is_1(text_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """None from an agent is no answer."""

    async def agent(passage: str) -> None:
        return None

    assert main([*SHORT, text_file], start=start_with(agent)) == 1
    assert "40 requests, 0 answers, 40 lost\n" in capsys.readouterr().out


def test_an_interrupt_is_130(text_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C ends the drill without a traceback."""

    def start(members: Any, **settings: Any) -> PoolRef:
        raise KeyboardInterrupt

    assert main([*SHORT, text_file], start=start) == 130
    assert capsys.readouterr().err == "greenroom: interrupted\n"


def test_nobody_reads_the_output_is_141(tmp_path: Path) -> None:
    """`greenroom demo | head -1` ends without a traceback."""
    command = [sys.executable, "-m", "greenroom", *SHORT, "--log-level", "critical"]
    started = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with bounded(started) as process:
        assert process.stdout is not None
        process.stdout.close()
        _, shown = process.communicate(timeout=60)
    assert (process.returncode, shown) == (141, "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["demo", "no-such-file"], "cannot read no-such-file: No such file"),
        (["demo", "."], "cannot read .: Is a directory"),
        (["demo", "blank"], "blank: there is no text in it"),
        (["demo", "--requests", "0"], "must be a whole number of at least 1, got '0'"),
        (["demo", "--requests", "many"], "must be a whole number of at least 1, got 'many'"),
        (["demonstrate"], "No such command 'demonstrate'"),
        (["demo", "--quick", "--requests", "3"], "--quick: not allowed with --requests"),
    ],
)
def test_bad_arguments_are_2(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The message says what is wrong, and nothing runs."""
    (tmp_path / "blank").write_text("\n \n")
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert shown.out == ""


def test_help_is_0(capsys: pytest.CaptureFixture[str]) -> None:
    """--help explains the options."""
    assert main(["demo", "--help"]) == 0
    assert "--quick" in capsys.readouterr().out


# -- the screen


def without_rich(name: str) -> None:
    assert name == "rich"


def test_a_bar_without_rich_is_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was asked for cannot be had: the message says how to get it."""
    monkeypatch.setattr("greenroom.commands.drill.find_spec", without_rich)
    assert main(["demo", "--progress"]) == 2
    assert 'pip install "greenroom[cli]"' in capsys.readouterr().err


def test_rich_is_not_needed(
    text_file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without rich there is no bar, and the tables are plain."""
    monkeypatch.setattr("greenroom.commands.drill.find_spec", without_rich)
    assert main(["demo", "--requests", "40", text_file]) == 0
    assert "40 requests, 40 answers, 0 lost\n" in capsys.readouterr().out


def test_in_a_terminal_there_is_a_bar(
    text_file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The log lines stand above the bar, none torn; the tables have rules and colours."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert main(["demo", "--requests", "40", "--progress", text_file]) == 0
    shown = capsys.readouterr()
    assert "● remote" in shown.err
    assert "remote, local, lazy (least_outstanding)" in shown.err
    assert "───" in shown.out
    assert "40 requests, 40 answers, 0 lost" in shown.out
