"""What the tests of raising signal handlers share: an error at every place of a hand-over in turn.

CPython looks for signals in the main thread alone: at the entry of a function (and where a
generator goes on), behind a call, and where a loop jumps back (`RESUME`, `CALL` and the
`JUMP_BACKWARD`s of 3.11 to 3.13; a storm of signals hits no other place). `SIGNALS` raises just
there. `LINES` raises before each line, which is stricter here and there.
"""

from __future__ import annotations

import contextlib
import dis
import functools
import sys
from collections.abc import Callable, Iterator
from types import CodeType, FrameType
from typing import Any

import pytest

from greenroom.actors.runtime.deferral import DEFERRAL

SIGNALS, LINES = "signals", "lines"
OPCODES = sys.version_info[:2] != (3, 12)
"""Whether loops are watched: 3.12.1 crashes where another thread goes on with a generator then."""
MOST = 2_500
"""Places that no hand-over has."""


class Limit(Exception):
    """Raised by a signal handler, as Celery's SoftTimeLimitExceeded is."""


class Interrupt:
    """Raises `error` in this thread, at one place of greenroom's own code.

    Args:
        at: which of the places, counted from 1 in the order in which they are come by.
        how: `SIGNALS` or `LINES`.
        within: how the names of the modules begin whose places count.

    Attributes:
        hit: where it was raised; None when there were not so many places.
        seen: the functions that have been come by.
    """

    def __init__(
        self,
        at: int,
        how: str = SIGNALS,
        error: type[BaseException] = Limit,
        within: str = "greenroom.",
    ) -> None:
        self.hit: str | None = None
        self.seen: set[str] = set()
        self._left = at
        self._how = how
        self._error = error
        self._within = within
        self._jumped: tuple[FrameType, int] | None = None  # where a loop may be about to go round

    def __enter__(self) -> Interrupt:
        self._before = sys.gettrace(), sys.getprofile()
        if self._how == SIGNALS:
            sys.setprofile(self._on_profile)
        sys.settrace(self._on_call)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before[0])
        sys.setprofile(self._before[1])

    def _on_profile(self, frame: FrameType, event: str, argument: Any) -> None:
        if event in ("call", "c_return") and self._is_ours(frame) and self._left:
            name = getattr(argument, "__name__", "")
            if event == "c_return" and name in ("settrace", "setprofile"):
                return
            self._come_by(frame, f"behind {name}" if event == "c_return" else "entry")

    def _on_call(self, frame: FrameType, event: str, argument: Any) -> Any:
        if not self._is_ours(frame) or not self._left:
            return None
        if self._how == SIGNALS:
            frame.f_trace_lines, frame.f_trace_opcodes = False, OPCODES
            return self._on_opcode
        self._come_by(frame, "entry")
        if frame.f_globals.get("__name__") == DEFERRAL.__module__:
            return None  # it counts on no signal being looked for between two lines without a call
        return self._on_line

    def _on_opcode(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "opcode" and self._left:
            before, self._jumped = self._jumped, None
            if before is not None and before[0] is frame and frame.f_lasti < before[1]:
                self._come_by(frame, "a loop")
            if frame.f_lasti in _jumps(frame.f_code):
                self._jumped = frame, frame.f_lasti
        return self._on_opcode

    def _on_line(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line" and self._left and not _leaves_a_with(frame):
            self._come_by(frame, "line")
        return self._on_line

    def _is_ours(self, frame: FrameType) -> bool:
        if DEFERRAL.on:  # no handler is called before all of it is over: see `test_deferral`
            return False
        name = str(frame.f_globals.get("__name__", ""))
        return name.startswith(self._within) and name not in _HELPERS

    def _come_by(self, frame: FrameType, what: str) -> None:
        code = frame.f_code
        if what != "entry" and _only_makes(frame):
            return  # for its caller that is the same
        self.seen.add(code.co_qualname)
        if code.co_name == "__del__" and what == "entry":
            return  # see `test_who_drops_a_stream...`: what a finalizer raises is lost anyway
        self._left -= 1
        if not self._left:
            self.hit = f"{code.co_qualname}, line {frame.f_lineno}, {what}"
            raise self._error(self.hit)


def _only_makes(frame: FrameType) -> bool:
    """Whether it makes a message, or looks at one: there is nothing that it could leave behind."""
    return str(frame.f_globals.get("__name__", "")).startswith("greenroom.messages")


_HELPERS = {
    "greenroom.testing.fake_clock",
    "greenroom.testing.scripted_agent",
    "greenroom.testing.event_recorder",
    "greenroom.testing.waits",
}


@functools.cache
def _jumps(code: CodeType) -> frozenset[int]:
    """The offsets of the jumps back."""
    found = (each for each in dis.get_instructions(code) if "JUMP_BACKWARD" in each.opname)
    return frozenset(each.offset for each in found)


def _leaves_a_with(frame: FrameType) -> bool:
    """Whether the line is that of a `with` that has been gone through: an event of its own, behind
    which `__exit__` is called. No signal is looked for between the two.
    """
    return frame.f_lasti in _exits(frame.f_code)


@functools.cache
def _exits(code: CodeType) -> frozenset[int]:
    """The offsets behind each `with` that belong to its line, with nobody who would catch."""
    lines = {
        each.positions.lineno
        for each in dis.get_instructions(code)
        if each.opname in ("BEFORE_WITH", "BEFORE_ASYNC_WITH") and each.positions is not None
    }
    entered: set[int | None] = set()
    found = set()
    for each in dis.get_instructions(code):
        line = None if each.positions is None else each.positions.lineno
        if line in entered:
            found.add(each.offset)
        elif line in lines and each.opname in ("BEFORE_WITH", "BEFORE_ASYNC_WITH"):
            entered.add(line)
    return frozenset(found)


def interrupt_each(
    hand_over: Callable[[], object],
    check: Callable[[], object],
    how: str = SIGNALS,
    error: type[BaseException] = Limit,
    within: str = "greenroom.",
) -> set[str]:
    """Do it again and again, interrupted at its first place, its second one and so on, until it
    passes whole; after each time `check`, which asserts. Returns the functions it has come by.

    The interrupted call raises the error, or what the loop has made of it, or nothing.
    """
    for at in range(1, MOST):
        interrupt = Interrupt(at, how, error, within)
        with _finalizers_may_raise(error):
            try:
                with interrupt:
                    hand_over()
            except error:
                pass
        try:
            check()
        except BaseException as broken:
            broken.add_note(f"after an error at place {at}: {interrupt.hit}")
            raise
        if interrupt.hit is None:
            return interrupt.seen
    pytest.fail(f"more than {MOST} places")


@contextlib.contextmanager
def _finalizers_may_raise(error: type[BaseException]) -> Iterator[None]:
    before = sys.unraisablehook

    def hook(found: Any) -> None:
        if not issubclass(found.exc_type, error):
            before(found)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before
