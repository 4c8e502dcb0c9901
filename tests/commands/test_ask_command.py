"""`greenroom ask`: its answer, what becomes of one that does not come, and how it ends."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from helpers_commands import (
    INTERRUPTIBLE,
    SHOWN,
    command_member,
    process,
    python_members,
)
from helpers_processes import PROCESS_S, bounded

from greenroom.cli import main
from greenroom.commands import asking
from greenroom.commands.terminal import say

Write = Callable[[str], Path]
Capture = pytest.CaptureFixture[str]

FAILOVER = '[pool]\nname = "answers"\nstrategy = "failover"\nmax_retries = 1\n'


# -- an answer


@pytest.mark.parametrize("how", ["--stream", "--no-stream"])
def test_the_answer_of_who_can(how: str, write_pool: Write, capsys: Capture) -> None:
    """It alone is on stdout, whole either way; nothing is on stderr."""
    write_pool(FAILOVER + python_members("down", "tale"))
    assert main(["ask", how, "a tale"]) == 0
    assert capsys.readouterr() == ("Once upon a time\n", "")


def test_another_file(write_pool: Write, capsys: Capture) -> None:
    """`-c` says where the pool stands; without it that is `pool.toml`."""
    file = write_pool(python_members("upper"))
    file.rename(file.with_name("other.toml"))
    assert main(["ask", "-c", "other.toml", "hello"]) == 0
    assert capsys.readouterr().out == "HELLO\n"


def test_what_is_no_text_is_json(write_pool: Write, capsys: Capture) -> None:
    """So that a program can read it."""
    write_pool(python_members("table"))
    assert main(["ask", "hällo"]) == 0
    assert capsys.readouterr().out == '{"prompt": "hällo"}\n'


@pytest.mark.parametrize("arguments", [["-"], []])
def test_a_prompt_from_stdin(
    arguments: list[str], write_pool: Write, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By `-`, or where none is given and something is piped in; less its last line's end."""
    write_pool(python_members("upper"))
    monkeypatch.setattr(sys, "stdin", io.StringIO("two\nlines\n"))
    assert main(["ask", *arguments]) == 0
    assert capsys.readouterr().out == "TWO\nLINES\n"


