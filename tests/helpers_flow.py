"""A world for a `RequestFlow` that is nothing but lists: no actor, no thread, no clock."""

from __future__ import annotations

from typing import Any

from greenroom.actors.alarms import Alarms
from greenroom.actors.ports import Ports


class Box:
    """A mailbox as far as timers need one."""

    alarm: float | None = None


class Silence:
    """Nobody listens, and nothing is to be complained of."""

    def listening(self, level: str = "DEBUG") -> bool:
        return False

    def emit(self, event: Any) -> None:
        """Let it go by."""

    def complain_of(self, what: str, error: BaseException) -> None:
        raise AssertionError(what) from error

    def hint(self, what: str) -> None:
        """Let it go by."""


def ports(alarms: Alarms | None = None, **given: Any) -> Ports:
    """Ports that lead nowhere, but for those that are given."""
    calls: dict[str, Any] = {
        "now": lambda: 0.0,
        "wall": lambda: 0.0,
        "at": (Alarms(Box()) if alarms is None else alarms).at,
        "send": lambda *_: True,
        "cancel": lambda *_: None,
        "report": lambda _: None,
        "note": lambda _: None,
        "answer": lambda *_: None,
        "fail": lambda *_: True,
        "events": Silence(),
    }
    return Ports(**{**calls, **given})
