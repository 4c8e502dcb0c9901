"""Weighted turns among many: who is due next. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable

from greenroom.actors.strategies.order import at
from greenroom.actors.strategies.protocol import Candidate, Candidates

_Turn = tuple[float, int, str, float]
"""When it is due in virtual time, of which member (index and name), and how long its last was."""


class Schedule:
    """Earliest due first: whoever has had a turn is due again after 1 / weight of virtual time.

    So each gets a share of the turns in proportion to its weight, evenly spread over time, for
    O(log n) a turn. Who is no candidate when it is due misses that turn. New candidates are looked
    for once a round, that is after as many turns as there are candidates; each is first due after
    half of its 1 / weight, in the middle of what it will wait for the next turns.

    Source: Waldspurger and Weihl, Stride Scheduling (1995).
    """

    def __init__(self) -> None:
        self._turns: list[_Turn] = []
        self._known: dict[str, int] = {}
        self._now = 0.0
        self._left = 0

    def next(self, candidates: Candidates) -> Candidate | None:
        """Whose turn it is; None when none of the candidates weighs anything."""
        if self._left <= 0:
            self._admit(candidates)
        self._left -= 1
        chosen = self._first_due(candidates)
        if chosen is None:  # only newcomers are there
            self._admit(candidates)
            chosen = self._first_due(candidates)
        return chosen

    def members_changed(self, names: Collection[str]) -> None:
        """Forget whoever left."""
        present = frozenset(names)
        self._known = {name: index for name, index in self._known.items() if name in present}

    def _first_due(self, candidates: Candidates) -> Candidate | None:
        missed = []
        chosen = None
        while chosen is None and self._turns:
            chosen = self._present(self._turns[0], candidates)
            if chosen is None:
                missed.append(heapq.heappop(self._turns))
            else:
                self._take_turn(1.0 / chosen.weight)
        self._postpone(missed)
        return chosen

    def _present(self, turn: _Turn, candidates: Candidates) -> Candidate | None:
        _, index, name, _ = turn
        member = at(candidates, index) if self._known.get(name) == index else None
        return member if member is not None and member.weight > 0 else None

    def _take_turn(self, length: float) -> None:
        self._now, index, name, _ = self._turns[0]
        heapq.heapreplace(self._turns, (self._now + length, index, name, length))

    def _postpone(self, missed: Iterable[_Turn]) -> None:
        for due, index, name, length in missed:
            if self._known.get(name) == index:
                heapq.heappush(self._turns, (max(due + length, self._now), index, name, length))

    def _admit(self, candidates: Candidates) -> None:
        """Start a round: take in who is new, let go of who has left.

        Virtual time starts anew as well, since a float counts ever more coarsely.
        """
        self._left = len(candidates)
        self._turns = [
            (due - self._now, index, name, length)
            for due, index, name, length in self._turns
            if self._known.get(name) == index
        ]
        self._now = 0.0
        for each in candidates:
            if each.weight > 0 and self._known.get(each.name) != each.index:
                self._known[each.name] = each.index
                length = 1.0 / each.weight
                self._turns.append((length / 2, each.index, each.name, length))
        heapq.heapify(self._turns)