def test_the_whole_reply_as_json(write_pool: Write, capsys: Capture) -> None:
    """With who answered, after what, and what the agent has said of it."""
    write_pool(FAILOVER + python_members("down", "upper"))
    assert main(["ask", "--json", "hello"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["elapsed_s"] >= 0
    assert (told["value"], told["member"], told["attempts"]) == ("HELLO", "upper", 2)
    (failed,) = told["errors"]
    assert (failed["member"], failed["kind"]) == ("down", "unavailable")
    assert failed["error"] == "ConnectionError: connection refused"


def test_what_an_agent_says_of_its_answer_is_in_the_json(
    write_pool: Write, capsys: Capture
) -> None:
    """As of a model which one it was."""
    write_pool(python_members("described"))
    assert main(["ask", "--json", "hello"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["metadata"] == {"model": "m-7", "usage": {"tokens": 3}}


def test_the_log_goes_to_stderr(write_pool: Write, capsys: Capture, log_off_after: None) -> None:
    """Where `-v` asks for it; and never the prompt."""
    write_pool(FAILOVER + python_members("down", "upper"))
    assert main(["ask", "-v", "hello"]) == 0
    shown = capsys.readouterr()
    assert shown.out == "HELLO\n"
    assert "attempt.failed" in shown.err
    assert "hello" not in shown.err.lower()
    assert "\x1b" not in shown.err


# -- none


def test_no_answer_is_1(write_pool: Write, capsys: Capture) -> None:
    """What became of every member is on stderr, each with its kind."""
    write_pool(FAILOVER + python_members("down", "torn"))
    assert main(["ask", "hello"]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    first, *members = shown.err.splitlines()
    assert first.startswith("greenroom: pool 'answers': no member could answer")
    assert [line.split()[:2] for line in members] == [
        ["down:", "unavailable"],
        ["torn:", "unavailable"],
    ]


def test_no_answer_as_json(write_pool: Write, capsys: Capture) -> None:
    """The same as a tree."""
    write_pool(FAILOVER + python_members("down"))
    assert main(["ask", "--json", "hello"]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["type"] == "AllPoolMembersFailedError"
    (failed,) = error["errors"]
    assert (failed["member"], failed["kind"], failed["skipped"]) == ("down", "unavailable", False)


def test_a_stream_that_breaks_off_is_1(write_pool: Write, capsys: Capture) -> None:
    """What has come is there, on a line of its own, and then why there is no more."""
    write_pool(python_members("torn"))
    assert main(["ask", "--stream", "hello"]) == 1
    shown = capsys.readouterr()
    assert shown.out == "Once \n"
    assert "broke off after 1 chunk: ConnectionError: connection lost" in shown.err
    assert "\n  torn: unavailable" in shown.err


def test_an_answer_that_starts_over_begins_on_a_line_of_its_own(
    write_pool: Write, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a word of why, on stderr."""

    def shown_then(*args: Any, **options: Any) -> None:
        say(*args, **options)
        SHOWN.set()

    SHOWN.clear()
    monkeypatch.setattr(asking, "say", shown_then)
    write_pool(FAILOVER + 'on_cut = "restart"\n' + python_members("torn_when_shown", "tale"))
    assert main(["ask", "--stream", "hello"]) == 0
    shown = capsys.readouterr()
    assert shown.out == "Once \nOnce upon a time\n"
    said = "greenroom: torn_when_shown broke off (unavailable): the answer starts over\n"
    assert shown.err == said


def test_a_refused_prompt_is_1(write_pool: Write, capsys: Capture) -> None:
    """The agent's own error says why."""
    write_pool(python_members("choosy"))
    assert main(["ask", "hello"]) == 1
    assert capsys.readouterr().err == "greenroom: Refusal: no such prompt\n"


def test_a_limit_that_is_over_is_1(write_pool: Write, capsys: Capture) -> None:
    """`--timeout` is for all of it."""
    write_pool(python_members("stuck"))
    assert main(["ask", "--timeout", "0.05", "hello"]) == 1
    assert "deadline exceeded" in capsys.readouterr().err


def test_a_key_that_is_repeated_is_not_shown(
    write_pool: Write, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it looks like: the environment tells which values are keys."""
    monkeypatch.setenv("SOME_API_KEY", "connection")
    write_pool(python_members("down"))
    assert main(["ask", "--json", "hello"]) == 1
    shown = capsys.readouterr()
    assert "*** refused" in shown.err
    assert "*** refused" in shown.out
    assert "connection" not in shown.out + shown.err


# -- a file or a use that is wrong


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "greenroom: pool.toml: No such file or directory\n"),
        ("=", "pool.toml: is no TOML: "),
        ("[pool]\nnam = 1\n" + python_members("upper"), "pool.toml:2: pool.nam is not a setting"),
        ('[pool]\nstrategy = "best"\n' + python_members("upper"), "strategy must be one of"),
        (python_members("nobody"), "members.nobody.agent must be something to import"),
        ('[pool]\nevent_loop = "running"\n' + python_members("upper"), "pool.toml: event_loop"),
    ],
)
def test_a_file_that_cannot_be_used_is_2(
    text: str | None, message: str, write_pool: Write, capsys: Capture
) -> None:
    """Said in one line, and nothing is asked."""
    path = write_pool(text or "")
    if text is None:
        path.unlink()
    assert main(["ask", "hello"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert message in shown.err
    assert len(shown.err.splitlines()) == 1


def test_a_missing_extra_is_2(
    write_pool: Write, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Named, with what to install."""
    monkeypatch.setitem(sys.modules, "openai", None)
    write_pool(
        '[[members]]\nname = "gpt"\nkind = "openai"\nmodel = "m"\nbase_url = "http://h/v1"\n'
    )
    assert main(["ask", "hello"]) == 2
    assert "pip install 'greenroom[openai]'" in capsys.readouterr().err


@pytest.mark.parametrize("given", ["", " \n"])
def test_an_empty_prompt_is_2(
    given: str, write_pool: Write, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given or piped in."""
    write_pool(python_members("upper"))
    monkeypatch.setattr(sys, "stdin", io.StringIO(given))
    for arguments in ([given], ["-"], []):
        assert main(["ask", *arguments]) == 2
        assert "the prompt must not be empty" in capsys.readouterr().err


def test_without_a_prompt_in_a_terminal_it_is_2(
    write_pool: Write, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is left waiting for words that were not asked for."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    write_pool(python_members("upper"))
    monkeypatch.setattr(sys, "stdin", Terminal("typed"))
    assert main(["ask"]) == 2
    assert "a prompt must be given" in capsys.readouterr().err
    assert main(["ask", "-"]) == 0
    assert capsys.readouterr().out == "TYPED\n"


def test_a_prompt_that_is_no_text_is_2(
    write_pool: Write, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes that are no UTF-8."""
    write_pool(python_members("upper"))
    raw = io.TextIOWrapper(io.BytesIO(b"\xff"), encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", raw)
    assert main(["ask"]) == 2
    assert "stdin must be text (utf-8)" in capsys.readouterr().err


# -- its end


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [("SIGINT", 130, "greenroom: interrupted\n"), ("SIGTERM", 143, ""), ("SIGHUP", 129, "")],
)
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_signal_ends_it_with_its_request(
    name: str, code: int, said: str, write_pool: Write
) -> None:
    """The stream is closed where it waits, and the pool stopped: no traceback."""
    folder = write_pool(python_members("endless")).parent
    with process(folder, "ask", "--stream", "hello") as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "begun\n"
        running.send_signal(getattr(signal, name))
        _, shown = running.communicate(timeout=PROCESS_S)
    assert (running.returncode, shown) == (code, said)
    assert (folder / "cancelled").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_ctrl_c_does_not_wait_for_what_cannot_be_cancelled(write_pool: Write) -> None:
    """A thread that hangs is left behind."""
    folder = write_pool(python_members("stuck")).parent
    with process(folder, "ask", "hello") as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "begun\n"
        running.send_signal(signal.SIGINT)
        assert running.wait(timeout=PROCESS_S) == 130


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_signal_leaves_no_process_behind(name: str, write_pool: Write) -> None:
    """A member's command ends with the command that asked it."""
    script = "import os, signal; print(os.getpid(), flush=True); signal.pause()"
    folder = write_pool(command_member("sleeper", sys.executable, "-u", "-c", script)).parent
    with process(folder, "ask", "--stream", "hello") as running:
        assert running.stdout is not None
        child = int(running.stdout.readline())
        running.send_signal(getattr(signal, name))
        running.wait(timeout=PROCESS_S)
    assert not psutil.pid_exists(child)


def test_nobody_reads_the_answer_is_141(write_pool: Write) -> None:
    """`greenroom ask ... | head -0` ends without a traceback."""
    folder = write_pool(python_members("tale")).parent
    with process(folder, "ask", "hello") as running:
        assert running.stdout is not None
        running.stdout.close()
        assert running.stderr is not None
        shown = running.stderr.read()
        running.wait(timeout=PROCESS_S)
    assert (running.returncode, shown) == (141, "")


@pytest.mark.skipif(sys.platform == "win32", reason="a terminal of POSIX")
def test_in_a_terminal_it_streams_what_does_no_harm(write_pool: Write) -> None:
    """What an answer would have a terminal do is left out of it."""
    folder = write_pool(python_members("hostile")).parent
    ours, theirs = os.openpty()
    command = [sys.executable, "-c", INTERRUPTIBLE, "ask", "hello"]
    started = subprocess.Popen(command, cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs)
    with bounded(started) as running:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # how Linux says that the other end is closed
            while part := os.read(ours, 1000):
                shown += part
    os.close(ours)
    assert (running.returncode, shown.split()) == (0, [b"[2Jred"])
