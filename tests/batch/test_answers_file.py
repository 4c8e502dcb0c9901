"""The output of a batch on disk: whose it is, what of it is cut, what is written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers_processes import PROCESS_S, bounded

from greenroom import Reply
from greenroom.batch import answer_lines, prompts
from greenroom.batch.answer_lines import answer_line
from greenroom.batch.answers_file import AnswersFile
from greenroom.batch.prompts import BatchError, Prompt

pytest.importorskip("fcntl")


def line(id: int, **said: object) -> bytes:
    return (
        json.dumps({"id": id, "digest": "00000001", **(said or {"answer": "x"})}).encode() + b"\n"
    )


def ids_of(file: AnswersFile) -> list[object]:
    return [each.id for _, each in file.lines(explicit=False)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "answers.jsonl"


def test_a_torn_last_line_is_cut(path: Path) -> None:
    """Wherever it was torn, and nothing before it."""
    whole = line(1) + line(2)
    for end in range(len(line(3))):
        path.write_bytes(whole + line(3)[:end])
        with AnswersFile(str(path)) as file:
            assert ids_of(file) == [1, 2]
            assert file.torn() == end
            file.cut_torn()
            file.append(line(4))
        assert path.read_bytes() == whole + line(4)


def test_a_torn_line_may_be_longer_than_a_block(path: Path) -> None:
    """Its begin is looked for from behind."""
    path.write_bytes(line(1) + line(2, answer="x" * 1_000_000)[:-1])
    with AnswersFile(str(path)) as file:
        assert ids_of(file) == [1]
        file.cut_torn()
    assert path.read_bytes() == line(1)
    path.write_bytes(line(2, answer="x" * 1_000_000)[:-1])
    with AnswersFile(str(path)) as file:
        assert ids_of(file) == []
        file.cut_torn()
    assert path.read_bytes() == b""


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (line(1) + line(2)[:9] + line(3), ":2: is not JSON"),
        (b"my notes\n", ":1: is not JSON"),
        (b"my notes", ":1: is no line of an answer"),
        (line(1) + b"\0\0\0", ":2: is no line of an answer"),
        (b'{"a": 1}\n', ":1: is no line of an answer"),
    ],
)
def test_what_is_not_ours_is_refused_and_left_alone(path: Path, content: bytes, said: str) -> None:
    """With the file and the line; a line that is torn in the middle is no accident of ours."""
    path.write_bytes(content)
    with pytest.raises(BatchError) as caught, AnswersFile(str(path)) as file:
        ids_of(file)
    assert f"{path}{said}" in str(caught.value)
    assert path.read_bytes() == content


def test_only_one_process_writes_it(path: Path) -> None:
    """Another one is told so; the lock ends with its process, be it killed."""
    code = (
        "import sys, os, signal\n"
        "from greenroom.batch.answers_file import AnswersFile\n"
        "file = AnswersFile(sys.argv[1])\n"
        "print('locked', flush=True)\n"
        "sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with bounded(process) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"locked\n"
        with pytest.raises(BatchError, match="another batch is writing it"):
            AnswersFile(str(path))
        other.kill()
    AnswersFile(str(path)).close()


def test_errors_are_dropped_at_one_go(path: Path) -> None:
    """The file is another one then, which is locked as well, and has the old one's mode; a link to
    it stays a link.
    """
    real = path.with_name("real.jsonl")
    real.write_bytes(line(1) + line(2, error={}) + line(3))
    real.chmod(0o640)
    path.symlink_to(real)
    # Of one that was killed.
    path.with_name("real.jsonl.rewritten").write_bytes(line(1) + line(3)[:7])
    with AnswersFile(str(path)) as file:
        file.drop_failed(explicit=False, source=0)
        file.append(line(4))
        with pytest.raises(BatchError, match="another batch is writing it"):
            AnswersFile(str(path))
    assert real.read_bytes() == line(1) + line(3) + line(4)
    assert path.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640
    assert sorted(each.name for each in path.parent.iterdir()) == ["answers.jsonl", "real.jsonl"]


def test_many_lines_are_kept_when_errors_are_dropped(path: Path) -> None:
    """More of them than are held at a time."""
    kept = [line(number, answer="x" * 1_000) for number in range(1, 1_000)]
    path.write_bytes(b"".join(kept[:500]) + line(5_000, error={}) + b"".join(kept[500:]))
    with AnswersFile(str(path)) as file:
        file.drop_failed(explicit=False, source=0)
    assert path.read_bytes() == b"".join(kept)


@pytest.mark.parametrize(
    "content", [b"my notes\n", line(1) + line(2, error={}), line(1) + line(3) + b"{", line(3)]
)
def test_a_file_in_the_way_of_the_others_is_left_alone(path: Path, content: bytes) -> None:
    """It is somebody's, unless it holds only what stands in the output as well."""
    whole = line(1) + line(2, error={}) + line(3)
    path.write_bytes(whole)
    beside = path.with_name("answers.jsonl.rewritten")
    beside.write_bytes(content)
    with (
        AnswersFile(str(path)) as file,
        pytest.raises(BatchError, match=r"jsonl\.rewritten: is in the way: move it"),
    ):
        file.drop_failed(explicit=False, source=0)
    assert (path.read_bytes(), beside.read_bytes()) == (whole, content)


