"""The scenarios that come with greenroom reach the figures of theory, and the guide shows them.

The guide's tables are made by the commands that stand above them. To renew one, run its command and
put what it prints in place of the old table.
"""

from __future__ import annotations

import functools
import re

import pytest
from helpers_pages import DOCS

from greenroom import LoadBalanceStrategy
from greenroom.cli import main
from greenroom.simulate import Result, Scenario, scenarios_of, simulate
from greenroom.simulate.result_tables import as_text
from greenroom.simulate.scenario_file import NAMES, shipped_text

GUIDE = DOCS / "choosing-a-strategy.md"
FAIRNESS = DOCS / "fairness.md"
LIMITS = DOCS / "limits-and-fairness.md"
SHOWN = re.compile(
    r"```sh\npython -m greenroom simulate (\w+) --seed (\d+).*?```\n+```text\n(.*?)```", re.S
)
STRATEGIES = [each.value for each in LoadBalanceStrategy]
SLOW, FAILING = "llm, ten times slower", "llm, failing fast"
UNFAIR, FAIR, ALONE = "tenants, unfair", "tenants, fair", "tenants, the nine alone"
TENANTS = (UNFAIR, FAIR, "tenants, fair, at most 20 of each wait", ALONE)


@functools.cache
def scenario(name: str) -> Scenario:
    """The shipped scenario, or the variant of one, that has this name."""
    file = name.split(",")[0]
    (found,) = (each for each in scenarios_of(shipped_text(file), file, file) if each.name == name)
    return found


@functools.cache
def outcome(name: str, strategy: str) -> Result:
    return simulate(scenario(name), strategy)


def mean_s(name: str, strategy: str, warmup_s: float, duration_s: float) -> float:
    """The mean time in the system over a part of the shipped run, with its seed."""
    part = scenario(name).replace(warmup_s=warmup_s, duration_s=duration_s)
    mean = simulate(part, strategy).mean_s
    assert mean is not None
    return mean


def goodput(name: str, strategy: str) -> float:
    share = outcome(name, strategy).goodput
    assert share is not None
    return share


# -- figures


def test_linkerd_round_robin_answers_95_percent_within_a_second() -> None:
    """It loses the slow server's share: half of an eleventh."""
    assert goodput("linkerd", "round_robin") == pytest.approx(1 - 0.5 / 11, abs=0.002)


def test_linkerd_least_outstanding_answers_99_percent() -> None:
    """While the servers are equally full, the slow one gets a twelfth of what a fast one does."""
    assert 0.99 <= goodput("linkerd", "least_outstanding") < 0.998


def test_linkerd_adaptive_answers_99_9_percent() -> None:
    """What it loses was under way when the server became slow, give or take a few samples."""
    assert goodput("linkerd", "adaptive") >= 0.999


def test_supermarket_with_one_choice_takes_ten_at_a_load_of_0_9() -> None:
    """1 / (1 - load), within 5%: 350,000 requests."""
    assert mean_s("supermarket, load 0.9", "random", 500, 4500) == pytest.approx(10.0, rel=0.05)


def test_supermarket_with_two_choices_takes_2_61() -> None:
    """The sum over i of load ** (2 ** i - 2), within 5%: 90,000 requests."""
    mean = mean_s("supermarket, load 0.9", "power_of_two", 200, 1200)
    assert mean == pytest.approx(2.61, rel=0.05)


def test_supermarket_with_two_choices_beats_one_by_ten_at_a_load_of_0_99() -> None:
    """5.43 with two, within 15%; one choice takes more than ten times that."""
    two = mean_s("supermarket, load 0.99, two choices", "power_of_two", 500, 2000)
    assert two == pytest.approx(5.43, rel=0.15)
    one = mean_s("supermarket, load 0.99, one choice", "random", 1, 1000)
    assert one > 10 * two


@pytest.mark.parametrize("variant", [SLOW, FAILING])
def test_llm_every_strategy_that_shares_answers_all_and_99_5_percent_in_time(variant: str) -> None:
    """Failover aside, which gives one member more than it can do."""
    for strategy in STRATEGIES:
        result = outcome(variant, strategy)
        assert result.arrived == result.answered + result.refused + sum(result.failed.values())
        if strategy != "failover":
            assert result.answered == result.arrived
            assert goodput(variant, strategy) > 0.995
    assert goodput(variant, "failover") < 0.01


@pytest.mark.parametrize("variant", [SLOW, FAILING])
def test_llm_adaptive_and_least_latency_are_the_fastest(variant: str) -> None:
    """By mean, median, p95 and p99; and nobody has more answers in time than adaptive, to 0.02%."""
    for column in ("mean_s", "p50_s", "p95_s", "p99_s"):
        ranked = sorted(STRATEGIES, key=lambda each: getattr(outcome(variant, each), column))
        assert set(ranked[:2]) == {"adaptive", "least_latency"}
    most = max(goodput(variant, each) for each in STRATEGIES)
    assert goodput(variant, "adaptive") == pytest.approx(most, abs=0.0002)


