"""Rate limits of members: what is declared, what a request costs, what is said of both."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from greenroom.messages import _validate as check

REQUESTS = "requests"
"""The cost that each call has without anybody saying so: one."""

MOST = 10**15
"""The most that a limit may hold, or that something may cost: sums of it stay exact."""

Costs = Mapping[str, float]
"""What a request costs, by the name of the cost: `{"tokens": 1200}`."""

CostFunction = Callable[[Any], Costs | None]
"""Estimates what a payload costs."""


@dataclass(frozen=True, slots=True)
class Limit:
    """So much in any window of so many seconds: `Limit(90_000, per_s=60, cost="tokens")`.

    Args:
        amount: how much of the cost may begin in any `per_s` seconds; a whole number.
        per_s: the length of the window, in seconds.
        cost: the name of what is limited. "requests" are calls, each of which costs one; of any
            other, a request costs what `Request.cost` or `PoolConfig.cost` says.
        per_process: where processes share (`AgentPool.start(shared=...)`), whether each has the
            whole limit for itself; else they have it together. Members of one group have it for
            themselves only where all of them say so.
        group: members whose limits have the same group, cost and window have that one limit
            together, as those that share a key do; where they say different amounts, the smallest
            holds. None: the member has it for itself.

    Raises:
        TypeError, ValueError: a value of the wrong type or out of range, named with its field.
    """

    amount: int
    per_s: float = field(kw_only=True)
    cost: str = field(default=REQUESTS, kw_only=True)
    group: str | None = field(default=None, kw_only=True)
    per_process: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        check.whole("amount", self.amount, minimum=1, maximum=MOST)
        check.number("per_s", self.per_s, above=True)
        check.name("cost", self.cost)
        if self.group is not None:
            check.name("group", self.group)
        check.flag("per_process", self.per_process)

    def __str__(self) -> str:
        return f"{self.amount:,} {self.cost} per {self.per_s:g} s"


def checked_limits(field: str, limits: Any) -> tuple[Limit, ...]:
    """The limits of a member, of which no two may be the same but for their amounts.

    Raises:
        TypeError, ValueError: something else, named with the field.
    """
    if isinstance(limits, str) or not isinstance(limits, Iterable):
        raise check.misfit(f"{field} must be limits, each a Limit", limits)
    chosen = tuple(limits)
    seen = set()
    for each in chosen:
        if not isinstance(each, Limit):
            raise check.misfit(f"{field} must be limits, each a Limit", each)
        place = (each.cost, each.per_s, each.group)
        if place in seen:
            raise ValueError(
                f"{field} must differ in their cost, per_s or group, got two of {each.cost!r} "
                f"per {each.per_s:g} s"
            )
        seen.add(place)
    return chosen


def checked_costs(field: str, costs: Any) -> dict[str, int]:
    """Costs as whole numbers, rounded up: what is kept by whole numbers is exact.

    Raises:
        TypeError, ValueError: something else, named with the field.
    """
    check.mapping(field, costs, secret=True)
    whole = {}
    for name in costs.keys():  # noqa: SIM118 - a duck-typed mapping need not iterate over its keys
        value = costs[name]
        if type(value) is not int or not 0 <= value <= MOST:
            check.number(f"{field}[{name!r}]", value, maximum=MOST)
            value = math.ceil(value)
        whole[name] = value
    return whole


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitStats:
    """One limit of a member at one moment.

    Attributes:
        cost, per_s, group: as of the `Limit`; of what is known by `CallContext.limits` alone
            `per_s` is None.
        limit: how much the window may hold; None where only what is left is known.
        used: how much it holds; None where only what is left is known. Of a limit that processes
            share: how much of it is this process's.
        headroom: how much may still begin now; below 0 where calls took more than was estimated.
            Of a limit that processes share: how much this process holds of it at the moment.
        refills_in_s: seconds until anything may begin again; 0.0 where something may now.
        pace_per_s: calls a second that 429s have taught; None before the first of them, and once
            that is forgotten.
        shared: whether processes have it together, by a store that lends parts of it.
    """

    cost: str
    limit: int | None
    per_s: float | None
    used: int | None
    headroom: int
    refills_in_s: float = 0.0
    group: str | None = None
    pace_per_s: float | None = None
    shared: bool = False
