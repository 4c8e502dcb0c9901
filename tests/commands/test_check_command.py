"""`greenroom check`: what is found out about each member, and how it is told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers_commands import (
    INTERRUPTIBLE,
    command_member,
    models,
    openai_member,
    process,
    python_members,
)
from helpers_processes import PROCESS_S, bounded

from greenroom import Member, PoolConfig
from greenroom.cli import main
from greenroom.commands.member_check import Checkup, Finding, check_members

Write = Callable[[str], Path]
Capture = pytest.CaptureFixture[str]

KEY = "hunter2-hunter2"


@pytest.fixture
def server() -> Iterator[str]:
    with models() as url:
        yield url


def found(capsys: Capture) -> dict[str, dict[str, Any]]:
    """What `--json` has told, by member."""
    told = json.loads(capsys.readouterr().out)["members"]
    return {each.pop("member"): each for each in told}


# -- what is found


def test_good_members_are_0(write_pool: Write, server: str, capsys: Capture) -> None:
    """Each answers for itself, with the model that has answered, in a line of its own."""
    write_pool(python_members("described") + openai_member("gpt", f"{server}/200/v1", model="m"))
    assert main(["check"]) == 0
    shown = capsys.readouterr()
    first, second = shown.out.splitlines()
    assert first.startswith("described: ok, ")
    assert first.endswith(" s, m-7")
    assert second.startswith("gpt: ok, ")
    assert second.endswith(" s, m-1")
    assert shown.err == ""


def test_what_is_wrong_with_each_is_told(
    write_pool: Write, server: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the file's order, each by its kind and in plain words, and no key."""
    monkeypatch.setenv("MY_KEY", KEY)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    models = [
        openai_member(name, f"{server}/{status}/v1", model="m-0", api_key_env="MY_KEY")
        for name, status in (("locked", 401), ("unknown", 404), ("busy", 429), ("ill", 503))
    ]
    nobody = openai_member("nobody", "http://127.0.0.1:9/v1", model="m-0")
    no_key = '[[members]]\nname = "keyless"\nkind = "openai"\nmodel = "m-0"\n'
    typo = openai_member("typo", server, modle="m-0")
    absent = command_member("absent", "no-such-command-anywhere")
    rest = python_members("upper", "choosy", "missing")
    write_pool("".join(models) + nobody + no_key + typo + absent + rest)
    assert main(["check", "--json"]) == 1
    shown = capsys.readouterr().out
    assert KEY not in shown
    told = {each["member"]: each for each in json.loads(shown)["members"]}
    expected = {
        "locked": ("auth", "refuses the key, or has been given none: "),
        "unknown": ("not_found", "knows no such model, or is not at this address: "),
        "busy": ("rate_limited", "wants fewer requests: "),
        "ill": ("unavailable", "cannot be reached, or does not serve: "),
        "nobody": ("unavailable", "cannot be reached, or does not serve: "),
        "keyless": ("not_made", "api_key_env must name a variable that is set, OPENAI_API_KEY is"),
        "typo": ("not_made", "members.typo.modle is not a setting of kind openai; did you mean mo"),
        "absent": ("unavailable", "No such file or directory: 'no-such-command-anywhere'"),
        "upper": (None, None),
        "choosy": ("caller", "refuses the prompt: Refusal: no such prompt"),
        "missing": ("not_made", "agent must be something to import"),
    }
    assert list(told) == list(expected)
    for member, (kind, words) in expected.items():
        assert told[member]["kind"] == kind
        assert told[member]["ok"] is (kind is None)
        assert (words or "") in (told[member]["wrong"] or "")
    assert told["locked"]["model"] == "m-0"
    assert "401 for *** and m-0" in told["locked"]["wrong"]
    assert "pool.toml:" in told["keyless"]["wrong"]


