"""Weathers: how likely each move and each fault is in a round. Pure."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum

from chaos.moves import Move


class Fault(StrEnum):
    """What the driver does besides sending."""

    TICK = "a little time passes"
    JUMP = "clock jump"
    WALL = "wall clock set, forwards or back"
    KILL = "member actor killed"
    ADD = "member added"
    REMOVE = "member removed"
    FORCE_OPEN = "breaker forced open"
    DISABLE = "breaker disabled"
    RESET = "member reset"
    RESET_ALL = "all members reset"
    FACTORY = "factories changed (work, fail, return None, exit)"
    PROBE = "probes changed (work, raise, return False, hang)"
    SUBSCRIBE = "subscriber that raises"
    LEAVE = "subscriber left"
    STATS = "statistics asked for"
    LET_GO = "hanging calls let go"
    NO_THREADS = "threads refused from here on"
    NO_DESCRIPTORS = "descriptors refused from here on"
    MENDED = "threads and descriptors there again"
    PAUSE = "the process stands still"


@dataclass(frozen=True)
class Weather:
    """What a round is like.

    Attributes:
        moves: the moves, and how likely each is.
        faults: how likely each fault is after a request.
        deadlines: the share of requests with a deadline.
        clear: no call is ever cut off by anything but its own request's end: nothing hangs, jumps,
            dies, or is reset. Then the model can say of every call what must come of it.
    """

    name: str
    moves: dict[Move, float]
    faults: dict[Fault, float]
    deadlines: float = 0.1
    clear: bool = False


_ANSWERS = {
    Move.OK: 50.0,
    Move.SLOW: 10.0,
    Move.GARBAGE: 4.0,
    Move.UNTOUCHABLE: 2.0,
    Move.HUGE: 1.0,
    Move.AWAITABLE: 3.0,
}
_FAILURES = {
    Move.ERROR: 5.0,
    Move.HOSTILE_ERROR: 2.0,
    Move.UNTOUCHABLE_ERROR: 2.0,
    Move.TIMEOUT: 1.0,
    Move.UNAVAILABLE: 4.0,
    Move.RATE_LIMIT: 3.0,
    Move.AUTH: 0.2,
    Move.QUOTA: 0.2,
    Move.TOO_LARGE: 1.0,
    Move.CALLER: 3.0,
    Move.SIDE_EFFECTS: 1.0,
    Move.EXIT: 1.0,
    Move.INTERRUPT: 1.0,
    Move.GENERATOR_EXIT: 1.0,
    Move.CANCELLED: 1.0,
}
STREAM_MOVES = {Move.EMPTY: 4.0, Move.CLOSE_RAISES: 6.0, Move.CLOSE_IGNORED: 4.0}
"""What comes on top where an answer is wanted chunk by chunk."""
_HANGS = {Move.HANG: 3.0, Move.STUBBORN: 0.5}

_QUIET_FAULTS = {
    Fault.WALL: 0.005,
    Fault.SUBSCRIBE: 0.005,
    Fault.LEAVE: 0.008,
    Fault.STATS: 0.02,
    Fault.FACTORY: 0.01,
}
_FAULTS = _QUIET_FAULTS | {
    Fault.JUMP: 0.006,
    Fault.KILL: 0.008,
    Fault.ADD: 0.012,
    Fault.REMOVE: 0.01,
    Fault.FORCE_OPEN: 0.004,
    Fault.DISABLE: 0.002,
    Fault.RESET: 0.01,
    Fault.RESET_ALL: 0.001,
    Fault.PROBE: 0.01,
    Fault.LET_GO: 0.03,
    Fault.NO_THREADS: 0.006,
    Fault.NO_DESCRIPTORS: 0.006,
    Fault.MENDED: 0.03,
    Fault.PAUSE: 0.004,
}


def _times(factor: float, weights: dict[Move, float]) -> dict[Move, float]:
    return {move: factor * weight for move, weight in weights.items()}


CLEAR = Weather("clear", _ANSWERS | _FAILURES, _QUIET_FAULTS, clear=True)
STORM = Weather("storm", _ANSWERS | _FAILURES | _HANGS, _FAULTS, deadlines=0.2)
OUTAGE = Weather("outage", _ANSWERS | _times(8, _FAILURES) | _HANGS, _FAULTS)
STANDSTILL = Weather(
    "standstill", _ANSWERS | _FAILURES | _times(8, _HANGS), _FAULTS | {Fault.JUMP: 0.02}
)
CHURN = Weather(
    "churn",
    _ANSWERS | _FAILURES | _HANGS,
    _FAULTS | {Fault.KILL: 0.05, Fault.ADD: 0.06, Fault.REMOVE: 0.06, Fault.RESET: 0.05},
)
WEATHERS = (CLEAR, STORM, STORM, OUTAGE, STANDSTILL, CHURN)


def weather_of(rng: random.Random) -> Weather:
    """Any weather, storms more often than others."""
    return rng.choice(WEATHERS)
