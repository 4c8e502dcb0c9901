"""`greenroom doctor`: how it reads logs, what it prints, how it ends."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest

import greenroom
from greenroom import AgentPool, Member, PoolConfig, Request
from greenroom.cli import main
from greenroom.commands.exits import Exit
from greenroom.doctor.findings import findings
from greenroom.doctor.pool_history import Histories
from greenroom.testing import FakeClock, ScriptedAgent, http_error

Capture = pytest.CaptureFixture[str]


REFUSED = [http_error(401)]
WELL_AT_FIRST: list[Any] = ["hi", http_error(503)]


def written(path: Path, level: str = "DEBUG", steps: list[Any] = REFUSED) -> Path:
    """What a pool has written whose first member does that, and the last of it again and again."""
    off = greenroom.log(level, format="json", sink=path)
    agent = ScriptedAgent(steps)
    config = PoolConfig(circuit_failure_threshold=99, request_timeout_s=5.0)
    members = [
        Member("keyless", agent),
        Member("well", ScriptedAgent(["hi"]), priority=1),
    ]
    with AgentPool.start(
        members, name="writers", strategy="priority", config=config, clock=FakeClock()
    ) as pool:
        for _ in range(6):
            assert pool.ask(Request("x"), timeout=30).value == "hi"
            pool.reset_member("keyless")
    off()
    return path


def test_b392_what_is_found_has_its_evidence(tmp_path: Path, capsys: Capture) -> None:
    """And it ends with 1."""
    path = written(tmp_path / "app.jsonl")
    assert main(["doctor", str(path)]) == 1
    told = capsys.readouterr()
    lines = told.out.splitlines()
    assert lines[0] == "1. pool writers: every failure of keyless is of one kind: auth"
    assert lines[1] == (
        "   seen: 6 of 6 failures, beside 0 answers; "
        "the first said: ScriptedHTTPError: 401 Unauthorized"
    )
    assert lines[2:4] == ["   do:   check its key", "   page: docs/failures.md"]
    assert lines[4].startswith("1 found in ")
    assert told.err == ""


def test_b392_as_json(tmp_path: Path, capsys: Capture) -> None:
    """For programs: the same, and what could not be looked at."""
    path = written(tmp_path / "app.jsonl", "INFO")
    assert main(["doctor", "--json", str(path)]) == 1
    data = json.loads(capsys.readouterr().out)
    (found,) = data["found"]
    assert (found["rule"], found["pool"], found["members"]) == ("one-kind", "writers", ["keyless"])
    assert "no DEBUG lines" in data["not_checked"]["writers"][0]


def test_b392_nothing_found_is_0(tmp_path: Path, capsys: Capture) -> None:
    """Several files are one log; a compressed one is read as it is. Other lines are left out."""
    path = written(tmp_path / "app.jsonl", steps=WELL_AT_FIRST)
    old = tmp_path / "old.jsonl.gz"
    old.write_bytes(gzip.compress(b"another program\n"))
    assert main(["doctor", str(old), str(path)]) == 0
    told = capsys.readouterr()
    assert told.out.startswith("nothing found in ")
    assert told.err == ""


def test_b392_what_it_could_not_look_at_is_said(tmp_path: Path, capsys: Capture) -> None:
    """On stderr, beside what it found."""
    path = written(tmp_path / "app.jsonl", "INFO", steps=WELL_AT_FIRST)
    assert main(["doctor", str(path)]) == 0
    assert "not looked at: timeouts and members that are never used" in capsys.readouterr().err


def test_b392_without_a_log_it_ends_with_2(tmp_path: Path, capsys: Capture) -> None:
    """No file, or one of something else."""
    assert main(["doctor", str(tmp_path / "none")]) == 2
    other = tmp_path / "other"
    other.write_text("another program\n")
    assert main(["doctor", str(other)]) == 2
    assert 'as greenroom.log(format="json") writes it' in capsys.readouterr().err


def test_b392_an_endpoint_is_asked_as_well(capsys: pytest.CaptureFixture[str]) -> None:
    """What it knows: how many calls ended how, and how members are declared."""
    members = [
        Member("wrong", ScriptedAgent([http_error(401)] * 9), weight=2.0, priority=1),
        Member("idle", str.upper),
    ]
    with AgentPool.start(
        members, strategy="priority", name="seen", status="127.0.0.1:0", rng=random.Random(1)
    ) as pool:
        assert pool.status_url is not None
        assert main(["doctor", pool.status_url]) == Exit.FAILED
        shown = capsys.readouterr()
        assert "the strategy priority does not go by the weights of members" in shown.out
        assert "1 found in 1 pool(s) of an endpoint" in shown.out
        assert "pool seen: not looked at: timeouts and clients that retry" in shown.err
    assert main(["doctor", pool.status_url]) == Exit.USAGE
    assert "cannot be reached" in capsys.readouterr().err


def test_b392_an_endpoint_tells_of_failures_and_of_who_is_never_used() -> None:
    """By its counts of attempts."""
    histories = Histories()
    attempts = [
        {"member": "a", "outcome": "succeeded", "kind": "", "count": 120},
        {"member": "b", "outcome": "failed", "kind": "auth", "count": 7},
        {"member": "b", "outcome": "failed", "kind": "cancelled", "count": 3},
        {"member": "a", "outcome": "left", "kind": "caller", "count": 2},
    ]
    names = [{"name": name, "available": True, "last_error": "401"} for name in "abc"]
    pool = {"name": "p", "answers": True, "strategy": "round_robin", "members": names}
    silent = {"name": "q", "answers": False, "members": []}
    assert histories.take_status({"pools": [pool | {"attempts": attempts}, silent]}) == 1
    (seen,) = histories
    found = {each.rule: each for each in findings(seen)}
    assert set(found) == {"one-kind", "never-used"}
    assert found["one-kind"].seen == "7 of 7 failures, beside 0 answers; the last said: 401"
    assert found["never-used"].members == ("c",)


@pytest.mark.parametrize("status", [{}, {"pools": 3}, {"pools": [3, {}, {"name": "p"}]}])
def test_b392_what_is_no_status_tells_of_no_pool(status: dict[str, Any]) -> None:
    """Whatever it is."""
    assert Histories().take_status(status) == 0


@pytest.mark.parametrize("command", ["doctor", "logs"])
def test_b392_a_log_that_is_damaged_is_no_traceback(
    tmp_path: Path, capsys: Capture, command: str
) -> None:
    """The error names the file, and what is wrong with it."""
    path = tmp_path / "app.jsonl.gz"
    whole = gzip.compress(b"{}\n")
    path.write_bytes(whole[:10] + b"\xff" * 20)
    assert main([command, str(path)]) == 2
    assert f"{path}: Error -3 while decompressing data" in capsys.readouterr().err


def test_b392_what_a_log_says_forges_no_line(tmp_path: Path, capsys: Capture) -> None:
    """Other programs may have written it."""
    path = tmp_path / "app.jsonl"
    line = {"ts": "2026-01-01T00:00:00.000Z", "level": "WARNING", "event": "attempt.failed"}
    line |= {"pool": "p", "member": "a", "message": "", "kind": "auth", "error": "no\n2. pool x"}
    path.write_text(f"{json.dumps(line)}\n" * 9)
    assert main(["doctor", str(path)]) == 1
    assert r"the first said: no\n2. pool x" in capsys.readouterr().out
