"""Failover: one member does the work until a run of it fails."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import ClassVar

from greenroom.actors.strategies.base import BuiltIn, Candidate, PickContext
from greenroom.actors.strategies.order import at


class Failover(BuiltIn):
    """Ordered and sticky: the current member, or the next in the ring that can take the request.

    Only a failed run of the current member moves it on. One that is merely busy is waited for, so
    that nothing is created without need; one that was tried already is passed over this time.

    Where it was told of the members it looks at the current one only, as long as that is free or
    busy.
    """

    name: ClassVar[str] = "failover"
    exhaustive: ClassVar[bool] = True

    def __init__(self) -> None:
        self._ring: list[str] = []
        self._current: str | None = None
        self._index: int | None = None
        self._told = False

    @property
    def current(self) -> str | None:
        """The name of the member that is tried first; None before there is any."""
        return self._current

    def pick(
        self, candidates: Sequence[Candidate], context: PickContext, rng: random.Random
    ) -> Candidate | None:
        if self._told and self._index is not None:
            likely = at(candidates, self._index)
            if likely is not None and likely.name == self._current:
                return likely
        if self._told and self._current in context.busy:
            return None
        return self._next(candidates, context)

    def record(self, name: str, succeeded: bool) -> None:
        """Move on if it was the current member whose run failed."""
        if succeeded or name != self._current:
            return
        self._current = self._from_current()[1 % len(self._ring)]

    def members_changed(self, names: Sequence[str]) -> None:
        """Keep the current member if it is still there; else go on with the next one that is."""
        before = self._from_current()
        self._ring = list(names)
        self._told = True
        present = frozenset(names)
        first = self._ring[0] if self._ring else None
        self._current = next((name for name in before if name in present), first)

    def __repr__(self) -> str:
        return f"<strategy {self.name}: {self._current}>"

    def _next(self, candidates: Sequence[Candidate], context: PickContext) -> Candidate | None:
        """By a look at all: the first from the current one on that is free or busy."""
        present = {each.name: each for each in candidates}
        self._add(present)
        could = (name for name in self._from_current() if name in present or name in context.busy)
        chosen = present.get(next(could))
        if chosen is not None and chosen.name == self._current:
            self._index = chosen.index
        return chosen

    def _add(self, names: dict[str, Candidate]) -> None:
        """Learn the ring from the candidates where nobody has told it."""
        if not names.keys() <= set(self._ring):
            self._ring += [name for name in names if name not in self._ring]
            self._current = self._current or self._ring[0]

    def _from_current(self) -> list[str]:
        if self._current is None:
            return self._ring
        start = self._ring.index(self._current)
        return self._ring[start:] + self._ring[:start]
