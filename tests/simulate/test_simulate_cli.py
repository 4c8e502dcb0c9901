"""`greenroom simulate`: scenario files, what is wrong with them, and what is printed."""

from __future__ import annotations

import json
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from greenroom import LoadBalanceStrategy, PoolConfig
from greenroom.cli import main
from greenroom.simulate import ScenarioError, scenarios_of
from greenroom.simulate.faults import Failing, Hanging, RateLimit, Slow
from greenroom.simulate.scenario_file import NAMES, POOL, shipped_text

SMALL = """
duration_s = 20
within_s = 2
load.rate_per_s = 2
strategies = ["random", "adaptive"]

[[members]]
name = "a"
latency = { kind = "constant", mean_s = 0.5 }

[[members]]
name = "b"
count = 2
concurrency = 3
latency = { kind = "exponential", mean_s = 1 }

[[faults]]
member = "b-2"
kind = "fail"
from_s = 5
until_s = 10
"""


@pytest.fixture
def small(tmp_path: Path) -> str:
    file = tmp_path / "small.toml"
    file.write_text(SMALL)
    return str(file)


# -- what is printed


def test_a_row_for_every_strategy(small: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A headline, a table of what came out, a table of the members' calls."""
    assert main(["simulate", small]) == 0
    shown = capsys.readouterr()
    lines = [line.split() for line in shown.out.splitlines()]
    assert shown.out.startswith("small: ")
    assert lines[2][:6] == ["strategy", "answered", "in", "2", "s", "mean"]
    assert [line[0] for line in lines if line][2:4] == ["random", "adaptive"]
    assert ["calls", "of", "a", "b-1", "b-2"] in lines
    assert shown.err == ""


def test_equal_commands_print_the_same(small: str, capsys: pytest.CaptureFixture[str]) -> None:
    """And another seed prints something else."""
    said = []
    for seed in ("5", "5", "6"):
        assert main(["simulate", small, "--seed", seed]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    assert said[0].replace("seed 5", "") != said[2].replace("seed 6", "")


def test_json_for_programs(small: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One object a scenario, with the numbers as they are."""
    command = ["simulate", small, "--json", "--strategy", "failover", "--strategy", "priority"]
    assert main(command) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert (told["scenario"], told["seed"], told["within_s"]) == ("small", 1, 2)
    assert [each["strategy"] for each in told["strategies"]] == ["failover", "priority"]
    for each in told["strategies"]:
        lost = each["refused"] + sum(each["failed"].values())
        assert each["arrived"] == each["answered"] + lost
        assert each["answered_share"] == each["answered"] / each["arrived"]
        assert list(each["calls"]) == ["a", "b-1", "b-2"]


def test_all_strategies_are_compared_by_default(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """When neither the file nor the arguments name some."""
    file = tmp_path / "all.toml"
    file.write_text(SMALL.replace("strategies =", "# strategies ="))
    assert main(["simulate", str(file), "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert [each["strategy"] for each in told["strategies"]] == list(LoadBalanceStrategy)


def test_what_is_lost_has_its_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In the table as in the JSON; a share that is not quite all does not look like all."""
    file = tmp_path / "full.toml"
    file.write_text(
        SMALL.replace("rate_per_s = 2", "rate_per_s = 50") + "[pool]\nmax_pending = 9\n"
    )
    assert main(["simulate", str(file), "--strategy", "random"]) == 0
    assert " refused" in capsys.readouterr().out


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_scenario_can_be_printed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """As the TOML that it is, to start from."""
    assert main(["simulate", name, "--print"]) == 0
    printed = capsys.readouterr().out
    assert printed == shipped_text(name)
    assert tomllib.loads(printed)["members"]


def test_one_variant(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--variant` plays only that one; without it, they follow each other."""
    file = tmp_path / "two.toml"
    file.write_text(SMALL + "[variants.calm]\nfaults = []\n[variants.busy.load]\nrate_per_s = 4\n")
    assert main(["simulate", str(file), "--variant", "busy"]) == 0
    assert capsys.readouterr().out.startswith("two, busy: ")
    assert main(["simulate", str(file), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [each["scenario"] for each in told] == ["two, calm", "two, busy"]


# -- what a file says


def test_a_file_is_what_it_says() -> None:
    """Members are counted, faults go to theirs, what is not said is as in a pool."""
    (scenario,) = scenarios_of(SMALL, "small.toml", "small")
    assert [each.name for each in scenario.members] == ["a", "b-1", "b-2"]
    assert [len(each.faults) for each in scenario.members] == [0, 0, 1]
    assert [each.at_work for each in scenario.members] == [1, 3, 3]
    assert scenario.config == PoolConfig()
    assert scenario.strategies == ("random", "adaptive")


def test_every_kind_of_fault() -> None:
    """Each with its values."""
    text = SMALL + "".join(
        f'[[faults]]\nmember = "a"\nfrom_s = 0\nuntil_s = 1\n{rest}\n'
        for rest in (
            'kind = "slow"\nfactor = 3',
            'kind = "slow"\nlatency = { kind = "normal", mean_s = 2, sigma_s = 0.1 }',
            'kind = "fail"\nrate = 0.5\nafter_s = 0.2\nfailure = "quota"',
            'kind = "hang"\nrate = 0.1',
            'kind = "rate_limit"\nper_s = 5\nburst = 10\nretry_after_s = 20',
        )
    )
    (scenario,) = scenarios_of(text, "small.toml", "small")
    slow, bell, fails, hangs, limits = (each.trouble for each in scenario.members[0].faults)
    assert slow == Slow(factor=3)
    assert isinstance(bell, Slow)
    assert bell.latency is not None
    assert isinstance(fails, Failing)
    assert (fails.rate, fails.after_s, str(fails.kind)) == (0.5, 0.2, "quota")
    assert hangs == Hanging(0.1)
    assert limits == RateLimit(5, 10, 20)


def test_settings_of_the_pool() -> None:
    """As in `PoolConfig`; what may be None there is "off" here."""
    pool = '[pool]\nmax_retries = 1\nrequest_timeout_s = "off"\ndeadline_s = 4\n'
    (scenario,) = scenarios_of(SMALL + pool, "small.toml", "small")
    expected = PoolConfig(max_retries=1, request_timeout_s=None, deadline_s=4)
    assert scenario.config == expected
    assert {*POOL} <= {each.name for each in fields(PoolConfig)}


def test_a_variant_changes_what_it_names() -> None:
    """Tables are merged, all else is replaced."""
    text = SMALL + "[variants.busy]\nduration_s = 30\nload.keys = 4\nfaults = []\n"
    (busy,) = scenarios_of(text, "small.toml", "small")
    assert (busy.name, busy.duration_s, busy.within_s) == ("small, busy", 30, 2)
    assert (busy.load.rate_per_s, busy.load.keys) == (2, 4)
    assert not any(each.faults for each in busy.members)


LATENCY = 'latency = { kind = "constant", mean_s = 0.5 }'


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("duration_s = 20", "", "duration_s must be given"),
        ("duration_s = 20", "duration_s = 0", "duration_s must be greater than 0, got 0"),
        ("duration_s = 20", "duration_s = 'x'", "duration_s must be a number, got 'x' (str)"),
        ("duration_s = 20", "duration_s = 1e15", "at most 100,000,000 requests come"),
        ("within_s = 2", "warmup_s = 20", "warmup_s must be less than duration_s (20), got 20"),
        ("within_s = 2", "within_s = 0", "within_s must be greater than 0, got 0"),
        ("within_s = 2", "seed = 1.5", "seed must be a whole number, got 1.5 (float)"),
        (
            "within_s",
            "withins",
            ":3: withins is not a setting; did you mean within_s? those are duration_s, ",
        ),
        ('"random", ', '"best", ', "strategies must be among round_robin, random, "),
        ('"random", ', '"adaptive", ', "strategies must differ, got adaptive, adaptive"),
        ('["random", "adaptive"]', "[]", "strategies must not be empty"),
        ('["random", "adaptive"]', "'random'", "strategies must be an array of names, got 'ran"),
        ("rate_per_s = 2", "callers = 0", "load.callers must be at least 1, got 0"),
        ("rate_per_s = 2", "keys = 2", "load: exactly one of rate_per_s, utilisation, callers"),
        (
            "rate_per_s = 2",
            "rate = 2",
            ":4: load.rate is not a setting; those are rate_per_s",
        ),
        ("load.rate_per_s = 2", "load = 2", "load must be a table, got 2"),
        ("rate_per_s = 2", "callers = 2\nload.think_s = 0", "load.think_s must be at least 0.001"),
        ("rate_per_s = 2", "callers = 2\nload.backlog = 1", "load.backlog must be 0 with callers"),
        ("mean_s = 0.5", "mean_s = -1", "members[0].latency.mean_s must be at least 0, got -1"),
        ("mean_s = 0.5", "sigma = 1", "latency.kind 'constant' must come with mean_s, got sigma"),
        ("mean_s = 0.5", "mode = 1", "members[0].latency.mode is not a setting"),
        ('"constant", mean_s = 0.5', '"gamma"', "latency.kind must be one of 'constant', "),
        (LATENCY, "", "members[0].latency must be given"),
        (LATENCY, "latency = 3", "members[0].latency must be a table, got 3"),
        ('name = "a"', "", "members[0].name must be given"),
        ('name = "a"', 'name = "b-1"', "members must have different names, got 'b-1' twice"),
        ('name = "a"', "name = ''", "members[0].name must not be empty, got ''"),
        ("count = 2", "count = 0", "members[1].count must be at least 1, got 0"),
        ("count = 2", "count = 99_999", "members[1].count must be at most 10000, got 99999"),
        ("concurrency = 3", "speed = 0", ":14: members[1].speed must be greater than 0, got 0"),
        ("concurrency = 3", "servers = 0", "members[1].servers must be at least 1, got 0"),
        ("concurrency = 3", "weight = -1", "members[1].weight must be at least 0, got -1"),
        ("concurrency = 3", "size = 3", "members[1].size is not a setting; those are name, "),
        ('"b-2"', '"c"', "faults[0].member must name a member, got 'c'"),
        ('"b-2"', "3", "faults[0].member must be a string, got 3"),
        ('"fail"', '"explode"', "faults[0].kind must be one of 'slow', 'fail', 'hang', "),
        ('kind = "fail"', "", "faults[0].kind must be given"),
        ("until_s = 10", "until_s = 5", "faults[0].until_s must be greater than from_s (5), got 5"),
        ("until_s = 10", "", "faults[0].until_s must be given"),
        ("until_s = 10", "until_s = 9\nrate = 2", "faults[0].rate must be at most 1, got 2"),
        ("until_s = 10", "until_s = 9\nfactor = 2", "faults[0].factor is not a setting"),
        ("until_s = 10", "until_s = 9\nfailure = 'cancelled'", "failure must be one of timeout, "),
        ('"fail"', '"slow"', "faults[0]: exactly one of factor and latency must be given"),
        ('"fail"', '"rate_limit"\nper_s = 0', "faults[0].per_s must be greater than 0, got 0"),
        ("[[faults]]", "[pool]\nmax_retries = -1\n[[faults]]", "pool.max_retries must be at least"),
        ("[[faults]]", "[pool]\nretries = 1\n[[faults]]", "pool.retries is not a setting"),
        ("[[faults]]", "[pool]\nrestart_period_s = 1\n[[faults]]", "is not simulated; leave it"),
        ("[[faults]]", "[pool]\nmax_retries = 'off'\n[[faults]]", "must be a whole number, got 'o"),
        ("[[faults]]", "[faults]", "faults must be an array of tables, got {"),
        ("[[faults]]", "[variants]\nx = 1\n[[faults]]", "variants.x must be a table, got 1"),
        ("[[faults]]", "[variants.x]\ny = 1\n[[faults]]", "variants.x.y is not a setting"),
        (
            "[[faults]]",
            "[variants.x]\nseed = '1'\n[[faults]]",
            ":18 (x): seed must be a whole number",
        ),
        ("= 20", "", "not TOML: "),
    ],
)
def test_what_cannot_be_used_is_named(old: str, new: str, message: str) -> None:
    """File, field, value and rule."""
    assert old in SMALL
    with pytest.raises(ScenarioError) as caught:
        scenarios_of(SMALL.replace(old, new, 1), "small.toml", "small")
    assert str(caught.value).startswith("small.toml")
    assert message in str(caught.value)


def test_a_file_without_members() -> None:
    """There is nobody to ask; and where nothing takes time, there is no utilisation."""
    with pytest.raises(ScenarioError, match=r"x: members must not be empty"):
        scenarios_of("duration_s = 1\nload.rate_per_s = 1", "x", "x")
    instant = SMALL.replace("mean_s = 0.5", "mean_s = 0").replace("rate_per_s = 2", "utilisation=1")
    with pytest.raises(ScenarioError, match=r"takes no time, got 'a'"):
        scenarios_of(instant, "x", "x")


# -- exit codes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no-such.toml"], "cannot read no-such.toml: No such file"),
        (["."], "cannot read .: Is a directory"),
        (["latin.toml"], "cannot read latin.toml: not UTF-8"),
        (["deep.toml"], "deep.toml: not usable: nested too deeply"),
        (["long.toml"], "cannot use long.toml: longer than 1000000 bytes"),
        (["bad.toml"], "greenroom: bad.toml: not TOML"),
        (["llm", "--variant", "calm"], "'ten times slower', 'failing fast', got 'calm'"),
        (["llm", "--strategy", "best"], "'best' is not one of 'round_robin', 'random', "),
        (["llm", "--seed", "x"], "Invalid value for '--seed'"),
        ([], "exactly one of SCENARIO and --from must be given, got neither"),
    ],
)
def test_bad_arguments_are_2(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The message says what is wrong, and nothing is simulated."""
    (tmp_path / "latin.toml").write_bytes(b"# caf\xe9\n")
    (tmp_path / "bad.toml").write_text("=")
    (tmp_path / "deep.toml").write_text("x = " + "[" * 5000 + "]" * 5000)
    (tmp_path / "long.toml").write_text("#" * 1_000_001)
    monkeypatch.chdir(tmp_path)
    assert main(["simulate", *arguments]) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert shown.out == ""
