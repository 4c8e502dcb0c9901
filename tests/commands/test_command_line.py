"""The command line as a whole: help, version, completion, and what is left without the extra."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
from helpers_commands import python_members
from helpers_processes import PROCESS_S

from greenroom.cli import main

Write = Callable[[str], Path]

COMMANDS = ("ask", "check", "demo", "simulate")

WITHOUT = """
import sys
sys.modules["typer"] = sys.modules["rich"] = None
from greenroom.cli import main
sys.exit(main())
"""
"""The command line where the extra is not installed."""


def without_extra(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=PROCESS_S, check=False)


# -- with it


def test_alone_it_prints_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    """To stdout, with exit code 0, as `--help` does."""
    assert main([]) == 0
    alone = capsys.readouterr()
    for option in ("--help", "-h"):
        assert main([option]) == 0
        assert alone == capsys.readouterr()
    assert alone.err == ""
    for command in COMMANDS:
        assert f"\n  {command} " in alone.out


def test_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    """That of the package."""
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"greenroom {version('greenroom')}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help_without_colours(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not even where an environment asks for some: it is no terminal."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert main([command, "-h"]) == 0
    shown = capsys.readouterr()
    assert main([command, "--help"]) == 0
    assert capsys.readouterr() == shown
    assert shown.out.startswith(f"Usage: greenroom {command} ")
    assert "\x1b" not in shown.out + shown.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["as"], "No such command 'as'. Did you mean 'ask'?"),
        (["--verbos"], "No such option: --verbos"),
        (["ask", "--timeout", "0"], "timeout must be greater than 0, got 0"),
        (["ask", "--timeout", "inf"], "timeout must be finite, got inf"),
        (["check", "--timeout", "soon"], "Invalid value for '--timeout'"),
        (["check", "one"], "unexpected extra argument"),
    ],
)
def test_bad_arguments_are_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one line on stderr."""
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("greenroom: ")
    assert message in shown.err
    assert len(shown.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "found"), [("greenroom a", "ask"), ("greenroom ask --j", "--js")]
)
def test_a_shell_completes_commands_and_options(words: str, found: str) -> None:
    """By the script that `--show-completion` prints."""
    environment = {
        **os.environ,
        "_GREENROOM_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    command = [sys.executable, "-m", "greenroom"]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=PROCESS_S, check=False
    )
    assert found in done.stdout
    shown = subprocess.run(
        [*command, "--show-completion", "bash"],
        env={**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
        capture_output=True,
        text=True,
        timeout=PROCESS_S,
        check=False,
    )
    assert "_GREENROOM_COMPLETE=complete_bash" in shown.stdout


# -- without it


@pytest.mark.parametrize("command", ["ask", "check", "map"])
def test_without_the_extra_a_command_says_what_to_install(command: str) -> None:
    """With exit code 2, whatever else is said."""
    done = without_extra(command, "-c", "pool.toml", "hello")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"greenroom: {command} needs the extra cli: pip install 'greenroom[cli]'; "
        "without it there are demo and simulate\n"
    )


def test_without_the_extra_there_are_demo_and_simulate(tmp_path: Path) -> None:
    """They do what they do with it, but for the bar and the colours."""
    text = tmp_path / "text"
    text.write_text("The quick brown fox\n")
    done = without_extra("demo", str(text), "--requests", "40", "--log-level", "critical")
    assert done.returncode == 0
    assert done.stdout.endswith("40 requests, 40 answers, 0 lost\n")
    printed = without_extra("simulate", "llm", "--print")
    assert (printed.returncode, "[[members]]" in printed.stdout) == (0, True)


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_without_the_extra_there_is_help(arguments: list[str]) -> None:
    """With what there would be with it."""
    done = without_extra(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    for words in ("demo", "simulate", "greenroom[cli]"):
        assert words in done.stdout
    assert without_extra("--version").stdout == f"greenroom {version('greenroom')}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["demo", "--requests", "0"], "must be a whole number of at least 1, got '0'"),
        (["demo", "--progress"], 'pip install "greenroom[cli]"'),
        (["simulate", "llm", "--strategy", "best"], "invalid choice: 'best'"),
        (["simulate"], "required: SCENARIO"),
    ],
)
def test_without_the_extra_bad_arguments_are_2(arguments: list[str], message: str) -> None:
    """As with it."""
    done = without_extra(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


# -- as it is installed


def test_the_modules_beside_a_file_are_found(write_pool: Write) -> None:
    """By the installed script, too, which does not look into the current directory by itself."""
    folder = write_pool(python_members("upper")).parent
    script = Path(sys.executable).parent / "greenroom"
    done = subprocess.run(
        [script, "ask", "hello"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PROCESS_S,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "HELLO\n", "")
