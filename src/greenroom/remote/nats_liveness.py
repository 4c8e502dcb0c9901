"""Who is silent: the other end of a call, or the broker between. Pure.

The broker is judged first. While it is silent nobody can be heard, so nobody else's silence counts:
it is counted from when the broker has answered again, and answers still. What is true of the broker
is true of one's own process as well, if that stood still: it has heard nobody.
"""

from __future__ import annotations

SILENT_S = 2.0
"""Seconds after which who says nothing is gone."""
GAP_S = 0.6
"""Seconds between two answers of the broker after which it was silent in between."""
ASK_BROKER_S = 0.2
"""How often it is asked while anybody's silence counts."""
PING_S = 0.1
"""How often a worker is asked while calls are there."""
SUSPICION_S = 0.03
"""For how long nobody may listen at a worker's subject before it is gone: it may be about to be
connected again.
"""
KNOWN_S = 1.0
"""For how long a worker that has answered is called without asking first."""
LATE_S = 2.0
"""A call that has been on its way for longer is not begun: its caller has given it up."""
RETURN_S = 4.0
"""For how long a worker may take to be connected again after its broker has come back: until then
it is not missed. It tries once a second, and connecting may take two.
"""
PATIENCE_S = 10.0
"""For how long a worker goes on with calls while the broker is away."""


class Hearing:
    """When the broker was heard."""

    def __init__(self, now: float) -> None:
        self.since = self.last = now

    def __repr__(self) -> str:
        return f"<heard from {self.since:.3f} to {self.last:.3f}>"

    def heard(self, now: float) -> None:
        """It has answered."""
        if now - self.last > GAP_S:
            self.since = now
        self.last = now

    def is_gone(self, heard_at: float, now: float) -> bool:
        """Whether somebody behind it is, who was last heard then."""
        if now - self.last > GAP_S:
            return False
        return now - max(heard_at, self.since) >= SILENT_S


def backoff_s(failures: int, draw: float) -> float:
    """How long to wait before the next attempt to connect: none at first, then from 0.1 s to a
    second, less up to a fifth of it.

    Args:
        failures: in a row.
        draw: from 0 to 1.
    """
    if not failures:
        return 0.0
    longest: float = min(1.0, 0.1 * 2.0 ** min(failures - 1, 10))
    return longest * (1.0 - 0.2 * draw)