def test_what_is_no_file_may_be_in_the_way_too(path: Path, tmp_path: Path) -> None:
    """A link, a pipe, a folder, the input though it is empty."""
    path.write_bytes(line(1, error={}))
    beside, input = path.with_name("answers.jsonl.rewritten"), tmp_path / "input"
    input.touch()
    ways: list[Callable[[], object]] = [
        lambda: beside.symlink_to(input),
        lambda: os.mkfifo(beside),
        lambda: beside.hardlink_to(input),
    ]
    with AnswersFile(str(path)) as file, input.open() as source:
        for make in ways:
            make()
            with pytest.raises(BatchError, match="rewritten"):
                file.drop_failed(explicit=False, source=source.fileno())
            beside.unlink()
    assert (path.read_bytes(), input.read_bytes()) == (line(1, error={}), b"")


def test_a_line_may_be_as_long_as_an_answer_may_be(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the next run reads whatever this one has written; what is longer is no answer."""
    for module in (answer_lines, prompts):
        monkeypatch.setattr(module, "MOST_LINE_BYTES", 200)
    prompt = Prompt(1, 1, "hi", 1)
    longest = 201 - len(answer_line(prompt, Reply("", member="m")))
    with AnswersFile(str(path)) as file:
        file.append(answer_line(prompt, Reply("x" * longest, member="m")))
        assert ids_of(file) == [1]
    with pytest.raises(ValueError, match="a line of at most 200 bytes, got 201"):
        answer_line(prompt, Reply("x" * (longest + 1), member="m"))


FULL = """
import resource, signal, sys
from greenroom.batch.answers_file import AnswersFile
from greenroom.batch.prompts import BatchError

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with AnswersFile(sys.argv[1]) as file:
    file.append(b"0123456789\\n")
    for room in (5, 0):
        resource.setrlimit(resource.RLIMIT_FSIZE, (11 + room, resource.RLIM_INFINITY))
        try:
            file.append(b"0123456789\\n")
        except BatchError as error:
            print(error)
"""
"""Has a limit that stands for a full disk, in a process of its own."""


def test_a_line_that_does_not_fit_leaves_nothing(path: Path) -> None:
    """It is told how much of it went through, and the file is as before."""
    command = [sys.executable, "-c", FULL, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PROCESS_S)
    assert done.stdout.splitlines() == [
        f"{path}: only 5 of 11 bytes could be written",
        f"{path}: File too large",
    ]
    assert path.read_bytes() == b"0123456789\n"


def test_it_must_be_a_file_that_can_be_read_again(tmp_path: Path) -> None:
    """A folder, a pipe, a place that is not there are refused with their name."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for each in (tmp_path, pipe):
        with pytest.raises(BatchError, match="must be a regular file"):
            AnswersFile(str(each))
    with pytest.raises(BatchError, match="none/a: No such file or directory"):
        AnswersFile(str(tmp_path / "none" / "a"))
