"""Signals that are put off while the main thread does a part of the pool's."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest
from helpers_interrupts import Limit, interrupt_each
from helpers_pools import WAIT_S

from greenroom.actors.runtime.deferral import DEFERRAL, undisturbed

NUMBERS = (signal.SIGINT, signal.SIGALRM, signal.SIGUSR1)


class Handlers:
    """Handlers in Python that note which signals have come, and may raise."""

    def __init__(self) -> None:
        self.came: list[int] = []
        self.raises = False
        self.frame: FrameType | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.came.append(number)
        self.frame = frame
        if self.raises:
            raise Limit


@pytest.fixture
def handlers() -> Iterator[Handlers]:
    """Of all three signals; what was there before is set again."""
    made = Handlers()
    before = {number: signal.signal(number, made) for number in NUMBERS}
    yield made
    for number, handler in before.items():
        signal.signal(number, handler)


def act_with(*numbers: int, seen: Callable[[], object] = lambda: None) -> Callable[[None], bool]:
    def act(_: None) -> bool:
        for number in numbers:
            signal.raise_signal(number)
        seen()
        return True

    return act


def test_signals_are_handled_when_the_moment_is_over(handlers: Handlers) -> None:
    """All of them, in their order, with a frame of whoever runs there."""
    during: list[list[int]] = []
    act = act_with(*NUMBERS, seen=lambda: during.append(handlers.came.copy()))
    assert DEFERRAL.run(act, None)
    assert during == [[]]
    assert handlers.came == list(NUMBERS)
    assert handlers.frame is not None
    assert (
        handlers.frame.f_code.co_name == test_signals_are_handled_when_the_moment_is_over.__name__
    )


def test_a_handler_that_raises_does_so_then(handlers: Handlers) -> None:
    """What was to be done has been done, and the others are called all the same."""
    handlers.raises = True
    done: list[bool] = []
    with pytest.raises(Limit):
        DEFERRAL.run(act_with(*NUMBERS, seen=lambda: done.append(True)), None)
    assert done == [True]
    assert handlers.came == list(NUMBERS)


def test_the_handlers_are_what_they_were() -> None:
    """The very objects, be it that another one would be equal; and one that the act itself has set
    is not put off, but by the next time.
    """

    class Equal:
        def __eq__(self, other: object) -> bool:
            return isinstance(other, Equal)

        def __hash__(self) -> int:
            return 1

        def __call__(self, *_: Any) -> None:
            pass

    before = signal.getsignal(signal.SIGUSR1)
    try:
        for handler in (Equal(), Equal(), signal.SIG_IGN, signal.SIG_DFL):
            signal.signal(signal.SIGUSR1, handler)
            DEFERRAL.run(act_with(), None)
            assert signal.getsignal(signal.SIGUSR1) is handler
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_what_is_set_meanwhile_stays(handlers: Handlers) -> None:
    """A handler that the act has set, a tracer's or a finalizer's say, is there afterwards."""

    def other(*_: Any) -> None:
        pass

    for numbers in (NUMBERS[:1], NUMBERS):
        for number in NUMBERS:
            signal.signal(number, handlers if number in numbers else signal.SIG_IGN)
        DEFERRAL.run(act_with(seen=lambda: signal.signal(signal.SIGINT, other)), None)
        assert signal.getsignal(signal.SIGINT) is other
        assert all(signal.getsignal(number) is handlers for number in numbers[1:])


@pytest.mark.parametrize("raises", [False, True])
@pytest.mark.parametrize("numbers", [NUMBERS[:1], NUMBERS])
def test_a_handler_may_set_another_one_before_all_are_put_off(
    monkeypatch: pytest.MonkeyPatch, numbers: tuple[int, ...], raises: bool
) -> None:
    """A first Ctrl-C that has the second one end the process: it comes when it has been seen what
    handlers there are, and what it has set stays, be it that it raises.
    """

    def second(*_: Any) -> None:
        pass

    def first(*_: Any) -> None:
        for number in numbers:
            signal.signal(number, second)
        if raises:
            raise Limit

    def late(number: int, handler: Any) -> Any:
        if pending:
            signal.raise_signal(pending.pop())
        return signal.signal(number, handler)

    pending = [numbers[0]]
    before = {number: signal.signal(number, first) for number in numbers}
    monkeypatch.setattr("greenroom.actors.runtime.deferral._signal", late)
    try:
        with pytest.raises(Limit) if raises else contextlib.nullcontext():
            DEFERRAL.run(act_with(), None)
        assert [signal.getsignal(number) for number in numbers] == [second] * len(numbers)
    finally:
        monkeypatch.undo()
        for number, handler in before.items():
            signal.signal(number, handler)


def test_what_has_come_is_called_though_the_next_one_raises(
    monkeypatch: pytest.MonkeyPatch, handlers: Handlers
) -> None:
    """One that comes while the handlers are set again hides none of those before it."""

    def late(number: int, handler: Any) -> Any:
        if handler is handlers and pending:
            signal.raise_signal(pending.pop())
        return signal.signal(number, handler)

    handlers.raises, pending = True, [signal.SIGINT]
    monkeypatch.setattr("greenroom.actors.runtime.deferral._signal", late)
    with pytest.raises(Limit):
        DEFERRAL.run(act_with(signal.SIGALRM), None)
    assert sorted(handlers.came) == sorted([signal.SIGALRM, signal.SIGINT])
    assert [signal.getsignal(number) for number in NUMBERS] == [handlers] * 3


def test_a_handlers_value_error_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not taken for the word that no handler is ever called here."""

    def handler(*_: Any) -> None:
        raise ValueError("the handler's")

    def late(number: int, stand_in: Any) -> Any:
        if pending:
            signal.raise_signal(pending.pop())
        return signal.signal(number, stand_in)

    pending = [signal.SIGINT]
    before, thread = signal.signal(signal.SIGINT, handler), DEFERRAL.thread
    monkeypatch.setattr("greenroom.actors.runtime.deferral._signal", late)
    try:
        with pytest.raises(ValueError, match="the handler's"):
            DEFERRAL.run(act_with(), None)
        assert DEFERRAL.thread == thread
    finally:
        DEFERRAL.look_who_runs()
        signal.signal(signal.SIGINT, before)


