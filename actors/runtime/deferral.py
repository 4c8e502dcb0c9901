"""The signals of the app, put off for a moment: while its main thread does a part of the pool's.

Python runs the handlers of signals in the main thread alone, between any two steps of the code that
runs there. A handler may raise (Ctrl-C), or wait for the very pool whose books that thread holds.
So they are called when the moment is over, in the order in which they came, none of them left out.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable
from importlib import import_module
from threading import get_ident
from types import FrameType
from typing import Any, TypeVar

from greenroom.actors.runtime import forks

A = TypeVar("A")
Handler = Callable[[int, FrameType | None], Any]

_c: Any = import_module("_signal")  # what `signal` is made of
_signal, _getsignal = _c.signal, _c.getsignal
_NUMBERS = tuple(sorted(map(int, _c.valid_signals())))
_BELL = "_sighandler_noop"
"""What asyncio sets for a signal of which a loop is told by its pipe: it does nothing, and its
signal must keep the flags that asyncio has given it."""


class Deferral:
    """Puts the handlers of signals off, in the main thread.

    `signal` itself is used by its C functions: a call of these is one step, that of 0.2 us. To see
    which handlers there are takes 1 us, and is done each time: any code of that thread may set one.

    Attributes:
        thread: the number of the main thread.
        on: whether all of them are put off right now.
    """

    # Used by the main thread alone. What may go wrong is a handler that raises before all are put
    # off, or when some are not any more. So `_keeps` is True from before the first is replaced
    # until the last line before they are set again, within one `try`; and what stands in for a
    # handler while it is False sets that one again by itself, and calls it.

    __slots__ = ("_come", "_found", "_keeps", "_numbers", "_places", "_stand_ins", "on", "thread")

    def __init__(self) -> None:
        self.on = False
        self._keeps = False
        self._found: list[Any] = []  # in the order of all numbers, as they were the last time
        self._places: tuple[int, ...] = ()  # where in it the handlers are that are put off
        self._numbers: tuple[int, ...] = ()
        self._stand_ins: tuple[Handler, ...] = (self._stand_in,)
        self._come: deque[int] = deque()
        self.thread: int | None = None
        self.look_who_runs()

    def look_who_runs(self) -> None:
        """Run at the beginning, and in a child of a fork: its one thread is the main one."""
        before, self.thread = self.thread, threading.main_thread().ident
        if self._keeps and before != self.thread:
            # Another thread has forked in the middle of it, and that goes on in the parent alone.
            self.on = self._keeps = False
            self._come.clear()
            self._learn(list(map(_getsignal, _NUMBERS)))

    def run(self, act: Callable[[A], bool], argument: A) -> bool:
        """In the main thread: `act(argument)`, with all handlers put off; False without it where
        that cannot be.

        Raises:
            BaseException: what a handler has raised, before `act` begins or when it has ended.
        """
        if self._keeps:  # further down this stack, or in a handler that has come before the others
            return self.on and act(argument)
        found = list(map(_getsignal, _NUMBERS))
        if found != self._found:
            self._learn(found)
        self._found = found
        numbers, places, stand_ins = self._numbers, self._places, self._stand_ins
        # A handler that comes until they are put off may set others: then what was found is not
        # what is replaced.
        one = len(numbers) == 1  # as nearly always: SIGINT. It is quicker by half
        before: Any = found[places[0]] if one else None
        replaced: list[Any] = []
        try:
            self._keeps = True
            if one:
                before = _signal(numbers[0], stand_ins[0])
            else:
                # One call of C code: no handler is called within it but by the looks that `signal`
                # takes, before it sets one, at what has come until then.
                replaced.extend(map(_signal, numbers, stand_ins))
            self.on = True
            return act(argument)
        except ValueError as error:
            trace = error.__traceback__
            if self.on or trace is None or trace.tb_next is not None:  # the act's, or a handler's
                raise
            # An interpreter within the process: no handler is ever called there.
            self.thread, numbers = None, ()
            return False
        finally:
            self.on = False
            # While all that come are kept still: nothing breaks in before all are set again, but a
            # handler that has just been set.
            try:
                if not numbers:
                    pass
                elif one:
                    now = _signal(numbers[0], before)
                    if now is not stand_ins[0]:
                        _signal(numbers[0], now)
                else:
                    self._set_again(numbers[: len(replaced)], replaced)
            finally:
                self._keeps = False
                if self._come:
                    self._catch_up(sys._getframe(1))

    def _set_again(self, numbers: tuple[int, ...], before: list[Any]) -> None:
        """Set what was there before, but where somebody has set another one meanwhile."""
        try:
            now = list(map(_signal, numbers, before))
        except BaseException:  # of one that has just been set
            self._set_again(numbers, before)
            raise
        stand_in = self._stand_ins[0]
        for number, handler in zip(numbers, now, strict=True):
            if handler is not stand_in:
                _signal(number, handler)

    def _learn(self, found: list[Any]) -> None:
        """See which signals have handlers in Python."""
        numbers, places, stand_in = [], [], self._stand_ins[0]
        for place, number in enumerate(_NUMBERS):
            if found[place] is stand_in:  # it has not been replaced again
                found[place] = self._found[place]
                _signal(number, found[place])
            handler = found[place]
            if callable(handler) and getattr(handler, "__name__", "") != _BELL:
                numbers.append(number)
                places.append(place)
        self._numbers, self._places = tuple(numbers), tuple(places)
        self._stand_ins = (stand_in,) * max(1, len(numbers))

    def _stand_in(self, number: int, frame: FrameType | None) -> None:
        """What is called in place of each of them."""
        if self._keeps:
            self._come.append(number)
            return
        handler = self._found[_NUMBERS.index(number)]
        _signal(number, handler)
        handler(number, frame)

    def _catch_up(self, frame: FrameType) -> None:
        """Call those whose signals have come meanwhile, be it that one of them raises."""
        number = self._come.popleft()
        try:
            handler = _getsignal(number)
            if callable(handler):
                handler(number, frame)
            else:  # the handler of another one has let go of it
                _c.raise_signal(number)
        finally:
            if self._come:
                self._catch_up(frame)


DEFERRAL = Deferral()
"""The one of the process."""


def is_on_here() -> bool:
    """Whether the running code has all signals put off."""
    return DEFERRAL.on and get_ident() == DEFERRAL.thread


def undisturbed(act: Callable[[A], bool], argument: A) -> None:
    """`act(argument)`, which returns True; where signals could break in, with these put off."""
    if DEFERRAL.on or get_ident() != DEFERRAL.thread or not DEFERRAL.run(act, argument):
        act(argument)


forks.in_child(DEFERRAL.look_who_runs)
