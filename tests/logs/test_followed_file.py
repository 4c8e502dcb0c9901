"""The lines of a file that is still written to."""

from __future__ import annotations

import gzip
import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from greenroom.logs.followed_file import CHUNK, followed, lines_of, whole_lines

Step = Callable[[], object]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "app.jsonl"


def append(path: Path, text: str) -> None:
    with path.open("a", newline="") as out:
        out.write(text)


def seen(path: Path, *steps: Step) -> list[list[str]]:
    """What is read at first, and after each of the steps, which are taken where one would wait."""
    batches: list[list[str]] = [[]]
    left = list(steps)

    def wait() -> None:
        left.pop(0)()
        batches.append([])

    lines = followed(path, wait)
    for line in lines:
        if line is not None:
            batches[-1].append(line)
        elif not left:
            break
    lines.close()  # type: ignore[attr-defined]
    return batches


def test_b266_what_is_written_later_comes_too(path: Path) -> None:
    """A line when it has ended."""
    path.write_text("a\nb")
    assert seen(path, lambda: append(path, "c\n"), lambda: append(path, "d\n")) == [
        ["a"],
        ["bc"],
        ["d"],
    ]


def test_b266_a_file_that_takes_its_place_is_gone_on_with(path: Path) -> None:
    """What is left of the old one first, also a line that has no end."""
    path.write_text("a\n")

    def rotate() -> None:
        append(path, "b\nc")
        os.rename(path, path.with_suffix(".1"))
        path.write_text("d\n")

    assert seen(path, rotate, lambda: append(path, "e\n")) == [["a"], ["b", "c", "d"], ["e"]]


def test_b266_a_file_that_is_gone_for_a_while_is_waited_for(path: Path) -> None:
    path.write_text("a\n")
    steps: list[Step] = [path.unlink, lambda: path.write_text("b\n")]
    assert seen(path, *steps) == [["a"], [], ["b"]]


def test_b266_a_file_that_is_cut_begins_anew(path: Path) -> None:
    """As where rotation copies it."""
    path.write_text("a\nb\n")
    assert seen(path, lambda: path.write_text("c\n")) == [["a", "b"], ["c"]]


def test_a_file_that_is_not_there_cannot_be_followed(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        next(iter(followed(path, lambda: None)))


def test_long_lines_and_odd_bytes(path: Path) -> None:
    """Lines longer than what is read at a time, and what is no UTF-8."""
    path.write_bytes(b"x" * (2 * CHUNK) + b"\n\xff\n\nlast")
    assert list(lines_of(path)) == ["x" * (2 * CHUNK), "�", "", "last"]


def test_compressed_files(tmp_path: Path) -> None:
    path = tmp_path / "app.jsonl.gz"
    path.write_bytes(gzip.compress(b"a\nb\n"))
    assert list(lines_of(path)) == ["a", "b"]


def test_a_pipe_is_read_as_it_comes() -> None:
    """No line waits for as many bytes as could be read at a time."""
    end, begin = os.pipe()
    with open(begin, "wb", buffering=0) as writer, open(end, "rb") as reader:
        lines = whole_lines(reader)
        writer.write(b"a\nb")
        assert next(lines) == "a"
        writer.close()
        assert list(lines) == ["b"]
    assert list(whole_lines(io.BytesIO())) == []
