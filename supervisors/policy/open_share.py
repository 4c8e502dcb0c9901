"""How many members may be out at a time, and who is let in where it would be more. Pure.

When everybody fails at once the reason is mostly here: a network, a gateway, a name server. A pool
that shuts every member out then answers nobody until the first breaker tries again, long after the
reason has passed. So the last one stays: the least bad of those that are out is tried, one request
at a time.

Source: Envoy's `max_ejection_percent`, which ejects no more; here they are out all the same, but
for one request at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple


class Standing(NamedTuple):
    """How a member stands.

    Attributes:
        out: whether it takes no requests, and nothing that passes in a moment is why.
        may_stay: whether it is out by its breaker, for what may pass by itself, and may be tried.
        openings: openings of its breaker in a row.
        answered_at: when it last answered; None if it never has.
        place: its place in the configured order.
    """

    out: bool
    may_stay: bool = False
    openings: int = 0
    answered_at: float | None = None
    place: int = 0


def most_out(members: int, share: float | None) -> int:
    """How many of so many members may be out at a time.

    Args:
        share: of all, from 0 to 1; None: all but one, and the only one of a pool, whose breaker is
            there to keep its callers from waiting.
    """
    if share is None:
        return members - 1 if members > 1 else members
    # 2 of 3 is 0.666..., which need not come out as 2.
    return math.floor(share * members + 1e-9)


def let_in(standings: Iterable[Standing], share: float | None) -> list[Standing]:
    """Who of those that are out is to be tried, so that no more are out than may be: those first
    that have opened the fewest times in a row, of them those first that have answered last.
    """
    members = list(standings)
    out = [each for each in members if each.out]
    too_many = len(out) - most_out(len(members), share)
    if too_many <= 0:
        return []
    return sorted((each for each in out if each.may_stay), key=_badness)[:too_many]


def _badness(standing: Standing) -> tuple[int, float, int]:
    at = standing.answered_at
    return standing.openings, math.inf if at is None else -at, standing.place