@pytest.mark.parametrize(
    "command",
    [
        ["ask", "-v", "hello"],
        ["ask", "-vv", "--json", "hello"],
        ["check", "-vv"],
        pytest.param(
            ["map", "-v", "p.txt", "-o", "a.jsonl", "--wait", "0"],
            marks=pytest.mark.skipif(sys.platform == "win32", reason="flock"),
        ),
    ],
)
@pytest.mark.parametrize("status", [401, 429])
def test_a_key_is_shown_nowhere(
    command: list[str],
    status: int,
    write_pool: Write,
    server: str,
    capsys: Capture,
    log_off_after: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither in what a command says, nor in its log, nor in the file that it writes."""
    monkeypatch.setenv("LLM_CRED", KEY)
    member = openai_member("gpt", f"{server}/{status}/v1", model="m", api_key_env="LLM_CRED")
    folder = write_pool("[pool]\nmax_retries = 0\n" + member).parent
    (folder / "p.txt").write_text("hello\n")
    assert main(command) == 1
    shown = capsys.readouterr()
    written = [file.read_text() for file in folder.glob("a.jsonl")]
    said = "\n".join([shown.out, shown.err, *written])
    assert f"{status} for *** and m" in said
    assert KEY not in said


@pytest.mark.parametrize("how", ["by the arguments", "by the file"])
def test_a_member_has_its_limit(how: str, write_pool: Write, capsys: Capture) -> None:
    """That of `--timeout`, or the file's `request_timeout_s`."""
    settings = "[pool]\nrequest_timeout_s = 0.05\n" if how == "by the file" else ""
    write_pool(settings + python_members("stuck", "endless"))
    limit = ["--timeout", "0.05"] if how == "by the arguments" else []
    assert main(["check", *limit]) == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if line != "begun"]
    assert [line.partition(":")[0] for line in lines] == ["stuck", "endless"]
    assert all(line.endswith(": no answer within 0.05 s") for line in lines)


