"""What a pause of the process is, and the time that is left when pauses are taken out. Pure.

A process stands still when it is stopped by a signal or a debugger, when the machine sleeps (where
its clock goes on then), or when something holds the interpreter's lock. Nothing of it runs, so no
answer can come: none of the limits that people have set is about such time.

Somebody looks at the clock every `LOOK_S` as long as anything is timed. A look that is late by more
than its own length, though nobody else has looked meanwhile, tells of a pause: as long as it was
late. What is left runs evenly, and by `LOOK_S` at least from look to look, whatever the machine
does. So a limit is put off by a pause, and by no more than that; nothing hangs for ever because
pauses come again and again; and a machine that is merely slow, with a look that is late by less, or
with anybody else who has looked at the clock, is taken at its word.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

LOOK_S = 0.25
"""How long after a look the next one is due. What was running when the process stood still may lose
up to that of its time."""

EXCUSED_S = 1.0
"""How long after a pause what began before it may fail by it: by a time limit of an agent's own, or
a connection that the other side has given up."""


@dataclass(frozen=True, slots=True)
class Looked:
    """How things stand since the last look.

    Attributes:
        due: when the next look is to come by, on the machine's clock; infinite while nobody looks.
        lost_s: how long all pauses together have taken.
        paused_at: when the last one ended, on the clock that leaves them out; before any,
            infinitely long ago.
    """

    due: float = math.inf
    lost_s: float = 0.0
    paused_at: float = -math.inf


def pause_s(alive_at: float, due: float, came: float) -> float:
    """How long the process stood still, if it did; else 0.

    Args:
        alive_at: when it is known to have run last.
        due: when somebody was to come back after that.
        came: when anybody came.
    """
    late_s = came - due
    return late_s if late_s > due - alive_at else 0.0


def excuses(paused_at: float, began: float, ended: float) -> bool:
    """Whether what ran out of its own time, or lost its connection, did so by a pause.

    Args:
        paused_at, began, ended: all on the clock that leaves pauses out.
    """
    return began < paused_at and ended - paused_at <= EXCUSED_S


def look(before: Looked, now: float, goes_on: bool = True) -> Looked:
    """Somebody looks at the machine's clock.

    Args:
        goes_on: whether there is to be another look.
    """
    due = now + LOOK_S if goes_on else math.inf
    lasted_s = pause_s(before.due - LOOK_S, before.due, now)
    if not lasted_s:
        return Looked(due, before.lost_s, before.paused_at)
    lost_s = before.lost_s + lasted_s
    return Looked(due, lost_s, now - lost_s)
