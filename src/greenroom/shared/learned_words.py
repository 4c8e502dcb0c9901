"""What processes have learned of the limits of their members, and tell each other: what headers of
providers say is left, and the paces that 429s have taught. Pure: what lies in the store in, what
the pool is to hear out.

What a header says is the account's, whoever has been told; so the last word holds for all, and each
has its part of what is left, until it is told something newer itself. A pace is that of one process
beside the others: together theirs are the account's. Who has none yet takes an equal part of their
sum, and they leave it that.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from greenroom.messages.limits import MOST
from greenroom.messages.shared_limits import LimitHeard, LimitTold
from greenroom.shared.state_store import LONGEST_TTL_S, Lying

USES_S = 10.0
"""Who has been told something of a limit so lately uses it."""
PACE_S = 60.0
"""For so long a pace is told: that long it is kept without need."""
MOST_WORDS = 2_000
_START = "learned/"
_LEFT, _PACE = "left", "pace"
_LONGEST_NAME = 300
_FASTEST_PER_S = 1e6

Place = tuple[str, str]
"""The member and the cost."""


class Said(NamedTuple):
    """A word as it is put into a store."""

    key: str
    text: str
    ttl_s: float


class _Left(NamedTuple):
    number: int
    age_s: float
    remaining: int
    whole: int | None
    resets_in_s: float


@dataclass(slots=True)
class _Known:
    lefts: dict[str, _Left] = field(default_factory=dict)
    paces: dict[str, float] = field(default_factory=dict)


class _Heard(NamedTuple):
    """What the pool has been told last: whose word it was, how many use it, who has a pace."""

    last: tuple[str, int] | None = None
    using: int = 1
    paces: frozenset[str] = frozenset()


_NOTHING = _Heard()


@dataclass(slots=True, eq=False)
class LearnedWords:
    """One process.

    Args:
        by: what it is called, unique among all.
    """

    by: str
    _number: int = 0
    _heard: dict[Place, _Heard] = field(default_factory=dict)

    def told(self, told: LimitTold) -> Said:
        """This process has learned something."""
        self._number += 1
        kind = _LEFT if told.pace_per_s is None else _PACE
        key = _START + json.dumps([kind, told.member, told.cost, self.by])
        if told.pace_per_s is not None:
            return Said(key, json.dumps([1, self._number, PACE_S, told.pace_per_s]), PACE_S)
        ttl_s = min(max(USES_S, told.resets_in_s), LONGEST_TTL_S)
        said = [1, self._number, ttl_s, told.remaining, told.whole, told.resets_in_s]
        return Said(key, json.dumps(said), ttl_s)

    def looked(self, lying: Mapping[str, Lying]) -> list[LimitHeard]:
        """All that lies in the store: what is new in it."""
        heard = []
        known = self._known(lying)
        for place in {*known, *self._heard}:
            each = known.get(place, _Known())
            last = min(each.lefts.items(), key=lambda item: item[1].age_s, default=None)
            using = 1 + sum(left.age_s <= USES_S for left in each.lefts.values())
            paces = frozenset(each.paces)
            before = self._heard.pop(place, _NOTHING)
            found = _Heard(None if last is None else (last[0], last[1].number), using, paces)
            if found != _NOTHING:
                self._heard[place] = found
            if found == before:
                continue
            left = None if last is None else last[1]
            heard.append(
                LimitHeard(
                    member=place[0],
                    cost=place[1],
                    remaining=None if left is None else left.remaining,
                    whole=None if left is None else left.whole,
                    resets_in_s=0.0 if left is None else max(0.0, left.resets_in_s - left.age_s),
                    age_s=0.0 if left is None else left.age_s,
                    processes=using,
                    pace_per_s=math.fsum(each.paces.values()),
                    paces=len(paces),
                    joined=len(paces - before.paces),
                )
            )
        return heard

    def _known(self, lying: Mapping[str, Lying]) -> dict[Place, _Known]:
        known: dict[Place, _Known] = {}
        for number, (key, (text, left_s)) in enumerate(lying.items()):
            if number >= MOST_WORDS:
                break
            try:
                if not key.startswith(_START):
                    continue
                kind, member, cost, by = json.loads(key.removeprefix(_START))
                if by == self.by or not all(_is_name(x) for x in (member, cost, by)):
                    continue
                self._note(known.setdefault((member, cost), _Known()), kind, by, text, left_s)
            except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
                continue  # of somebody else, or of another version
        return known

    def _note(self, known: _Known, kind: Any, by: str, text: str, left_s: float) -> None:
        version, number, ttl_s, *values = json.loads(text)
        if version != 1 or type(number) is not int:
            return
        if kind == _PACE:
            (per_s,) = values
            if 0.0 < _number(per_s) <= _FASTEST_PER_S:
                known.paces[by] = float(per_s)
        elif kind == _LEFT:
            remaining, whole, resets_in_s = values
            age_s = max(0.0, _number(ttl_s) - left_s)
            resets_in_s = min(max(0.0, _number(resets_in_s)), LONGEST_TTL_S)
            whole = None if whole is None else _amount(whole)
            known.lefts[by] = _Left(number, age_s, _amount(remaining), whole, resets_in_s)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _LONGEST_NAME and value.isprintable()


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise TypeError("not a number")
    return float(value)


def _amount(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= MOST:
        raise TypeError("not an amount")
    return int(value)
