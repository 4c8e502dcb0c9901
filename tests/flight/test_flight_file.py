"""Recordings as files: what is written is read, compressed or not, whole or cut off."""

from __future__ import annotations

import contextlib
import errno
import importlib
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import pytest
from helpers_log import logged

from greenroom import flight as room
from greenroom.flight import flight_target, flight_writer
from greenroom.flight.flight_file import lines_of
from greenroom.flight.flight_lines import (
    End,
    FlightError,
    Header,
    Line,
    LostLine,
    RequestLine,
    RestLine,
)
from greenroom.flight.flight_reading import log_with, logs_of, newest_in
from greenroom.flight.flight_steps import Given
from greenroom.flight.flight_target import FileTarget, target_of
from greenroom.flight.flight_writer import FlightWriter
from greenroom.flight.line_text import read, written
from greenroom.flight.raw_requests import Raw

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
def test_of_a_process_that_was_killed_all_is_there_that_was_written(
    tmp_path: Path, suffix: str
) -> None:
    """The file is not closed, and yet read."""
    path = tmp_path / f"flight.jsonl{suffix}"
    target = FileTarget(path)
    target.write("one\ntwo\n")
    target.write("three, which has no end yet")
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


class Disk:
    """A file on a disk that has room for so many more bytes; None: for any number."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.room: int | None = None

    def write(self, data: memoryview) -> int:
        if self.room is None:
            return self._file.write(data)
        if not self.room:
            raise OSError(errno.ENOSPC, "no space left on device")
        taken = self._file.write(data[: self.room])
        self.room -= taken
        return taken

    def close(self) -> None:
        self._file.close()


class CutDisk(Disk):
    """One of which what was written can be taken back."""

    def fileno(self) -> int:
        return self._file.fileno()


@pytest.fixture(params=[Disk, CutDisk])
def disks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[Disk]:
    """Those of the files that are opened."""
    opened, made = flight_target._opened, list[Disk]()

    def on_a_disk(path: Path) -> Disk:
        made.append(request.param(opened(path)))
        return made[-1]

    monkeypatch.setattr(flight_target, "_opened", on_a_disk)
    return made


def test_what_comes_after_a_write_that_failed_begins_on_a_line_of_its_own(
    tmp_path: Path, disks: list[Disk]
) -> None:
    """A disk that was full for a while costs what was written meanwhile, and no more."""
    path = tmp_path / "flight.jsonl"
    target = FileTarget(path)
    (disk,) = disks
    target.write(written(HEADER) + "\n")
    disk.room = 9
    with pytest.raises(OSError, match="no space"):
        target.write(written(_rest(1)) + "\n")
    disk.room = None
    target.write(written(_rest(2)) + "\n")
    target.close()
    (log,) = logs_of(path)
    assert (log.rest(1, 1.5), log.rest(2, 1.5)) == (None, _rest(2))
    assert log.lost == (0 if isinstance(disk, CutDisk) else 1)


class Stepped:
    """A writer whose thread is not waited for by time: each step writes what was put."""

    def __init__(self, path: Path, now: Callable[[], float] = lambda: 0.0) -> None:
        self.writer = FlightWriter(target_of(path), HEADER, now=now)

    def write(self, *lines: Line | Raw) -> None:
        self.writer._waiting.extend(lines)
        self.writer._write_all()

    def close(self) -> None:
        self.writer._closing.set()
        self.writer._awake.set()
        self.writer._run()


def _request(number: int) -> RequestLine:
    end = End(1.5, "answered", 0)
    return RequestLine(f"r{number}", number, 1.0, 1, end, (Given(1, 0, 1.0),))


@pytest.mark.parametrize("room", [0, 1, 40, 200])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_b416_a_disk_that_was_full_costs_what_was_written_meanwhile(
    tmp_path: Path, disks: list[Disk], suffix: str, room: int
) -> None:
    """What was there before can be read and what comes after as well; what holds on is there too,
    and how many requests are missing. One warning, and one word when it goes on.
    """
    path = tmp_path / f"flight.jsonl{suffix}"
    with logged("INFO") as lines:
        stepped = Stepped(path)
        (disk,) = disks
        stepped.write(*map(_request, range(300)))
        disk.room = room
        for number in range(300, 600):
            stepped.write(_request(number), _rest(number))
        disk.room = None
        stepped.write(*map(_request, range(600, 900)))
        stepped.close()
    (log,) = logs_of(path)
    requests = {f"r{each}" for each in (*range(300), *range(600, 900))}
    fitted = set(log.requests) - requests
    assert set(log.requests) >= requests
    assert len(fitted) <= room // 10  # in what room there was
    assert [log.rest(each, 1.5) for each in range(300, 600)] == [*map(_rest, range(300, 600))]
    warned, told = lines()
    assert "WARNING" in warned
    assert "its recording cannot be written: OSError: [Errno 28] no space" in warned
    assert "INFO" in told
    assert "its recording goes on; " in told
    if isinstance(disk, CutDisk):
        assert log.lost == 300 - len(fitted)
        assert f"; {log.lost} lines of it are missing" in told


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_b416_a_disk_that_is_full_from_the_start(
    tmp_path: Path, disks: list[Disk], suffix: str
) -> None:
    """The first line is written as soon as there is room."""
    path = tmp_path / f"flight.jsonl{suffix}"
    stepped = Stepped(path)
    disks[0].room = 0
    stepped.write(_rest(1), _request(1))
    disks[0].room = None
    stepped.write(_request(2))
    stepped.close()
    (log,) = logs_of(path)
    assert (log.rest(1, 1.5), set(log.requests), log.lost) == (_rest(1), {"r2"}, 1)


def test_b416_a_disk_that_is_full_again_and_again_is_told_once_a_minute(
    tmp_path: Path, disks: list[Disk]
) -> None:
    """And its end as often."""
    now = 0.0
    with logged("INFO") as lines:
        stepped = Stepped(tmp_path / "flight.jsonl", lambda: now)
        for _ in range(100):
            now += 1.0
            disks[0].room = 0
            stepped.write(_request(1))
            disks[0].room = None
            stepped.write(_request(2))
        stepped.close()
    assert [line.count("WARNING") for line in lines()] == [1, 0, 1, 0]


@contextlib.contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """No file of this process may grow beyond that: a write takes what fits, the next one fails."""
    resource = pytest.importorskip("resource", reason="a limit of the size of files is of POSIX")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_b416_a_real_file_that_may_not_grow_for_a_while(tmp_path: Path, suffix: str) -> None:
    """What was written of a batch that did not fit is taken back, so the file is whole."""
    path = tmp_path / f"flight.jsonl{suffix}"
    stepped = Stepped(path)
    stepped.write(*map(_request, range(300)))
    with files_up_to(path.stat().st_size + 20):
        stepped.write(*map(_request, range(300, 500)))
    stepped.write(*map(_request, range(500, 600)))
    stepped.close()
    (log,) = logs_of(path)
    assert set(log.requests) == {f"r{each}" for each in (*range(300), *range(500, 600))}
    assert log.lost == 200


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_b416_what_begins_with_a_long_line_is_found(tmp_path: Path, suffix: str) -> None:
    """Behind one that was cut off, however much is written at once."""
    path = tmp_path / f"flight.jsonl{suffix}"
    chance = random.Random(1)
    for number in range(2):
        stepped = Stepped(path)
        stepped.write(*(_rest(chance.getrandbits(60)) for _ in range(250)), _rest(number))
        stepped.close()
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) - 9] if not number else whole)
    before, after = logs_of(path)
    assert (before.rest(1, 1.5), after.rest(1, 1.5)) == (None, _rest(1))


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


def test_a_function_that_raises_is_complained_of_once() -> None:
    """And harms nothing."""

    def refuse(line: str) -> None:
        raise OSError("no")

    with logged("INFO") as said:
        writer = FlightWriter(target_of(refuse), HEADER)
        for number in range(3):
            writer.put(_rest(number))
        writer.close()
    (line,) = said()
    assert "WARNING" in line
    assert "pool 'p': its recording failed: OSError: no (said once)" in line


def test_a_function_that_raises_for_a_line_gets_the_others() -> None:
    """Those that are written together with it are not lost."""
    lines: list[str] = []

    def choosy(line: str) -> None:
        if read(line) == _rest(1):
            raise ValueError("no")
        lines.append(line)

    with logged("INFO") as said:
        writer = FlightWriter(target_of(choosy), HEADER)
        for number in range(4):
            writer.put(_rest(number))
        writer.close()
    assert [read(each) for each in lines] == [HEADER, _rest(0), _rest(2), _rest(3)]
    assert "ValueError: no" in said()[0]


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
