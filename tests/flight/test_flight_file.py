"""Recordings as files: what is written is read, compressed or not, whole or cut off."""

from __future__ import annotations

import errno
import importlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from greenroom import flight as room
from greenroom.flight import flight_file, flight_writer
from greenroom.flight.flight_file import FileTarget, lines_of
from greenroom.flight.flight_lines import FlightError, Header, LostLine, RestLine, read, written
from greenroom.flight.flight_reading import log_with, logs_of, newest_in
from greenroom.flight.flight_writer import FlightWriter, target_of

WAIT_S = 20.0
HEADER = Header(pool="p", at=1.0, wall=2.0, strategy="adaptive")
SUFFIXES = ("", ".gz", ".zst")


def _rest(number: int) -> RestLine:
    return RestLine(member=number, at=1.0, until=2.0, kind="quota")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_written_is_read(tmp_path: Path, suffix: str) -> None:
    """And what is written to the same file later comes behind it."""
    path = tmp_path / f"flight.jsonl{suffix}"
    for number in range(2):
        writer = FlightWriter(target_of(path), HEADER)
        writer.put(_rest(number))
        writer.close()
    lines = [read(each) for each in lines_of(path)]
    assert lines == [HEADER, _rest(0), HEADER, _rest(1)]
    assert len(list(logs_of(path))) == 2
    assert newest_in(tmp_path) == path


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_of_a_process_that_was_killed_all_is_there_up_to_the_last_flush(
    tmp_path: Path, suffix: str
) -> None:
    """The file is not closed, and yet read."""
    path = tmp_path / f"flight.jsonl{suffix}"
    target = FileTarget(path)
    target.write("one\ntwo\n")
    target.flush()
    target.write("three, which was not flush")
    try:
        assert list(lines_of(path)) == ["one", "two"]
    finally:
        target.close()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_that_is_cut_off_is_read_up_to_there(tmp_path: Path, suffix: str) -> None:
    """As by a disk that was full."""
    path = tmp_path / f"flight.jsonl{suffix}"
    target = FileTarget(path)
    target.write("".join(f"line {number}\n" for number in range(1_000)))
    target.flush()
    target.write("more\n" * 1_000)
    target.close()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - 9])
    lines = list(lines_of(path))
    assert lines[:1_000] == [f"line {number}" for number in range(1_000)]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_added_to_a_file_that_was_cut_off_is_read(tmp_path: Path, suffix: str) -> None:
    """A process that was killed as it wrote begins again with the same file."""
    path = tmp_path / f"flight.jsonl{suffix}"
    writer = FlightWriter(target_of(path), HEADER)
    for number in range(3_000):
        writer.put(_rest(number))
    writer.close()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - 9])
    writer = FlightWriter(target_of(path), HEADER)
    writer.put(_rest(7))
    writer.close()
    before, after = logs_of(path)
    assert before.rest(0, 1.5) == _rest(0)
    assert after.rest(7, 1.5) == _rest(7)
    assert after.rest(0, 1.5) is None
    assert log_with(path).rest(7, 1.5) == _rest(7)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_that_is_damaged_is_read_as_far_as_it_can_be(tmp_path: Path, suffix: str) -> None:
    """A broken line is one that is missing; of what is compressed that is all behind it."""
    path = tmp_path / f"flight.jsonl{suffix}"
    for number in range(2):
        writer = FlightWriter(target_of(path), HEADER)
        for _ in range(1_000):
            writer.put(_rest(number))
        writer.close()
    data = bytearray(path.read_bytes())
    data[len(data) // 3 : len(data) // 3 + 8] = b"\xff" * 8
    path.write_bytes(data)
    *before, after = logs_of(path)
    assert suffix or [each.lost for each in before] == [1]
    assert after.rest(1, 1.5) == _rest(1)


def test_what_comes_after_a_write_that_failed_begins_on_a_line_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that was full for a while costs what was written meanwhile, and no more."""
    full = [False]

    class Disk:
        def __init__(self, file: BinaryIO) -> None:
            self._file = file

        def write(self, data: memoryview) -> int:
            if not full[0]:
                return self._file.write(data)
            if len(data) < 9:
                raise OSError(errno.ENOSPC, "no space left on device")
            return self._file.write(data[: len(data) - 8])

        def flush(self) -> None: ...

        def close(self) -> None:
            self._file.close()

    opened = flight_file._opened
    monkeypatch.setattr(flight_file, "_opened", lambda path: Disk(opened(path)))
    path = tmp_path / "flight.jsonl"
    target = FileTarget(path)
    target.write(written(HEADER) + "\n")
    full[0] = True
    with pytest.raises(OSError, match="no space"):
        target.write(written(_rest(1)) + "\n")
    full[0] = False
    target.write(written(_rest(2)) + "\n")
    target.close()
    (log,) = logs_of(path)
    assert (log.rest(1, 1.5), log.rest(2, 1.5), log.lost) == (None, _rest(2), 1)


def test_what_is_too_much_is_dropped_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for a slow disk; the file says how many lines are missing, and where."""
    monkeypatch.setattr(flight_writer, "BACKLOG", 3)
    held, go = threading.Event(), threading.Event()

    class Slow:
        def __init__(self) -> None:
            self.lines: list[str] = []

        def write(self, text: str) -> None:
            held.set()
            assert go.wait(WAIT_S)
            self.lines += text.splitlines()

        def flush(self) -> None: ...

        def close(self) -> None: ...

    slow = Slow()
    writer = FlightWriter(slow, HEADER, pause_s=0.0)
    writer.put(_rest(0))
    assert held.wait(WAIT_S)
    for number in range(1, 8):
        writer.put(_rest(number))
    assert writer.lost == 4
    go.set()
    writer.close()
    lines = [read(each) for each in slow.lines]
    assert lines == [HEADER, *map(_rest, range(4)), LostLine(count=4)]


def test_a_function_that_raises_is_complained_of_once(capsys: pytest.CaptureFixture[str]) -> None:
    """And harms nothing."""

    def refuse(line: str) -> None:
        raise OSError("no")

    writer = FlightWriter(target_of(refuse), HEADER)
    for number in range(3):
        writer.put(_rest(number))
    writer.close()
    assert capsys.readouterr().err == "greenroom: the recording failed: OSError: no\n"


def test_a_function_that_raises_for_a_line_gets_the_others(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Those that are written together with it are not lost."""
    lines: list[str] = []

    def choosy(line: str) -> None:
        if read(line) == _rest(1):
            raise ValueError("no")
        lines.append(line)

    writer = FlightWriter(target_of(choosy), HEADER)
    for number in range(4):
        writer.put(_rest(number))
    writer.close()
    assert [read(each) for each in lines] == [HEADER, _rest(0), _rest(2), _rest(3)]
    assert "ValueError: no" in capsys.readouterr().err


def test_a_function_gets_line_by_line() -> None:
    """Without their ends."""
    lines: list[str] = []
    writer = FlightWriter(target_of(lines.append), HEADER)
    writer.put(_rest(1))
    writer.close()
    assert [read(each) for each in lines] == [HEADER, _rest(1)]


def test_a_zst_needs_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names it, and no descriptor stays open."""

    def missing(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'greenroom\[record\]'"):
        FileTarget(tmp_path / "flight.jsonl.zst")
    FileTarget(tmp_path / "flight.jsonl.gz").close()  # needs nothing


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: path.mkdir(), "cannot read"),
        (lambda path: path.write_text("{}\n"), "line 1: not a recording: it has no first line"),
        (lambda path: path.write_text('{"flight":1\n'), "line 1: not a line of JSON"),
        (lambda path: path.write_bytes(b"\xff\n"), "not UTF-8"),
        (lambda path: path.write_text(""), "not a recording: it has no first line"),
    ],
)
def test_what_is_no_recording_is_refused(
    tmp_path: Path, make: Callable[[Path], object], said: str
) -> None:
    """With the file, the line and what is wrong."""
    path = tmp_path / "app.jsonl"
    make(path)
    with pytest.raises(FlightError, match=said):
        log_with(path)


def test_where_there_is_none_that_is_said(tmp_path: Path) -> None:
    """And where it was looked for."""
    with pytest.raises(FlightError, match=r"none of flight\.jsonl, flight\.jsonl\.gz"):
        newest_in(tmp_path)
    assert room.__doc__
