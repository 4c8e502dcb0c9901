"""Whose fault the failures of a request are, as far as the request can tell. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from greenroom.messages.status import FailureKind


class Missing(NamedTuple):
    """A member had not what it was asked for: it rests if another one had it."""

    member: str
    began: float
    retry_after_s: float | None


@dataclass(slots=True, eq=False)
class Blame:
    """How a request has failed so far.

    Attributes:
        members: how often each has failed it in a way that counts for its breaker.
        missing: members that said that there is no such thing.
    """

    members: dict[str, int] = field(default_factory=dict)
    missing: list[Missing] = field(default_factory=list)
    _kinds: set[FailureKind] = field(default_factory=set)
    _at_once: bool = False

    def add(self, member: str, kind: FailureKind, opens_at_once: bool) -> None:
        """A member has failed it in a way that counts for its breaker."""
        self.members[member] = self.members.get(member, 0) + 1
        self._kinds.add(kind)
        self._at_once = self._at_once or opens_at_once

    @property
    def counts(self) -> bool:
        """Whether any failure counts for a breaker."""
        return bool(self.members)

    @property
    def kind(self) -> FailureKind | None:
        """How it failed, if that was in one way, of a kind that can be the request's fault. What
        does not count for a breaker is set aside.
        """
        return None if self._at_once or len(self._kinds) != 1 else next(iter(self._kinds))

    @property
    def alike(self) -> bool:
        """Whether it failed in that way on every member that it was given to, at least two."""
        return len(self.members) > 1 and self.kind is not None

    def __repr__(self) -> str:
        return f"<Blame {sorted(self._kinds)} on {sorted(self.members)}>"