def test_a_missing_extra_is_the_members(
    write_pool: Write, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are asked all the same."""
    monkeypatch.setitem(sys.modules, "openai", None)
    write_pool(openai_member("gpt", "http://127.0.0.1:9/v1", model="m") + python_members("upper"))
    assert main(["check", "--json"]) == 1
    told = found(capsys)
    assert "pip install 'greenroom[openai]'" in told["gpt"]["wrong"]
    assert told["gpt"]["elapsed_s"] is None
    assert told["upper"]["ok"]


def test_no_member_stands_in_for_another(write_pool: Write, capsys: Capture) -> None:
    """And none is asked twice, or left out, whatever the pool would do."""
    settings = 'strategy = "failover"\nmax_retries = 9\nhedge_after_s = 0.001\n'
    down = python_members("down") + "weight = 0\n"
    write_pool(f"[pool]\n{settings}{down}{python_members('upper')}")
    assert main(["check", "--json"]) == 1
    told = found(capsys)
    assert (told["down"]["kind"], told["upper"]["kind"]) == ("unavailable", None)


def test_a_prompt_of_ones_own(write_pool: Write, capsys: Capture) -> None:
    """`--prompt` is what the members are asked."""
    words = "import sys; sys.exit(sys.stdin.read() != 'are you there?')"
    write_pool(command_member("strict", sys.executable, "-c", words))
    assert main(["check"]) == 1
    assert main(["check", "--prompt", "are you there?"]) == 0


@pytest.mark.parametrize(
    ("probe", "expected"),
    [
        (lambda: True, (None, None)),
        (lambda agent: agent is str.upper, (None, None)),
        (lambda agent: False, ("unknown", "its probe returned False")),
        (lambda: 1 / 0, ("unknown", "does not answer as it should: ZeroDivisionError")),
    ],
)
def test_a_member_with_a_probe_is_not_asked(
    probe: Callable[..., Any], expected: tuple[str | None, str | None]
) -> None:
    """Its probe is called with the agent, or with nothing."""
    member = Member("probed", str.upper, probe=probe)
    (told,) = check_members([member], PoolConfig(), Checkup("hello"))
    assert told.kind == expected[0]
    assert (told.wrong or "").startswith(expected[1] or "")


def test_an_async_probe_is_awaited() -> None:
    """Within the limit."""

    async def probe() -> bool:
        return False

    (told,) = check_members([Member("m", str.upper, probe=probe)], PoolConfig(), Checkup("hello"))
    assert told.wrong == "its probe returned False"


def test_many_members_are_asked_in_their_order() -> None:
    """A few at a time."""

    def agent(prompt: str) -> str:
        return prompt

    names = [f"m{number}" for number in range(30)]
    found = check_members([Member(name, agent) for name in names], PoolConfig(), Checkup("hello"))
    assert [(each.member, each.is_good) for each in found] == [(name, True) for name in names]


def test_a_finding_is_good_without_a_kind() -> None:
    """Whatever else is known."""
    assert Finding(member="m").is_good
    assert not Finding(member="m", kind="auth").is_good


# -- a file as a whole


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("=", "pool.toml: is no TOML: "),
        ("[pool]\n", "pool.toml: has no members"),
        ("[pool]\nnam = 1\n" + python_members("upper"), "pool.toml:2: pool.nam is not a setting"),
        ('[pool]\nstrategy = "best"\n' + python_members("upper"), "strategy must be one of"),
        (python_members("upper", "upper"), "members must have different names, got 'upper'"),
        (python_members("upper") + "weight = 0\n", "weight must be greater than 0"),
        ('[pool]\nevent_loop = "running"\n' + python_members("upper"), "event_loop"),
    ],
)
def test_a_file_that_cannot_be_used_is_2(
    text: str, message: str, write_pool: Write, capsys: Capture
) -> None:
    """What `ask` would refuse is refused here, and nobody is asked."""
    write_pool(text)
    for arguments in (["check"], ["ask", "hello"]):
        assert main(arguments) == 2
        shown = capsys.readouterr()
        assert shown.out == ""
        assert message in shown.err


# -- its end, and how it looks


@pytest.mark.parametrize("agent", ["endless", "stuck"])
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_ctrl_c_is_130(agent: str, write_pool: Write) -> None:
    """What is asked is cancelled; what cannot be is left behind."""
    script = "import sys; print('begun', file=sys.stderr, flush=True); input()"
    beside = command_member("beside", sys.executable, "-c", script)
    folder = write_pool(python_members(agent) + beside).parent
    with process(folder, "check", "-vv") as running:
        assert running.stderr is not None
        while "attempt.started" not in running.stderr.readline():
            assert running.poll() is None
        running.send_signal(signal.SIGINT)
        _, shown = running.communicate(timeout=PROCESS_S)
    assert running.returncode == 130
    assert shown.endswith("greenroom: interrupted\n")


@pytest.mark.skipif(sys.platform == "win32", reason="a terminal of POSIX")
@pytest.mark.parametrize("plain", [False, True])
def test_in_a_terminal_it_is_a_table(plain: bool, write_pool: Write) -> None:
    """With colours, unless NO_COLOR is set."""
    folder = write_pool(python_members("down", "upper")).parent
    ours, theirs = os.openpty()
    command = [sys.executable, "-c", INTERRUPTIBLE, "check"]
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"}
    if not plain:
        environment.pop("NO_COLOR", None)
    started = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=theirs, stderr=subprocess.DEVNULL
    )
    with bounded(started) as running:
        running.wait(timeout=PROCESS_S)
    os.close(theirs)
    shown = os.read(ours, 10_000).decode()
    os.close(ours)
    assert running.returncode == 1
    assert ("\x1b[31m" in shown) is not plain
    rows = [line.split() for line in shown.splitlines()]
    assert rows[0][0] == "member" or "member" in rows[0][0]
    assert any(row[0] == "down" and "unavailable" in row[1] for row in rows)
    assert any(row[0] == "upper" and "ok" in row[1] for row in rows)
