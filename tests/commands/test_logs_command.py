"""`greenroom logs`: what it shows of a log in JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers_commands import process
from helpers_processes import PROCESS_S

import greenroom
from greenroom import AgentPool, Member
from greenroom.cli import main
from greenroom.commands import reading_logs
from greenroom.commands.exits import UsageError
from greenroom.logs.log_filter import LogFilter

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def app_log(tmp_path: Path) -> Path:
    """What a pool of two has written, of which one is down; and a line of another program."""
    path = tmp_path / "app.jsonl"

    def down(payload: Any) -> Any:
        raise ConnectionError("no\x1b[2J\nroute")

    off = greenroom.log("DEBUG", format="json", sink=path)
    members = [Member("a", down), Member("b", len, priority=1)]
    with AgentPool.start(members, strategy="priority") as pool:
        for _ in range(2):
            assert pool.execute("hello") == 5
    off()
    with path.open("a") as out:
        out.write("another program\n")
    return path


def shown(path: Path, *options: str, capsys: Capture) -> list[str]:
    assert main(["logs", str(path), *options]) == 0
    told = capsys.readouterr()
    assert told.err == f"greenroom: {path}: left out 1 lines that are none of the log\n"
    return told.out.splitlines()


def test_b265_a_log_is_read_as_columns(app_log: Path, capsys: Capture) -> None:
    """As they would have been written as text, and nothing that a terminal would carry out."""
    lines = shown(app_log, "--event", "attempt.failed", capsys=capsys)
    assert [line.split("  ")[-1] for line in lines] == ["#pool-1", "#pool-2"]
    assert "attempt 1 after" in lines[0]
    assert r"ConnectionError: no\x1b[2J" in lines[0]


def test_b265_what_is_asked_for_is_shown(app_log: Path, capsys: Capture) -> None:
    """Of a member, a request, a level, a time; the last ones."""
    every = shown(app_log, capsys=capsys)
    of_one = shown(app_log, "-r", "#pool-2", "--json", capsys=capsys)
    assert {json.loads(line)["request_id"] for line in of_one} == {"pool-2"}
    of_b = shown(app_log, "-m", "b", "-e", "attempt.*", "--json", capsys=capsys)
    assert {json.loads(line)["member"] for line in of_b} == {"b"}
    warnings = shown(app_log, "--level", "warning", capsys=capsys)
    assert 0 < len(warnings) < len(every)
    assert shown(app_log, "--since", "1d", "--pool", "pool", "-n", "2", capsys=capsys) == every[-2:]
    assert shown(app_log, "--until", "1d", capsys=capsys) == []


def test_b265_stdin_is_read_as_well(app_log: Path) -> None:
    """As from `kubectl logs`."""
    done = subprocess.run(
        [sys.executable, "-m", "greenroom", "logs", "-", "-e", "pool.started"],
        input=app_log.read_text(),
        capture_output=True,
        text=True,
        timeout=PROCESS_S,
        check=True,
    )
    assert done.stdout.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        (["nowhere.jsonl"], "nowhere.jsonl: No such file or directory"),
        (["nowhere.jsonl", "-f"], "nowhere.jsonl: No such file or directory"),
        (["."], ".: Is a directory"),
        (["other.txt"], "no line of it is one of a log in JSON"),
        (["cut.gz"], "cut.gz: "),
        (["other.txt", "-e", "braker.*"], "no event is named so: 'braker.*'"),
        (["other.txt", "--since", "soon"], "must be so long ago"),
    ],
)
def test_b265_what_cannot_be_read_is_told(
    options: list[str], wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """In a line; code 2."""
    monkeypatch.chdir(tmp_path)
    Path("other.txt").write_text("a text\n")
    Path("cut.gz").write_bytes(b"\x1f\x8b\x08\x00")
    assert main(["logs", *options]) == 2
    assert wrong in capsys.readouterr().err


def test_b266_a_log_that_is_followed_goes_on(app_log: Path, capsys: Capture) -> None:
    """The last ones of what is there, then all that comes."""
    before = app_log.read_text().splitlines(keepends=True)
    app_log.write_text("".join(before[:3]))
    left = [before[3], before[4]]

    class Enough(Exception):
        pass

    def wait() -> None:
        if not left:
            raise Enough
        with app_log.open("a") as out:
            out.write(left.pop(0))

    options = reading_logs.Options(
        file=str(app_log), wanted=LogFilter(), last=1, follow=True, json=True
    )
    with pytest.raises(Enough):
        reading_logs.carry_out(options, wait)
    assert capsys.readouterr().out == "".join(before[2:5])


def test_b266_ctrl_c_ends_a_log_that_is_followed(app_log: Path) -> None:
    """As any other command."""
    with process(app_log.parent, "logs", app_log.name, "-f", "-n", "1") as following:
        assert following.stdout is not None
        assert "pool.stopped" in following.stdout.readline()
        following.send_signal(2)
        assert following.communicate(timeout=PROCESS_S) == ("", "greenroom: interrupted\n")
        assert following.returncode == 130


def test_no_stdin_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(UsageError, match="there is no stdin to read"):
        reading_logs.carry_out(reading_logs.Options(file="-", wanted=LogFilter()))
