"""How far a batch is, and how that is told."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from greenroom import AgentHealth, AgentStatus, MemberStats
from greenroom.batch.tally import Tally, duration, line_of
from greenroom.commands.map_screen import BarScreen, LinesScreen, lines_of


def test_the_rate_is_that_of_the_last_half_minute() -> None:
    """What was before counts no more, and neither do lines of a run before."""
    tally = Tally(total=1_000, before=400, now=0.0)
    assert tally.rate(0.0) == 0.0
    tally.answered = 100
    assert tally.rate(10.0) == 10.0
    for second in range(11, 61):
        tally.answered += 1
        rate = tally.rate(float(second))
    assert rate == pytest.approx(1.0, abs=0.1)
    tally.failed = 1
    assert (tally.written, tally.done) == (151, 551)
    assert tally.left_s(61.0) == pytest.approx(449 / tally.rate(61.0))


def test_without_a_total_nobody_knows_what_is_left() -> None:
    """Nor without a rate."""
    assert Tally(None, 0, 0.0).left_s(10.0) is None
    assert Tally(10, 0, 0.0).left_s(10.0) is None


def test_one_line_has_it_all() -> None:
    """What is nothing is left out."""
    tally = Tally(total=4_000, before=1_000, now=0.0)
    tally.answered, tally.failed, tally.sent_back = 95, 5, 3
    assert line_of(tally, 10.0) == (
        "1,100 of 4,000 done, 10.0 a second, 5 failed, 3 put back, about 4 min 50 s left"
    )
    assert line_of(Tally(None, 0, 0.0), 1.0) == "0 done, 0.0 a second"


@pytest.mark.parametrize(
    ("seconds", "text"), [(4.25, "4.2 s"), (200.0, "3 min 20 s"), (7_500.0, "2 h 5 min")]
)
def test_times_are_for_people(seconds: float, text: str) -> None:
    """With two units at most."""
    assert duration(seconds) == text


MEMBERS = [
    MemberStats("gpt", health=AgentHealth(failures=3, latency_p50_s=0.25), in_flight=2),
    MemberStats("\x1b[31mlocal", health=AgentHealth(status=AgentStatus.CIRCUIT_OPEN)),
]


def test_a_terminal_has_a_bar_and_a_line_a_member() -> None:
    """Names cannot draw there."""
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100, color_system=None)
    tally = Tally(10, 0, 0.0)
    tally.answered, tally.by_member["gpt"] = 5, 5
    with BarScreen(console).shown() as show:
        show(tally, MEMBERS, 1.0)
        shown = out.getvalue()
    lines = [line.split() for line in shown.splitlines()]
    assert ["5", "of", "10", "done,", "5.0", "a", "second,", "about", "1.0", "s", "left"] in lines
    assert ["gpt", "5", "3", "2/1", "250", "ms", "healthy"] in lines
    assert ["[31mlocal", "0", "0", "0/1", "-", "circuit_open"] in lines


def test_elsewhere_it_is_a_line_at_times(capsys: pytest.CaptureFixture[str]) -> None:
    """On stderr, without control characters."""
    with LinesScreen().shown() as show:
        show(Tally(10, 0, 0.0), MEMBERS, 1.0)
    assert capsys.readouterr().err == "0 of 10 done, 0.0 a second\n"
    assert list(lines_of(Tally(10, 0, 0.0), MEMBERS))[1] == (
        "  [31mlocal: 0 answered, 0 attempts failed, p50 -, circuit_open"
    )
