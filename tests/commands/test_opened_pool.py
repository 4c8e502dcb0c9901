"""The pool of a file while a command uses it: its signals, and what is left as it was."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers_commands import python_members
from helpers_pools import WAIT_S

from greenroom.commands.exits import Terminated
from greenroom.commands.opened_pool import ended_by_signals, opened_pool
from greenroom.events import PoolConfigured

Write = Callable[[str], Path]

posix = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


@posix
def test_a_long_command_reads_its_file_again(write_pool: Write) -> None:
    """At a SIGHUP; the pool goes on."""
    path = write_pool(python_members("upper"))
    before = signal.getsignal(signal.SIGHUP)
    changed = threading.Event()
    with opened_pool(path, reloads=True) as pool:
        pool.on_event(lambda event: changed.set() if isinstance(event, PoolConfigured) else None)
        write_pool(python_members("upper", "table"))
        signal.raise_signal(signal.SIGHUP)
        assert changed.wait(WAIT_S)
        assert [each.name for each in pool.stats().members] == ["upper", "table"]
    assert not pool.is_alive()
    assert signal.getsignal(signal.SIGHUP) == before


@posix
def test_a_short_command_is_ended_by_it(write_pool: Write) -> None:
    """And its pool is stopped."""
    path = write_pool(python_members("upper"))
    usual = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # it may have been ignored
    try:
        with pytest.raises(Terminated) as caught, opened_pool(path) as pool:
            signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, usual)
    assert caught.value.code == 129
    assert not pool.is_alive()


@posix
def test_what_nohup_has_ignored_stays_ignored() -> None:
    """A command that nobody waits for goes on when the terminal is closed."""
    usual = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ended_by_signals():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, usual)


def test_the_path_of_modules_is_as_before(
    write_pool: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The current directory is on it only meanwhile."""
    path = write_pool(python_members("upper"))
    here = str(path.parent)
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each not in ("", here)])
    before = list(sys.path)
    with opened_pool(path) as pool:
        assert pool.execute("hello") == "HELLO"
        assert sys.path == [here, *before]
    assert sys.path == before


def test_outside_of_the_main_thread_signals_are_left_alone(write_pool: Write) -> None:
    """Nobody could set them there."""
    path = write_pool(python_members("upper"))
    answers: list[str] = []

    def use() -> None:
        with opened_pool(path) as pool:
            answers.append(pool.execute("hello"))

    thread = threading.Thread(target=use)
    thread.start()
    thread.join(WAIT_S)
    assert answers == ["HELLO"]
