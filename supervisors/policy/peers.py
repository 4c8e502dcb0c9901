"""Whether a member fails as its peers do: then it is no ill health of its own. Pure.

A gateway in front of all of them that answers half of the calls with a 503 is the fault of none of
them. To shut out who is no worse than the others would take away what they still answer together.

Source: Envoy's outlier detection by success rate, which holds a host against the mean of all. Here
the best of the others must fail, too, since pools are small: where one is well, whoever is not is
an outlier.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

LEAST_CALLS = 5
"""Calls of a peer below which it says nothing; and of a member in whose time somebody must have
answered.
"""
LATELY_S = 1.0
"""The least of that time: answers take longer than errors as a rule."""
WINDOW_S = 10.0
"""So far back peers are looked at, at least: a member under load has had all of its last calls
within a second, in which another one may have had none.
"""
UNLIKELY = 1e-6
"""What is less likely than this, at the rate at which the peers fail, is the member's own. It is so
little because every failure is looked at: a row of ten comes every minute at a hundred calls a
second of which half fail.
"""


class Sample(NamedTuple):
    """Calls of a member over some time, and how many of them have failed."""

    calls: int
    failed: int


def fails_as_its_peers(
    member: Sample, in_a_row: int, peers: Iterable[Sample], least_rate: float
) -> bool:
    """Whether what a member has done is no surprise, given how its peers do.

    Args:
        in_a_row: how many of its calls have failed since one has not.
        peers: the others, over the same time.
        least_rate: the rate, from 0 to 1, at which the best of them must fail, too.
    """
    heard = [each for each in peers if each.calls >= LEAST_CALLS]
    if not heard:
        return False
    best = min(heard, key=lambda each: each.failed / each.calls)
    # Nobody answers at all: that is an outage, and whoever asks is not to wait for its end.
    if best.failed == best.calls or best.failed / best.calls < least_rate:
        return False
    # Laplace's rule: a few calls are no certainty.
    rate = (sum(each.failed for each in heard) + 1) / (sum(each.calls for each in heard) + 2)
    return rate**in_a_row >= UNLIKELY and _tail(member, rate) >= UNLIKELY


def _tail(member: Sample, rate: float) -> float:
    """How likely it is that at least as many of its calls fail, at that rate."""
    calls = member.calls
    return math.fsum(
        math.comb(calls, failed) * rate**failed * (1.0 - rate) ** (calls - failed)
        for failed in range(member.failed, calls + 1)
    )
