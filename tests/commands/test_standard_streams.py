"""The command line where a standard stream is closed, full, or no text."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers_commands import python_members
from helpers_processes import PROCESS_S

from greenroom.batch.answers_file import AnswersFile
from greenroom.batch.prompts import BatchError
from greenroom.cli import main
from greenroom.commands.terminal import is_terminal

Write = Callable[[str], Path]
Capture = pytest.CaptureFixture[str]

posix = pytest.mark.skipif(sys.platform == "win32", reason="a shell of POSIX")
needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="has no /dev/full")

NO_ROOM = "greenroom: cannot write to stdout: No space left on device\n"
MAP = ("map", "p.txt", "-o", "a.jsonl")


@pytest.fixture
def folder(write_pool: Write) -> Path:
    """Where a pool's file and three prompts are."""
    there = write_pool(python_members("upper")).parent
    (there / "p.txt").write_text("a\nb\nc\n")
    return there


def shell(
    folder: Path, streams: str, *arguments: str, options: str = "-P"
) -> subprocess.CompletedProcess[str]:
    """The command line, its streams as a shell opens and closes them."""
    python = [sys.executable, *options.split(), "-m", "greenroom"]
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {streams}', "sh", *python, *arguments],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PROCESS_S,
        check=False,
    )


# -- closed


@posix
@pytest.mark.parametrize(
    ("streams", "arguments", "code"),
    [
        (">&-", ("ask", "hi"), 0),
        (">&-", ("ask", "--json", "hi"), 0),
        (">&-", ("check",), 0),
        (">&-", ("--version",), 0),
        (">&-", ("--help",), 0),
        (">&-", MAP, 0),
        ("2>&-", ("simulate", "nosuch"), 2),
        ("2>&-", ("nosuch",), 2),
        ("<&- >&- 2>&-", ("ask", "-v", "hi"), 0),
    ],
)
def test_what_is_said_to_a_closed_stream_is_dropped(
    streams: str, arguments: tuple[str, ...], code: int, folder: Path
) -> None:
    """It goes to no other, and the exit code is that of what was done."""
    done = shell(folder, streams, *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "")


@posix
@pytest.mark.parametrize("streams", ["2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_batch_without_streams_writes_its_answers_alone(streams: str, folder: Path) -> None:
    """No file takes the place of a stream, so that nothing else is written into it."""
    done = shell(folder, streams, *MAP, "-v")
    assert done.returncode == 0
    lines = (folder / "a.jsonl").read_text().splitlines()
    assert len(lines) == 3
    assert all(line.startswith('{"id": ') for line in lines)


@posix
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("ask",), "a prompt must be given"),
        (("ask", "-"), "stdin is closed"),
        (("map", "-", "-o", "a.jsonl"), "stdin: "),
    ],
)
def test_a_closed_stdin_is_2(arguments: tuple[str, ...], said: str, folder: Path) -> None:
    """In one line."""
    done = shell(folder, "<&-", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"greenroom: {said}")
    assert len(done.stderr.splitlines()) == 1


def test_a_stream_that_is_none_or_closed_is_no_terminal() -> None:
    """As in a process without one, or where somebody has closed it."""
    closed = io.StringIO()
    closed.close()
    assert not is_terminal(None)
    assert not is_terminal(closed)


def test_a_stream_that_was_closed_within_the_process(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """It is as one that was never there."""
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stdout", closed)
    assert main(["ask", "hi"]) == 0
    assert sys.stdout is closed
    assert capsys.readouterr() == ("", "")


# -- full


@needs_full
@pytest.mark.parametrize("options", ["-P", "-P -u"])
@pytest.mark.parametrize(
    "arguments",
    [
        ("ask", "hi"),
        ("ask", "--json", "hi"),
        ("ask", "--stream", "hi"),
        ("check",),
        ("--version",),
        (),
        MAP,
        ("simulate", "llm", "--print"),
    ],
)
def test_a_full_output_is_1(arguments: tuple[str, ...], options: str, folder: Path) -> None:
    """One line says so, with a buffer and without."""
    done = shell(folder, ">/dev/full", *arguments, options=options)
    assert (done.returncode, done.stderr) == (1, NO_ROOM)


@needs_full
@pytest.mark.parametrize("arguments", [("--help",), ("demo", "--quick", "--log-level", "critical")])
def test_a_full_output_of_what_others_print_is_1(arguments: tuple[str, ...], folder: Path) -> None:
    """In one line as well, whichever of them comes upon it first."""
    done = shell(folder, ">/dev/full", *arguments)
    assert done.returncode == 1
    wrong = r"(go on: \[Errno 28\]|write to stdout:) No space left on device"
    assert re.fullmatch(rf"greenroom: cannot {wrong}\n", done.stderr), done.stderr


@needs_full
@pytest.mark.parametrize(
    ("streams", "arguments", "code"),
    [
        ("2>/dev/full", ("ask", "-v", "hi"), 0),
        ("2>/dev/full", ("nosuch",), 2),
        ("2>/dev/full", ("simulate", "nosuch"), 2),
        (">/dev/full", ("nosuch",), 2),
        ("2>/dev/full", MAP, 0),
        (">/dev/full 2>/dev/full", ("ask", "hi"), 1),
    ],
)
def test_a_full_stderr_is_told_by_the_exit_code_alone(
    streams: str, arguments: tuple[str, ...], code: int, folder: Path
) -> None:
    """That is what it would be otherwise."""
    assert shell(folder, streams, *arguments).returncode == code


def test_an_output_that_cannot_be_had_on_the_disk_is_an_error_of_the_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the file; it is closed, and its lock is gone."""
    pytest.importorskip("fcntl")
    path = str(tmp_path / "a.jsonl")

    def refuse(fd: int) -> None:
        raise OSError(5, "Input/output error")

    file = AnswersFile(path)
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr("os.fsync", refuse)
        with pytest.raises(BatchError, match=r"a\.jsonl: Input/output error"):
            file.close()
    AnswersFile(path).close()


# -- no text


@posix
@pytest.mark.parametrize("options", ["-P", "-P -X utf8"])
def test_a_prompt_that_is_no_text_is_2_whatever_the_locale(options: str, folder: Path) -> None:
    """Python itself lets it through in some."""
    (folder / "raw").write_bytes(b"a\xff")
    done = shell(folder, "<raw", "ask", options=options)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "greenroom: stdin must be text (utf-8): invalid start byte\n"


def test_an_argument_that_is_no_text_is_2(folder: Path, capsys: Capture) -> None:
    """As bytes that are no UTF-8 come in."""
    assert main(["ask", "a\udcff"]) == 2
    assert capsys.readouterr().err == "greenroom: the prompt must be text (utf-8)\n"
