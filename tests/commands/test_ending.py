"""What waits for an answer ends at a signal, and the signals are then what they were."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from collections.abc import Iterator

import pytest
from helpers_pools import WAIT_S

from greenroom.commands.ending import run
from greenroom.commands.exits import Terminated

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")


@pytest.fixture(autouse=True)
def usual_signals() -> Iterator[None]:
    """As a process has them that nobody has started in the background."""
    before = {name: signal.getsignal(getattr(signal, name)) for name in NAMES}
    for name in NAMES:
        number = getattr(signal, name)
        signal.signal(number, signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL)
    yield
    for name, handler in before.items():
        signal.signal(getattr(signal, name), handler)


class Waiting:
    """Waits for what never comes; a signal is sent once it does."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.cancelled = False

    async def __call__(self) -> None:
        for name in self.names:
            signal.raise_signal(getattr(signal, name))
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise


@pytest.mark.parametrize("name", NAMES)
def test_a_signal_cancels_what_waits(name: str) -> None:
    """And is what the caller is told; handlers are as before."""
    waiting = Waiting(name)
    before = [signal.getsignal(getattr(signal, each)) for each in NAMES]
    with pytest.raises(KeyboardInterrupt if name == "SIGINT" else Terminated) as caught:
        run(waiting())
    assert waiting.cancelled
    assert [signal.getsignal(getattr(signal, each)) for each in NAMES] == before
    if isinstance(caught.value, Terminated):
        assert caught.value.code == 128 + getattr(signal, name)


def test_of_several_signals_the_first_counts() -> None:
    """The others change nothing."""
    with pytest.raises(Terminated) as caught:
        run(Waiting("SIGTERM", "SIGINT", "SIGHUP")())
    assert caught.value.code == 143


def test_a_result_and_an_error_pass() -> None:
    """Where no signal comes."""

    async def answer() -> int:
        return 7

    async def fail() -> int:
        raise LookupError("none")

    assert run(answer()) == 7
    with pytest.raises(LookupError, match="none"):
        run(fail())


def test_what_cancels_itself_is_no_ctrl_c() -> None:
    """Nobody has pressed anything."""

    async def give_up() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        run(give_up())


def test_an_ignored_signal_stays_ignored() -> None:
    """As nohup has it."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

    async def hang_up() -> int:
        signal.raise_signal(signal.SIGHUP)
        await asyncio.sleep(0)
        return 7

    assert run(hang_up()) == 7
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def test_another_thread_has_no_signals() -> None:
    """It runs there all the same."""
    answers: list[int] = []

    async def answer() -> int:
        return 7

    thread = threading.Thread(target=lambda: answers.append(run(answer())))
    thread.start()
    thread.join(WAIT_S)
    assert answers == [7]