def test_what_asyncio_sets_is_left_alone() -> None:
    """Its loop is told by the pipe, which no handler in Python has a part in."""

    async def main() -> None:
        loop, come = asyncio.get_running_loop(), asyncio.Event()
        loop.add_signal_handler(signal.SIGUSR1, come.set)
        seen: list[Any] = []
        look = act_with(signal.SIGUSR1, seen=lambda: seen.append(signal.getsignal(signal.SIGUSR1)))
        before = signal.getsignal(signal.SIGUSR1)
        DEFERRAL.run(look, None)
        assert seen == [before]
        await asyncio.wait_for(come.wait(), WAIT_S)
        loop.remove_signal_handler(signal.SIGUSR1)

    asyncio.run(main())


def test_a_handler_that_another_one_has_taken_away_is_not_missed(handlers: Handlers) -> None:
    """Each is called as it is set by then: a Ctrl-C that takes the second one back, say."""
    second: list[int] = []

    def first(number: int, _: FrameType | None) -> None:
        signal.signal(signal.SIGALRM, lambda number, _: second.append(number))

    signal.signal(signal.SIGINT, first)
    DEFERRAL.run(act_with(signal.SIGINT, signal.SIGALRM), None)
    assert second == [signal.SIGALRM]
    assert handlers.came == []


@pytest.mark.parametrize("numbers", [NUMBERS[:1], NUMBERS])
def test_wherever_it_is_broken_off_no_signal_is_lost(numbers: tuple[int, ...]) -> None:
    """At each place where a handler may raise: either nothing has been done or all of it; nothing
    is put off any more, and every handler is called when its signal comes, and is set again.
    """
    came: list[int] = []
    done: list[int] = []

    def handler(number: int, _: FrameType | None) -> None:
        came.append(number)

    before = {number: signal.signal(number, handler) for number in numbers}
    others = {each: signal.signal(each, signal.SIG_IGN) for each in NUMBERS if each not in numbers}

    def act(_: None) -> bool:
        done.append(1)
        return True

    def check() -> None:
        assert not DEFERRAL.on
        came.clear()
        for number in numbers:
            signal.raise_signal(number)
        assert came == list(numbers)
        undisturbed(act, None)
        assert [signal.getsignal(number) for number in numbers] == [handler] * len(numbers)

    try:
        interrupt_each(lambda: undisturbed(act, None), check, within=DEFERRAL.__module__)
    finally:
        for number, one in (before | others).items():
            signal.signal(number, one)


def test_within_it_nothing_is_put_off_again(handlers: Handlers) -> None:
    """What is done further down the stack is a part of it."""
    during: list[list[int]] = []

    def act(_: None) -> bool:
        undisturbed(act_with(signal.SIGINT), None)
        during.append(handlers.came.copy())
        return True

    DEFERRAL.run(act, None)
    assert (during, handlers.came) == ([[]], [signal.SIGINT])


def test_other_threads_put_nothing_off(handlers: Handlers) -> None:
    """No handler is ever called there."""
    ran: list[bool] = []

    def act(_: None) -> bool:
        ran.append(DEFERRAL.on)
        return True

    thread = threading.Thread(target=undisturbed, args=(act, None))
    thread.start()
    thread.join(WAIT_S)
    assert ran == [False]


def test_what_raises_is_raised_with_all_handlers_in_place(handlers: Handlers) -> None:
    """The act's own error, too."""

    def act(_: None) -> bool:
        raise ValueError("its own")

    with contextlib.suppress(ZeroDivisionError), pytest.raises(ValueError, match="its own"):
        DEFERRAL.run(act, None)
    assert not DEFERRAL.on
    assert signal.getsignal(signal.SIGINT) is handlers
