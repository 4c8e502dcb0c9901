"""The members that are free, kept in order as they come and go. Pure."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Collection, Iterable, Sequence
from itertools import compress
from operator import attrgetter
from typing import TypeVar

from greenroom.actors.strategies.order import INDEX
from greenroom.actors.strategies.protocol import Candidate, Candidates

C = TypeVar("C", bound=Candidate)

_PRIORITY = attrgetter("priority")


class FreeMembers(list[C]):
    """A list by index of those that are free, and what else a strategy would look at all for.

    One that comes or goes costs O(log n) and a shift of what stands behind it. Strategies of this
    package read it in place, others get a copy.
    """

    __slots__ = ("_groups", "everybody")

    def __init__(self, members: Iterable[C], everybody: tuple[C, ...]) -> None:
        super().__init__(members)
        self.everybody = everybody
        """The free and the others by index: another tuple whenever a name, an index or a weight
        among them has changed, the same one until then.
        """
        self._groups: dict[int, list[C]] | None = None

    def add(self, member: C) -> None:
        """It has become free."""
        insort(self, member, key=INDEX)
        if self._groups is not None:
            insort(self._groups.setdefault(member.priority, []), member, key=INDEX)

    def drop(self, member: C) -> None:
        """It is free no more."""
        _delete(self, member)
        if self._groups is not None:
            group = self._groups[member.priority]
            _delete(group, member)
            if not group:
                del self._groups[member.priority]

    def priorities_changed(self) -> None:
        """Some may be of another group now."""
        self._groups = None

    def without(self, members: Collection[C]) -> FreeMembers[C]:
        """The free ones but these, all of which are free. It does not follow what comes and goes.

        Copying is cheap (two microseconds per thousand), asking each one is not.
        """
        others = FreeMembers(self, self.everybody)
        for member in members:
            others.drop(member)
        return others

    def foremost(self) -> Sequence[C]:
        """Those of the lowest priority number; there has to be somebody. Kept from the first time
        it is asked for: grouping a thousand takes longer than a pick.
        """
        if self._groups is None:
            self._groups = {}
            for member in self:
                self._groups.setdefault(member.priority, []).append(member)
        return self._groups[min(self._groups)]


def foremost(candidates: Candidates) -> Candidates:
    """Those of the lowest priority number, by index."""
    if isinstance(candidates, FreeMembers):
        return candidates.foremost()
    priorities = list(map(_PRIORITY, candidates))
    return list(compress(candidates, map(min(priorities).__eq__, priorities)))


def _delete(members: list[C], member: C) -> None:
    del members[bisect_left(members, member.index, key=INDEX)]
