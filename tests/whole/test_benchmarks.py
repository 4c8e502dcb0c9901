"""The benchmarks' own arithmetic and machinery; no figure of theirs is checked here."""

from __future__ import annotations

import subprocess
import sys

import pytest
from benchmarks import report
from benchmarks.groups import GROUPS
from benchmarks.groups.failover import Failovers
from benchmarks.harness import HEAVY, Plan, companies, run_company
from benchmarks.model import FULL, QUICK, Comparison, Group, NotMeasured, Samples, versus
from benchmarks.peers import PEERS, load
from helpers_pages import ROOT

QUICKLY = Plan(processes=1, rounds=2, quick=True, core=None)


def samples(case: str, peer: str, *values: float, missing: str | None = None) -> Samples:
    company = "greenroom+other"
    return Samples("free", "g", case, peer, company, f"title {case}", "us", list(values), missing)


def lines(comparisons: tuple[Comparison, ...], *measured: Samples) -> list[report.Line]:
    return report.compare([Group("g", "G", (), comparisons)], measured)


def test_every_comparison_names_cases_and_peers_that_exist() -> None:
    """A misspelt name would leave its line out of the report."""
    for group in GROUPS.values():
        able = {(case.name, peer) for case in group.cases for peer in case.peers}
        assert len({case.name for case in group.cases}) == len(group.cases)
        assert {peer for _, peer in able} <= set(PEERS)
        for each in group.comparisons:
            assert (each.case, each.peer) in able, each
            assert each.against is None or each.against in able, each


def test_a_ratio_is_the_median_of_the_rounds_ratios() -> None:
    """Each round's values stand beside each other: 1/2, 4/2, 9/3, whatever the medians are."""
    (line,) = lines(
        versus("a", ("other",), at_most=2.0),
        samples("a", "greenroom", 1.0, 4.0, 9.0),
        samples("a", "other", 2.0, 2.0, 3.0),
    )
    assert line.ratio == report.Figure(2.0, 1.25, 2.5)
    assert line.verdict == "met"


@pytest.mark.parametrize(
    ("comparison", "value", "verdict"),
    [
        (Comparison("a", "greenroom", at_most=2.0), 2.0, "met"),
        (Comparison("a", "greenroom", at_most=2.0), 2.1, "missed"),
        (Comparison("a", "greenroom", at_least=40.0), 40.0, "met"),
        (Comparison("a", "greenroom", at_least=40.0), 39.0, "missed"),
        (Comparison("a", "greenroom"), 1.0, "–"),
    ],
)
def test_the_verdict_follows_the_target(comparison: Comparison, value: float, verdict: str) -> None:
    """Of a figure that stands alone, as of a ratio; without a target there is none."""
    (line,) = lines((comparison,), samples("a", "greenroom", value))
    assert line.verdict == verdict


def test_a_quick_run_gives_no_verdict() -> None:
    """The targets are for the full scale; what was not measured is said all the same."""
    comparisons = versus("a", ("other", "gone"), at_most=2.0)
    measured = [samples("a", each, 1.0) for each in ("greenroom", "other")]
    measured.append(samples("a", "gone", missing="it is not installed"))
    group = Group("g", "G", (), comparisons)
    verdicts = [line.verdict for line in report.compare([group], measured, judged=False)]
    assert verdicts == ["–", "not measured: it is not installed"]


def test_a_title_says_how_much_was_measured() -> None:
    """Of a quick run, and of a slow peer, it is less."""
    title = GROUPS["pipelined"].case("pipelined.sync").title
    scales = (FULL, FULL.for_slow(), QUICK)
    assert [title.format(scale=scale) for scale in scales] == [
        "20,000 pipelined, sync agents",
        "4,000 pipelined, sync agents",
        "500 pipelined, sync agents",
    ]
    for group in GROUPS.values():
        for case in group.cases:
            assert "{" not in case.title.format(scale=QUICK)


def test_what_was_not_measured_says_why() -> None:
    """A peer that is missing has a line without any figure of its own, and the reason."""
    (line,) = lines(
        versus("a", ("other",), at_most=2.0),
        samples("a", "greenroom", 1.0),
        samples("a", "other", missing="ray is not installed"),
    )
    assert (line.other, line.ratio) == (None, None)
    assert line.verdict == "not measured: ray is not installed"


def test_a_peer_that_was_not_asked_for_has_no_line() -> None:
    """`--peers` shortens the report."""
    assert lines(versus("a", ("other",)), samples("a", "greenroom", 1.0)) == []


def test_the_table_shows_absolutes_ratio_target_and_verdict() -> None:
    """In one row, with the peer's name."""
    row = report.table(
        lines(
            versus("a", ("other",), at_most=2.0),
            samples("a", "greenroom", 30.0, 30.0),
            samples("a", "other", 20.0, 20.0),
        )
    )[-1]
    assert row == ("| title a | 30.0 us | other | 20.0 us | 1.50x (1.50–1.50) | at most 2x | met |")


def test_heavy_peers_get_greenroom_alone_for_company() -> None:
    """What they do in the background disturbs nobody else."""
    together = list(companies(GROUPS["latency"], list(PEERS)))
    assert not set(together[0]) & set(HEAVY)
    assert together[1:] == [("greenroom", peer) for peer in HEAVY]


def test_only_calls_that_failed_over_count() -> None:
    """And when hardly any does, that is said."""
    found = Failovers(wanted=1)
    found.add(5.0, attempts=1)
    found.add(2.0, attempts=2)
    assert not found.missing()
    assert found.median_us() == 2e6
    never = Failovers(wanted=1)
    for _ in range(21):
        never.add(1.0, attempts=1)
    with pytest.raises(NotMeasured, match="only 0 of 21 calls failed over"):
        never.missing()


def test_a_peer_that_cannot_be_imported_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the module that is missing."""
    monkeypatch.setitem(sys.modules, "thespian", None)
    sys.modules.pop("benchmarks.peers.thespian_actor", None)
    with pytest.raises(NotMeasured, match="thespian"):
        load("thespian")


def test_peers_are_measured_in_processes_of_their_own() -> None:
    """A value for each round, of greenroom and of the bare actor."""
    measured = run_company(GROUPS["tells"], ("greenroom", "pykka"), QUICKLY, lambda _: None)
    assert [(each.peer, each.missing, len(each.values)) for each in measured] == [
        ("greenroom", None, QUICKLY.rounds),
        ("pykka", None, QUICKLY.rounds),
    ]
    assert {each.title for each in measured} == {"500 tells"}
    assert all(value > 0 for each in measured for value in each.values)


def test_the_command_explains_itself() -> None:
    """Its groups and its peers are in its help."""
    command = [sys.executable, "-m", "benchmarks", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "--quick" in done.stdout
    assert "failover" in done.stdout
    assert "litellm" in done.stdout
