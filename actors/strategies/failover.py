"""Failover: one member does the work until a run of it fails."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random

from greenroom.actors.strategies.order import at
from greenroom.actors.strategies.protocol import BuiltIn, Candidate, Candidates, PickContext
from greenroom.messages import _validate as check

RETURN_AFTER_S = 60.0
_LONGEST_DOUBLINGS = 4


class Failover(BuiltIn):
    """Ordered and sticky: the current member, or the next in the ring that can take the request.

    Only a failed run of the current member moves it on. One that is merely busy is waited for, so
    that nothing is created without need; one that was tried already is passed over this time.

    The way back: when another member has done the work for `return_after_s`, one request goes to
    the first member of the ring, if that can take it right away. It stays there if that succeeds;
    if it fails, the request goes on with the one that did the work, as does everybody else, and
    the time starts anew, twice as long after each vain return in a row, at most 16 times.

    Where it was told of the members it looks at the current one only, as long as that is free or
    busy.

    Args:
        return_after_s: seconds on another member until the first one is tried again; None: never.

    Raises:
        TypeError, ValueError: `return_after_s` is no number above 0.
    """

    name = "failover"
    exhaustive = True

    def __init__(self, return_after_s: float | None = RETURN_AFTER_S) -> None:
        check.number("return_after_s", return_after_s, above=True, optional=True)
        self.return_after_s = return_after_s
        self._ring: list[str] = []
        self._current: str | None = None
        self._index: int | None = None
        self._told = False
        self._away = False
        """Whether another member than the first one does the work, and there is a way back."""
        self._return_at: float | None = None
        self._returning = False
        self._in_vain = 0

    @property
    def current(self) -> str | None:
        """The name of the member that is tried first; None before there is any."""
        return self._current

    def pick(self, candidates: Candidates, context: PickContext, rng: Random) -> Candidate | None:
        if self._away:
            first = self._returned(candidates, context.now)
            if first is not None:
                return first
        if self._told and self._index is not None:
            likely = at(candidates, self._index)
            if likely is not None and likely.name == self._current:
                return likely
        if self._told and self._current in context.busy:
            return None
        return self._next(candidates, context)

    def record(self, name: str, succeeded: bool) -> None:
        """Move on if it was the current member whose run failed, or back if the first one's did
        not.
        """
        if name != self._current:
            if self._returning and name == self._ring[0]:
                self._has_returned(succeeded)
        elif not succeeded:
            self._go_to(self._from_current()[1 % len(self._ring)])

    def members_changed(self, names: Sequence[str]) -> None:
        """Keep the current member if it is still there; else go on with the next one that is."""
        before = self._from_current()
        first = self._ring[:1]
        self._ring = list(names)
        self._told = True
        present = frozenset(names)
        kept = next((name for name in before if name in present), None)
        if first != self._ring[:1]:
            self._in_vain = 0
        if kept != self._current or first != self._ring[:1]:
            self._go_to(kept if kept is not None else next(iter(names), None))

    def preferred(self, members: Candidates, context: PickContext) -> Iterator[Candidates]:
        """The ring from the current member on."""
        present = {each.name: each for each in members}
        return ([present[name]] for name in self._from_current() if name in present)

    def __repr__(self) -> str:
        return f"<strategy {self.name}: {self._current}>"

    def _next(self, candidates: Candidates, context: PickContext) -> Candidate | None:
        """By a look at all: the first from the current one on that is free or busy."""
        present = {each.name: each for each in candidates}
        self._add(present)
        could = (name for name in self._from_current() if name in present or name in context.busy)
        chosen = present.get(next(could))
        if chosen is not None and chosen.name == self._current:
            self._index = chosen.index
        return chosen

    def _returned(self, candidates: Candidates, now: float) -> Candidate | None:
        """The first member, if it is time to try it again and it can take the request."""
        if self._return_at is None:
            self._return_at = now + self._pause_s()
        if now < self._return_at:
            return None
        first = candidates[0]  # they stand in the order of the ring
        if first.name != self._ring[0]:
            return None
        self._returning = True
        self._return_at = now + self._pause_s()
        return first

    def _pause_s(self) -> float:
        assert self.return_after_s is not None
        return self.return_after_s * 2.0 ** min(self._in_vain, _LONGEST_DOUBLINGS)

    def _has_returned(self, succeeded: bool) -> None:
        if succeeded:
            self._in_vain = 0
            self._go_to(self._ring[0])
        else:
            self._in_vain += 1
            self._returning = False
            self._return_at = None

    def _go_to(self, name: str | None) -> None:
        self._current = name
        self._away = self.return_after_s is not None and self._ring[:1] not in ([], [name])
        self._returning = False
        self._return_at = None

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