NINE = [f"t-{number}" for number in range(1, 10)]


def p99_of_the_nine(name: str) -> float:
    """The highest of theirs."""
    each = [outcome(name, "adaptive").tenants[tenant].p99_s for tenant in NINE]
    return max(p99 for p99 in each if p99 is not None)


def test_nine_tenants_do_not_notice_one_that_asks_a_hundred_times_as_often() -> None:
    """Their p99 is at most half as long again as without it; without fairness each of them waits
    as long as the others for what the busy one has asked for.
    """
    alone, fair = p99_of_the_nine(ALONE), p99_of_the_nine(FAIR)
    assert fair <= 1.5 * alone
    assert p99_of_the_nine(UNFAIR) > 3 * alone


def test_all_tenants_have_their_share_and_nothing_is_lost_by_it() -> None:
    """Jain's index of what they had over what was due to them, and the answers altogether."""
    fair, unfair = outcome(FAIR, "adaptive"), outcome(UNFAIR, "adaptive")
    assert fair.fairness is not None
    assert unfair.fairness is not None
    assert fair.fairness >= 0.99 > 0.98 > unfair.fairness
    assert fair.answered >= 0.98 * unfair.answered
    for tenant in NINE:
        each = fair.tenants[tenant]
        assert each.answered == each.arrived


# -- the guide


def shown() -> dict[str, str]:
    """The guide's tables, by the scenario that made them."""
    pages = (GUIDE, FAIRNESS, LIMITS)
    found = [each for page in pages for each in SHOWN.findall(page.read_text("utf-8"))]
    assert {seed for _, seed, _ in found} == {"1"}
    return {name: table for name, _, table in found}


def test_the_guide_shows_every_scenario() -> None:
    """Each with the command that makes its tables."""
    assert sorted(shown()) == sorted(NAMES)


def test_the_guide_shows_what_the_command_prints_for_llm() -> None:
    """To the letter: a change of a strategy wants new tables."""
    texts = []
    for name in (SLOW, FAILING):
        texts.append(as_text(scenario(name), [outcome(name, each) for each in STRATEGIES]))
    assert shown()["llm"] == "\n\n".join(texts) + "\n"


def test_the_guide_shows_what_the_command_prints_for_linkerd() -> None:
    """The rows of three strategies; the others take as long again."""
    table = [line.split() for line in shown()["linkerd"].splitlines()]
    three = ["round_robin", "least_outstanding", "adaptive"]
    text = as_text(scenario("linkerd"), [outcome("linkerd", each) for each in three])
    for line in text.splitlines():
        assert line.split() in table


def test_the_page_of_fairness_shows_what_the_command_prints() -> None:
    """To the letter."""
    texts = [as_text(scenario(each), [outcome(each, "adaptive")]) for each in TENANTS]
    assert shown()["tenants"] == "\n\n".join(texts) + "\n"


def test_b337_the_page_of_limits_shows_what_the_command_prints() -> None:
    """To the letter."""
    each = scenarios_of(shipped_text("limits"), "limits", "limits")
    texts = [as_text(one, [simulate(one, "adaptive")]) for one in each]
    assert shown()["limits"] == "\n\n".join(texts) + "\n"


def test_the_guide_shows_the_theory_of_the_supermarket() -> None:
    """Its command takes a minute: here the tables are compared with what they must come to."""
    means = re.findall(r"^(\w+) +[\d.]+% +[\d.]+% +([\d.]+) s", shown()["supermarket"], re.M)
    assert [name for name, _ in means] == ["random", "power_of_two", "random", "power_of_two"]
    one, two, one_99, two_99 = (float(mean) for _, mean in means)
    assert (one, two) == pytest.approx((10.0, 2.61), rel=0.05)
    assert two_99 == pytest.approx(5.43, rel=0.15)
    assert one_99 > 10 * two_99


def test_a_command_prints_the_tables(capsys: pytest.CaptureFixture[str]) -> None:
    """The shipped scenario by its name, and nothing else."""
    command = ["simulate", "llm", "--variant", "failing fast", "--strategy", "random"]
    assert main(command) == 0
    text = as_text(scenario(FAILING), [outcome(FAILING, "random")])
    assert capsys.readouterr().out == text + "\n"


def test_the_guide_speaks_of_every_strategy() -> None:
    """In a row of its own."""
    rows = re.findall(r"^\| `(\w+)` \|", GUIDE.read_text(encoding="utf-8"), re.M)
    assert set(STRATEGIES) <= set(rows)
